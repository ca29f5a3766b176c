"""Initial networks: nested in width, paired over scales, balanced as they say."""

import jax
import numpy as np
import pytest

import relu_flow as rf
from relu_flow.observe.observables import balancedness_error

KEY = jax.random.key(3)
MAKERS = {
    "balanced": lambda width, scale: rf.balanced_init(KEY, width, 4, scale),
    "unbalanced": lambda width, scale: rf.unbalanced_init(KEY, width, 4, 0.7, scale),
    "gaussian": lambda width, scale: rf.gaussian_init(KEY, width, 4, scale),
    "early_alignment": lambda width, scale: rf.early_alignment_init(KEY, width, 4, scale),
    "single_neuron": lambda width, scale: rf.single_neuron_init(KEY, width, 4, scale),
    "multi_phase": lambda width, scale: rf.multi_phase_init(KEY, width, 4, scale, 0.0),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_nested_in_width_and_paired_over_scales(make):
    """Assert that neither width nor scale changes the draw of a neuron."""
    narrow, wide, small = make(5, -1.0), make(9, -1.0), make(5, -50.0)
    np.testing.assert_array_equal(narrow.inner_weight, wide.inner_weight[:5])
    np.testing.assert_array_equal(narrow.outer_weight, wide.outer_weight[:5])
    np.testing.assert_array_equal(narrow.inner_weight, small.inner_weight)
    np.testing.assert_allclose(narrow.log_scale - small.log_scale, 49.0, rtol=1e-14)


def test_balancedness_is_what_was_asked_for():
    """Assert v^2 - |w|^2 = 0, or the given value, also where that needs longer w."""
    problem = rf.Problem(np.eye(4), np.ones(4))
    assert float(balancedness_error(problem, rf.balanced_init(KEY, 40, 4, -3.0))) < 1e-15
    for value in (0.7, -0.4):
        network = rf.unbalanced_init(KEY, 40, 4, value)
        square = np.asarray(network.outer_weight) ** 2
        norm = np.sum(np.asarray(network.inner_weight) ** 2, axis=1)
        np.testing.assert_allclose(square - norm, value, atol=1e-14)


def test_draws_have_the_stated_moments():
    """Assert variances, unit norms and fair signs over ten thousand neurons."""
    wide = rf.balanced_init(KEY, 10_000, 4)
    assert abs(float(np.var(wide.inner_weight)) - 0.25) < 0.01
    assert abs(float(np.mean(np.sign(wide.outer_weight)))) < 0.03
    sphere = rf.multi_phase_init(KEY, 100, 4, 0.0, 0.0)
    np.testing.assert_allclose(np.linalg.norm(sphere.inner_weight, axis=1), 1, rtol=1e-14)
    np.testing.assert_allclose(sphere.log_scale, -0.5 * np.log(100))
    teacher = rf.single_neuron_init(KEY, 16, 4, np.log(1e-3))
    np.testing.assert_allclose(np.exp(teacher.log_scale), 1e-3 / 4, rtol=1e-13)

"""Networks called: one input, a batch, and every shape that is neither; biases."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import relu_flow as rf
from relu_flow._norm import norm

INNER = np.array([[1.0, -2.0, 0.5], [0.3, 0.1, -1.0]])
OUTER = np.array([2.0, -3.0])
NETWORK = rf.TwoLayerReLU(INNER, OUTER, np.log(0.5))
INPUTS = np.random.default_rng(0).normal(size=(5, 3))
EXPECTED = np.maximum(0.5 * INPUTS @ INNER.T, 0) @ (0.5 * OUTER)


def test_one_input_and_a_batch():
    """Assert values by hand, alone, together, under `jax.vmap` and by the problem."""
    found = NETWORK(INPUTS)
    assert found.shape == (5,)
    np.testing.assert_allclose(found, EXPECTED, rtol=1e-14)
    np.testing.assert_allclose(jax.vmap(NETWORK)(jnp.asarray(INPUTS)), EXPECTED, rtol=1e-14)
    assert NETWORK(INPUTS[0]).shape == ()
    np.testing.assert_allclose([NETWORK(x) for x in INPUTS], EXPECTED, rtol=1e-14)
    np.testing.assert_allclose(NETWORK(INPUTS[0].tolist()), EXPECTED[0], rtol=1e-14)
    problem = rf.Problem(INPUTS, np.ones(5))
    np.testing.assert_allclose(problem.predictions(NETWORK), EXPECTED, rtol=1e-14)
    square = INPUTS[:3]
    np.testing.assert_allclose(NETWORK(square), EXPECTED[:3], rtol=1e-14)


@pytest.mark.parametrize(
    ("x", "advice"),
    [
        (INPUTS.T, "`x.T`"),
        (INPUTS[:1].T, "`x.ravel()`"),
        (INPUTS[:, :2], "(3,)"),
        (INPUTS[0, :2], "(3,)"),
        (INPUTS[None], "(samples, 3)"),
        (1.0, "(3,)"),
    ],
)
def test_other_shapes_are_refused(x, advice):
    """Assert that no number comes out of a shape that does not fit, and what to do."""
    with pytest.raises(ValueError, match="Argument `x` must .*" + re.escape(advice)):
        NETWORK(x)


def test_inputs_of_one_feature():
    """Assert that many of them must be a column, and one may be alone."""
    network = rf.TwoLayerReLU(np.array([[2.0], [-1.0]]), np.ones(2))
    np.testing.assert_array_equal(network(np.array([[1.0], [-3.0]])), [2.0, 3.0])
    assert float(network(np.array([1.0]))) == 2.0
    for x in (np.ones(2), 1.0):
        with pytest.raises(ValueError, match=r"`x\.reshape\(-1, 1\)`"):
            network(x)


def test_a_stack_of_networks_is_called_one_by_one():
    """Assert that a stack does not add its networks up."""
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), NETWORK)
    with pytest.raises(ValueError, match=r"jax\.vmap"):
        stack(INPUTS[0])
    found = jax.vmap(lambda network: network(INPUTS))(stack)
    np.testing.assert_allclose(found, [EXPECTED, EXPECTED], rtol=1e-14)


def test_a_constant_feature_is_a_bias():
    """Assert that the last weight, times the constant, is b of relu(w.x + b)."""
    bias = np.array([0.7, -0.2])
    for value in (1.0, 4.0):
        network = rf.TwoLayerReLU(np.column_stack([INNER, bias / value]), OUTER)
        expected = np.maximum(INPUTS @ INNER.T + bias, 0) @ OUTER
        inputs = rf.with_bias(INPUTS, value)
        assert inputs.shape == (5, 4)
        np.testing.assert_allclose(network(inputs), expected, rtol=1e-14)
        one = network(rf.with_bias(INPUTS[0], value))
        np.testing.assert_allclose(one, expected[0], rtol=1e-14)
    with_zero = rf.with_bias(np.array([[0, 0], [3, 4]]))
    np.testing.assert_array_equal(with_zero, [[0.0, 0.0, 1.0], [3.0, 4.0, 1.0]])
    rf.Problem(with_zero, np.array([1.0, -1.0]))
    with pytest.raises(ValueError, match="Argument `inputs` must"):
        rf.with_bias(np.float64(1.0))


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200])
def test_norms_and_directions_of_weights_of_any_size(size):
    """Assert a triangle of sides 3, 4, 5, whose squares under- or overflow."""
    network = rf.TwoLayerReLU(np.array([[3.0 * size, 4.0 * size], [0.0, 0.0]]), np.ones(2))
    np.testing.assert_allclose(network.log_norm(), [np.log(5.0) + np.log(size), -np.inf])
    np.testing.assert_allclose(network.directions(), [[0.6, 0.8], [0.0, 0.0]], rtol=1e-15)


def test_a_norm_of_what_is_not_finite_is_infinite():
    np.testing.assert_array_equal(norm(jnp.array([[jnp.inf, 1.0], [0.0, 0.0]])), [jnp.inf, 0.0])

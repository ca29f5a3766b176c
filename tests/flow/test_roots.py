"""The first root of many polynomials: against numpy's eigenvalues, and built by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from relu_flow.flow.step.roots import deflate, first_roots, first_violation, to_bernstein

DEGREE = 12


def with_roots(*roots):
    """Return coefficients, lowest power first, of a polynomial that starts positive."""
    coefficients = np.polynomial.polynomial.polyfromroots(roots)
    coefficients = coefficients / coefficients[0]
    return np.pad(coefficients, (0, DEGREE + 1 - len(coefficients)))


def test_first_roots_agree_with_eigenvalues():
    """Assert that the first sign change is found for hundreds of random polynomials."""
    random = np.random.default_rng(0)
    falling = 0.4 ** np.arange(DEGREE + 1)
    coefficients = random.normal(size=(300, DEGREE + 1)) * falling
    coefficients[:, 0] = np.abs(coefficients[:, 0])
    found, _ = first_roots(jnp.asarray(coefficients))
    for row, root in zip(coefficients, np.asarray(found), strict=True):
        exact = np.polynomial.polynomial.polyroots(row)
        exact = np.sort(exact[(np.abs(exact.imag) < 1e-9) & (exact.real > 0)].real)
        exact = exact[exact <= 1]
        if exact.size:
            assert abs(root - exact[0]) < 1e-9
        else:
            assert np.isinf(root)


@pytest.mark.parametrize("gap", [1e-2, 1e-4, 1e-6])
def test_two_close_crossings_are_not_missed(gap):
    """Assert that two roots within a step are told apart and the first is returned."""
    coefficients = jnp.asarray(with_roots(0.37, 0.37 + gap))[None]
    found, touches = first_roots(coefficients)
    assert abs(float(found[0]) - 0.37) < 1e-15 / gap
    assert int(touches) == 0


def test_sampling_at_the_ends_would_miss_two_crossings():
    """Assert that the polynomial of the test above has one sign at both ends of the step."""
    coefficients = with_roots(0.37, 0.37 + 1e-6)
    assert coefficients[0] > 0
    assert coefficients.sum() > 0


def test_near_miss_is_no_root():
    """Assert that a polynomial whose minimum is barely positive has no root."""
    coefficients = np.real(with_roots(0.4 + 1e-6j, 0.4 - 1e-6j))
    found, _ = first_roots(jnp.asarray(coefficients)[None])
    assert np.isinf(float(found[0]))


def test_first_of_many_is_found_whatever_the_order():
    """Assert that the earliest of several polynomials wins in any order of listing."""
    rows = np.stack([with_roots(0.9), with_roots(0.1, 0.2, 0.3), with_roots(0.5), with_roots(2.0)])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2]):
        coefficients = jnp.asarray(rows[order])
        first = first_violation(coefficients, to_bernstein(coefficients))
        assert order[int(first.index)] == 1
        assert abs(float(first.time) - 0.1) < 1e-15


@pytest.mark.parametrize("gap", [1e-2, 1e-4, 1e-6])
def test_search_over_many_finds_two_close_crossings(gap):
    """Assert that a polynomial positive at both ends of the step is searched too."""
    rows = np.stack([with_roots(0.9), with_roots(0.37, 0.37 + gap), with_roots(2.0)])
    coefficients = jnp.asarray(rows)
    first = first_violation(coefficients, to_bernstein(coefficients))
    assert int(first.index) == 1
    assert abs(float(first.time) - 0.37) < 1e-15 / gap


@pytest.mark.parametrize("rise", [0.0, 0.5, 3.0])
def test_search_over_many_takes_what_is_negative_at_once(rise):
    """Assert that one violated from the start, and not falling, comes before later roots."""
    violated = np.zeros(17)
    violated[:2] = -1.0, rise
    coefficients = jnp.asarray(
        np.stack([with_roots(0.1), np.resize(violated, with_roots(0.1).size)])
    )
    first = first_violation(coefficients, to_bernstein(coefficients), together=1)
    assert int(first.index) == 1
    assert float(first.time) == 0.0


def test_delay_and_floor_choose_by_their_key():
    """Assert that a delayed early root may come after a later one."""
    coefficients = jnp.asarray(np.stack([with_roots(0.2), with_roots(0.3)]))
    bernstein = to_bernstein(coefficients)
    first = first_violation(coefficients, bernstein, delay=jnp.array([0.5, 0.0]))
    assert int(first.index) == 1
    first = first_violation(coefficients, bernstein, jnp.array([0.1, jnp.inf]), jnp.array([0.6, 0]))
    assert float(first.key) == 0.6


def test_root_at_the_start_is_divided_out():
    """Assert that leaving a hyperplane is no return to it, but a later return is found."""
    coefficients = jnp.asarray(np.array([[0.0, 1.0, 1.0], [0.0, 1.0, -2.0], [0.0, 0.0, 1.0]]))
    found, _ = first_roots(deflate(coefficients))
    assert np.isinf(float(found[0]))
    assert float(found[1]) == 0.5
    assert np.isinf(float(found[2]))


def test_negative_start_is_a_root_at_once():
    """Assert that a constraint violated at the start is reported at time zero."""
    coefficients = jnp.asarray(np.array([[-1e-30, 1.0, 0.0]]))
    found, _ = first_roots(coefficients)
    assert float(found[0]) == 0.0

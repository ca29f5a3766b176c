"""The first time at which any of many polynomials turns negative, with a guarantee.

A step's polynomials are written in Bernstein form on the interval searched. Where all
Bernstein coefficients are non-negative the polynomial is non-negative: no root can hide
between sampling points, however close together two of them lie. The number of sign
changes of the coefficients bounds the number of roots (Descartes' rule), so one change
isolates one root, and more are split until each piece has at most one. A best-first
search over lower bounds of the roots makes the first root found the first there is.

All polynomials here live on [0, 1]; the caller scales time by the length of the step.
Zero leading coefficients mean that a polynomial starts at zero; that root is divided out.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..._series import evaluate, powers, shift_matrix

# Newton's method takes a few; where halving must do, rounding leaves 53 of them for a root of order
# one, and one more for each power of two below.
_MAX_REFINEMENTS = 128


def to_bernstein(coefficients: Float[Array, "*batch order"]) -> Float[Array, "*batch order"]:
    """Return the Bernstein coefficients on [0, 1] of polynomials in powers."""
    order = coefficients.shape[-1]
    degree = order - 1
    matrix = np.array(
        [[math.comb(k, m) / math.comb(degree, m) for m in range(order)] for k in range(order)]
    )
    return coefficients @ jnp.asarray(matrix.T, coefficients.dtype)


def deflate(coefficients: Float[Array, "*batch order"]) -> Float[Array, "*batch order"]:
    """Divide out up to two roots at zero, told by leading coefficients that are zero."""
    for _ in range(2):
        shifted = jnp.concatenate(
            [coefficients[..., 1:], jnp.zeros_like(coefficients[..., :1])], axis=-1
        )
        coefficients = jnp.where(coefficients[..., :1] == 0, shifted, coefficients)
    return coefficients


def lower_bound(bernstein: Float[Array, "*batch order"]) -> Float[Array, " *batch"]:
    """Bound the first root from below: the steepest chord from the first control point."""
    degree = bernstein.shape[-1] - 1
    index = jnp.arange(1, degree + 1, dtype=bernstein.dtype)
    start = bernstein[..., :1]
    per_degree = jax.lax.broadcast_to_rank(degree / index, bernstein.ndim)
    slope = jnp.max((start - bernstein[..., 1:]) * per_degree, axis=-1)
    bound = start[..., 0] / jnp.where(slope > 0, slope, 1.0)
    bound = jnp.clip(jnp.where(slope > 0, bound, 1.0), 0.0, 1.0)
    # One that is negative at once is so at once, falling or not.
    return jnp.where(start[..., 0] < 0, 0.0, bound)


def _sign_changes(bernstein: Float[Array, "polynomials order"]) -> Int[Array, " polynomials"]:
    """Count sign changes along each row; a zero counts as positive, so never too few."""
    negative = bernstein < 0
    return jnp.sum(negative[:, 1:] != negative[:, :-1], axis=1)


class _Isolation(eqx.Module):
    low: Float[Array, " polynomials"]
    high: Float[Array, " polynomials"]
    bernstein: Float[Array, "polynomials order"]
    searching: Bool[Array, " polynomials"]
    found: Bool[Array, " polynomials"]
    touches: Int[Array, ""]


def _classify(state: _Isolation) -> _Isolation:
    """Decide about each interval [low, high] from its Bernstein coefficients."""
    changes = _sign_changes(state.bernstein)
    past = state.bernstein[:, 0] < 0
    clear = (changes == 0) & ~past
    found = state.searching & (past | (changes == 1))
    unresolved = state.searching & ~found & ~clear
    middle = 0.5 * (state.low + state.high)
    resolution = 4 * jnp.finfo(middle.dtype).eps
    # Roots that rounding cannot part: the polynomial touches zero and does not cross.
    touch = unresolved & (state.high - state.low <= resolution)
    advance = state.searching & (clear | touch)
    searching = unresolved | (advance & (state.high < 1))
    low = jnp.where(advance & (state.high < 1), state.high, state.low)
    high = jnp.where(advance, 1.0, jnp.where(unresolved, middle, state.high))
    return _Isolation(
        low,
        high,
        state.bernstein,
        searching & ~found,
        state.found | found,
        state.touches + jnp.sum(touch),
    )


def _isolate(coefficients: Float[Array, "polynomials order"]) -> _Isolation:
    """Find for each polynomial an interval that holds its first root and no other."""
    number, order = coefficients.shape
    zero = jnp.zeros(number, coefficients.dtype)
    start = _Isolation(
        low=zero,
        high=zero + 1,
        bernstein=to_bernstein(coefficients),
        searching=jnp.ones(number, bool),
        found=jnp.zeros(number, bool),
        touches=jnp.zeros((), int),
    )

    def refine(state: _Isolation) -> _Isolation:
        shifted = jnp.einsum("kml,kl->km", shift_matrix(state.low, order), coefficients)
        scaled = shifted * powers(state.high - state.low, order)
        bernstein = jnp.where(state.searching[:, None], to_bernstein(scaled), state.bernstein)
        return _classify(eqx.tree_at(lambda s: s.bernstein, state, bernstein))

    return jax.lax.while_loop(lambda s: jnp.any(s.searching), refine, _classify(start))


def _polish(
    coefficients: Float[Array, "polynomials order"], isolation: _Isolation
) -> Float[Array, " polynomials"]:
    """Refine isolated roots to rounding: Newton's method kept inside the bracket."""
    series = coefficients.T
    derivative = series[1:] * jnp.arange(1.0, series.shape[0], dtype=series.dtype)[:, None]
    eps = jnp.finfo(series.dtype).eps
    bernstein = isolation.bernstein
    first = jnp.argmax(bernstein < 0, axis=1)
    after = jnp.take_along_axis(bernstein, first[:, None], 1)[:, 0]
    before = jnp.take_along_axis(bernstein, jnp.maximum(first - 1, 0)[:, None], 1)[:, 0]
    index = first.astype(after.dtype)
    fraction = (index - after / jnp.where(after == before, 1.0, after - before)) / (
        bernstein.shape[1] - 1
    )
    low, high = isolation.low, isolation.high
    x = jnp.clip(low + fraction * (high - low), low, high)
    x = jnp.where(bernstein[:, 0] < 0, low, x)

    def newton(state):
        x, low, high, settled, count = state
        value, slope = evaluate(series, x), evaluate(derivative, x)
        low, high = jnp.where(value >= 0, x, low), jnp.where(value >= 0, high, x)
        step = x - value / jnp.where(slope == 0, 1.0, slope)
        inside = (step >= low) & (step <= high) & (slope < 0)
        new = jnp.where(inside, step, 0.5 * (low + high))
        close = jnp.abs(new - x) <= 2 * eps * x
        done = close | (value == 0) | (high - low <= 2 * eps * high)
        # Lanes without a root, or with theirs, must not keep the others waiting.
        new = jnp.where(settled | (value == 0), x, new)
        return new, low, high, settled | done, count + 1

    start = (x, low, high, ~isolation.found | (bernstein[:, 0] < 0), 0)
    running = lambda s: jnp.any(~s[3]) & (s[4] < _MAX_REFINEMENTS)
    x, *_ = jax.lax.while_loop(running, newton, start)
    return x


def first_roots(
    coefficients: Float[Array, "polynomials order"],
) -> tuple[Float[Array, " polynomials"], Int[Array, ""]]:
    """Find for each polynomial its first root in (0, 1] at which it turns negative.

    Args:
        coefficients: Deflated polynomials in powers. One that is negative at 0 has root 0.

    Returns:
        The roots, `inf` where there is none, and how often a polynomial touched zero
        without crossing it, as far as rounding can tell.
    """
    isolation = _isolate(coefficients)
    roots = _polish(coefficients, isolation)
    return jnp.where(isolation.found, roots, jnp.inf), isolation.touches


def _smallest(keys: Float[Array, " keys"], number: int) -> Int[Array, " number"]:
    """Return the indices of the smallest keys; a few minima are faster than a sort."""
    chosen = []
    for _ in range(number):
        best = jnp.argmin(keys)
        chosen.append(best)
        keys = keys.at[best].set(jnp.inf)
    return jnp.stack(chosen)


class FirstViolation(eqx.Module):
    """The first of many polynomials to turn negative.

    Attributes:
        time: In (0, 1], 0 if one is negative at the start, `inf` if none ever is.
        index: Which polynomial; meaningless if `time` is `inf`.
        key: The smallest root, delayed and raised (see `first_violation`).
        touches: Number of polynomials that touched zero without crossing it.
    """

    time: Float[Array, ""]
    index: Int[Array, ""]
    key: Float[Array, ""]
    touches: Int[Array, ""]


def first_violation(
    coefficients: Float[Array, "polynomials order"],
    bernstein: Float[Array, "polynomials order"],
    delay: Float[Array, " polynomials"] | None = None,
    floor: Float[Array, " polynomials"] | None = None,
    together: int = 2,
) -> FirstViolation:
    """Find the first polynomial that turns negative on (0, 1].

    Args:
        coefficients: Deflated polynomials in powers.
        bernstein: The same in Bernstein form.
        delay: Added to each root before the smallest is taken; `inf` leaves one out.
        floor: What a root plus delay is raised to if it is smaller.
        together: How many polynomials are solved at a time.

    Returns:
        The smallest of the roots so raised. None is missed: each polynomial either is
        non-negative by its Bernstein coefficients, or has a lower bound of its first
        root that is beyond the answer, or was solved.
    """
    together = min(together, coefficients.shape[0])
    candidate = jnp.any(bernstein < 0, axis=1)
    root = jnp.where(candidate, lower_bound(bernstein), jnp.inf)
    delay = jnp.zeros_like(root) if delay is None else delay
    floor = jnp.zeros_like(root) if floor is None else floor

    def keys(root):
        return jnp.maximum(root + delay, floor)

    def unsettled(state):
        root, solved, _ = state
        key = keys(root)
        best = jnp.argmin(key)
        return ~solved[best] & (key[best] < jnp.inf)

    def solve_best(state):
        root, solved, touches = state
        open_key = jnp.where(solved, jnp.inf, keys(root))
        chosen = _smallest(open_key, together)
        found, touched = first_roots(coefficients[chosen])
        return root.at[chosen].set(found), solved.at[chosen].set(True), touches + touched

    start = (root, ~candidate, jnp.zeros((), int))
    root, _, touches = jax.lax.while_loop(unsettled, solve_best, start)
    key = keys(root)
    best = jnp.argmin(key)
    return FirstViolation(root[best], best, key[best], touches)

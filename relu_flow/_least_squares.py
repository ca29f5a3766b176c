r"""Linear least squares with bounds, solved exactly (to rounding) and traceably.

Minimise |A x - b| over 0 <= x <= u by active sets: a set of coordinates is *free*, the others
sit at a bound. Each round solves for the free ones; if that leaves the bounds one goes as far as
they allow and fixes what hits them, otherwise the coordinate whose gradient pulls hardest away
from its bound is freed. The objective falls at every freeing, so no set recurs and the method
ends; what rounding could do is caught by a largest number of rounds.

Source:
    After Lawson, Hanson, "Solving Least Squares Problems" (1974), for u infinite, and Stark,
    Parker, "Bounded-variable least-squares" (1995).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ._types import FloatScalarLike


class _Search(eqx.Module):
    """Where the active-set method stands."""

    x: Float[Array, " columns"]
    free: Bool[Array, " columns"]
    barred: Bool[Array, " columns"]  # freed in vain since the last progress
    newest: Int[Array, ""]
    solve: Bool[Array, ""]
    done: Bool[Array, ""]
    rounds: Int[Array, ""]


@jax.jit
def bounded_least_squares(
    matrix: Float[Array, "rows columns"],
    target: Float[Array, " rows"],
    upper: FloatScalarLike = jnp.inf,
) -> Float[Array, " columns"]:
    """Return the x in [0, upper] that minimises |matrix x - target|.

    Where columns are dependent x is not unique, but the residual is. Columns that are zero get
    x = 0. Under `jax.vmap` all problems take as many rounds as the slowest.

    Args:
        matrix: The columns; they may differ in size by any factor.
        target: The target.
        upper: Upper bound of every entry of x; positive.
    """
    size = jnp.linalg.norm(matrix, axis=0)
    used = size > 0
    size = jnp.where(used, size, 1.0)
    unit, upper = matrix / size[None], jnp.where(used, upper * size, 0.0)
    columns = matrix.shape[1]
    nothing = jnp.zeros(columns, bool)
    start = _Search(
        x=jnp.zeros(columns, matrix.dtype),
        free=nothing,
        barred=~used,
        newest=jnp.array(-1),
        solve=jnp.array(False),
        done=jnp.array(False),
        rounds=jnp.array(0),
    )

    def body(search: _Search) -> _Search:
        return lax.cond(
            search.solve,
            lambda s: _solve_free(unit, target, upper, s),
            lambda s: _release(unit, target, upper, s),
            search,
        )

    going = lambda search: ~search.done & (search.rounds < 20 * columns + 20)
    found = lax.while_loop(going, body, start)
    return found.x / size


def _release(unit, target, upper, search: _Search) -> _Search:
    """Free the coordinate whose gradient points hardest away from its bound, if one does."""
    residual = target - unit @ search.x
    gradient = residual @ unit
    noise = 32 * jnp.finfo(unit.dtype).eps * unit.shape[0] ** 0.5
    scale = jnp.linalg.norm(target) + jnp.sum(jnp.abs(search.x))
    at_top = search.x >= upper
    gain = jnp.where(at_top, -gradient, gradient)
    gain = jnp.where(search.free | search.barred, -jnp.inf, gain)
    best = jnp.argmax(gain)
    found = gain[best] > noise * scale
    free = search.free.at[best].set(search.free[best] | found)
    return _Search(search.x, free, search.barred, best, found, ~found, search.rounds + 1)


def _solve_free(unit, target, upper, search: _Search) -> _Search:
    """Go towards the solution for the free coordinates, as far as the bounds allow."""
    free = search.free
    fixed = jnp.where(free, 0.0, search.x)
    goal = jnp.linalg.lstsq(unit * free.astype(unit.dtype)[None], target - unit @ fixed)[0]
    goal = jnp.where(free, goal, search.x)
    below, above = free & (goal <= 0), free & (goal >= upper)
    out = below | above
    # A coordinate just freed that would at once cross the bound it left was freed in vain.
    newest = search.newest
    vain = (below[newest] & (search.x[newest] <= 0)) | (
        above[newest] & (search.x[newest] >= upper[newest])
    )
    vain = vain & (newest >= 0)
    step = goal - search.x
    bound = jnp.where(below, 0.0, upper)
    way = jnp.where(out, (bound - search.x) / jnp.where(step == 0, 1.0, step), jnp.inf)
    length = jnp.clip(jnp.min(way), 0.0, 1.0)
    length = jnp.where(vain, 0.0, length)
    hit = jnp.where(vain, jnp.arange(free.shape[0]) == newest, out & (way <= length))
    moved = search.x + length * jnp.where(free, step, 0.0)
    x = jnp.where(hit & ~vain, bound, jnp.where(jnp.any(out), moved, goal))
    x = jnp.where(vain, search.x, x)
    barred = jnp.where(vain, search.barred | hit, search.barred & (jnp.sum(unit**2, axis=0) == 0))
    return _Search(
        x,
        free & ~hit,
        barred,
        jnp.array(-1),
        jnp.any(out) & ~vain,
        search.done,
        search.rounds + 1,
    )

"""Whether the hull of some points contains zero, and which of its points is nearest to it."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..tolerances import eps

# Far more corrals than were ever needed; rounding may go round at a point that is nearest.
_CORRALS = 256
# In units of rounding: what the products of points with the nearest one may differ by.
_SAME = 4.0


class _Corral(eqx.Module):
    """Points that the nearest one is a mean of, and with which weights; free corral have none."""

    index: Int[Array, " corral"]
    weight: Float[Array, " corral"]
    tries: Int[Array, ""]


class Nearest(eqx.Module):
    """The point of a hull that is nearest to zero.

    Attributes:
        point: It.
        outside: Whether zero is outside the hull.
        depth: How far zero is from the border of a simplex that holds it, within its span.
        corners: How many corners that has.
    """

    point: Float[Array, " features"]
    outside: Bool[Array, ""]
    depth: Float[Array, ""]
    corners: Int[Array, ""]


def nearest(points: Float[Array, "points features"]) -> Nearest:
    """Return the point of a hull that is nearest to zero, and whether zero is outside.

    Wolfe's method (1976): the point of the affine hull of a few points that is nearest to
    zero; points are dropped until it is a mean of them, and one is added that lies nearer
    to zero, until none does. That zero is outside is certain where it says so: then all
    points have a positive product with the one found.

    Args:
        points: The points.
    """
    size = jnp.max(jnp.abs(points))
    scaled = points / jnp.where(size > 0, size, 1.0)
    corral = points.shape[1] + 1
    resolution = _SAME * eps(points)

    def products(corral: _Corral):
        chosen = scaled[corral.index]
        point = corral.weight @ chosen
        # A short point is a difference of long ones: take out once more what is along the facet,
        # or the points of the facet itself would seem to be nearer to zero than others.
        edge = _edges(chosen, corral.weight > 0, jnp.argmax(corral.weight))
        point = point - edge.T @ jnp.linalg.lstsq(edge.T, point)[0]
        return point, scaled @ point

    def going_on(corral: _Corral) -> Bool[Array, ""]:
        point, product = products(corral)
        long = jnp.linalg.norm(point)
        nearer = long - jnp.min(product) / jnp.where(long > 0, long, 1.0) > resolution
        used = corral.weight > 0
        new = ~jnp.any(used & (corral.index == jnp.argmin(product).astype(jnp.int32)))
        free = ~jnp.all(used)
        return nearer & new & free & (long > resolution) & (corral.tries < _CORRALS)

    def add(corral: _Corral) -> _Corral:
        _, product = products(corral)
        slot = jnp.argmin(corral.weight)
        index = corral.index.at[slot].set(jnp.argmin(product).astype(jnp.int32))
        used = (corral.weight > 0).at[slot].set(True)
        dropping = (corral.weight, used, jnp.array(True))
        weight = jax.lax.while_loop(lambda s: s[2], _drop(scaled[index]), dropping)[0]
        return _Corral(index, weight, corral.tries + 1)

    first = jnp.argmin(jnp.sum(scaled**2, axis=1)).astype(jnp.int32)
    start = _Corral(
        jnp.full(corral, first),
        jnp.zeros(corral, points.dtype).at[0].set(1.0),
        jnp.zeros((), jnp.int32),
    )
    corral = jax.lax.while_loop(going_on, add, start)
    point, product = products(corral)
    depth = size * _depth(scaled[corral.index], corral.weight)
    corners = jnp.sum(corral.weight > 0, dtype=jnp.int32)
    return Nearest(size * point, jnp.min(product) > 0, depth, corners)


def _depth(chosen: Float[Array, "corral features"], weight: Float[Array, " corral"]):
    """Return the distance from a mean of corners to the nearest side of their simplex."""
    base = jnp.argmax(weight)
    # Rows are gradients of the weights, by which these fall to zero at the opposite side.
    slope = jnp.linalg.pinv(_edges(chosen, weight > 0, base).T)
    slope = slope.at[base].set(slope[base] - jnp.sum(slope, axis=0))
    steep = jnp.linalg.norm(slope, axis=1)
    far = jnp.where(steep > 0, weight / jnp.where(steep > 0, steep, 1.0), jnp.inf)
    return jnp.min(jnp.where(weight > 0, far, jnp.inf))


def _edges(chosen: Float[Array, "corral features"], used, base) -> Float[Array, "corral features"]:
    return jnp.where(used[:, None], chosen - chosen[base][None], 0.0)


def _drop(chosen: Float[Array, "corral features"]):
    """Return a step towards the point of an affine hull nearest to zero, or to its first border."""

    def step(state):
        weight, used, _ = state
        base = jnp.argmax(used)
        share = jnp.linalg.lstsq(_edges(chosen, used, base).T, -chosen[base])[0]
        share = jnp.where(used, share, 0.0)
        goal = share.at[base].set(1.0 - (jnp.sum(share) - share[base]))
        outside = used & (goal <= 0)
        way = weight - goal
        border = jnp.where(outside, weight / jnp.where(way > 0, way, 1.0), 1.0)
        length = jnp.min(border)
        moved = jnp.where(used, weight - length * way, 0.0)
        kept = used & ~(outside & (border <= length))
        moved = jnp.where(kept, jnp.maximum(moved, 0.0), 0.0)
        return moved / jnp.sum(moved), kept, jnp.any(outside)

    return step

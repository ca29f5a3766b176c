"""Directions: accurate angles, and points of spherical caps."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def unit(vectors: Float[Array, "*batch features"]) -> Float[Array, "*batch features"]:
    """Return the vectors divided by their norms; zero stays zero."""
    norm = jnp.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / jnp.where(norm > 0, norm, 1.0)


def angle(
    first: Float[Array, "*batch features"], second: Float[Array, "*#batch features"]
) -> Float[Array, "*batch"]:
    r"""Return the angle between vectors, in $[0, \pi]$, accurate also near both ends.

    Half of it has the tangent $\|a - b\| / \|a + b\|$ for unit vectors; the arc cosine
    would lose half of the digits of a small angle.
    """
    a, b = unit(first), lax.broadcast_to_rank(unit(second), first.ndim)
    return 2 * jnp.arctan2(jnp.linalg.norm(a - b, axis=-1), jnp.linalg.norm(a + b, axis=-1))


def cosines(vectors: Float[Array, "samples features"]) -> Float[Array, "samples samples"]:
    """Return the cosines of all pairs."""
    directions = unit(vectors)
    return jnp.clip(directions @ directions.T, -1.0, 1.0)


def off_diagonal(
    table: Float[Array, "samples samples"], padding: float
) -> Float[Array, "samples samples"]:
    """Return the table of pairs with `padding` for the pairs of a sample with itself."""
    return jnp.where(jnp.eye(table.shape[0], dtype=bool), padding, table)


def azimuths(
    axis: Float[Array, "*#batch features"], vectors: Float[Array, "*batch features"]
) -> Float[Array, "*batch features"]:
    """Return the directions of the vectors seen along a unit axis; zero in one dimension.

    The component along the axis is subtracted more than once: what rounding leaves of it
    is of the second order then.
    """
    if axis.shape[-1] == 1:
        return jnp.zeros_like(vectors)
    axis = lax.broadcast_to_rank(axis, vectors.ndim)
    for _ in range(3):
        vectors = unit(vectors - jnp.sum(vectors * axis, axis=-1, keepdims=True) * axis)
    return vectors


def cap(
    axes: Float[Array, "*#samples features"],
    azimuth: Float[Array, "samples features"],
    polar: Float[Array, " samples"],
) -> Float[Array, "samples features"]:
    """Return the points at polar angles from unit axes, in the directions of azimuths."""
    axes = lax.broadcast_to_rank(axes, azimuth.ndim)
    return jnp.cos(polar)[:, None] * axes + jnp.sin(polar)[:, None] * azimuth


def cap_fraction(uniform: Float[Array, " samples"], features: int) -> Float[Array, " samples"]:
    """Return polar angles, in units of a cap's, from uniform numbers.

    Uniform over the cap as long as it is nearly flat.
    """
    return uniform ** (1.0 / max(features - 1, 1))


def frame(gaussian: Float[Array, "rank features"]) -> Float[Array, "rank features"]:
    """Return orthonormal rows, isotropic if the given ones are; each depends on no later one."""
    columns, triangle = jnp.linalg.qr(gaussian.T)
    return (columns * jnp.where(jnp.diagonal(triangle) < 0, -1.0, 1.0)[None]).T

"""The activation patterns that directions have: cells of an arrangement of hyperplanes."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..tolerances import DEPENDENT, eps

# Beyond so many candidates patterns are not listed: a few megabytes, looked at in every step in
# which a neuron is at zero. It is enough for 22 inputs in three dimensions and 6 in four.
MOST_PATTERNS = 4096


def num_patterns(samples: int, features: int) -> int:
    """Return how many candidates there are; 0 where patterns are not listed."""
    count = math.perm(samples + 1, features - 1) * 2**features if 1 < features <= samples else 0
    return count if count <= MOST_PATTERNS else 0


def patterns(
    inputs: Float[Array, "samples features"], rank: Int[Array, ""]
) -> Float[Array, "patterns samples"]:
    """Return every activation pattern of directions off all hyperplanes, some of them twice.

    The closure of each cell of the arrangement has a flag: a ray on `features - 1` of the
    hyperplanes, a plane on all but one of these, and so on. One goes along the ray, and by
    less and less into the cell: the first of these ways that is not on a hyperplane tells its
    side. That finds all cells of hyperplanes whose normals span the space; where one dimension
    is missing, a hyperplane with that normal is added.

    Args:
        inputs: The normals.
        rank: Dimension of their span; at least `features - 1`.

    Returns:
        1 where active; no rows if there are more than `MOST_PATTERNS`, or fewer than two features.
    """
    samples, features = inputs.shape
    count = num_patterns(samples, features)
    if not count:
        return jnp.zeros((0, samples), inputs.dtype)
    unit = inputs / jnp.linalg.norm(inputs, axis=1)[:, None]
    missing = jnp.linalg.svd(unit, full_matrices=False)[2][-1]
    normal = jnp.concatenate([unit, jnp.where(rank < features, missing, unit[0])[None]])
    chosen = np.array(list(itertools.permutations(range(samples + 1), features - 1)))
    across = normal[chosen]
    minor = [jnp.linalg.det(jnp.delete(across, k, axis=2)) * (-1) ** k for k in range(features)]
    ray = jnp.stack(minor, axis=1)
    found = jnp.linalg.norm(ray, axis=1) > DEPENDENT * eps(inputs)
    basis = jnp.concatenate([across, ray[:, None]], axis=1)
    basis = jnp.where(found[:, None, None], basis, jnp.eye(features, dtype=inputs.dtype))
    # Columns: along the ray, then off one of the hyperplanes each, on all others.
    ways = jnp.roll(jnp.linalg.inv(basis), 1, axis=2)
    product = jnp.einsum("nd,fdk->fkn", normal, ways)
    size = jnp.linalg.norm(ways, axis=1)[:, :, None]
    sign = jnp.where(jnp.abs(product) > DEPENDENT * eps(inputs) * size, jnp.sign(product), 0.0)
    turns = np.array(list(itertools.product((1.0, -1.0), repeat=features)))
    sign = sign[:, None] * jnp.asarray(turns, inputs.dtype)[None, :, :, None]
    first = jnp.argmax(sign != 0, axis=2, keepdims=True)
    active = jnp.take_along_axis(sign, first, axis=2)[:, :, 0] > 0
    # Who chose dependent hyperplanes repeats another.
    active = jnp.where(found[:, None, None], active, active[jnp.argmax(found)][None])
    return active[..., :samples].reshape(count, samples).astype(inputs.dtype)

"""Euclidean norms of numbers of any size."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def norm(vectors: Float[Array, "*batch features"]) -> Float[Array, " *batch"]:
    """Return Euclidean norms along the last axis, of which no square under- or overflows.

    Plain squares do from 1e-162 and from 1e154 on: a neuron whose inner weights are e^-400
    times its outer weight would be taken for one of no weight. Infinite if an entry is.
    """
    # A norm is homogeneous: by what the numbers are divided makes no difference to its derivative.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(vectors), axis=-1, keepdims=True, initial=0.0))
    unit = jnp.where((largest > 0) & (largest < jnp.inf), largest, 1.0)
    return unit[..., 0] * jnp.linalg.norm(vectors / unit, axis=-1)

"""Choosing between trees of arrays."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree


def choose(mask: Bool[Array, "*rows"], new: PyTree, old: PyTree) -> PyTree:
    """Return one of two trees, or for a mask of rows one of their rows for each.

    Args:
        mask: A scalar, or an entry for each row of the leaves' first axis.
        new: What is taken where `mask` is true.
        old: What is taken elsewhere; its leaves broadcast against those of `new`.
    """

    def pick(a, b):
        return jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, b)

    return jax.tree.map(pick, new, old)

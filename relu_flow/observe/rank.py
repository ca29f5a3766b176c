r"""Ranks and norms of the inner weights W, one row a neuron, true scales included.

Singular values are taken relative to the largest scale of a neuron, so that they neither
overflow nor underflow together; neurons smaller by more than the range of the numbers count
as zero, as they do in any of these quantities. See also `stable_rank` in `observables`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._types import FloatScalarLike
from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from .observables import relative_inner


def log_singular_values(problem: Problem, network: TwoLayerReLU) -> Float[Array, " rank"]:
    """Return the natural logarithms of the singular values of W, the largest first.

    `-inf` for those that are zero; those below rounding of the largest are noise.
    """
    del problem
    return jnp.log(_relative_singular_values(network)) + jnp.max(network.log_scale)


def numerical_rank(
    problem: Problem, network: TwoLayerReLU, rtol: FloatScalarLike | None = None
) -> Int[Array, ""]:
    """Return how many singular values of W exceed `rtol` times the largest.

    Args:
        problem: Not used.
        network: The network.
        rtol: Unless given, rounding error times the larger dimension of W.
    """
    del problem
    singular = _relative_singular_values(network)
    if rtol is None:
        rtol = max(network.width, network.features) * float(jnp.finfo(singular.dtype).eps)
    return jnp.sum(singular > rtol * jnp.max(singular), dtype=jnp.int32)


def effective_rank(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    r"""Return $e^{H(p)}$, $p_k = \sigma_k/\sum_l\sigma_l$, $H(p) = -\sum_k p_k\log p_k$.

    Between one and the rank, which it equals if all singular values are equal; zero for W = 0.

    Source:
        Roy, Vetterli, "The effective rank: a measure of effective dimensionality" (2007).
    """
    del problem
    singular = _relative_singular_values(network)
    total = jnp.sum(singular)
    share = singular / jnp.where(total > 0, total, 1.0)
    entropy = -jnp.sum(share * jnp.log(jnp.where(share > 0, share, 1.0)))
    return jnp.where(total > 0, jnp.exp(entropy), 0.0)


def log_nuclear_norm(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Return the natural logarithm of the sum of the singular values of W."""
    del problem
    return jnp.log(jnp.sum(_relative_singular_values(network))) + jnp.max(network.log_scale)


def nuclear_norm(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Return the sum of the singular values of W; zero where it underflows."""
    return jnp.exp(log_nuclear_norm(problem, network))


def _relative_singular_values(network: TwoLayerReLU) -> Float[Array, " rank"]:
    return jnp.linalg.svd(relative_inner(network), compute_uv=False)

r"""The tangent kernel of a network: how the pull of one sample moves the output of another.

$K_{ik} = \langle\nabla_\theta f(x_i), \nabla_\theta f(x_k)\rangle$ over the weights that are
trained, so that $f(x_i)' = \sum_k K_{ik} g_k$ along the flow. The derivative of the ReLU at zero
is taken as zero: a neuron on a hyperplane, as one that slides there, counts as inactive.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from .pattern import pattern


def tangent_kernel(problem: Problem, network: TwoLayerReLU) -> Float[Array, "samples samples"]:
    """Return the tangent kernel on the inputs; zero where the squared weights underflow."""
    kernel, log_unit = _relative_kernel(problem, network)
    return kernel * jnp.exp(log_unit)


def log_tangent_spectrum(problem: Problem, network: TwoLayerReLU) -> Float[Array, " samples"]:
    """Return the natural logarithms of the kernel's eigenvalues, the largest first.

    Right at any scale. Eigenvalues below rounding of the largest are noise, and `-inf` if they
    come out negative.
    """
    kernel, log_unit = _relative_kernel(problem, network)
    values = jnp.linalg.eigvalsh(kernel)[::-1]
    positive = values > 0
    return jnp.where(positive, jnp.log(jnp.where(positive, values, 1.0)) + log_unit, -jnp.inf)


def tangent_distance(
    problem: Problem, network: TwoLayerReLU, other: TwoLayerReLU
) -> Float[Array, ""]:
    r"""Return $1 - \langle K, K'\rangle_F/(\|K\|_F\|K'\|_F)$ of two tangent kernels.

    Between 0 (proportional) and 1 (kernels have no negative product); scales do not matter. It
    is computed as half the squared distance of the normalised kernels, so that small ones are
    not lost in rounding. One if just one kernel is zero, zero if both are.

    Source:
        Kernel distance of Fort et al., "Deep learning versus kernel learning" (2020): one minus
        the alignment of Cristianini et al., "On kernel-target alignment" (2001).
    """
    first, second = _unit_kernel(problem, network), _unit_kernel(problem, other)
    both = jnp.any(first != 0) & jnp.any(second != 0)
    distance = 0.5 * jnp.sum((first - second) ** 2)
    neither = ~jnp.any(first != 0) & ~jnp.any(second != 0)
    return jnp.where(both, distance, jnp.where(neither, 0.0, 1.0))


def tangent_distance_from(
    reference: TwoLayerReLU,
) -> Callable[[Problem, TwoLayerReLU], Float[Array, ""]]:
    """Return the observable of the tangent kernel's distance to that of a reference."""

    def tangent_distance_from_reference(problem, network):
        return tangent_distance(problem, network, reference)

    return tangent_distance_from_reference


def _unit_kernel(problem: Problem, network: TwoLayerReLU) -> Float[Array, "samples samples"]:
    kernel, _ = _relative_kernel(problem, network)
    norm = jnp.linalg.norm(kernel)
    return kernel / jnp.where(norm > 0, norm, 1.0)


def _relative_kernel(
    problem: Problem, network: TwoLayerReLU
) -> tuple[Float[Array, "samples samples"], Float[Array, ""]]:
    """Return the kernel in units of which the logarithm is returned too."""
    active = pattern(problem, network).astype(problem.inputs.dtype)
    log_unit = jnp.max(network.outer_log_scale)
    if problem.train == "both":
        log_unit = jnp.maximum(log_unit, jnp.max(network.log_scale))
    outer = network.outer_weight * jnp.exp(network.outer_log_scale - log_unit)
    gated = outer[:, None] * active
    kernel = (gated.T @ gated) * (problem.inputs @ problem.inputs.T)
    if problem.train == "both":
        scale = jnp.exp(network.log_scale - log_unit)
        hidden = scale[:, None] * jax.nn.relu(network.preactivations(problem.inputs))
        kernel = kernel + hidden.T @ hidden
    return kernel, 2 * log_unit

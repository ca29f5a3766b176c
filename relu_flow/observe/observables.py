"""Observables: scalars of a problem and a network, right at any scale of the weights."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..model.network import TwoLayerReLU
from ..model.problem import Problem

_RESOLUTION = 1e-12  # cosines below are on the hyperplane


def loss(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Return the reduced loss."""
    return problem.loss_value(network)


def accuracy(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Return the fraction of samples whose output has the target's sign."""
    margins = problem.predictions(network) * problem.targets
    return jnp.mean((margins > 0).astype(margins.dtype))


def living(problem: Problem, network: TwoLayerReLU) -> Bool[Array, " width"]:
    """Return which neurons are active on some sample; the others rest for ever.

    A neuron counts as active on a sample if the cosine to it exceeds 1e-12: one that has
    died rests on the hyperplane it left last, up to rounding.
    """
    return jnp.any(_cosines(problem, network) > _RESOLUTION, axis=1)


def class_centers(problem: Problem) -> tuple[Float[Array, " features"], Float[Array, " features"]]:
    r"""Return $x_+ = \sum_{y_i > 0} x_i$ and $x_- = \sum_{y_i < 0} x_i$."""
    positive = problem.targets > 0
    return positive @ problem.inputs, ~positive @ problem.inputs


def class_alignment(problem: Problem, network: TwoLayerReLU) -> Float[Array, " width"]:
    """Return each neuron's cosine to the centre of the class that its output favours."""
    centers = jnp.stack(class_centers(problem))
    centers = centers / jnp.linalg.norm(centers, axis=1, keepdims=True)
    cosines = network.directions() @ centers.T
    return jnp.where(network.outer_weight > 0, cosines[:, 0], cosines[:, 1])


def cone_margin(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    r"""Return how far the living neurons are inside their cones; positive if all are.

    The cone of a neuron with positive (negative) output weight is $S_+$ ($S_-$): active on
    the positive (negative) class and on nothing else. The margin is the smallest of
    $\pm\cos(w_j, x_i)$ over living neurons and samples, the sign being the one wanted.

    Source:
        Min, Mallada, Vidal, "Early Neuron Alignment in Two-layer ReLU Networks with Small
        Initialization" (2024), the sets $S_+$, $S_-$, $S_{dead}$.
    """
    wanted = jnp.sign(problem.targets) * jnp.sign(network.outer_weight)[:, None]
    margins = jnp.min(wanted * _cosines(problem, network), axis=1)
    return jnp.min(jnp.where(living(problem, network), margins, jnp.inf))


def fraction_in_cone(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Return the share of the living neurons that are in their cone (see `cone_margin`).

    A neuron on a hyperplane to rounding (a cosine of at most 1e-12), as one that slides
    there is, counts as inactive.
    """
    wanted = jnp.sign(problem.targets) * jnp.sign(network.outer_weight)[:, None] > 0
    inside = jnp.all((_cosines(problem, network) > _RESOLUTION) == wanted, axis=1)
    alive = living(problem, network)
    counted = (inside & alive).astype(problem.inputs.dtype)
    return jnp.sum(counted) / jnp.maximum(jnp.sum(alive), 1)


def stable_rank(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    r"""Return $\|W\|_F^2/\|W\|_2^2$ of the inner weights, taken relative to the largest."""
    del problem
    singular = jnp.linalg.svd(_relative_inner(network), compute_uv=False)
    return jnp.sum(singular**2) / jnp.max(singular) ** 2


def balancedness_error(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    r"""Return the largest $|v_j^2 - \|w_j\|^2|/(v_j^2 + \|w_j\|^2)$: zero if balanced."""
    del problem
    ratio = jnp.exp(network.outer_log_scale - network.log_scale)
    outer = (ratio * network.outer_weight) ** 2
    inner = jnp.sum(network.inner_weight**2, axis=1)
    return jnp.max(jnp.abs(outer - inner) / jnp.where(outer + inner > 0, outer + inner, 1.0))


def log_parameter_norm(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Return the natural logarithm of the Euclidean norm of all weights."""
    del problem
    with_zero = lambda x: jnp.log(jnp.where(x > 0, x, jnp.finfo(x.dtype).tiny))
    inner = with_zero(jnp.linalg.norm(network.inner_weight, axis=1)) + network.log_scale
    outer = with_zero(jnp.abs(network.outer_weight)) + network.outer_log_scale
    return 0.5 * jax.nn.logsumexp(2 * jnp.concatenate([inner, outer]))


def _cosines(problem: Problem, network: TwoLayerReLU) -> Float[Array, "width samples"]:
    norms = jnp.linalg.norm(problem.inputs, axis=1)
    return (network.directions() @ problem.inputs.T) / norms


def _relative_inner(network: TwoLayerReLU) -> Float[Array, "width features"]:
    return network.inner_weight * jnp.exp(network.log_scale - jnp.max(network.log_scale))[:, None]

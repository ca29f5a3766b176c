"""Observables: scalars of a problem and a network, right at any scale of the weights.

Here are the common ones: loss and accuracy, alignment with directions and cones, balance and
norms. The other files of this folder go by what they are about: `angle`, `rank`, `pattern`,
`motion`, `bundle`, `margin`, `kernel`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._norm import norm
from .._types import FloatArrayLike, is_traced
from ..model.network import TwoLayerReLU
from ..model.problem import Problem

RESOLUTION = 1e-12  # a cosine of at most this size is on the hyperplane


def loss(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Return the reduced loss."""
    return problem.loss_value(network)


def accuracy(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Return the fraction of samples whose output has the target's sign."""
    margins = problem.predictions(network) * problem.targets
    return jnp.mean((margins > 0).astype(margins.dtype))


def positive_output(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Return the mean output over the samples with positive target; 0 if there are none."""
    return _class_mean(problem.predictions(network), problem.targets > 0)


def negative_output(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Return the mean output over the samples with negative target; 0 if there are none."""
    return _class_mean(problem.predictions(network), problem.targets < 0)


def largest_positive_output(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Return the largest |f(x_i)| over the samples with positive target; 0 if there are none."""
    outputs = jnp.abs(problem.predictions(network))
    return jnp.max(outputs * (problem.targets > 0).astype(outputs.dtype))


def largest_negative_output(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Return the largest |f(x_i)| over the samples with negative target; 0 if there are none."""
    outputs = jnp.abs(problem.predictions(network))
    return jnp.max(outputs * (problem.targets < 0).astype(outputs.dtype))


def living(problem: Problem, network: TwoLayerReLU) -> Bool[Array, " width"]:
    """Return which neurons are active on some sample; the others rest for ever.

    A neuron counts as active on a sample if the cosine to it exceeds 1e-12: one that has
    died rests on the hyperplane it left last, up to rounding.
    """
    return jnp.any(cosines(problem, network) > RESOLUTION, axis=1)


def alignment(
    direction: FloatArrayLike,
) -> Callable[[Problem, TwoLayerReLU], Float[Array, " width"]]:
    """Return the observable of each neuron's cosine to a direction.

    Args:
        direction: A vector, not zero; its length does not matter.

    Raises:
        ValueError: If `direction` has not exactly one axis, or is concrete and zero.
    """
    direction = jnp.asarray(direction, float)
    if direction.ndim != 1:
        raise ValueError(
            f"Argument `direction` must have one axis, but its shape is {direction.shape}."
        )
    if not is_traced(direction) and not float(jnp.max(jnp.abs(direction))) > 0:
        raise ValueError("Argument `direction` must not be zero, but it is.")
    unit = direction / jnp.max(jnp.abs(direction))
    unit = unit / jnp.linalg.norm(unit)

    def alignment_with_direction(problem, network):
        del problem
        return network.directions() @ unit

    return alignment_with_direction


def class_centers(problem: Problem) -> tuple[Float[Array, " features"], Float[Array, " features"]]:
    r"""Return $x_+ = \sum_{y_i > 0} x_i$ and $x_- = \sum_{y_i < 0} x_i$."""
    positive = (problem.targets > 0).astype(problem.inputs.dtype)
    return positive @ problem.inputs, (1 - positive) @ problem.inputs


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
    wanted = jnp.sign(problem.targets)[None] * jnp.sign(network.outer_weight)[:, None]
    margins = jnp.min(wanted * cosines(problem, network), axis=1)
    return jnp.min(jnp.where(living(problem, network), margins, jnp.inf))


def fraction_in_cone(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Return the share of the living neurons that are in their cone (see `cone_margin`).

    A neuron on a hyperplane to rounding (a cosine of at most 1e-12), as one that slides
    there is, counts as inactive.
    """
    wanted = jnp.sign(problem.targets)[None] * jnp.sign(network.outer_weight)[:, None] > 0
    inside = jnp.all((cosines(problem, network) > RESOLUTION) == wanted, axis=1)
    alive = living(problem, network)
    counted = (inside & alive).astype(problem.inputs.dtype)
    return jnp.sum(counted) / jnp.maximum(jnp.sum(alive), 1).astype(counted.dtype)


def stable_rank(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    r"""Return $\|W\|_F^2/\|W\|_2^2$ of the inner weights, taken relative to the largest."""
    del problem
    singular = jnp.linalg.svd(relative_inner(network), compute_uv=False)
    return jnp.sum(singular**2) / jnp.max(singular) ** 2


def balancedness_error(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    r"""Return the largest $|v_j^2 - \|w_j\|^2|/(v_j^2 + \|w_j\|^2)$: zero if balanced."""
    del problem
    ratio = jnp.exp(network.outer_log_scale - network.log_scale)
    outer = (ratio * network.outer_weight) ** 2
    inner = jnp.sum(network.inner_weight**2, axis=1)
    return jnp.max(jnp.abs(outer - inner) / jnp.where(outer + inner > 0, outer + inner, 1.0))


def squared_parameter_norm(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    r"""Return $\|\theta\|^2$, of all weights of both layers; zero where it underflows.

    Twice `log_parameter_norm` is its logarithm, right at any scale.
    """
    return jnp.exp(2 * log_parameter_norm(problem, network))


def log_parameter_norm(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Return the natural logarithm of the Euclidean norm of all weights."""
    del problem
    with_zero = lambda x: jnp.log(jnp.where(x > 0, x, jnp.finfo(x.dtype).tiny))
    inner = with_zero(norm(network.inner_weight)) + network.log_scale
    outer = with_zero(jnp.abs(network.outer_weight)) + network.outer_log_scale
    return 0.5 * jax.nn.logsumexp(2 * jnp.concatenate([inner, outer]))


def cosines(problem: Problem, network: TwoLayerReLU) -> Float[Array, "width samples"]:
    """Return the cosine of each neuron to each input; zero for a neuron of zero weights."""
    norms = jnp.linalg.norm(problem.inputs, axis=1)
    return (network.directions() @ problem.inputs.T) / norms[None]


def relative_inner(network: TwoLayerReLU) -> Float[Array, "width features"]:
    """Return the inner weights in units of the largest of the neurons' scales."""
    return network.inner_weight * jnp.exp(network.log_scale - jnp.max(network.log_scale))[:, None]


def _class_mean(values: Float[Array, " samples"], chosen: Bool[Array, " samples"]):
    number = jnp.maximum(jnp.sum(chosen), 1).astype(values.dtype)
    return jnp.sum(jnp.where(chosen, values, 0.0)) / number

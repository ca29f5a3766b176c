r"""How fast the flow moves a network: velocities, and rates of directions, norms and outputs.

The velocity is minus the smallest element of the loss's subdifferential, which is the one that
the flow takes: W_j' = V_j G_j with the drive G_j = sum_i a_ij g_i x_i, a_ij = 1 where the neuron
is active, 0 where it is not, and on hyperplanes whatever in [0, 1] makes G_j smallest. There it
gives the speed of a slide along an attracting hyperplane, and rest on a repelling one. A network
alone does not tell on which side of a hyperplane a neuron belongs that is just crossing it: at
that instant, and only then, the velocity may be that before or that after.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._least_squares import bounded_least_squares
from .._norm import norm
from ..model.network import TwoLayerReLU
from ..model.problem import Problem, parallel_groups
from .pattern import on_hyperplane, pattern

_MOST_HYPERPLANES = 8


@eqx.filter_jit
def activations(problem: Problem, network: TwoLayerReLU) -> Float[Array, "width samples"]:
    """Return the weight with which each sample pulls at each neuron, between 0 and 1.

    One where active, zero where inactive; between where a neuron slides. A neuron on more than
    eight different hyperplanes counts as inactive on the ones beyond.
    """
    inputs, samples = problem.inputs, problem.samples
    active = pattern(problem, network).astype(inputs.dtype)
    representative, factor = parallel_groups(inputs)
    near = on_hyperplane(problem, network)
    own = representative == jnp.arange(samples)
    pull = _pulls(problem, network)
    up, down = jnp.maximum(factor, 0.0), jnp.maximum(-factor, 0.0)
    gather = lambda part: jnp.zeros_like(pull).at[representative].add(pull * part)
    above, below = gather(up), gather(down)
    slots = min(samples, problem.features, _MOST_HYPERPLANES)

    def weights(active_row, near_row):
        # On side + of a hyperplane its samples pull with `above`, on side - with `-below`.
        (found,) = jnp.nonzero(near_row & own, size=slots, fill_value=samples)
        across = inputs.at[found].get(mode="fill", fill_value=0.0)
        jump = (above + below).at[found].get(mode="fill", fill_value=0.0)
        fixed = jnp.where(near_row, 0.0, active_row * pull) @ inputs
        fixed = fixed - below.at[found].get(mode="fill", fill_value=0.0) @ across
        share = bounded_least_squares((jump[:, None] * across).T, -fixed, 1.0)
        shares = jnp.zeros(samples, inputs.dtype).at[found].set(share, mode="drop")
        shares = shares[representative]
        return jnp.where(factor > 0, shares, jnp.where(near_row, 1 - shares, 0.0))

    there = near & near[:, representative]
    mixed = jax.lax.cond(
        jnp.any(there),
        lambda: jax.vmap(weights)(active, there),
        lambda: active,
    )
    return jnp.where(there, mixed, active)


def velocity(
    problem: Problem, network: TwoLayerReLU
) -> tuple[Float[Array, "width features"], Float[Array, " width"]]:
    """Return the time derivatives of inner and outer weights, each in units of its own scale.

    That is of `inner_weight` and `outer_weight` with the scales held. Zero for outer weights
    that are not trained.
    """
    drive = (activations(problem, network) * _pulls(problem, network)[None]) @ problem.inputs
    ratio = jnp.exp(network.outer_log_scale - network.log_scale)
    inner = (ratio * network.outer_weight)[:, None] * drive
    if problem.train == "inner":
        return inner, jnp.zeros_like(network.outer_weight)
    return inner, jnp.sum(network.inner_weight * drive, axis=1) / ratio


def direction_rate(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    r"""Return $\sum_j \|\frac{d}{dt} w_j/\|w_j\|\|$, per unit of gradient-flow time.

    Source:
        Plotted in the experiments of Min, Mallada, Vidal, "Early Neuron Alignment in Two-layer
        ReLU Networks with Small Initialization" (2024).
    """
    direction = network.directions()
    inner, _ = velocity(problem, network)
    across = inner - jnp.sum(inner * direction, axis=1, keepdims=True) * direction
    length = norm(network.inner_weight)
    speed = norm(across) / jnp.where(length > 0, length, 1.0)
    return jnp.sum(jnp.where(length > 0, speed, 0.0))


def norm_rate(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    r"""Return $\sum_j \frac{d}{dt}\|w_j\|^2$ of the true weights, with its sign.

    It scales with the square of the weights and becomes zero where that underflows; see
    `log_norm_rate`.

    Source:
        As for `direction_rate`.
    """
    unit = jnp.max(network.log_scale)
    return jnp.exp(2 * unit) * _relative_norm_rate(problem, network)


def log_norm_rate(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Return the natural logarithm of the absolute value of `norm_rate`, at any scale."""
    unit = jnp.max(network.log_scale)
    return jnp.log(jnp.abs(_relative_norm_rate(problem, network))) + 2 * unit


def norm_lead(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Return `norm_rate` minus `direction_rate`: positive once norms change faster."""
    return norm_rate(problem, network) - direction_rate(problem, network)


def output_rates(problem: Problem, network: TwoLayerReLU) -> Float[Array, " samples"]:
    """Return the time derivatives of the outputs at the inputs."""
    return _relative_output_rates(problem, network) * jnp.exp(
        jnp.max(network.log_scale + network.outer_log_scale)
    )


def loss_rate(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Return the time derivative of the loss: minus the squared speed of all weights."""
    return -_pulls(problem, network) @ output_rates(problem, network)


def parameter_direction_rate(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    r"""Return $\|\frac{d}{dt}\theta/\|\theta\|\|$ of all weights that are trained.

    It goes to zero as the network converges in direction.
    """
    inner, outer = velocity(problem, network)
    unit = jnp.max(network.log_scale)
    scale = jnp.exp(network.log_scale - unit)
    weights, speeds = network.inner_weight * scale[:, None], inner * scale[:, None]
    if problem.train == "both":
        outer_scale = jnp.exp(network.outer_log_scale - unit)
        weights = jnp.column_stack([weights, network.outer_weight * outer_scale])
        speeds = jnp.column_stack([speeds, outer * outer_scale])
    size = norm(weights.ravel())
    across = speeds - weights * (jnp.sum(weights * speeds) / size**2)
    return norm(across.ravel()) / size


def _pulls(problem: Problem, network: TwoLayerReLU) -> Float[Array, " samples"]:
    outputs = problem.predictions(network)
    return problem.sample_weight * problem.loss.pull(outputs, problem.targets)


def _relative_norm_rate(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Return the rate of squared norms in units of the largest scale, squared."""
    inner, _ = velocity(problem, network)
    scale = jnp.exp(2 * (network.log_scale - jnp.max(network.log_scale)))
    return 2 * jnp.sum(scale * jnp.sum(network.inner_weight * inner, axis=1))


def _relative_output_rates(problem: Problem, network: TwoLayerReLU) -> Float[Array, " samples"]:
    """Return the rates of outputs in units of the largest product of a neuron's scales."""
    inner, outer = velocity(problem, network)
    scale = network.log_scale + network.outer_log_scale
    scale = jnp.exp(scale - jnp.max(scale))
    active = pattern(problem, network)
    held = network.outer_weight[:, None] * (inner @ problem.inputs.T)
    grown = outer[:, None] * network.preactivations(problem.inputs)
    return scale @ (active.astype(scale.dtype) * (held + grown))

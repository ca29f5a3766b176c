r"""Margins: how well a network separates its data for its norm, and how nearly optimally.

Training both layers f is homogeneous of degree L = 2 in the weights theta; with the outer layer
fixed it is of degree L = 1 in the inner weights, which then are theta. Everything here is of the
network scaled to norm one, and so free of scale.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._least_squares import bounded_least_squares
from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from .motion import activations


def normalised_margin(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    r"""Return $\min_i y_i f(x_i)$ over the norm of the weights, free of their scale.

    Both layers trained: over $\|\theta\|^2 = \|W\|_F^2 + \|v\|^2$. Inner layer alone: over
    $\|W\|_F\|v\|$. Positive if and only if every sample is on its right side.
    """
    return jnp.min(_margins(problem, _unit_network(problem, network)))


class MarginConditions(eqx.Module):
    r"""How far a network's direction is from satisfying the margin problem's conditions.

    The problem is $\min \frac12\|\theta\|^2$ subject to $q_i = y_i f(x_i) \ge 1$. All numbers
    are of theta scaled so that its smallest $q_i$ is one.

    Attributes:
        multipliers: $\lambda_i \ge 0$, of least stationarity residual, over $\|\theta\|^2$: at a
            solution $L \sum_i \lambda_i$ is one, $L$ being the degree of homogeneity.
        stationarity: $\|\theta - \sum_i\lambda_i h_i\|/\|\theta\|$, $h_i$ the gradient of $q_i$.
        complementarity: $L\sum_i\lambda_i(q_i - 1)/\|\theta\|^2$.
    """

    multipliers: Float[Array, " samples"]
    stationarity: Float[Array, ""]
    complementarity: Float[Array, ""]


@eqx.filter_jit
def margin_conditions(problem: Problem, network: TwoLayerReLU) -> MarginConditions:
    r"""Return the residuals of the Karush-Kuhn-Tucker conditions of the margin problem.

    The multipliers are found by non-negative least squares, to rounding. Where a neuron is on
    a hyperplane $q_i$ has many gradients; taken is the one with the weights that the flow
    itself gives (`activations`). Another might do better, so that the stationarity residual is
    then an upper bound; it still vanishes where a flow ends, for a flow that converges in
    direction moves along $\sum_i g_i h_i$ with just these.

    Infinite residuals if some sample is not on its right side: the problem is not feasible
    along this direction.

    Source:
        Lyu, Li, "Gradient Descent Maximizes the Margin of Homogeneous Neural Networks" (2020),
        whose approximate conditions bound the two residuals, not relative to the norm.
    """
    unit = _unit_network(problem, network)
    degree = 2.0 if problem.train == "both" else 1.0
    margins = _margins(problem, unit)
    smallest = jnp.min(margins)
    # Of the unit network: theta = unit r with r = smallest^(-1/L); h is of degree L - 1.
    weights = activations(problem, network)
    gradients = _gradients(problem, unit, weights)
    parameters = _parameters(problem, unit)
    stacked = jnp.column_stack([gradients.T, parameters])
    reduced = jnp.linalg.qr(stacked, mode="r") if stacked.shape[0] > stacked.shape[1] else stacked
    columns, target = reduced[:, :-1], reduced[:, -1]
    found = bounded_least_squares(columns, target)
    separated = smallest > 0
    safe = jnp.where(separated, smallest, 1.0)
    # sum lambda_i h_i = r sum (lambda_i r^(L-2)) h_i^unit, so lambda_i / r^2 = found_i r^-L.
    multipliers = found * safe
    excess = margins / safe - 1
    guard = lambda value: jnp.where(separated, value, jnp.inf)
    return MarginConditions(
        multipliers,
        guard(jnp.linalg.norm(columns @ found - target)),
        guard(degree * jnp.sum(multipliers * excess)),
    )


def margin_stationarity(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Return the stationarity residual of `margin_conditions`, between 0 and 1, or infinity."""
    return margin_conditions(problem, network).stationarity


def margin_complementarity(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Return the complementarity residual of `margin_conditions`, at least 0, or infinity."""
    return margin_conditions(problem, network).complementarity


def _unit_network(problem: Problem, network: TwoLayerReLU) -> TwoLayerReLU:
    """Return the network scaled to norm one: all of it, or each layer if one is fixed."""
    inner, outer = (
        _log_norm(network.inner_weight, network.log_scale),
        _log_norm(network.outer_weight[:, None], network.outer_log_scale),
    )
    if problem.train == "both":
        inner = outer = 0.5 * jnp.logaddexp(2 * inner, 2 * outer)
    return TwoLayerReLU(
        network.inner_weight,
        network.outer_weight,
        network.log_scale - inner,
        network.outer_log_scale - outer,
    )


def _log_norm(weight: Float[Array, "width _"], log_scale) -> Float[Array, ""]:
    norms = jnp.linalg.norm(weight, axis=1)
    log_norms = jnp.log(jnp.where(norms > 0, norms, 1.0)) + log_scale
    return 0.5 * jax.nn.logsumexp(2 * log_norms, where=norms > 0)


def _margins(problem: Problem, network: TwoLayerReLU) -> Float[Array, " samples"]:
    return problem.targets * problem.predictions(network)


def _parameters(problem: Problem, unit: TwoLayerReLU) -> Float[Array, " parameters"]:
    inner = unit.inner_weight * jnp.exp(unit.log_scale)[:, None]
    if problem.train == "inner":
        return inner.reshape(-1)
    outer = unit.outer_weight * jnp.exp(unit.outer_log_scale)
    return jnp.concatenate([inner.reshape(-1), outer])


def _gradients(
    problem: Problem, unit: TwoLayerReLU, weights: Float[Array, "width samples"]
) -> Float[Array, "samples parameters"]:
    """Return the gradients of y_i f(x_i), with the given weights on hyperplanes."""
    outer = unit.outer_weight * jnp.exp(unit.outer_log_scale)
    signed = problem.targets[:, None] * problem.inputs
    inner = (outer[:, None] * weights).T[:, :, None] * signed[:, None, :]
    inner = inner.reshape(problem.samples, -1)
    if problem.train == "inner":
        return inner
    scale = jnp.exp(unit.log_scale)[:, None]
    own = weights * unit.preactivations(problem.inputs) * scale
    return jnp.concatenate([inner, problem.targets[:, None] * own.T], axis=1)

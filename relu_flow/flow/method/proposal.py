"""A step proposed by a solver, as power series over which switches can be searched.

`Taylor` brings its own series. For a Runge-Kutta method the dense output is a polynomial
on the step: it is sampled at Chebyshev points, which determine it, and so are the pulls.
"""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..._norm import norm
from ..tolerances import REST, eps, smallest
from .field import FlowField, Frozen, Weights, project
from .frame import Frame
from .taylor import Expansion, Taylor, expand, trusted_length, trusted_pull_length

# Share of `rtol` that a step's own truncation error may take, per neuron.
_STEP_SHARE = 1e-2


class Proposal(eqx.Module):
    """A step: its series, how far they reach, and what to try next.

    Attributes:
        series: In units of the frozen rates' time.
        length: How far the series may be used, in that unit; 0 for a rejected step.
        trusted: The same, for a rejected step too.
        unit_factor: Factor for the unit of the next step.
        accepted: Whether the error was within the tolerance.
        stationary: Whether nothing moves any more (see `stop_if_stationary`).
    """

    series: Expansion
    length: Float[Array, ""]
    trusted: Float[Array, ""]
    unit_factor: Float[Array, ""]
    accepted: Bool[Array, ""]
    stationary: Bool[Array, ""]


def series_order(solver: dfx.AbstractSolver) -> int:
    """Return the highest power in the series of a proposal."""
    if isinstance(solver, Taylor):
        return solver.series_order
    assert isinstance(solver, dfx.AbstractERK)
    return _degree(solver)


def _degree(solver: dfx.AbstractERK) -> int:
    """Return a degree that holds the dense output of a Runge-Kutta method."""
    return max(solver.order(dfx.ODETerm(lambda t, y, args: y)) or 0, 4)


def evaluations(solver: dfx.AbstractSolver) -> int:
    """Return how many evaluations of the whole network one proposal costs."""
    tableau = getattr(solver, "tableau", None)
    return tableau.num_stages if isinstance(tableau, dfx.ButcherTableau) else 1


def propose(
    solver: dfx.AbstractSolver,
    field: FlowField,
    weights: Weights,
    frozen: Frozen,
    rtol: Float[Array, ""],
    correction: Float[Array, "order samples"],
) -> Proposal:
    """Propose one step from a state, in the unit of time of the frozen rates.

    `correction` is added to the outputs; a Runge-Kutta method does without.
    """
    if isinstance(solver, Taylor):
        proposal = _propose_series(solver, field, weights, frozen, rtol, correction)
    else:
        proposal = _propose_runge_kutta(solver, field, weights, frozen, rtol)
    # How long a step is changes nothing that is asked for: it has no derivative.
    lengths = lambda p: (p.length, p.trusted, p.unit_factor)
    return eqx.tree_at(lengths, proposal, jax.lax.stop_gradient(lengths(proposal)))


def _propose_series(solver: Taylor, field, weights, frozen, rtol, correction) -> Proposal:
    series = expand(field, weights, frozen, solver.series_order, correction)
    train_outer = field.frame.train_outer
    tolerance = local_tolerance(rtol)
    length = jnp.min(trusted_length(series.inner, series.outer, tolerance, train_outer))
    length = jnp.minimum(length, trusted_pull_length(series.pull, 0.1 * rtol))
    # In the unit in which coefficients neither fade nor grow, so that those of a pull are
    # numbers as long as the pull is one. Series that end reach anywhere and tell no unit.
    unit = length * tolerance ** (-1.0 / solver.series_order)
    # It matters only there: elsewhere the unit is the step's own length.
    tiny = jnp.max(jnp.abs(series.pull[0])) < jnp.finfo(length.dtype).tiny ** 0.75
    unit = jnp.where(jnp.isfinite(length), jnp.where(tiny, unit, length), 1.0)
    return Proposal(series, length, length, unit, jnp.array(True), jnp.array(False))


def local_tolerance(rtol: Float[Array, ""]) -> Float[Array, ""]:
    """Return the tolerance of the series that neurons follow within a step."""
    return jnp.maximum(_STEP_SHARE * rtol, jnp.finfo(rtol.dtype).eps)


def _propose_runge_kutta(solver, field: FlowField, weights, frozen, rtol) -> Proposal:
    terms, args = dfx.ODETerm(field), frozen
    zero, one = jnp.zeros((), rtol.dtype), jnp.ones((), rtol.dtype)
    state = solver.init(terms, zero, one, weights, args)
    _, error, dense, _, _ = solver.step(terms, zero, one, weights, args, state, True)
    interpolation = solver.interpolation_cls(t0=zero, t1=one, **dense)
    degree = _degree(solver)
    nodes, fit = _fit(degree, rtol.dtype)
    inner, outer = jax.vmap(interpolation.evaluate)(nodes)
    pull = jax.vmap(lambda w, v: field.frame.pull(field.outputs((w, v), frozen)))(inner, outer)
    start = field.frame.pull(field.outputs(weights, frozen))

    def series(samples, first):
        increments = jnp.tensordot(fit, samples - first[None], axes=1)
        return jnp.concatenate([first[None], increments])

    pull = series(pull, start)
    drive = jnp.einsum("jn,pn,nd->pjd", frozen.active, pull, field.frame.inputs)
    size = norm(weights[0])
    outer_size = jnp.abs(weights[1]) + size
    relative = norm(error[0]) / jnp.where(size > 0, size, 1.0)
    if field.frame.train_outer:
        growth = jnp.abs(error[1]) / jnp.where(outer_size > 0, outer_size, 1.0)
        relative = jnp.maximum(relative, growth)
    scaled = jnp.max(relative) / rtol
    accepted = scaled <= 1.0
    # Safety and least factor are those of Diffrax's `PIDController`, the largest that of Hairer,
    # Nørsett and Wanner (section II.4): an error that happens to vanish says little.
    factor = jnp.clip(0.9 * scaled ** (-1.0 / solver.order(terms)), 0.2, 5.0)
    factor = jnp.where(jnp.isfinite(scaled), factor, 0.2)
    return Proposal(
        Expansion(series(inner, weights[0]), series(outer, weights[1]), pull, drive),
        jnp.where(accepted, one, zero),
        one,
        factor,
        accepted,
        jnp.array(False),
    )


def stop_if_stationary(
    frame: Frame,
    proposal: Proposal,
    frozen: Frozen,
    pull_error: Float[Array, " samples"],
    unit_error: Float[Array, " samples"],
    rtol: Float[Array, ""],
) -> tuple[Proposal, Frozen]:
    """Stop a network that only errors drive: of rounding, or of steps.

    At a stationary point the active pulls cancel for every neuron (or are zero). What is
    left of them is compared with the error of the outputs, that of rounding or of steps,
    and with a tenth of the relative tolerance: after that, switches would be made of noise.

    Returns:
        The proposal and the rates, both without motion if the network is at rest.
    """
    pull = proposal.series.pull[0]
    rounding = eps(pull)
    share = jnp.maximum(REST * rounding, 0.1 * rtol)
    # What errors of steps leave of the outputs, in units of what rounding does to them.
    stepped = jnp.maximum(1.0, local_tolerance(rtol) / rounding)
    error = share * jnp.abs(pull) + pull_error + stepped * unit_error + smallest(pull)
    drive = project(proposal.series.drive[0], frozen, frame)
    driven = norm(drive) > frozen.active @ (error * frame.norms)
    resting = ~jnp.any(driven)

    def still(series):
        return series.at[1:].set(jnp.where(resting, 0.0, series[1:]))

    stopped = Proposal(
        jax.tree.map(still, proposal.series),
        proposal.length,
        proposal.trusted,
        jnp.where(resting, 1.0, proposal.unit_factor),
        proposal.accepted | resting,
        resting,
    )
    rates = lambda f: (f.inner_rate, f.outer_rate)
    moving = jnp.where(resting, 0.0, 1.0)
    return stopped, eqx.tree_at(rates, frozen, tuple(moving * rate for rate in rates(frozen)))


def _fit(degree: int, dtype) -> tuple[Array, Array]:
    """Return Chebyshev points on (0, 1] and the map from increments there to powers 1.. ."""
    angle = np.pi * np.arange(degree) / degree
    nodes = 0.5 * (1 + np.cos(angle))
    powers = nodes[:, None] ** np.arange(1, degree + 1)
    return jnp.asarray(nodes, dtype), jnp.asarray(np.linalg.inv(powers), dtype)

"""One step as the method takes it: the network expanded about the step's start."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..method.clock import Clock
from ..method.correction import correction_series
from ..method.field import Frozen, Weights
from ..method.proposal import (
    local_tolerance,
    propose,
    pull_noise,
    series_order,
    step_error,
    stop_if_stationary,
)
from ..method.radau import passed_on
from ..method.stiffness import StiffTrial
from ..step.step import Step
from ..surface.pulls import apart
from ..tolerances import JUDGED, LATE, ROUNDING, eps
from .context import Context
from .point import Point


def expand_step(
    context: Context,
    point: Point,
    start: Float[Array, ""],
    unit: Float[Array, ""],
    correction: Float[Array, "degrees samples"],
    length: Float[Array, ""],
    left: Float[Array, ""],
    trial: StiffTrial,
) -> Step:
    """Expand the network about a point; where it is stationary nothing moves.

    Args:
        context: The problem and tolerances.
        point: Where the step starts.
        start: When.
        unit: Unit of time of what follows.
        correction: What switches do to the outputs over a step of `length`.
        length: See `correction`.
        left: How far the step may go at most.
        trial: Which kind of step it is to be.
    """
    frozen = context.frozen(point, unit)
    weights = (point.neurons.inner, point.neurons.outer)
    solver = context.options.solver
    series = correction_series(correction, length, series_order(solver))
    outputs, frame = context.field.outputs(weights, frozen), context.frame
    curvature = frame.curvature(outputs)
    pull_error, unit_error = context.pull_error(weights, frozen, curvature)
    proposal = propose(
        solver, context.field, weights, frozen, context.rtol, series, trial, unit_error, curvature
    )
    size = jnp.abs(proposal.series.pull[0])
    inherited = _inherited(context, weights, frozen, curvature, size, pull_error, proposal.stiff)
    stepped = step_error(context.field, weights, frozen, curvature, size, unit_error, context.rtol)
    noise = pull_noise(pull_error, unit_error, context.rtol) + stepped
    proposal, frozen = stop_if_stationary(context.frame, proposal, frozen, noise, context.rtol)
    # The pulls of a collocation step are extrapolated from its nodes.
    rest, change = apart(frame, outputs + series[0])
    rest = jnp.where(proposal.stiff > 0, 0.0, rest)
    first = jnp.where(proposal.stiff > 0, proposal.series.pull[0], change)
    available = Clock(start, unit, proposal.warp).offset(left)
    return Step(
        series=proposal.series,
        rest=rest,
        change=proposal.series.pull.at[0].set(first),
        modes=point.modes,
        rates=frozen,
        curvature=curvature,
        pull_error=inherited,
        noise=noise,
        trusted=proposal.trusted,
        available=jnp.where(proposal.stationary, left, jnp.minimum(proposal.length, available)),
        unit_factor=proposal.unit_factor,
        accepted=proposal.accepted,
        stationary=proposal.stationary,
        stiff=proposal.stiff,
        warp=proposal.warp,
        sweeps=proposal.sweeps,
        start=start,
        unit=unit,
        tolerance=local_tolerance(context.rtol),
        lateness=LATE * context.rtol,
    )


def _inherited(
    context: Context,
    weights: Weights,
    frozen: Frozen,
    curvature: Float[Array, " samples"],
    size: Float[Array, " samples"],
    pull_error: Float[Array, " samples"],
    stiff: Float[Array, ""],
) -> Float[Array, "judged samples"]:
    """Return what errors of the pulls at a step's start do to their coefficients.

    The flow passes them on at its own rates: where these are fast, on the way to rest, the
    derivatives of a pull that is rounding are rounding too, though larger than it. So it does
    with the rounding of the pulls themselves, of a `size`: where pulls cancel in a drive, that
    is what drives. What damps errors is in the pulls of a collocation step, of length `stiff`
    above 0, at its nodes already.
    """
    error = pull_error + ROUNDING * eps(size) * size
    errors = [error]
    for m in range(1, JUDGED):
        moved = context.field.moved_by(weights, frozen, errors[-1])
        errors.append(curvature * moved / m)
    # The pull itself is measured anew: its own rounding is not inherited.
    rows = jnp.stack([pull_error, *errors[1:]])
    if context.can_be_stiff:
        # Here the pull at the start is extrapolated from the nodes, like its derivatives.
        length = jnp.where(stiff > 0, stiff, 1.0)
        at_nodes = passed_on(error, length, series_order(context.options.solver), JUDGED)
        rows = jnp.where(stiff > 0, at_nodes, rows)
    return rows

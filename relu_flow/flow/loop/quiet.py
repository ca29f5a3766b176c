"""Quiet steps in the loop: how far one goes, and what has been asked for within it."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..method.clock import Clock
from ..step.quiet import Quiet, quiet_length
from ..step.step import Step
from ..step.step_size import StepSize
from ..tolerances import eps
from .context import Context
from .milestones import Records, crossed
from .point import Point, quiet_point
from .state import State


def foresee(
    context: Context,
    state: State,
    step: Step,
    limits: Float[Array, "width constraints order"],
    size: StepSize,
) -> tuple[Quiet, Float[Array, ""]]:
    """Return where neurons go in constant pulls, and how long these are; 0 if they are not.

    A step that has been expanded before stays of its kind. A milestone is left to steps of
    another kind: a quiet one ends before it.
    """
    frame, neurons = context.frame, state.point.neurons
    quiet = Quiet.of(frame, step, neurons, context.rtol)
    most = (_last_stop(context, state) - state.t) / state.unit
    known = frame, step, limits, size, neurons, quiet, most, context.rtol
    # How long a step is has no derivative.
    length = quiet_length(*jax.lax.stop_gradient(known))
    length = jnp.where(state.attempt.expansions == 0, length, 0.0)
    if not context.options.milestones:
        return quiet, length
    return quiet, _before_milestones(context, state, step, quiet, length)


def _last_stop(context: Context, state: State) -> Float[Array, ""]:
    """Return beyond which time the step may not go: not beyond the last that is looked at."""
    stop = context.next_stop(state.records)
    if not context.num_looks:
        return stop
    return jnp.minimum(stop, state.records.next_times(context.ts, context.num_looks)[-1])


def _before_milestones(
    context: Context, state: State, step: Step, quiet: Quiet, length: Float[Array, ""]
) -> Float[Array, ""]:
    """Shorten a quiet step until it ends before all milestones, by no more than another step."""
    directions = context.directions

    def crosses(length):
        values = context.values(quiet_point(context.frame, state.point, quiet, length).neurons)
        return jnp.any(crossed(state.records, values, directions))

    def halve(bracket):
        low, high = bracket
        middle = 0.5 * (low + high)
        there = crosses(middle)
        return jnp.where(there, low, middle), jnp.where(there, middle, high)

    def shortened():
        # No finer than numbers of that size: there halving would go on for ever.
        finest = jnp.maximum(0.5 * step.available, 4 * eps(length) * length)
        wide = lambda bracket: bracket[1] - bracket[0] > finest
        low, _ = jax.lax.while_loop(wide, halve, (jnp.zeros_like(length), length))
        return jnp.where(low > step.available, low, 0.0)

    length = jax.lax.stop_gradient(length)
    return jax.lax.cond((length > 0) & crosses(length), shortened, lambda: length)


def quiet_records(
    context: Context, state: State, quiet: Quiet, length: Float[Array, ""]
) -> tuple[Float[Array, ""], Point, Records]:
    """Return when and where a quiet step ends, and the records then."""
    frame, stop = context.frame, _last_stop(context, state)
    at = lambda length: quiet_point(frame, state.point, quiet, length)
    end = Clock(state.t, state.unit, jnp.zeros_like(length)).end(length, stop)
    point, records = at(length), state.records
    if context.num_looks:
        times = records.next_times(context.ts, context.num_looks)
        offsets = jnp.minimum((times - state.t) / state.unit, length)
        seen = jax.vmap(lambda length: at(length).neurons)(offsets)
        records, _ = records.save_seen(context.ts, end, seen)
    values = context.values(point.neurons)
    return end, point, Records(records.saved, records.num_saved, values, records.time)

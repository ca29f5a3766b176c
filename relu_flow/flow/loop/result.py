"""From the last state of a solve to what the user gets: networks, switches, statistics."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._trees import choose
from ...model.switch import SwitchKind
from ..method.proposal import evaluations
from ..results import RESULTS
from ..trajectory import Crossing, SwitchLog, Trajectory
from .context import Context
from .dense import DenseOutput
from .state import State


def finish(context: Context, state: State, t0: Float[Array, ""]) -> Trajectory:
    """Turn the last state of a run into what the user gets."""
    unfinished = (state.t < context.end(state.records)) & (state.result == RESULTS.successful)
    too_many: RESULTS = RESULTS.max_steps_reached  # pyright: ignore[reportAssignmentType]
    result = RESULTS.where(unfinished, too_many, state.result)
    asked = context.ts.shape[0]
    if asked:
        # The last step may have gone on beyond the run's end.
        filled = jnp.arange(asked, dtype=jnp.int32) < state.records.num_saved
        filled = filled & (context.ts <= jnp.maximum(state.t, t0))
        ts = jnp.where(filled, context.ts, jnp.inf)
        first = jnp.searchsorted(context.ts, context.ts, side="left")
        saved = jax.tree.map(lambda rows: rows[first], state.records.saved)
        rows = choose(filled, saved, state.point.neurons)
    else:
        ts, rows = state.t[None], jax.tree.map(lambda x: x[None], state.point.neurons)
    switches, sides = state.log.sorted().after(t0, state.initial_sides)
    if not context.frame.train_outer:
        switches = switches.once(sides)
    times = state.records.time
    if context.options.until is not None:
        # The last step went on beyond the run's end.
        switches = switches.until(state.t)
        times = jnp.where(times <= state.t, times, jnp.inf)
    dense = None
    if state.history is not None:
        dense = DenseOutput(context, state.history, t0, state.t)
    crossings = {
        milestone.name: Crossing(times[k]) for k, milestone in enumerate(context.options.milestones)
    }
    return Trajectory(
        ts=ts,
        networks=jax.vmap(context.network)(rows),
        switches=switches,
        initial_sides=sides,
        milestones=crossings,
        result=result,
        stats=_statistics(context, state, switches),
        method=type(context.options.solver).__name__,
        _dense=dense,
    )


def _statistics(context: Context, state: State, switches: SwitchLog) -> dict[str, Array]:
    """Count what happened."""
    entered = switches.kind == int(SwitchKind.SLIDE_ENTER)
    later, earlier = switches.time[1:], switches.time[:-1]
    resolution = 4 * jnp.finfo(later.dtype).eps
    tied = jnp.isfinite(later) & (later - earlier <= resolution * jnp.abs(later))
    return {
        "steps": state.steps.steps,
        "stiff_steps": state.steps.stiff,
        "quiet_steps": state.steps.quiet,
        "truncated_steps": state.steps.truncated,
        "rejected_steps": state.steps.rejected,
        "unsettled_steps": state.steps.unconverged,
        "rounds": state.counts.rounds,
        "evaluations": state.steps.iterations * evaluations(context.options.solver)
        + state.steps.sweeps,
        "switches": switches.num,
        "slides": jnp.sum(entered, dtype=jnp.int32),
        "ties": jnp.sum(tied, dtype=jnp.int32),
        "repels": state.steps.repels,
        "vanished": state.counts.vanished,
        "grazes": state.counts.grazes,
        "settled": state.steps.stationary_since,
        "time": state.t,
    }

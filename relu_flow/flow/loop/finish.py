"""From a run that has ended to what the user gets: states, switches, dense output."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._types import FloatScalarLike, is_traced
from ...model.network import TwoLayerReLU
from ...model.switch import SwitchKind
from ..forward import forward_only
from ..method.proposal import evaluations
from ..surface.local import Counts, advance
from ..surface.step import may_switch, step_limits
from ..trajectory import RESULTS, Crossing, SwitchLog, Trajectory
from .run import Equation, History, Run


class DenseOutput(eqx.Module):
    """The flow at any time of a run: the step that holds it is taken again up to there."""

    equation: Equation
    history: History
    t0: Float[Array, ""]
    end: Float[Array, ""]

    def __call__(self, t: FloatScalarLike) -> TwoLayerReLU:
        """Return the network at `t`; `inf` in its place if that is unknown and outside the run."""
        t = jnp.asarray(t, self.end.dtype)
        outside = self._outside(t)
        if not is_traced(outside) and bool(outside):
            raise ValueError(
                f"Argument `t` must lie within the run, [{self.t0}, {self.end}], but it is {t}."
            )
        network = self._at(jnp.clip(t, self.t0, self.end))
        network = jax.tree.map(lambda leaf: jnp.where(outside, jnp.inf, leaf), network)
        return forward_only(network, "Trajectory.network_at")

    def _outside(self, t: Float[Array, ""]) -> Bool[Array, ""]:
        """Return whether a time is off the run by more than the rounding of grids of times."""
        slack = 64 * jnp.finfo(t.dtype).eps * jnp.maximum(jnp.abs(self.t0), jnp.abs(self.end))
        return ~((t >= self.t0 - slack) & (t <= self.end + slack))

    @eqx.filter_jit
    def _at(self, t: Float[Array, ""]) -> TwoLayerReLU:
        equation, history = self.equation, self.history
        slot = jnp.maximum(jnp.searchsorted(history.t, t, side="right") - 1, 0)
        state = history.state_at(slot, equation.frame)
        start, unit, length = history.t[slot], history.unit[slot], history.length[slot]
        _, step = equation.propose(start, unit, state, history.told[slot], length, length)
        limits = step_limits(equation.frame, step)
        offset = jnp.clip((t - start) / unit, 0.0, length)
        log = SwitchLog.empty(1, t.dtype)
        candidates = may_switch(limits, offset)
        frame, counts = equation.frame, Counts.zero()
        passage = advance(frame, step, limits, candidates, offset, log, counts, jnp.array(False))
        neurons = equation.tidy(passage, state.neurons).neurons
        return neurons.network(equation.problem, equation.start)


def finish(equation: Equation, run: Run, t0: Float[Array, ""]) -> Trajectory:
    """Turn a run that has ended into what the user gets."""
    unfinished = (run.t < equation.end(run.records)) & (run.result == RESULTS.successful)
    too_many: RESULTS = RESULTS.max_steps_reached  # pyright: ignore[reportAssignmentType]
    result = RESULTS.where(unfinished, too_many, run.result)
    network = lambda neurons: neurons.network(equation.problem, equation.start)
    asked = equation.ts.shape[0]
    if asked:
        filled = jnp.arange(asked, dtype=jnp.int32) < run.records.num_saved
        ts = jnp.where(filled, equation.ts, jnp.inf)
        first = jnp.searchsorted(equation.ts, equation.ts, side="left")

        def fill(rows, last):
            mask = filled.reshape(-1, *(1,) * (rows.ndim - 1))
            return jnp.where(mask, rows[first], last)

        rows = jax.tree.map(fill, run.records.saved, run.state.neurons)
    else:
        ts, rows = run.t[None], jax.tree.map(lambda x: x[None], run.state.neurons)
    switches, sides = run.log.sorted().after(t0, run.initial_sides)
    if not equation.frame.train_outer:
        switches = switches.once(sides)
    times = run.records.time
    if equation.options.until is not None:
        # The last step went on beyond the run's end.
        switches = switches.until(run.t)
        times = jnp.where(times <= run.t, times, jnp.inf)
    dense = None
    if run.history is not None:
        dense = DenseOutput(equation, run.history, t0, run.t)
    crossings = {
        milestone.name: Crossing(times[k])
        for k, milestone in enumerate(equation.options.milestones)
    }
    return Trajectory(
        ts=ts,
        networks=jax.vmap(network)(rows),
        switches=switches,
        initial_sides=sides,
        milestones=crossings,
        result=result,
        stats=_statistics(equation, run, switches),
        _dense=dense,
    )


def _statistics(equation: Equation, run: Run, switches: SwitchLog) -> dict[str, Array]:
    """Count what happened."""
    entered = switches.kind == int(SwitchKind.SLIDE_ENTER)
    later, earlier = switches.time[1:], switches.time[:-1]
    resolution = 4 * jnp.finfo(later.dtype).eps
    tied = jnp.isfinite(later) & (later - earlier <= resolution * jnp.abs(later))
    return {
        "steps": run.tally.steps,
        "truncated_steps": run.tally.truncated,
        "rejected_steps": run.tally.rejected,
        "unsettled_steps": run.tally.unsettled,
        "rounds": run.counts.rounds,
        "evaluations": run.tally.turns * evaluations(equation.options.solver),
        "switches": switches.num,
        "slides": jnp.sum(entered, dtype=jnp.int32),
        "ties": jnp.sum(tied, dtype=jnp.int32),
        "repels": run.tally.repels,
        "vanished": run.counts.vanished,
        "grazes": run.counts.grazes,
        "settled": run.tally.settled,
        "time": run.t,
    }

"""solve(): the gradient flow from switch to switch."""

from collections.abc import Callable, Sequence

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._types import FloatScalarLike, IntScalarLike
from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from .arguments import check_arguments, check_milestones, check_solver, positive, slots
from .field import FlowField
from .frame import Frame, Neurons
from .initial import initial_modes
from .local import Counts, advance
from .probe import LevelCrossing
from .proposal import evaluations
from .run import Equation, History, Options, Run, at_rest, begin, turn
from .step import step_limits
from .switching import SwitchKind
from .taylor import Taylor
from .trajectory import RESULTS, Crossing, SwitchLog, Trajectory


class DenseOutput(eqx.Module):
    """The flow at any time of a run: the step that holds it is taken again up to there."""

    equation: Equation
    history: History
    t0: Float[Array, ""]
    end: Float[Array, ""]

    @eqx.filter_jit
    def __call__(self, t: FloatScalarLike) -> TwoLayerReLU:
        """Return the network at `t`, a time between the run's start and its end."""
        equation, history = self.equation, self.history
        t = jnp.clip(jnp.asarray(t, self.end.dtype), self.t0, self.end)
        slot = jnp.maximum(jnp.searchsorted(history.t, t, side="right") - 1, 0)
        state = history.state_at(slot, equation.frame)
        start, unit, length = history.t[slot], history.unit[slot], history.length[slot]
        _, step = equation.propose(
            start, unit, state, at_rest(equation, state), history.told[slot], length, length
        )
        limits = step_limits(equation.frame, step)
        offset = jnp.clip((t - start) / unit, 0.0, length)
        log = SwitchLog.empty(1, t.dtype)
        passage = advance(
            equation.frame, step, limits, offset, log, Counts.zero(), jnp.array(False)
        )
        neurons = equation.tidy(passage, state.neurons).neurons
        return neurons.network(equation.problem, equation.start)


def _continue(equation: Equation, run: Run, more_steps: IntScalarLike) -> Run:
    """Take steps until the end, a failure, or so many steps."""
    limit = jnp.minimum(run.tally.steps + more_steps, equation.options.max_steps)

    def running(run: Run) -> Bool[Array, ""]:
        fine = run.result == RESULTS.successful
        return (run.t < equation.t1) & fine & (run.tally.steps < limit)

    return jax.lax.while_loop(running, lambda run: turn(equation, run), run)


def _finish(equation: Equation, run: Run, t0: Float[Array, ""]) -> Trajectory:
    """Turn a run that has ended into what the user gets."""
    unfinished = (run.t < equation.t1) & (run.result == RESULTS.successful)
    result = RESULTS.where(unfinished, RESULTS.max_steps_reached, run.result)
    network = lambda neurons: neurons.network(equation.problem, equation.start)
    asked = equation.ts.shape[0]
    if asked:
        filled = jnp.arange(asked) < run.records.num_saved
        ts = jnp.where(filled, equation.ts, jnp.inf)
        last = run.state.neurons
        rows = jax.tree.map(
            lambda rows, row: jnp.where(
                filled.reshape(-1, *(1,) * (rows.ndim - 1)), rows, row
            ),
            run.records.saved,
            last,
        )
    else:
        ts, rows = run.t[None], jax.tree.map(lambda x: x[None], run.state.neurons)
    switches = run.log.sorted()
    dense = None
    if run.history is not None:
        dense = DenseOutput(equation, run.history, t0, run.t)
    crossings = {
        milestone.name: Crossing(run.records.time[k])
        for k, milestone in enumerate(equation.options.milestones)
    }
    sides = initial_modes(
        equation.frame, Neurons.of(equation.problem, equation.start), equation.options.max_slides
    )[0].side
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
    entered = switches.kind == SwitchKind.SLIDE_ENTER
    later, earlier = switches.time[1:], switches.time[:-1]
    resolution = 4 * jnp.finfo(later.dtype).eps
    tied = jnp.isfinite(later) & (later - earlier <= resolution * jnp.abs(later))
    return {
        "steps": run.tally.steps,
        "truncated_steps": run.tally.truncated,
        "rejected_steps": run.tally.rejected,
        "rounds": run.counts.rounds,
        "evaluations": run.tally.turns * evaluations(equation.options.solver),
        "switches": switches.num,
        "slides": jnp.sum(entered, dtype=jnp.int32),
        "ties": jnp.sum(tied, dtype=jnp.int32),
        "repels": run.tally.repels,
        "grazes": run.counts.grazes,
        "settled": run.tally.settled,
    }


def _equation(problem, network, t1, ts, rtol, options) -> Equation:
    field = FlowField(Frame.of(problem))
    return Equation(problem, network, field, options, rtol, t1, ts)


def _solve_whole(problem, network, t0, t1, ts, rtol, options: Options) -> Trajectory:
    """Solve in one go, as one compiled program."""
    equation = _equation(problem, network, t1, ts, rtol, options)
    run = _continue(equation, begin(equation, t0), options.max_steps)
    return _finish(equation, run, t0)


_solve_compiled = eqx.filter_jit(_solve_whole)
_begin_compiled = eqx.filter_jit(
    lambda problem, network, t0, t1, ts, rtol, options: (
        (equation := _equation(problem, network, t1, ts, rtol, options)),
        begin(equation, t0),
    )
)
_continue_compiled = eqx.filter_jit(_continue)
_finish_compiled = eqx.filter_jit(_finish)


class Progress(eqx.Module):
    """How far a run has come.

    Attributes:
        t: Time reached.
        t1: Time of the end.
        steps: Steps taken.
        switches: Switches found.
        loss: Present loss.
    """

    t: float
    t1: float
    steps: int
    switches: int
    loss: float


_loss_compiled = eqx.filter_jit(
    lambda equation, neurons: equation.problem.loss_value(
        neurons.network(equation.problem, equation.start)
    )
)


def _solve_watched(problem, network, t0, t1, ts, rtol, options, progress, chunk=8):
    """Solve in chunks of steps, telling `progress` after each; the same numbers."""
    equation, run = _begin_compiled(problem, network, t0, t1, ts, rtol, options)
    while True:
        before = int(run.tally.steps)
        run = _continue_compiled(equation, run, jnp.asarray(chunk))
        progress(
            Progress(
                t=float(run.t),
                t1=float(t1),
                steps=int(run.tally.steps),
                switches=int(run.log.num),
                loss=float(_loss_compiled(equation, run.state.neurons)),
            )
        )
        if int(run.tally.steps) < before + chunk:
            return _finish_compiled(equation, run, t0)


def solve(
    problem: Problem,
    network: TwoLayerReLU,
    t1: FloatScalarLike,
    *,
    t0: FloatScalarLike = 0.0,
    ts: Float[Array, " times"] | Sequence[float] | None = None,
    rtol: FloatScalarLike = 1e-12,
    milestones: Sequence[LevelCrossing] = (),
    solver: dfx.AbstractSolver | None = None,
    dense: bool = False,
    max_steps: int = 16384,
    max_switches: int | None = None,
    max_slides: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    throw: bool = True,
) -> Trajectory:
    r"""Solve the gradient flow of a network, exactly through every change of its pattern.

    Between switches the pattern is frozen, so that the flow is smooth and steps are long.
    Every constraint that keeps the pattern valid is a polynomial over a step, and is
    searched in Bernstein form (`roots.py`): a polynomial whose Bernstein coefficients are
    non-negative has no root there, so **no switch can be missed**, be it two crossings of
    one hyperplane within a step; switches are located to rounding. At a hyperplane the
    neuron crosses, slides along it, or leaves it by Filippov's rule (`switching.py`).
    Switches that do not yet matter to other neurons cost no step of their own.

    Where solutions are not unique the choice is: a neuron on a repelling hyperplane stays
    there, its velocity being the smallest possible (counted in `stats["repels"]`); a neuron
    whose inner weights are zero rests for ever; a neuron whose inner weights *become* zero
    ends the run with `RESULTS.neuron_vanished`. Once a square loss is zero to rounding the
    network is left alone (`stats["settled"]`): after that there would be only noise.
    Inputs that share a hyperplane (parallel, opposite or repeated) switch together.

    Args:
        problem: What is minimised.
        network: Where from.
        t1: End, in units of gradient-flow time of the reduced loss.
        t0: Start.
        ts: Times at which the network is returned, ascending in [t0, t1]; the end alone
            if not given. Steps do not depend on it.
        rtol: Tolerance for each neuron relative to its own size, however small that is.
        milestones: Observables whose first crossing of a level is located by root finding
            on the flow itself (see `Milestone`). A crossing is seen by a change of sign
            between the ends of a step; a monotone observable is never missed.
        solver: `Taylor()` unless given; or an explicit Runge-Kutta method of Diffrax with
            dense output, such as `diffrax.Tsit5()` or `diffrax.Dopri8()`.
        dense: Keep what `Trajectory.network_at` needs: memory for `max_steps` states.
        max_steps: Most steps.
        max_switches: Slots for switches; `2 * width * samples + 1024` unless given.
        max_slides: Most hyperplanes a neuron may slide on at once; unless given 8, or the
            dimension of the inputs' span if that is smaller.
        progress: Called on the host every few steps; not under a transformation.
        throw: Raise if the run did not reach `t1`. Otherwise, and always under `jax.jit`
            and `jax.vmap`, the code is in `Trajectory.result`.

    Returns:
        The trajectory. Under `jax.vmap` all its arrays get the batch axes of the inputs.

    Raises:
        ValueError: If an argument is out of range; the message names it.
        RuntimeError: If `throw` and the run ended early; the message says what to try.
    """
    arguments = check_arguments(problem, network, t0, t1, ts, rtol)
    solver = Taylor() if solver is None else solver
    options = Options(
        solver=check_solver(solver),
        milestones=check_milestones(milestones),
        max_steps=positive("max_steps", max_steps),
        max_switches=(
            2 * network.width * problem.samples + 1024
            if max_switches is None
            else positive("max_switches", max_switches)
        ),
        max_slides=slots(problem, max_slides),
        dense=dense,
    )
    traced = any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(arguments))
    if traced:
        return _solve_whole(*arguments, options)
    if progress is None:
        trajectory = _solve_compiled(*arguments, options)
    else:
        trajectory = _solve_watched(*arguments, options, progress)
    if throw and trajectory.result != RESULTS.successful:
        reached = float(trajectory.ts[-1]) if ts is None else float("nan")
        raise RuntimeError(
            f"The run ended early ({int(trajectory.stats['steps'])} steps, "
            f"{int(trajectory.stats['switches'])} switches, last time {reached:g}): "
            f"{RESULTS[trajectory.result]} Pass `throw=False` to get what there is."
        )
    return trajectory

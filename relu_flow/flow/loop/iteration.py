"""The loop: one iteration, and iterations until the end.

An iteration expands the network about the start of the present step and takes the neurons
through it. A step takes one iteration if its switches are negligible; more until the pulls
know of what its switches do (`step/step_size.py`), and until they decide each for certain, in a
shorter step if they must (`step/influence.py`); and about three to find all milestones in it. So
everything is compiled once, and the loop is flat: under `vmap` no lane waits inside another's
step. Steps end at the times that were asked for.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._trees import choose
from ..._types import IntScalarLike
from ...model.switch import INACTIVE
from ..method.stiffness import Pace, StiffTrial
from ..results import RESULTS
from ..step.step import Step, step_limits
from ..step.step_size import StepSize, allowed_step_size
from ..step.zero import leave_zero, rest_until
from .context import Context
from .convergence import converge
from .crossing import Crossed, cross
from .expansion import expand_step
from .milestones import Records, StepInterval, begin_search, go_on_searching
from .point import Point, seen_neurons
from .quiet import Quiet, foresee, quiet_records
from .state import Attempt, State, StepCounts


def iterate(context: Context, state: State) -> State:
    """Take one iteration: expand the present step, cross it, and commit it once it is done."""
    state = set_out(context, state)
    step, limits, size = expand(context, state)
    pass_on = lambda: _pass_on(context, state, step, limits, size)
    if not context.can_be_quiet:
        return pass_on()
    quiet, length = foresee(context, state, step, limits, size)
    rest = lambda: wait_quietly(context, state, step, quiet, length)
    return jax.lax.cond(length > 0, rest, pass_on)


def _pass_on(context: Context, state: State, step: Step, limits, size: StepSize) -> State:
    """Cross the present step as it was expanded, and commit it once it is done."""
    crossed = cross(context, state, step, limits, size)
    attempt, given_up = converge(context, state.attempt, step, size, crossed)
    attempt, records, end = look_for_milestones(context, state, step, attempt, size, crossed)
    attempt, records = look_at_times(context, state, attempt, crossed, records, end)
    return commit(context, state, step, crossed, attempt, records, end, given_up)


def iterate_until(context: Context, state: State, more_steps: IntScalarLike) -> State:
    """Iterate until the end, a failure, or so many more steps."""
    limit = jnp.minimum(state.steps.steps + more_steps, context.options.max_steps)
    on = lambda state: going_on(context, state, limit)
    return jax.lax.while_loop(on, lambda state: iterate(context, state), state)


def going_on(context: Context, state: State, limit: IntScalarLike) -> Bool[Array, ""]:
    """Return whether to iterate again, with at most so many steps in all."""
    fine = state.result == RESULTS.successful
    return (state.t < context.end(state.records)) & fine & (state.steps.steps < limit)


def set_out(context: Context, state: State) -> State:
    """Let neurons that rest at zero and must leave it do so, at the start of a step."""
    frame, point = context.frame, state.point
    if not frame.patterns.shape[0]:
        return state
    frozen = context.frozen(point, state.unit)
    outputs = context.field.outputs((point.neurons.inner, point.neurons.outer), frozen)
    velocity = frozen.inner_rate * point.neurons.outer
    pull = frame.pull(outputs)
    modes, inner = leave_zero(frame, point.modes, point.neurons.inner, velocity, pull)
    neuron = jnp.arange(velocity.shape[0], dtype=jnp.int32)
    time = jnp.broadcast_to(state.t, neuron.shape)
    log = state.log.append(time, neuron, point.modes.side, modes.side, frame.counted[None])
    neurons = eqx.tree_at(lambda n: n.inner, point.neurons, inner)
    return eqx.tree_at(lambda s: (s.point, s.log), state, (Point(neurons, modes), log))


def expand(
    context: Context, state: State
) -> tuple[Step, Float[Array, "width constraints order"], StepSize]:
    """Expand the present step; return it, its constraints, and how far it goes."""
    attempt = state.attempt
    left = (context.next_stop(state.records) - state.t) / state.unit
    decided, failed = attempt.expansions > 0, attempt.tried
    trial = StiffTrial.of(state.pace, left, decided, failed, attempt.stiff, attempt.warp)
    step = expand_step(
        context, state.point, state.t, state.unit, attempt.correction, attempt.size.length, left,
        trial,
    )  # fmt: skip
    limits = step_limits(context.frame, step)

    def first_size() -> StepSize:
        # How long a step is has no derivative but that of the times it may end at.
        known = (context.frame, step, limits, context.rtol)
        size = allowed_step_size(*jax.lax.stop_gradient(known), context.can_correct)
        length = jnp.where(size.length < step.available, size.length, step.available)
        length = rest_until(context.frame, step, length)
        return eqx.tree_at(lambda s: s.length, size, length)

    return step, limits, jax.lax.cond(attempt.expansions == 0, first_size, lambda: attempt.size)


def look_for_milestones(
    context: Context, state: State, step: Step, attempt: Attempt, size: StepSize, crossed: Crossed
) -> tuple[Attempt, Records, Float[Array, ""]]:
    """Look for milestones; return the attempt, the records, and when the step ends."""
    options, stop = context.options, context.next_stop(state.records)
    end = step.clock.end(size.length, stop)
    if not options.milestones:
        return attempt, state.records, end
    interval = StepInterval(step.clock, size.length)

    def begin():
        values = context.values(crossed.point.neurons)
        search = begin_search(
            state.records, interval, values, context.directions, attempt.converged
        )
        return search, state.records

    def go_on():
        seen = seen_neurons(context.frame, crossed.arrival, state.point)
        values = context.values_seen(jax.tree.map(lambda rows: rows[context.num_looks :], seen))
        return go_on_searching(attempt.search, state.records, interval, values, options.until)

    search, records = jax.lax.cond(state.attempt.searching, go_on, begin)
    done = attempt.converged & ~search.under_way
    value = jnp.where(done, search.end_value, records.value)
    records = eqx.tree_at(lambda r: r.value, records, value)
    attempt = eqx.tree_at(lambda a: a.search, attempt, search)
    if options.until is not None:
        # The run ends within the step, where the milestone's crossing is just behind.
        last = choose(state.attempt.search.landing, crossed.point, attempt.end)
        attempt = eqx.tree_at(lambda a: a.end, attempt, last)
        end = jnp.minimum(end, context.end(records))
    return attempt, records, end


def look_at_times(
    context: Context,
    state: State,
    attempt: Attempt,
    crossed: Crossed,
    records: Records,
    end: Float[Array, ""],
) -> tuple[Attempt, Records]:
    """Write down the neurons at times asked for within the step; return attempt and records.

    There may be more than are looked at in one iteration: then the step is looked at again.
    """
    if not context.num_looks:
        return attempt, records
    now = attempt.converged & ~state.attempt.searching
    seen = seen_neurons(context.frame, crossed.arrival, state.point)
    seen = jax.tree.map(lambda rows: rows[: context.num_looks], seen)
    records, more = records.save_seen(context.ts, jnp.where(now, end, -jnp.inf), seen)
    return eqx.tree_at(lambda a: a.looking, attempt, more), records


def commit(
    context: Context,
    state: State,
    step: Step,
    crossed: Crossed,
    attempt: Attempt,
    records: Records,
    end: Float[Array, ""],
    given_up: Bool[Array, ""],
) -> State:
    """Keep what has been found, and go on to the next step if this one is done."""
    log, counts = crossed.arrival.log, crossed.arrival.counts
    # What was written in an expansion that did not converge is written over by the next.
    num = jnp.where(attempt.converged, log.num, state.log.num)
    steps = eqx.tree_at(
        lambda s: (s.iterations, s.sweeps, s.unconverged),
        state.steps,
        (
            state.steps.iterations + 1,
            state.steps.sweeps + step.sweeps,
            state.steps.unconverged + given_up.astype(jnp.int32),
        ),
    )
    state = eqx.tree_at(
        lambda s: (s.attempt, s.log, s.counts, s.steps, s.records),
        state,
        (
            attempt,
            eqx.tree_at(lambda log: log.num, log, num),
            choose(attempt.converged, counts, state.counts),
            steps,
            records,
        ),
    )
    done = attempt.converged & ~attempt.search.under_way & ~attempt.looking
    following = lambda state: _next_step(context, state, step, end)
    return jax.lax.cond(done, following, lambda state: state, state)


def wait_quietly(
    context: Context, state: State, step: Step, quiet: Quiet, length: Float[Array, ""]
) -> State:
    """Take a step in constant pulls, and go on to the next."""
    end, point, records = quiet_records(context, state, quiet, length)
    attempt = eqx.tree_at(
        lambda a: (a.size.length, a.end, a.correction),
        state.attempt,
        (length, point, jnp.zeros_like(state.attempt.correction)),
    )
    steps = eqx.tree_at(
        lambda s: (s.iterations, s.sweeps),
        state.steps,
        (state.steps.iterations + 1, state.steps.sweeps + step.sweeps),
    )
    where = lambda s: (s.attempt, s.records, s.steps)
    state = eqx.tree_at(where, state, (attempt, records, steps))
    return _next_step(context, state, step, end, quiet=True)


def _next_step(
    context: Context, state: State, step: Step, end: Float[Array, ""], quiet: bool = False
) -> State:
    """Go on to the next step."""
    attempt, steps = state.attempt, state.steps
    # In constant pulls nothing becomes faster or slower.
    unit = state.unit if quiet else step.next_unit(context.frame, attempt.size.length)
    stiff = jnp.zeros_like(step.stiff) if quiet else step.stiff
    since = jnp.minimum(steps.stationary_since, state.t)
    count = lambda yes: yes.astype(jnp.int32)
    following = StepCounts(
        steps.iterations,
        steps.steps + 1,
        steps.stiff + count(stiff > 0),
        steps.quiet + int(quiet),
        steps.sweeps,
        steps.truncated + count(attempt.size.length < step.available),
        steps.rejected + count(~step.accepted),
        steps.repels + _turned_repelling(context, state.point, attempt.end),
        steps.unconverged,
        jnp.where(step.stationary, since, steps.stationary_since),
    )
    history, records = state.history, state.records
    if history is not None:
        history = history.set(
            steps.steps,
            state.t,
            state.unit,
            state.point,
            attempt.correction,
            attempt.size.length,
            stiff,
            jnp.zeros_like(stiff) if quiet else step.warp,
            jnp.array(quiet),
        )
    if context.ts.shape[0] and not context.num_looks:
        records = records.save(context.ts, end, attempt.end.neurons)
    return State(
        t=end,
        unit=unit,
        pace=_next_pace(state, step, quiet),
        point=attempt.end,
        attempt=Attempt.new(attempt.end, len(context.options.milestones)),
        log=state.log,
        counts=state.counts,
        steps=following,
        records=records,
        result=_judge(context, state, step, end, unit),
        history=history,
        initial_sides=state.initial_sides,
    )


def _next_pace(state: State, step: Step, quiet: bool) -> Pace:
    """Return which kind of step comes next."""
    tried = state.attempt.tried | (step.sweeps > 0)
    if quiet:
        return state.pace.after_quiet(tried)
    # One that was rejected is followed by a shorter one of its kind.
    following = state.pace.after(step.stiff > 0, step.warp > 0, tried)
    return choose(step.accepted, following, state.pace)


def _judge(
    context: Context, state: State, step: Step, end: Float[Array, ""], unit: Float[Array, ""]
) -> RESULTS:
    """Return the code of the first thing that went wrong in a step, with the next one's unit."""
    # A rejected step may stay where it is; an accepted one has to move on.
    still = step.accepted & ~(end > state.t) & (end < context.end(state.records))
    tiny = unit < 4 * jnp.finfo(state.t.dtype).tiny
    neurons = state.attempt.end.neurons
    finite = jnp.all(jnp.isfinite(neurons.inner)) & jnp.all(jnp.isfinite(neurons.outer))
    failures = (
        (~finite, RESULTS.nonfinite),
        (still | tiny | ~jnp.isfinite(end), RESULTS.step_underflow),
        (state.counts.stuck, RESULTS.inconsistent_modes),
        (state.counts.overflow, RESULTS.max_slides_reached),
        (state.log.num > context.options.max_switches, RESULTS.max_switches_reached),
    )
    result = state.result
    for failed, code in reversed(failures):
        result = RESULTS.where(failed, code, result)  # pyright: ignore[reportArgumentType]
    return result


def _turned_repelling(context: Context, before: Point, after: Point) -> Int[Array, ""]:
    """Count the pairs at rest on a hyperplane that turned repelling during a step."""
    if context.frame.loss.binary:
        return jnp.zeros((), jnp.int32)
    repelling = lambda point: point.neurons.outer[:, None] * context.pull(point)[None] > 0
    pinned = (before.modes.height == 0) & (after.modes.height == 0) & context.frame.own[None]
    pinned = pinned & (before.modes.side == INACTIVE) & (after.modes.side == INACTIVE)
    return jnp.sum(pinned & ~repelling(before) & repelling(after), dtype=jnp.int32)

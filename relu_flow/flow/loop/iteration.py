"""The loop: one iteration, and iterations until the end.

An iteration expands the network about the start of the present step and takes the neurons
through it. A step takes one iteration if its switches are negligible; more until the pulls
know of what its switches do (`step_size.py`), and until they decide each for certain, in a
shorter step if they must (`influence.py`); and one for each look into it in search of a
milestone. So everything is compiled once, and the loop is flat: under `vmap` no lane waits
inside another's step. Steps end at the times that were asked for.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._trees import choose
from ..._types import IntScalarLike
from ...model.switch import INACTIVE
from ..method.stiffness import StiffTrial
from ..results import RESULTS
from ..surface.influence import Influence, influence, misleads, overlooks
from ..surface.neurons import Arrival, ConstrainedStep, pass_through
from ..surface.quiet import Quiet
from ..surface.step import Step, may_switch, step_limits
from ..surface.step_size import StepSize, allowed_step_size, same_correction
from ..surface.zero import leave_zero, rest_until
from ..tolerances import CUT, SHARP, SHORTEST, eps
from .context import Context, step_end
from .expansion import expand_step
from .milestones import Records, StepInterval, search_events
from .point import Point, point_at, seen_neurons
from .quiet import foresee, quiet_records
from .state import Attempt, State, StepCounts

# Expansions in which a step's corrections have to converge before it is halved, and how often it
# is halved before it is taken, and counted, as it is.
_EXPANSIONS, _HALVINGS = 5, 8


class Crossed(eqx.Module):
    """What came of taking the neurons through a step, or into it.

    Attributes:
        influence: What the switches do to the pulls beyond what these were told.
        arrival: Where the neurons are, and what happened on the way.
        point: The same, without what rounding did to them.
        overlooked: Whether that is more than was expected of their kinks.
    """

    influence: Influence
    arrival: Arrival
    point: Point
    overlooked: Bool[Array, ""]


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
    attempt, records, end = look_for_milestones(context, state, attempt, size, crossed)
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
    trial = StiffTrial.of(state.pace, left, attempt.expansions > 0, attempt.stiff)
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


def cross(
    context: Context,
    state: State,
    step: Step,
    limits: Float[Array, "width constraints order"],
    size: StepSize,
) -> Crossed:
    """Take the neurons through the step, or to where a milestone is searched in it."""
    frame, attempt = context.frame, state.attempt
    offset = jnp.where(attempt.searching, attempt.search.trial(), size.length)
    times = state.records.next_times(context.ts, context.num_looks)
    looks = (times - state.t) / state.unit
    looks = jnp.where(looks > size.length, size.length, looks)  # times of later steps
    candidates = may_switch(limits, offset)
    influenced = influence(frame, step, size, candidates, attempt.correction)
    constrained = ConstrainedStep(step, limits, influenced, size.corrects)
    arrival = pass_through(
        frame, constrained, candidates, offset, state.log, state.counts, ~attempt.converged, looks
    )
    look = lambda: overlooks(
        frame, step, size, influenced, candidates, arrival.weights, arrival.modes,
        attempt.correction, context.rtol,
    )  # fmt: skip
    # Most steps have no switch, and who looks into one that has converged asks no more.
    switching = jnp.any(candidates) & ~attempt.converged
    overlooked = jax.lax.cond(switching, look, lambda: jnp.array(False))
    return Crossed(influenced, arrival, point_at(frame, arrival, state.point.neurons), overlooked)


def converge(
    context: Context, attempt: Attempt, step: Step, size: StepSize, crossed: Crossed
) -> tuple[Attempt, Bool[Array, ""]]:
    """Decide whether the pulls know of what the switches do, and what to change if not.

    Returns:
        The attempt, and whether it was given up: taken as it is although it did not converge.
    """
    # Who looks into a step that has converged already changes nothing of it.
    arrival, again = crossed.arrival, attempt.converged
    expansions = attempt.expansions + (~again).astype(jnp.int32)
    exhausted = expansions >= _EXPANSIONS * _HALVINGS
    same = same_correction(arrival.correction, attempt.correction, size, context.rtol)
    apart = size.corrects & ~again & ~same
    undecided, before, alone = _undecided(context, step, size, crossed)
    # A step that ends right behind its first switch is better taken without a correction.
    drop = alone & undecided & crossed.influence.has_correction & ~again & ~exhausted
    hidden = crossed.overlooked & ~again & ~apart & ~drop
    undecided, early = undecided & ~again & ~apart & ~drop, undecided & apart
    given_up = (apart | undecided | hidden) & exhausted
    undecided, hidden = undecided & ~given_up, hidden & ~given_up
    # That costs least where the pulls can be corrected. It is tried once, in the first expansion
    # or after one that was cut: a correction that came out zero would be asked for again.
    tell = undecided & ~crossed.influence.has_correction & ~alone & (expansions <= 2)
    tell = tell | (hidden & ~size.corrects)
    tell = tell & jnp.array(context.can_correct) & (step.stiff == 0)
    cut = undecided & ~tell
    done = (~apart | given_up) & ~undecided & ~drop & ~hidden
    halved = apart & ~given_up & ~drop & (expansions % _EXPANSIONS == 0)
    halved = halved | (hidden & ~tell & ~cut)
    length = jnp.where(halved, 0.5 * size.length, size.length)
    # What does not converge is cut at once where it would be cut if it did.
    length = jnp.where(cut | (halved & early), jnp.minimum(before, length), length)
    # Of the first switch there was but a bound. With a correction it would come at another time,
    # since that spreads kinks to before them.
    first = jnp.maximum(size.kinks_from, (1 - CUT) * jnp.minimum(arrival.first_switch, size.length))
    first = jnp.where(again | crossed.influence.has_correction, size.kinks_from, first)
    # What a step of another length does is not known.
    found = jnp.where(halved | cut | drop, 0.0, arrival.correction)
    new = Attempt(
        expansions=expansions,
        correction=jnp.where(done, attempt.correction, found),
        size=eqx.tree_at(
            lambda s: (s.length, s.corrects, s.kinks_from),
            size,
            (length, (size.corrects | tell) & ~drop & ~(cut & alone), first),
        ),
        stiff=step.stiff,
        tried=attempt.tried | (step.sweeps > 0),
        converged=done,
        end=choose(again, attempt.end, crossed.point),
        looking=attempt.looking,
        search=attempt.search,
    )
    return new, given_up


def _undecided(context: Context, step: Step, size: StepSize, crossed: Crossed):
    """Return whether the step must be shorter for its pulls to decide its switches, and how short.

    Where kinks decide a switch, the step ends right behind the first, so that the next one
    knows of it; and a switch that is undecided even so is left to a step of its own. No switch
    is taken to come earlier than it did without a correction: a correction spreads a kink to
    before it, and so may move at once a preactivation that is smaller still. The bound was put
    short of the switch by `CUT`.

    Returns:
        Both, and whether the step ends right behind its first switch already: then it is taken
        without a correction, which tells when that comes, and ends as soon as that has come.
    """
    arrival, corrected = crossed.arrival, crossed.influence.has_correction
    begun = jnp.abs(step.start / step.unit)
    shortest = SHORTEST * eps(begun) * begun
    # Powers of a shorter one, up to that of a series' order, would not be numbers.
    least = jnp.maximum(shortest, SHARP * step.available)
    floor = jnp.maximum((1 + 3 * CUT) * size.kinks_from, CUT * step.available)
    behind = jnp.maximum((1 + CUT) * arrival.first_switch, floor)
    longer = size.length > (1 + CUT) * behind
    sharp = (1 + SHARP) * arrival.first_switch + shortest
    sharpens = ~longer & ~corrected & (arrival.first_switch > least)
    sharpens = sharpens & (size.length > (1 + SHARP) * sharp)
    drops = corrected & (size.kinks_from > least) & (size.length <= (1 + CUT) * floor)
    misled = misleads(
        context.frame, step, crossed.influence, arrival.modes, arrival.speed, arrival.slack,
        arrival.first_switch, size.length,
    )  # fmt: skip
    undecided = jnp.isfinite(arrival.decide_by) | (misled & (longer | sharpens | drops))
    before = jnp.where(sharpens, sharp, arrival.decide_by)
    return undecided, jnp.where(longer, behind, before), sharpens | drops


def look_for_milestones(
    context: Context, state: State, attempt: Attempt, size: StepSize, crossed: Crossed
) -> tuple[Attempt, Records, Float[Array, ""]]:
    """Look for milestones; return the attempt, the records, and when the step ends."""
    options, stop = context.options, context.next_stop(state.records)
    end = step_end(state.t, state.unit, size.length, stop)
    if not options.milestones:
        return attempt, state.records, end
    events, records, behind = search_events(
        attempt.search,
        state.records,
        StepInterval(state.t, state.unit, size.length),
        context.values(crossed.point.neurons),
        context.directions,
        searching=state.attempt.searching,
        converged=attempt.converged,
    )
    attempt = eqx.tree_at(lambda a: a.search, attempt, events)
    if options.until is not None:
        # The run ends within the step, at the end of the bracket that is behind the crossing.
        last = choose(behind == options.until, crossed.point, attempt.end)
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
    done = attempt.converged & ~attempt.search.open & ~attempt.looking
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
            jnp.array(quiet),
        )
    if context.ts.shape[0] and not context.num_looks:
        records = records.save(context.ts, end, attempt.end.neurons)
    return State(
        t=end,
        unit=unit,
        pace=state.pace if quiet else state.pace.after(stiff > 0, attempt.tried),
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

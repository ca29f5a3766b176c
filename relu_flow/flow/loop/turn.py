"""One turn of a run.

A turn expands the network about the start of the present step and takes the neurons
through it. A step takes one turn if its switches are quiet; more until the pulls know of
what its switches do (`truncation.py`); and one for each look into it in search of a
milestone. So everything is compiled once, and the loop is flat: under `vmap` no lane waits
inside another's step. Steps end at the times that were asked for.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from ..._types import IntScalarLike
from ...model.switch import INACTIVE
from ..method.taylor import Taylor
from ..surface.local import advance, misled
from ..surface.step import Step, may_switch, step_limits
from ..surface.truncation import Reach, agree, allowed_reach, drift
from ..surface.zero import leave_zero, rest_until
from ..tolerances import CUT
from ..trajectory import RESULTS
from .probe import State, Window, look_next
from .run import Equation, Plan, Run, Tally

# Expansions in which a step's switches have to agree with its pulls before it is halved, and
# how often it is halved before it is taken, and counted, as it is.
_SWEEPS, _HALVINGS = 5, 8


def turn(equation: Equation, run: Run) -> Run:
    """Take one turn: expand the present step, pass through it, and finish it if it is done."""
    run = _leave_zero(equation, run)
    plan, stop = run.plan, equation.next_stop(run)
    left = (stop - run.t) / run.unit
    told = jnp.where(plan.agreed, plan.told, plan.found)
    proposal, step = equation.propose(run.t, run.unit, run.state, told, plan.reach.length, left)
    limits = step_limits(equation.frame, step)
    reach = jax.lax.cond(
        plan.sweeps == 0, lambda: _reach(equation, step, limits), lambda: plan.reach
    )
    looking = plan.agreed
    offset = jnp.where(looking, plan.look.target, reach.length)
    candidates = may_switch(limits, offset)
    drifting, left_out = drift(equation.frame, step, reach, candidates, told)
    informed = jnp.any(told != 0)
    known = (reach.forced, informed, reach.first, reach.length, drifting, left_out)
    fields = lambda s: (s.forced, s.told, s.first, s.length, s.drift, s.left)
    step = eqx.tree_at(fields, step, known)
    passage = advance(
        equation.frame, step, limits, candidates, offset, run.log, run.counts, ~looking
    )
    state = equation.tidy(passage, run.state.neurons)

    known = agree(passage.moments, told, reach, equation.rtol)
    sweeps = plan.sweeps + (~looking).astype(jnp.int32)
    unsettled = reach.forced & ~looking & ~known
    given_up = unsettled & (sweeps >= _SWEEPS * _HALVINGS)
    # Where kinks decide a switch, the step ends right behind the first, so that the next one
    # knows of it; and a switch that is undecided even so is left to a step of its own.
    # Earlier than without being told is none: what a told kink spreads to before it moves
    # a preactivation that is smaller still. The bound was put short of the switch by `CUT`.
    behind = jnp.maximum((1 + CUT) * passage.first, (1 + 3 * CUT) * reach.first)
    behind = jnp.maximum(behind, CUT * step.horizon)
    longer = reach.length > (1 + CUT) * behind
    undecided = jnp.isfinite(passage.undecided)
    cut = undecided | (longer & misled(equation.frame, step, passage, reach.length))
    cut = cut & ~looking & ~unsettled & (sweeps < _SWEEPS * _HALVINGS)
    # That costs least where the pulls can be told.
    tell = cut & ~informed & (sweeps <= 2) & isinstance(equation.options.solver, Taylor)
    before = jnp.where(longer, behind, passage.undecided)
    agreed = (~unsettled | given_up) & ~cut
    halved = unsettled & ~given_up & (sweeps % _SWEEPS == 0)
    shorter = jnp.where(halved, 0.5 * reach.length, reach.length)
    shorter = jnp.where(cut & ~tell, jnp.minimum(before, reach.length), shorter)
    # Of the first switch there was but a bound.
    first = jnp.maximum(reach.first, (1 - CUT) * jnp.minimum(passage.first, reach.length))
    first = jnp.where(looking, reach.first, first)
    keep = lambda new, old: jax.tree.map(lambda a, b: jnp.where(looking, b, a), new, old)
    plan = Plan(
        sweeps=sweeps,
        told=told,
        found=keep(jnp.where(halved | (cut & ~tell), 0.0, passage.moments), plan.found),
        reach=eqx.tree_at(
            lambda r: (r.length, r.forced, r.first), reach, (shorter, reach.forced | tell, first)
        ),
        agreed=agreed,
        end=keep(state, plan.end),
        truncated=keep(reach.length < step.horizon, plan.truncated),
        next_unit=keep(proposal.next_unit, plan.next_unit),
        accepted=keep(proposal.accepted, plan.accepted),
        look=plan.look,
    )
    end = jnp.where(reach.length >= left, stop, run.t + run.unit * reach.length)
    records, done = run.records, agreed
    if equation.options.milestones:
        window = Window(run.t, run.unit, reach.length, end)
        look, records, last = look_next(
            equation, plan.look, records, window, state, looking, agreed
        )
        plan = eqx.tree_at(lambda p: p.look, plan, look)
        done = agreed & ~look.wanted
        if equation.options.until is not None:
            # The run ends within the step, at the end of the bracket that is behind the crossing.
            ended = jax.tree.map(lambda a, b: jnp.where(last, a, b), state, plan.end)
            plan = eqx.tree_at(lambda p: p.end, plan, ended)
            end = jnp.minimum(end, equation.end(records))
    # What was written in a sweep that did not agree is written over by the next.
    log = eqx.tree_at(
        lambda log: log.num, passage.log, jnp.where(agreed, passage.log.num, run.log.num)
    )
    counts = jax.tree.map(lambda a, b: jnp.where(agreed, a, b), passage.counts, run.counts)
    tally = eqx.tree_at(
        lambda tally: (tally.turns, tally.unsettled),
        run.tally,
        (run.tally.turns + 1, run.tally.unsettled + given_up.astype(jnp.int32)),
    )
    run = eqx.tree_at(
        lambda run: (run.plan, run.log, run.counts, run.tally, run.records),
        run,
        (plan, log, counts, tally, records),
    )
    following = lambda run: _next_step(equation, run, proposal.resting, end)
    return jax.lax.cond(done, following, lambda run: run, run)


def _reach(equation: Equation, step: Step, limits) -> Reach:
    """Return how far the step may go, which has no derivative but that of the times asked for."""
    can_force = isinstance(equation.options.solver, Taylor)
    known = (equation.field, step, limits, step.horizon, equation.rtol)
    reach = allowed_reach(*jax.lax.stop_gradient(known), can_force)
    length = jnp.where(reach.length < step.horizon, reach.length, step.horizon)
    length = rest_until(equation.frame, step, length)
    return eqx.tree_at(lambda r: r.length, reach, length)


def _leave_zero(equation: Equation, run: Run) -> Run:
    """Let neurons that rest at zero and must leave it do so, at the start of a step."""
    frame, state = equation.frame, run.state
    if not frame.patterns.shape[0]:
        return run
    frozen = equation.frozen(state, run.unit)
    outputs = equation.field.outputs((state.neurons.inner, state.neurons.outer), frozen)
    velocity = frozen.inner_rate * state.neurons.outer
    pull = frame.pull(outputs)
    modes, inner = leave_zero(frame, state.modes, state.neurons.inner, velocity, pull)
    neuron = jnp.arange(velocity.shape[0], dtype=jnp.int32)
    time = jnp.broadcast_to(run.t, neuron.shape)
    log = run.log.append(time, neuron, state.modes.side, modes.side, neuron >= 0)
    neurons = eqx.tree_at(lambda n: n.inner, state.neurons, inner)
    return eqx.tree_at(lambda r: (r.state, r.log), run, (State(neurons, modes), log))


def _next_step(equation: Equation, run: Run, resting, end) -> Run:
    """Go on to the next step."""
    plan, tally = run.plan, run.tally
    settled = jnp.where(resting, jnp.minimum(tally.settled, run.t), tally.settled)
    tally = Tally(
        tally.turns,
        tally.steps + 1,
        tally.truncated + plan.truncated.astype(jnp.int32),
        tally.rejected + (~plan.accepted).astype(jnp.int32),
        tally.repels + _turned_repelling(equation, run.state, plan.end),
        settled,
        tally.unsettled,
    )
    history = run.history
    if history is not None:
        history = history.set(run.tally.steps, run, plan)
    records = run.records
    if equation.ts.shape[0]:
        records = records.save(equation.ts, end, plan.end.neurons)
    return Run(
        t=end,
        unit=run.unit * plan.next_unit,
        state=plan.end,
        plan=Plan.new(plan.end, len(equation.options.milestones)),
        log=run.log,
        counts=run.counts,
        tally=tally,
        records=records,
        result=_judge(equation, run, end),
        history=history,
        initial_sides=run.initial_sides,
    )


def _judge(equation: Equation, run: Run, end) -> RESULTS:
    """Return the code of the first thing that went wrong in a step."""
    log, counts, plan = run.log, run.counts, run.plan
    # A rejected step may stay where it is; an accepted one has to move on.
    still = plan.accepted & ~(end > run.t) & (end < equation.end(run.records))
    tiny = run.unit * plan.next_unit < 4 * jnp.finfo(run.t.dtype).tiny
    failures = (
        (still | tiny | ~jnp.isfinite(end), RESULTS.step_underflow),
        (counts.stuck, RESULTS.inconsistent_modes),
        (counts.overflow, RESULTS.max_slides_reached),
        (log.num > equation.options.max_switches, RESULTS.max_switches_reached),
    )
    result = run.result
    for failed, code in reversed(failures):
        result = RESULTS.where(failed, code, result)
    return result


def _turned_repelling(equation: Equation, before: State, after: State) -> Int[Array, ""]:
    """Count the pairs at rest on a hyperplane that turned repelling during a step."""
    if equation.frame.loss.binary:
        return jnp.zeros((), jnp.int32)

    def repelling(state: State):
        frozen = equation.frozen(state, 1.0)
        weights = (state.neurons.inner, state.neurons.outer)
        pull = equation.frame.pull(equation.field.outputs(weights, frozen))
        return state.neurons.outer[:, None] * pull[None] > 0

    pinned = (before.modes.height == 0) & (after.modes.height == 0) & equation.frame.own[None]
    pinned = pinned & (before.modes.side == INACTIVE) & (after.modes.side == INACTIVE)
    return jnp.sum(pinned & ~repelling(before) & repelling(after), dtype=jnp.int32)


def proceed(equation: Equation, run: Run, more_steps: IntScalarLike) -> Run:
    """Take steps until the end, a failure, or so many steps."""
    limit = jnp.minimum(run.tally.steps + more_steps, equation.options.max_steps)
    on = lambda run: going_on(equation, run, limit)
    return jax.lax.while_loop(on, lambda run: turn(equation, run), run)


def going_on(equation: Equation, run: Run, limit: IntScalarLike) -> Bool[Array, ""]:
    """Return whether a run is to take another turn, with at most so many steps in all."""
    fine = run.result == RESULTS.successful
    return (run.t < equation.end(run.records)) & fine & (run.tally.steps < limit)

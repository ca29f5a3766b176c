"""Neurons taken through a step from switch to switch, the pulls being known.

Neurons feel each other only through the pulls, and `step_size.py` sees to it that a step's
pulls hold in spite of its switches. So the neurons that switch are taken through the step
again, each on its own clock, a fixed number of them at a time.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._norm import norm
from ..._series import evaluate, shift_matrix
from ..._trees import choose
from ...model.switch import ACTIVE
from ..method.correction import no_correction, projected_beyond
from ..method.field import Frozen, project
from ..method.frame import Frame
from ..method.taylor import expand_driven, trusted_length
from ..surface.constraints import Motion, constraints
from ..surface.filippov import Decision, resolve
from ..surface.modes import Modes, entry
from ..surface.pulls import Pulls
from ..surface.slides import dependent
from ..tolerances import AT_ZERO, BEHIND, GRAZING, VANISHED, eps
from ..trajectory import SwitchLog
from .influence import Influence, latest_decision
from .roots import FirstViolation, first_violation
from .step import Step, heights_at, scaled_bernstein, series_size, slacks_at, speeds_at
from .travellers import Arrival, ConstrainedStep, Counts, Travellers
from .zero import at_rest, must_leave, spanned, straight_on, vanishes

# How many neurons that switch are taken at a time. On a CPU a round takes about 0.16 ms, and 0.055
# ms for each of them (100 samples, 50 features), whether it switches or not; of wide networks it is
# a sixteenth: at width 1000 8 / 16 / 32 / 64 take 8.0 / 6.7 / 6.0 / 5.8 s for 51 000, and a
# round for a single one is still little beside an expansion of all neurons.
_AT_A_TIME, _SHARE = 8, 16
# After so many decisions at one instant any of the hyperplanes that are wrong is next, and no more
# the first: where four of rank two meet, that went round for ever.
_IN_ORDER = 16


class Meeting(eqx.Module):
    """Neurons at their next switch, or as far as their series or the step reach.

    Attributes:
        first: The first violation of each.
        switches: Whether there is one.
        moved: Time since they were expanded.
        clock: Time since the step's start.
        arrived: Whether they are at the end of the step.
        inner: Inner weights there.
        outer: Outer weights there.
        pulls: The pulls, expanded about that time.
    """

    first: FirstViolation
    switches: Bool[Array, " taken"]
    moved: Float[Array, " taken"]
    clock: Float[Array, " taken"]
    arrived: Bool[Array, " taken"]
    inner: Float[Array, "taken features"]
    outer: Float[Array, " taken"]
    pulls: Pulls


def pass_through(
    frame: Frame,
    constrained: ConstrainedStep,
    candidates: Bool[Array, "width constraints"],
    length: Float[Array, ""],
    log: SwitchLog,
    counts: Counts,
    record: Bool[Array, ""],
    looks: Float[Array, " looks"],
) -> Arrival:
    """Take all neurons from the start of a step to `length` after it.

    Args:
        frame: The problem.
        constrained: The step and its constraints.
        candidates: `may_switch(constrained.limits, length)`.
        length: How far to go, in the step's unit.
        log: Where switches are written.
        counts: Counters to go on from.
        record: Whether switches are written down and counted; otherwise only the weights
            at the end are wanted.
        looks: When to look at the weights on the way, in the step's unit.
    """
    step, limits = constrained.step, constrained.limits
    width, samples = step.series.outer.shape[1], frame.inputs.shape[0]
    state = Travellers(
        clock=jnp.zeros(width, length.dtype),
        trusted=jnp.broadcast_to(length, (width,)),
        inner=step.series.inner,
        outer=step.series.outer,
        limits=limits,
        modes=step.modes,
        logged=step.modes.side,
        tries=jnp.zeros(width, jnp.int32),
    )
    straight = _straight(frame, constrained, length, log, counts, looks)
    together = min(max(_AT_A_TIME, width // _SHARE), width)
    # Far beyond what a neuron can need, sixteen switches at each hyperplane and 256 more: only
    # inconsistent modes go round for ever, and end here, with a code.
    budget = (256 + 16 * samples) * (1 + width // together)

    def body(carry):
        state, pending, arrival, rounds = carry
        (chosen,) = jnp.nonzero(pending, size=together, fill_value=width)
        some, finished, arrival = _round(
            frame, constrained, length, chosen, state.take(chosen), arrival, record, looks
        )
        state = state.put(chosen, some)
        return state, pending.at[chosen].set(~finished, mode="drop"), arrival, rounds + 1

    pending = jnp.any(candidates, axis=1)
    carry = (state, pending, straight, jnp.zeros((), jnp.int32))
    running = lambda carry: jnp.any(carry[1]) & (carry[3] < budget)
    state, pending, arrival, rounds = jax.lax.while_loop(running, body, carry)
    counts = eqx.tree_at(
        lambda c: (c.rounds, c.stuck),
        arrival.counts,
        (arrival.counts.rounds + rounds, arrival.counts.stuck | jnp.any(pending)),
    )
    # Heights are known at the end, the rest of the modes from the last switch on.
    modes = eqx.tree_at(lambda m: m.height, state.modes, arrival.modes.height)
    return eqx.tree_at(lambda a: (a.modes, a.counts), arrival, (modes, counts))


def _straight(frame: Frame, constrained: ConstrainedStep, length, log, counts, looks) -> Arrival:
    """Return where neurons get without a switch: right for those that have none."""
    step, limits = constrained.step, constrained.limits
    inner, outer = step.series.inner, step.series.outer
    heights = heights_at(frame, step.modes, limits, length)
    everyone = jnp.broadcast_to(looks[:, None], (looks.shape[0], outer.shape[1]))
    return Arrival(
        weights=(evaluate(inner, length), evaluate(outer, length)),
        seen=_seen(inner, outer, everyone),
        modes=eqx.tree_at(lambda m: m.height, step.modes, heights),
        speed=speeds_at(frame, limits, length),
        slack=slacks_at(frame, limits, length),
        log=log,
        counts=counts,
        correction=no_correction(heights.shape[1], length.dtype),
        first_switch=jnp.full_like(length, jnp.inf),
        decide_by=jnp.full_like(length, jnp.inf),
    )


def _round(
    frame: Frame,
    constrained: ConstrainedStep,
    length,
    chosen,
    old: Travellers,
    arrival: Arrival,
    record,
    looks: Float[Array, " looks"],
):
    """Take some neurons to their next switch and expand them anew, or to the end."""
    step = constrained.step
    live = chosen < arrival.weights[1].shape[0]
    rates = jax.tree.map(lambda array: jnp.take(array, chosen, 0, mode="clip"), step.rates)
    meeting = _meet(step, length, live, old)
    change, modes = _switch(frame, constrained.influence, old, meeting)
    way = series_size(old.inner, meeting.moved)
    at_zero = vanishes(frame, old.modes, meeting.inner, way, change.independent)
    at_zero = meeting.switches & at_zero
    modes, inner = _through_zero(frame, old, meeting, modes, at_zero)
    by = latest_decision(
        frame, step, constrained.influence, old.modes, old.outer, rates.inner_rate,
        old.limit(meeting.first.index), meeting.first.index, meeting.moved, meeting.clock,
        change.unsure,
    )  # fmt: skip
    by = jnp.min(jnp.where(meeting.switches & ~at_zero, by, jnp.inf))
    new, finished, wrong = _expanded(frame, step, length, rates, meeting, modes, inner, old.tries)
    # A change of modes is final unless it is found wrong at the same instant.
    final = (finished | ~wrong) & live
    new = eqx.tree_at(lambda n: n.logged, new, jnp.where(final[:, None], modes.side, old.logged))
    time = step.clock.time(new.clock)
    kept = (final & record)[:, None] & frame.counted[None]
    log = arrival.log.append(time, chosen, old.logged, modes.side, kept)
    counted = _count(arrival.counts, meeting, change, live, at_zero)
    counts = choose(record, counted, arrival.counts)
    beyond = _beyond(frame, constrained, length, rates.amplitude, old, new, meeting.moved, live)

    left = length - new.clock
    ends = (evaluate(new.inner, left[:, None]), evaluate(new.outer, left))
    put = lambda all_of, some: all_of.at[chosen].set(some, mode="drop")
    heights = put(arrival.modes.height, heights_at(frame, modes, new.limits, left))
    switched = jnp.min(jnp.where(meeting.switches, new.clock, jnp.inf))
    arrival = Arrival(
        weights=jax.tree.map(put, arrival.weights, ends),
        seen=_seen_from(new, looks, chosen, arrival.seen),
        modes=eqx.tree_at(lambda m: m.height, arrival.modes, heights),
        speed=put(arrival.speed, speeds_at(frame, new.limits, left)),
        slack=put(arrival.slack, slacks_at(frame, new.limits, left)),
        log=log,
        counts=counts,
        correction=arrival.correction + beyond,
        first_switch=jnp.minimum(arrival.first_switch, switched),
        decide_by=jnp.minimum(arrival.decide_by, by),
    )
    return new, finished, arrival


def _meet(step: Step, length, live, old: Travellers) -> Meeting:
    """Find where each neuron's modes are wrong next, and take it there, or to the end."""
    ahead = jnp.minimum(old.trusted, length - old.clock)
    scaled, bernstein = scaled_bernstein(old.limits, ahead)
    first = jax.vmap(first_violation)(scaled, bernstein)
    any_wrong = _any_of(bernstein[..., 0] < 0, old.tries)
    index = jnp.where((first.time == 0) & (old.tries > _IN_ORDER), any_wrong, first.index)
    first = eqx.tree_at(lambda f: f.index, first, index)
    switches = jnp.isfinite(first.time) & live
    moved = jnp.where(switches, first.time, 1.0) * ahead
    inner, outer = evaluate(old.inner, moved[:, None]), evaluate(old.outer, moved)
    arrived = ~switches & (ahead >= length - old.clock)
    clock = jnp.where(arrived, length, old.clock + moved)
    return Meeting(first, switches, moved, clock, arrived, inner, outer, step.pulls_at(clock))


def _any_of(wrong: Bool[Array, "taken constraints"], tries: Int[Array, " taken"]):
    """Return for each neuron one of its constraints that are wrong, another each time."""
    order = jnp.cumsum(wrong, axis=1, dtype=jnp.int32)
    # Knuth's multiplicative hash: in turn they might go round as well.
    number = (tries.astype(jnp.uint32) * jnp.uint32(2654435761)) >> 16
    which = number.astype(jnp.int32) % jnp.maximum(order[:, -1], 1)
    return jnp.argmax(order > which[:, None], axis=1)


def _expanded(
    frame: Frame, step: Step, length, rates: Frozen, meeting: Meeting, modes, inner, tries
):
    """Expand neurons about where they are; tell who gets to the end, and whose modes are wrong."""
    rates = Frozen(
        rates.active, modes.slides, modes.dual, rates.amplitude, rates.inner_rate, rates.outer_rate
    )
    pull = meeting.pulls.total
    drive = ((modes.side == ACTIVE).astype(pull.dtype)[None] * pull) @ frame.inputs
    series = expand_driven((inner, meeting.outer), project(drive, rates, frame), rates)
    motion = Motion(meeting.pulls, series[1], rates.inner_rate, drive)
    limits = constraints(frame, modes, motion)
    trusted = trusted_length(*series, step.tolerance, frame.train_outer)
    left = length - meeting.clock
    _, bernstein = scaled_bernstein(limits, left)
    clear = ~jnp.any(bernstein < 0, axis=(1, 2)) & (trusted >= left)
    tries = jnp.where(meeting.switches & (meeting.moved == 0), tries + 1, 0)
    new = Travellers(meeting.clock, trusted, *series, limits, modes, modes.side, tries)
    return new, clear | meeting.arrived, jnp.any(bernstein[..., 0] < 0, axis=1)


def _seen(inner, outer, since: Float[Array, "looks width"]):
    """Return weights at several times since their expansion; `inf` stands for any time."""
    wanted = jnp.isfinite(since)
    at = lambda t: (evaluate(inner, t[:, None]), evaluate(outer, t))
    look = lambda: jax.vmap(at)(jnp.where(wanted, since, 0.0))
    here = jnp.broadcast_to(inner[0], (since.shape[0], *inner[0].shape))
    anywhere = lambda: (here, jnp.broadcast_to(outer[0], since.shape))
    return jax.lax.cond(jnp.any(wanted), look, anywhere) if since.shape[0] else anywhere()


def _seen_from(new: Travellers, looks: Float[Array, " looks"], chosen, seen):
    """Return what is seen of all neurons, that of some from their last switch on replaced."""
    if not looks.shape[0]:
        return seen
    since = looks[:, None] - new.clock[None]
    inner, outer = _seen(new.inner, new.outer, jnp.maximum(since, 0.0))
    rows = lambda array: jnp.take(array, chosen, axis=1, mode="clip")
    put = lambda array, some: array.at[:, chosen].set(some, mode="drop")
    return (
        put(seen[0], jnp.where((since >= 0)[..., None], inner, rows(seen[0]))),
        put(seen[1], jnp.where(since >= 0, outer, rows(seen[1]))),
    )


def _switch(frame: Frame, influence: Influence, old: Travellers, meeting: Meeting):
    """Apply the rule at the hyperplane to the neurons that switch."""
    index, moved, inner = meeting.first.index, meeting.moved, meeting.inner
    height = heights_at(frame, old.modes, old.limits, moved)
    # Who meets a hyperplane meets those that depend on it and on its slides at once.
    hits = meeting.switches & (index < height.shape[1])
    near = jnp.abs(height) <= VANISHED * eps(inner) * norm(inner)[:, None] * frame.norms[None]
    met = dependent(frame, old.modes, jnp.minimum(index, height.shape[1] - 1))
    height = jnp.where(hits[:, None] & near & met, 0.0, height)
    again = (moved == 0) & (entry(old.modes.height, index) == 0)
    modes = eqx.tree_at(lambda m: m.height, old.modes, height)
    outer = jnp.einsum("kml,lk->km", shift_matrix(moved, old.outer.shape[0]), old.outer)
    value = evaluate(old.limit(index), moved)
    drift = influence.drift_at(meeting.clock)
    nearest = eps(inner) * norm(inner)[:, None] * frame.norms[None]
    pulls = meeting.pulls

    def decide(modes, outer, change, doubt, *rest):
        return resolve(frame, modes, outer, Pulls(pulls.rest, change, doubt, pulls.reach), *rest)

    change = jax.vmap(decide, in_axes=(0, 0, 1, 1, 0, 0, 0, 0, 0))(
        modes, outer, pulls.change, pulls.doubt, drift, index, value, nearest, again
    )
    return change, choose(meeting.switches, change.modes, modes)


def _through_zero(frame: Frame, old: Travellers, meeting: Meeting, modes: Modes, at_zero):
    """Let those that have come to zero rest there, or go straight on."""
    inner = jnp.where(at_zero[:, None] & spanned(frame)[None], 0.0, meeting.inner)
    size = jnp.max(jnp.abs(old.modes.height) / frame.norms[None], axis=1)
    through = at_zero & ~frame.one_sided & (size > AT_ZERO)
    through = through & must_leave(frame, meeting.pulls.total[0], through)
    modes = at_rest(modes, at_zero & ~through)
    modes = straight_on(frame, modes, old.modes.height, through)
    return modes, jnp.where(through[:, None], inner - AT_ZERO * BEHIND * old.inner[0], inner)


def _count(counts: Counts, meeting: Meeting, change: Decision, live, at_zero) -> Counts:
    """Count what was met in a round."""
    grazing = meeting.switches & (change.transversality < GRAZING)
    touches = meeting.first.touches
    grazed = jnp.where(live, touches, 0) + grazing.astype(touches.dtype)
    return Counts(
        counts.rounds,
        counts.grazes + jnp.sum(grazed, dtype=jnp.int32),
        counts.overflow | jnp.any(change.overflow & meeting.switches),
        counts.stuck,
        counts.vanished + jnp.sum(at_zero, dtype=jnp.int32),
    )


def _beyond(
    frame: Frame,
    constrained: ConstrainedStep,
    length,
    amplitude,
    old: Travellers,
    new: Travellers,
    moved,
    live,
):
    """Project what those taken put out on their new course beyond what they did on the old."""
    amplitude = jnp.where(live, amplitude, 0.0)[:, None]

    def outputs(some: Travellers, offset: Float[Array, "taken nodes"]):
        inner = evaluate(some.inner[:, :, None, :], offset[..., None])
        outer = evaluate(some.outer[:, :, None], offset)
        active = (some.modes.side == ACTIVE).astype(offset.dtype)[:, None, :]
        return (amplitude * outer)[..., None] * (active * (inner @ frame.inputs.T))

    def difference(offset):
        return outputs(new, offset) - outputs(old, moved[:, None] + offset)

    def collect():
        return projected_beyond(new.clock, length, difference)

    nothing = no_correction(frame.inputs.shape[0], length.dtype)
    return jax.lax.cond(constrained.corrects, collect, lambda: nothing)

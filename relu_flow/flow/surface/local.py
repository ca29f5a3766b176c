"""Switches local to a neuron: through a step from switch to switch, the pulls being known.

Neurons feel each other only through the pulls, and `truncation.py` sees to it that a
step's pulls hold in spite of its switches. So the neurons that switch are taken through
the step again, each on its own clock, a fixed number of them at a time.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._series import evaluate, shift_matrix
from ...model.switch import ACTIVE, INACTIVE
from ..method.field import Frozen, Weights, project
from ..method.frame import Frame, norm
from ..method.taylor import expand_driven, trusted_length
from ..tolerances import AT_ZERO, BEHIND, CUT, DEPENDENT, GRAZING, VANISHED, eps
from ..trajectory import SwitchLog
from .constraints import Motion, constraints
from .filippov import Change, resolve
from .modes import Modes
from .roots import first_violation
from .step import Step, heights_at, scaled_bernstein, series_size, speeds_at
from .truncation import moments_beyond, no_moments
from .zero import must_leave

_LANES = 8


class Counts(eqx.Module):
    """What happened so far, counted.

    Attributes:
        rounds: Rounds of local work.
        grazes: Hyperplanes touched, or met at a normal speed below 1e-6 of the largest.
        overflow: Whether a neuron needed more slots for slides than there are.
        stuck: Whether some neuron's modes found no consistent assignment.
        vanished: Neurons whose inner weights reached zero.
    """

    rounds: Int[Array, ""]
    grazes: Int[Array, ""]
    overflow: Bool[Array, ""]
    stuck: Bool[Array, ""]
    vanished: Int[Array, ""]

    @classmethod
    def zero(cls) -> "Counts":
        """Return the counts before anything happened."""
        zero, no = jnp.zeros((), jnp.int32), jnp.array(False)
        return cls(zero, zero, no, no, zero)


class Passage(eqx.Module):
    """Where a passage through a step ends.

    Attributes:
        weights: Inner and outer weights at the end.
        modes: Modes at the end.
        speed: How fast preactivations move at the end.
        log: The switches.
        counts: The counts.
        moments: What the neurons put out beyond the step's frozen pattern, projected.
        first: When the first neuron switches; `inf` if none does.
        undecided: Before when the step has to end for a switch that its pulls do not decide;
            `inf` if there is none.
    """

    weights: Weights
    modes: Modes
    speed: Float[Array, "width samples"]
    log: SwitchLog
    counts: Counts
    moments: Float[Array, "moments samples"]
    first: Float[Array, ""]
    undecided: Float[Array, ""]


class _Lanes(eqx.Module):
    """Neurons on their way through a step; the axis `width` counts them.

    `clock` is the time since the step's start about which the series are expanded, `reach`
    how far they are trusted, `logged` the modes whose changes have been written down.
    """

    clock: Float[Array, " width"]
    reach: Float[Array, " width"]
    inner: Float[Array, "order width features"]
    outer: Float[Array, "order width"]
    limits: Float[Array, "width constraints order"]
    modes: Modes
    logged: Int[Array, "width samples"]

    def take(self, chosen: Int[Array, " lanes"]) -> "_Lanes":
        """Return some of the neurons."""
        rows = lambda array: jnp.take(array, chosen, axis=0, mode="clip")
        columns = lambda array: jnp.take(array, chosen, axis=1, mode="clip")
        return _Lanes(
            rows(self.clock), rows(self.reach), columns(self.inner), columns(self.outer),
            rows(self.limits), jax.tree.map(rows, self.modes), rows(self.logged),
        )  # fmt: skip

    def put(self, chosen: Int[Array, " lanes"], some: "_Lanes") -> "_Lanes":
        """Return all neurons, some of them replaced; an index of `width` puts nothing."""
        rows = lambda array, new: array.at[chosen].set(new, mode="drop")
        columns = lambda array, new: array.at[:, chosen].set(new, mode="drop")
        return _Lanes(
            rows(self.clock, some.clock), rows(self.reach, some.reach),
            columns(self.inner, some.inner), columns(self.outer, some.outer),
            rows(self.limits, some.limits), jax.tree.map(rows, self.modes, some.modes),
            rows(self.logged, some.logged),
        )  # fmt: skip


def advance(
    frame: Frame,
    step: Step,
    limits: Float[Array, "width constraints order"],
    candidates: Bool[Array, "width constraints"],
    length: Float[Array, ""],
    log: SwitchLog,
    counts: Counts,
    record: Bool[Array, ""],
) -> Passage:
    """Take all neurons from the start of a step to `length` after it.

    Args:
        frame: The problem.
        step: The step, its series about its start.
        limits: `step_limits(frame, step)`.
        candidates: `may_switch(limits, length)`.
        length: How far to go, in the step's unit.
        log: Where switches are written.
        counts: Counters to go on from.
        record: Whether switches are written down and counted; otherwise only the weights
            at the end are wanted.
    """
    width, samples = step.series.outer.shape[1], frame.inputs.shape[0]
    state = _Lanes(
        clock=jnp.zeros(width, length.dtype),
        reach=jnp.broadcast_to(length, (width,)),
        inner=step.series.inner,
        outer=step.series.outer,
        limits=limits,
        modes=step.modes,
        logged=step.modes.side,
    )
    heights = heights_at(frame, step.modes, limits, length)
    start = Passage(
        weights=(evaluate(step.series.inner, length), evaluate(step.series.outer, length)),
        modes=eqx.tree_at(lambda m: m.height, step.modes, heights),
        speed=speeds_at(frame, limits, length),
        log=log,
        counts=counts,
        moments=no_moments(samples, length.dtype),
        first=jnp.full_like(length, jnp.inf),
        undecided=jnp.full_like(length, jnp.inf),
    )
    lanes = min(_LANES, width)
    # Far beyond what a neuron can need: only inconsistent modes go round for ever.
    budget = (256 + 16 * samples) * (1 + width // lanes)

    def body(carry):
        state, pending, passage, rounds = carry
        (chosen,) = jnp.nonzero(pending, size=lanes, fill_value=width)
        some, finished, passage = _round(
            frame, step, length, chosen, state.take(chosen), passage, record
        )
        state = state.put(chosen, some)
        return state, pending.at[chosen].set(~finished, mode="drop"), passage, rounds + 1

    pending = jnp.any(candidates, axis=1)
    carry = (state, pending, start, jnp.zeros((), jnp.int32))
    running = lambda carry: jnp.any(carry[1]) & (carry[3] < budget)
    state, pending, passage, rounds = jax.lax.while_loop(running, body, carry)
    counts = eqx.tree_at(
        lambda c: (c.rounds, c.stuck),
        passage.counts,
        (passage.counts.rounds + rounds, passage.counts.stuck | jnp.any(pending)),
    )
    # Heights are known at the end, the rest of the modes from the last switch on.
    modes = eqx.tree_at(lambda m: m.height, state.modes, passage.modes.height)
    return eqx.tree_at(lambda p: (p.modes, p.counts), passage, (modes, counts))


def misled(frame: Frame, step: Step, passage: Passage, length: Float[Array, ""]) -> Bool[Array, ""]:
    """Return whether switches within the step move a later one by more than may be.

    A neuron that only small pulls drive, such as those of targets that are zero, takes its
    time from their digits, which the kinks of other neurons change at once, long before the
    neurons themselves feel it. Kinks begin with the first switch.
    """
    step = eqx.tree_at(lambda s: s.first, step, jnp.minimum(passage.first, length))
    turned = step.turn_at(length[None])
    active = (step.modes.side == ACTIVE) | (passage.modes.side == ACTIVE)
    speed = step.rates.inner_rate * series_size(step.series.outer[..., None], length)
    off = speed[:, None] * ((active.astype(turned.dtype) * turned) @ frame.overlap)
    height = passage.modes.height
    moved = passage.speed * (jnp.abs(step.start / step.unit) + length)
    wrong = off > step.lateness * jnp.maximum(jnp.abs(height), moved)
    return jnp.any(wrong & (height != 0) & frame.own[None])


def _round(frame: Frame, step: Step, length, chosen, old: _Lanes, passage: Passage, record):
    """Take some neurons to their next switch and expand them anew, or to the end."""
    live = chosen < passage.weights[1].shape[0]
    rates = jax.tree.map(lambda array: jnp.take(array, chosen, 0, mode="clip"), step.rates)

    # To the next switch, to the end, or as far as the series reach.
    ahead = jnp.minimum(old.reach, length - old.clock)
    first = jax.vmap(first_violation)(*scaled_bernstein(old.limits, ahead))
    switches = jnp.isfinite(first.time) & live
    moved = jnp.where(switches, first.time, 1.0) * ahead
    inner, outer = evaluate(old.inner, moved[:, None]), evaluate(old.outer, moved)
    arrived = ~switches & (ahead >= length - old.clock)
    clock = jnp.where(arrived, length, old.clock + moved)
    pull, doubt = step.pulls_at(clock)
    drift = step.drift_at(clock)
    change, modes = _switch(frame, old, switches, first.index, moved, inner, pull, doubt, drift)
    gone = switches & _vanishes(frame, old, change, inner, moved)
    inner = jnp.where(gone[:, None] & _spanned(frame)[None], 0.0, inner)
    size = jnp.max(jnp.abs(old.modes.height) / frame.norms[None], axis=1)
    through = gone & ~frame.one_sided & (size > AT_ZERO)
    through = through & must_leave(frame, pull[0], through)
    modes = _through_zero(frame, _resting(modes, gone & ~through), old, through)
    inner = jnp.where(through[:, None], inner - AT_ZERO * BEHIND * old.inner[0], inner)
    undecided = _undecided(
        frame, step, old, rates.inner_rate, first.index, moved, clock, drift, change
    )
    undecided = jnp.min(jnp.where(switches & ~gone, undecided, jnp.inf))
    rates = Frozen(
        rates.active, modes.slides, modes.dual, rates.amplitude, rates.inner_rate, rates.outer_rate
    )

    # On from there.
    drive = ((modes.side == ACTIVE).astype(pull.dtype)[None] * pull) @ frame.inputs
    series = expand_driven((inner, outer), project(drive, rates, frame), rates)
    limits = constraints(frame, modes, Motion(pull, doubt, series[1], rates.inner_rate, drive))
    reach = trusted_length(*series, step.tolerance, frame.train_outer)
    left = length - clock
    _, bernstein = scaled_bernstein(limits, left)
    clear = ~jnp.any(bernstein < 0, axis=(1, 2)) & (reach >= left)
    finished = clear | arrived

    # A change of modes is final unless it is found wrong at the same instant.
    final = (finished | ~jnp.any(bernstein[..., 0] < 0, axis=1)) & live
    logged = jnp.where(final[:, None], modes.side, old.logged)
    new = _Lanes(clock, reach, *series, limits, modes, logged)
    log, counts, moments = passage.log, passage.counts, passage.moments
    time = step.start + step.unit * clock
    log = log.append(time, chosen, old.logged, modes.side, final & record)
    found = _count(counts, first, change, switches, live, gone)
    counts = jax.tree.map(lambda new, kept: jnp.where(record, new, kept), found, counts)
    moments = moments + _moments(frame, step, length, rates.amplitude, old, new, moved, live)
    ends = (evaluate(series[0], left[:, None]), evaluate(series[1], left))
    put = lambda all_of, some: all_of.at[chosen].set(some, mode="drop")
    weights = jax.tree.map(put, passage.weights, ends)
    height = put(passage.modes.height, heights_at(frame, modes, limits, left))
    at_end = eqx.tree_at(lambda m: m.height, passage.modes, height)
    undecided = jnp.minimum(passage.undecided, undecided)
    switched = jnp.minimum(passage.first, jnp.min(jnp.where(switches, clock, jnp.inf)))
    speed = put(passage.speed, speeds_at(frame, limits, left))
    passage = Passage(weights, at_end, speed, log, counts, moments, switched, undecided)
    return new, finished, passage


def _vanishes(frame: Frame, old: _Lanes, change: Change, inner, moved) -> Bool[Array, " lanes"]:
    """Return whose inner weights are zero, within the span of the inputs.

    Who slides on all but one dimension and meets another hyperplane is at zero, whatever
    rounding says; and so is who comes from all sides at once, to the rounding of its way.
    On a line zero is a hyperplane like any other. A neuron at zero is on every hyperplane.
    """
    slides = jnp.sum(old.modes.slides < frame.norms.shape[0], axis=1, dtype=frame.rank.dtype)
    cornered = change.independent & (slides >= frame.rank - 1)
    size = VANISHED * eps(inner) * series_size(old.inner, moved)
    return (cornered | (jnp.linalg.norm(inner, axis=1) <= size)) & (frame.rank > 1)


def _through_zero(frame: Frame, modes: Modes, old: _Lanes, through) -> Modes:
    """Return the modes of neurons that go on straight through zero, by next to nothing.

    There, on the other side of all hyperplanes but those slid on, the ordinary rules tell
    where the flow leads. If it leads back to zero, zero is where the neuron stays.
    """
    height = -AT_ZERO * BEHIND * old.modes.height
    side = jnp.where(height > 0, ACTIVE, INACTIVE)[:, frame.representative]
    side = jnp.where(frame.factor > 0, side, 1 - side).astype(modes.side.dtype)
    there = Modes(
        side, height, jnp.full_like(modes.slides, height.shape[1]), jnp.zeros_like(modes.dual)
    )
    choose = lambda a, b: jnp.where(through.reshape(-1, *(1,) * (a.ndim - 1)), a, b)
    return jax.tree.map(choose, there, modes)


def _spanned(frame: Frame) -> Bool[Array, " features"]:
    """Return the coordinates in which inputs lie, if these are no more than their span."""
    there = jnp.any(frame.inputs != 0, axis=0)
    return there & (jnp.sum(there, dtype=frame.rank.dtype) == frame.rank)


def _switch(frame: Frame, old: _Lanes, switches, index, moved, inner, pull, doubt, drift):
    """Apply the rule at the hyperplane to the lanes that switch."""
    height = heights_at(frame, old.modes, old.limits, moved)
    # Who meets a hyperplane meets those that depend on it and on its slides at once.
    hits = switches & (index < height.shape[1])
    near = jnp.abs(height) <= VANISHED * eps(inner) * norm(inner)[:, None] * frame.norms[None]
    dependent = _dependent(frame, old.modes, jnp.minimum(index, height.shape[1] - 1))
    height = jnp.where(hits[:, None] & near & dependent, 0.0, height)
    again = (moved == 0) & (_entry(old.modes.height, index) == 0)
    modes = eqx.tree_at(lambda m: m.height, old.modes, height)
    outer = jnp.einsum("kml,lk->km", shift_matrix(moved, old.outer.shape[0]), old.outer)
    value = evaluate(_limit(old, index), moved)
    change = jax.vmap(resolve, in_axes=(None, 0, 0, 1, 1, 0, 0, 0, 0))(
        frame, modes, outer, pull, doubt, drift, index, value, again
    )

    def choose(new, kept):
        return jnp.where(switches.reshape(-1, *(1,) * (new.ndim - 1)), new, kept)

    return change, jax.tree.map(choose, change.modes, modes)


def _undecided(frame: Frame, step: Step, old: _Lanes, rate, index, moved, clock, drift, change):
    """Return before when the step has to end if its pulls do not decide a switch, else `inf`.

    They do not if what other neurons' switches may have done to the pulls could change which
    way it goes, or when, by more than `LATE` allows (see `tolerances.py`).
    """
    samples, slots = frame.norms.shape[0], old.modes.slides.shape[1]
    begun = jnp.abs(step.start / step.unit)
    pulled = (old.modes.side == ACTIVE).astype(drift.dtype) * drift
    row = frame.overlap[jnp.minimum(index, samples - 1)]
    turned = jnp.sum(
        (old.modes.side == ACTIVE).astype(row.dtype) * step.turn_at(clock) * row, axis=1
    )
    off = rate * series_size(old.outer[..., None], moved) * turned
    if slots:
        slot = jnp.maximum(index - samples, 0) % slots
        dual = jnp.take_along_axis(old.modes.dual, slot[:, None, None], axis=1)[:, 0]
        slid = jnp.take_along_axis(old.modes.slides, slot[:, None], axis=1)[:, 0]
        together = jnp.add(*frame.group_pulls(drift))
        weight_off = norm(dual) * (pulled @ frame.norms) + _entry(together, slid)
        off = jnp.where(index < samples, off, weight_off)
    limit = _limit(old, index)
    order = jnp.arange(1.0, limit.shape[0], dtype=limit.dtype)[:, None]
    slope = jnp.abs(evaluate(limit[1:] * order, moved))
    # What is violated by more, by a switch of this neuron's own that changed it, is violated then.
    off = jnp.where(evaluate(limit, moved) < -off, 0.0, off)
    late = off / jnp.where(slope > 0, slope, jnp.inf)
    unsure = change.unsure | (late > step.lateness * (begun + clock))
    # A step that ends any sooner would not get on.
    unsure = unsure & (clock > 64 * eps(clock) * begun)
    cut = jnp.maximum((1 - CUT) * clock - 2 * late, 0.5 * clock)
    return jnp.where(unsure, cut, jnp.inf)


def _dependent(frame: Frame, modes: Modes, r: Int[Array, " lanes"]) -> Bool[Array, "lanes samples"]:
    """Return the inputs in the span of input `r` and of those slid on."""
    size = frame.norms[None] ** 2
    square, product = jnp.broadcast_to(size, modes.side.shape), frame.gram[r]
    if modes.slides.shape[1]:
        rows = frame.gram.at[modes.slides].get(mode="fill", fill_value=0.0)
        share = modes.dual @ frame.inputs.T
        square = square - jnp.sum(share * rows, axis=1)
        at_r = jnp.take_along_axis(share, r[:, None, None], axis=2)
        product = product - jnp.sum(at_r * rows, axis=1)
    free = square > DEPENDENT * eps(square) * size
    left = _entry(jnp.where(free, square, jnp.inf), r)[:, None]
    return square - product * (product / left) <= DEPENDENT * eps(square) * size


def _limit(old: _Lanes, index: Int[Array, " lanes"]) -> Float[Array, "order lanes"]:
    """Return one constraint a lane."""
    return jnp.take_along_axis(old.limits, index[:, None, None], axis=1)[:, 0].T


def _entry(height: Float[Array, "lanes samples"], index: Int[Array, " lanes"]):
    """Return one entry a row, the last if there are not as many."""
    column = jnp.minimum(index, height.shape[1] - 1)[:, None]
    return jnp.take_along_axis(height, column, axis=1)[:, 0]


def _resting(modes: Modes, gone) -> Modes:
    """Return the modes with the neurons that are gone on no side and no slide."""
    row = gone[:, None]
    return Modes(
        jnp.where(row, INACTIVE, modes.side).astype(modes.side.dtype),
        jnp.where(row, 0.0, modes.height),
        jnp.where(row, modes.side.shape[1], modes.slides),
        jnp.where(row[..., None], 0.0, modes.dual),
    )


def _count(counts: Counts, first, change, switches, live, gone) -> Counts:
    """Count what was met in a round."""
    grazing = switches & (change.transversality < GRAZING)
    grazed = jnp.where(live, first.touches, 0) + grazing.astype(first.touches.dtype)
    return Counts(
        counts.rounds,
        counts.grazes + jnp.sum(grazed, dtype=jnp.int32),
        counts.overflow | jnp.any(change.overflow & switches),
        counts.stuck,
        counts.vanished + jnp.sum(gone, dtype=jnp.int32),
    )


def _moments(frame: Frame, step: Step, length, amplitude, old: _Lanes, new: _Lanes, moved, live):
    """Project what the lanes put out on their new course beyond what they did on the old."""
    amplitude = jnp.where(live, amplitude, 0.0)[:, None]

    def outputs(lanes: _Lanes, offset: Float[Array, "lanes nodes"]):
        inner = evaluate(lanes.inner[:, :, None, :], offset[..., None])
        outer = evaluate(lanes.outer[:, :, None], offset)
        active = (lanes.modes.side == ACTIVE).astype(offset.dtype)[:, None, :]
        return (amplitude * outer)[..., None] * (active * (inner @ frame.inputs.T))

    def difference(offset):
        return outputs(new, offset) - outputs(old, moved[:, None] + offset)

    def collect():
        return moments_beyond(new.clock, length, difference)

    nothing = no_moments(frame.inputs.shape[0], length.dtype)
    return jax.lax.cond(step.forced, collect, lambda: nothing)

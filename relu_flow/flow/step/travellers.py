"""Neurons on their way through a step: each on its own clock, from one switch to the next."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._series import evaluate
from ...model.switch import ACTIVE
from ..method.field import Frozen, project
from ..method.frame import Frame
from ..method.taylor import expand_driven, trusted_length
from ..surface.constraints import Motion, constraints
from ..surface.modes import Modes
from ..surface.pulls import Pulls
from .roots import FirstViolation, first_violation
from .step import Step, scaled_bernstein

# After so many decisions at one instant any of the hyperplanes that are wrong is next, and no more
# the first: where four of rank two meet, that went round for ever.
_IN_ORDER = 16


class Travellers(eqx.Module):
    """Neurons on their way through a step; the axis `width` counts them.

    `clock` is the time since the step's start about which the series are expanded, `trusted`
    how far they are, `logged` the modes whose changes have been written down, `tries` how often
    a neuron has been decided about at this very instant.
    """

    clock: Float[Array, " width"]
    trusted: Float[Array, " width"]
    inner: Float[Array, "order width features"]
    outer: Float[Array, "order width"]
    limits: Float[Array, "width constraints order"]
    modes: Modes
    logged: Int[Array, "width samples"]
    tries: Int[Array, " width"]

    def take(self, chosen: Int[Array, " taken"]) -> "Travellers":
        """Return some of the neurons."""
        rows = lambda array: jnp.take(array, chosen, axis=0, mode="clip")
        columns = lambda array: jnp.take(array, chosen, axis=1, mode="clip")
        return Travellers(
            rows(self.clock), rows(self.trusted), columns(self.inner), columns(self.outer),
            rows(self.limits), jax.tree.map(rows, self.modes), rows(self.logged), rows(self.tries),
        )  # fmt: skip

    def put(self, chosen: Int[Array, " taken"], some: "Travellers") -> "Travellers":
        """Return all neurons, some of them replaced; an index of `width` puts nothing."""
        rows = lambda array, new: array.at[chosen].set(new, mode="drop")
        columns = lambda array, new: array.at[:, chosen].set(new, mode="drop")
        return Travellers(
            rows(self.clock, some.clock), rows(self.trusted, some.trusted),
            columns(self.inner, some.inner), columns(self.outer, some.outer),
            rows(self.limits, some.limits), jax.tree.map(rows, self.modes, some.modes),
            rows(self.logged, some.logged), rows(self.tries, some.tries),
        )  # fmt: skip

    def limit(self, index: Int[Array, " width"]) -> Float[Array, "order width"]:
        """Return one constraint of each."""
        return jnp.take_along_axis(self.limits, index[:, None, None], axis=1)[:, 0].T


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


def meet(step: Step, length, live, old: Travellers) -> Meeting:
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


def expanded(
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

"""Milestones: the search within a step for the times at which observables cross their levels.

A crossing is seen at the step's ends. It is located by looking at the neurons at several times
within the step, taken with its pulls, for all milestones at once: of what is seen there the
nearest change of sign brackets the crossing anew, and interpolation says where to look next.
Steps do not depend on it.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._trees import choose
from ..method.clock import Clock
from ..method.frame import Neurons

# Looks at one milestone in one iteration. Two are put beside where it is expected, and the others
# divide the bracket evenly: nobody waits for longer than an observable that jumps does.
_LOOKS = 6
_EVENLY = _LOOKS - 2
# How many of what is known about it are interpolated. With six instead of four a smooth observable
# takes three rounds instead of four.
_POINTS = 6
# By then the even looks alone have narrowed the bracket below the rounding of a step's length.
_MAX_ROUNDS = 32


class Records(eqx.Module):
    """What has been asked for and found so far.

    Attributes:
        saved: Neurons at the times asked for.
        num_saved: How many of these times have passed.
        value: Last value of each milestone's observable minus its level.
        time: When each milestone was reached; `inf` if not yet.
    """

    saved: Neurons
    num_saved: Int[Array, ""]
    value: Float[Array, " milestones"]
    time: Float[Array, " milestones"]

    def save(self, ts: Float[Array, " times"], t: Float[Array, ""], neurons: Neurons) -> "Records":
        """Write the neurons down if `t` is the next of the times asked for.

        Of equal times the first row is written; the others are filled in at the end.
        """
        passed = jnp.searchsorted(ts, t, side="right").astype(self.num_saved.dtype)
        slot = jnp.where(passed > self.num_saved, self.num_saved, ts.shape[0])
        put = lambda rows, row: rows.at[slot].set(row, mode="drop")
        saved = jax.tree.map(put, self.saved, neurons)
        return Records(saved, passed, self.value, self.time)

    def next_times(self, ts: Float[Array, " times"], count: int) -> Float[Array, " count"]:
        """Return the next of the times asked for, `inf` beyond the last."""
        index = self.num_saved + jnp.arange(count, dtype=self.num_saved.dtype)
        return ts.at[index].get(mode="fill", fill_value=jnp.inf)

    def save_seen(
        self, ts: Float[Array, " times"], last: Float[Array, ""], seen: Neurons
    ) -> tuple["Records", Bool[Array, ""]]:
        """Write down neurons at the next of the times asked for, as far as these are in a step.

        Args:
            ts: The times asked for.
            last: The end of the step.
            seen: Neurons at `next_times`.

        Returns:
            The records, and whether there are more times in the step.
        """
        count = seen.exponent.shape[0]
        here = self.next_times(ts, count) <= last
        index = self.num_saved + jnp.arange(count, dtype=self.num_saved.dtype)
        slot = jnp.where(here, index, ts.shape[0])
        put = lambda rows, new: rows.at[slot].set(new, mode="drop")
        saved = jax.tree.map(put, self.saved, seen)
        num = self.num_saved + jnp.sum(here, dtype=self.num_saved.dtype)
        records = Records(saved, num, self.value, self.time)
        return records, records.next_times(ts, 1)[0] <= last


class StepInterval(eqx.Module):
    """One step seen from outside: what time it is within it, and how far it goes."""

    clock: Clock
    length: Float[Array, ""]

    def finest(self, offset: Float[Array, " milestones"]) -> Float[Array, " milestones"]:
        """Return how finely times at such an offset from the step's start are told apart."""
        clock, resolution = self.clock, 4 * jnp.finfo(self.length.dtype).eps
        begun = jnp.abs(clock.start) / clock.unit
        return resolution * (begun + clock.elapsed(offset)) / clock.pace(offset)


class EventSearch(eqx.Module):
    """The search for milestones within a step: a bracket of each, and where it is expected.

    Offsets are from the step's start, in its unit.

    Attributes:
        open: Which milestones are looked for.
        low: Before the crossing.
        high: Behind it.
        low_value: Observable minus level at `low`.
        high_value: The same at `high`.
        guess: Where the crossing is expected.
        doubt: By how much that may be off.
        rounds: How often was looked.
        end_value: Observables minus levels at the step's end.
        landing: Whether all are found, and the next iteration goes to where the run ends.
    """

    open: Bool[Array, " milestones"]
    low: Float[Array, " milestones"]
    high: Float[Array, " milestones"]
    low_value: Float[Array, " milestones"]
    high_value: Float[Array, " milestones"]
    guess: Float[Array, " milestones"]
    doubt: Float[Array, " milestones"]
    rounds: Int[Array, ""]
    end_value: Float[Array, " milestones"]
    landing: Bool[Array, ""]

    @classmethod
    def none(cls, milestones: int, dtype) -> "EventSearch":
        """Return a search for nothing."""
        zero, no = jnp.zeros(milestones, dtype), jnp.zeros(milestones, bool)
        rounds = jnp.zeros((), jnp.int32)
        return cls(no, zero, zero, zero, zero, zero, zero, rounds, zero, jnp.array(False))

    @classmethod
    def between_ends(
        cls, crossed: Bool[Array, " milestones"], low_value, high_value, interval: StepInterval
    ) -> "EventSearch":
        """Return the search for what is crossed between the ends of a step."""
        low = jnp.zeros_like(low_value)
        high = jnp.broadcast_to(interval.length, low.shape)
        guess, doubt = _secant(low, high, low_value, high_value)
        rounds, no = jnp.zeros((), jnp.int32), jnp.array(False)
        return cls(crossed, low, high, low_value, high_value, guess, doubt, rounds, high_value, no)

    @property
    def under_way(self) -> Bool[Array, ""]:
        """Whether the step has to be looked into again."""
        return jnp.any(self.open) | self.landing

    def trials(self) -> Float[Array, "milestones looks"]:
        """Return when to look next, in order."""
        even = jnp.arange(1.0, _EVENLY + 1, dtype=self.low.dtype) / (_EVENLY + 1)
        spread = self.low[:, None] + (self.high - self.low)[:, None] * even[None]
        about = jnp.stack([self.guess - self.doubt, self.guess + self.doubt], axis=1)
        about = jnp.clip(about, self.low[:, None], self.high[:, None])
        return jnp.sort(jnp.concatenate([spread, about], axis=1), axis=1)


def begin_search(
    records: Records,
    interval: StepInterval,
    end_value: Float[Array, " milestones"],
    directions: Int[Array, " milestones"],
    converged: Bool[Array, ""],
) -> EventSearch:
    """Return the search for what is crossed within a step, if it is as it will stay."""
    crosses = crossed(records, end_value, directions) & converged
    return EventSearch.between_ends(crosses, records.value, end_value, interval)


def go_on_searching(
    search: EventSearch,
    records: Records,
    interval: StepInterval,
    values: Float[Array, "milestones looks"],
    until: int | None,
) -> tuple[EventSearch, Records]:
    """Use what observables are at `search.trials()`, and decide where to look next.

    Args:
        search: The search so far.
        records: The records so far.
        interval: The step.
        values: Observables minus levels there.
        until: The milestone at which the run ends, if it does at one.

    Returns:
        The search, and the records with the times of what has been found.
    """
    times = jnp.concatenate([search.low[:, None], search.trials(), search.high[:, None]], axis=1)
    values = jnp.concatenate(
        [search.low_value[:, None], values, search.high_value[:, None]], axis=1
    )
    # A value of zero ends nothing: an observable that jumps may rest on its level.
    before = jnp.sign(values) == jnp.sign(search.low_value)[:, None]
    behind = jnp.maximum(jnp.argmin(before, axis=1), 1)
    at = lambda rows, index: jnp.take_along_axis(rows, index[:, None], axis=1)[:, 0]
    low, high = at(times, behind - 1), at(times, behind)
    low_value, high_value = at(values, behind - 1), at(values, behind)
    finest, rounds = interval.finest(high), search.rounds + 1
    guess, doubt = _interpolated(times, values, behind)
    lost = ~((guess >= low) & (guess <= high) & jnp.isfinite(doubt))
    secant = _secant(low, high, low_value, high_value)
    guess, doubt = choose(lost, secant, (guess, doubt))
    found = search.open & ((high - low <= finest) | (rounds >= _MAX_ROUNDS))
    time = jnp.where(found, interval.clock.time(high), records.time)
    still = search.open & ~found
    lands = jnp.array(False)
    if until is not None:
        lands = ~search.landing & ~jnp.any(still) & jnp.isfinite(time[until])
    doubt = jax.lax.stop_gradient(jnp.maximum(doubt, 0.25 * finest))
    found_so_far = EventSearch(
        still, low, high, low_value, high_value, guess, doubt, rounds, search.end_value, lands
    )
    return found_so_far, eqx.tree_at(lambda r: r.time, records, time)


def crossed(records: Records, end_value, directions) -> Bool[Array, " milestones"]:
    """Return the milestones not reached before that are crossed within the step."""
    rising = (records.value < 0) & (end_value >= 0)
    falling = (records.value > 0) & (end_value <= 0)
    hit = (rising & (directions >= 0)) | (falling & (directions <= 0))
    return hit & ~jnp.isfinite(records.time)


def _secant(low, high, low_value, high_value):
    """Return where a line between the ends of brackets is zero, and by how much that may be off."""
    gap = high_value - low_value
    share = -low_value / jnp.where(gap == 0, 1.0, gap)
    share = jnp.where((share >= 0) & (share <= 1), share, 0.5)
    width = high - low
    return low + share * width, 0.125 * jax.lax.stop_gradient(width)


def _interpolated(times, values, behind):
    """Return where times as a polynomial of the values nearest to a bracket say that these vanish.

    That is Neville's scheme. By how much it may be off is told by what its last point changes.
    """
    first = jnp.clip(behind - _POINTS // 2, 0, times.shape[1] - _POINTS)
    index = first[:, None] + jnp.arange(_POINTS, dtype=first.dtype)[None]
    value = jnp.take_along_axis(values, index, axis=1)
    time = jnp.take_along_axis(times, index, axis=1)
    single, last, guess = True, time, time
    for degree in range(1, _POINTS):
        low, high = value[:, :-degree], value[:, degree:]
        gap, same = low - high, time[:, degree:] == time[:, :-degree]
        # A time that was looked at twice counts once; one value at two times says nothing.
        single = single & jnp.all((gap != 0) | same, axis=1)
        between = (low * guess[:, 1:] - high * guess[:, :-1]) / jnp.where(gap == 0, 1.0, gap)
        last, guess = guess, jnp.where(gap == 0, guess[:, 1:], between)
    change = jax.lax.stop_gradient(jnp.max(jnp.abs(last - guess), axis=1))
    # Twice that: a crossing just outside would have to be enclosed by the even looks.
    return guess[:, 0], jnp.where(single, 2 * change, jnp.inf)

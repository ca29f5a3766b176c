"""Milestones: the search within a step for the time at which an observable crosses a level.

A crossing is seen at the step's ends and located by a bracketing root search: at each
trial time all neurons are taken there with the step's pulls. Steps do not depend on it.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._trees import choose
from ..method.frame import Neurons

# Every third trial halves the bracket: by then it is below the rounding of a step's length.
_MAX_TRIALS = 200


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
    """One step seen from outside: where it starts, its unit of time, how far it goes."""

    start: Float[Array, ""]
    unit: Float[Array, ""]
    length: Float[Array, ""]


class EventSearch(eqx.Module):
    """The search for milestones within a step: the bracket of one root at a time.

    Attributes:
        index: Which milestone; -1 if there is nothing to look for.
        low: Before the root, as an offset from the step's start in its unit.
        high: Behind it.
        low_value: Observable minus level at `low`, halved as in Illinois's method.
        high_value: The same at `high`.
        trials: How often was looked.
        end_value: Observables minus levels at the step's end.
    """

    index: Int[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]
    low_value: Float[Array, ""]
    high_value: Float[Array, ""]
    trials: Int[Array, ""]
    end_value: Float[Array, " milestones"]

    @classmethod
    def none(cls, milestones: int, dtype) -> "EventSearch":
        """Return a search for nothing."""
        zero, nothing = jnp.zeros((), jnp.int32), jnp.zeros((), dtype)
        return cls(zero - 1, nothing, nothing, nothing, nothing, zero, jnp.zeros(milestones, dtype))

    @property
    def open(self) -> Bool[Array, ""]:
        """Whether there is something left to look for."""
        return self.index >= 0

    def trial(self) -> Float[Array, ""]:
        """Return where to look next: regula falsi, and every third time the middle."""
        gap = self.high_value - self.low_value
        slope = jnp.where(gap == 0, 1.0, gap)
        secant = self.low - self.low_value * (self.high - self.low) / slope
        middle = 0.5 * (self.low + self.high)
        inside = (secant > self.low) & (secant < self.high)
        return jnp.where(inside & (self.trials % 3 != 2), secant, middle)


def search_events(
    search: EventSearch,
    records: Records,
    interval: StepInterval,
    value: Float[Array, " milestones"],
    directions: Int[Array, " milestones"],
    searching: Bool[Array, ""],
    converged: Bool[Array, ""],
) -> tuple[EventSearch, Records, Int[Array, ""]]:
    """Use what observables are somewhere in a step, and decide where to look next.

    Args:
        search: The search so far.
        records: The records so far.
        interval: The step.
        value: Observables minus levels: at `search.trial()` if `searching`, else at the end.
        directions: In which direction each milestone is to be crossed.
        searching: Whether the search is under way.
        converged: Whether the step is as it will stay.

    Returns:
        The search, the records, and which milestone's crossing `value` is the earliest known
        place behind; -1 for none.
    """
    learnt, narrowed, is_behind = _learn(records, search, value, interval)
    behind = jnp.where(searching & is_behind, search.index, -1)
    end_value = jnp.where(searching, search.end_value, value)
    records, search = choose(searching, (learnt, narrowed), (records, search))
    search = eqx.tree_at(lambda s: s.end_value, search, end_value)
    search = _next_search(search, crossed(records, end_value, directions), records, interval)
    search = eqx.tree_at(lambda s: s.index, search, jnp.where(converged, search.index, -1))
    done = converged & ~search.open
    passed = jnp.where(done, end_value, records.value)
    return search, eqx.tree_at(lambda r: r.value, records, passed), behind


def crossed(records: Records, end_value, directions) -> Bool[Array, " milestones"]:
    """Return the milestones not reached before that are crossed within the step."""
    rising = (records.value < 0) & (end_value >= 0)
    falling = (records.value > 0) & (end_value <= 0)
    hit = (rising & (directions >= 0)) | (falling & (directions <= 0))
    return hit & ~jnp.isfinite(records.time)


def _learn(records: Records, search: EventSearch, value, interval: StepInterval):
    """Narrow the bracket by what was seen, and tell which end; write the time down once found."""
    target = search.trial()
    here = value[jnp.maximum(search.index, 0)]
    before = jnp.sign(here) == jnp.sign(search.low_value)
    search = EventSearch(
        search.index,
        jnp.where(before, target, search.low),
        jnp.where(before, search.high, target),
        # Illinois: the end that stays counts half, so that both ends move.
        jnp.where(before, here, 0.5 * search.low_value),
        jnp.where(before, 0.5 * search.high_value, here),
        search.trials + 1,
        search.end_value,
    )
    resolution = 4 * jnp.finfo(interval.start.dtype).eps
    finest = resolution * (jnp.abs(interval.start) / interval.unit + search.high)
    narrow = search.high - search.low <= finest
    # A value of zero ends nothing: an observable that jumps may rest on its level.
    found = narrow | (search.trials >= _MAX_TRIALS)
    time = interval.start + interval.unit * search.high
    slot = jnp.where(found & search.open, search.index, value.shape[0])
    times = records.time.at[slot].set(time, mode="drop")
    records = eqx.tree_at(lambda r: r.time, records, times)
    search = eqx.tree_at(lambda s: s.index, search, jnp.where(found, -1, search.index))
    return records, search, ~before


def _next_search(search: EventSearch, crossed, records: Records, interval: StepInterval):
    """Keep the search that is under way, or start that of the next crossed milestone."""
    following = jnp.argmax(crossed).astype(search.index.dtype)
    start = EventSearch(
        following,
        jnp.zeros_like(interval.length),
        interval.length,
        records.value[following],
        search.end_value[following],
        jnp.zeros_like(search.trials),
        search.end_value,
    )
    return choose(~search.open & jnp.any(crossed), start, search)

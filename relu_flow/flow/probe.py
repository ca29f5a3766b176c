"""Looking into a step: states at times asked for, and milestones.

The times of `ts` inside a step and the trial times of a root search are the same thing: a
time to which all neurons are taken with the step's pulls, one after the other. Steps do
not depend on it.
"""

from typing import Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from .frame import Neurons
from .switching import Modes

_MAX_TRIALS = 200


class LevelCrossing(Protocol):
    """What `solve` needs to know of a milestone; see `relu_flow.Milestone`."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def level(self) -> Float[Array, ""] | float:
        """The level that is crossed."""
        ...

    @property
    def direction(self) -> int:
        """+1 for rising, -1 for falling, 0 for either."""
        ...

    def observable(self, problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
        """Return the value that crosses the level."""
        ...


class State(eqx.Module):
    """The neurons and their modes at one time."""

    neurons: Neurons
    modes: Modes


class Records(eqx.Module):
    """What has been asked for and found so far.

    Attributes:
        saved: Neurons at the times of `ts`.
        num_saved: How many of them are filled.
        value: Last value of each milestone's observable minus its level.
        time: When each milestone was reached; `inf` if not yet.
    """

    saved: Neurons
    num_saved: Int[Array, ""]
    value: Float[Array, " milestones"]
    time: Float[Array, " milestones"]


class Window(eqx.Module):
    """One step seen from outside: where it starts, its unit of time, how far it goes."""

    start: Float[Array, ""]
    unit: Float[Array, ""]
    length: Float[Array, ""]
    end: Float[Array, ""]

    def offset(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """Return a time of the run as time since the start, in the step's unit."""
        return jnp.clip((t - self.start) / self.unit, 0.0, self.length)


class Search(eqx.Module):
    """The bracket of one milestone's root: values at both ends, Illinois's way."""

    index: Int[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]
    low_value: Float[Array, ""]
    high_value: Float[Array, ""]
    trials: Int[Array, ""]


class Look(eqx.Module):
    """Where to look into a step that is as it will stay.

    Attributes:
        wanted: Whether there is anything left to look for.
        target: Where to look next, as an offset from the step's start.
        search: The root search under way.
        end_value: Observables minus levels at the step's end.
    """

    wanted: Bool[Array, ""]
    target: Float[Array, ""]
    search: Search
    end_value: Float[Array, " milestones"]

    @classmethod
    def new(cls, milestones: int, dtype) -> "Look":
        """Return where to look before anything is known."""
        zero, nothing = jnp.zeros((), jnp.int32), jnp.zeros((), dtype)
        search = Search(zero - 1, nothing, nothing, nothing, nothing, zero)
        return cls(jnp.array(False), nothing, search, jnp.zeros(milestones, dtype))


def look_next(
    equation, look: Look, records: Records, window: Window, state: State, looking, agreed
) -> tuple[Look, Records]:
    """Use a state of the step and decide where to look next.

    Args:
        equation: Knows `values` of milestones, their directions, and the times asked for.
        look: Where was looked.
        records: The records so far.
        window: The step.
        state: What was seen there; at the step's end if not `looking`.
        looking: Whether this was a look, and not the step itself.
        agreed: Whether the step is as it will stay.
    """
    ts, value = equation.ts, equation.values(state.neurons)
    directions = jnp.array([m.direction for m in equation.options.milestones], int)
    learnt, search = _learn(records, look.search, look.target, state.neurons, value, window, ts)
    choose = lambda new, old: jax.tree.map(lambda a, b: jnp.where(looking, a, b), new, old)
    records, search = choose((learnt, search), (records, look.search))
    end_value = jnp.where(looking, look.end_value, value)
    crossed = _crossed(records, end_value, directions)
    search = _next_search(search, crossed, records, end_value, window)
    wanted = agreed & ((search.index >= 0) | _pending_save(ts, records, window))
    following = ts[jnp.minimum(records.num_saved, ts.shape[0] - 1)] if ts.shape[0] else window.start
    target = jnp.where(search.index >= 0, _trial(search), window.offset(following))
    done = agreed & ~wanted
    records = eqx.tree_at(lambda r: r.value, records, jnp.where(done, end_value, records.value))
    search = eqx.tree_at(lambda s: s.index, search, jnp.where(agreed, search.index, -1))
    return Look(wanted, target, search, end_value), records


def _crossed(records: Records, end_value, directions) -> Bool[Array, " milestones"]:
    """Return the milestones not reached before that are crossed within the step."""
    rising = (records.value < 0) & (end_value >= 0)
    falling = (records.value > 0) & (end_value <= 0)
    hit = (rising & (directions >= 0)) | (falling & (directions <= 0))
    return hit & ~jnp.isfinite(records.time)


def _pending_save(ts, records: Records, window: Window) -> Bool[Array, ""]:
    """Return whether the next time asked for lies in the step."""
    if ts.shape[0] == 0:
        return jnp.array(False)
    following = ts[jnp.minimum(records.num_saved, ts.shape[0] - 1)]
    return (records.num_saved < ts.shape[0]) & (following <= window.end)


def _learn(records: Records, search: Search, target, neurons, value, window: Window, ts):
    """Use the state just visited: narrow the search's bracket, or save it."""
    searching = search.index >= 0
    here = value[jnp.maximum(search.index, 0)] if value.shape[0] else jnp.zeros(())
    before = jnp.sign(here) == jnp.sign(search.low_value)
    narrowed = Search(
        search.index,
        jnp.where(before, target, search.low),
        jnp.where(before, search.high, target),
        # Illinois: the end that stays counts half, so that both ends move.
        jnp.where(before, here, 0.5 * search.low_value),
        jnp.where(before, 0.5 * search.high_value, here),
        search.trials + 1,
    )
    search = jax.tree.map(lambda new, old: jnp.where(searching, new, old), narrowed, search)
    if ts.shape[0]:
        saving = ~searching
        slot = jnp.where(saving, records.num_saved, ts.shape[0])
        saved = jax.tree.map(
            lambda rows, row: rows.at[slot].set(row, mode="drop"), records.saved, neurons
        )
        num = jnp.where(saving, records.num_saved + 1, records.num_saved)
        records = eqx.tree_at(lambda r: (r.saved, r.num_saved), records, (saved, num))
    if value.shape[0]:
        resolution = 4 * jnp.finfo(window.start.dtype).eps
        finest = resolution * (jnp.abs(window.start) / window.unit + search.high)
        found = searching & (
            (search.high - search.low <= finest)
            | (here == 0)
            | (search.trials >= _MAX_TRIALS)
        )
        time = window.start + window.unit * jnp.where(here == 0, target, search.high)
        slot = jnp.where(found, search.index, value.shape[0])
        records = eqx.tree_at(
            lambda r: r.time, records, records.time.at[slot].set(time, mode="drop")
        )
        index = jnp.where(found, -1, search.index)
        search = eqx.tree_at(lambda s: s.index, search, index)
    return records, search


def _next_search(search: Search, crossed, records: Records, end_value, window: Window):
    """Keep the search that is under way, or start that of the next crossed milestone."""
    if crossed.shape[0] == 0:
        return search
    following = jnp.argmax(crossed).astype(search.index.dtype)
    fresh = Search(
        following,
        jnp.zeros_like(window.length),
        window.length,
        records.value[following],
        end_value[following],
        jnp.zeros_like(search.trials),
    )
    begin = (search.index < 0) & jnp.any(crossed)
    return jax.tree.map(lambda new, old: jnp.where(begin, new, old), fresh, search)


def _trial(search: Search) -> Float[Array, ""]:
    """Return where to look next: regula falsi, and every third time the middle."""
    gap = search.high_value - search.low_value
    slope = jnp.where(gap == 0, 1.0, gap)
    secant = search.low - search.low_value * (search.high - search.low) / slope
    middle = 0.5 * (search.low + search.high)
    inside = (secant > search.low) & (secant < search.high)
    return jnp.where(inside & (search.trials % 3 != 2), secant, middle)

"""Milestones: looking into a step for the time at which an observable crosses a level.

A crossing is seen at the step's ends and located by a bracketing root search: at each
trial time all neurons are taken there with the step's pulls. Steps do not depend on it.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._types import FloatScalarLike
from ...model.network import TwoLayerReLU
from ...model.problem import Problem
from ..method.frame import Neurons
from ..surface.modes import Modes

_MAX_TRIALS = 200


@runtime_checkable
class LevelCrossing(Protocol):
    """What `solve` needs to know of a milestone; see `relu_flow.Milestone`."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def level(self) -> FloatScalarLike:
        """The level that is crossed."""
        ...

    @property
    def direction(self) -> int:
        """+1 for rising, -1 for falling, 0 for either."""
        ...

    @property
    def observable(self) -> Callable[[Problem, TwoLayerReLU], FloatScalarLike]:
        """The function whose value crosses the level."""
        ...


class State(eqx.Module):
    """The neurons and their modes at one time."""

    neurons: Neurons
    modes: Modes


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


class Window(eqx.Module):
    """One step seen from outside: where it starts, its unit of time, how far it goes."""

    start: Float[Array, ""]
    unit: Float[Array, ""]
    length: Float[Array, ""]
    end: Float[Array, ""]


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
) -> tuple[Look, Records, Bool[Array, ""]]:
    """Use a state of the step and decide where to look next.

    Args:
        equation: Knows the milestones and their `values`.
        look: Where was looked.
        records: The records so far.
        window: The step.
        state: What was seen there; at the step's end if not `looking`.
        looking: Whether this was a look, and not the step itself.
        agreed: Whether the step is as it will stay.

    Returns:
        Where to look next, the records, and whether `state` is the earliest known one behind
        the crossing at which the run is to end.
    """
    value = equation.values(state.neurons)
    directions = jnp.array([m.direction for m in equation.options.milestones], int)
    learnt, narrowed, behind = _learn(records, look.search, look.target, value, window)
    choose = lambda new, old: jax.tree.map(lambda a, b: jnp.where(looking, a, b), new, old)
    records, search = choose((learnt, narrowed), (records, look.search))
    end_value = jnp.where(looking, look.end_value, value)
    crossed = _crossed(records, end_value, directions)
    search = _next_search(search, crossed, records, end_value, window)
    search = eqx.tree_at(lambda s: s.index, search, jnp.where(agreed, search.index, -1))
    wanted = search.index >= 0
    done = agreed & ~wanted
    records = eqx.tree_at(lambda r: r.value, records, jnp.where(done, end_value, records.value))
    last = looking & behind & (look.search.index == (equation.options.until or 0))
    return Look(wanted, _trial(search), search, end_value), records, last


def _crossed(records: Records, end_value, directions) -> Bool[Array, " milestones"]:
    """Return the milestones not reached before that are crossed within the step."""
    rising = (records.value < 0) & (end_value >= 0)
    falling = (records.value > 0) & (end_value <= 0)
    hit = (rising & (directions >= 0)) | (falling & (directions <= 0))
    return hit & ~jnp.isfinite(records.time)


def _learn(records: Records, search: Search, target, value, window: Window):
    """Narrow the bracket by what was seen, and tell which end; write the time down once found."""
    here = value[jnp.maximum(search.index, 0)]
    before = jnp.sign(here) == jnp.sign(search.low_value)
    search = Search(
        search.index,
        jnp.where(before, target, search.low),
        jnp.where(before, search.high, target),
        # Illinois: the end that stays counts half, so that both ends move.
        jnp.where(before, here, 0.5 * search.low_value),
        jnp.where(before, 0.5 * search.high_value, here),
        search.trials + 1,
    )
    resolution = 4 * jnp.finfo(window.start.dtype).eps
    finest = resolution * (jnp.abs(window.start) / window.unit + search.high)
    narrow = search.high - search.low <= finest
    # A value of zero ends nothing: an observable that jumps may rest on its level.
    found = narrow | (search.trials >= _MAX_TRIALS)
    time = window.start + window.unit * search.high
    slot = jnp.where(found & (search.index >= 0), search.index, value.shape[0])
    times = records.time.at[slot].set(time, mode="drop")
    records = eqx.tree_at(lambda r: r.time, records, times)
    search = eqx.tree_at(lambda s: s.index, search, jnp.where(found, -1, search.index))
    return records, search, ~before


def _next_search(search: Search, crossed, records: Records, end_value, window: Window):
    """Keep the search that is under way, or start that of the next crossed milestone."""
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

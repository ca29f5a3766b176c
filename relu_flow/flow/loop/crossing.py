"""Neurons taken through a step: what its switches do, where they end, what is seen on the way."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..step.influence import Influence, influence
from ..step.neurons import pass_through
from ..step.step import Step, may_switch
from ..step.step_size import StepSize
from ..step.travellers import Arrival, ConstrainedStep
from .context import Context
from .point import Point, point_at
from .state import State


class Crossed(eqx.Module):
    """What came of taking the neurons through a step, or into it.

    Attributes:
        influence: What the switches do to the pulls beyond what these were told.
        arrival: Where the neurons are, and what happened on the way.
        point: The same, without what rounding did to them.
        candidates: Which constraints may switch.
    """

    influence: Influence
    arrival: Arrival
    point: Point
    candidates: Bool[Array, "width constraints"]


def cross(
    context: Context,
    state: State,
    step: Step,
    limits: Float[Array, "width constraints order"],
    size: StepSize,
) -> Crossed:
    """Take the neurons through the step, or to where the run ends in it, looking on the way."""
    frame, attempt = context.frame, state.attempt
    offset, looks = where_to_look(context, state, step, size)
    candidates = may_switch(limits, offset)
    influenced = influence(frame, step, size, candidates, attempt.correction)
    constrained = ConstrainedStep(step, limits, influenced, size.corrects)
    arrival = pass_through(
        frame, constrained, candidates, offset, state.log, state.counts, ~attempt.converged, looks
    )
    point = point_at(frame, arrival, state.point.neurons)
    return Crossed(influenced, arrival, point, candidates)


def where_to_look(
    context: Context, state: State, step: Step, size: StepSize
) -> tuple[Float[Array, ""], Float[Array, " looks"]]:
    """Return how far to take the neurons, and when to look at them on the way; `inf` for never."""
    search, until = state.attempt.search, context.options.until
    times = state.records.next_times(context.ts, context.num_looks)
    looks = step.clock.offset_at(times)
    looks = jnp.where(looks > size.length, jnp.inf, looks)  # times of later steps
    trials = jnp.where(state.attempt.searching, search.trials().ravel(), jnp.inf)
    looks = jnp.concatenate([looks, trials])
    if until is None:
        return size.length, looks
    return jnp.where(search.landing, search.high[until], size.length), looks

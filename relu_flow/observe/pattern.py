"""Activation patterns: of a network, from another's, and along a trajectory with its slides.

A network alone does not know whether a neuron slides: it may be on a hyperplane because it
slides there, because it is just crossing, or because it died there. What can be read off a
network is that a neuron is *on a hyperplane*: its cosine to the input is at most 1e-12 in
absolute value. A trajectory knows the modes, and `sides_at` reads them off its switches.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._types import FloatScalarLike
from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from ..model.switch import SIDE_AFTER, SLIDING
from .observables import RESOLUTION, cosines, living


@runtime_checkable
class Switches(Protocol):
    """A log of switches, ordered by time (see `relu_flow.SwitchLog`)."""

    @property
    def time(self) -> Float[Array, " switches"]: ...  # noqa: D102
    @property
    def neuron(self) -> Int[Array, " switches"]: ...  # noqa: D102
    @property
    def sample(self) -> Int[Array, " switches"]: ...  # noqa: D102
    @property
    def kind(self) -> Int[Array, " switches"]: ...  # noqa: D102
    @property
    def num(self) -> Int[Array, ""]: ...  # noqa: D102


@runtime_checkable
class Switching(Protocol):
    """What tells the modes at any time; a `relu_flow.Trajectory` is one."""

    @property
    def switches(self) -> Switches: ...  # noqa: D102
    @property
    def initial_sides(self) -> Int[Array, "width samples"]: ...  # noqa: D102


def pattern(problem: Problem, network: TwoLayerReLU) -> Bool[Array, "width samples"]:
    """Return which neuron is active on which input; on a hyperplane it is not."""
    return cosines(problem, network) > RESOLUTION


def on_hyperplane(problem: Problem, network: TwoLayerReLU) -> Bool[Array, "width samples"]:
    """Return which neuron is on which input's hyperplane, to rounding.

    A neuron whose inner weights are zero is on all of them.
    """
    return jnp.abs(cosines(problem, network)) <= RESOLUTION


def living_count(problem: Problem, network: TwoLayerReLU) -> Int[Array, ""]:
    """Return how many neurons are active on some input."""
    return jnp.sum(living(problem, network), dtype=jnp.int32)


def dead_count(problem: Problem, network: TwoLayerReLU) -> Int[Array, ""]:
    """Return how many neurons are active on no input; they rest for ever."""
    return network.width - living_count(problem, network)


def on_hyperplane_count(problem: Problem, network: TwoLayerReLU) -> Int[Array, ""]:
    """Return how many living neurons are on some input's hyperplane.

    All that slide are among them; `sliding_count` tells for certain, of a trajectory.
    """
    near = jnp.any(on_hyperplane(problem, network), axis=1)
    return jnp.sum(near & living(problem, network), dtype=jnp.int32)


def pattern_count(problem: Problem, network: TwoLayerReLU) -> Int[Array, ""]:
    """Return how many different patterns the living neurons have."""
    rows = pattern(problem, network)
    alive = jnp.any(rows, axis=1)
    same = jnp.all(rows[:, None] == rows[None], axis=2)
    first = jnp.argmax(same, axis=1) == jnp.arange(rows.shape[0])
    return jnp.sum(first & alive, dtype=jnp.int32)


def pattern_distance(
    problem: Problem, network: TwoLayerReLU, other: TwoLayerReLU
) -> Int[Array, ""]:
    """Return in how many of the width times samples entries two patterns differ."""
    differ = pattern(problem, network) != pattern(problem, other)
    return jnp.sum(differ, dtype=jnp.int32)


def distance_from(reference: TwoLayerReLU) -> Callable[[Problem, TwoLayerReLU], Int[Array, ""]]:
    """Return the observable of the Hamming distance to the pattern of a reference network."""

    def pattern_distance_from_reference(problem, network):
        return pattern_distance(problem, network, reference)

    return pattern_distance_from_reference


def sides_at(trajectory: Switching, t: FloatScalarLike) -> Int[Array, "width samples"]:
    """Return the mode of each pair at a time: 0 inactive, 1 active, 2 sliding.

    At the very time of a switch it is the mode after it. Right from the run's start to its
    end, and only if its log of switches was long enough. Traceable in `t`.
    """
    log, sides = trajectory.switches, trajectory.initial_sides
    rank = jnp.arange(log.time.shape[0])
    passed = jnp.where((log.time <= t) & (log.neuron >= 0), rank, -1)
    last = jnp.full(sides.shape, -1).at[log.neuron, log.sample].max(passed)
    after = jnp.asarray(SIDE_AFTER, sides.dtype)[log.kind[last]]
    return jnp.where(last >= 0, after, sides)


def sliding_count(trajectory: Switching, t: FloatScalarLike) -> Int[Array, ""]:
    """Return how many neurons slide at a time, be it on one hyperplane or on several."""
    sliding = sides_at(trajectory, t) == SLIDING
    return jnp.sum(jnp.any(sliding, axis=1), dtype=jnp.int32)

"""A step as it was proposed, and the constraints under which its modes are right."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._series import evaluate, powers
from .field import Frozen
from .frame import Frame
from .roots import deflate, to_bernstein
from .switching import ACTIVE, Modes, Motion, constraints, rounding, shifted
from .taylor import Expansion


class Step(eqx.Module):
    """One step as it was proposed.

    Attributes:
        series: In the step's own unit of time, about its start.
        modes: At its start.
        rates: Arguments of the vector field, times in that unit.
        pull_error: Rounding error of each pull.
        horizon: How far the series may be used; sizes are measured over this length.
        start: When it starts.
        unit: Its unit of time.
        tolerance: Of the series that neurons follow within the step.
        forced: Whether what switches do to the outputs has to be collected.
    """

    series: Expansion
    modes: Modes
    rates: Frozen
    pull_error: Float[Array, " samples"]
    horizon: Float[Array, ""]
    start: Float[Array, ""]
    unit: Float[Array, ""]
    tolerance: Float[Array, ""]
    forced: Bool[Array, ""]


def step_limits(frame: Frame, step: Step) -> Float[Array, "width constraints order"]:
    """Return the constraints of all neurons as polynomials about the step's start."""
    series = step.series
    motion = motion_of(
        frame, step, step.modes, step.rates, series.inner, series.outer, series.drive
    )
    return constraints(frame, step.modes, motion)


def motion_of(
    frame: Frame, step: Step, modes: Modes, rates: Frozen, inner, outer, drive, clock=None
) -> Motion:
    """Collect what the constraints are made of, the pulls re-expanded about `clock`."""
    pulls = jnp.stack(frame.group_pulls(step.series.pull), axis=-1)
    pulls = pulls.at[:, modes.slides].get(mode="fill", fill_value=0.0)
    if clock is not None:
        pulls = shifted(pulls, clock)
    force = force_on(frame, step, modes)
    own = jnp.add(*frame.group_pulls(_pull_size(step)))[frame.representative]
    drive_size = force[:, None] + own * frame.norms[frame.representative]
    speed = (rates.inner_rate * jnp.abs(outer[0]))[:, None] * drive_size * frame.norms
    floor = jnp.add(*frame.group_pulls(pull_floor(step)))
    floor = floor.at[modes.slides].get(mode="fill", fill_value=0.0)
    return Motion(inner, drive, pulls[..., 0], pulls[..., 1], speed, force, floor, step.horizon)


def pull_floor(step: Step) -> Float[Array, " samples"]:
    """Return the pulls of which rounding errors are what `rounding` says they are."""
    return step.pull_error / rounding(step.pull_error)


def force_on(frame: Frame, step: Step, modes: Modes) -> Float[Array, " width"]:
    """Bound what drives each neuron over the step: the sum of its active pulls' sizes.

    Not the size of their sum, which may cancel: rounding errors do not.
    """
    return (modes.side == ACTIVE) @ (_pull_size(step) * frame.norms)


def _pull_size(step: Step) -> Float[Array, " samples"]:
    """Bound each pull over the step, rounding included."""
    return evaluate(jnp.abs(step.series.pull), step.horizon) + pull_floor(step)


def series_size(
    series: Float[Array, "order width features"], length: Float[Array, "*width"]
) -> Float[Array, " width"]:
    """Bound a series of vectors on [0, length]: the sum of its terms' norms at the end."""
    return evaluate(jnp.linalg.norm(series, axis=-1), length)


def flatten(array: Float[Array, "width constraints ..."]) -> Float[Array, "pairs ..."]:
    """Put the constraints of all neurons on one axis."""
    return array.reshape(-1, *array.shape[2:])


def scaled_bernstein(
    limits: Float[Array, "width constraints order"], length: Float[Array, " width"]
) -> tuple[Float[Array, "width constraints order"], Float[Array, "width constraints order"]]:
    """Return the constraints on [0, length] as deflated polynomials on [0, 1], two ways."""
    scaled = deflate(limits * powers(length, limits.shape[-1])[:, None, :])
    return scaled, to_bernstein(scaled)


def may_switch(
    limits: Float[Array, "width constraints order"], length: Float[Array, ""]
) -> Bool[Array, " width"]:
    """Return which neurons cannot be told not to switch on [0, length]."""
    _, bernstein = scaled_bernstein(limits, jnp.broadcast_to(length, limits.shape[:1]))
    return jnp.any(bernstein < 0, axis=(1, 2))

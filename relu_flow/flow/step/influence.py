"""What switches of other neurons do to a step's pulls, and whether that decides anything.

A neuron that only small pulls drive, such as those of targets that are zero, takes its times
from their digits, which the kinks of other neurons change at once, long before the neurons
themselves feel it. Kinks begin with the step's first switch.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._norm import norm
from ..._series import evaluate
from ...model.switch import ACTIVE
from ..method.field import Weights
from ..method.frame import Frame
from ..surface.modes import Modes, entry
from ..tolerances import CUT, LEFT, PEAK, SHORTEST, eps
from .step import Step, series_size
from .step_size import StepSize

# By what factor outputs must exceed what was expected of their kinks: these are bounds of several
# times what comes of most.
_WAKES = 4.0
# What is left of a correction has both signs, and lasts for a share of a step as small as this.
_CANCELS = 1.0 / 16


class Influence(eqx.Module):
    """What the switches of other neurons may do to a step's pulls, beyond their correction.

    Attributes:
        kinks_from: Before which time no neuron switches.
        has_correction: Whether the pulls were given a correction.
        drift: Bounds of the velocity that the step's switches give each pull.
        left: What the correction leaves, integrated over time.
    """

    kinks_from: Float[Array, ""]
    has_correction: Bool[Array, ""]
    drift: Float[Array, " samples"]
    left: Float[Array, " samples"]

    @classmethod
    def none(cls, samples: int, dtype) -> "Influence":
        """Return the influence of no switch."""
        nothing = jnp.zeros(samples, dtype)
        return cls(jnp.zeros((), dtype), jnp.array(False), nothing, nothing)

    def drift_at(self, clock: Float[Array, " taken"]) -> Float[Array, "taken samples"]:
        """Bound what the switches up to a time have done to each pull.

        What is left of a corrected kink is so high for so long that its integral is `left`.
        """
        since = jnp.maximum(clock - self.kinks_from, 0.0)[:, None] * self.drift[None]
        return jnp.where(self.has_correction, PEAK * jnp.sqrt(self.left * self.drift)[None], since)

    def area_at(self, clock: Float[Array, " taken"]) -> Float[Array, "taken samples"]:
        """Bound the integral of that over time, in which what is left cancels."""
        since = 0.5 * jnp.maximum(clock - self.kinks_from, 0.0)[:, None] ** 2 * self.drift[None]
        return jnp.where(self.has_correction, self.left[None], since)


def influence(
    frame: Frame,
    step: Step,
    size: StepSize,
    candidates: Bool[Array, "width constraints"],
    correction: Float[Array, "degrees samples"],
) -> Influence:
    """Bound what a step's switches do to its pulls, and what a correction leaves of that.

    A neuron that crosses a hyperplane leaves the course of its output there, and, since
    its own drive has changed, the course of its outputs on other samples.
    """
    samples, slides = frame.norms.shape[0], step.modes.slides
    hits = candidates[:, :samples]
    ramp = jnp.where(hits, size.kinks[0], 0.0)
    crossed = jnp.sum(ramp, axis=0)[frame.representative] * jnp.abs(frame.factor)
    # The end of a slide only bends a neuron's course, on that sample as on the others.
    ends = candidates[:, samples : samples + slides.shape[1]]
    ends = ends | candidates[:, samples + slides.shape[1] :]
    row = jnp.arange(slides.shape[0])[:, None]
    turning = hits.at[row, slides].max(ends, mode="drop")
    turned = jnp.where(turning, size.kinks[1], 0.0) @ jnp.abs(frame.gram)
    # All samples of a hyperplane turn active or inactive with its representative.
    feels = (step.rates.active > 0) | turning[:, frame.representative]
    bent = jnp.sum(jnp.where(feels, turned, 0.0), axis=0)
    left = LEFT * size.length * jnp.sum(jnp.abs(correction[-2:]), axis=0)
    return Influence(
        kinks_from=size.kinks_from,
        has_correction=jnp.any(correction != 0),
        drift=step.curvature * (crossed + bent),
        left=step.curvature * left,
    )


def overlooks(
    frame: Frame,
    step: Step,
    size: StepSize,
    influence: Influence,
    candidates: Bool[Array, "width constraints"],
    weights: Weights,
    modes: Modes,
    correction: Float[Array, "degrees samples"],
    rtol: Float[Array, ""],
) -> Bool[Array, ""]:
    """Return whether neurons that switched put out more than a step's pulls were told.

    How far a step may go beyond a switch follows from how fast a neuron moves on its old course.
    But one that hardly moved may wake at a hyperplane, and grow ten thousandfold before the end.

    Args:
        frame: The problem.
        step: The step.
        size: Its size.
        influence: What its switches were expected to do.
        candidates: Which constraints may switch.
        weights: Inner and outer weights at its end.
        modes: Modes there.
        correction: What its pulls were told, see `method/correction.py`.
        rtol: Relative tolerance.
    """
    rates, (inner, outer) = step.rates, weights
    old_inner, old_outer = (
        evaluate(series, size.length) for series in (step.series.inner, step.series.outer)
    )
    active = (modes.side == ACTIVE).astype(outer.dtype)
    beyond = outer[:, None] * active * (inner @ frame.inputs.T)
    beyond = beyond - old_outer[:, None] * rates.active * (old_inner @ frame.inputs.T)
    # Whoever does not switch adds nothing, not even rounding.
    beyond = jnp.where(jnp.any(candidates, axis=1), rates.amplitude, 0.0) @ beyond
    wakes = step.curvature * jnp.abs(beyond) > _WAKES * size.length * influence.drift
    # At the end Legendre polynomials of all degrees are 1.
    untold = jnp.where(wakes, beyond - jnp.sum(correction, axis=0), 0.0)
    share = jnp.where(influence.has_correction, _CANCELS, 1.0)
    return share * size.length * jnp.sum(jnp.abs(untold) * size.sensitivity) > rtol


def misleads(
    frame: Frame,
    step: Step,
    influence: Influence,
    modes: Modes,
    speed: Float[Array, "width samples"],
    slack: Float[Array, "width ends"],
    first_switch: Float[Array, ""],
    length: Float[Array, ""],
) -> Bool[Array, ""]:
    """Return whether switches within the step move a later one by more than may be.

    `modes` are those at the end of the step, at `length`, `speed` how fast preactivations move
    there, and `slack` how far slides are from their ends; `first_switch` is when the first
    neuron switched.
    """
    influence = eqx.tree_at(lambda i: i.kinks_from, influence, jnp.minimum(first_switch, length))
    area = influence.area_at(length[None])
    active = (step.modes.side == ACTIVE) | (modes.side == ACTIVE)
    rate = step.rates.inner_rate * series_size(step.series.outer[..., None], length)
    off = rate[:, None] * ((active.astype(area.dtype) * area) @ frame.overlap)
    height = modes.height
    moved = speed * (jnp.abs(step.start / step.unit) + length)
    wrong = off > step.lateness * jnp.maximum(jnp.abs(height), moved)
    misled = jnp.any(wrong & (height != 0) & frame.own[None])
    if modes.slides.shape[1] == 0:
        return misled
    # A slide whose weight the switches may have taken beyond its end is over since then.
    drift = influence.drift_at(length[None])
    sliding = active.astype(drift.dtype) * drift
    together = (
        jnp.add(*frame.group_pulls(drift[0])).at[modes.slides].get(mode="fill", fill_value=0.0)
    )
    off = norm(modes.dual) * (sliding @ frame.norms)[:, None] + together
    over = (modes.slides < frame.norms.shape[0]) & (off > jnp.minimum(*jnp.split(slack, 2, axis=1)))
    since = jnp.maximum(length - influence.kinks_from, 0.0)
    late = since > step.lateness * (jnp.abs(step.start / step.unit) + length)
    return misled | (late & jnp.any(over))


def latest_decision(
    frame: Frame,
    step: Step,
    influence: Influence,
    modes: Modes,
    outer: Float[Array, "order taken"],
    rate: Float[Array, " taken"],
    limit: Float[Array, "order taken"],
    index: Int[Array, " taken"],
    moved: Float[Array, " taken"],
    clock: Float[Array, " taken"],
    unsure: Bool[Array, " taken"],
) -> Float[Array, " taken"]:
    """Return before when the step has to end if its pulls do not decide a switch, else `inf`.

    They do not if what other neurons' switches may have done to the pulls could change which
    way it goes, or when, by more than `LATE` allows (see `tolerances.py`).

    Args:
        frame: The problem.
        step: The step.
        influence: What other neurons' switches may do to its pulls.
        modes: Modes before the switch.
        outer: Outer weights, as series about the last switch of each.
        rate: Factor of the inner weights' equation.
        limit: The constraint that is violated, likewise.
        index: Which that is.
        moved: Time since the last switch of each.
        clock: Time since the step's start.
        unsure: Whether the influence could change which way a switch goes.
    """
    samples, slots = frame.norms.shape[0], modes.slides.shape[1]
    begun = jnp.abs(step.start / step.unit)
    active = (modes.side == ACTIVE).astype(clock.dtype)
    drift = influence.drift_at(clock)
    row = frame.overlap[jnp.minimum(index, samples - 1)]
    area = jnp.sum(active * influence.area_at(clock) * row, axis=1)
    off = rate * series_size(outer[..., None], moved) * area
    if slots:
        slot = jnp.maximum(index - samples, 0) % slots
        dual = jnp.take_along_axis(modes.dual, slot[:, None, None], axis=1)[:, 0]
        slid = jnp.take_along_axis(modes.slides, slot[:, None], axis=1)[:, 0]
        together = jnp.add(*frame.group_pulls(drift))
        weight_off = norm(dual) * ((active * drift) @ frame.norms) + entry(together, slid)
        off = jnp.where(index < samples, off, weight_off)
    order = jnp.arange(1.0, limit.shape[0], dtype=limit.dtype)[:, None]
    slope = jnp.abs(evaluate(limit[1:] * order, moved))
    # What is violated by more, by a switch of this neuron's own that changed it, is violated then.
    off = jnp.where(evaluate(limit, moved) < -off, 0.0, off)
    late = off / jnp.where(slope > 0, slope, jnp.inf)
    doubtful = unsure | (late > step.lateness * (begun + clock))
    # A step that ends any sooner would not get on: its end would be its start, but for rounding.
    doubtful = doubtful & (clock > SHORTEST * eps(clock) * begun)
    cut = jnp.maximum((1 - CUT) * clock - 2 * late, 0.5 * clock)
    return jnp.where(doubtful, cut, jnp.inf)

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
from ..method.frame import Frame
from ..surface.modes import Modes, entry
from ..tolerances import CUT, LEFT, PEAK, SHORTEST, eps
from .step import Step, series_size
from .step_size import StepSize


class Influence(eqx.Module):
    """What the switches of other neurons may do to a step's pulls, beyond their correction.

    Attributes:
        kinks_from: Before which time no neuron switches.
        has_correction: Whether the pulls were given a correction.
        drift: Bounds of the velocity that the step's switches give each pull.
        left: What the correction leaves, integrated over time.
        early: What it adds at the step's start, before there is a kink.
        rising: By how much more that may be per unit of time.
    """

    kinks_from: Float[Array, ""]
    has_correction: Bool[Array, ""]
    drift: Float[Array, " samples"]
    left: Float[Array, " samples"]
    early: Float[Array, " samples"]
    rising: Float[Array, " samples"]

    @classmethod
    def none(cls, samples: int, dtype) -> "Influence":
        """Return the influence of no switch."""
        nothing = jnp.zeros(samples, dtype)
        no = jnp.array(False)
        return cls(jnp.zeros((), dtype), no, nothing, nothing, nothing, nothing)

    def drift_at(self, clock: Float[Array, " taken"]) -> Float[Array, "taken samples"]:
        """Bound what the switches up to a time have done to each pull.

        What is left of a corrected kink is so high for so long that its integral is `left`.
        """
        since = jnp.maximum(clock - self.kinks_from, 0.0)[:, None] * self.drift[None]
        return jnp.where(self.has_correction, PEAK * jnp.sqrt(self.left * self.drift)[None], since)

    def area_at(self, clock: Float[Array, " taken"]) -> Float[Array, "taken samples"]:
        """Bound the integral of that over time.

        What is left of corrected kinks cancels in time. Early it has not come yet: there are the
        first kinks, and the correction itself, which spreads all of them to before they are.
        """
        time = clock[:, None]
        since = 0.5 * jnp.maximum(time - self.kinks_from, 0.0) ** 2 * self.drift[None]
        spread = time * self.early[None] + 0.5 * time**2 * self.rising[None]
        left = jnp.minimum(self.left[None], spread + since)
        return jnp.where(self.has_correction, left, since)


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
    # At the start Legendre polynomials are 1 and -1, and their slopes nowhere more than there.
    degree = jnp.arange(correction.shape[0], dtype=correction.dtype)
    early = jnp.abs((-1.0) ** degree @ correction)
    rising = (degree * (degree + 1)) @ jnp.abs(correction) / size.length
    return Influence(
        kinks_from=size.kinks_from,
        has_correction=jnp.any(correction != 0),
        drift=step.curvature * (crossed + bent),
        left=step.curvature * left,
        early=step.curvature * early,
        rising=step.curvature * rising,
    )


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

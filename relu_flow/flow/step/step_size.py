r"""How far a step may go beyond a switch.

Neuron $j$ switching at hyperplane $r$ puts a kink into the outputs, and so into the pulls
that drive everybody. Had the step gone on for $\tau$ with the old pulls, other neurons
would be off by about $\tfrac12 R\tau^2$ relative to their size, with

    R = max_k (alpha_k |v_k| / |w_k|) * e^{rho_j + sigma_j} |v_j|
        * ( |v_j| alpha_j |g_r| sum_{i active} c_i |<x_r, x_i>| |x_i|  +  |z'_jr| c_r |x_r| )

($c_i$ the loss's curvature by the output). Three ways to deal with it:

- *negligible*: a whole step does not amount to the tolerance; nothing needs to be done.
- *corrected*: what the switching neurons put out beyond their frozen pattern is projected
  onto polynomials (`method/correction.py`), and the step is expanded again with that added to the
  outputs. What is left of the error is `REMAINDER` $R H^2$ for a step of length $H$.
- *significant*: too much even so; the step ends a little after the switch.

So the number of steps does not grow with the number of switches, negligible or corrected.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._norm import norm
from ..._series import evaluate, powers, shift_matrix
from ..method.correction import REMAINDER
from ..method.field import weight_sizes
from ..method.frame import Frame
from ..tolerances import AT_ZERO
from .roots import first_violation, lower_bound, to_bernstein
from .step import Step, flatten, scaled_bernstein

# Share of `rtol` that the switches of one step may take, each.
SWITCH_SHARE = 2e-2
# How often lower bounds of roots are improved, and how far below a floor that is given up.
_REFINEMENTS, _HOPE = 8, 4.0
# Share of a step below which bounds of roots are not good enough.
_CRUMB = 1e-4


class StepSize(eqx.Module):
    """How far a step goes, and whether its pulls must be corrected for its switches.

    Attributes:
        length: In the step's unit of time.
        corrects: Whether some switch is not negligible, so that corrections are collected.
        kinks_from: Before which time no neuron switches.
        sensitivity: By how much a neuron changes over a unit of time, relative to its size, per
            change of each output.
        kinks: How much a switch changes the velocity of the outputs: of the neuron's own sample
            because its height bends there, and of all samples because its drive jumps, for a
            unit of `gram`.
    """

    length: Float[Array, ""]
    corrects: Bool[Array, ""]
    kinks_from: Float[Array, ""]
    sensitivity: Float[Array, " samples"]
    kinks: tuple[Float[Array, "width samples"], Float[Array, "width samples"]]

    @classmethod
    def unknown(cls, shape: tuple[int, ...], dtype) -> "StepSize":
        """Return the size of a step, of neurons and samples, not expanded yet."""
        one, none = jnp.ones((), dtype), jnp.zeros(shape, dtype)
        return cls(one, jnp.array(False), 0 * one, none[0], (none, none))


def allowed_step_size(
    frame: Frame,
    step: Step,
    limits: Float[Array, "width constraints order"],
    rtol: Float[Array, ""],
    can_correct: bool,
) -> StepSize:
    """Return how far a step goes: as far as it may, or just beyond the first significant switch.

    Args:
        frame: The problem.
        step: The step.
        limits: Its constraints.
        rtol: Relative tolerance of the solve.
        can_correct: Whether the solver can expand a step again with a correction.
    """
    available = step.available
    rate, sensitivity, kinks = _kink_rate(frame, step, limits)
    allowed = SWITCH_SHARE * rtol
    safe_rate = jnp.where(rate > 0, rate, 1.0)
    delay = jnp.sqrt(2 * allowed / safe_rate)
    floor = jnp.sqrt(allowed / (REMAINDER * safe_rate)) if can_correct else delay
    # A collocation step is not told of its switches: it ends where one is felt.
    floor = jnp.where(step.stiff > 0, delay, floor)
    felt = (rate > 0) & (delay < available)
    delay = jnp.where(felt, delay / available, jnp.inf)
    scaled, bernstein = scaled_bernstein(limits, jnp.broadcast_to(available, limits.shape[:1]))
    candidate = jnp.any(bernstein < 0, axis=-1)
    bounds = jnp.where(candidate, lower_bound(bernstein), jnp.inf)
    floor = floor / available
    significant = candidate & felt & (floor < 1)
    corrects = jnp.any(candidate & felt) if can_correct else jnp.array(False)
    corrects = corrects & (step.stiff == 0)

    def search():
        return first_violation(
            flatten(scaled), flatten(bernstein), flatten(delay), flatten(floor), together=4
        ).key

    nothing = lambda: jnp.full((), jnp.inf, available.dtype)
    if can_correct:
        # A bound of each root will do: what a step leaves out, the next begins with. But where
        # bounds would cut steps to crumbs the roots themselves are sought.
        first = jnp.where(significant, bounds, jnp.inf)
        bound = _refine(flatten(scaled), flatten(first), flatten(delay), flatten(floor))
        key = jax.lax.cond(bound < _CRUMB, search, lambda: bound)
    else:
        key = jax.lax.cond(jnp.any(significant), search, nothing)
    earliest = available * jnp.minimum(jnp.min(bounds), 1.0)
    return StepSize(available * jnp.minimum(key, 1.0), corrects, earliest, sensitivity, kinks)


def _refine(scaled, bound, delay, floor) -> Float[Array, ""]:
    """Return the smallest of the roots' lower bounds, delayed and raised, bounds improved.

    No root lies before the smallest bound, so all may be bounded anew from there on. That
    is done while it helps the smallest: not if it is too early for that to matter.
    """
    order = scaled.shape[-1]

    def smallest(bound):
        key = jnp.maximum(bound + delay, floor)
        best = jnp.argmin(key)
        return key[best], floor[best] < _HOPE * (bound[best] + delay[best])

    def improve(state):
        bound, key, _, count = state
        start = jnp.min(bound)
        shifted = scaled @ shift_matrix(start, order).T * powers(1 - start, order)[None]
        shifted = to_bernstein(shifted)
        beyond = start + (1 - start) * lower_bound(shifted)
        # One that is at its root already, to rounding, tells nothing about what is beyond.
        open_ones = jnp.isfinite(bound) & (shifted[:, 0] > 0)
        bound = jnp.where(open_ones, jnp.maximum(bound, beyond), bound)
        better, hopeful = smallest(bound)
        return bound, better, hopeful & (better > 1.02 * key), count + 1

    key, hopeful = smallest(bound)
    start = (bound, key, hopeful & (key < 1), 0)
    return jax.lax.while_loop(lambda s: s[2] & (s[3] < _REFINEMENTS), improve, start)[1]


def _kink_rate(frame: Frame, step: Step, limits):
    """Return `R` of the module's docstring for each constraint, `sensitivity`, and `kinks`."""
    frozen, series, available = step.rates, step.series, step.available
    curvature, outer = step.curvature, jnp.abs(series.outer[0])
    turning = frozen.inner_rate * outer
    size, _ = weight_sizes((series.inner[0], series.outer[0]), frame.train_outer)
    if not frame.train_outer:
        # Who has just left zero is renewed within the step.
        ends = norm(evaluate(series.inner, available))
        size = jnp.where(size < AT_ZERO * ends, ends, size)
    sensitivity = jnp.max(turning / jnp.where(size > 0, size, jnp.inf))
    overlap = jnp.abs(frame.inputs @ frame.inputs.T)
    felt = (frozen.active * (curvature * frame.norms)[None]) @ overlap
    positive, negative = frame.group_pulls(series.pull[0])
    jump = (positive + negative)[frame.representative] * jnp.abs(frame.factor)
    # The representative switches for all that share its hyperplane.
    together = lambda array: jnp.zeros_like(array).at[:, frame.representative].add(array)
    order = jnp.arange(1.0, limits.shape[-1], dtype=available.dtype)
    speed = jnp.moveaxis(limits[..., 1:], -1, 0) * order[:, None, None]
    speed = jnp.maximum(jnp.abs(speed[0]), jnp.abs(evaluate(speed, available)))
    samples = frame.norms.shape[0]
    turned = turning[:, None] * jnp.abs(jump)[None] * felt
    share = jnp.zeros_like(curvature).at[frame.representative]
    share = share.add(curvature * frame.norms * jnp.abs(frame.factor))
    turned = together(turned)
    kink = turned + speed[:, :samples] * share[None]
    if step.modes.slides.shape[1]:
        slot = jnp.minimum(step.modes.slides, samples - 1)
        slid = jnp.take_along_axis(turned, slot, axis=1)
        kink = jnp.concatenate([kink, slid, slid], axis=1)
    # How much of a neuron's preactivation the outputs feel.
    voice = (frozen.amplitude * outer)[:, None]
    kinks = (voice * speed[:, :samples], voice * turning[:, None] * jnp.abs(jump)[None])
    return sensitivity * voice * kink, sensitivity * curvature * frame.norms, kinks

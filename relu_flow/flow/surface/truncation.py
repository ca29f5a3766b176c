r"""How far a step may go beyond a switch, and what switches do to the pulls of a step.

Neuron $j$ switching at hyperplane $r$ puts a kink into the outputs, and so into the pulls
that drive everybody. Had the step gone on for $\tau$ with the old pulls, other neurons
would be off by about $\tfrac12 R\tau^2$ relative to their size, with

    R = max_k (alpha_k |v_k| / |w_k|) * e^{rho_j + sigma_j} |v_j|
        * ( |v_j| alpha_j |g_r| sum_{i active} c_i |<x_r, x_i>| |x_i|  +  |z'_jr| c_r |x_r| )

($c_i$ the loss's curvature by the output). Three ways to deal with it:

- *quiet*: a whole step does not amount to the tolerance; nothing needs to be done.
- *forced*: what the switching neurons put out beyond their frozen pattern is projected
  onto polynomials of low degree over the step (Legendre), and the step is expanded again
  with that added to the outputs. The kink's remainder is orthogonal to low polynomials,
  so that what is left of the error is `_REMAINDER` $R H^2$ for a step of length $H$.
- *loud*: too much even so; the step ends a little after the switch.

So the number of steps does not grow with the number of switches, quiet or forced.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..._series import evaluate, powers, shift_matrix
from ..method.field import FlowField
from ..method.frame import Frame
from ..tolerances import AT_ZERO, LEFT
from .roots import first_violation, lower_bound, to_bernstein
from .step import Step, flatten, scaled_bernstein

# Share of `rtol` that the switches of one step may take, each.
_SWITCH_SHARE = 2e-2
# Highest power of the forcing, and what its projection leaves of a kink (in R H^2).
_DEGREE = 6
_REMAINDER = 7.3e-4
_QUADRATURE = 12
# How often lower bounds of roots are improved, and how far below a floor that is given up.
_REFINEMENTS, _HOPE = 8, 4.0
# Share of a step below which bounds of roots are not good enough.
_CRUMB = 1e-4


class Reach(eqx.Module):
    """How far a step may go, and whether its switches must be told to the pulls.

    Attributes:
        length: In the step's unit of time.
        forced: Whether some switch is not quiet.
        first: Before which time no neuron switches.
        weight: Change of a neuron over a unit of time, relative to its size, per change
            of each output.
        kinks: How much a switch changes the velocity of the outputs: of the neuron's own sample
            because its height bends there, and of all samples because its drive jumps, for a
            unit of `gram`.
    """

    length: Float[Array, ""]
    forced: Array
    first: Float[Array, ""]
    weight: Float[Array, " samples"]
    kinks: tuple[Float[Array, "width samples"], Float[Array, "width samples"]]

    @classmethod
    def unknown(cls, shape: tuple[int, ...], dtype) -> "Reach":
        """Return the reach of a step, of neurons and samples, not expanded yet."""
        one, none = jnp.ones((), dtype), jnp.zeros(shape, dtype)
        return cls(one, jnp.array(False), 0 * one, none[0], (none, none))


def allowed_reach(
    field: FlowField,
    step: Step,
    limits: Float[Array, "width constraints order"],
    reach: Float[Array, ""],
    rtol: Float[Array, ""],
    can_force: bool,
) -> Reach:
    """Return how far a step may go: `reach`, or just beyond the first loud switch.

    Args:
        field: The vector field.
        step: The step.
        limits: Its constraints.
        reach: How far it would go otherwise, in its own unit of time.
        rtol: Relative tolerance of the solve.
        can_force: Whether the solver can expand a step again with a forcing.
    """
    rate, weight, kinks = _kink_rate(field, step, limits, reach)
    tolerance = _SWITCH_SHARE * rtol
    safe_rate = jnp.where(rate > 0, rate, 1.0)
    delay = jnp.sqrt(2 * tolerance / safe_rate)
    floor = jnp.sqrt(tolerance / (_REMAINDER * safe_rate)) if can_force else delay
    audible = (rate > 0) & (delay < reach)
    delay = jnp.where(audible, delay / reach, jnp.inf)
    scaled, bernstein = scaled_bernstein(limits, jnp.broadcast_to(reach, limits.shape[:1]))
    candidate = jnp.any(bernstein < 0, axis=-1)
    bounds = jnp.where(candidate, lower_bound(bernstein), jnp.inf)
    floor = floor / reach
    loud = candidate & audible & (floor < 1)
    forced = jnp.any(candidate & audible) if can_force else jnp.array(False)

    def search():
        return first_violation(
            flatten(scaled), flatten(bernstein), flatten(delay), flatten(floor), lanes=4
        ).key

    nothing = lambda: jnp.full((), jnp.inf, reach.dtype)
    if can_force:
        # A bound of each root will do: what a step leaves out, the next begins with. But where
        # bounds would cut steps to crumbs the roots themselves are sought.
        first = jnp.where(loud, bounds, jnp.inf)
        bound = _refine(flatten(scaled), flatten(first), flatten(delay), flatten(floor))
        key = jax.lax.cond(bound < _CRUMB, search, lambda: bound)
    else:
        key = jax.lax.cond(jnp.any(loud), search, nothing)
    first = reach * jnp.minimum(jnp.min(bounds), 1.0)
    return Reach(reach * jnp.minimum(key, 1.0), forced, first, weight, kinks)


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


def _kink_rate(field: FlowField, step: Step, limits, reach):
    """Return `R` of the module's docstring for each constraint, and `Reach.weight`."""
    frame, frozen, series = field.frame, step.rates, step.series
    weights = (series.inner[0], series.outer[0])
    outputs = field.outputs(weights, frozen)
    curvature = frame.sample_weight * frame.loss.curvature(outputs, frame.targets)
    outer = jnp.abs(weights[1])
    turning = frozen.inner_rate * outer
    size = jnp.linalg.norm(weights[0], axis=1)
    if frame.train_outer:
        size = size + 0.01 * outer
    else:
        # Who has just left zero is renewed within the step.
        ends = jnp.linalg.norm(evaluate(series.inner, reach), axis=1)
        size = jnp.where(size < AT_ZERO * ends, ends, size)
    sensitivity = jnp.max(turning / jnp.where(size > 0, size, jnp.inf))
    overlap = jnp.abs(frame.inputs @ frame.inputs.T)
    felt = (frozen.active * (curvature * frame.norms)[None]) @ overlap
    positive, negative = frame.group_pulls(series.pull[0])
    jump = (positive + negative)[frame.representative] * jnp.abs(frame.factor)
    # The representative switches for all that share its hyperplane.
    together = lambda array: jnp.zeros_like(array).at[:, frame.representative].add(array)
    order = jnp.arange(1.0, limits.shape[-1], dtype=reach.dtype)
    speed = jnp.moveaxis(limits[..., 1:], -1, 0) * order[:, None, None]
    speed = jnp.maximum(jnp.abs(speed[0]), jnp.abs(evaluate(speed, reach)))
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
    voice = (frozen.amplitude * outer)[:, None]
    kinks = (voice * speed[:, :samples], voice * turning[:, None] * jnp.abs(jump)[None])
    return sensitivity * voice * kink, sensitivity * curvature * frame.norms, kinks


def drift(
    frame: Frame,
    step: Step,
    reach: Reach,
    candidates: Bool[Array, "width constraints"],
    told: Float[Array, "moments samples"],
) -> tuple[Float[Array, " samples"], Float[Array, " samples"]]:
    """Bound the velocity that the step's switches give each pull, and what `told` leaves.

    A neuron that crosses a hyperplane leaves the course of its output there, and, since
    its own drive has changed, the course of its outputs on other samples.
    """
    weights = (step.series.inner[0], step.series.outer[0])
    outputs = FlowField(frame).outputs(weights, step.rates)
    curvature = frame.sample_weight * frame.loss.curvature(outputs, frame.targets)
    samples, slides = frame.norms.shape[0], step.modes.slides
    hits = candidates[:, :samples]
    ramp = jnp.where(hits, reach.kinks[0], 0.0)
    crossed = jnp.sum(ramp, axis=0)[frame.representative] * jnp.abs(frame.factor)
    # The end of a slide only bends a neuron's course, on that sample as on the others.
    ends = candidates[:, samples : samples + slides.shape[1]]
    ends = ends | candidates[:, samples + slides.shape[1] :]
    row = jnp.arange(slides.shape[0])[:, None]
    turning = hits.at[row, slides].max(ends, mode="drop")
    turned = jnp.where(turning, reach.kinks[1], 0.0) @ jnp.abs(frame.gram)
    feels = (step.rates.active > 0) | turning
    bent = jnp.sum(jnp.where(feels, turned, 0.0), axis=0)
    left = LEFT * reach.length * jnp.sum(jnp.abs(told[-2:]), axis=0)
    return curvature * (crossed + bent), curvature * left


def no_moments(samples: int, dtype) -> Float[Array, "moments samples"]:
    """Return the moments of an output that is as the frozen pattern says."""
    return jnp.zeros((_DEGREE + 1, samples), dtype)


def moments_beyond(
    clock: Float[Array, " lanes"],
    length: Float[Array, ""],
    difference,
) -> Float[Array, "moments samples"]:
    """Project what neurons put out from their own switches on, onto Legendre polynomials.

    Args:
        clock: When each neuron switched, in the step's unit.
        length: End of the step.
        difference: Given offsets from `clock`, one row a neuron, returns the outputs with
            the new pattern minus those with the old, for each offset and sample.

    Returns:
        Coefficients on the interval [0, length]; they add up over neurons and switches.
    """
    node, weight = np.polynomial.legendre.leggauss(_QUADRATURE)
    node = jnp.asarray(0.5 * (node + 1), clock.dtype)
    weight = jnp.asarray(0.5 * weight, clock.dtype)
    left = jnp.maximum(length - clock, 0.0)[:, None]
    offset = left * node[None]
    share = jnp.where(length > 0, left / jnp.where(length > 0, length, 1.0), 0.0) * weight[None]
    x = (clock[:, None] + offset) / jnp.where(length > 0, length, 1.0)
    basis = _legendre_powers(clock.dtype) @ powers(x, _DEGREE + 1)[..., None]
    degree = jnp.arange(_DEGREE + 1, dtype=clock.dtype)
    basis = basis[..., 0] * share[..., None] * (2 * degree + 1)[None, None]
    return jnp.einsum("kgm,kgn->mn", basis, difference(offset))


def forcing_series(
    moments: Float[Array, "moments samples"], length: Float[Array, ""], order: int
) -> Float[Array, "order samples"]:
    """Return projected outputs as a power series in the step's unit of time."""
    series = _legendre_powers(moments.dtype).T @ moments
    safe = jnp.where(length > 0, length, 1.0)
    series = series / powers(safe, _DEGREE + 1)[:, None]
    missing = order + 1 - series.shape[0]
    return jnp.pad(series, ((0, max(missing, 0)), (0, 0)))[: order + 1]


def agree(
    new: Float[Array, "moments samples"],
    old: Float[Array, "moments samples"],
    reach: Reach,
    rtol: Float[Array, ""],
) -> Array:
    """Return whether two forcings move no neuron apart by more than the tolerance."""
    change = jnp.sum(jnp.abs(new - old), axis=0)
    return jnp.sum(change * reach.weight) * reach.length <= _SWITCH_SHARE * rtol


def _legendre_powers(dtype) -> Float[Array, "moments moments"]:
    """Return the powers of x in the Legendre polynomials of 2x - 1, one a row."""
    shifted = np.polynomial.Polynomial([-1.0, 2.0])
    rows = np.zeros((_DEGREE + 1, _DEGREE + 1))
    for degree in range(_DEGREE + 1):
        legendre = np.polynomial.Legendre.basis(degree).convert(kind=np.polynomial.Polynomial)
        coefficients = legendre(shifted).coef
        rows[degree, : coefficients.size] = coefficients
    return jnp.asarray(rows, dtype)

"""A step as it was proposed, and the constraints under which its modes are right."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._norm import norm
from ..._series import evaluate, powers, shift_matrix
from ..method.clock import Clock
from ..method.field import Frozen, relative_size, weight_sizes
from ..method.frame import Frame
from ..method.radau import num_nodes, product_on_step
from ..method.taylor import Expansion
from ..surface.constraints import Motion, constraints, series_product
from ..surface.modes import Modes
from ..surface.pulls import Pulls
from ..tolerances import JUDGED, ROUNDING, eps, smallest
from .roots import deflate, to_bernstein

# How many times longer than the time in which a neuron changes by its size a unit of time may be:
# its powers, up to that of a series' order, are to be numbers, as are products of two.
_FAR = 1e6


class Step(eqx.Module):
    """One step as the method proposes it: never changed afterwards.

    Attributes:
        series: In the step's own unit of time, about its start.
        rest: What its pulls are without outputs, see `Pulls`.
        change: What is left of them, as series.
        modes: At its start.
        rates: Arguments of the vector field, times in that unit.
        curvature: How much each pull falls with its output, at the step's start.
        pull_error: What rounding of the outputs at the start does to each pull's coefficients.
        noise: What errors, of steps too, leave of each pull that should be zero.
        trusted: How far the series reach, whether or not the step goes that far.
        available: How far the step may go, in its unit.
        unit_factor: Factor for the unit of the next step.
        accepted: Whether the solver's error was within the tolerance.
        stationary: Whether nothing moves any more.
        stiff: Length of the collocation step that it is, 0 if it is none.
        warp: How time runs on it (see `method/clock.py`), 0 if evenly: it has no switch then.
        sweeps: Evaluations of the network that trying one took.
        start: When it starts.
        unit: Its unit of time.
        tolerance: Of the series that neurons follow within the step.
        lateness: How much later a switch may be than it should, relative to its time.
    """

    series: Expansion
    rest: Float[Array, " samples"]
    change: Float[Array, "order samples"]
    modes: Modes
    rates: Frozen
    curvature: Float[Array, " samples"]
    pull_error: Float[Array, "judged samples"]
    noise: Float[Array, " samples"]
    trusted: Float[Array, ""]
    available: Float[Array, ""]
    unit_factor: Float[Array, ""]
    accepted: Bool[Array, ""]
    stationary: Bool[Array, ""]
    stiff: Float[Array, ""]
    warp: Float[Array, ""]
    sweeps: Int[Array, ""]
    start: Float[Array, ""]
    unit: Float[Array, ""]
    tolerance: Float[Array, ""]
    lateness: Float[Array, ""]

    def next_unit(self, frame: Frame, length: Float[Array, ""]) -> Float[Array, ""]:
        """Return the unit of the step that follows this one, which went for `length`.

        Series that all but end (of fixed outer weights under constant pulls) reach `1e19` times
        as far as anything else of the flow: no unit for a step in which something happens.
        """
        weights = self.series.inner[0], self.series.outer[0]
        sizes = weight_sizes(weights, frame.train_outer)
        speed = jnp.max(
            relative_size(self.series.inner[1:2], self.series.outer[1:2], sizes, frame.train_outer)
        )
        reach = _FAR * (1.0 / jnp.where(speed > 0, speed, 1.0) + length)
        factor = jnp.where(speed > 0, jnp.minimum(self.unit_factor, reach), self.unit_factor)
        return self.unit * jax.lax.stop_gradient(factor)

    @property
    def clock(self) -> Clock:
        """What time it is within the step."""
        return Clock(self.start, self.unit, self.warp)

    @property
    def pulls(self) -> Pulls:
        """The pulls about the step's start, the same for all neurons."""
        change = self.change[:, None, :]
        return Pulls(self.rest, change, self.doubt(jnp.abs(change[:JUDGED])), self.reach)

    def pulls_at(self, clock: Float[Array, " taken"]) -> Pulls:
        """Return the pulls re-expanded about each time."""
        change = self.change
        doubt = self.doubt(_shifted(jnp.abs(change), clock, JUDGED))
        return Pulls(self.rest, _shifted(change, clock), doubt, self.reach)

    @property
    def reach(self) -> Float[Array, ""]:
        """For how long errors of the pulls' derivatives add up: not at all where nothing moves."""
        return jnp.where(self.stationary, 0.0, self.available)

    def doubt(self, size: Float[Array, "judged taken samples"]):
        """Return the rounding errors of coefficients that are sums of terms of a size.

        Those that coefficients are made with enter coefficient m divided by the m-th power of
        the length on which the series converges: what is rounded there is functions of that
        smoothness.
        """
        fading = powers(1.0 / jnp.maximum(self.trusted, smallest(size)), size.shape[0])
        inherited = self.pull_error.at[1:].add(fading[1:, None] * self.pull_error[:1])
        return ROUNDING * eps(size) * size + inherited[:, None] + smallest(size)


def step_limits(frame: Frame, step: Step) -> Float[Array, "width constraints order"]:
    """Return the constraints of all neurons as polynomials about the step's start."""
    series = step.series
    motion = Motion(step.pulls, series.outer, step.rates.inner_rate, series.drive)
    nodes = num_nodes(series.pull.shape[0] - 1)

    def product(outer, push):
        on_step = lambda outer, push: product_on_step(outer, push, step.stiff, step.warp, nodes)
        return jax.lax.cond(step.stiff > 0, on_step, series_product, outer, push)

    return constraints(frame, step.modes, motion, product)


def heights_at(
    frame: Frame,
    modes: Modes,
    limits: Float[Array, "width constraints order"],
    length: Float[Array, "*width"],
) -> Float[Array, "width samples"]:
    """Return the preactivations that neurons have reached, from their constraints."""
    signed = evaluate(
        jnp.moveaxis(limits[:, : frame.norms.shape[0]], -1, 0), jnp.atleast_1d(length)[:, None]
    )
    return modes.signs(frame) * signed


def speeds_at(
    frame: Frame, limits: Float[Array, "width constraints order"], length: Float[Array, "*width"]
) -> Float[Array, "width samples"]:
    """Return how fast preactivations move, from their constraints."""
    height = jnp.moveaxis(limits[:, : frame.norms.shape[0], 1:], -1, 0)
    order = jnp.arange(1.0, height.shape[0] + 1, dtype=height.dtype)[:, None, None]
    return jnp.abs(evaluate(order * height, jnp.atleast_1d(length)[:, None]))


def slacks_at(
    frame: Frame, limits: Float[Array, "width constraints order"], length: Float[Array, "*width"]
) -> Float[Array, "width ends"]:
    """Return how far slides' weights are from their ends, from the constraints; 0 if unused."""
    slack = jnp.moveaxis(limits[:, frame.norms.shape[0] :], -1, 0)
    return evaluate(slack, jnp.atleast_1d(length)[:, None])


def series_size(
    series: Float[Array, "order width features"], length: Float[Array, "*width"]
) -> Float[Array, " width"]:
    """Bound a series of vectors on [0, length]: the sum of its terms' norms at the end."""
    return evaluate(norm(series), length)


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
) -> Bool[Array, "width constraints"]:
    """Return which constraints cannot be told to hold on all of [0, length]."""
    _, bernstein = scaled_bernstein(limits, jnp.broadcast_to(length, limits.shape[:1]))
    return jnp.any(bernstein < 0, axis=2)


def _shifted(
    series: Float[Array, "order samples"], t: Float[Array, " taken"], rows: int | None = None
) -> Float[Array, "rows taken samples"]:
    """Re-expand a series about several times, its first rows if not all are wanted."""
    return jnp.einsum("kml,ln->mkn", shift_matrix(t, series.shape[0])[:, :rows], series)

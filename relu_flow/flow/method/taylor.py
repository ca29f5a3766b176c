"""Taylor: one step is a power series of the frozen-pattern flow, from recurrences.

Between switches the flow is polynomial in weights and pulls, so each coefficient follows
from the lower ones by products; no automatic differentiation. The series is its own dense
output, and its last terms tell how far it may be trusted.
"""

from collections.abc import Callable
from typing import ClassVar

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ..._series import evaluate, put
from ..._types import FloatScalarLike
from .field import FlowField, Frozen, Weights, project, relative_size, weight_sizes


class Expansion(eqx.Module):
    """Power series in time of everything a step needs; the first axis counts powers.

    Attributes:
        inner: Inner weights.
        outer: Outer weights.
        pull: Pulls (the highest coefficient is left zero).
        drive: Sums of active pulls times inputs, before projection (likewise).
    """

    inner: Float[Array, "order width features"]
    outer: Float[Array, "order width"]
    pull: Float[Array, "order samples"]
    drive: Float[Array, "order width features"]


def expand(
    field: FlowField,
    weights: Weights,
    frozen: Frozen,
    order: int,
    correction: Float[Array, "order samples"] | None = None,
) -> Expansion:
    """Expand the frozen-pattern flow about a state.

    Args:
        field: The vector field.
        weights: The state.
        frozen: Pattern, scales and rates. Rates multiplied by a unit of time give the
            series in that unit.
        order: Highest power.
        correction: What is added to the outputs, as a power series: what neurons that switch
            within the step put out beyond what the frozen pattern says.

    Returns:
        `order + 1` coefficients of each series.
    """
    frame = field.frame
    (width, features), samples = weights[0].shape, frame.inputs.shape[0]
    like = weights[0].dtype
    if correction is None:
        correction = jnp.zeros((order + 1, samples), like)
    first_output = field.outputs(weights, frozen) + correction[0]
    first_pull = frame.loss.pull(first_output, frame.targets)

    def empty(*shape):
        return jnp.zeros((order + 1, *shape), like)

    output = empty(samples).at[0].set(first_output)
    pull = empty(samples).at[0].set(first_pull)
    memory = frame.loss.first_memory(pull, frame.targets)

    def term(m, carry):
        growth, raw_drive, output, pull, memory = carry
        raw = (frozen.active * (frame.sample_weight * pull[m])[None]) @ frame.inputs
        growth = growth.next(m, project(raw, frozen, frame), frozen)
        active = (growth.output_term(m + 1) @ frame.inputs.T) * frozen.active
        output = put(output, m + 1, frozen.amplitude @ active + correction[m + 1])
        next_pull, memory = frame.loss.pull_term(m + 1, output, pull, memory, frame.targets)
        return (
            growth,
            put(raw_drive, m, raw),
            output,
            put(pull, m + 1, next_pull),
            memory,
        )

    start = (_Growth.of(weights, order), empty(width, features), output, pull, memory)
    growth, raw_drive, _, pull, _ = jax.lax.fori_loop(0, order, term, start)
    # The drive has no coefficient of the highest power. The pulls must not have one either:
    # what a neuron is driven by is taken apart again, and the parts have to match.
    pull = frame.sample_weight[None] * pull.at[order].set(0.0)
    return Expansion(growth.inner, growth.outer, pull, raw_drive)


def expand_driven(
    weights: Weights, drive: Float[Array, "order width features"], frozen: Frozen
) -> tuple[Float[Array, "order width features"], Float[Array, "order width"]]:
    """Expand neurons whose (projected) drive is known as a power series already."""
    order = drive.shape[0] - 1

    def term(m, growth):
        return growth.next(m, drive[m], frozen)

    growth = jax.lax.fori_loop(0, order, term, _Growth.of(weights, order))
    return growth.inner, growth.outer


class _Growth(eqx.Module):
    """Series of weights, coefficient by coefficient.

    The drive and the outer weights are also kept in reverse, so that a product of series
    is a sum over two windows of memory.

    Attributes:
        inner: Inner weights, zero beyond the coefficients known.
        outer: Outer weights, likewise.
        reversed_outer: Coefficient `m` is at `order - m`; zero elsewhere.
        reversed_drive: Likewise.
    """

    inner: Float[Array, "order width features"]
    outer: Float[Array, "order width"]
    reversed_outer: Float[Array, "window width"]
    reversed_drive: Float[Array, "window width features"]

    @classmethod
    def of(cls, weights: Weights, order: int) -> "_Growth":
        """Return the series of which the first coefficient is known."""
        inner, outer = weights
        zeros = lambda rows, like: jnp.zeros((rows, *like.shape), like.dtype)
        return cls(
            zeros(order + 1, inner).at[0].set(inner),
            zeros(order + 1, outer).at[0].set(outer),
            zeros(2 * order + 1, outer).at[order].set(outer),
            zeros(2 * order + 1, inner),
        )

    def next(self, m, drive: Float[Array, "width features"], frozen: Frozen) -> "_Growth":
        """Add coefficient `m + 1` of the weights, given coefficient `m` of the drive."""
        order = self.inner.shape[0] - 1
        reversed_drive = put(self.reversed_drive, order - m, drive)
        window = jax.lax.dynamic_slice_in_dim(reversed_drive, order - m, order + 1)
        # Sums of products, since a batch of tiny matrix products would first be copied into
        # place; and what is written is read by the next sum, so that each is written in place.
        turned = jnp.sum(self.outer[..., None] * window, axis=0)
        scale = 1.0 / (m + 1)
        inner = put(self.inner, m + 1, (scale * frozen.inner_rate)[:, None] * turned)
        # The new coefficient meets a zero of the window. (One sum over both axes is slower.)
        grown = jnp.sum(inner * window, axis=0) @ jnp.ones_like(inner[0, 0])
        outer = scale * frozen.outer_rate * grown
        return _Growth(
            inner,
            put(self.outer, m + 1, outer),
            put(self.reversed_outer, order - m - 1, outer),
            reversed_drive,
        )

    def output_term(self, m) -> Float[Array, "width features"]:
        """Return coefficient `m` of the product of outer and inner weights."""
        order = self.inner.shape[0] - 1
        window = jax.lax.dynamic_slice_in_dim(self.reversed_outer, order - m, order + 1)
        return jnp.sum(window[..., None] * self.inner, axis=0)


def trusted_length(
    inner: Float[Array, "order width features"],
    outer: Float[Array, "order width"],
    tolerance: FloatScalarLike,
    train_outer: bool,
) -> Float[Array, " width"]:
    """Return for each neuron how far its series reaches at a relative tolerance.

    The two last terms are each required to stay below `tolerance` times the neuron's own
    size, whatever the sizes of the others (after Jorba and Zou's step-size choice, which
    uses the two last terms of a Taylor series likewise). `inf` for a resting neuron.
    """
    sizes = weight_sizes((inner[0], outer[0]), train_outer)
    error = relative_size(inner, outer, sizes, train_outer)
    return _last_terms_reach(error, tolerance)


def trusted_pull_length(
    pull: Float[Array, "order samples"], tolerance: FloatScalarLike
) -> Float[Array, ""]:
    """Return how far the pulls' series reach, relative to the largest pull."""
    size = jnp.max(jnp.abs(pull[:-1]), axis=1)
    # A coefficient that is zero may have been as large as what is rounded to zero.
    known = jnp.maximum(size, float(jnp.finfo(size.dtype).tiny))
    error = known / jnp.where(size[0] > 0, size[0], 1.0)
    return _last_terms_reach(error, tolerance)


def _last_terms_reach(error: Float[Array, "order ..."], tolerance) -> Float[Array, "..."]:
    last = error.shape[0] - 1
    reach = [
        (tolerance / jnp.where(error[m] > 0, error[m], 1.0)) ** (1.0 / m) for m in (last - 1, last)
    ]
    reach = [
        jnp.where(error[m] > 0, r, jnp.inf) for m, r in zip((last - 1, last), reach, strict=False)
    ]
    return jnp.minimum(*reach)


class PowerSeriesInterpolation(dfx.AbstractLocalInterpolation):
    """Dense output of a Taylor step: the series itself, in time since `t0`."""

    t0: FloatScalarLike
    t1: FloatScalarLike
    coefficients: PyTree[Array]

    def evaluate(self, t0, t1=None, left: bool = True):
        """Return the state at `t0`, or its increment from `t0` to `t1`."""
        del left
        if t1 is not None:
            later, earlier = self.evaluate(t1), self.evaluate(t0)
            return jax.tree.map(lambda a, b: a - b, later, earlier)
        return jax.tree.map(lambda c: evaluate(c, jnp.asarray(t0 - self.t0)), self.coefficients)


class Taylor(dfx.AbstractSolver):
    """Taylor's method of any order for the gradient flow of a two-layer ReLU network.

    In `relu_flow.solve` it chooses its own steps. In a plain `diffrax.diffeqsolve` it takes
    the terms `diffrax.ODETerm(FlowField(frame))`, a `Frozen` as `args` and the steps of
    Diffrax's controller; the error estimate is the size of the last term.

    Attributes:
        series_order: Highest power of time; at least 4.
        stiff: Whether `relu_flow.solve` may take collocation steps (`method/collocation.py`)
            where stiffness limits the series, or a tail of 1/t goes on (`method/clock.py`): that
            takes 21 steps a decade with series of order 16, and 0.8 with collocation.
        quiet: Whether it may take steps in closed form (`loop/quiet.py`) where all that moves
            is too small for the outputs.
    """

    series_order: int = eqx.field(static=True, default=16)
    stiff: bool = eqx.field(static=True, default=True)
    quiet: bool = eqx.field(static=True, default=True)

    term_structure: ClassVar = dfx.ODETerm
    interpolation_cls: ClassVar[Callable[..., PowerSeriesInterpolation]] = PowerSeriesInterpolation

    def __check_init__(self):
        """Refuse an order with which nothing could be estimated."""
        if self.series_order < 4:
            raise ValueError(
                f"Argument `series_order` must be at least 4, but it is {self.series_order}."
            )

    def order(self, terms) -> int:
        """Return the order of convergence."""
        del terms
        return self.series_order

    def init(self, terms, t0, t1, y0, args):
        """Return no state: a Taylor step remembers nothing."""
        del terms, t0, t1, y0, args

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        """Take one step; see `diffrax.AbstractSolver.step`."""
        del solver_state, made_jump
        series = expand(_flow_field(terms), y0, args, self.series_order)
        coefficients = (series.inner, series.outer)
        length = jnp.asarray(t1 - t0)
        y1 = jax.tree.map(lambda c: evaluate(c, length), coefficients)
        error = jax.tree.map(lambda c: jnp.abs(c[-1]) * length**self.series_order, coefficients)
        return y1, error, {"coefficients": coefficients}, None, dfx.RESULTS.successful

    def func(self, terms, t0, y0, args):
        """Return the vector field."""
        return terms.vf(t0, y0, args)


def _flow_field(terms) -> FlowField:
    """Find the flow's own field in Diffrax's terms: only that has power series."""
    field = getattr(terms, "vector_field", None)
    # `diffeqsolve` wraps a term once to carry the direction of time.
    term = getattr(terms, "term", None)
    while field is None and term is not None:
        field, term = getattr(term, "vector_field", None), getattr(term, "term", None)
    if not isinstance(field, FlowField):
        raise ValueError(
            "Argument `terms` must be `diffrax.ODETerm(FlowField(frame))` for the solver "
            f"`Taylor`, but its vector field is {field!r}."
        )
    return field

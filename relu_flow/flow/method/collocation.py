r"""Collocation: one long step through a stiff flow, at Radau's nodes, solved for the outputs.

After the last switch what limits a power series is the decay of residuals that are fitted:
outputs obey $f' = K g(f)$ with the tangent kernel $K$, fast in some directions although
nothing moves there any more. An implicit step need not resolve what is at rest. Its unknowns
are the outputs at the nodes, (nodes x samples) numbers; neurons follow from them by quadrature,
all nodes at once, and Newton's method with the kernel of the step's start mends the outputs,
one small system for each eigenvalue. The nodes are those of Radau IIA (Hairer and Wanner,
*Solving Ordinary Differential Equations II*, IV.5 and IV.8), so that what decays is damped
however long the step; weights are polynomials on it, and so it is searched for switches like
any other.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._norm import norm
from ..._series import powers
from ..tolerances import eps
from .clock import pace
from .field import (
    FlowField,
    Frozen,
    Weights,
    project,
    relative_size,
    slide_inputs,
    weight_sizes,
)
from .frame import Frame
from .radau import Table, num_nodes, table_of, through
from .taylor import Expansion

# Sweeps that a step may take; one that converges at all takes about ten.
_SWEEPS = 20
# By what factor the last coefficients may exceed the tolerance and still end below it, and what
# the next sweep's change may still take off them.
_HOPE, _ROUGH = 100.0, 1e-6


class Collocation(eqx.Module):
    """What came of a collocation step.

    Attributes:
        series: Polynomials on the step, in the unit of the frozen rates.
        error: The last coefficients of the weights over their tolerance, and of the pulls.
        growth: Factor for the length at which they would come to that.
        converged: Whether Newton's method found the step.
        sweeps: In how many sweeps, each an evaluation of the network at all nodes.
    """

    series: Expansion
    error: Float[Array, ""]
    growth: Float[Array, ""]
    converged: Bool[Array, ""]
    sweeps: Int[Array, ""]


class _Stages(eqx.Module):
    """Where Newton's method has come to.

    Attributes:
        outputs: By how much the outputs have changed at the nodes.
        pull: The pulls there.
        inner: By how much the inner weights have changed with the pulls of the sweep before.
        outer: The same of the outer weights.
        sizes: Legendre coefficients of the weights and of the pulls, in units of what they may be.
        change: What the last sweep changed, relative to each neuron.
        before: What the one before did.
        sweeps: How many there were.
    """

    outputs: Float[Array, "nodes samples"]
    pull: Float[Array, "nodes samples"]
    inner: Float[Array, "nodes width features"]
    outer: Float[Array, "nodes width"]
    sizes: tuple[Float[Array, " degrees"], Float[Array, " nodes"]]
    change: Float[Array, ""]
    before: Float[Array, ""]
    sweeps: Int[Array, ""]

    @classmethod
    def start(
        cls, frame: Frame, outputs: Float[Array, " samples"], weights: Weights, runs
    ) -> "_Stages":
        """Return the stages of a step on which nothing has been found to change.

        In a tail the pulls are taken to fall by as much as time runs faster, to first order.
        """
        nodes, pull = runs.shape[0], frame.pull(outputs)
        still = lambda array: jnp.zeros((nodes, *array.shape), array.dtype)
        inner, outer = map(still, weights)
        curvature = frame.sample_weight * frame.loss.curvature(outputs, frame.targets)
        way = pull / jnp.where(curvature > 0, curvature, jnp.inf)
        gained = (1.0 - 1.0 / runs)[:, None] * way[None]
        pull_after = jax.vmap(frame.loss.pull_after, in_axes=(None, 0, None))
        pulls = frame.sample_weight[None] * pull_after(outputs, gained, frame.targets)
        sizes = jnp.zeros(nodes + 1, pull.dtype), jnp.zeros(nodes, pull.dtype)
        far = jnp.full((), jnp.inf, pull.dtype)
        none = jnp.zeros((), jnp.int32)
        return cls(gained, pulls, inner, outer, sizes, far, far, none)

    def improving(self, settled, tolerance: Float[Array, ""]) -> Bool[Array, ""]:
        """Return whether another sweep is wanted, and may still help."""
        gaining = jnp.isfinite(self.change) & (self.change < 0.9 * self.before)
        last = jnp.maximum(self.sizes[0][-1], self.sizes[1][-1])
        hopeless = last > _HOPE * (1.0 + _ROUGH * self.change / tolerance)
        young = (self.sweeps <= 3) & jnp.isfinite(self.change)
        useful = (young | gaining) & ~(hopeless & (self.sweeps > 2))
        return (self.sweeps == 0) | ((self.change > settled) & useful & (self.sweeps < _SWEEPS))


def collocate(
    field: FlowField,
    weights: Weights,
    frozen: Frozen,
    length: Float[Array, ""],
    warp: Float[Array, ""],
    order: int,
    tolerance: Float[Array, ""],
    pull_error: Float[Array, " samples"],
    wanted: Bool[Array, ""],
) -> Collocation:
    """Take one step by collocation, its pattern frozen.

    Args:
        field: The vector field.
        weights: The state at the step's start.
        frozen: Pattern, scales and rates.
        length: Length of the step, in the unit of the rates; positive.
        warp: How time runs on it (see `clock.py`).
        order: Highest power of the series returned.
        tolerance: Relative to each neuron, and to the largest pull.
        pull_error: Errors of the pulls that no step can be without.
        wanted: Whether the step is wanted: under `vmap` that of others may be.

    Returns:
        What came of it. Where it has not converged, or its error is above 1, it is no step.
    """
    frame, table = field.frame, table_of(num_nodes(order))
    on_step = frozen.times(length)
    outputs = field.outputs(weights, on_step)
    runs = pace(warp, length * jnp.asarray(table.nodes, length.dtype))
    sweep = _sweep(field, weights, on_step, outputs, runs, table, tolerance, pull_error, wanted)
    rounding = _rounding(frame, weights, on_step, runs, outputs)
    settled = jnp.maximum(jnp.maximum(0.1 * tolerance, 16 * eps(length)), rounding)
    settled = jnp.minimum(settled, jnp.maximum(tolerance, 16 * eps(length)))
    start = _Stages.start(frame, outputs, weights, runs)
    going_on = lambda stages: wanted & stages.improving(settled, tolerance)
    stages = jax.lax.while_loop(going_on, sweep, start)
    own, pulls = stages.sizes
    return Collocation(
        series=_series(table, frame, weights, stages, on_step, length, order),
        error=jnp.maximum(jnp.max(own[-2:]), jnp.max(pulls[-2:])),
        growth=jnp.minimum(_growth(own[1:]), _growth(pulls)),
        converged=stages.change <= settled,
        sweeps=stages.sweeps,
    )


def _rounding(frame: Frame, weights: Weights, frozen: Frozen, runs, outputs) -> Float[Array, ""]:
    """Return by how much of its size the rounding of its drive moves a neuron in a step.

    Where pulls cancel that goes on changing from sweep to sweep, and says nothing.
    """
    pull = jnp.abs(frame.pull(outputs))
    drive = frozen.active @ (pull * frame.norms)
    way = eps(drive) * jnp.mean(runs) * drive
    inner = frozen.inner_rate * jnp.abs(weights[1]) * way
    outer = frozen.outer_rate * norm(weights[0]) * way
    sizes = weight_sizes(weights, frame.train_outer)
    moved = relative_size(inner[None, :, None], outer[None], sizes, frame.train_outer)
    return jnp.max(moved)


def _sweep(
    field: FlowField,
    weights: Weights,
    frozen: Frozen,
    start: Float[Array, " samples"],
    runs: Float[Array, " nodes"],
    table: Table,
    tolerance: Float[Array, ""],
    pull_error: Float[Array, " samples"],
    wanted: Bool[Array, ""],
) -> Callable[[_Stages], _Stages]:
    """Return one sweep of Newton's method over all nodes; time is in steps.

    `start` are the outputs at the step's start, `runs` says how fast time runs at the nodes.
    """
    frame, train_outer = field.frame, field.frame.train_outer
    quadrature = jnp.asarray(table.quadrature, start.dtype) * runs[None]
    # What solves the stages has no part in what the solution is, nor in its derivatives.
    known = jax.lax.stop_gradient((weights, frozen, start))
    solve = _newton(field, *known, jax.lax.stop_gradient(quadrature), runs[-1] > 1, wanted)
    scale = weight_sizes(weights, train_outer)
    inner_rate, outer_rate, active = (
        array[None] for array in (frozen.inner_rate, frozen.outer_rate, frozen.active)
    )
    old_inner, old_outer = weights[0][None], weights[1][None]
    height = (old_inner @ frame.inputs.T) * active
    pull_after = jax.vmap(frame.loss.pull_after, in_axes=(None, 0, None))

    def sweep(stages: _Stages) -> _Stages:
        raw = (active * stages.pull[:, None, :]) @ frame.inputs
        drive = project(raw, frozen, frame)
        velocity = (inner_rate * (old_outer + stages.outer))[..., None] * drive
        inner = jnp.tensordot(quadrature, velocity, axes=1)
        outer = quadrature @ (outer_rate * jnp.sum((old_inner + inner) * drive, axis=-1))
        # What has been gained is small, and so known to more digits than what there is.
        gained = (old_outer + outer)[..., None] * (active * (inner @ frame.inputs.T))
        gained = gained + outer[..., None] * height
        reached = jnp.einsum("j,pjn->pn", frozen.amplitude, gained)
        moved = inner - stages.inner, outer - stages.outer
        change = jnp.max(relative_size(*moved, scale, train_outer))
        outputs = stages.outputs + solve(reached - stages.outputs, jax.lax.stop_gradient(stages))
        pull = frame.sample_weight[None] * pull_after(start, outputs, frame.targets)
        in_basis = lambda array: jnp.tensordot(
            jnp.asarray(table.legendre, array.dtype), array, axes=1
        )
        own = relative_size(in_basis(inner), in_basis(outer), scale, train_outer)
        sizes = jnp.max(own, axis=1) / tolerance, _pull_sizes(table, pull, tolerance, pull_error)
        return _Stages(outputs, pull, inner, outer, sizes, change, stages.change, stages.sweeps + 1)

    return sweep


def _pull_sizes(
    table: Table, pull: Float[Array, "nodes samples"], tolerance, pull_error
) -> Float[Array, " nodes"]:
    """Return the Legendre coefficients of the pulls, in units of what they may be."""
    coefficients = jnp.abs(jnp.asarray(table.pull_legendre, pull.dtype) @ pull)
    allowed = tolerance * jnp.max(jnp.abs(pull)) + pull_error
    return jnp.max(coefficients / jnp.where(allowed > 0, allowed, 1.0)[None], axis=1)


def _newton(
    field: FlowField, weights: Weights, frozen: Frozen, outputs, quadrature, warped, wanted
):
    """Return a function that solves `(1 + A K c) x = r` for the stages' outputs.

    `A` is the quadrature, `K` the tangent kernel and `c` the loss's curvature, at the start. Where
    time is `warped` they are those at the nodes, as far as their diagonals tell: in a tail `c`
    falls, or `K`, by as much as time runs faster; for a sample that has been fitted neither does.
    """
    frame = field.frame
    nodes, samples = quadrature.shape[0], outputs.shape[0]
    curvature = frame.sample_weight * frame.loss.curvature(outputs, frame.targets)
    rate = frozen.amplitude * frozen.inner_rate, frozen.amplitude * frozen.outer_rate
    curvature_at = jax.vmap(frame.loss.curvature, in_axes=(0, None))

    def decay(outputs: Float[Array, "nodes samples"], inner, outer):
        """Return how fast each sample's own residual decays, the others being held."""
        turning = (rate[0][None] * outer**2) @ frozen.active
        height = (inner @ frame.inputs.T) * frozen.active[None]
        kernel = turning * frame.norms[None] ** 2 + jnp.einsum("j,pjn->pn", rate[1], height**2)
        return frame.sample_weight[None] * curvature_at(outputs, frame.targets) * kernel

    first = decay(outputs[None], weights[0][None], weights[1][None])

    def slowing(stages: _Stages) -> Float[Array, "nodes samples"]:
        there = decay(
            outputs[None] + stages.outputs,
            weights[0][None] + stages.inner,
            weights[1][None] + stages.outer,
        )
        return jnp.where(first > 0, there / jnp.where(first > 0, first, 1.0), 1.0)

    def prepare(_):
        kernel = _kernel(field, weights, frozen)
        root = jnp.sqrt(curvature)
        values, vectors = jnp.linalg.eigh(root[:, None] * kernel * root[None])
        values = jnp.maximum(values, 0.0)
        return kernel, vectors, values, inverted(values, even), jnp.array(False)

    def inverted(values, slowed: Float[Array, "nodes samples"]):
        systems = values[:, None, None] * quadrature[None] * slowed.T[:, None, :]
        return jnp.linalg.inv(jnp.eye(nodes, dtype=values.dtype)[None] + systems)

    even = jnp.ones((nodes, samples), outputs.dtype)
    like = lambda *shape: jnp.zeros(shape, outputs.dtype)
    nothing = (
        like(samples, samples), like(samples, samples), like(samples),
        like(samples, nodes, nodes), wanted,
    )  # fmt: skip
    # A loop of one: unlike a condition it is skipped under `vmap` if nobody wants it.
    kernel, vectors, values, inverses, _ = jax.lax.while_loop(lambda s: s[4], prepare, nothing)

    def anew(stages: _Stages):
        # In each direction the mean of what it is made of.
        slowed = jnp.clip(slowing(stages), 0.0, 1.0) @ vectors**2
        return inverted(values, slowed), slowed

    def solve(residual: Float[Array, "nodes samples"], stages: _Stages):
        # In terms of c^1/2 x, so that a curvature of zero divides nothing.
        root = jnp.sqrt(curvature)
        found, slowed = jax.lax.cond(warped, anew, lambda _: (inverses, even), stages)
        turned = (root[None] * residual) @ vectors
        solved = (slowed * jnp.einsum("ipq,qi->pi", found, turned)) @ vectors.T
        return residual - quadrature @ ((root[None] * solved) @ kernel)

    return solve


def _kernel(field: FlowField, weights: Weights, frozen: Frozen) -> Float[Array, "samples samples"]:
    """Return the tangent kernel of the frozen pattern: `f' = K g`."""
    frame, (inner, outer) = field.frame, weights
    turning = (frozen.amplitude * frozen.inner_rate * outer**2)[:, None] * frozen.active
    height = (inner @ frame.inputs.T) * frozen.active
    growing = (frozen.amplitude * frozen.outer_rate)[:, None] * height
    kernel = (turning.T @ frozen.active) * frame.gram + growing.T @ height
    if frozen.slides.shape[1] == 0:
        return kernel
    across = slide_inputs(frame, frozen.slides) @ frame.inputs.T
    dual = frozen.dual @ frame.inputs.T
    held = jnp.einsum("ji,jsi,jsk,jk->ik", turning, across, dual, frozen.active, optimize="optimal")
    return kernel - held


def _growth(sizes: Float[Array, " degrees"]) -> Float[Array, ""]:
    """Return by how much a step may be longer for its last coefficient to come to 1.

    Coefficients fall off by a factor each, which is proportional to the length. It is that of
    the upper half of those above 1: below there may be but noise, and the first few of a tail of
    1/t fall off by twice as little as the others.
    """
    # The largest of a coefficient and all that follow: every other one may be zero.
    known = jax.lax.cummax(sizes, reverse=True)
    count = sizes.shape[0]
    last = jnp.sum(known > 1.0) - 1
    middle = jnp.maximum(last, 0) // 2
    between = jnp.maximum(last - middle, 1).astype(sizes.dtype)
    top, end = known[middle], known[jnp.maximum(last, 0)]
    ratio = (end / jnp.where(top > 0, top, 1.0)) ** (1.0 / between)
    tail = end * ratio ** (count - 1 - last).astype(sizes.dtype)
    # One coefficient above 1 tells no rate.
    return jnp.where(last > middle, tail ** (-1.0 / count), jnp.inf)


def _series(
    table: Table, frame: Frame, weights: Weights, stages: _Stages, frozen: Frozen, length, order
) -> Expansion:
    """Return the polynomials through the stages as power series."""
    unit = powers(length, order + 1)

    def fill(coefficients):
        missing = order + 1 - coefficients.shape[0]
        padded = jnp.pad(coefficients, ((0, missing), *[(0, 0)] * (coefficients.ndim - 1)))
        return padded / jax.lax.broadcast_in_dim(unit, padded.shape, (0,))

    def grown(first, gained):
        return fill(through(table.legendre, gained).at[0].set(first))

    pull = fill(through(table.pull_legendre, stages.pull))
    drive = jnp.einsum("jn,pn,nd->pjd", frozen.active, pull, frame.inputs)
    return Expansion(grown(weights[0], stages.inner), grown(weights[1], stages.outer), pull, drive)

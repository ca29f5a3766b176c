r"""Collocation: one long step through a stiff flow, at Radau's nodes, solved for the outputs.

After the last switch what limits a power series is the decay of residuals that are fitted:
outputs obey $f' = K g(f)$ with the tangent kernel $K$, fast in some directions although
nothing moves there any more. An implicit step need not resolve what is at rest. Its unknowns
are the outputs at the nodes, (nodes x samples) numbers; neurons follow from them by quadrature,
all nodes at once, and Newton's method (`newton.py`) mends the outputs, and the neurons with them:
what the rounding of large pulls adds up to in a long step is damped as all is that is stiff. The
nodes are those of Radau IIA (Hairer and Wanner, *Solving Ordinary Differential Equations II*,
IV.5 and IV.8), so that what decays is damped however long the step; weights are polynomials on
it, and so it is searched for switches like any other.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._norm import norm
from ..._series import powers
from ..tolerances import OUTPUT, ROUNDING, eps
from .clock import pace
from .field import (
    FlowField,
    Frozen,
    Weights,
    driven_by,
    project,
    relative_size,
    weight_sizes,
)
from .frame import Frame
from .newton import newton
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
        converged: Whether Newton's method found the step, and what is at rest by its first node
            did not move before it by more than it may.
        sweeps: In how many sweeps, each an evaluation of the network at all nodes.
    """

    series: Expansion
    error: Float[Array, ""]
    growth: Float[Array, ""]
    converged: Bool[Array, ""]
    sweeps: Int[Array, ""]


class _Known(eqx.Module):
    """What is known before the first sweep.

    Attributes:
        field: The vector field.
        weights: The state at the step's start.
        frozen: Pattern, scales and rates, in steps.
        outputs: The outputs at the start.
        pull: The pulls there.
        drive: The drives there, zero where pulls cancel but for rounding.
        held: The samples that such a neuron at rest feels.
        runs: How fast time runs at the nodes.
        tolerance: Relative to each neuron, and to the largest pull.
        rounding: By how much of its size the rounding of its drive moves each neuron in the step.
        pull_error: Errors of the pulls that no step can be without.
    """

    field: FlowField
    weights: Weights
    frozen: Frozen
    outputs: Float[Array, " samples"]
    pull: Float[Array, " samples"]
    drive: Float[Array, "width features"]
    held: Bool[Array, " samples"]
    runs: Float[Array, " nodes"]
    tolerance: Float[Array, ""]
    rounding: Float[Array, " width"]
    pull_error: Float[Array, " samples"]

    @classmethod
    def of(
        cls, field: FlowField, weights: Weights, frozen: Frozen, runs, tolerance, pull_error
    ) -> "_Known":
        """Return what is known of a step.

        Where pulls cancel to their last digit nothing moves: their rounding, times a long step,
        would be noise from sweep to sweep.
        """
        frame, outputs = field.frame, field.outputs(weights, frozen)
        pull = frame.pull(outputs)
        drive = driven_by(pull, frozen, frame)
        size = jnp.abs(outputs) + jnp.abs(frame.targets)
        error = eps(pull) * (ROUNDING * jnp.abs(pull) + OUTPUT * frame.curvature(outputs) * size)
        resting = norm(drive) <= frozen.active @ (error * frame.norms)
        return cls(
            field=field,
            weights=weights,
            frozen=frozen,
            outputs=outputs,
            pull=pull,
            drive=jnp.where(resting[:, None], 0.0, drive),
            held=jnp.any(resting[:, None] & (frozen.active > 0), axis=0),
            runs=runs,
            tolerance=tolerance,
            rounding=jnp.where(resting, 0.0, _rounding(frame, weights, frozen, runs, pull)),
            pull_error=pull_error,
        )


def _rounding(frame: Frame, weights: Weights, frozen: Frozen, runs, pull) -> Float[Array, " width"]:
    """Return by how much of its size the rounding of its drive moves each neuron in a step.

    Where pulls cancel but for what moves slowly they are known to no more: so far may a neuron
    be from where the fast among them would have it.
    """
    drive = frozen.active @ (jnp.abs(pull) * frame.norms)
    way = eps(drive) * jnp.mean(runs) * drive
    inner = frozen.inner_rate * jnp.abs(weights[1]) * way
    outer = frozen.outer_rate * norm(weights[0]) * way
    sizes = weight_sizes(weights, frame.train_outer)
    return relative_size(inner[None, :, None], outer[None], sizes, frame.train_outer)[0]


class _Stages(eqx.Module):
    """Where Newton's method has come to.

    Attributes:
        outputs: By how much the outputs have changed at the nodes.
        pull: The pulls there.
        inner: By how much the inner weights have changed with the pulls of the sweep before.
        outer: The same of the outer weights.
        sizes: Legendre coefficients of the weights and of the pulls, in units of what they may be.
        jump: By how much the weights miss those at the start, extrapolated, in units of what
            they may.
        change: What the last sweep changed, relative to each neuron.
        before: What the one before did.
        sweeps: How many there were.
    """

    outputs: Float[Array, "nodes samples"]
    pull: Float[Array, "nodes samples"]
    inner: Float[Array, "nodes width features"]
    outer: Float[Array, "nodes width"]
    sizes: tuple[Float[Array, " nodes"], Float[Array, " nodes"]]
    jump: Float[Array, ""]
    change: Float[Array, ""]
    before: Float[Array, ""]
    sweeps: Int[Array, ""]

    @classmethod
    def start(cls, known: _Known) -> "_Stages":
        """Return the stages of a step on which nothing has been found to change.

        In a tail the pulls are taken to fall by as much as time runs faster, to first order, but
        for those that are held.
        """
        frame, outputs, runs = known.field.frame, known.outputs, known.runs
        still = lambda array: jnp.zeros((runs.shape[0], *array.shape), array.dtype)
        inner, outer = map(still, known.weights)
        curvature = frame.curvature(outputs)
        way = known.pull / jnp.where((curvature > 0) & ~known.held, curvature, jnp.inf)
        gained = (1.0 - 1.0 / runs)[:, None] * way[None]
        nothing = jnp.zeros_like(runs)
        far = jnp.full((), jnp.inf, runs.dtype)
        return cls(
            outputs=gained,
            pull=frame.pull_after(outputs, gained),
            inner=inner,
            outer=outer,
            sizes=(nothing, nothing),
            jump=nothing[0],
            change=far,
            before=far,
            sweeps=jnp.zeros((), jnp.int32),
        )

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
    table, on_step = table_of(num_nodes(order)), frozen.times(length)
    runs = pace(warp, length * jnp.asarray(table.nodes, length.dtype))
    known = _Known.of(field, weights, on_step, runs, tolerance, pull_error)
    settled = jnp.maximum(0.1 * tolerance, 16 * eps(length))
    going_on = lambda stages: wanted & stages.improving(settled, tolerance)
    stages = jax.lax.while_loop(going_on, _sweep(known, table, wanted), _Stages.start(known))
    own, pulls = stages.sizes
    return Collocation(
        series=_series(known, table, stages, length, order),
        error=jnp.maximum(jnp.max(own[-2:]), jnp.max(pulls[-2:])),
        growth=jnp.minimum(_growth(own[1:]), _growth(pulls)),
        converged=(stages.change <= settled) & (stages.jump <= 1.0),
        sweeps=stages.sweeps,
    )


def _sweep(known: _Known, table: Table, wanted: Bool[Array, ""]) -> Callable[[_Stages], _Stages]:
    """Return one sweep of Newton's method over all nodes; time is in steps."""
    field, frozen, start, runs = known.field, known.frozen, known.outputs, known.runs
    weights = known.weights
    frame, train_outer = field.frame, field.frame.train_outer
    quadrature = jnp.asarray(table.quadrature, start.dtype) * runs[None]
    # What solves the stages has no part in what the solution is, nor in its derivatives.
    fixed = jax.lax.stop_gradient((weights, frozen, start, quadrature))
    solve = newton(field, *fixed, runs[-1] > 1, wanted)
    scale = weight_sizes(weights, train_outer)
    inner_rate, outer_rate, active = (
        array[None] for array in (frozen.inner_rate, frozen.outer_rate, frozen.active)
    )
    old_inner, old_outer = weights[0][None], weights[1][None]
    height = (old_inner @ frame.inputs.T) * active

    def along(rate, drive):
        # Projected again: rounding may not add up to leave a hyperplane that is slid on.
        velocity = rate[..., None] * drive
        return project(jnp.tensordot(quadrature, velocity, axes=1), frozen, frame)

    def sweep(stages: _Stages) -> _Stages:
        fallen = frame.pull_change(start, stages.outputs)
        fallen = jnp.where(jnp.isfinite(fallen), fallen, stages.pull - known.pull[None])
        raw = (active * fallen[:, None, :]) @ frame.inputs
        drive = known.drive[None] + project(raw, frozen, frame)
        inner = along(inner_rate * (old_outer + stages.outer), drive)
        outer = quadrature @ (outer_rate * jnp.sum((old_inner + inner) * drive, axis=-1))
        # What has been gained is small, and so known to more digits than what there is.
        gained = (old_outer + outer)[..., None] * (active * (inner @ frame.inputs.T))
        gained = gained + outer[..., None] * height
        reached = jnp.einsum("j,pjn->pn", frozen.amplitude, gained)
        changes = jax.lax.stop_gradient((stages.outputs, stages.inner, stages.outer))
        mended, less = solve(reached - stages.outputs, changes)
        outputs = stages.outputs + mended
        inner = inner - along(inner_rate * old_outer, (active * less[:, None, :]) @ frame.inputs)
        outer = outer - quadrature @ (outer_rate * (less @ height[0].T))
        moved = inner - stages.inner, outer - stages.outer
        change = jnp.max(relative_size(*moved, scale, train_outer))
        pull = frame.pull_after(start, outputs)
        in_basis = lambda array: jnp.tensordot(
            jnp.asarray(table.judged, array.dtype), array, axes=1
        )
        own = relative_size(in_basis(inner), in_basis(outer), scale, train_outer)
        jump = jnp.max(own[-1] / (known.tolerance + known.rounding))
        own = jnp.max(own[:-1], axis=1) / known.tolerance
        sizes = own, _pull_sizes(known, table, pull)
        before, sweeps = stages.change, stages.sweeps + 1
        return _Stages(outputs, pull, inner, outer, sizes, jump, change, before, sweeps)

    return sweep


def _pull_sizes(
    known: _Known, table: Table, pull: Float[Array, "nodes samples"]
) -> Float[Array, " nodes"]:
    """Return the Legendre coefficients of the pulls, in units of what they may be."""
    coefficients = jnp.abs(jnp.asarray(table.pull_legendre, pull.dtype) @ pull)
    allowed = known.tolerance * jnp.max(jnp.abs(pull)) + known.pull_error
    return jnp.max(coefficients / jnp.where(allowed > 0, allowed, 1.0)[None], axis=1)


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


def _series(known: _Known, table: Table, stages: _Stages, length, order) -> Expansion:
    """Return the polynomials through the stages as power series."""
    weights, frozen = known.weights, known.frozen
    unit = powers(length, order + 1)

    def fill(coefficients):
        missing = order + 1 - coefficients.shape[0]
        padded = jnp.pad(coefficients, ((0, missing), *[(0, 0)] * (coefficients.ndim - 1)))
        return padded / jax.lax.broadcast_in_dim(unit, padded.shape, (0,))

    def grown(first, gained):
        return fill(through(table.legendre, gained).at[0].set(first))

    pull = fill(through(table.pull_legendre, stages.pull))
    drive = jnp.einsum("jn,pn,nd->pjd", frozen.active, pull, known.field.frame.inputs)
    return Expansion(grown(weights[0], stages.inner), grown(weights[1], stages.outer), pull, drive)

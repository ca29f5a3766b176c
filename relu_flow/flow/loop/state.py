"""The state of a solve: what the next iteration needs, and what has been found so far."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._norm import norm
from ..method.correction import no_correction
from ..method.field import weight_sizes
from ..method.frame import Frame, Neurons
from ..method.stiffness import Pace
from ..results import RESULTS
from ..step.step_size import StepSize
from ..step.travellers import Counts
from ..surface.initial import initial_modes
from ..surface.slides import with_dual
from ..trajectory import SwitchLog
from .context import Context
from .milestones import EventSearch, Records
from .point import Point


class Attempt(eqx.Module):
    """The present step, between iterations.

    Attributes:
        expansions: How often it was expanded to learn what its switches do.
        correction: What its pulls are to be told of that when it is expanded next.
        size: How far the step goes.
        stiff: The length of the collocation step that it is, 0 if it is none.
        warp: How time runs on it, 0 if evenly.
        tried: Whether one was tried.
        converged: Whether the pulls know of what the switches do: the step is as it will stay,
            and what remains is to look for times asked for, and for milestones.
        end: Where it ends, once it has converged.
        looking: Whether more times asked for lie in it.
        search: The search for milestones within it.
    """

    expansions: Int[Array, ""]
    correction: Float[Array, "degrees samples"]
    size: StepSize
    stiff: Float[Array, ""]
    warp: Float[Array, ""]
    tried: Bool[Array, ""]
    converged: Bool[Array, ""]
    end: Point
    looking: Bool[Array, ""]
    search: EventSearch

    @property
    def searching(self) -> Bool[Array, ""]:
        """Whether the next expansion is a look into the step, for a milestone."""
        return self.converged & ~self.looking

    @classmethod
    def new(cls, point: Point, milestones: int) -> "Attempt":
        """Return the attempt at a step that has not been expanded yet."""
        dtype = point.neurons.inner.dtype
        return cls(
            expansions=jnp.zeros((), jnp.int32),
            correction=no_correction(point.modes.side.shape[1], dtype),
            size=StepSize.unknown(point.modes.side.shape, dtype),
            stiff=jnp.zeros((), dtype),
            warp=jnp.zeros((), dtype),
            tried=jnp.array(False),
            converged=jnp.array(False),
            end=point,
            looking=jnp.array(False),
            search=EventSearch.none(milestones, dtype),
        )


class StepCounts(eqx.Module):
    """Counts of whole steps, and since when nothing moves."""

    iterations: Int[Array, ""]
    steps: Int[Array, ""]
    stiff: Int[Array, ""]
    quiet: Int[Array, ""]
    sweeps: Int[Array, ""]
    truncated: Int[Array, ""]
    rejected: Int[Array, ""]
    repels: Int[Array, ""]
    unconverged: Int[Array, ""]
    stationary_since: Float[Array, ""]

    @classmethod
    def zero(cls, repels: Int[Array, ""], dtype) -> "StepCounts":
        """Return the counts before the first step; `repels` counts those of the start."""
        zero, never = jnp.zeros((), jnp.int32), jnp.asarray(jnp.inf, dtype)
        return cls(zero, zero, zero, zero, zero, zero, zero, repels, zero, never)


class History(eqx.Module):
    """What is needed to take each step again.

    Attributes:
        t: Start of each step; `inf` in unused rows.
        unit: Unit of time of each step.
        point: Neurons and modes at the start of each step (of the dual only its shape is kept).
        correction: What switches do to the outputs within the step.
        length: How far the step goes.
        stiff: The length of the collocation step that it is, 0 if it is none.
        warp: How time runs on it, 0 if evenly.
        quiet: Whether it is in closed form.
    """

    t: Float[Array, " steps"]
    unit: Float[Array, " steps"]
    point: Point
    correction: Float[Array, "steps degrees samples"]
    length: Float[Array, " steps"]
    stiff: Float[Array, " steps"]
    warp: Float[Array, " steps"]
    quiet: Bool[Array, " steps"]

    @classmethod
    def empty(cls, rows: int, point: Point) -> "History":
        """Return a history of no steps."""
        dtype = point.neurons.inner.dtype
        spread = lambda x: jnp.zeros((rows, *x.shape), x.dtype)
        points = jax.tree.map(spread, point)
        dual = jnp.zeros((0, *point.modes.dual.shape), dtype)
        points = eqx.tree_at(lambda p: p.modes.dual, points, dual)
        times = jnp.full(rows, jnp.inf, dtype)
        corrections = spread(no_correction(point.modes.side.shape[1], dtype))
        quiet = jnp.zeros(rows, bool)
        return cls(times, times, points, corrections, times, times, times, quiet)

    def set(
        self,
        slot: Int[Array, ""],
        t: Float[Array, ""],
        unit: Float[Array, ""],
        point: Point,
        correction: Float[Array, "degrees samples"],
        length: Float[Array, ""],
        stiff: Float[Array, ""],
        warp: Float[Array, ""],
        quiet: Bool[Array, ""],
    ) -> "History":
        """Write down a step."""
        put = lambda rows, value: rows.at[slot].set(value, mode="drop")
        point = eqx.tree_at(lambda p: p.modes.dual, point, self.point.modes.dual)
        points = jax.tree.map(
            lambda rows, value: rows if rows is value else put(rows, value), self.point, point
        )
        return History(
            put(self.t, t),
            put(self.unit, unit),
            points,
            put(self.correction, correction),
            put(self.length, length),
            put(self.stiff, stiff),
            put(self.warp, warp),
            put(self.quiet, quiet),
        )

    def point_at(self, slot: Int[Array, ""], frame: Frame) -> Point:
        """Return neurons and modes at the start of a step."""
        dual = jnp.zeros(self.point.modes.dual.shape[1:], self.t.dtype)
        rest = eqx.tree_at(lambda p: p.modes.dual, self.point, dual[None])
        point = jax.tree.map(lambda rows: rows[jnp.minimum(slot, rows.shape[0] - 1)], rest)
        return eqx.tree_at(lambda p: p.modes, point, with_dual(frame, point.modes))


class State(eqx.Module):
    """A solve on its way: the carry of the loop.

    Attributes:
        t: Start of the present step.
        unit: Its unit of time.
        pace: Which kind of step comes next.
        point: Neurons and modes there.
        attempt: The present step.
        log: The switches.
        counts: What happened at hyperplanes.
        steps: Counts of steps.
        records: What has been asked for and found.
        result: `successful` as long as all is well.
        history: What dense output needs, if that is wanted.
        initial_sides: Modes at the start.
    """

    t: Float[Array, ""]
    unit: Float[Array, ""]
    pace: Pace
    point: Point
    attempt: Attempt
    log: SwitchLog
    counts: Counts
    steps: StepCounts
    records: Records
    result: RESULTS
    history: History | None
    initial_sides: Int[Array, "width samples"]


def init(context: Context, t0: Float[Array, ""]) -> State:
    """Return the state before the first step."""
    frame, options = context.frame, context.options
    dtype = context.rtol.dtype
    neurons = Neurons.of(context.problem, context.start)
    modes, repels = initial_modes(frame, neurons, options.max_slides)
    point = Point(neurons, modes)
    saved = jax.tree.map(
        lambda x: jnp.broadcast_to(x, (max(context.ts.shape[0], 1), *x.shape)), neurons
    )
    values = context.values(neurons)
    return State(
        t=t0,
        unit=_first_unit(context, point, t0),
        pace=Pace.start(),
        point=point,
        attempt=Attempt.new(point, len(options.milestones)),
        log=SwitchLog.empty(options.max_switches, dtype),
        counts=Counts.zero(),
        steps=StepCounts.zero(repels, dtype),
        records=Records(
            saved,
            jnp.searchsorted(context.ts, t0, side="right").astype(jnp.int32),
            values,
            jnp.full(values.shape, jnp.inf, dtype),
        ),
        result=RESULTS.successful,
        history=History.empty(options.dense_steps, point) if options.dense_steps else None,
        initial_sides=modes.side,
    )


def _first_unit(context: Context, point: Point, t0) -> Float[Array, ""]:
    """Return the time in which the fastest neuron moves by its own size."""
    frozen = context.frozen(point, 1.0)
    weights = (point.neurons.inner, point.neurons.outer)
    speed = norm(context.field(t0, weights, frozen)[0])
    size, _ = weight_sizes(weights, context.frame.train_outer)
    rate = jnp.max(speed / jnp.where(size > 0, size, jnp.inf))
    return 1.0 / jnp.maximum(rate, 1.0 / (context.t1 - t0))

"""A run on its way: its equation, its present step, and its beginning."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._types import FloatScalarLike
from ...model.network import TwoLayerReLU
from ...model.problem import Problem
from ...model.switch import ACTIVE
from ..method.field import FlowField, Frozen
from ..method.frame import Frame, Neurons, norm
from ..method.proposal import Proposal, local_tolerance, propose, series_order, settle
from ..surface.initial import initial_modes
from ..surface.local import Counts, Passage
from ..surface.modes import reconciled
from ..surface.slides import onto_slides, with_dual
from ..surface.step import Step
from ..surface.truncation import Reach, forcing_series, no_moments
from ..tolerances import LATE, OUTPUT, eps
from ..trajectory import RESULTS, SwitchLog
from .probe import LevelCrossing, Look, Records, State


class Options(eqx.Module):
    """What of a solve is static: it decides what is compiled."""

    solver: dfx.AbstractSolver
    milestones: tuple[LevelCrossing, ...]
    until: int | None = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    max_switches: int = eqx.field(static=True)
    max_slides: int = eqx.field(static=True)
    dense: bool = eqx.field(static=True)


class Equation(eqx.Module):
    """Everything a step needs that the run does not change."""

    problem: Problem
    start: TwoLayerReLU
    field: FlowField
    options: Options
    rtol: Float[Array, ""]
    t1: Float[Array, ""]
    ts: Float[Array, " times"]

    @property
    def frame(self) -> Frame:
        """The problem in the coordinates of the solver."""
        return self.field.frame

    def frozen(self, state: State, unit: FloatScalarLike) -> Frozen:
        """Return the arguments of the vector field, with time in units of `unit`."""
        train_outer = self.frame.train_outer
        neurons, modes = state.neurons, state.modes
        rate = unit * neurons.inner_rate(train_outer)
        return Frozen(
            active=(modes.side == ACTIVE).astype(neurons.inner.dtype),
            slides=modes.slides,
            dual=modes.dual,
            amplitude=neurons.amplitude(train_outer),
            inner_rate=rate,
            outer_rate=jnp.full_like(rate, unit) if train_outer else jnp.zeros_like(rate),
        )

    def end(self, records: Records) -> Float[Array, ""]:
        """Return when the run ends, as far as is known."""
        until = self.options.until
        return self.t1 if until is None else jnp.minimum(self.t1, records.time[until])

    def next_stop(self, run: "Run") -> Float[Array, ""]:
        """Return the time beyond which a step may not go."""
        if not self.ts.shape[0]:
            return self.t1
        asked = self.ts[jnp.minimum(run.records.num_saved, self.ts.shape[0] - 1)]
        return jnp.where(run.records.num_saved < self.ts.shape[0], asked, self.t1)

    def propose(self, t, unit, state: State, moments, length, left) -> tuple[Proposal, Step]:
        """Propose a step of at most `left`; at rest nothing moves.

        `moments` tells what switches do to the outputs over a step of `length`.
        """
        frozen = self.frozen(state, unit)
        weights = (state.neurons.inner, state.neurons.outer)
        solver = self.options.solver
        forcing = forcing_series(moments, length, series_order(solver))
        proposal = propose(solver, self.field, weights, frozen, self.rtol, forcing)
        pull_error, unit_error = self.pull_error(weights, frozen)
        proposal, frozen = settle(self.frame, proposal, frozen, pull_error, unit_error, self.rtol)
        horizon = jnp.where(proposal.resting, left, jnp.minimum(proposal.reach, left))
        step = Step(
            series=proposal.series,
            modes=state.modes,
            rates=frozen,
            pull_error=pull_error,
            trusted=proposal.trusted,
            horizon=horizon,
            start=t,
            unit=unit,
            tolerance=local_tolerance(self.rtol),
            lateness=LATE * self.rtol,
            forced=jnp.array(False),
            told=jnp.array(False),
            first=jnp.zeros_like(horizon),
            length=horizon,
            drift=jnp.zeros_like(pull_error),
            left=jnp.zeros_like(pull_error),
        )
        return proposal, step

    def pull_error(
        self, weights, frozen: Frozen
    ) -> tuple[Float[Array, " samples"], Float[Array, " samples"]]:
        """Return what rounding does to the pulls, at their curvature: as they are and at best.

        An output's error is that of the products it sums, however small these are; at best it
        is one in units of the output, or of the target that it is compared with.
        """
        frame, absolute = self.frame, (weights[0], jnp.abs(weights[1]))
        outputs = self.field.outputs(weights, frozen)
        curvature = frame.sample_weight * frame.loss.curvature(outputs, frame.targets)
        size = frozen.amplitude * absolute[1] * jnp.linalg.norm(weights[0], axis=1)
        best = self.field.outputs(absolute, frozen) + jnp.abs(frame.targets)
        unit = OUTPUT * eps(size) * curvature
        return unit * (size @ frozen.active) * frame.norms, unit * best

    def tidy(self, passage: Passage, neurons: Neurons) -> State:
        """Return the state at the end of a passage, without what rounding did to it."""
        inner, outer = passage.weights
        train_outer = self.frame.train_outer
        inner = onto_slides(self.frame, passage.modes, inner)
        old = neurons.exponent
        neurons = eqx.tree_at(lambda n: (n.inner, n.outer), neurons, (inner, outer))
        if train_outer:
            neurons = neurons.rebalance()
        neurons = neurons.renormalise(train_outer)
        height = jnp.ldexp(passage.modes.height, (old - neurons.exponent)[:, None])
        height = reconciled(self.frame, passage.modes, height, neurons.inner)
        return State(neurons, eqx.tree_at(lambda m: m.height, passage.modes, height))

    def values(self, neurons: Neurons) -> Float[Array, " milestones"]:
        """Return the milestones' observables minus their levels."""
        milestones = self.options.milestones
        if not milestones:
            return jnp.zeros(0, self.rtol.dtype)
        network = neurons.network(self.problem, self.start)
        array = lambda value: jnp.asarray(value, self.rtol.dtype)
        observed = [array(m.observable(self.problem, network)) for m in milestones]
        return jnp.stack([v - array(m.level) for v, m in zip(observed, milestones, strict=True)])


class Plan(eqx.Module):
    """The present step, between turns.

    Attributes:
        sweeps: How often it was expanded to learn what its switches do.
        told: What they were last said to do to the outputs.
        found: What they were last found to do.
        reach: How far the step goes.
        agreed: Whether the two agree: the step is as it will stay.
        end: State at its end, once they do.
        truncated: Whether a loud switch cuts it short.
        next_unit: Factor for the unit of the next step.
        accepted: Whether the solver's error was within the tolerance.
        look: Where to look into it.
    """

    sweeps: Int[Array, ""]
    told: Float[Array, "moments samples"]
    found: Float[Array, "moments samples"]
    reach: Reach
    agreed: Bool[Array, ""]
    end: State
    truncated: Bool[Array, ""]
    next_unit: Float[Array, ""]
    accepted: Bool[Array, ""]
    look: Look

    @classmethod
    def new(cls, state: State, milestones: int) -> "Plan":
        """Return the plan of a step that has not been expanded yet."""
        dtype = state.neurons.inner.dtype
        moments = no_moments(state.modes.side.shape[1], dtype)
        one, no = jnp.ones((), dtype), jnp.array(False)
        return cls(
            sweeps=jnp.zeros((), jnp.int32),
            told=moments,
            found=moments,
            reach=Reach.unknown(state.modes.side.shape, dtype),
            agreed=no,
            end=state,
            truncated=no,
            next_unit=one,
            accepted=jnp.array(True),
            look=Look.new(milestones, dtype),
        )


class Tally(eqx.Module):
    """Counts of whole steps."""

    turns: Int[Array, ""]
    steps: Int[Array, ""]
    truncated: Int[Array, ""]
    rejected: Int[Array, ""]
    repels: Int[Array, ""]
    settled: Float[Array, ""]
    unsettled: Int[Array, ""]


class Run(eqx.Module):
    """A run on its way: the carry of the loop over turns."""

    t: Float[Array, ""]
    unit: Float[Array, ""]
    state: State
    plan: Plan
    log: SwitchLog
    counts: Counts
    tally: Tally
    records: Records
    result: RESULTS
    history: "History | None"
    initial_sides: Int[Array, "width samples"]


class History(eqx.Module):
    """What is needed to take each step again, for dense output.

    Attributes:
        t: Start of each step; `inf` in unused rows.
        unit: Unit of time of each step.
        state: State at the start of each step (of the dual only its shape is kept).
        told: What switches do to the outputs within the step.
        length: How far the step goes.
    """

    t: Float[Array, " steps"]
    unit: Float[Array, " steps"]
    state: State
    told: Float[Array, "steps moments samples"]
    length: Float[Array, " steps"]

    @classmethod
    def empty(cls, rows: int, run: Run) -> "History":
        """Return a history of no steps."""
        spread = lambda x: jnp.zeros((rows, *x.shape), x.dtype)
        state = jax.tree.map(spread, run.state)
        dual = jnp.zeros((0, *run.state.modes.dual.shape), run.t.dtype)
        state = eqx.tree_at(lambda s: s.modes.dual, state, dual)
        times = jnp.full(rows, jnp.inf, run.t.dtype)
        moments = no_moments(run.state.modes.side.shape[1], run.t.dtype)
        return cls(times, times, state, spread(moments), times)

    def set(self, slot: Int[Array, ""], run: Run, plan: Plan) -> "History":
        """Write down where a step starts."""
        put = lambda rows, value: rows.at[slot].set(value, mode="drop")
        dual = lambda state: state.modes.dual
        state = eqx.tree_at(dual, run.state, self.state.modes.dual)
        state = jax.tree.map(
            lambda rows, value: rows if rows is value else put(rows, value), self.state, state
        )
        return History(
            put(self.t, run.t),
            put(self.unit, run.unit),
            state,
            put(self.told, plan.told),
            put(self.length, plan.reach.length),
        )

    def state_at(self, slot: Int[Array, ""], frame: Frame) -> State:
        """Return the state at the start of a step."""
        dual = jnp.zeros(self.state.modes.dual.shape[1:], self.t.dtype)
        rest = eqx.tree_at(lambda s: s.modes.dual, self.state, dual[None])
        state = jax.tree.map(lambda rows: rows[jnp.minimum(slot, rows.shape[0] - 1)], rest)
        return eqx.tree_at(lambda s: s.modes, state, with_dual(frame, state.modes))


def begin(equation: Equation, t0: Float[Array, ""]) -> Run:
    """Return the run before its first step."""
    frame, options = equation.frame, equation.options
    dtype = equation.rtol.dtype
    neurons = Neurons.of(equation.problem, equation.start)
    modes, repels = initial_modes(frame, neurons, options.max_slides)
    state = State(neurons, modes)
    zero = jnp.zeros((), jnp.int32)
    saved = jax.tree.map(
        lambda x: jnp.broadcast_to(x, (max(equation.ts.shape[0], 1), *x.shape)), neurons
    )
    values = equation.values(neurons)
    run = Run(
        t=t0,
        unit=_first_unit(equation, state, t0),
        state=state,
        plan=Plan.new(state, len(options.milestones)),
        log=SwitchLog.empty(options.max_switches, dtype),
        counts=Counts.zero(),
        tally=Tally(zero, zero, zero, zero, repels, jnp.asarray(jnp.inf, dtype), zero),
        records=Records(
            saved,
            jnp.searchsorted(equation.ts, t0, side="right").astype(jnp.int32),
            values,
            jnp.full(values.shape, jnp.inf, dtype),
        ),
        result=RESULTS.successful,
        history=None,
        initial_sides=modes.side,
    )
    if not options.dense:
        return run
    history = History.empty(options.max_steps, run)
    return eqx.tree_at(lambda r: r.history, run, history, is_leaf=lambda x: x is None)


def _first_unit(equation: Equation, state: State, t0) -> Float[Array, ""]:
    """Return the time in which the fastest neuron moves by its own size."""
    frozen = equation.frozen(state, 1.0)
    weights = (state.neurons.inner, state.neurons.outer)
    speed = norm(equation.field(t0, weights, frozen)[0])
    size = norm(weights[0]) + (0.01 * jnp.abs(weights[1]) if equation.frame.train_outer else 0.0)
    rate = jnp.max(speed / jnp.where(size > 0, size, jnp.inf))
    return 1.0 / jnp.maximum(rate, 1.0 / (equation.t1 - t0))


def make_equation(problem, network, t1, ts, rtol, options: Options) -> Equation:
    """Put together what a run needs."""
    field = FlowField(Frame.of(problem))
    return Equation(problem, network, field, options, rtol, t1, ts)

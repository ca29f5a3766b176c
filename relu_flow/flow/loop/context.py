"""What a solve does not change: the problem in its coordinates, tolerances, what is asked for."""

import functools

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..._norm import norm
from ..._types import FloatScalarLike
from ...model.network import TwoLayerReLU
from ...model.problem import Problem
from ...model.switch import ACTIVE
from ...observe.milestones import Milestone
from ..method.field import FlowField, Frozen
from ..method.frame import Frame, Neurons
from ..method.taylor import Taylor
from ..tolerances import OUTPUT, eps
from .milestones import Records
from .point import Point

# Up to so many times steps end at them. Where thousands of switches are corrected for in a step, a
# look into it costs as much as an expansion: with 200 times a run of digits takes 63 s for 13 s.
_ENDS = 256
# Beyond, such a share of them is looked at in one iteration: that makes few iterations, and each
# look costs as much as a term of a step's series, whether it is wanted or not.
_SHARE = 64


def num_looks(ts: Float[Array, " times"]) -> int:
    """Return how many of the times an iteration looks at; 0 if steps end at each."""
    times = ts.shape[0]
    return times // _SHARE if times > _ENDS else 0


class Options(eqx.Module):
    """What is asked of a solve; all that is static decides what is compiled.

    Attributes:
        solver: Takes the steps.
        milestones: What to look for.
        until: Which of these ends the run.
        max_steps: Most steps.
        max_switches: Slots for switches.
        max_slides: Slots for the hyperplanes that a neuron slides on.
        dense_steps: Slots for the steps that dense output keeps; 0 if there is none.
    """

    solver: dfx.AbstractSolver
    milestones: tuple[Milestone, ...]
    until: int | None = eqx.field(static=True)
    max_steps: Int[Array, ""]
    max_switches: int = eqx.field(static=True)
    max_slides: int = eqx.field(static=True)
    dense_steps: int = eqx.field(static=True)


class Context(eqx.Module):
    """Everything that an iteration needs and none changes.

    Attributes:
        problem: What is minimised.
        start: The network at the start.
        field: The vector field, in the coordinates of the solver.
        options: What is static.
        rtol: Relative tolerance.
        t1: End.
        ts: Times at which networks are asked for.
    """

    problem: Problem
    start: TwoLayerReLU
    field: FlowField
    options: Options
    rtol: Float[Array, ""]
    t1: Float[Array, ""]
    ts: Float[Array, " times"]

    @classmethod
    def of(cls, problem, network, t1, ts, rtol, options: Options, sample_weight=None) -> "Context":
        """Put together what a solve needs; see `Frame.of` for `sample_weight`."""
        field = FlowField(Frame.of(problem, sample_weight))
        return cls(problem, network, field, options, rtol, t1, ts)

    @property
    def frame(self) -> Frame:
        """The problem in the coordinates of the solver."""
        return self.field.frame

    @property
    def can_correct(self) -> bool:
        """Whether the solver can expand a step again with a correction of its outputs."""
        return isinstance(self.options.solver, Taylor)

    @property
    def can_be_stiff(self) -> bool:
        """Whether the solver may take collocation steps."""
        return isinstance(self.options.solver, Taylor) and self.options.solver.stiff

    @property
    def can_be_quiet(self) -> bool:
        """Whether the solver may take steps in closed form."""
        solver = self.options.solver
        return self.frame.train_outer and isinstance(solver, Taylor) and solver.quiet

    def network(self, neurons: Neurons) -> TwoLayerReLU:
        """Return neurons as a network in the user's coordinates."""
        return neurons.network(self.problem, self.start)

    def frozen(self, point: Point, unit: FloatScalarLike) -> Frozen:
        """Return the arguments of the vector field, with time in units of `unit`."""
        train_outer = self.frame.train_outer
        neurons, modes = point.neurons, point.modes
        rate = unit * neurons.inner_rate(train_outer)
        # Inner weights that decay for ever beside a fixed outer weight come to the smallest numbers
        # there are. Who nothing drives any more must not have a rate that is none: 0 times inf.
        rate = jnp.minimum(rate, jnp.finfo(neurons.inner.dtype).max)
        return Frozen(
            active=(modes.side == ACTIVE).astype(neurons.inner.dtype),
            slides=modes.slides,
            dual=modes.dual,
            amplitude=neurons.amplitude(train_outer),
            inner_rate=rate,
            outer_rate=jnp.full_like(rate, unit) if train_outer else jnp.zeros_like(rate),
        )

    def outputs(self, point: Point) -> Float[Array, " samples"]:
        """Return the outputs."""
        weights = (point.neurons.inner, point.neurons.outer)
        return self.field.outputs(weights, self.frozen(point, 1.0))

    def pull(self, point: Point) -> Float[Array, " samples"]:
        """Return the pulls."""
        return self.frame.pull(self.outputs(point))

    def pull_error(
        self, weights, frozen: Frozen, curvature: Float[Array, " samples"]
    ) -> tuple[Float[Array, " samples"], Float[Array, " samples"]]:
        """Return what rounding does to the pulls, at their curvature: as they are and at best.

        An output's error is that of the products it sums, however small these are; at best it
        is one in units of the output, or of the target that it is compared with.
        """
        frame, absolute = self.frame, (weights[0], jnp.abs(weights[1]))
        size = frozen.amplitude * absolute[1] * norm(weights[0])
        best = self.field.outputs(absolute, frozen) + jnp.abs(frame.targets)
        unit = OUTPUT * eps(size) * curvature
        return unit * (size @ frozen.active) * frame.norms, unit * best

    def end(self, records: Records) -> Float[Array, ""]:
        """Return when the run ends, as far as is known."""
        until = self.options.until
        return self.t1 if until is None else jnp.minimum(self.t1, records.time[until])

    @property
    def num_looks(self) -> int:
        """How many of the times asked for an iteration looks at; 0 if steps end at each."""
        return num_looks(self.ts)

    def next_stop(self, records: Records) -> Float[Array, ""]:
        """Return the time beyond which a step may not go."""
        if self.num_looks or not self.ts.shape[0]:
            return self.t1
        asked = self.ts[jnp.minimum(records.num_saved, self.ts.shape[0] - 1)]
        return jnp.where(records.num_saved < self.ts.shape[0], jnp.minimum(asked, self.t1), self.t1)

    @property
    def directions(self) -> Int[Array, " milestones"]:
        """In which direction each milestone is to be crossed."""
        return jnp.array([milestone.direction for milestone in self.options.milestones], int)

    def values(self, neurons: Neurons) -> Float[Array, " milestones"]:
        """Return the milestones' observables minus their levels."""
        milestones = self.options.milestones
        if not milestones:
            return jnp.zeros(0, self.rtol.dtype)
        network = self.network(neurons)
        return jnp.stack([self._value(milestone, network) for milestone in milestones])

    def values_seen(self, seen: Neurons) -> Float[Array, "milestones looks"]:
        """Return the same of neurons at several times, as many in turn for each milestone."""
        milestones = self.options.milestones
        looks = seen.exponent.shape[0] // len(milestones)
        networks, observed = jax.vmap(self.network)(seen), []
        for k, milestone in enumerate(milestones):
            own = jax.tree.map(lambda rows, k=k: rows[k * looks : (k + 1) * looks], networks)
            observed.append(jax.vmap(functools.partial(self._value, milestone))(own))
        return jnp.stack(observed)

    def _value(self, milestone: Milestone, network: TwoLayerReLU) -> Float[Array, ""]:
        array = lambda value: jnp.asarray(value, self.rtol.dtype)
        return array(milestone.observable(self.problem, network)) - array(milestone.level)

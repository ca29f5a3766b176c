"""The flow of vanishing scale: every neuron alone, in closed form (`constant_pulls.py`).

While the outputs are negligible every pull is what it is at output zero, and no neuron
feels another. The alignment phase of any number of neurons then costs a few small matrix
products for each switch of the neuron that switches most.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._trees import choose
from .._types import FloatArrayLike, FloatScalarLike, is_traced
from ..flow import summary
from ..flow.arguments import check_arguments, slide_slots, switch_slots
from ..flow.forward import forward_only
from ..flow.method.frame import Neurons
from ..flow.results import RESULTS
from ..flow.trajectory import SwitchLog
from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from ..model.switch import SwitchKind
from .constant_pulls import Hyperplanes, Segment, limit_direction, moved, started, switched


class _LimitState(eqx.Module):
    """All neurons, each in its present segment, and what has been written down."""

    neurons: Segment
    log: SwitchLog
    rounds: Int[Array, ""]


class _LimitProblem(eqx.Module):
    """What a run needs to be taken to any time."""

    problem: Problem
    start: TwoLayerReLU
    t0: Float[Array, ""]
    max_switches: int = eqx.field(static=True)
    max_slides: int = eqx.field(static=True)

    def begin(self) -> tuple[Hyperplanes, _LimitState, Int[Array, "width samples"], Int[Array, ""]]:
        """Return the hyperplanes, the state at the start, its modes, and its repels."""
        hyperplanes = Hyperplanes.of(self.problem)
        neurons = Neurons.of(self.problem, self.start)
        width, samples = self.start.width, self.problem.samples
        per_neuron = lambda value, dtype: jnp.full(width, value, dtype)
        dtype = neurons.inner.dtype
        rate = Neurons.inner_rate(
            eqx.tree_at(lambda n: n.exponent, neurons, jnp.zeros_like(neurons.exponent)),
            hyperplanes.frame.train_outer,
        )
        blank = Segment(
            start=jnp.broadcast_to(self.t0, (width,)),
            inner=neurons.inner,
            outer=neurons.outer,
            exponent=neurons.exponent,
            imbalance=neurons.imbalance,
            rate=rate,
            side=jnp.zeros((width, samples), jnp.int8),
            height=jnp.zeros((width, samples), dtype),
            slides=jnp.full((width, self.max_slides), samples, jnp.int32),
            basis=jnp.zeros((width, self.max_slides, neurons.inner.shape[1]), dtype),
            at_rest=per_neuron(False, bool),
            drive=jnp.zeros_like(neurons.inner),
            push=jnp.zeros((width, samples), dtype),
            wait=per_neuron(jnp.inf, dtype),
            index=per_neuron(0, jnp.int32),
            logged=jnp.zeros((width, samples), jnp.int8),
            stalls=per_neuron(0, jnp.int32),
            overflow=per_neuron(False, bool),
        )
        begun, repels = jax.vmap(lambda neuron: started(hyperplanes, neuron))(blank)
        log = SwitchLog.empty(self.max_switches, dtype)
        state = _LimitState(begun, log, jnp.zeros((), jnp.int32))
        return hyperplanes, state, begun.logged, jnp.sum(repels, dtype=jnp.int32)

    def proceed(
        self, hyperplanes: Hyperplanes, state: _LimitState, t: Float[Array, ""]
    ) -> _LimitState:
        """Take every neuron to its last switch up to a time."""
        width = self.start.width

        def pending(state: _LimitState) -> Bool[Array, " width"]:
            time = state.neurons.next_time
            room = state.log.num <= self.max_switches
            return (time <= t) & jnp.isfinite(time) & room

        def body(state: _LimitState) -> _LimitState:
            old, due = state.neurons, pending(state)
            new = jax.vmap(lambda neuron: switched(hyperplanes, neuron))(old)
            new = choose(due, new, old)
            # A change of modes is final unless another follows at the same instant.
            final = due & (new.wait > 0)
            modes = jax.vmap(hyperplanes.modes)(new.side, new.at_rest)
            log = state.log.append(new.start, jnp.arange(width), new.logged, modes, final[:, None])
            logged = jnp.where(final[:, None], modes, new.logged)
            new = eqx.tree_at(lambda s: s.logged, new, logged)
            return _LimitState(new, log, state.rounds + 1)

        return jax.lax.while_loop(lambda state: jnp.any(pending(state)), body, state)

    def network(
        self, hyperplanes: Hyperplanes, state: _LimitState, t: Float[Array, ""]
    ) -> TwoLayerReLU:
        """Return the network at a time of the present segments."""
        at = jax.vmap(lambda neuron: moved(hyperplanes, neuron, t - neuron.start)[0])(state.neurons)
        return self._as_network(at.inner, at.outer, at.exponent)

    def _as_network(self, inner, outer, exponent) -> TwoLayerReLU:
        neurons = Neurons.of(self.problem, self.start)
        where = lambda n: (n.inner, n.outer, n.exponent)
        neurons = eqx.tree_at(where, neurons, (inner, outer, exponent))
        return neurons.network(self.problem, self.start)

    def limit_directions(
        self, hyperplanes: Hyperplanes, state: _LimitState
    ) -> Float[Array, "width features"]:
        """Return where the directions go if the present segments last for ever."""
        directions = jax.vmap(lambda neuron: limit_direction(hyperplanes, neuron))(state.neurons)
        return self._as_network(
            directions, state.neurons.outer, state.neurons.exponent
        ).inner_weight

    @eqx.filter_jit
    def network_at(self, t: FloatScalarLike) -> TwoLayerReLU:
        """Run from the start to a time."""
        hyperplanes, state, _, _ = self.begin()
        t = jnp.maximum(jnp.asarray(t, self.t0.dtype), self.t0)
        return self.network(hyperplanes, self.proceed(hyperplanes, state, t), t)


class LimitTrajectory(summary.Summarised):
    """The flow of vanishing scale. Under `jax.vmap` every array gets the batch axes.

    Attributes:
        ts: Times of `networks`: those asked for, or the end alone.
        networks: The network at each of `ts`, stacked along a first axis, scales apart.
        switches: Every change of the activation pattern, ordered by time.
        initial_sides: Mode of each pair at the start: 0 inactive, 1 active, 2 sliding.
        settled: Time of the last switch if no neuron has any other to come, ever; else
            `inf`. Equal to `t0` if nothing switches at all.
        limit_directions: The directions as t goes to infinity; `nan` for a neuron that
            has a switch to come after the end.
        result: A member of `RESULTS`; what there is, is of no use unless `successful`.
        stats: Counts: `rounds` (of all neurons at once), `switches`, `slides`, `repels`
            (pairs that start on a repelling hyperplane) and `vanished` (neurons whose
            inner weights reached zero).

    Printed, it is a summary of all that.
    """

    ts: Float[Array, " times"]
    networks: TwoLayerReLU
    switches: SwitchLog
    initial_sides: Int[Array, "width samples"]
    settled: Float[Array, ""]
    limit_directions: Float[Array, "width features"]
    result: RESULTS
    stats: dict[str, Array]
    _limit: _LimitProblem

    def _rows(self) -> list[tuple[str, str]]:
        return [
            ("kept", summary.times(self.ts)),
            ("switches", summary.switches(self.switches, self.stats, ("repels", "vanished"))),
            ("settled", summary.settled(self.settled)),
        ]

    @property
    def network(self) -> TwoLayerReLU:
        """The network at the last of `ts`."""
        return jax.tree.map(lambda leaf: leaf[-1], self.networks)

    def network_at(self, t: FloatScalarLike) -> TwoLayerReLU:
        """Return the network at any time from `t0` on, also after the end.

        It is computed anew from the start, which is cheap; `jax.vmap` for many times.

        Args:
            t: The time; what is before `t0` counts as `t0`.
        """
        return self._limit.network_at(t)

    def directions_at(self, t: FloatScalarLike) -> Float[Array, "width features"]:
        """Return the directions of the inner weights at any time from `t0` on."""
        return self.network_at(t).directions()


def _solve_limit(limit: _LimitProblem, t1: Float[Array, ""], ts: Float[Array, " times"]):
    """Go from one of the times asked for to the next, and on to the end."""
    hyperplanes, state, initial_sides, repels = limit.begin()

    def leg(state: _LimitState, t):
        state = limit.proceed(hyperplanes, state, t)
        return state, limit.network(hyperplanes, state, t)

    initially_resting = jnp.sum(state.neurons.at_rest, dtype=jnp.int32)
    asked = ts.shape[0] > 0
    state, networks = jax.lax.scan(leg, state, ts)
    state = limit.proceed(hyperplanes, state, t1)
    neurons, switches = state.neurons, state.log.sorted()
    last = jnp.max(jnp.where(jnp.isfinite(switches.time), switches.time, limit.t0))
    if not asked:
        end = jnp.where(jnp.isfinite(t1), t1, last)
        ts, networks = end[None], limit.network(hyperplanes, state, end)
        networks = jax.tree.map(lambda leaf: leaf[None], networks)
    waiting = jnp.isfinite(neurons.wait)
    directions = limit.limit_directions(hyperplanes, state)
    return LimitTrajectory(
        ts=ts,
        networks=networks,
        switches=switches,
        initial_sides=initial_sides,
        settled=jnp.where(jnp.any(waiting), jnp.inf, last),
        limit_directions=jnp.where(waiting[:, None], jnp.nan, directions),
        result=_judge(limit, hyperplanes, state),
        stats={
            "rounds": state.rounds,
            "switches": switches.num,
            "slides": jnp.sum(switches.kind == int(SwitchKind.SLIDE_ENTER), dtype=jnp.int32),
            "repels": repels,
            "vanished": jnp.sum(neurons.at_rest, dtype=jnp.int32) - initially_resting,
        },
        _limit=limit,
    )


_solve_compiled = eqx.filter_jit(_solve_limit)


def _judge(limit: _LimitProblem, hyperplanes: Hyperplanes, state: _LimitState) -> RESULTS:
    """Return the code of the first thing that went wrong."""
    finite = jnp.all(jnp.isfinite(state.neurons.inner)) & jnp.all(jnp.isfinite(state.neurons.outer))
    failures = (
        (~finite, RESULTS.nonfinite),
        (jnp.any(hyperplanes.stuck(state.neurons.stalls)), RESULTS.inconsistent_modes),
        (jnp.any(state.neurons.overflow), RESULTS.max_slides_reached),
        (state.log.num > limit.max_switches, RESULTS.max_switches_reached),
    )
    result: RESULTS = RESULTS.successful
    for failed, code in reversed(failures):
        result = RESULTS.where(failed, code, result)  # pyright: ignore[reportArgumentType]
    return result


def limit_flow(
    problem: Problem,
    network: TwoLayerReLU,
    t1: FloatScalarLike | None = None,
    *,
    t0: FloatScalarLike = 0.0,
    ts: FloatArrayLike | None = None,
    max_switches: int | None = None,
    max_slides: int | None = None,
    throw: bool = True,
) -> LimitTrajectory:
    r"""Solve the flow of vanishing scale, exactly: switch times are roots of quadratics.

    It is the flow that `solve` approaches as the outputs vanish: the pulls are those of
    output zero. For balanced networks of scale $\lambda$ switch times and directions
    differ from those of `solve` by $O(\lambda^2)$ at any fixed time; with
    `train="inner"` by the order of the outputs, that is of the product of the layers'
    scales at first. It ceases to hold when the outputs become comparable with one, at
    times of order $\log(1/\lambda)$. Scales of the network are kept and returned, but
    nothing depends on them (except, with `train="inner"`, on their ratio).

    At a hyperplane a neuron crosses, slides, dies, or stays if it starts on a repelling
    one, by the same rules as in `solve`; a pull that vanishes with the outputs is zero here, and
    what `solve` decides by its sign is not decided. One whose inner weights reach zero rests
    there, also where `solve` would let it leave.

    Args:
        problem: What is minimised; any loss, targets of any sign.
        network: Where from; need not be balanced.
        t1: End, in units of gradient-flow time; unless given the run ends when no neuron
            has a switch to come.
        t0: Start.
        ts: Times at which the network is returned, ascending in [t0, t1]; the end alone
            if not given.
        max_switches: Slots for switches; `2 * width * samples + 1024` unless given.
        max_slides: Most hyperplanes a neuron may slide on at once; unless given 8, or the
            dimension of the inputs' span if that is smaller.
        throw: Raise if the run did not reach its end. Otherwise, and always under
            `jax.jit` and `jax.vmap`, the code is in `LimitTrajectory.result`.

    Returns:
        The trajectory.

    Raises:
        ValueError: If an argument is out of range; the message names it.
        RuntimeError: If `throw` and the run ended early; the message says what to try.

    Source:
        Derived for this project. Its special case of balanced neurons is the early phase
        of Min, Mallada, Vidal (2024) and the yardstick trajectories of Chistikov,
        Englert, Lazić (2023), section 3.

    Example:
        >>> import relu_flow as rf
        >>> problem = rf.Problem([[1.0, 0.0], [0.0, 2.0]], [1.0, -1.0])
        >>> network = rf.TwoLayerReLU([[1.0, 0.0], [0.5, 0.5]], [1.0, -1.0])
        >>> limit = rf.limit_flow(problem, network)
        >>> round(float(limit.settled), 6)
        0.401058
    """
    for_ever = float(jnp.finfo(jnp.result_type(problem.inputs, network.inner_weight)).max)
    end = for_ever if t1 is None else t1
    problem, network, start, end, ts, _ = check_arguments(problem, network, t0, end, ts, 0.01)
    limit = _LimitProblem(
        problem,
        network,
        start,
        switch_slots(max_switches, network.width, problem.samples),
        slide_slots(problem, max_slides),
    )
    end = jnp.where(end < for_ever, end, jnp.inf)
    if is_traced(*jax.tree.leaves((limit, end, ts))):
        return forward_only(_solve_limit(limit, end, ts), "limit_flow")
    trajectory = _solve_compiled(limit, end, ts)
    if throw and trajectory.result != RESULTS.successful:
        raise RuntimeError(
            f"The run ended early ({int(trajectory.switches.num)} switches): "
            f"{RESULTS[trajectory.result]} Pass `throw=False` to get what there is."
        )
    return trajectory

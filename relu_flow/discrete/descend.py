r"""A gradient descent on its way: one step, and what is recorded of it.

Descent moves the true weights $W = e^\rho w$. In units of a neuron's own scale a step of
plain gradient descent is $w \leftarrow w + \eta\,v G$, $v \leftarrow v + \eta\langle w,
G\rangle$, in which the scale has cancelled: Euler's method for the flow. So it runs at any
scale, a power of two moved out of the weights after every step. Where a preactivation is
zero the ReLU's derivative is taken to be zero.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, Key

from .._trees import choose
from ..flow import summary
from ..flow.method.frame import Frame, Neurons
from ..flow.results import RESULTS
from ..flow.trajectory import Crossing, SwitchLog
from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from ..model.switch import ACTIVE, INACTIVE
from ..observe.milestones import Milestone


@runtime_checkable
class Optimiser(Protocol):
    """What `descent` needs of an optimiser: an `optax.GradientTransformation` is one."""

    @property
    def init(self) -> Callable[..., Any]:
        """Make a state from the weights."""
        ...

    @property
    def update(self) -> Callable[..., Any]:
        """Make updates and a new state from gradients, state and weights."""
        ...


class DescentTrajectory(summary.Summarised):
    """What descent did. Under `jax.vmap` every array gets the batch axes.

    Attributes:
        ts: Times of `networks`, learning rate times number of steps; `inf` where the run
            ended early.
        steps: The numbers of steps at these times.
        networks: The network at each of `ts`, stacked along a first axis, scales apart.
        duty: For each of `ts` the fraction of the steps since the one before (or since the
            start) that a pair was active in; zero where there were none.
        switches: Changes of the activation pattern; the time is that of the first step
            with the new pattern. Kinds are `ACTIVATE` and `DEACTIVATE` alone. `num` counts
            on when the log is full.
        initial_sides: Mode of each pair at the start: 0 inactive, 1 active.
        milestones: For each name when the level was crossed, the observable between the
            two steps taken as linear.
        result: `successful`; `nonfinite` if a weight became infinite or not a number.
        stats: Counts: `steps`, `switches`.

    Printed, it is a summary of all that.
    """

    ts: Float[Array, " times"]
    steps: Int[Array, " times"]
    networks: TwoLayerReLU
    duty: Float[Array, "times width samples"]
    switches: SwitchLog
    initial_sides: Int[Array, "width samples"]
    milestones: dict[str, Crossing]
    result: RESULTS
    stats: dict[str, Array]

    def _rows(self) -> list[tuple[str, str]]:
        return [
            ("kept", summary.times(self.ts)),
            ("steps", summary.span(self.stats["steps"])),
            ("switches", summary.switches(self.switches, self.stats)),
            ("milestones", summary.milestones(self.milestones)),
        ]

    @property
    def network(self) -> TwoLayerReLU:
        """The network at the last of `ts`."""
        return jax.tree.map(lambda leaf: leaf[-1], self.networks)


class Rule(eqx.Module):
    """Everything a step needs that the run does not change."""

    problem: Problem
    frame: Frame
    start: TwoLayerReLU
    learning_rate: Float[Array, ""]
    stops: Int[Array, " times"]
    last: Int[Array, ""]
    key: Key[Array, ""] | None
    optimiser: Optimiser | None = eqx.field(static=True)
    milestones: tuple[Milestone, ...]
    batch_size: int | None = eqx.field(static=True)
    max_switches: int = eqx.field(static=True)

    def network(self, neurons: Neurons) -> TwoLayerReLU:
        """Return the network of some neurons."""
        return neurons.network(self.problem, self.start)

    def values(self, neurons: Neurons) -> Float[Array, " milestones"]:
        """Return the milestones' observables minus their levels."""
        if not self.milestones:
            return jnp.zeros(0, self.learning_rate.dtype)
        network = self.network(neurons)
        found = [m.observable(self.problem, network) - m.level for m in self.milestones]
        return jnp.stack([jnp.asarray(value, self.learning_rate.dtype) for value in found])

    def heights(self, neurons: Neurons) -> Float[Array, "width samples"]:
        """Return the preactivations."""
        return neurons.inner @ self.frame.inputs.T


class DescentState(eqx.Module):
    """A descent on its way. `sums` counts steps in which pairs were active."""

    step: Int[Array, ""]
    neurons: Neurons
    optimiser: Any
    order: Int[Array, " samples"]
    active: Bool[Array, "width samples"]
    sums: Int[Array, "width samples"]
    saved: Neurons
    duty: Float[Array, "times width samples"]
    log: SwitchLog
    value: Float[Array, " milestones"]
    reached: Float[Array, " milestones"]
    finite: Bool[Array, ""]


def _trained(rule: Rule, neurons: Neurons):
    """Return the weights that move, as an optimiser sees them."""
    return (neurons.inner, neurons.outer) if rule.frame.train_outer else (neurons.inner,)


def begin(rule: Rule) -> DescentState:
    """Return the state before the first step."""
    neurons = Neurons.of(rule.problem, rule.start)
    if rule.optimiser is not None:
        # An optimiser has to see the same unit all the time.
        k = neurons.exponent
        outer = jnp.ldexp(neurons.outer, k) if rule.frame.train_outer else neurons.outer
        where = lambda n: (n.inner, n.outer, n.exponent)
        unit = (jnp.ldexp(neurons.inner, k[:, None]), outer, jnp.zeros_like(k))
        neurons = eqx.tree_at(where, neurons, unit)
    active = rule.heights(neurons) > 0
    rows = rule.stops.shape[0]
    value = rule.values(neurons)
    dtype = neurons.inner.dtype
    duty = jnp.zeros((rows, *active.shape), dtype)
    state = DescentState(
        step=jnp.zeros((), jnp.int32),
        neurons=neurons,
        optimiser=None if rule.optimiser is None else rule.optimiser.init(_trained(rule, neurons)),
        order=jnp.arange(rule.frame.inputs.shape[0]),
        active=active,
        sums=jnp.zeros(active.shape, jnp.int32),
        saved=jax.tree.map(lambda x: jnp.broadcast_to(x, (rows, *x.shape)), neurons),
        duty=duty,
        log=SwitchLog.empty(rule.max_switches, dtype),
        value=value,
        reached=jnp.full(value.shape, jnp.inf, dtype),
        finite=jnp.array(True),
    )
    return _saved(rule, state)


def _saved(rule: Rule, state: DescentState) -> DescentState:
    """Write the neurons down if the step is one of those asked for."""
    rows = rule.stops.shape[0]
    # Of equal stops the first row is written; the others are filled in at the end.
    first = jnp.searchsorted(rule.stops, state.step)
    due = rule.stops[jnp.minimum(first, rows - 1)] == state.step
    slot = jnp.where(due, first, rows)
    put = lambda all_of, row: all_of.at[slot].set(row, mode="drop")
    before = jnp.where(first > 0, rule.stops[jnp.maximum(first - 1, 0)], 0)
    dtype = state.duty.dtype
    share = state.sums.astype(dtype) / jnp.maximum(state.step - before, 1).astype(dtype)
    where = lambda s: (s.saved, s.duty, s.sums)
    saved = jax.tree.map(put, state.saved, state.neurons)
    return eqx.tree_at(
        where,
        state,
        (saved, put(state.duty, share), jnp.where(due, 0, state.sums)),
    )


def _pulls(
    rule: Rule, state: DescentState
) -> tuple[Float[Array, " samples"], Int[Array, " samples"]]:
    """Return the pulls of the step, those of a batch scaled up to the whole, and the order.

    An epoch goes through as many whole batches as there are, in an order of its own; the
    samples left over wait for the next epoch.
    """
    frame, neurons = rule.frame, state.neurons
    amplitude = neurons.amplitude(frame.train_outer) * neurons.outer
    pull = frame.pull(amplitude @ jnp.maximum(rule.heights(neurons), 0.0))
    if rule.batch_size is None or rule.key is None:
        return pull, state.order
    samples = pull.shape[0]
    batches = samples // rule.batch_size
    epoch, batch = state.step // batches, state.step % batches
    key = rule.key
    shuffle = lambda: jr.permutation(jr.fold_in(key, epoch), samples).astype(state.order.dtype)
    order = jax.lax.cond(batch == 0, shuffle, lambda: state.order)
    chosen = jax.lax.dynamic_slice_in_dim(order, batch * rule.batch_size, rule.batch_size)
    share = jnp.zeros_like(pull).at[chosen].set(samples / rule.batch_size)
    return pull * share, order


def _moved(rule: Rule, state: DescentState, pull) -> tuple[Neurons, Any]:
    """Return the neurons after a step, and the optimiser's state."""
    frame, neurons = rule.frame, state.neurons
    drive = (state.active.astype(pull.dtype) * pull[None]) @ frame.inputs
    rate = neurons.inner_rate(frame.train_outer)
    inner = (rate * neurons.outer)[:, None] * drive
    outer = jnp.sum(neurons.inner * drive, axis=1)
    forces = (inner, outer) if frame.train_outer else (inner,)
    weights = _trained(rule, neurons)
    where = lambda n: _trained(rule, n)
    if rule.optimiser is None:
        updates = jax.tree.map(lambda force: rule.learning_rate * force, forces)
        new = jax.tree.map(jnp.add, weights, updates)
        return eqx.tree_at(where, neurons, new).renormalise(frame.train_outer), None
    gradient = jax.tree.map(jnp.negative, forces)
    with jax.numpy_dtype_promotion("standard"):  # optimisers multiply floats by their counts
        updates, memory = rule.optimiser.update(gradient, state.optimiser, weights)
    new = jax.tree.map(lambda w, u: (w + u).astype(w.dtype), weights, updates)
    return eqx.tree_at(where, neurons, new), memory


def take_step(rule: Rule, state: DescentState) -> DescentState:
    """Take one step of descent and write down what it changed."""
    pull, order = _pulls(rule, state)
    neurons, memory = _moved(rule, state, pull)
    step = state.step + 1
    t = rule.learning_rate * step.astype(rule.learning_rate.dtype)
    active = rule.heights(neurons) > 0

    def written():
        mode = lambda pattern: jnp.where(pattern, ACTIVE, INACTIVE)
        width = active.shape[0]
        everything = jnp.ones((1, 1), bool)
        times = jnp.broadcast_to(t, (width,))
        return state.log.append(
            times, jnp.arange(width), mode(state.active), mode(active), everything
        )

    log = jax.lax.cond(jnp.any(active != state.active), written, lambda: state.log)
    value = rule.values(neurons)
    reached = _crossings(rule, state, value, t)
    state = DescentState(
        step,
        neurons,
        memory,
        order,
        active,
        state.sums + state.active.astype(state.sums.dtype),
        state.saved,
        state.duty,
        log,
        value,
        reached,
        jnp.all(jnp.isfinite(neurons.inner)) & jnp.all(jnp.isfinite(neurons.outer)),
    )
    return _saved(rule, state)


def _crossings(rule: Rule, state: DescentState, value, t) -> Float[Array, " milestones"]:
    """Return when milestones were reached, those of this step by linear interpolation."""
    directions = jnp.array([m.direction for m in rule.milestones], int)
    rising = (state.value < 0) & (value >= 0) & (directions >= 0)
    falling = (state.value > 0) & (value <= 0) & (directions <= 0)
    crossed = (rising | falling) & ~jnp.isfinite(state.reached)
    gap = jnp.where(crossed, state.value - value, 1.0)
    return jnp.where(crossed, t - rule.learning_rate * (-value / gap), state.reached)


def proceed(rule: Rule, state: DescentState, more_steps: Int[Array, ""]) -> DescentState:
    """Take so many steps, fewer if the end is near or a weight is not finite."""
    limit = jnp.minimum(state.step + more_steps, rule.last)
    running = lambda state: (state.step < limit) & state.finite
    return jax.lax.while_loop(running, lambda state: take_step(rule, state), state)


def finish(rule: Rule, state: DescentState, initial_sides) -> DescentTrajectory:
    """Turn a descent that has ended into what the user gets."""
    first = jnp.searchsorted(rule.stops, rule.stops, side="left")
    filled = rule.stops <= state.step

    rows = choose(filled, jax.tree.map(lambda rows: rows[first], state.saved), state.neurons)
    result: RESULTS = RESULTS.successful
    result = RESULTS.where(~state.finite, RESULTS.nonfinite, result)  # pyright: ignore[reportArgumentType]
    log, rate = state.log, rule.learning_rate
    return DescentTrajectory(
        ts=jnp.where(filled, rate * rule.stops.astype(rate.dtype), jnp.inf),
        steps=rule.stops,
        networks=jax.vmap(rule.network)(rows),
        duty=jnp.where(filled[:, None, None], state.duty, 0.0),
        switches=log,
        initial_sides=initial_sides,
        milestones={m.name: Crossing(t) for m, t in zip(rule.milestones, state.reached)},  # noqa: B905
        result=result,
        stats={"steps": state.step, "switches": log.num},
    )


def sides(state: DescentState) -> Int[Array, "width samples"]:
    """Return the mode of each pair."""
    return jnp.where(state.active, ACTIVE, INACTIVE).astype(jnp.int8)


def descend_whole(rule: Rule) -> DescentTrajectory:
    """Descend in one go, as one compiled program."""
    state = begin(rule)
    return finish(rule, proceed(rule, state, rule.last), sides(state))

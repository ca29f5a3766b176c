"""descent(): the same problem by gradient descent, recorded like a flow."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from .._types import FloatArrayLike, FloatScalarLike, is_traced
from ..flow.arguments import (
    check_arguments,
    check_milestones,
    positive,
    switch_slots,
)
from ..flow.forward import forward_only
from ..flow.method.frame import Frame
from ..flow.pieces.fingerprint import Fingerprint
from ..flow.pieces.host_loop import Pieces, Progress, run_pieces
from ..flow.results import RESULTS
from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from ..observe.milestones import Milestone
from .descend import (
    DescentState,
    DescentTrajectory,
    Optimiser,
    Rule,
    begin,
    descend_whole,
    finish,
    proceed,
    sides,
    take_step,
)

# Between two looks of the host, for progress and Ctrl-C: 23 ms in the benchmark's problem.
_STEPS_A_PIECE = 1024

_descend_compiled = eqx.filter_jit(descend_whole)


_begin_compiled = eqx.filter_jit(begin)
_proceed_compiled: Any = eqx.filter_jit(proceed)
_finish_compiled = eqx.filter_jit(finish)


def _descend_in_pieces(
    rule: Rule,
    progress: Callable[[Progress], None] | None,
    checkpoint: str | Path | None,
) -> DescentTrajectory:
    """Descend a piece at a time; the same numbers as in one go."""
    state = _begin_compiled(rule)
    initial_sides = sides(state)
    pieces = Pieces(
        proceed=_proceed_compiled,
        steps=_STEPS_A_PIECE,
        going_on=lambda rule, state: int(state.step) < int(rule.last) and bool(state.finite),
        taken=lambda state: int(state.step),
        report=_report,
        finish=lambda rule, state: _finish_compiled(rule, state, initial_sides),
    )
    return run_pieces(pieces, rule, state, progress, checkpoint, lambda: _fingerprint(rule, state))


def _fingerprint(rule: Rule, state: DescentState) -> str:
    fingerprint = Fingerprint()
    fingerprint.arrays(rule)
    fingerprint.words(rule.batch_size, rule.max_switches)
    fingerprint.milestones(rule.milestones, rule.problem, rule.start)
    # The program of one step tells of the loss and the optimiser.
    fingerprint.program(take_step, rule, state)
    return str(fingerprint)


def _report(rule: Rule, state: DescentState) -> dict[str, float]:
    return {
        "t": float(rule.learning_rate) * int(state.step),
        "t1": float(rule.learning_rate) * int(rule.last),
        "steps": int(state.step),
        "switches": int(state.log.num),
        "loss": float(rule.problem.loss_value(rule.network(state.neurons))),
    }


def descent(
    problem: Problem,
    network: TwoLayerReLU,
    steps: int,
    learning_rate: FloatScalarLike,
    *,
    optimiser: Optimiser | None = None,
    batch_size: int | None = None,
    key: Key[Array, ""] | None = None,
    ts: FloatArrayLike | None = None,
    milestones: Milestone | Sequence[Milestone] = (),
    max_switches: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: str | Path | None = None,
    throw: bool = True,
) -> DescentTrajectory:
    r"""Train a network by gradient descent, on the time axis of the flow.

    Time is learning rate times number of steps, so that a run of descent with a small rate
    lies beside that of `solve`. Where the flow slides, descent chatters across the
    hyperplane; `DescentTrajectory.duty` is the fraction of steps on its active side.

    Args:
        problem: What is minimised; with `train="inner"` only the inner layer learns.
        network: Where from.
        steps: Number of steps.
        learning_rate: Of plain gradient descent; time of one step in any case.
        optimiser: Plain gradient descent unless given; else for example
            `optax.adam(1e-3)`, used as it is, its own rate included. It sees weights and
            gradients in units of each neuron's initial scale $e^\rho$ (that of the larger
            layer if both are trained), so that the rate of a method that normalises
            gradients is relative to that scale; those without normalisation
            (`optax.sgd`, with momentum too) are unaffected. The weights in that unit have
            to stay representable: plain descent alone runs at any scale.
        batch_size: Samples of a step, drawn without replacement within an epoch; all
            unless given. Their gradient is scaled up to that of all samples. Samples left
            over by whole batches wait for the next epoch.
        key: From `jax.random.key`; needed for `batch_size`.
        ts: Times at which the network is returned, ascending, each rounded to the nearest
            step; the end alone if not given.
        milestones: Observables whose first crossing of a level is written down (see
            `Milestone`), or a single one; they are evaluated at every step.
        max_switches: Slots for switches; `2 * width * samples + 1024` unless given. When
            they are full descent goes on and only counts.
        progress: Called on the host every 1024 steps; not under a transformation. An
            exception raised in it, or Ctrl-C, ends the run.
        checkpoint: A file in which the run is kept every half a minute and when it is
            interrupted, and from which it goes on, as in `solve`.
        throw: Raise if a weight is not finite any more. Otherwise, and always under
            `jax.jit` and `jax.vmap`, the code is in `DescentTrajectory.result`. Ctrl-C is
            raised in any case; with `checkpoint` the run is in the file then.

    Returns:
        What happened. Under `jax.vmap` all its arrays get the batch axes of the inputs.

    Raises:
        ValueError: If an argument is out of range; the message names it.
        RuntimeError: If `throw` and a weight became infinite or not a number.

    Example:
        >>> import relu_flow as rf
        >>> problem = rf.Problem([[1.0, 0.0], [0.0, 2.0]], [1.0, -1.0])
        >>> network = rf.TwoLayerReLU([[1.0, 0.0], [0.5, 0.5]], [1.0, -1.0], log_scale=-3.0)
        >>> run = rf.descent(problem, network, steps=500, learning_rate=0.01)
        >>> run
        DescentTrajectory(successful; 2 neurons, 1 switch)
        >>> round(float(run.switches.time[0]), 12)
        0.41
    """
    positive("steps", steps)
    problem, network, rate, ts = _checked(problem, network, steps, learning_rate, ts)
    if optimiser is not None:
        # Coordinates matter to those that treat each one by itself.
        is_none = lambda leaf: leaf is None
        problem = eqx.tree_at(lambda p: p.basis, problem, None, is_leaf=is_none)
    if batch_size is not None:
        _check_batches(problem, batch_size, key)
    stops = jnp.clip(jnp.round(ts / rate), 0, steps).astype(jnp.int32)
    rule = Rule(
        problem=problem,
        frame=Frame.of(problem),
        start=network,
        learning_rate=rate,
        stops=stops,
        last=jnp.asarray(steps, jnp.int32),
        key=key,
        optimiser=optimiser,
        milestones=check_milestones(milestones, problem, network),
        batch_size=batch_size,
        max_switches=switch_slots(max_switches, network.width, problem.samples),
    )
    if is_traced(*jax.tree.leaves(rule)):
        return forward_only(descend_whole(rule), "descent")
    if progress is None and checkpoint is None:
        trajectory = _descend_compiled(rule)
    else:
        trajectory = _descend_in_pieces(rule, progress, checkpoint)
    if throw and trajectory.result != RESULTS.successful:
        raise RuntimeError(
            f"Descent ended after {int(trajectory.stats['steps'])} of {steps} steps: "
            f"{RESULTS[trajectory.result]} Try a smaller `learning_rate`, or pass "
            "`throw=False` to get what there is."
        )
    return trajectory


def _checked(problem, network, steps: int, learning_rate, ts):
    """Check the arguments that are arrays and return them in the dtype of the run."""
    rate = jnp.asarray(learning_rate, float)
    if rate.shape != () or (not is_traced(rate) and not 0 < float(rate) < float("inf")):
        raise ValueError(
            f"Argument `learning_rate` must be a positive number, but it is {learning_rate}."
        )
    # The last of `ts` may be rounded otherwise than the product.
    end = rate * steps * (1 + 8 * float(jnp.finfo(rate.dtype).eps))
    ts = None if ts is None or not len(ts) else ts
    problem, network, _, end, ts, _ = check_arguments(problem, network, 0.0, end, ts, 0.01)
    return problem, network, rate.astype(end.dtype), ts if ts.size else end[None]


def _check_batches(problem: Problem, batch_size: int, key) -> None:
    """Check that batches can be drawn."""
    positive("batch_size", batch_size)
    if batch_size > problem.samples:
        raise ValueError(
            f"Argument `batch_size` must be at most the {problem.samples} samples, but it "
            f"is {batch_size}."
        )
    if key is None:
        raise ValueError(
            "Argument `key` must be given with `batch_size`, such as `jax.random.key(0)`, "
            "but it is None."
        )

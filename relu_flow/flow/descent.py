"""descent(): the same problem by gradient descent, recorded like a flow."""

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Key

from .._types import FloatScalarLike, is_traced
from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from .arguments import check_arguments, check_milestones, positive
from .checkpoint import Checkpoint
from .descend import (
    DescentTrajectory,
    Optimiser,
    Rule,
    State,
    begin,
    descend_whole,
    finish,
    proceed,
    sides,
    take_step,
)
from .frame import Frame
from .probe import LevelCrossing
from .trajectory import RESULTS
from .watch import Progress

_STEPS_A_PIECE = 1024
_SECONDS_BETWEEN_CHECKPOINTS = 30.0

_descend_compiled = eqx.filter_jit(descend_whole)


def _fingerprint(rule: Rule, state: State) -> str:
    """Return a digest of everything that the numbers of a run depend on."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(rule):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.asarray(jr.key_data(leaf) if is_key else leaf)
        digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    # The program of one step tells of the loss, the optimiser and the options.
    program = re.sub("0x[0-9a-f]+", "", str(eqx.filter_make_jaxpr(take_step)(rule, state)[0]))
    digest.update(f"{program}{jax.__version__}".encode())
    return digest.hexdigest()


def _descend_watched(
    rule: Rule,
    progress: Callable[[Progress], None] | None,
    checkpoint: str | Path | None,
    throw: bool,
) -> DescentTrajectory:
    """Descend a piece at a time; the same numbers as in one go."""
    state = _begin_compiled(rule)
    initial_sides, interrupted = sides(state), False
    file = None
    if checkpoint is not None:
        file = Checkpoint(Path(checkpoint), _fingerprint(rule, state))
        state = file.load(state)
    piece, last = jnp.asarray(_STEPS_A_PIECE), int(rule.last)
    started = time.perf_counter()
    compiled = _proceed_compiled.lower(rule, state, piece).compile()
    compile_seconds = time.perf_counter() - started
    kept = time.monotonic()
    try:
        while int(state.step) < last and bool(state.finite):
            state = jax.block_until_ready(compiled(rule, state, piece))
            if progress is not None:
                progress(_report(rule, state, compile_seconds))
            if file is not None and time.monotonic() - kept > _SECONDS_BETWEEN_CHECKPOINTS:
                file.save(state)
                kept = time.monotonic()
    except BaseException as error:
        if file is not None:
            file.save(state)
        if throw or not isinstance(error, KeyboardInterrupt):
            raise
        interrupted = True
    trajectory = _finish_compiled(rule, state, initial_sides, jnp.asarray(interrupted))
    if file is not None and not interrupted:
        file.remove()
    return trajectory


def _report(rule: Rule, state: State, compile_seconds: float) -> Progress:
    return Progress(
        t=float(rule.learning_rate * state.step),
        t1=float(rule.learning_rate * rule.last),
        steps=int(state.step),
        switches=int(state.log.num),
        loss=float(rule.problem.loss_value(rule.network(state.neurons))),
        compile_seconds=compile_seconds,
    )


_begin_compiled = eqx.filter_jit(begin)
_proceed_compiled: Any = eqx.filter_jit(proceed)
_finish_compiled = eqx.filter_jit(finish)


def descent(
    problem: Problem,
    network: TwoLayerReLU,
    steps: int,
    learning_rate: FloatScalarLike,
    *,
    optimiser: Optimiser | None = None,
    batch_size: int | None = None,
    key: Key[Array, ""] | None = None,
    ts: Float[Array, " times"] | Sequence[float] | None = None,
    milestones: Sequence[LevelCrossing] = (),
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
            `Milestone`); they are evaluated at every step.
        max_switches: Slots for switches; `2 * width * samples + 1024` unless given. When
            they are full descent goes on and only counts.
        progress: Called on the host every 1024 steps; not under a transformation.
        checkpoint: A file in which the run is kept every half a minute and when it is
            interrupted, and from which it goes on, as in `solve`.
        throw: Raise if a weight is not finite any more. Otherwise, and always under
            `jax.jit` and `jax.vmap`, the code is in `DescentTrajectory.result`; and
            Ctrl-C then returns what there is, if `progress` or `checkpoint` is given.

    Returns:
        What happened. Under `jax.vmap` all its arrays get the batch axes of the inputs.

    Raises:
        ValueError: If an argument is out of range; the message names it.
        RuntimeError: If `throw` and a weight became infinite or not a number.
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
    slots = 2 * network.width * problem.samples + 1024
    rule = Rule(
        problem=problem,
        frame=Frame.of(problem),
        start=network,
        learning_rate=rate,
        stops=stops,
        last=jnp.asarray(steps, jnp.int32),
        key=key,
        optimiser=optimiser,
        milestones=check_milestones(milestones),
        batch_size=batch_size,
        max_switches=slots if max_switches is None else positive("max_switches", max_switches),
    )
    if is_traced(*jax.tree.leaves(rule)):
        return descend_whole(rule)
    if progress is None and checkpoint is None:
        trajectory = _descend_compiled(rule)
    else:
        trajectory = _descend_watched(rule, progress, checkpoint, throw)
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

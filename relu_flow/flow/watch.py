"""A run in pieces, on the host: progress is told, and the run kept in a file."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._compile import compiled
from .checkpoint import Checkpoint
from .finish import finish
from .run import Equation, Options, Run, begin, make_equation
from .trajectory import RESULTS, Trajectory
from .turn import proceed

_STEPS_A_PIECE = 8
_SECONDS_BETWEEN_CHECKPOINTS = 30.0


class Progress(eqx.Module):
    """How far a run has come.

    Attributes:
        t: Time reached.
        t1: Time of the end.
        steps: Steps taken.
        switches: Switches found.
        loss: Present loss.
        compile_seconds: How long compiling took (little if the cache had the program).
    """

    t: float
    t1: float
    steps: int
    switches: int
    loss: float
    compile_seconds: float


@compiled
def _begin(problem, network, t0, t1, ts, rtol, options: Options) -> tuple[Equation, Run]:
    equation = make_equation(problem, network, t1, ts, rtol, options)
    return equation, begin(equation, t0)


@eqx.filter_jit
def _loss(equation: Equation, run: Run):
    network = run.state.neurons.network(equation.problem, equation.start)
    return equation.problem.loss_value(network)


_proceed = compiled(proceed)
_finish = compiled(finish)


def solve_watched(
    problem,
    network,
    t0,
    t1,
    ts,
    rtol,
    options: Options,
    progress: Callable[[Progress], None] | None,
    checkpoint: str | Path | None,
) -> Trajectory:
    """Solve a few steps at a time; the same numbers as in one go."""
    equation, run = _begin(problem, network, t0, t1, ts, rtol, options)
    file = None
    if checkpoint is not None:
        inputs = (problem, network, t0, t1, ts, rtol)
        file = Checkpoint(Path(checkpoint), _fingerprint(inputs, options))
        run = file.load(run)
    piece = jnp.asarray(_STEPS_A_PIECE)
    started = time.perf_counter()
    compiled = _proceed.lower(equation, run, piece).compile()
    compile_seconds = time.perf_counter() - started
    kept = time.monotonic()
    try:
        while run.result == RESULTS.successful and float(run.t) < float(t1):
            before = int(run.tally.steps)
            run = jax.block_until_ready(compiled(equation, run, piece))
            if progress is not None:
                progress(_report(equation, run, compile_seconds))
            if int(run.tally.steps) < before + _STEPS_A_PIECE:
                break
            if file is not None and time.monotonic() - kept > _SECONDS_BETWEEN_CHECKPOINTS:
                file.save(run)
                kept = time.monotonic()
    except BaseException:
        if file is not None:
            file.save(run)
        raise
    trajectory = _finish(equation, run, t0)
    if file is not None:
        file.remove()
    return trajectory


def _report(equation: Equation, run: Run, compile_seconds: float) -> Progress:
    return Progress(
        t=float(run.t),
        t1=float(equation.t1),
        steps=int(run.tally.steps),
        switches=int(run.log.num),
        loss=float(_loss(equation, run)),
        compile_seconds=compile_seconds,
    )


def _fingerprint(inputs, options: Options) -> str:
    """Return a digest of everything that the numbers of a run depend on."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(inputs):
        array = np.asarray(leaf)
        digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    names = [milestone.name for milestone in options.milestones]
    levels = [float(milestone.level) for milestone in options.milestones]
    statics = (
        inputs[0].loss, inputs[0].reduction, inputs[0].train, options.solver, names, levels,
        options.max_steps, options.max_switches, options.max_slides, options.dense,
        options.until,
        jax.__version__,
    )  # fmt: skip
    digest.update(repr(statics).encode())
    return digest.hexdigest()

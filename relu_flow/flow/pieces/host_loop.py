"""Runs in pieces, on the host: progress is told, and the run kept in a file, Ctrl-C included."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp

from .checkpoint import Checkpoint

Rule = TypeVar("Rule")
State = TypeVar("State")
Result = TypeVar("Result")

# What is lost at most when a run is killed; one costs a millisecond in the benchmark's problem.
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


class Pieces(eqx.Module, Generic[Rule, State, Result]):
    """A kind of run, as it is taken piece by piece.

    Attributes:
        proceed: Compiled program that takes so many more steps; fewer only at the end.
        steps: How many steps there are to a piece.
        going_on: Whether there may be a piece to come.
        taken: How many steps have been taken.
        report: What to tell, without the time of compilation.
        finish: Turns the last state into what the user gets.
    """

    proceed: Any
    steps: int
    going_on: Callable[[Rule, State], bool]
    taken: Callable[[State], int]
    report: Callable[[Rule, State], dict[str, float]]
    finish: Callable[[Rule, State], Result]


def run_pieces(
    pieces: Pieces[Rule, State, Result],
    rule: Rule,
    state: State,
    progress: Callable[[Progress], None] | None,
    checkpoint: str | Path | None,
    fingerprint: Callable[[], str],
) -> Result:
    """Run from a state, or from where the checkpoint has it, to the end.

    Whatever ends the run before that, Ctrl-C or an exception in `progress`, is raised on once
    the run is in the file.
    """
    file = None
    if checkpoint is not None:
        file = Checkpoint(Path(checkpoint), fingerprint())
        state = file.load(state)
    piece = jnp.asarray(pieces.steps)
    started = time.perf_counter()
    program = pieces.proceed.lower(rule, state, piece).compile()
    compile_seconds = time.perf_counter() - started
    kept = time.monotonic()
    try:
        while pieces.going_on(rule, state):
            before = pieces.taken(state)
            state = jax.block_until_ready(program(rule, state, piece))
            if progress is not None:
                told: Any = pieces.report(rule, state)
                progress(Progress(**told, compile_seconds=compile_seconds))
            if pieces.taken(state) < before + pieces.steps:
                break
            if file is not None and time.monotonic() - kept > _SECONDS_BETWEEN_CHECKPOINTS:
                file.save(state)
                kept = time.monotonic()
        result = jax.block_until_ready(pieces.finish(rule, state))
    except BaseException:
        if file is not None:
            file.save(state)
        raise
    if file is not None:
        file.remove()
    return result

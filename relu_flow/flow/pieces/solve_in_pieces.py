"""A solve in pieces, on the host."""

from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._compile import compiled
from ..loop.context import Context, Options
from ..loop.iteration import going_on, iterate_until
from ..loop.result import finish
from ..loop.state import State, init
from ..trajectory import Trajectory
from .fingerprint import Fingerprint
from .host_loop import Pieces, Progress, run_pieces

# Between two looks of the host, for progress and Ctrl-C. Of 1.3 ms each in the benchmark's problem:
# its run takes 0.16 s so, 0.12 s in one piece.
_STEPS_A_PIECE = 8


@compiled
def _begin(
    problem, network, t0, t1, ts, rtol, options: Options, sample_weight
) -> tuple[Context, State]:
    context = Context.of(problem, network, t1, ts, rtol, options, sample_weight)
    return context, init(context, t0)


@eqx.filter_jit
def _loss(context: Context, state: State):
    frame = context.frame
    values = frame.loss.value(context.outputs(state.point), frame.targets)
    return jnp.sum(frame.sample_weight * values)


_iterate = compiled(iterate_until)
_finish = compiled(finish)
_compiled_going_on = eqx.filter_jit(going_on)


def solve_in_pieces(
    problem,
    network,
    t0,
    t1,
    ts,
    rtol,
    options: Options,
    sample_weight: Float[Array, " samples"] | None,
    progress: Callable[[Progress], None] | None,
    checkpoint: str | Path | None,
) -> Trajectory:
    """Solve a few steps at a time; the same numbers as in one go."""
    context, state = _begin(problem, network, t0, t1, ts, rtol, options, sample_weight)
    pieces = Pieces(
        proceed=_iterate,
        steps=_STEPS_A_PIECE,
        going_on=_going_on,
        taken=lambda state: int(state.steps.steps),
        report=_report,
        finish=lambda context, state: _finish(context, state, t0),
    )
    inputs = (problem, network, t0, t1, ts, rtol, sample_weight)
    return run_pieces(
        pieces, context, state, progress, checkpoint, lambda: _fingerprint(inputs, options)
    )


def _going_on(context: Context, state: State) -> bool:
    return bool(_compiled_going_on(context, state, context.options.max_steps))


def _report(context: Context, state: State) -> dict[str, float]:
    return {
        "t": float(state.t),
        "t1": float(context.t1),
        "steps": int(state.steps.steps),
        "switches": int(state.log.num),
        "loss": float(_loss(context, state)),
    }


def _fingerprint(inputs, options: Options) -> str:
    problem, network, *_ = inputs
    fingerprint = Fingerprint()
    fingerprint.arrays(inputs)
    for part in (problem.loss.value, problem.loss.pull):
        fingerprint.program(part, problem.targets, problem.targets)
    fingerprint.words(
        problem.loss, problem.reduction, problem.train, options.solver, int(options.max_steps),
        options.max_switches, options.max_slides, options.dense_steps, options.until,
    )  # fmt: skip
    fingerprint.milestones(options.milestones, problem, network)
    return str(fingerprint)

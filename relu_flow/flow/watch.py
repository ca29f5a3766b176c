"""A solve in pieces, on the host."""

from collections.abc import Callable
from pathlib import Path

import equinox as eqx

from .._compile import compiled
from .fingerprint import Fingerprint
from .host_loop import Pieces, Progress, run_pieces
from .loop.finish import finish
from .loop.run import Equation, Options, Run, begin, make_equation
from .loop.turn import proceed
from .trajectory import RESULTS, Trajectory

_STEPS_A_PIECE = 8


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
    pieces = Pieces(
        proceed=_proceed,
        steps=_STEPS_A_PIECE,
        going_on=_going_on,
        taken=lambda run: int(run.tally.steps),
        report=_report,
        finish=lambda equation, run: _finish(equation, run, t0),
    )
    inputs = (problem, network, t0, t1, ts, rtol)
    return run_pieces(
        pieces, equation, run, progress, checkpoint, lambda: _fingerprint(inputs, options)
    )


def _going_on(equation: Equation, run: Run) -> bool:
    return bool(run.result == RESULTS.successful) and float(run.t) < float(equation.t1)


def _report(equation: Equation, run: Run) -> dict[str, float]:
    return {
        "t": float(run.t),
        "t1": float(equation.t1),
        "steps": int(run.tally.steps),
        "switches": int(run.log.num),
        "loss": float(_loss(equation, run)),
    }


def _fingerprint(inputs, options: Options) -> str:
    problem, network, *_ = inputs
    fingerprint = Fingerprint()
    fingerprint.arrays(inputs)
    for part in (problem.loss.value, problem.loss.pull):
        fingerprint.program(part, problem.targets, problem.targets)
    fingerprint.words(
        problem.loss, problem.reduction, problem.train, options.solver, options.max_steps,
        options.max_switches, options.max_slides, options.dense, options.until,
    )  # fmt: skip
    fingerprint.milestones(options.milestones, problem, network)
    return str(fingerprint)

"""solve(): the gradient flow from switch to switch."""

from collections.abc import Callable, Sequence
from pathlib import Path

import diffrax as dfx
import jax
import jax.numpy as jnp

from .._compile import compiled
from .._types import FloatArrayLike, FloatScalarLike, is_traced
from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from ..observe.milestones import Milestone
from .arguments import (
    check_arguments,
    check_asked,
    check_milestones,
    check_solver,
    check_until,
    positive,
    slide_slots,
    switch_slots,
)
from .forward import forward_only
from .loop.context import Context, Options, num_looks
from .loop.iteration import iterate_until
from .loop.result import finish
from .loop.state import init
from .method.taylor import Taylor
from .padding import Padding
from .pieces.host_loop import Progress
from .pieces.solve_in_pieces import solve_in_pieces
from .results import RESULTS
from .trajectory import Trajectory

_MOST_STEPS = 2**31 - 1  # they are counted in 32 bits


def make_options(
    problem: Problem,
    network: TwoLayerReLU,
    milestones: Milestone | Sequence[Milestone] = (),
    until: str | None = None,
    solver: dfx.AbstractSolver | None = None,
    dense: bool = False,
    max_steps: int = 16384,
    max_switches: int | None = None,
    max_slides: int | None = None,
) -> Options:
    """Check what of a solve is static, and put it together; see `solve`."""
    milestones = check_milestones(milestones, problem, network)
    return Options(
        solver=check_solver(Taylor() if solver is None else solver),
        milestones=milestones,
        until=check_until(until, milestones),
        max_steps=jnp.asarray(min(positive("max_steps", max_steps), _MOST_STEPS), jnp.int32),
        max_switches=switch_slots(max_switches, network.width, problem.samples),
        max_slides=slide_slots(problem, max_slides),
        dense_steps=max_steps if dense else 0,
    )


def _solve_whole(
    problem, network, t0, t1, ts, rtol, options: Options, sample_weight=None
) -> Trajectory:
    """Solve in one go, as one compiled program."""
    context = Context.of(problem, network, t1, ts, rtol, options, sample_weight)
    state = iterate_until(context, init(context, t0), options.max_steps)
    return finish(context, state, t0)


_solve_compiled = compiled(_solve_whole)


def solve(
    problem: Problem,
    network: TwoLayerReLU,
    t1: FloatScalarLike,
    *,
    t0: FloatScalarLike = 0.0,
    ts: FloatArrayLike | None = None,
    rtol: FloatScalarLike = 1e-12,
    milestones: Milestone | Sequence[Milestone] = (),
    until: str | None = None,
    solver: dfx.AbstractSolver | None = None,
    dense: bool = False,
    max_steps: int = 16384,
    max_switches: int | None = None,
    max_slides: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: str | Path | None = None,
    throw: bool = True,
) -> Trajectory:
    r"""Solve the gradient flow of a network, exactly through every change of its pattern.

    Between switches the pattern is frozen, so that the flow is smooth and steps are long.
    Every constraint that keeps the pattern valid is a polynomial over a step, and is
    searched in Bernstein form (`step/roots.py`): a polynomial whose Bernstein coefficients are
    non-negative has no root there, so **no switch can be missed**, be it two crossings of
    one hyperplane within a step; switches are located to rounding. At a hyperplane the
    neuron crosses, slides along it, or leaves it by Filippov's rule (`surface/filippov.py`).
    Switches that do not yet matter to other neurons cost no step of their own.
    Where stiffness would limit the steps, as it does once residuals are fitted, collocation steps
    are taken (`method/collocation.py`), unless `solver=Taylor(stiff=False)`; and where all that
    moves is too small for the outputs, steps in closed form (`loop/quiet.py`), unless
    `solver=Taylor(quiet=False)`. Where pulls cancel what small outputs change of them decides, to
    the rounding of the largest of these outputs.

    What is compiled is for the next larger of a few sizes (8, 16, 24, ..., 64, 80, ..., 128, 160,
    ...), so that problems of about one size share a program (`flow/padding.py`); with milestones,
    and under a transformation, it is for the sizes that there are.

    Where solutions are not unique the choice is: a neuron on a repelling hyperplane stays
    there, its velocity being the smallest possible (counted in `stats["repels"]`). A neuron
    whose inner weights are zero rests; with both layers trained for ever, with the inner alone
    as long as zero is in the hull of the drives of all patterns that directions have, and then
    it leaves. (For inputs of more than `flow/method/arrangement.py` lists patterns for, it rests
    for ever.) One whose inner weights become zero (possible if |v| > |w|; counted in
    `stats["vanished"]`) rests likewise, and where it has to leave goes straight on, if the rules
    at hyperplanes next to zero lead it away. What is decided at `t0` about neurons that
    start on a hyperplane is in `initial_sides`, not among the switches. Once the drive of
    every neuron is zero, to rounding or to what errors of steps may leave (a tenth of `rtol`
    of the pulls, or about a tenth of `rtol` of the outputs and targets), the network is left
    alone (`stats["settled"]` is when): after that there would be only noise. So is a weight that
    decays for ever beside the other layer's, at about 1e-14 of its neuron's size, and beside
    fixed outer weights where its outputs are as much below the smallest target. A pull below
    `4e-307` counts as zero.
    Inputs that share a hyperplane (parallel, opposite or repeated) switch together.

    Forward mode works (`jax.jvp`, `jax.jacfwd`): times of milestones and switches, and states,
    have derivatives by whatever the run is made from, through crossings, slides and ties, to
    about the accuracy of the run; compiling takes some times longer. Reverse mode (`jax.grad`)
    is refused. A derivative is that of the run in which the same switches come in the same
    order. So at a tie of several neurons each switch has its own, valid to both sides; where
    one neuron meets several hyperplanes at once it is one-sided, valid for changes that keep
    the order that was found. Inputs that share a hyperplane are taken to go on sharing it, and
    a switch that a change would bring about or do away with is not foreseen, nor does the time
    at which a neuron has to leave zero move. With scales
    below about e^-180 derivatives may be `nan`.

    Args:
        problem: What is minimised.
        network: Where from.
        t1: End, in units of gradient-flow time of the reduced loss.
        t0: Start.
        ts: Times at which the network is returned, ascending in [t0, t1]; the end alone
            if not given. Up to 256 of them end a step each; more are read off within the steps.
        rtol: Tolerance for each neuron relative to its own size, however small that is.
        milestones: Observables whose first crossing of a level is located by root finding
            on the flow itself (see `Milestone`), or a single one. A crossing is seen by a
            change of sign between the ends of a step; a monotone observable is never missed.
        until: Name of the milestone at which the run ends, if it comes before `t1`: the last
            time and network are those of the crossing. What has crossed its level at `t0`
            already does not end the run. (Counts of the last step in `stats` are of all of it.)
        solver: `Taylor()` unless given; or an explicit Runge-Kutta method of Diffrax with
            dense output, such as `diffrax.Tsit5()` or `diffrax.Dopri8()`.
        dense: Keep what `Trajectory.network_at` needs: memory for `max_steps` states.
        max_steps: Most steps.
        max_switches: Slots for switches; `2 * width * samples + 1024` of what is compiled for
            unless given.
        max_slides: Most hyperplanes a neuron may slide on at once; unless given 8, or the
            dimension of the inputs' span if that is smaller.
        progress: Called on the host every few steps; not under a transformation. An
            exception raised in it, or Ctrl-C, ends the run.
        checkpoint: A file in which the run is kept every half a minute and when it is
            interrupted. If it exists the run goes on from there, to the same numbers as
            if it had never stopped; a file of another run is refused. Removed at the end.
        throw: Raise if the run did not reach `t1`. Otherwise, and always under `jax.jit`
            and `jax.vmap`, the code is in `Trajectory.result`.

    Returns:
        The trajectory. Under `jax.vmap` all its arrays get the batch axes of the inputs.

    Raises:
        ValueError: If an argument is out of range; the message names it.
        RuntimeError: If `throw` and the run ended early; the message says what to try.

    Example:
        >>> import relu_flow as rf
        >>> problem = rf.Problem([[1.0, 0.0], [0.0, 2.0]], [1.0, -1.0])
        >>> network = rf.TwoLayerReLU([[1.0, 0.0], [0.5, 0.5]], [1.0, -1.0], log_scale=-3.0)
        >>> trajectory = rf.solve(problem, network, t1=5.0)
        >>> trajectory
        Trajectory(successful; 2 neurons, 1 switch)
        >>> round(float(trajectory.switches.time[0]), 6)
        0.402539
        >>> rf.SwitchKind(int(trajectory.switches.kind[0])).name
        'DEACTIVATE'
    """
    arguments = check_arguments(problem, network, t0, t1, ts, rtol)
    asked = (milestones, until, solver, dense, max_steps, max_switches, max_slides)
    options = make_options(problem, network, *asked)
    if until is None and not num_looks(arguments[4]):
        check_asked(arguments[4], *arguments[2:4], max_steps)
    if is_traced(*jax.tree.leaves((arguments, options))):
        return forward_only(_solve_whole(*arguments, options), "solve")
    problem, network, t0, t1, ts, rtol = arguments
    padding, sample_weight = Padding.of(problem, network, ts), None
    # An observable is to see what there is.
    if not options.milestones:
        problem, network, ts, sample_weight = padding.fill(problem, network, ts)
        options = make_options(problem, network, *asked)
    filled = problem, network, t0, t1, ts, rtol
    if progress is None and checkpoint is None:
        trajectory = _solve_compiled(*filled, options, sample_weight)
    else:
        trajectory = solve_in_pieces(*filled, options, sample_weight, progress, checkpoint)
    if sample_weight is not None:
        trajectory = padding.cut(trajectory)
    if throw and trajectory.result != RESULTS.successful:
        raise RuntimeError(
            f"The run ended early ({int(trajectory.stats['steps'])} steps, "
            f"{int(trajectory.stats['switches'])} switches, last time "
            f"{float(trajectory.stats['time']):g}): "
            f"{RESULTS[trajectory.result]} Pass `throw=False` to get what there is."
        )
    return trajectory

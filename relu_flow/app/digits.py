"""The main job: the exact flow on real digits, timed, reported, drawn and stored."""

import dataclasses
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from ..data.digits import digits, separable_fraction
from ..experiment.jax_settings import prepare
from ..experiment.progress import Watcher
from ..flow.results import RESULTS
from ..flow.solve import solve
from ..flow.trajectory import Trajectory
from ..model.initialisers import early_alignment_init
from ..model.loss import LOSSES
from ..model.problem import Problem
from ..model.switch import SwitchKind
from ..observe import observables
from ..observe.milestones import Milestone
from ..report.dataset import save, to_dataset
from ..report.figure import run_figure

_LEVELS = (0.99, 0.5, 0.1, 0.03, 0.01)


@dataclasses.dataclass(frozen=True)
class DigitsOptions:
    """Options of the main job; see `relu-flow digits --help`."""

    classes: tuple[int, int]
    images: int
    width: int
    scale: float
    seed: int
    loss: str
    end: float
    rtol: float
    times: int
    max_slides: int

    def check(self) -> None:
        """Refuse what cannot be meant."""
        for name in ("width", "times"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"Argument `{name}` must be positive, but it is {getattr(self, name)}."
                )
        for name in ("scale", "end"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"Argument `{name}` must be a positive number, but it is {value}.")
        if self.seed < 0:
            raise ValueError(f"Argument `seed` must not be negative, but it is {self.seed}.")


def run_digits(options: DigitsOptions, out: Path, cache: bool, quiet: bool) -> None:
    """Run the main job and write what it found to the folder `out`."""
    options.check()
    prepare(cache)
    out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    problem = digits(options.classes, options.images, LOSSES[options.loss])
    fraction = float(separable_fraction(problem))
    network = early_alignment_init(
        jax.random.key(options.seed), options.width, problem.features, float(np.log(options.scale))
    )
    watcher = Watcher(options.end, quiet)
    ts = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, options.times - 1) * options.end])
    with watcher:
        trajectory = solve(
            problem,
            network,
            options.end,
            ts=ts[: options.times].tolist(),
            rtol=options.rtol,
            milestones=_milestones(problem, network),
            max_slides=options.max_slides,
            progress=watcher,
            checkpoint=out / "checkpoint",
            throw=False,
        )
        jax.block_until_ready(trajectory.stats["steps"])
    wall = time.perf_counter() - started
    data = to_dataset(
        problem,
        trajectory,
        **dataclasses.asdict(options),
        separable_fraction=fraction,
        wall_seconds=wall,
        compile_seconds=watcher.compile_seconds,
        device=jax.devices()[0].device_kind,
    )
    save(data, out / "run.nc")
    first, second = options.classes
    run_figure(
        data,
        out / "run.png",
        f"{options.images} MNIST images of {first} (label -1) and {second} (label +1), "
        f"width {options.width}, scale {options.scale:g}, {options.loss} loss",
    )
    _print_report(problem, trajectory, fraction, wall, watcher.compile_seconds, out)
    if trajectory.result != RESULTS.successful:
        raise RuntimeError(f"The run ended early: {RESULTS[trajectory.result]}")


def _milestones(problem: Problem, network) -> list[Milestone]:
    """Return when all neurons are in their cones, and when the loss reaches its levels."""
    start = float(problem.loss_value(network))
    cone = Milestone(observables.fraction_in_cone, 1.0, +1, name="all in their cone")
    losses = [
        Milestone(observables.loss, level * start, -1, name=f"loss {level * start:.2g}")
        for level in _LEVELS
    ]
    return [cone, *losses]


def _print_report(
    problem: Problem, trajectory: Trajectory, fraction, wall, compile_seconds, out: Path
) -> None:
    """Print what happened."""
    network = trajectory.network
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    add = lambda what, value: table.add_row(what, str(value))
    add("pairs with the theorem's sign of correlation", f"{fraction:.1%}")
    for name, crossing in trajectory.milestones.items():
        reached = bool(crossing.reached)
        add(f"time of: {name}", f"{float(crossing.time):.10g}" if reached else "not reached")
    share = float(observables.fraction_in_cone(problem, network))
    alive = int(jnp.sum(observables.living(problem, network)))
    add("living neurons at the end", f"{alive} of {network.width}, {share:.0%} in their cone")
    codes = np.asarray(trajectory.switches.kind[: int(trajectory.switches.num)])
    for kind in SwitchKind:
        add(f"switches: {kind.name.lower().replace('_', ' ')}", int(np.sum(codes == kind)))
    stats = {name: value.item() for name, value in trajectory.stats.items()}
    for name in ("ties", "repels", "vanished", "grazes"):
        add(f"of these: {name}" if name == "ties" else name, stats[name])
    add("loss at the end", f"{float(problem.loss_value(network)):.6g}")
    add("accuracy at the end", f"{float(observables.accuracy(problem, network)):.1%}")
    add("stable rank at the end", f"{float(observables.stable_rank(problem, network)):.4f}")
    error = float(observables.balancedness_error(problem, network))
    add("balancedness error", f"{error:.1e}")
    add("steps", f"{stats['steps']} ({stats['evaluations']} expansions, {stats['rounds']} rounds)")
    add("wall time", f"{wall:.1f} s, of which compiling {compile_seconds:.1f} s")
    Console(width=100).print(table)
    print(f"Wrote {out / 'run.nc'} and {out / 'run.png'}.")

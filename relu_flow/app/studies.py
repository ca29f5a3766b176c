"""The `relu-flow study` commands: what they print, and how they end."""

import sys
from pathlib import Path

from ..experiment.progress import Meter
from ..study.declare.plan import Plan, describe
from ..study.declare.spec import Study
from ..study.run.cluster import Dask
from ..study.run.collect import collect
from ..study.run.runner import run_study


def validate(spec: Path, workers: int) -> None:
    """Print what a study will do."""
    print(describe(Plan.of(Study.from_toml(spec)), workers))


def run(
    spec: Path,
    out: Path,
    *,
    dask: str | None,
    workers: int | None,
    shard: tuple[int, int] = (0, 1),
    quiet: bool,
) -> int:
    """Run a study or a shard of it, show progress, and return the exit code."""
    study = Study.from_toml(spec)
    executor = None if dask is None else Dask(dask, workers=workers)
    report = None if quiet else Meter(sys.stderr)
    state = run_study(study, out, workers=workers, executor=executor, shard=shard, progress=report)
    if report is not None:
        report.end()
    if state.damaged:
        print(
            f"{len(state.damaged)} chunks were damaged; moved to {out / 'damaged'} and done again."
        )
    print(f"{state.done} of {state.total} runs: {state.endings()}; {state.switches} switches.")
    for chunk, error in sorted(state.broken.items()):
        print(f"Chunk {chunk} raised: {error}", file=sys.stderr)
    if state.broken:
        print(
            f"relu-flow: {len(state.broken)} chunks raised; the rest is done. The reasons are in "
            f"{out / 'failed'}; the same command tries them again.",
            file=sys.stderr,
        )
        return 1
    return 0


def gather(out: Path, *, netcdf: bool, partial: bool) -> None:
    """Collect a study and print where it is."""
    made = collect(out, netcdf=netcdf, partial=partial)
    print(f"{made} and tables beside it; in Python: relu_flow.open_study({str(out)!r})")

"""An experiment: what it measures, what was published or is promised, and how it is kept.

An experiment is a function of a `Workspace`. Through it, long runs show progress and leave a
checkpoint, finished pieces and studies are kept on disk, and so an experiment that was stopped
goes on where it was when it is run again.
"""

import dataclasses
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import xarray as xr
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..flow.solve import solve
from ..flow.trajectory import Trajectory
from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from ..study.declare.spec import Study
from ..study.run.collect import collect, open_study
from ..study.run.runner import run_study
from .progress import Meter, Watcher

_COLUMNS = ("quantity", "measured", "published", "bound", "note")
_OVER_SEEDS = ("low", "high", "runs", "left_out")


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of an experiment's table: measured beside published beside bound.

    Attributes:
        quantity: What was measured, with its unit.
        measured: The measured value; `None` if it was not reached.
        published: The paper's value or range, as text or number; `None` if there is none.
        bound: What theory allows; `None` if it says nothing.
        note: Where the published value or the bound is from, and what differs.
        low: Lower end of a confidence interval over seeds; `None` if it is of one run.
        high: Upper end of the interval.
        runs: How many runs it is of.
        left_out: How many further runs failed, and are not in it.
    """

    quantity: str
    measured: float | str | None
    published: float | str | None = None
    bound: float | str | None = None
    note: str = ""
    low: float | None = None
    high: float | None = None
    runs: int | None = None
    left_out: int | None = None


@dataclasses.dataclass(frozen=True)
class Findings:
    """What an experiment found.

    Attributes:
        rows: The table.
        data: What the figure is drawn from, labelled.
        paragraph: What was found, in words and with numbers of this very run; may be empty.
    """

    rows: tuple[Row, ...]
    data: xr.Dataset
    paragraph: str = ""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One experiment of a paper, or one question.

    Attributes:
        name: Short, such as `figure-7`; the name of its folder.
        title: One line: what is run.
        run: Measures.
        draw: Draws the figure of the findings' data to a file.
        version: To be raised when the numbers change, so that old results are made again.
    """

    name: str
    title: str
    run: Callable[["Workspace"], Findings]
    draw: Callable[[xr.Dataset, Path], None]
    version: int = 1


@dataclasses.dataclass(frozen=True)
class Workspace:
    """Where an experiment runs: its folder, its size, and its voice.

    Attributes:
        folder: The experiment's own folder.
        quick: Whether the small form is wanted.
        seed: Seed of everything random.
        quiet: Show no progress.
        stamp: Says which experiment, version and options pieces on disk belong to.
        workers: Threads of studies; a core each if it is `None`.
    """

    folder: Path
    quick: bool
    seed: int
    quiet: bool
    stamp: str
    workers: int | None = None

    def solve(
        self, name: str, problem: Problem, network: TwoLayerReLU, t1: float, **options: Any
    ) -> Trajectory:
        """Solve with progress and a checkpoint; see `relu_flow.solve`."""
        with Watcher(t1, self.quiet, name) as watcher:
            trajectory = solve(
                problem,
                network,
                t1,
                progress=watcher,
                checkpoint=self.folder / f"{_file_name(name)}-{self.stamp}.checkpoint",
                **options,
            )
            return jax.block_until_ready(trajectory)

    def piece(self, name: str, compute: Callable[[], Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Return named arrays, from disk if this piece was computed before.

        Args:
            name: Name of the piece, unique in the experiment.
            compute: Returns numbers or arrays by name; called only if they are not there.
        """
        path = self.folder / f"{_file_name(name)}-{self.stamp}.npz"
        if path.exists():
            with np.load(path, allow_pickle=False) as kept:
                return dict(kept)
        self.say(name)
        made = {key: np.asarray(value) for key, value in compute().items()}
        aside = path.with_suffix(".part")
        with aside.open("wb") as file:
            np.savez(file, **made)  # pyright: ignore[reportArgumentType]
        os.replace(aside, path)
        return made

    def study(self, name: str, study: Study) -> xr.DataTree:
        """Run what is missing of a study, collect it, and return its data.

        The study is a folder like any other, for `relu_flow.open_study` and `relu-flow report`.

        Args:
            name: Name of the study, unique in the experiment.
            study: The study.

        Raises:
            RuntimeError: If a chunk raised. Runs that end early do not: they have a code.
        """
        folder = self.folder / "studies" / f"{_file_name(name)}-{study.hash[:8]}"
        meter = None if self.quiet else Meter(sys.stderr, name=name)
        state = run_study(study, folder, workers=self.workers, progress=meter)
        if meter is not None:
            meter.end()
        if state.broken:
            chunk, error = min(state.broken.items())
            raise RuntimeError(
                f"{len(state.broken)} chunks of {name} raised, the first, {chunk}: {error}. The "
                f"reasons are in {folder / 'failed'}; the same command tries them again."
            )
        if state.fresh or not (folder / "study.zarr").exists():
            collect(folder)
        return open_study(folder).load()

    def say(self, text: str) -> None:
        """Tell what is going on."""
        if not self.quiet:
            Console(stderr=True).print(text, highlight=False)


def run_experiments(
    paper: str,
    experiments: Iterable[Experiment],
    out: Path,
    *,
    only: tuple[str, ...] = (),
    quick: bool = False,
    seed: int = 0,
    quiet: bool = False,
    workers: int | None = None,
) -> dict[str, Findings]:
    """Run a paper's experiments, print their tables, and write tables, data and figures.

    Args:
        paper: Name of the paper, for headings.
        experiments: All of its experiments.
        out: Folder to write to; one folder an experiment in it.
        only: Names of the experiments wanted; all if empty.
        quick: Run the small forms.
        seed: Seed of everything random.
        quiet: Show no progress.
        workers: Threads of studies; a core each unless given.

    Raises:
        ValueError: If a name in `only` is not one of the experiments.
    """
    known = {experiment.name: experiment for experiment in experiments}
    for name in only:
        if name not in known:
            raise ValueError(
                f"Argument `only` must name experiments of {paper} ({', '.join(known)}), "
                f"but it has {name!r}."
            )
    options = {"quick": quick, "seed": seed}
    return {name: _run(known[name], out / name, options, quiet, workers) for name in only or known}


def _run(
    experiment: Experiment,
    folder: Path,
    options: dict[str, Any],
    quiet: bool,
    workers: int | None,
) -> Findings:
    """Run one experiment unless its results are there already; print and draw it."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = {"name": experiment.name, "version": experiment.version, **options}
    stamp = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:8]
    done = folder / "done.json"
    kept = done.exists() and json.loads(done.read_text()) == spec
    if kept:
        findings = _read(folder)
    else:
        done.unlink(missing_ok=True)
        workspace = Workspace(folder, **options, quiet=quiet, stamp=stamp, workers=workers)
        findings = experiment.run(workspace)
        _write(folder, findings)
    experiment.draw(findings.data, folder / "figure.png")
    done.write_text(json.dumps(spec))
    _print(experiment, findings, folder, kept)
    return findings


def _columns(rows: Iterable[Row]) -> list[str]:
    """Return the columns of a table: those of intervals only if there is one."""
    over_seeds = any(row.runs is not None for row in rows)
    return [*_COLUMNS, *_OVER_SEEDS] if over_seeds else list(_COLUMNS)


def _write(folder: Path, findings: Findings) -> None:
    """Write the table (for people and for this program), the data and the paragraph."""
    rows = [dataclasses.astuple(row) for row in findings.rows]
    (folder / "table.json").write_text(json.dumps(rows, indent=1))
    table = pd.DataFrame([dataclasses.asdict(row) for row in findings.rows])
    table.to_csv(folder / "table.csv", index=False, columns=_columns(findings.rows))
    findings.data.to_netcdf(folder / "data.nc", engine="h5netcdf")
    if findings.paragraph:
        (folder / "found.txt").write_text(findings.paragraph + "\n", encoding="utf-8")


def _read(folder: Path) -> Findings:
    """Return findings that were written before."""
    rows = [Row(*row) for row in json.loads((folder / "table.json").read_text())]
    found = folder / "found.txt"
    paragraph = found.read_text(encoding="utf-8").strip() if found.exists() else ""
    with xr.open_dataset(folder / "data.nc", engine="h5netcdf") as stored:
        return Findings(tuple(rows), stored.load(), paragraph)


def _print(experiment: Experiment, findings: Findings, folder: Path, kept: bool) -> None:
    """Print the table of an experiment, and what was found."""
    columns = _columns(findings.rows)
    shown = [name for name in columns if name not in ("low", "high")]
    if len(columns) > len(_COLUMNS):
        shown.remove("published")
    table = Table(title=f"{experiment.name}: {experiment.title}", title_justify="left")
    for column in shown:
        justify = "left" if column in ("quantity", "note") else "right"
        table.add_column(column.replace("_", " "), justify=justify)
    for row in findings.rows:
        table.add_row(*(Text(_cell(row, column)) for column in shown))
    console = Console(width=120)
    console.print(table)
    if findings.paragraph:
        console.print(findings.paragraph, highlight=False, markup=False)
    how = "kept from before" if kept else "written"
    text = ", found.txt" if findings.paragraph else ""
    console.print(f"{folder}: table.csv, data.nc{text} and figure.png ({how})\n", highlight=False)


def _cell(row: Row, column: str) -> str:
    """Return a cell's text; the measured value with its interval if it has one."""
    value = getattr(row, column)
    if column == "measured" and row.low is not None:
        return f"{_text(value)} [{row.low:.3g}, {row.high:.3g}]"
    return str(value) if isinstance(value, int) else _text(value)


def _text(value: float | str | None) -> str:
    """Return a cell's text; nothing measured is said so, nothing known is left blank."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return "not reached" if np.isnan(value) or np.isinf(value) else f"{value:.5g}"


def _file_name(name: str) -> str:
    """Return a file's name for a piece; its digest parts `4^2` from `4^-2`."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{re.sub(r'[^A-Za-z0-9.]+', '-', name).strip('-')}-{digest}"

"""An experiment of a paper: what it measures, what was published, and how it is kept.

An experiment is a function of a `Bench`. Through it, long runs show progress and leave a
checkpoint, finished pieces are kept on disk, and so an experiment that was stopped goes on
where it was when it is run again.
"""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import xarray as xr
from rich.console import Console
from rich.table import Table

from ..flow.solve import solve
from ..flow.trajectory import Trajectory
from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from ..report.watcher import Watcher

_COLUMNS = ("quantity", "measured", "published", "bound", "note")


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of an experiment's table: measured beside published beside bound.

    Attributes:
        quantity: What was measured, with its unit.
        measured: The measured value; `None` if it was not reached.
        published: The paper's value or range, as text or number; `None` if there is none.
        bound: What theory allows; `None` if it says nothing.
        note: Where the published value or the bound is from, and what differs.
    """

    quantity: str
    measured: float | str | None
    published: float | str | None = None
    bound: float | str | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Findings:
    """What an experiment found.

    Attributes:
        rows: The table.
        data: What the figure is drawn from, labelled.
    """

    rows: tuple[Row, ...]
    data: xr.Dataset


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One experiment of a paper.

    Attributes:
        name: Short, such as `figure-7`; the name of its folder.
        title: One line: what is run.
        run: Measures.
        draw: Draws the figure of the findings' data to a file.
        version: To be raised when the numbers change, so that old results are made again.
    """

    name: str
    title: str
    run: Callable[["Bench"], Findings]
    draw: Callable[[xr.Dataset, Path], None]
    version: int = 1


@dataclasses.dataclass(frozen=True)
class Bench:
    """Where an experiment runs: its folder, its size, and its voice.

    Attributes:
        folder: The experiment's own folder.
        quick: Whether the small form is wanted.
        seed: Seed of everything random.
        quiet: Show no progress.
        stamp: Says which experiment, version and options pieces on disk belong to.
    """

    folder: Path
    quick: bool
    seed: int
    quiet: bool
    stamp: str

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
    found = {}
    for name in only or known:
        found[name] = _run(known[name], out / name, quick, seed, quiet)
    return found


def _run(experiment: Experiment, folder: Path, quick: bool, seed: int, quiet: bool) -> Findings:
    """Run one experiment unless its results are there already; print and draw it."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = {"name": experiment.name, "version": experiment.version, "quick": quick, "seed": seed}
    stamp = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:8]
    bench = Bench(folder, quick, seed, quiet, stamp)
    done = folder / "done.json"
    kept = done.exists() and json.loads(done.read_text()) == spec
    if kept:
        rows = [Row(*row) for row in json.loads((folder / "table.json").read_text())]
        with xr.open_dataset(folder / "data.nc", engine="h5netcdf") as stored:
            findings = Findings(tuple(rows), stored.load())
    else:
        done.unlink(missing_ok=True)
        findings = experiment.run(bench)
        _write(folder, findings)
    experiment.draw(findings.data, folder / "figure.png")
    done.write_text(json.dumps(spec))
    _print(experiment, findings, folder, kept)
    return findings


def _write(folder: Path, findings: Findings) -> None:
    """Write the table (for people and for this program) and the data."""
    rows = [dataclasses.astuple(row) for row in findings.rows]
    (folder / "table.json").write_text(json.dumps(rows, indent=1))
    pd.DataFrame(rows, columns=list(_COLUMNS)).to_csv(folder / "table.csv", index=False)
    findings.data.to_netcdf(folder / "data.nc", engine="h5netcdf")


def _print(experiment: Experiment, findings: Findings, folder: Path, kept: bool) -> None:
    """Print the table of an experiment."""
    table = Table(title=f"{experiment.name}: {experiment.title}", title_justify="left")
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column in ("quantity", "note") else "right")
    for row in findings.rows:
        table.add_row(row.quantity, *map(_text, (row.measured, row.published, row.bound)), row.note)
    console = Console(width=120)
    console.print(table)
    how = "kept from before" if kept else "written"
    console.print(f"{folder}: table.csv, data.nc and figure.png ({how})\n", highlight=False)


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

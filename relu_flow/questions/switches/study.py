r"""How often do neurons slide, tie, repel, graze and die, against the geometry of the data?

The papers treat hyperplanes each in its own setting. Min, Mallada, Vidal (2024): where all
$y_i x_i$ are at acute angles ($\mu > 0$) nothing slides, a pair of neuron and sample switches
at most once and a neuron at most $n$ times. Chistikov, Englert, Lazić (2023): nothing slides
with inputs within $\pi/4$ of one teacher. After Wang, Ma (2023), re-derived: two clusters of
opposite labels make neurons slide. What happens between and beyond, and how often, is open.
"""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from ...experiment.experiment import Experiment, Findings, Row, Workspace
from ...study.declare.plan import Plan
from ...study.declare.spec import Study
from .. import summary
from .figure import switches_figure
from .text import paragraph

SAMPLES, WIDTH = 8, 20
ALIKE, OPPOSITE = [1.0, 1.0], [1.0, -1.0]  # signs of two teachers
FIRST_FREE = math.pi / 4  # the first angle at which theory does not say that nothing slides
EVENTS = ("slides", "ties", "repels", "grazes")
NAMES = {
    "separable": "separable data",
    "clusters": "two clusters",
    "teacher": "one teacher",
    "teachers": "two teachers",
}

Counts = dict[str, np.ndarray]


def studies(quick: bool, root: int) -> dict[str, Study]:
    """Return a study for each family, over its geometry."""
    mus = [-0.9, -0.7, -0.5, -0.3, -0.2, -0.1, 0.1, 0.3, 0.6, 0.9]
    mus = [-0.9, -0.5, -0.1, 0.1, 0.5] if quick else mus
    degrees = [20, 40, 60, 75, 85] if quick else [15, 30, 42, 50, 60, 70, 80, 87]
    apart = [10, 45, 80, 135] if quick else [5, 20, 45, 70, 85, 105, 150]
    radians = lambda values: [math.radians(value) for value in values]
    two = {"positives": SAMPLES - 2, "negatives": 2}
    drawn = {
        "separable": {"family": "orthogonally_separable", "samples": SAMPLES, "mu": mus},
        "clusters": {
            "family": "two_clusters", "angle": radians(apart), "jitter": [0.0, 0.1], **two,
        },
        "teacher": {"family": "single_neuron", "samples": SAMPLES, "max_angle": radians(degrees)},
        "teachers": {
            "family": "several_neurons", "samples": SAMPLES, "teacher_norms": [1.0, 1.0],
            "max_angle": radians(degrees if quick else [15, 30, 45, 60, 75, 87]),
            "outer": [OPPOSITE, ALIKE],
        },
    }  # fmt: skip
    ends = {"separable": 0.01, "clusters": 0.05, "teacher": 1e-6, "teachers": 1e-6}
    return {
        name: _study(name, data, ends[name], 16 if quick else 100, root)
        for name, data in drawn.items()
    }


def _study(name: str, data: dict, loss: float, seeds: int, root: int) -> Study:
    return Study(
        name=f"switches, {NAMES[name]}",
        data={**data, "features": 4},
        seeds=seeds,
        widths=WIDTH,
        scales=[1e-4],
        t1=1e6,
        rtol=1e-8,
        root=root,
        reduction="mean",
        train="both",
        milestones=[{"observable": "loss", "level": loss, "direction": -1, "name": "converged"}],
        until="converged",
        record={
            "end": ["dead_count"], "times": [0.0], "at_times": ["dead_count"], "switches": True,
        },
        max_steps=16384,
        max_switches=4096,
    )  # fmt: skip


def pair_counts(plan: Plan, switches: pd.DataFrame) -> Counts:
    """Count from a table of switches what the theory bounds, over the axes of the grid.

    Returns:
        `most`, the largest number of switches of a neuron; `again`, pairs of neuron and sample
        that switch more than once.
    """
    rows = switches[["run", "neuron", "sample"]].to_numpy(np.int64)
    pairs, times = np.unique(rows, axis=0, return_counts=True)
    neurons, total = np.unique(rows[:, :2], axis=0, return_counts=True)
    most = np.zeros(plan.size, np.int64)
    np.maximum.at(most, neurons[:, 0], total)
    again = np.bincount(pairs[times > 1, 0], minlength=plan.size)
    shape = [len(values) for values in plan.dims.values()]
    return {"most": most.reshape(shape), "again": again.reshape(shape)}


def findings(trees: dict[str, xr.DataTree], counts: dict[str, Counts]) -> Findings:
    """Return how often each event occurs in each family.

    Args:
        trees: The studies, by family.
        counts: Those of `pair_counts`, by family.
    """
    rows, data, tables = [], {}, {}
    for name, tree in trees.items():
        found = family(tree, counts[name])
        tables[name] = found
        rows.extend(_rows(name, found))
        data |= {f"{name}_{key}": part for key, part in _for_figure(name, found).items()}
    rows = [*_checks(trees, counts), *rows]
    return Findings(tuple(rows), xr.Dataset(data), paragraph(tables, _broken(trees, counts)))


def family(tree: xr.DataTree, counts: Counts) -> dict[str, xr.Dataset]:
    """Return a family's statistics over seeds: fractions of runs, and counts for each neuron."""
    runs = tree["runs"].to_dataset()
    good = runs["result"] == 0
    per_neuron = lambda array: array.where(good) / WIDTH
    start = tree["times"].to_dataset()["dead_count"].isel(time=0, drop=True)
    deaths = tree["end"].to_dataset()["dead_count"] - start
    again = runs["slides"].copy(data=counts["again"])
    times = tree["milestones"].to_dataset()["milestone_time"]
    done = times.sel(milestone="converged", drop=True) < np.inf
    found = {f"any {name}": summary.shares(tree, (runs[name] > 0).where(good)) for name in EVENTS}
    found["any pair again"] = summary.shares(tree, (again > 0).where(good))
    for name in ("switches", "slides"):
        found[name] = summary.medians(tree, per_neuron(runs[name]))
        found[f"{name} 0.9"] = summary.medians(tree, per_neuron(runs[name]), 0.9)
    found["deaths"] = summary.medians(tree, per_neuron(deaths))
    found["converged"] = summary.shares(tree, done.where(good))
    return found


_SAID = {
    "any slides": "fraction of runs with a slide",
    "any ties": "fraction of runs with ties",
    "any repels": "fraction of runs with repels",
    "any grazes": "fraction of runs with grazes",
    "any pair again": "fraction of runs in which a pair switches again",
    "switches": "switches a neuron, median of runs",
    "switches 0.9": "switches a neuron, 0.9-quantile of runs",
    "slides": "slides a neuron, median of runs",
    "slides 0.9": "slides a neuron, 0.9-quantile of runs",
    "deaths": "fraction of neurons that die, median of runs",
    "converged": "fraction of runs that came to the loss",
}


_POOLED = ("any grazes", "any pair again", "converged")


def _rows(name: str, found: dict[str, xr.Dataset]) -> Iterator[Row]:
    for key, said in _SAID.items():
        quantity = f"{NAMES[name]}, {said}"
        bound = _bound(name, key, found[key]["estimate"])
        if key in _POOLED:
            yield _extreme(quantity, found[key], largest=key != "converged")
        else:
            yield from summary.rows(quantity, found[key], bound, _promise(name, key), _TEXTS)


def _extreme(quantity: str, one: xr.Dataset, largest: bool) -> Row:
    """Return the largest or the smallest fraction over a family's geometries as a row."""
    flat = one.drop_vars("failures").stack(point=list(one["estimate"].dims))
    fractions = flat["estimate"].to_numpy()
    point = flat.isel(point=int(fractions.argmax() if largest else fractions.argmin()))
    return Row(
        f"{quantity}: {'most' if largest else 'least'} at a point", float(point["estimate"]),
        low=float(point["low"]), high=float(point["high"]), runs=int(point["used"]),
        left_out=int(point["failed"]),
    )  # fmt: skip


def signs(outer: str | list) -> str:
    """Return the signs of teachers, such as `+ -`, from a coordinate of a study."""
    values = json.loads(outer) if isinstance(outer, str) else outer
    return " ".join("+" if value > 0 else "-" for value in values)


_TEXTS = {
    "angle": summary.degrees("angle"),
    "max_angle": summary.degrees("angle"),
    "jitter": summary.degrees("jitter"),
    "outer": lambda value: f"signs {signs(value)}",
}


def acute(name: str, at: xr.DataArray | xr.Dataset) -> xr.DataArray | None:
    r"""Return where all $y_i x_i$ are at acute angles, so that Min et al. speak of the data.

    Clusters at more than 90 degrees are such data: an angle of opposite labels is at least that
    of the clusters less twice the jitter.
    """
    if name == "separable":
        return at["mu"] > 0
    if name == "clusters":
        narrow = 2 * at["jitter"] < math.pi / 2
        return (at["angle"] - 2 * at["jitter"] > math.pi / 2) & narrow
    return None


def still(name: str, at: xr.DataArray | xr.Dataset) -> xr.DataArray | None:
    """Return where theory says that nothing slides; `None` if it says so nowhere."""
    return at["max_angle"] < FIRST_FREE if name == "teacher" else acute(name, at)


def _bound(name: str, key: str, like: xr.DataArray) -> xr.DataArray | None:
    """Return what theory allows of a statistic; NaN where it says nothing."""
    where = still(name, like) if "slides" in key else acute(name, like)
    if where is None or not ("slides" in key or "switches" in key):
        return None
    most = 0.0 if "slides" in key else float(SAMPLES)
    return xr.full_like(like, most).where(where)


def _promise(name: str, key: str) -> str | Callable[[dict], str]:
    if key != "any slides" or name == "teachers":
        return ""

    def note(at: dict) -> str:
        where = still(name, xr.Dataset(coords=at))
        return "theory: none" if where is not None and bool(where) else ""

    return note


def _broken(trees: dict[str, xr.DataTree], counts: dict[str, Counts]) -> dict[str, tuple[int, int]]:
    """Count the runs that break what theory says of every run, and how many it speaks of."""
    found = {}
    for name, tree in trees.items():
        runs = tree["runs"].to_dataset()
        own = {key: runs["slides"].copy(data=part) for key, part in counts[name].items()}
        says = {"a slide": (still, runs["slides"] > 0)}
        if acute(name, runs) is not None:
            says["a pair that switches again"] = (acute, own["again"] > 0)
            says[f"a neuron that switches more than n = {SAMPLES} times"] = (
                acute, own["most"] > SAMPLES,
            )  # fmt: skip
        for said, (where, bad) in says.items():
            at = where(name, runs)
            if at is not None:
                covered = at & (runs["result"] == 0)
                found[f"{NAMES[name]}, runs that theory covers with {said}"] = (
                    int((bad & covered).sum()), int(covered.sum()),
                )  # fmt: skip
    return found


def _checks(trees: dict[str, xr.DataTree], counts: dict[str, Counts]) -> Iterator[Row]:
    for said, (bad, total) in _broken(trees, counts).items():
        yield Row(said, float(bad), bound=0.0, runs=total, left_out=0, note="theory, of every run")


def _for_figure(name: str, found: dict[str, xr.Dataset]) -> dict[str, xr.DataArray]:
    """Return the statistics that are drawn; axes are named by family, as their values differ."""
    keys = ("any slides", "any ties", "any repels", "switches", "slides", "slides 0.9", "deaths")
    parts = summary.for_figure(**{key.replace(" ", "_"): found[key] for key in keys})
    parts = parts.drop_vars([c for c in parts.coords if c not in parts.dims])
    if "outer" in parts.dims:
        parts = parts.assign_coords(outer=[signs(value) for value in parts["outer"].to_numpy()])
    renamed = parts.rename({str(dim): f"{name}_{dim}" for dim in parts.dims})
    return {str(key): array for key, array in renamed.data_vars.items()}


def _run(workspace: Workspace) -> Findings:
    trees, counts = {}, {}
    for name, study in studies(workspace.quick, workspace.seed).items():
        trees[name] = workspace.study(name, study)
        plan = Plan.of(study)
        read = lambda plan=plan: pair_counts(plan, pd.read_parquet(_table(workspace.folder, plan)))
        counts[name] = workspace.piece(f"pairs, {NAMES[name]}", read)
    return findings(trees, counts)


def _table(folder: Path, plan: Plan) -> Path:
    """Return where a study's table of switches is."""
    return next((folder / "studies").glob(f"*-{plan.study.hash[:8]}")) / "switches.parquet"


QUESTION = Experiment(
    "switches",
    "slides, ties, repels and deaths, against the geometry of the data",
    _run,
    switches_figure,
)

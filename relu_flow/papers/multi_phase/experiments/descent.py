"""Gradient descent beside the flow: departure in proportion to the rate, duty cycles."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ....analysis.compare import modes_at
from ....data.clusters import two_clusters
from ....discrete.descent import DescentTrajectory, descent
from ....experiment.experiment import Experiment, Findings, Row, Workspace
from ....experiment.progress import Watcher
from ....model.initialisers import single_neuron_init
from ....model.network import TwoLayerReLU
from ....model.problem import Problem
from ..figures.sweeps import descent_figure
from .setting import ANGLE, HEAVY, LIGHT, OPTIONS, RTOL, WIDTH, fixed_output, record

_COUNTED = 200  # steps of the largest rate over which duty cycles are counted


@dataclasses.dataclass(frozen=True)
class _AgainstDescent:
    """What is run by flow and by descent.

    Attributes:
        name: Its name.
        problem: The problem.
        network: Where from.
        t1: End, a multiple of the largest rate.
        rates: Learning rates, the largest first.
        duties: Times around which duty cycles are counted.
        known: Duty cycles of small-step descent known from elsewhere.
    """

    name: str
    problem: Problem
    network: TwoLayerReLU
    t1: float
    rates: tuple[float, ...]
    duties: tuple[float, ...]
    known: dict[float, str]

    @property
    def grid(self) -> np.ndarray:
        """Return all times of interest: evenly spaced ones, and ends of windows."""
        even = np.round(np.linspace(0, self.t1, 81)[1:] / self.rates[0]) * self.rates[0]
        window = _COUNTED * self.rates[0] / 2
        ends = [t + side for t in self.duties for side in (-window, window)]
        return np.unique(np.round([*even, *self.duties, *ends], 9))


def _cases(workspace: Workspace) -> tuple[_AgainstDescent, ...]:
    fixed = fixed_output(workspace.seed, inner_scale=0.1)
    both, _ = two_clusters(HEAVY, LIGHT, ANGLE, train="both")
    network = single_neuron_init(jax.random.key(workspace.seed), WIDTH, 2, math.log(1e-3))
    halvings = 3 if workspace.quick else 6
    rates = tuple(0.02 * 0.5**k for k in range(halvings))
    known = {100.0: ".9465"}
    known_both = {3.0: ".2389"}
    duties = (5.0, 20.0, 60.0, 100.0, 140.0, 180.0, 220.0, 275.0)
    duties_both = (3.0, 6.0, 10.0, 12.0, 13.0, 14.0, 30.0, 32.0, 36.0)
    fast = tuple(0.2 * rate for rate in rates)
    return (
        _AgainstDescent("fixed", fixed.problem, fixed.network, 280.0, rates, duties, known),
        _AgainstDescent("both", both, network, 40.0, fast, duties_both, known_both),
    )


def _run(workspace: Workspace) -> Findings:
    """Run flow and descent at several rates, with the output layer fixed and with both trained."""
    rows: list[Row] = []
    data = xr.Dataset(attrs={"angle": ANGLE})
    for case in _cases(workspace):
        flow = workspace.solve(
            f"flow, {case.name}", case.problem, case.network, case.t1, rtol=RTOL, **OPTIONS
        )
        grid = case.grid
        seen = record(case.problem, flow, grid)
        pieces = [_descend(workspace, case, rate) for rate in case.rates]
        made = _compared(case, flow, seen, pieces)
        data = data.merge(made)
        rows += _rows(case, made)
    return Findings(tuple(rows), data)


def _descend(workspace: Workspace, case: _AgainstDescent, rate: float) -> dict[str, np.ndarray]:
    """Return what descent at one rate does at the times of interest; kept on disk."""
    name = f"descent, {case.name}, rate {rate:g}"

    def compute():
        steps = round(case.grid[-1] / rate)
        file = workspace.folder / f"{name.replace(', ', '-').replace(' ', '-')}.checkpoint"
        with Watcher(case.grid[-1], workspace.quiet, name) as watcher:
            run = descent(
                case.problem, case.network, steps, rate, ts=jnp.asarray(case.grid),
                progress=watcher, checkpoint=file,
            )  # fmt: skip
        outputs = np.asarray(jax.vmap(case.problem.predictions)(run.networks))
        return {"plus": outputs[:, 0], "minus": outputs[:, -1], **_counts(run)}

    return workspace.piece(name, compute)


def _counts(run: DescentTrajectory) -> dict[str, np.ndarray]:
    """Return in how many steps so far each neuron was active on either class, by time."""
    steps = np.diff(np.asarray(run.steps), prepend=0)
    active = np.cumsum(np.asarray(run.duty) * steps[:, None, None], axis=0)
    return {"on_plus": active[:, :, 0], "on_minus": active[:, :, -1]}


def _compared(case: _AgainstDescent, flow, seen, pieces) -> xr.Dataset:
    """Lay flow and descent beside each other."""
    n, grid, rates = case.name, case.grid, np.asarray(case.rates)
    gap = np.stack(
        [np.maximum(*(np.abs(piece[s] - seen[s]) for s in ("plus", "minus"))) for piece in pieces]
    )
    modes = np.asarray(modes_at(flow.switches, flow.initial_sides, np.asarray(case.duties)))
    positive = np.asarray(case.network.outer_weight > 0)
    window = _COUNTED * case.rates[0] / 2
    row = lambda t: int(np.argmin(np.abs(grid - t)))
    shape = (len(rates), len(case.duties))
    found = {}
    for kind, sign, sample in (("on_plus", False, 0), ("on_minus", True, -1)):
        duty, weight = np.full(shape, math.nan), np.full(shape[1], math.nan)
        spread = np.full(shape, math.nan)
        for k, t in enumerate(case.duties):
            slides = (modes[k, :, sample] == 2) & (positive == sign)
            if not slides.any():
                continue
            # Simpson's rule over the window: the weight is no straight line.
            before, here, after = (
                np.mean(seen[kind][row(t + side), slides]) for side in (-window, 0, window)
            )
            weight[k] = (before + 4 * here + after) / 6
            for r, (rate, piece) in enumerate(zip(rates, pieces, strict=True)):
                counted = piece[kind][row(t + window)] - piece[kind][row(t - window)]
                share = counted[slides] / round(2 * window / rate)
                duty[r, k], spread[r, k] = np.mean(share), np.std(share)
        found[f"{n}_duty_{kind}"] = ((f"{n}_rate", f"{n}_duty_time"), duty)
        found[f"{n}_spread_{kind}"] = ((f"{n}_rate", f"{n}_duty_time"), spread)
        found[f"{n}_weight_{kind}"] = (f"{n}_duty_time", weight)
    for s in ("plus", "minus"):
        found[f"{n}_flow_{s}"] = (f"{n}_time", seen[s])
        stacked = np.stack([piece[s] for piece in pieces])
        found[f"{n}_descent_{s}"] = ((f"{n}_rate", f"{n}_time"), stacked)
    for kind, sign, sample in (("on_plus", False, 0), ("on_minus", True, -1)):
        all_modes = np.asarray(modes_at(flow.switches, flow.initial_sides, grid))
        slides = (all_modes[:, :, sample] == 2) & (positive == sign)
        mean = np.sum(np.where(slides, seen[kind], 0), axis=1) / np.maximum(slides.sum(axis=1), 1)
        found[f"{n}_share_{kind}"] = (f"{n}_time", np.where(slides.any(axis=1), mean, math.nan))
    found[f"{n}_gap"] = ((f"{n}_rate", f"{n}_time"), gap)
    coords = {f"{n}_time": grid, f"{n}_rate": rates, f"{n}_duty_time": list(case.duties)}
    return xr.Dataset(found, coords=coords)


def _rows(case: _AgainstDescent, data: xr.Dataset) -> list[Row]:
    """Return orders in the learning rate, and duty cycles beside weights."""
    n = case.name
    title = {"fixed": "output layer fixed", "both": "both layers"}[n]
    gap, rates = data[f"{n}_gap"].to_numpy(), data[f"{n}_rate"].to_numpy()
    typical = np.sqrt(np.mean(gap**2, axis=1))
    order = np.polyfit(np.log(rates), np.log(typical), 1)[0]
    rows = [
        Row(f"{title}: order of the departure in the rate", order, 1, None, "Euler's method"),
        Row(
            f"{title}: departure of outputs / rate",
            typical[-1] / rates[-1],
            typical[0] / rates[0],
            None,
            f"root mean square over time; at rate {rates[-1]:g}, beside that at {rates[0]:g}",
        ),
    ]
    for kind, who in (("on_plus", "negatives on x+"), ("on_minus", "positives on x-")):
        for k, t in enumerate(case.duties):
            weight = float(data[f"{n}_weight_{kind}"][k])
            if math.isfinite(weight):
                duty = float(data[f"{n}_duty_{kind}"][-1, k])
                known = case.known.get(t) if kind == "on_plus" else None
                name = f"{title}: duty cycle of {who}, t = {t:g}"
                note = f"slide's weight over the same window; descent at rate {rates[-1]:g}"
                rows.append(Row(name, duty, known, weight, note))
    return rows


EXPERIMENTS = (Experiment("descent", "gradient descent beside the flow", _run, descent_figure),)

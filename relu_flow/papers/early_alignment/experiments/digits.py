r"""Digits: figures 5 and 10 to 13 of the early-alignment paper.

The images are the first ones of each digit that are shipped, not the paper's subset, which is
not stated: the mean image subtracted, width 50, all weights from $N(0, \alpha^2)$ with
$\alpha = 10^{-6}$, mean exponential loss. Iteration k of descent is the flow's time 0.002 k.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ....data.digits import digits, separable_fraction
from ....experiment.experiment import Findings, Row, Workspace
from ....model.initialisers import gaussian_init
from ....model.network import TwoLayerReLU
from ....model.problem import Problem
from ....observe import observables
from ....observe.milestones import Milestone
from .course import (
    RATE,
    RATES,
    Course,
    course,
    departure_rows,
    departures,
    descend,
    iterations,
    losses,
    mean_alignment,
    peak,
    rates,
)

_WIDTH = 50
_LOG_SCALE = math.log(1e-6)
_END = 30.0
_RECORDS = 151
_MILESTONES = (
    Milestone(mean_alignment, 0.9, +1, name="alignment_time"),
    Milestone(observables.loss, 0.95, -1, name="loss_time"),
)
_BATCHES_AN_EPOCH = 12665 / 2000  # of the paper; its number of images is inferred


def images(workspace: Workspace) -> int:
    """Return how many images are used."""
    return 60 if workspace.quick else 384


def start(workspace: Workspace, problem: Problem) -> TwoLayerReLU:
    """Return the initial network."""
    return gaussian_init(jax.random.key(workspace.seed), _WIDTH, problem.features, _LOG_SCALE)


def flow(workspace: Workspace, problem: Problem, network: TwoLayerReLU, ts: np.ndarray) -> Course:
    """Solve the flow, or read it from disk."""

    def compute():
        run = workspace.solve(
            "flow", problem, network, float(ts[-1]), ts=ts.tolist(), rtol=1e-9,
            milestones=_MILESTONES, max_slides=32,
        )  # fmt: skip
        times = {name: np.asarray(m.time) for name, m in run.milestones.items()}
        counts = {name: np.asarray(run.stats[name]) for name in ("switches", "slides")}
        return course(problem, run.networks) | times | counts

    return workspace.piece("flow", compute)


def descents(
    workspace: Workspace,
    problem: Problem,
    network: TwoLayerReLU,
    ts: np.ndarray,
    learning_rates: tuple[float, ...],
    batch: int | None = None,
) -> dict[float, Course]:
    """Run descent at every rate, or read it from disk."""
    found = {}
    for rate in learning_rates:

        def one(rate=rate):
            read = losses if batch is None else rates
            return read(problem, descend(workspace, problem, network, ts, rate, batch))

        found[rate] = workspace.piece(f"{'descent' if batch is None else 'batches'}-{rate:g}", one)
    return found


def pair_of_digits(classes: tuple[int, int]) -> Callable[[Workspace], Findings]:
    """Return the experiment on two digits, the first labelled -1."""

    def run(workspace: Workspace) -> Findings:
        problem = digits(classes, images(workspace))
        network = start(workspace, problem)
        ts = np.linspace(0.0, _END, _RECORDS)
        exact = flow(workspace, problem, network, ts)
        runs = descents(workspace, problem, network, ts, RATES)
        apart = departures(exact, runs)
        rows = (*_digit_rows(classes, problem, exact, runs, ts), *departure_rows(RATES, apart))
        return Findings(rows, _dataset(problem, ts, exact, runs, apart))

    return run


_PUBLISHED = {
    (0, 1): {"alignment": "about 2000", "start": "about 3000", "norm": "about 1.9",
             "rank": "about 1"},
    (3, 8): {"start": "about 5000", "loss": "about 0.2", "norm": "about 2.1"},
    (1, 7): {"start": "3500 to 4000", "loss": "about 0.06", "norm": "about 2"},
}  # fmt: skip


def _digit_rows(classes, problem: Problem, exact: Course, runs, ts) -> tuple[Row, ...]:
    """Return rows on alignment, loss and rank, the paper's numbers beside."""
    known = _PUBLISHED[classes]
    alive = exact["alive"][-1]
    best = np.max(exact["cosine"][-1], axis=-1)[alive]
    rank = exact["stable_rank"]
    return (
        Row("images", problem.samples, "not stated",
            note="the first of each digit that are shipped"),
        Row("pairs with the sign of correlation that is asked for",
            float(separable_fraction(problem)), bound="1",
            note="bound: the theorem's hypothesis"),
        Row("mean cosine to x_+ or x_- is 0.9 at iteration",
            iterations(float(exact["alignment_time"])), known.get("alignment"),
            note="of 0.002; living neurons; the paper's is where all look aligned"),
        Row("loss is 0.95 at iteration", iterations(float(exact["loss_time"])), known["start"],
            note="the paper's is where the fall begins, read off its figure"),
        Row("living neurons at the end", f"{int(alive.sum())} of {_WIDTH}"),
        Row("smallest, median cosine to x_+ or x_- at the end",
            f"{best.min():.3f}, {np.median(best):.3f}", "about 1"),
        Row("loss at iteration 15000", float(exact["loss"][-1]), known.get("loss"),
            note="fewer images than all of the paper's are fitted sooner"),
        Row(f"loss of descent at iteration 15000, rate {RATE:g}",
            float(runs[RATE]["loss"][-1]), known.get("loss")),
        Row("||W||_2^2 at iteration 15000", float(exact["square_norm"][-1]), known["norm"],
            note="read off a figure; nearer to the norm below than to its square"),
        Row("||W||_2 at iteration 15000", float(np.sqrt(exact["square_norm"][-1]))),
        Row("stable rank, initial", float(rank[0])),
        Row("stable rank at iteration 15000", float(rank[-1]), known.get("rank"), "<= 2",
            "bound: Theorem 1(2), as t grows"),
        Row("change in direction is largest at iteration",
            iterations(peak(ts, exact["direction_rate"]))),
        Row("change in norm is largest at iteration", iterations(peak(ts, exact["norm_rate"]))),
        Row("switches of the flow, slides among them",
            f"{int(exact['switches'])}, {int(exact['slides'])}",
            note="separable data have no slides"),
    )  # fmt: skip


def _dataset(problem: Problem, ts, exact: Course, runs, apart, **more) -> xr.Dataset:
    """Return what is drawn; `more` are attributes."""
    order = np.argsort(np.asarray(problem.targets), kind="stable")
    inputs = np.asarray(problem.inputs)[order]
    per_run = ("loss", "direction_rate", "norm_rate", "stable_rank", "square_norm")
    per_time = {name: ("time", exact[name]) for name in per_run}
    of_descent = {
        f"descent_{name}": (("rate", "time"), np.stack([r[name] for r in runs.values()]))
        for name in next(iter(runs.values()))
    }
    return xr.Dataset(
        {
            **per_time,
            **of_descent,
            "departure": ("rate", apart),
            "cosine": (("time", "neuron"), exact["cosine"][..., 0]),
            "outer_sign": ("neuron", exact["outer_sign"][-1]),
            "alive": ("neuron", exact["alive"][-1].astype(int)),
            "gram": (("sample", "other"), inputs @ inputs.T),
        },
        coords={"time": ts, "rate": list(runs)},
        attrs={"paper_rate": RATE} | more,
    )


def figure_12(workspace: Workspace) -> Findings:
    """Descent on shuffled batches, six an epoch."""
    problem = digits((0, 1), images(workspace))
    batch = problem.samples // 6
    network = start(workspace, problem)
    ts = np.linspace(0.0, _END, _RECORDS)
    exact = flow(workspace, problem, network, ts)
    runs = descents(workspace, problem, network, ts, RATES, batch)
    apart = departures(exact, runs)
    epoch = _BATCHES_AN_EPOCH * RATE
    rows = []
    for who, what in (("flow", exact), (f"batches of {batch}, rate {RATE:g}", runs[RATE])):
        rows += [
            Row(f"{who}: change in direction is largest at epoch",
                peak(ts, what["direction_rate"]) / epoch, "about 210",
                note=f"one epoch of the paper is t = {epoch:.4g}"),
            Row(f"{who}: its size there", float(what["direction_rate"].max()), "about 23"),
            Row(f"{who}: change in norm is largest at epoch",
                peak(ts, what["norm_rate"]) / epoch, "about 690"),
            Row(f"{who}: its size there", float(what["norm_rate"].max()), "about 0.63"),
        ]  # fmt: skip
    rows.append(
        Row("flow: loss is 0.95 at epoch", float(exact["loss_time"]) / epoch,
            "flat until about 500",
            note=f"{problem.samples} images, batches of {batch}; the paper's 2000 of 12665")
    )  # fmt: skip
    rows += departure_rows(RATES, apart)
    return Findings(
        tuple(rows), _dataset(problem, ts, exact, runs, apart, epoch=epoch, batch=batch)
    )


_FINE_RATES = (5e-7, 1e-6, 2e-6)
_FINE_END, _COARSE_END = 0.01, 0.2


def figure_13(workspace: Workspace) -> Findings:
    """Only the inner weights are trained, the outer ones are +1 or -1.

    Then a neuron turns within a time of its scale over the drive, some 1e-6: rates must be
    smaller than that for descent to follow the flow.
    """
    both = digits((0, 1), images(workspace))
    problem = Problem(both.inputs, both.targets, both.loss, both.reduction, train="inner")
    drawn = start(workspace, both)
    network = TwoLayerReLU(drawn.inner_weight, jnp.sign(drawn.outer_weight), _LOG_SCALE, 0.0)
    fine, coarse = np.linspace(0.0, _FINE_END, 101), np.linspace(0.0, _COARSE_END, 101)
    ts = [[0.0], np.geomspace(1e-6, 5e-5, 40), fine[1:], coarse[coarse > _FINE_END * 1.01]]
    ts = np.concatenate(ts)
    exact = flow(workspace, problem, network, ts)
    runs = descents(workspace, problem, network, fine, _FINE_RATES)
    paper = descents(workspace, problem, network, coarse, (RATE,))[RATE]
    apart = departures({"loss": np.interp(fine, ts, exact["loss"])}, runs)
    aligned, falls = float(exact["alignment_time"]), float(exact["loss_time"])
    of_flow = np.interp([RATE, 3 * RATE], ts, exact["loss"])
    rows = (
        Row("flow: mean cosine to x_+ or x_- is 0.9 at t", aligned),
        Row("flow: loss is 0.95 at t", falls, note="no log(1/scale) to wait for"),
        Row("the same in iterations of 0.002", falls / RATE,
            note="within the paper's first iteration, which cannot show the flow's phases"),
        Row("loss after iterations 1, 3: the flow", f"{of_flow[0]:.3f}, {of_flow[1]:.3f}",
            "starts at about 0.5"),
        Row(f"loss after iterations 1, 3: descent, rate {RATE:g}",
            f"{paper['loss'][1]:.3f}, {paper['loss'][3]:.3f}", "starts at about 0.5"),
        Row("loss of the flow at t = 0.2", float(exact["loss"][-1])),
        *departure_rows(_FINE_RATES, apart),
    )  # fmt: skip
    fields = ("loss", "direction_rate", "norm_rate", "stable_rank")
    data = xr.Dataset(
        {
            **{name: ("time", exact[name]) for name in fields},
            "cosine": (("time", "neuron"), exact["cosine"][..., 0]),
            "outer_sign": ("neuron", exact["outer_sign"][-1]),
            "descent_loss": (("rate", "fine"), np.stack([r["loss"] for r in runs.values()])),
            "paper_loss": ("coarse", paper["loss"]),
            "departure": ("rate", apart),
        },
        coords={"time": ts, "fine": fine, "coarse": coarse, "rate": list(runs)},
        attrs={"paper_rate": RATE, "samples": problem.samples},
    )
    return Findings(rows, data)

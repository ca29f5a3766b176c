r"""The planar toys: figures 6 to 9 of the early-alignment paper.

Two inputs at an angle (figures 7 to 9), or two classes in the plane (figure 6), width 50, all
weights from $N(0, \alpha^2)$ with $\alpha = 10^{-6}$, mean exponential loss, which the
published losses imply. Iteration k of the paper's descent is the flow's time 0.002 k.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ....data.separable import orthogonally_separable
from ....experiment.experiment import Findings, Row, Workspace
from ....flow.solve import solve
from ....model.initialisers import gaussian_init
from ....model.network import TwoLayerReLU
from ....model.problem import Problem
from ....observe import observables
from ....observe.milestones import Milestone
from ..theory import Constants, constants
from .course import RATE, RATES, course, departure_rows, departures, descend, losses, peak, span

_WIDTH = 50
_LOG_SCALE = math.log(1e-6)
_SPACING = 0.4
_SHOWN = (0, 7000, 21000)
_MILESTONES = (
    Milestone(observables.fraction_in_cone, 1 - 1e-9, +1, name="place_time"),
    Milestone(observables.loss, 0.95, -1, name="loss_time"),
    Milestone(observables.largest_positive_output, 0.25, +1, name="output_time"),
)
_UNBALANCED = "Theorem 1 asks for a balanced start: for orientation"


def pair(angle: float) -> Problem:
    """Return the inputs (1, 0) and (sin angle, cos angle), both labelled +1; 0 is orthogonal."""
    inputs = np.array([[1.0, 0.0], [math.sin(angle), math.cos(angle)]])
    return Problem(inputs, np.ones(2), reduction="mean")


def two_classes(seed: int) -> Problem:
    """Return ten unit inputs in the plane, six of them positive, all signed cosines >= 0.3."""
    key = jax.random.key(seed)
    return orthogonally_separable(key, 10, 2, 0.3, positives=6, reduction="mean")[0]


def start(workspace: Workspace, seed: int) -> TwoLayerReLU:
    """Return the initial network of a seed."""
    key = jax.random.fold_in(jax.random.key(workspace.seed), seed)
    return gaussian_init(key, _WIDTH, 2, _LOG_SCALE)


def planar(
    workspace: Workspace, problem: Problem, end: float, published: dict[int, tuple[float, str]]
) -> Findings:
    """Run the flow from several seeds, and descent from the first.

    Args:
        workspace: Where it runs.
        problem: Inputs in the plane.
        end: End of the run.
        published: Losses by iteration: as a number, to be drawn, and as printed.
    """
    seeds = 8 if workspace.quick else 32
    ts = np.arange(round(end / _SPACING) + 1) * _SPACING
    flow = workspace.piece(f"flow, {seeds} seeds", lambda: _flows(workspace, problem, ts, seeds))
    runs = {}
    for rate in RATES:

        def one(rate=rate):
            return losses(problem, descend(workspace, problem, start(workspace, 0), ts, rate))

        runs[rate] = workspace.piece(f"descent at rate {rate:g}", one)
    apart = departures({"loss": flow["loss"][0]}, runs)
    rows = [
        *_loss_rows(flow, ts, published),
        *_phase_rows(problem, workspace, flow, ts),
        *(
            Row(f"loss of descent at iteration {k}, rate {RATE:g}", _at(runs[RATE]["loss"], k),
                text, note="the flow's first seed")
            for k, (_, text) in published.items() if k > 0
        ),
        *departure_rows(RATES, apart),
    ]  # fmt: skip
    return Findings(tuple(rows), _dataset(problem, ts, flow, runs, apart, published))


def outside(problem: Problem, networks: TwoLayerReLU) -> np.ndarray:
    """Return how many neurons are neither in their final cone nor dead, at each time."""
    share = jax.vmap(lambda n: observables.fraction_in_cone(problem, n))(networks)
    alive = jax.vmap(lambda n: jnp.sum(observables.living(problem, n), dtype=share.dtype))(networks)
    return np.asarray(jnp.round(alive * (1 - share)))


def _flows(
    workspace: Workspace, problem: Problem, ts: np.ndarray, seeds: int
) -> dict[str, np.ndarray]:
    """Solve from every seed; what is read off the runs is stacked over seeds."""
    found = []
    shown = [round(k * RATE / _SPACING) for k in _SHOWN]
    for seed in range(seeds):
        run = solve(
            problem, start(workspace, seed), float(ts[-1]), ts=ts.tolist(), rtol=1e-10,
            milestones=_MILESTONES,
        )  # fmt: skip
        read = course(problem, run.networks)
        read |= {name: np.asarray(m.time) for name, m in run.milestones.items()}
        read["outside"] = outside(problem, run.networks)
        read["directions"] = np.asarray(jax.vmap(lambda n: n.directions())(run.networks))[shown]
        read["switches"] = np.asarray(run.switches.num)
        found.append(read)
    return {name: np.stack([read[name] for read in found]) for name in found[0]}


def _at(values: np.ndarray, iteration: int) -> float:
    return float(values[..., round(iteration * RATE / _SPACING)])


def _loss_rows(flow, ts: np.ndarray, published: dict[int, tuple[float, str]]) -> list[Row]:
    seeds = len(flow["loss"])
    return [
        Row(
            f"loss at iteration {k} (t = {k * RATE:g})",
            span(flow["loss"][:, round(k * RATE / _SPACING)]),
            text,
            note=f"the flow, {seeds} seeds; the paper shows one, its seed unknown",
        )
        for k, (_, text) in published.items()
    ]


def _phase_rows(problem: Problem, workspace: Workspace, flow, ts: np.ndarray) -> list[Row]:
    """Return rows on alignment, growth and rank, with what Theorem 1 allows."""
    held = [constants(problem, start(workspace, seed)) for seed in range(len(flow["loss"]))]
    in_place = flow["place_time"]
    reached = np.isfinite(in_place)
    places = span(in_place[reached]) if reached.any() else "not reached"
    at_end = flow["outside"][:, round(_SHOWN[-1] * RATE / _SPACING)]
    directions = [peak(ts, rate) for rate in flow["direction_rate"]]
    norms = [peak(ts, rate) for rate in flow["norm_rate"]]
    return [
        Row(f"all living neurons in their cone since t ({reached.sum()} of {len(reached)} seeds)",
            places, bound=_least("<=", [h.t_1 for h in held]), note=f"t_1; {_UNBALANCED}"),
        Row("neurons outside their cone at iteration 21000", span(at_end),
            note="neither in it nor dead, of 50"),
        Row("an output is 1/4 on the positive class at t", span(flow["output_time"]),
            bound=_second_time(held, in_place),
            note=f"t_2+ after the measured alignment; {_UNBALANCED}"),
        Row("loss is 0.95 at t", span(flow["loss_time"]),
            bound=f">= {min(h.horizon for h in held):.3g}",
            note=f"Lemma 3's T, before which nothing shows; {_UNBALANCED}"),
        Row("change in direction is largest at t", span(np.array(directions)),
            note=f"recorded every {_SPACING:g}"),
        Row("change in norm is largest at t", span(np.array(norms)),
            note="after the change in direction: two phases"),
        Row("stable rank at the end", span(flow["stable_rank"][:, -1]), bound="<= 2",
            note="Theorem 1(2), as t grows"),
    ]  # fmt: skip


def _least(relation: str, bounds: list[float]) -> str:
    """Return a bound over seeds, the weakest of them, as text."""
    weakest = max(bounds)
    return f"{relation} {weakest:.3g}" if math.isfinite(weakest) else "none (mu = 0)"


def _second_time(held: list[Constants], in_place: np.ndarray) -> str | None:
    known = [h.t_2(0, float(t)) for h, t in zip(held, in_place, strict=True) if np.isfinite(t)]
    return _least("<=", known) if known else None


def _dataset(problem: Problem, ts, flow, runs, apart, published) -> xr.Dataset:
    first = {name: flow[name][0] for name in flow}
    shown = [round(k * RATE / _SPACING) for k in _SHOWN]
    return xr.Dataset(
        {
            "input": (("sample", "feature"), np.asarray(problem.inputs)),
            "target": ("sample", np.asarray(problem.targets)),
            "loss": (("seed", "time"), flow["loss"]),
            "direction_rate": ("time", first["direction_rate"]),
            "norm_rate": ("time", first["norm_rate"]),
            "direction": (("shown", "neuron", "feature"), first["directions"]),
            "log_norm": (("shown", "neuron"), first["log_norm"][shown]),
            "outer_sign": (("shown", "neuron"), first["outer_sign"][shown]),
            "descent_loss": (("rate", "time"), np.stack([r["loss"] for r in runs.values()])),
            "departure": ("rate", apart),
            "published_time": ("published", [k * RATE for k in published]),
            "published_loss": ("published", [value for value, _ in published.values()]),
        },
        coords={"time": ts, "shown": list(_SHOWN), "rate": list(runs)},
        attrs={"paper_rate": RATE},
    )


def figure_6(workspace: Workspace) -> Findings:
    """Two classes in the plane: the loss falls once for each."""
    published = {0: (1.0, "1.00"), 7000: (1.0, "1.00"), 14000: (0.4, "0.4 (plateau)"),
                 21000: (5.31e-2, "5.31e-2")}  # fmt: skip
    found = planar(workspace, two_classes(workspace.seed), 80.0, published)
    note = Row("inputs", "10 unit vectors, mu = 0.3", "coordinates not published",
               note="an orthogonally separable draw, 6 positive and 4 negative")  # fmt: skip
    return Findings((note, *found.rows), found.data)


def figure_7(workspace: Workspace) -> Findings:
    """Two inputs whose cosine is sin 0.1."""
    published = {0: (1.0, "1.00"), 7000: (0.993, "9.93e-1"), 21000: (7.49e-3, "7.49e-3")}
    return planar(workspace, pair(0.1), 42.0, published)


def figure_8(workspace: Workspace) -> Findings:
    """Two inputs whose cosine is sin 0.001."""
    published = {0: (1.0, "1.00"), 7000: (0.997, ".997"), 21000: (8.35e-3, "8.35e-3")}
    found = planar(workspace, pair(0.001), 42.0, published)
    rows = [
        dataclasses.replace(row, published="1") if row.quantity.startswith("neurons outside")
        else row
        for row in found.rows
    ]  # fmt: skip
    return Findings(tuple(rows), found.data)


def figure_9(workspace: Workspace) -> Findings:
    """Two orthogonal inputs."""
    published = {0: (1.0, "1.00"), 7000: (0.999, ".999"), 21000: (8.58e-3, "8.58e-3")}
    found = planar(workspace, pair(0.0), 42.0, published)
    return Findings((*found.rows, *_groups(found.data)), found.data)


def _groups(data: xr.Dataset) -> tuple[Row, ...]:
    """Return how many neurons of the first seed end along x_1, x_2 and x_+, and who grew."""
    directions = data["direction"].to_numpy()[-1]
    log_norm = data["log_norm"].to_numpy()[-1]
    dead = np.all(directions <= 1e-9, axis=1)
    both = np.all(directions > 1e-9, axis=1)
    first = (directions[:, 0] > 1e-9) & ~both & ~dead
    share = float(np.sum(np.exp(2 * log_norm[both])) / np.sum(np.exp(2 * log_norm)))
    counts = [int(np.sum(group)) for group in (first, ~(first | both | dead), both, dead)]
    return (
        Row("neurons along x_1, x_2, x_+, dead at 21000", ", ".join(map(str, counts)),
            "some along each of x_1, x_2, x_+", note="first seed"),
        Row("share of those along x_+ in the squared norm", share, "only these grow"),
    )  # fmt: skip

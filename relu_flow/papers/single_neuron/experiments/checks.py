"""What a reader would try next: alignment, cohesion and rank; and where they end."""

import math

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import xarray as xr

from ....data.norm_rank import norm_agrees_with_rank, norm_disagrees_with_rank
from ....data.orthogonal import orthogonal
from ....data.teacher import single_neuron
from ....experiment.experiment import Experiment, Findings, Row, Workspace
from ....model.loss import SquareLoss
from ....model.problem import Problem
from ....observe.bundle import bundle
from .. import figures
from ..theory import constants
from ..theory.norm_rank import better_interpolator
from . import runs

_FEATURES = 4
_BROKEN = 0.01  # the rank counts as more than one if the nuclear norm is so much too large


def _ranks(workspace: Workspace) -> Findings:
    """Measure ranks of the limit for several scales and widths."""
    scales = (0, -2, -4, -6, -8) if workspace.quick else tuple(range(2, -11, -1))
    widths = (25, 200) if workspace.quick else (25, 50, 200)
    shape = (len(widths), len(scales))
    names = ("effective_rank", "spread", "nuclear", "square_norm", "loss", "second")
    found = {name: np.full(shape, np.nan) for name in names}
    problem, _, key = runs.draw(workspace, _FEATURES, "capped", 0)
    for row, width in enumerate(widths):
        for column, exponent in enumerate(scales):
            network = runs.start(key, problem, width, exponent)
            name = f"m={width} {runs.scale_name(exponent)}"
            piece = runs.settled_piece(workspace, name, problem, network)
            for k, values in found.items():
                values[row, column] = piece[k]
    data = xr.Dataset(
        {name: (("width", "exponent"), values) for name, values in found.items()},
        coords={"width": list(widths), "exponent": list(scales)},
    )
    rows = []
    small = [e for e in scales if -8 <= e <= -4]
    for width in widths:
        here = data.sel(width=width)
        for exponent in (0, -4, -8):
            value = float(here["effective_rank"].sel(exponent=exponent))
            name = f"effective rank, m={width}, 4^{exponent}"
            rows.append(Row(name, value, "to 1", 1.0, "exp of the singular values' entropy"))
        factor = runs.per_step(here["spread"].sel(exponent=small).to_numpy(), np.array(small))
        note = "nuclear by Frobenius norm, less one: proportional to the scale"
        rows.append(Row(f"excess of rank, factor a step of 4, m={width}", factor, None, None, note))
    rows.append(runs.second_row(data["second"]))
    return Findings(tuple(rows), data)


def _correlation(workspace: Workspace) -> Findings:
    """Widen the cone of inputs about the teacher, from almost 0 to almost pi/2."""
    wide = [10, 25, 45, 60, 75, 88] if workspace.quick else [*range(5, 90, 5), 88]
    angles = np.radians(wide)
    trials = 2 if workspace.quick else 10
    names = ("spread", "max_angle", "positive_angle", "loss", "reached", "miss", "second")
    found = {name: np.full((angles.size, trials), np.nan) for name in names}
    for trial in range(trials):
        for row, widest in enumerate(angles):
            problem, teacher, key = runs.draw(workspace, _FEATURES, "capped", trial, float(widest))
            network = runs.start(key, problem, 200, -7)

            def compute(problem=problem, teacher=teacher, network=network):
                run = runs.settle(workspace, "correlation", problem, network)
                miss = jnp.linalg.norm(bundle(problem, run.network) - teacher)
                found = {"reached": run.reached, "miss": miss, "second": run.second}
                return runs.read(problem, run.network) | found

            name = f"{np.degrees(widest):.0f} degrees trial {trial}"
            piece = workspace.piece(name, compute)
            for k, values in found.items():
                values[row, trial] = piece[k]
    degrees = np.degrees(angles)
    data = xr.Dataset(
        {name: (("degrees", "trial"), values) for name, values in found.items()},
        coords={"degrees": degrees},
    )
    return Findings(tuple(_correlation_rows(data)), data)


def _correlation_rows(data: xr.Dataset):
    """Return how often the limit has rank one, by how wide the cone of inputs is."""
    one = data["spread"] < _BROKEN
    groups = (("up to", data["degrees"] <= 45.001, "all"), ("beyond", data["degrees"] > 45.001, ""))
    for name, chosen, expected in groups:
        here = one.where(chosen, drop=True)
        text = f"{int(here.sum())} of {here.size}"
        note = f"nuclear by Frobenius norm below {1 + _BROKEN}; lambda = 4^-7, m=200, d=4"
        bound = f"{expected}, if small enough" if expected else "open"
        yield Row(f"limits of rank one, inputs {name} 45 degrees", text, None, bound, note)
    for degrees in data["degrees"].to_numpy():
        here = data.sel(degrees=degrees)
        value = float(here["spread"].median())
        reached = int(here["reached"].sum())
        note = f"median of {here.sizes['trial']} draws, {reached} with a loss below 1e-9 "
        note += f"by t = {runs.LATEST:g}"
        yield Row(f"excess of rank, inputs within {degrees:.0f} degrees", value, None, None, note)
    yield runs.second_row(data["second"])


def _scale_sweep(workspace: Workspace) -> Findings:
    """Find by bisection at what scale rank one breaks, and where the theorem promises it."""
    scales = np.array([1.0, -1.0, -3.0, -5.0] if workspace.quick else np.arange(2.0, -10.5, -0.5))
    trials, halvings = (1, 6) if workspace.quick else (5, 12)
    curves, thresholds, promises, second = [], [], [], []
    for trial in range(trials):
        problem, _, key = runs.draw(workspace, _FEATURES, "capped", trial)

        def spread(exponent, trial=trial, problem=problem, key=key):
            network = runs.start(key, problem, 200, exponent)
            name = f"{runs.scale_name(exponent)} trial {trial}"
            piece = runs.settled_piece(workspace, name, problem, network)
            second.append(float(piece["second"]))
            return float(piece["spread"])

        curves.append([spread(exponent) for exponent in scales])
        low, high = -8.0, 2.0
        for _ in range(halvings):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if spread(middle) < _BROKEN else (low, middle)
        thresholds.append(0.5 * (low + high))
        network = runs.start(key, problem, 200, 0.0)
        found = constants(problem, network, log_lambda=0.0)
        promises.append(found.largest_log_lambda / math.log(10))
    thresholds = np.array(thresholds) * math.log10(4)
    data = xr.Dataset(
        {
            "spread": (("trial", "exponent"), np.array(curves)),
            "threshold": ("trial", thresholds),
            "promised": ("trial", np.array(promises)),
        },
        coords={"exponent": scales},
        attrs={"level": _BROKEN},
    )
    note = f"nuclear by Frobenius norm exceeds {1 + _BROKEN}; capped at 30 degrees, d=4, m=200"
    note += f"; runs end by t = {runs.LATEST:g}; bound: Assumption 2 with epsilon = 1/4"
    rows = [
        Row(f"log10 of the scale where rank one breaks, draw {k}", float(t), None, float(p), note)
        for k, (t, p) in enumerate(zip(thresholds, promises, strict=True))
    ]
    rows.append(runs.second_row(xr.DataArray(second)))
    return Findings(tuple(rows), data)


def _least(problem: Problem) -> float:
    """Return the least square norm of an interpolator of orthogonal data.

    An interpolator has to give every sample its target by neurons of its sign at least, and
    neurons of one sign do it best together, as one: twice the norm of the vector that fits
    this sign's targets and is zero elsewhere.
    """
    inputs, targets = np.asarray(problem.inputs), np.asarray(problem.targets)
    scaled = targets[:, None] * inputs / np.sum(inputs**2, axis=1, keepdims=True)
    return sum(2 * float(np.linalg.norm(scaled[targets * s > 0].sum(0))) for s in (1, -1))


def _families(workspace: Workspace) -> dict[str, tuple[Problem, float, int]]:
    """Return problems, the least known square norm of an interpolator, and the least rank."""
    key, size = jr.fold_in(jr.key(workspace.seed), 0), _FEATURES
    options = {"loss": SquareLoss(), "reduction": "mean"}
    one, _ = orthogonal(key, size, size, positives=size, **options)
    both, _ = orthogonal(key, size, size, positives=size // 2, **options)
    agree, _ = norm_agrees_with_rank(size)
    disagree, found = norm_disagrees_with_rank(size)
    teacher = np.asarray(found.teacher)
    better = better_interpolator(np.asarray(disagree.inputs), teacher)
    shorter = float(jnp.sum(better.inner_weight**2) + jnp.sum(better.outer_weight**2))
    capped, _ = single_neuron(key, size)
    return {
        "orthogonal, one sign": (one, _least(one), 1),
        "orthogonal, both signs": (both, _least(both), 2),
        "correlated at 30 degrees": (capped, 2.0, 1),
        "correlated, norm agrees": (agree, 2.0, 1),
        "correlated, norm disagrees": (disagree, shorter, 1),
    }


def _orthogonal(workspace: Workspace) -> Findings:
    """Compare orthogonal inputs with correlated ones: rank and norm of the limit."""
    # At the smallest, what is small by a low power of the scale has vanished too.
    scales = (-2, -8, -20) if workspace.quick else (0, -2, -4, -6, -8, -10, -15, -20, -30)
    families = _families(workspace)
    names = ("effective_rank", "spread", "square_norm", "max_angle", "loss", "active", "second")
    found = {name: np.full((len(families), len(scales)), np.nan) for name in names}
    for row, (family, (problem, _, _)) in enumerate(families.items()):
        _, key = jr.split(jr.fold_in(jr.key(workspace.seed), 0))
        for column, exponent in enumerate(scales):
            network = runs.start(key, problem, 200, exponent)
            name = f"{family} {runs.scale_name(exponent)}"
            piece = runs.settled_piece(workspace, name, problem, network)
            for k, values in found.items():
                values[row, column] = piece[k]
    data = xr.Dataset(
        {name: (("family", "exponent"), values) for name, values in found.items()}
        | {
            "least_norm": ("family", [least for _, least, _ in families.values()]),
            "least_rank": ("family", [rank for *_, rank in families.values()]),
        },
        coords={"family": list(families), "exponent": list(scales)},
    )
    rows = []
    for family, (_, least, rank) in families.items():
        there = data.sel(family=family).dropna("exponent", subset=["spread"])
        last = int(there["exponent"][-1])
        here = there.sel(exponent=last)
        measured = lambda name, here=here: float(here[name])
        name = f"{family}, 4^{last}"
        note = "bound: least rank of an interpolator"
        rows.append(Row(f"effective rank, {name}", measured("effective_rank"), None, rank, note))
        note = "bound: least square norm known of an interpolator"
        rows.append(Row(f"square norm, {name}", measured("square_norm"), None, least, note))
        note = f"of {measured('active'):g} active neurons"
        value = measured("max_angle")
        rows.append(Row(f"largest angle, degrees, {name}", value, None, None, note))
    rows.append(runs.second_row(data["second"]))
    return Findings(tuple(rows), data)


EXPERIMENTS = (
    Experiment(
        "ranks",
        "first experiment 3: rank of the limit for several scales and widths",
        _ranks,
        figures.ranks_figure,
        version=2,
    ),
    Experiment(
        "correlation",
        "next check 1: rank of the limit as inputs turn away from the teacher",
        _correlation,
        figures.correlation_figure,
        version=2,
    ),
    Experiment(
        "scale-sweep",
        "next check 2: the scale where rank one breaks, beside the bound",
        _scale_sweep,
        figures.sweep_figure,
        version=2,
    ),
    Experiment(
        "orthogonal",
        "next check 3: orthogonal inputs beside correlated ones",
        _orthogonal,
        figures.orthogonal_figure,
        version=2,
    ),
)

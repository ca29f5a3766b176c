"""Angles, nuclear norms and losses against the scale of the initialisation (figures 1, 2, 7-9)."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import xarray as xr

from ....experiment.experiment import Experiment, Findings, Row, Workspace
from .. import figures
from . import runs
from .published import TABLES, published

_VARIANTS = ("centred", "uncentred")
_ALL = tuple(range(2, -14, -1))
_TABLE = (2, 0, -1, -2, -3, -4, -5, -6, -7, -8, -10, -13)
_SHORT = (2, 0, -2, -4, -7, -8, -10, -13)
_QUICK = (2, 0, -2, -4, -7, -8, -13)
# Features, width, trials, exponents, latest time: chosen by cost, cheap ones first.
_PLAN = (
    (4, 200, 5, _ALL, runs.LATEST),
    (16, 200, 3, _TABLE, runs.LATEST),
    (64, 200, 1, _SHORT, 0.1 * runs.LATEST),
    (256, 50, 1, _SHORT[2:], 0.1 * runs.LATEST),
)
_QUICK_PLAN = ((4, 200, 3, _QUICK, runs.LATEST),)
_KEPT = (
    "max_angle",
    "mean_angle",
    "positive_angle",
    "nuclear",
    "loss",
    "time",
    "active",
    "reached",
    "square_norm",
    "second",
)
_NAMES = {
    "max_angle": "largest angle of active neurons, degrees",
    "mean_angle": "mean angle of active neurons, degrees",
    "nuclear": "nuclear norm of W",
}
_LOSS_END = 1e4  # of the curves of the loss
_SMALL = -6  # from this exponent down angles are compared with the scale
_ALIGNED = 20.0  # degrees: what is beyond is not fitted


def _angles(workspace: Workspace) -> Findings:
    """Run every variant, dimension, scale and trial to a loss of 1e-9."""
    plan = _QUICK_PLAN if workspace.quick else _PLAN
    exponents = _QUICK if workspace.quick else _ALL
    dims = ("variant", "features", "exponent", "trial")
    shape = (len(_VARIANTS), len(plan), len(exponents), max(trials for _, _, trials, *_ in plan))
    found = {name: np.full(shape, np.nan) for name in _KEPT}
    for row, (features, width, trials, scales, latest) in enumerate(plan):
        for trial in range(trials):
            for v, variant in enumerate(_VARIANTS):
                problem, _, key = runs.draw(workspace, features, variant, trial)
                for exponent in scales:
                    name = f"{variant} d={features} {runs.scale_name(exponent)} trial {trial}"
                    network = runs.start(key, problem, width, exponent)
                    piece = runs.settled_piece(workspace, name, problem, network, latest)
                    for k, values in found.items():
                        values[v, row, exponents.index(exponent), trial] = piece[k]
    data = xr.Dataset(
        {name: (dims, values) for name, values in found.items()},
        coords={
            "variant": list(_VARIANTS),
            "features": [features for features, *_ in plan],
            "exponent": list(exponents),
            "width": ("features", [width for _, width, *_ in plan]),
            "trials": ("features", [trials for _, _, trials, *_ in plan]),
        },
    )
    return Findings(tuple(_angle_rows(data)), data)


def _angle_rows(data: xr.Dataset):
    """Return the factor a step, then what runs that were stopped left, then the tables."""
    pairs = [(v, d) for v in _VARIANTS for d in data["features"].to_numpy().tolist()]
    for variant, features in pairs:
        yield _factor_row(data, variant, features)
    for variant, features in pairs:
        yield _left_row(data, variant, features)
    yield runs.second_row(data["second"])
    for variant, features in pairs:
        run = data["time"].sel(variant=variant, features=features).notnull().any("trial")
        left_out = data["exponent"].to_numpy()[~run.to_numpy()]
        if left_out.size:
            text = ", ".join(f"4^{exponent}" for exponent in left_out)
            yield Row(f"scales left out for their cost, {variant}, d={features}", text)
    for quantity in TABLES:
        for variant in _VARIANTS:
            for features in data["features"].to_numpy().tolist():
                yield from _table_rows(data, quantity, variant, features)


def _factor_row(data: xr.Dataset, variant: str, features: int) -> Row:
    """Return by what the largest angle falls when the scale is divided by four."""
    small = [e for e in data["exponent"].to_numpy().tolist() if e <= _SMALL]
    chosen = data["max_angle"].sel(variant=variant, features=features, exponent=small)
    chosen = chosen.dropna("trial", how="all").dropna("exponent", how="any")
    exponents, values = chosen["exponent"].to_numpy(), chosen.to_numpy()
    fitted = values < _ALIGNED
    factors = [
        runs.per_step(draw[kept], exponents[kept])
        for draw, kept in zip(values.T, fitted.T, strict=True)
        if kept.sum() > 2
    ]
    first, last = (published("max_angle", variant, features, e) for e in (-7, -13))
    theirs = (first / last) ** (1 / 6) if first and last else None
    note = (
        f"fit over 4^{small[0]} to 4^{small[-1]}, median of {len(factors)} of "
        f"{chosen.sizes['trial']} draws: in the others neurons active on inputs with small "
        "y|x| alone turn too slowly to be done when the bundle has grown"
        if len(factors) < chosen.sizes["trial"]
        else f"fit over 4^{small[0]} to 4^{small[-1]}, median of {len(factors)} draws"
    )
    measured = float(np.median(factors)) if factors else None
    return Row(f"factor a step of 4, {variant}, d={features}", measured, theirs, 4.0, note)


def _left_row(data: xr.Dataset, variant: str, features: int) -> Row:
    """Return by what share angles would have changed, had runs not been stopped."""
    here = data.sel(variant=variant, features=features)
    here = here.sel(exponent=[e for e in here["exponent"].to_numpy().tolist() if e <= _SMALL])
    left = runs.unfinished(here["square_norm"].to_numpy())
    loss, last = float(here["loss"].max()), float(here["time"].max())
    note = f"largest, 4^{_SMALL} and below; by t = {last:.3g} all losses are below {loss:.1e}"
    return Row(
        f"share of angles still to go, {variant}, d={features}", np.nanmax(left), 0.0, None, note
    )


def _table_rows(data: xr.Dataset, quantity: str, variant: str, features: int):
    """Return the rows of one column of a published table."""
    here = data.sel(variant=variant, features=features)
    width, trials = int(here["width"]), int(here["trials"])
    run = here["time"].notnull().any("trial")
    for exponent in TABLES[quantity][variant]:
        if exponent not in data["exponent"] or not bool(run.sel(exponent=exponent)):
            continue
        median = float(here[quantity].sel(exponent=exponent).median("trial"))
        done = int((here["loss"].sel(exponent=exponent) < runs.LEVEL).sum())
        bound, note = None, f"m={width}, median of {trials} draws of our own"
        if done < trials:
            note += f", {done} of them to a loss of 1e-9"
        if quantity == "max_angle" and exponent < 0 and runs.cohesion_bound(exponent) < 180:
            bound = runs.cohesion_bound(exponent)
            note += "; bound: 1 - cos < 4 lambda^(1/4), promised for smaller scales only"
        if quantity == "nuclear":
            bound, note = 1.0, note + "; limit as lambda -> 0"
        name = f"{_NAMES[quantity]}: {variant}, d={features}, 4^{exponent}"
        yield Row(name, median, published(quantity, variant, features, exponent), bound, note)


@eqx.filter_jit
def _both_losses(train, test, networks):
    of = lambda problem: jax.vmap(problem.loss_value)(networks)
    return of(train), of(test)


def _losses(workspace: Workspace) -> Findings:
    """Follow training and test loss for several scales."""
    features, scales = (4, (-2, -4, -6, -8)) if workspace.quick else (16, tuple(range(-2, -9, -1)))
    pieces = {}
    for variant in _VARIANTS:
        problem, teacher, key = runs.draw(workspace, features, variant, 0)
        test = jr.normal(jr.fold_in(jr.key(workspace.seed), 64), (64, features))
        unseen = eqx.tree_at(
            lambda p: (p.inputs, p.targets), problem, (test, jnp.maximum(test @ teacher, 0.0))
        )
        for exponent in scales:
            network = runs.start(key, problem, 200, exponent)

            name = f"{variant} {runs.scale_name(exponent)}"

            def compute(problem=problem, unseen=unseen, network=network, name=name):
                run = runs.settle(workspace, name, problem, network, latest=_LOSS_END)
                train, tested = _both_losses(problem, unseen, run.networks)
                return {"time": run.times, "train": train, "test": tested}

            pieces[variant, exponent] = workspace.piece(
                f"{variant} {runs.scale_name(exponent)}", compute
            )
    data = _loss_data(pieces, scales).assign_attrs(features=features)
    rows = []
    for variant in _VARIANTS:
        for exponent in (scales[0], scales[-1]):
            last = float(pieces[variant, exponent]["test"][-1])
            name = f"test loss at the end: {variant}, d={features}, 4^{exponent}"
            rows.append(Row(name, last, None, None, "64 normal inputs; that of f = 0 is about 1/4"))
    return Findings(tuple(rows), data)


def _loss_data(pieces: dict, scales: tuple[int, ...]) -> xr.Dataset:
    """Return the curves, filled up with `nan` to one length."""
    longest = max(piece["time"].size for piece in pieces.values())
    dims = ("variant", "exponent", "point")

    def stacked(name):
        rows = [
            [np.pad(pieces[v, e][name], (0, longest - pieces[v, e][name].size),
                    constant_values=math.nan) for e in scales]
            for v in _VARIANTS
        ]  # fmt: skip
        return dims, np.array(rows)

    return xr.Dataset(
        {name: stacked(name) for name in ("time", "train", "test")},
        coords={"variant": list(_VARIANTS), "exponent": list(scales)},
    )


EXPERIMENTS = (
    Experiment(
        "angles",
        "figures 1, 7, 8 and the tables: angles and nuclear norm against the scale",
        _angles,
        figures.angles_figure,
        version=2,
    ),
    Experiment(
        "losses",
        "figures 2 and 9: training and test loss",
        _losses,
        figures.losses_figure,
        version=2,
    ),
)

r"""Correlated against orthogonal inputs: how does alignment go as the correlation vanishes?

Min, Mallada and Vidal (2024, Theorem 1) prove that with $\mu > 0$, where $\mu$ is the smallest
cosine of two of the $y_i x_i$, from a small start every neuron turns into the cone of its class
or dies, in a time of order $\ln n/\sqrt\mu$ (and constants that depend on $\mu$). What comes
between that and orthogonal inputs they leave open: there a neuron never gains a sample.

Derived here. With orthogonal inputs $\partial_t\langle w, x_i\rangle$ vanishes where $w$ is not
active on $x_i$: of the living neurons at most those are ever in their cone that start active on
all of their class. With two inputs of one class, norm 1 and a small cosine $\mu$, a neuron that
is active on $x_1$ alone grows like $e^t$ and gains $x_2$ when $\mu\langle w, x_1\rangle$ exceeds
$|\langle w_\perp, x_2\rangle|$, at $t = \ln(1/\mu) + O(1)$. It has time until the loss falls:
neurons active on both grow like $e^{\sqrt2 t}$ and come to size one from the scale
$\varepsilon$ at $t = \ln(1/\varepsilon)/\sqrt2$. So all neurons align if $\mu$ is above
$\mu_* \sim \varepsilon^{1/\sqrt2}$, and for $\mu \to 0$ before $\varepsilon \to 0$ they do not.
(If no neuron starts active on both, others come to size one and align at other cosines.)
"""

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ...experiment.experiment import Experiment, Findings, Row, Workspace
from ...model.network import TwoLayerReLU
from ...model.problem import Problem
from ...papers.early_alignment.theory.parameters import constants
from ...report.page.data import scale_text
from ...study.declare.plan import Plan
from ...study.declare.spec import Study
from ...study.run.batch import draw
from ...study.statistics.curves import survival
from ...study.statistics.exponents import Exponent, fit_exponent
from ...study.statistics.outcomes import SUCCESS
from ...study.statistics.summary import over_seeds
from .. import summary
from .figure import correlation_figure

POWER = 1 / math.sqrt(2)  # of the scale, for two inputs of one class
SMALL = 0.03  # cosines up to which the time is compared with its law for small ones
_BOUND_SEEDS = 20  # of which the median of theory's time is taken


def studies(quick: bool, root: int) -> dict[str, Study]:
    """Return the studies: two inputs of one class, four of two, each with orthogonal ones."""
    exponents = range(-10, 0) if quick else np.arange(-20, 0) / 2
    small = [float(f"{10.0**k:.3g}") for k in exponents]
    least = [-0.9, -0.5, -0.2, 0.0, 0.3, 0.9] if quick else [
        -0.9, -0.7, -0.5, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95]  # fmt: skip
    pair = {"samples": 2, "features": 3, "positives": 2}
    sets = {"samples": 4, "features": 5, "positives": 2}
    separable, straight = "orthogonally_separable", "orthogonal"
    return {
        "pairs": _study(quick, root, {"family": separable, **pair, "mu": [0.0, *small, 0.6, 0.9]}),
        "orthogonal pairs": _study(quick, root, {"family": straight, **pair}),
        "classes": _study(quick, root, {"family": separable, **sets, "mu": least}),
        "orthogonal classes": _study(quick, root, {"family": straight, **sets}),
    }


def _study(quick: bool, root: int, data: dict) -> Study:
    samples = data["samples"]
    aligned = {"observable": "fraction_in_cone", "level": 1 - 1e-9, "direction": 1}
    return Study(
        name=f"{samples} inputs, {data['family'].replace('_', ' ')}",
        data=data,
        seeds=12 if quick else 50,
        widths=24,
        scales=[1e-3, 1e-8] if quick else [1e-3, 1e-6, 1e-12],
        t1=1e4,
        rtol=1e-8,
        root=root,
        milestones=[
            {"observable": "loss", "level": 0.5 * samples, "direction": -1, "name": "drop"},
            {"observable": "loss", "level": 0.02 * samples, "direction": -1, "name": "learnt"},
            {**aligned, "name": "aligned"},
        ],
        until="learnt",
        record={"end": ["fraction_in_cone", "effective_rank", "stable_rank"]},
    )


def run(workspace: Workspace) -> Findings:
    """Run the studies and draw theory's bounds from the very same data and networks."""
    asked = studies(workspace.quick, workspace.seed)
    trees = {name: workspace.study(name, study) for name, study in asked.items()}
    theory = {name: bounds(study) for name, study in asked.items()}
    return findings(trees, {**theory, "shared": shared(asked["pairs"])})


def bounds(study: Study) -> xr.DataArray:
    r"""Return what theory allows, from data and networks of a study.

    For orthogonal inputs over seeds: which fraction of the neurons can be in their cones once
    those have died that can. For others over $\mu > 0$: the median time $t_1$ of Theorem 1.
    """
    drawn = _drawn(study)
    if "mu" not in study.data:
        could = [_could(*drawn(jnp.uint32(seed), {})) for seed in study.seeds]
        return xr.DataArray(could, {"seed": list(study.seeds)}, "seed")
    mus = [mu for mu in study.lists()["mu"] if mu > 0]
    times = [
        [constants(*drawn(jnp.uint32(s), {"mu": mu})).t_1 for s in study.seeds[:_BOUND_SEEDS]]
        for mu in mus
    ]
    return xr.DataArray(np.median(times, axis=1), {"mu": mus}, "mu")


def shared(study: Study) -> xr.DataArray:
    """Return over seeds whether a neuron of their sign starts active on all inputs of a class.

    For nearly orthogonal inputs: at the smallest cosine above zero.
    """
    drawn, mu = _drawn(study), min(mu for mu in study.lists()["mu"] if mu > 0)
    found = [_some(*drawn(jnp.uint32(seed), {"mu": mu})) for seed in study.seeds]
    return xr.DataArray(found, {"seed": list(study.seeds)}, "seed")


def _drawn(study: Study) -> Callable[..., tuple[Problem, TwoLayerReLU]]:
    group, log_scale = Plan.of(study).groups[0], min(study.log_scales)
    return jax.jit(lambda seed, data: draw(study, group, seed, log_scale, data, {}))


def _some(problem: Problem, network: TwoLayerReLU) -> bool:
    active = np.asarray(network.directions() @ problem.inputs.T) > 0
    return bool(np.any(np.all(active, axis=1) & (np.asarray(network.outer_weight) > 0)))


def _could(problem: Problem, network: TwoLayerReLU) -> float:
    """Return the share of the neurons active on some sample of their class that are on all."""
    active = np.asarray(network.directions() @ problem.inputs.T) > 0
    own = np.asarray(jnp.sign(network.outer_weight)[:, None] == jnp.sign(problem.targets)[None])
    some = np.any(active & own, axis=1)
    # Neurons of the other sign lose every sample and die.
    return float(np.sum(np.all(active | ~own, axis=1) & some) / max(np.sum(some), 1))


def findings(trees: Mapping[str, xr.DataTree], theory: Mapping[str, xr.DataArray]) -> Findings:
    """Return what the collected studies say.

    Args:
        trees: The studies by their names.
        theory: What `bounds` says of each.
    """
    seen = {name: _seen(tree) for name, tree in trees.items()}
    found = {name: _statistics(trees[name], one) for name, one in seen.items()}
    least = thresholds(seen["pairs"])
    at = summary.medians(trees["pairs"].isel(mu=0), least)
    power = _power(least.where(theory["shared"]), float(seen["pairs"]["mu"].max()))
    slope = _slope(seen["pairs"], found["pairs"]["end"])
    rows = [*_rows(found, seen, theory), *summary.rows(
        "smallest cosine of two inputs from which all neurons end in their cones", at,
        note="predicted to be of the order of the scale to the power 0.71")]  # fmt: skip
    rows += _law("power of the scale that this cosine goes with", power, POWER,
                 "of seeds with a neuron active on both inputs from the start")  # fmt: skip
    rows += _law(
        "growth of the time to align with ln(cosine)", slope, -1.0, "at the smallest scale"
    )
    could = float(_same_seeds(theory["orthogonal pairs"], seen["orthogonal pairs"]))
    text = _paragraph(found, could, power, slope)
    return Findings(tuple(rows), _figure_data(found, least), text)


def _seen(tree: xr.DataTree) -> xr.Dataset:
    """Return what was recorded of every run as one data set."""
    times = tree["milestones"].to_dataset()["milestone_time"]
    end = tree["end"].to_dataset()
    time = {name: times.sel(milestone=name, drop=True) for name in ("drop", "learnt", "aligned")}
    runs = tree["runs"].to_dataset()
    good = (runs["result"] == 0) & (time["learnt"] < np.inf)
    inside = end["fraction_in_cone"].where(good)
    return xr.Dataset(
        {
            "inside": inside,
            "all": (inside >= 1).where(good),
            "early": (time["aligned"] <= time["drop"]).where(good),
            "rank": end["effective_rank"].where(good),
            "stable": end["stable_rank"].where(good),
            "time": time["aligned"],
            "until": runs["end_time"],
            "switches": runs["switches"].where(good),
            "result": runs["result"],
        }
    ).drop_vars(["kind", "milestone", "scale"], errors="ignore")


def _statistics(tree: xr.DataTree, seen: xr.Dataset) -> dict[str, xr.Dataset]:
    def median(times, ends, codes):
        return survival(times, ends, codes=codes).quantile()

    return {
        "inside": summary.means(tree, seen["inside"]),
        "end": summary.shares(tree, seen["all"]),
        "early": summary.shares(tree, seen["early"]),
        "rank": summary.medians(tree, seen["rank"]),
        "stable": summary.medians(tree, seen["stable"]),
        "switches": summary.medians(tree, seen["switches"]),
        "time": over_seeds(median, seen["time"], seen["until"], codes=seen["result"]),
    }


def thresholds(seen: xr.Dataset) -> xr.DataArray:
    r"""Return for each run's seed and scale the $\mu$ from which all of the grid's align.

    `inf` if the largest does not; the smallest of the grid if all do.
    """
    holds = seen["all"].sel(mu=seen["mu"] > 0).sortby("mu", ascending=False)
    kept = holds.fillna(0).astype(int).cumprod("mu").astype(bool)
    least = xr.where(kept, kept["mu"], np.inf).min("mu")
    return least.where(holds.notnull().all("mu"))


def _power(least: xr.DataArray, largest: float) -> Exponent | None:
    """Fit the threshold as a power of the scale."""
    y = least.transpose("seed", "log_scale")
    codes = np.where(y.isnull(), "not a number", SUCCESS)
    usable = np.isfinite(y.to_numpy()).any(axis=0).sum() > 1
    if not usable:
        return None
    return fit_exponent(
        y["log_scale"].to_numpy(), y.to_numpy(), ("linear", "log"), ends=largest, codes=codes
    )


def _slope(seen: xr.Dataset, end: xr.Dataset) -> Exponent | None:
    """Fit the time to align against the cosine's logarithm, at the smallest scale.

    Where cosines are small and nearly all seeds align: elsewhere it is those that are quick.
    """
    scale = seen["log_scale"].min()
    share = end["estimate"].sel(log_scale=scale)
    mus = share["mu"].to_numpy()
    mus = mus[(mus > 0) & (mus <= SMALL) & (share.to_numpy() >= 0.95)]
    if mus.size < 2:
        return None
    here = seen.sel(log_scale=scale, mu=mus).transpose("seed", "mu")
    return fit_exponent(
        mus, here["time"].to_numpy(), ("log", "linear"), ends=here["until"].to_numpy(),
        codes=here["result"].to_numpy(),
    )  # fmt: skip


def _rows(found: dict, seen: dict, theory: Mapping[str, xr.DataArray]) -> list[Row]:
    """Return the shares of seeds at all scales, all else at the smallest alone."""
    rows: list[Row] = []
    for name, one in found.items():
        straight = name.startswith("orthogonal")
        bound = _same_seeds(theory[name], seen[name]) if straight else None
        small = {key: value.sel(log_scale=[value["log_scale"].min()]) for key, value in one.items()}
        rows += summary.rows(f"{name}: seeds with all neurons in cones at the end", one["end"])
        rows += summary.rows(f"{name}: the same by the time the loss is halved", small["early"])
        rows += summary.rows(
            f"{name}: fraction of living neurons in cones at the end, mean over seeds",
            small["inside"], bound,
            note="bound: those that start active on all of their class" if straight else "",
        )  # fmt: skip
        rows += summary.rows(f"{name}: median effective rank", small["rank"])
        rows += summary.rows(f"{name}: median stable rank", small["stable"], note=_rank_note)
        rows += summary.rows(f"{name}: median number of switches", small["switches"])
        if not straight:
            timed = small["time"].sel(mu=small["time"]["mu"] > 0)
            rows += summary.rows(
                f"{name}: median time to align", timed, theory[name],
                note="bound: median of Theorem 1's t_1, for scales far smaller",
            )  # fmt: skip
    return rows


def _same_seeds(could: xr.DataArray, seen: xr.Dataset) -> xr.DataArray:
    """Return the mean over the seeds that are used at the smallest scale."""
    used = seen["inside"].sel(log_scale=seen["log_scale"].min()).notnull()
    return could.where(used).mean()


def _rank_note(at: dict) -> str:
    return "Theorem 1: at most 2 as t grows and the scale vanishes" if at.get("mu", 0) > 0 else ""


def _law(quantity: str, found: Exponent | None, predicted: float, which: str) -> list[Row]:
    if found is None:
        return [Row(quantity, None, bound=predicted, note="too few points")]
    slope = found.slope
    return [
        Row(quantity, slope.estimate, bound=predicted, note=f"{which}; bound: the law derived here "
            "for vanishing scale and cosine", low=slope.low, high=slope.high,
            runs=slope.tally.used, left_out=slope.tally.failed)
    ]  # fmt: skip


def _figure_data(found: dict, least: xr.DataArray) -> xr.Dataset:
    def of(name: str, keys: tuple[str, ...]) -> xr.Dataset:
        return summary.for_figure(**{key: found[name][key].drop_vars("code") for key in keys})

    pairs = of("pairs", ("inside", "rank", "time"))
    classes = of("classes", ("inside", "rank")).rename(mu="least")
    straight = of("orthogonal pairs", ("inside", "rank"))
    rest = of("orthogonal classes", ("inside", "rank"))
    parts = {"": pairs, "straight_": straight, "classes_": classes, "classes_straight_": rest}
    renamed = [
        part.rename({str(name): f"{prefix}{name}" for name in part.data_vars})
        for prefix, part in parts.items()
    ]
    return xr.merge([*renamed, least.rename("threshold")]).drop_vars("scale", errors="ignore")


def _paragraph(found: dict, could: float, power: Exponent | None, slope: Exponent | None) -> str:
    """Say how the limit of vanishing correlation goes, for two inputs and for two classes."""
    pairs, straight = found["pairs"]["inside"], found["orthogonal pairs"]["inside"]
    scales = np.sort(pairs["log_scale"].to_numpy())
    zero, apart = (one.sel(log_scale=scales[0]) for one in (pairs.sel(mu=0.0), straight))
    agree = float(zero["low"]) <= float(apart["high"]) and float(apart["low"]) <= float(
        zero["high"]
    )
    first = (
        f"With two orthogonal inputs of one class {_spread(apart)} of the living neurons align at "
        f"scale {scale_text(scales[0])} (at most {could:.0%} can); with a "
        f"cosine of zero {_spread(zero)}, " + ("which agrees. " if agree else "which differs. ")
    )
    ranks = [
        float(found[f"orthogonal {name}"]["stable"]["estimate"].sel(log_scale=scales[0]))
        for name in ("pairs", "classes")
    ]
    little = "little" if ranks[0] <= 1.05 and ranks[1] <= 2.05 else "some"
    return (
        first
        + _transition(power, slope)
        + _classes(found)
        + f"Orthogonal inputs of one class end with a median stable rank of {ranks[0]:.2f}, of two "
        f"of {ranks[1]:.2f}: neurons that do not align carry {little} weight. "
        "Exponential loss, one width; runs end at 2% of the initial loss."
    )


def _spread(one: xr.Dataset) -> str:
    return f"{float(one['estimate']):.0%} [{float(one['low']):.0%}, {float(one['high']):.0%}]"


def _transition(power: Exponent | None, slope: Exponent | None) -> str:
    if power is None:
        return "The cosine from which all neurons align was reached at fewer than two scales. "
    p = power.slope
    holds = p.low <= POWER <= p.high
    text = (
        f"The cosine from which all neurons align goes as the scale to the power {p.estimate:.3f} "
        f"[{p.low:.3f}, {p.high:.3f}], "
        + ("compatible with" if holds else f"{abs(p.estimate - POWER):.3f} off")
        + f" the {POWER:.3f} derived for vanishing scales ({power.seeds} seeds, those with a "
        "neuron active on both inputs from the start)"
    )
    if p.low > 0:
        text += ": with the scale the transition moves to zero"
    if slope is not None:
        s = slope.slope
        text += (
            f"; the time to align grows by {-s.estimate:.3f} [{-s.high:.3f}, {-s.low:.3f}] a unit "
            "of ln(1/cosine)"
        )
    return text + ". "


def _classes(found: dict) -> str:
    """Say how far below zero the conclusion holds for two classes."""
    share = found["classes"]["end"]
    scale = share["log_scale"].min()
    small, mus = share.sel(log_scale=scale).sortby("mu"), np.sort(share["mu"].to_numpy())
    holds = small["estimate"].to_numpy() == 1.0
    from_top = np.cumprod(holds[::-1])[::-1].astype(bool)
    last = small.isel(mu=0)
    apart = found["orthogonal classes"]["inside"].sel(log_scale=scale)
    head = (
        "With four inputs of two classes every seed aligned from a smallest cosine of "
        f"{mus[from_top][0]:g} up"
        if from_top.any()
        else "With four inputs of two classes not every seed aligned even at the largest cosine"
    )
    return (
        f"{head} ({_spread(last)} did at {mus[0]:g}), of orthogonal ones, no "
        f"limit of this family, {_spread(apart)} of the neurons. "
    )


QUESTION = Experiment(
    "correlation",
    "correlated against orthogonal inputs: alignment as the smallest cosine vanishes",
    run,
    correlation_figure,
)

r"""How loose are the bounds on the time and the scale of early alignment?

Min, Mallada, Vidal (2024) prove (Theorem 1(1)) that on orthogonally separable data all neurons
are in their cones or dead by $t_1 = 16\ln n/(\min\{\zeta, \xi\}\sqrt\mu X_{\min})$, from a scale
of at most their eq. (28), whose logarithm falls like $-n\ln n$ times $t_1/\ln n$. What the rates
really are is left open. Here both are measured, and compared as laws in $n$ and $\mu$ with $t_1$,
with the path of patterns in its proof, and with a sharper path (after the same, re-derived in
`papers/early_alignment/theory/path.py`). The scale is compared through the event that the theorem
is about: all neurons are in place before an output exceeds a quarter.
"""

from collections.abc import Callable, Iterator

import numpy as np
import xarray as xr

from ...experiment.experiment import Experiment, Findings, Row, Workspace
from ...papers.early_alignment.theory.parameters import constants
from ...papers.early_alignment.theory.path import worst_path
from ...study.declare.plan import Plan
from ...study.declare.spec import Study
from ...study.run.batch import initial_states
from ...study.statistics.curves import survival
from ...study.statistics.exponents import fit_exponent
from ...study.statistics.outcomes import Interval
from ...study.statistics.summary import over_seeds
from ...study.threshold.by_seed import SeedThresholds
from ...study.threshold.search import Finding
from .. import summary
from ..by_seed import scale_thresholds
from .figure import bounds_figure
from .text import paragraph

VANISHING = -1e8  # log scale: below eq. (28)'s for all data here
SCALES = (-12.0, 0.0)  # where the largest log scale is looked for
TOLERANCE = 0.35  # of it
OUTPUT = 0.25
OUTPUTS = ["largest_positive_output", "largest_negative_output"]
BOUNDS = {"t_1": "t_1", "path": "path of the proof", "worst": "sharper path"}

Scales = dict[str, xr.DataArray]


def study(quick: bool, root: int) -> Study:
    """Return the study of the time: samples and mu, at a scale that vanishes."""
    return _study(
        samples=[4, 16] if quick else [4, 8, 16, 32],
        mu=[0.05, 0.2, 0.8] if quick else [0.05, 0.1, 0.2, 0.4, 0.8],
        seeds=range(16 if quick else 100),
        log_scales=[VANISHING],
        root=root,
    )


def _study(samples, mu, seeds, log_scales, root: int) -> Study:
    output = {"level": OUTPUT, "direction": 1}
    return Study(
        name="time and scale of early alignment",
        data={
            "family": "orthogonally_separable", "samples": samples, "features": 4, "mu": mu,
        },
        seeds=tuple(seeds),
        widths=10,
        log_scales=log_scales,
        t1=20.0,
        rtol=1e-9,
        root=root,
        milestones=[
            # A level just below one: at one itself a search would end wherever all are in place.
            {"observable": "fraction_in_cone", "level": 1 - 1e-6, "direction": 1, "name": "place"},
            *({"observable": name, **output} for name in OUTPUTS),
        ],
        until="place",
        # Outputs that exceed the level from the start never cross it.
        record={"times": [0.0], "at_times": OUTPUTS},
    )  # fmt: skip


def limits(plan: Plan) -> dict[str, np.ndarray]:
    """Compute the bounds of every run of a study, from its own data and network.

    Returns:
        Over the axes of the grid and seeds: `t_1`, `path`, `worst`, times; `scale` and
        `lemma_3`, logarithms of the largest scale of eq. (28) and of Lemma 3.
    """
    found = np.empty((plan.size, 5))
    for run, problem, network in initial_states(plan):
        held = constants(problem, network)
        found[run] = (
            held.t_1, max(held.path(0), held.path(1)), worst_path(problem, network, held.mu),
            held.log_scale_bound, held.log_lemma_3_scale,
        )  # fmt: skip
    shape = [len(values) for values in plan.dims.values()]
    names = (*BOUNDS, "scale", "lemma_3")
    return {name: found[:, k].reshape(shape) for k, name in enumerate(names)}


def largest_scales(workspace: Workspace, quick: bool) -> Scales:
    """Find for some n and mu each seed's largest log scale at which neurons are in place first.

    Returns:
        `low` and `high` over `samples`, `mu` and `seed`: the threshold is between them.
    """
    main = study(quick, workspace.seed)
    samples = [4, 16] if quick else [4, 8, 16]
    mus = [0.05, 0.8] if quick else [0.05, 0.2, 0.8]
    seeds = np.asarray(main.seeds[: 8 if quick else 25])
    found = np.empty((2, len(samples), len(mus), len(seeds)))
    for i, n in enumerate(samples):
        for k, mu in enumerate(mus):
            workspace.say(f"largest scale for n = {n}, mu = {mu:g}")
            at = scale_thresholds(
                lambda seeds, scales, n=n, mu=mu: _study(n, mu, seeds, scales, workspace.seed),
                lambda one, n=n, mu=mu: workspace.study(f"largest scale n {n} mu {mu:g}", one),
                in_place_first,
                seeds.tolist(),
                *SCALES,
                tolerance=TOLERANCE,
                batch=6,
            )
            found[:, i, k] = at.low, at.high
    coords = {"samples": samples, "mu": mus, "seed": seeds}
    low, high = (xr.DataArray(part, coords, list(coords)) for part in found)
    return {"low": low, "high": high}


def in_place_first(tree: xr.DataTree) -> xr.DataArray:
    """Return whether all neurons were in place before an output exceeded 1/4; NaN: not known."""
    runs = tree["runs"].to_dataset()
    times = tree["milestones"].to_dataset()["milestone_time"]
    place = times.sel(milestone="place", drop=True)
    output = times.sel(milestone=OUTPUTS).min("milestone")
    start = tree["times"].to_dataset().isel(time=0, drop=True)
    large = (start[OUTPUTS[0]] >= OUTPUT) | (start[OUTPUTS[1]] >= OUTPUT)
    known = (runs["result"] == 0) & (large | np.isfinite(place) | np.isfinite(output))
    return ((place <= output) & ~large).astype(float).where(known)


def findings(tree: xr.DataTree, bounds: dict[str, np.ndarray], scales: Scales) -> Findings:
    """Return what the study, its runs' bounds and the largest scales say."""
    runs = tree["runs"].to_dataset()
    times = tree["milestones"].to_dataset()["milestone_time"].sel(milestone="place", drop=True)
    # Codes of failures go with NaN: the statistics here leave them out by either.
    times = times.where(runs["result"] == 0)
    own = {name: times.copy(data=values) for name, values in bounds.items()}
    time = over_seeds(_median, times, runs["end_time"], codes=runs["result"])
    loose = {name: summary.medians(tree, own[name] / times) for name in BOUNDS}
    held = {name: summary.shares(tree, (times <= own[name]).where(times > 0)) for name in BOUNDS}
    small = summary.shares(tree, own["scale"] >= VANISHING)
    laws = list(_laws(times, runs, own))
    found = _largest(scales)
    eq_28 = own["scale"].sel(samples=scales["low"]["samples"], mu=scales["low"]["mu"])
    eq_28 = eq_28.sel(seed=scales["low"]["seed"])
    scale_laws = list(_scale_laws(scales, eq_28))
    ratio = {name: one["estimate"] for name, one in loose.items()}
    rows = (
        *summary.rows("time until all neurons are in place", time, own["t_1"].median("seed")),
        *(
            row
            for name, said in BOUNDS.items()
            for row in summary.rows(f"{said} over that time", loose[name])
        ),
        *_law_rows(laws),
        *_within(held, small),
        *summary.rows(
            "largest log scale that puts neurons in place first", found,
            eq_28.median("seed"), note=_lemma_3(own["lemma_3"]),
        ),
        *_scale_rows(scale_laws),
    )  # fmt: skip
    data = summary.for_figure(time=time).assign(
        {name: own[name].median("seed") for name in BOUNDS}
        | {f"{name}_over": ratio[name] for name in BOUNDS}
    )
    parts = {"scale": found["estimate"], "scale_low": found["low"], "scale_high": found["high"]}
    parts["scale_bound"] = eq_28.median("seed")
    parts["scale_lemma_3"] = (
        own["lemma_3"].sel(samples=eq_28["samples"], mu=eq_28["mu"]).median("seed")
    )
    renamed = {"samples": "scale_samples", "mu": "scale_mu"}
    data = data.assign({name: part.rename(renamed) for name, part in parts.items()})
    return Findings(rows, data, paragraph(time, loose, laws, found, scale_laws, own, held))


def _median(times, ends, codes) -> Interval:
    return survival(times, ends, codes=codes).quantile()


def _laws(times: xr.DataArray, runs: xr.Dataset, own: Scales) -> Iterator[tuple]:
    """Yield for each line of the grid its parameter, where it is, and all slopes along it."""
    data = xr.Dataset({**own, "time": times, "end": runs["end_time"], "code": runs["result"]})
    for along, across in (("samples", "mu"), ("mu", "samples")):
        for value in times[across].to_numpy():
            one = data.sel({across: value}).transpose("seed", along)
            line = {name: array.to_numpy() for name, array in one.data_vars.items()}
            x, codes = one[along].to_numpy(), line["code"]
            fitted = {"time": fit_exponent(x, line["time"], ends=line["end"], codes=codes)}
            for name in ("t_1", "worst"):
                fitted[name] = fit_exponent(x, line[name], codes=codes)
            yield along, across, float(value), fitted


def _law_rows(laws: list[tuple]) -> Iterator[Row]:
    for along, across, value, fitted in laws:
        letter = {"samples": "n", "mu": "mu"}[along]
        slope = fitted["time"].slope
        yield Row(
            f"slope of ln time in ln {letter}: {across} {value:g}", slope.estimate,
            bound=fitted["t_1"].slope.estimate,
            note=f"bound: slope of t_1; of the sharper path {fitted['worst'].slope.estimate:.3g}",
            low=slope.low, high=slope.high,
            runs=slope.tally.used, left_out=slope.tally.failed,
        )  # fmt: skip


def _within(held: dict[str, xr.Dataset], small: xr.Dataset) -> Iterator[Row]:
    for name, said in BOUNDS.items():
        one = held[name]
        worst = one.where(one["estimate"] == one["estimate"].min(), drop=False)
        yield Row(
            f"least fraction of seeds in place by the bound: {said}",
            float(one["estimate"].min()), bound=1.0, low=float(worst["low"].min()),
            high=float(worst["high"].max()), runs=int(one["used"].sum()),
            left_out=int(one["failed"].sum()),
        )  # fmt: skip
    yield Row(
        "least fraction of seeds whose scale is at most eq. (28)'s", float(small["estimate"].min()),
        low=float(small["low"].min()), high=float(small["high"].max()),
        runs=int(small["used"].sum()), left_out=int(small["failed"].sum()),
        note="the theorem applies to them",
    )  # fmt: skip


def _largest(scales: Scales) -> xr.Dataset:
    """Return the median over seeds of the largest log scale, with its interval."""

    def quantile(low, high, codes) -> Interval:
        del codes
        kinds = tuple(None if np.isnan(end) else Finding.ONE for end in low)
        seeds = np.arange(len(low))
        return SeedThresholds(seeds, low, high, kinds, "linear", TOLERANCE).quantile()

    return over_seeds(quantile, scales["low"], scales["high"])


def _lemma_3(bound: xr.DataArray) -> Callable[[dict], str]:
    middle = bound.median("seed")
    return lambda at: f"bound: eq. (28); Lemma 3 asks for {float(middle.sel(at)):.3g}"


def _scale_laws(scales: Scales, eq_28: xr.DataArray) -> Iterator[tuple]:
    """Yield for each line of the grid the slopes of ln(-ln epsilon): measured and of eq. (28)."""
    middle = (scales["low"] + scales["high"]) / 2
    data = xr.Dataset({"found": -middle.where(np.isfinite(middle)), "bound": -eq_28})
    for along, across in (("samples", "mu"), ("mu", "samples")):
        for value in data[across].to_numpy() if data.sizes[along] > 1 else ():
            one = data.sel({across: value}).transpose("seed", along)
            x = one[along].to_numpy()
            fitted = {name: fit_exponent(x, one[name].to_numpy()) for name in ("found", "bound")}
            yield along, across, float(value), fitted


def _scale_rows(laws: list[tuple]) -> Iterator[Row]:
    for along, across, value, fitted in laws:
        letter = {"samples": "n", "mu": "mu"}[along]
        slope = fitted["found"].slope
        yield Row(
            f"slope of ln(-ln epsilon) in ln {letter}: {across} {value:g}", slope.estimate,
            bound=fitted["bound"].slope.estimate, note="bound: slope of eq. (28)",
            low=slope.low, high=slope.high,
            runs=slope.tally.used, left_out=slope.tally.failed,
        )  # fmt: skip


def _run(workspace: Workspace) -> Findings:
    main = study(workspace.quick, workspace.seed)
    tree = workspace.study("alignment time", main)
    bounds = workspace.piece("bounds of all runs", lambda: limits(Plan.of(main)))
    return findings(tree, bounds, largest_scales(workspace, workspace.quick))


QUESTION = Experiment(
    "bounds",
    "how loose the bounds of early alignment are, against n and mu",
    _run,
    bounds_figure,
)

r"""Four phases of two clusters: the experiments, with the output layer fixed and with both trained.

Source:
    After Wang, Ma, "Understanding Multi-phase Optimization Dynamics and Rich Nonlinear
    Behaviors of ReLU Networks" (2023), re-derived: what stands in the column of published
    numbers is the planar model's or a closed form's, not a figure of theirs.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from ....data.clusters import two_clusters
from ....experiment.experiment import Experiment, Findings, Row, Workspace
from ....model.initialisers import single_neuron_init
from ....observe import observables
from ....observe.pattern import sides_at
from .. import theory
from ..figures.phases import phases_figure
from ..theory import slide_weights
from . import descent as against_descent, sweeps
from .setting import (
    ANGLE,
    COARSE_RTOL,
    HEAVY,
    LIGHT,
    OPTIONS,
    RTOL,
    SOURCE,
    WIDTH,
    boundaries,
    fixed_output,
    phase_data,
    record,
    verdict_rows,
    with_error,
)

_BALANCED_SCALE = 1e-3
_SLID = (20.0, 100.0, 275.0)  # when weights of slides were known from descent
_SLID_BOTH = (3.0, 10.0, 12.0, 50.0, 100.0)


def _fixed_output(workspace: Workspace) -> Findings:
    """Run the four phases with the output layer fixed."""
    t1 = 500.0 if workspace.quick else 2000.0
    setting = fixed_output(workspace.seed)
    problem, network = setting.problem, setting.network
    fine, coarse = (
        workspace.solve(
            f"output layer fixed, rtol {rtol:g}", problem, network, t1, rtol=rtol, **OPTIONS
        )
        for rtol in (RTOL, COARSE_RTOL)
    )
    phases = boundaries(problem, network, fine, coarse)
    ends = {name: time for name, (time, _) in phases.items() if math.isfinite(time)}
    times = np.unique([*np.geomspace(1e-6, 20, 300), *np.linspace(20, 500, 400), *ends.values()])
    names = ("condensed", "plateau", "escape", "deactivation", "reactivation")
    snapshots = {"start": 0.0, **dict(zip(names, ends.values(), strict=False)), "t = 500": 500.0}
    seen, places = (
        record(problem, fine, np.asarray(ts)) for ts in (times, list(snapshots.values()))
    )
    positive = np.asarray(network.outer_weight > 0)
    data = phase_data(fine, seen, times, snapshots, places, _as_ends(phases), positive)
    run = setting.planar(t1)
    model = jax.vmap(run)(jnp.asarray(times))
    data = data.assign(planar_plus=("time", model.plus), planar_minus=("time", model.minus))
    data.attrs = {
        "title": "Output layer fixed: four copies of x₊ and one x₋ at angle 0.3, "
        f"{WIDTH} neurons of which 19 positive and 4 negative live, κ₁ = 1e-5, κ₂ = 1",
        "angle": ANGLE, "split": 20.0, "scales": "log linear", "plateau": float(setting.points.rho),
        "limit": float(setting.points.limit_ratio), "limit_name": "r",
    }  # fmt: skip
    rows = _fixed_rows(setting, fine, phases, t1)
    workspace.say("checking claims")
    rows += verdict_rows(theory.examine(problem, network, fine))
    return Findings(tuple(rows), data)


def _fixed_rows(setting, fine, phases, t1: float) -> list[Row]:
    """Return measured times, slopes, weights and limits beside the planar model's."""
    q, course = setting.points, setting.course
    # The negative output turns where gamma_+ (Ac - B) = gamma_- B sin^2: a known A/B.
    turn = float((1 + q.alpha * q.sine2) / q.cosine)
    model = setting.planar(t1, nearness=turn / float(q.rho) - 1)
    expected = {
        "saddle to plateau": model.times.plateau,
        "plateau": model.times.escape,
        "escape": model.times.positives_slide,
        "deactivated": model.times.negatives_leave,
    }
    small = theory.escape_time_small_angle(q), theory.deactivation_time_small_angle(q)
    notes = {
        "saddle to plateau": f"when f- turns; {SOURCE}: planar model",
        "plateau": f"f- = 0; planar model; small angles {float(small[0]):.6g}",
        "escape": f"positives slide on x-; planar model; small angles {float(small[1]):.6g}",
        "deactivated": f"negatives leave x+; planar model; closed {float(course.reactivation):.6g}",
    }
    scale = float(np.exp(0.5 * (setting.network.log_scale - setting.network.outer_log_scale)[0]))
    rows = [
        Row(
            "end of condensation", with_error(phases["condensation"]), None,
            f"<= {10 * scale:.4g}", "positives within 0.01 rad; bound 10 sqrt(kappa_1/kappa_2)",
        )
    ]  # fmt: skip
    rows += [
        Row(f"end of {name}", with_error(phases[name]), float(time), None, notes[name])
        for name, time in expected.items()
    ]
    grid = [*_SLID, 24.2, 270.0, 280.0, 500.0, t1]
    seen = record(setting.problem, fine, grid)
    at = dict(zip(grid, range(len(grid)), strict=True))
    for name, sign, share in (("f+", 1, "plus"), ("f-", -1, "minus")):
        grown = np.exp(sign * seen[share])
        slope = (grown[at[280.0]] - grown[at[270.0]]) / 10
        gamma, part = (q.gamma_plus, q.share_plus) if sign > 0 else (q.gamma_minus, q.share_minus)
        name = f"slope of exp({'-' if sign < 0 else ''}{name}) while both slide"
        rows.append(Row(name, slope, float(gamma * part * q.sine2), None, "closed form"))
    on_plus, on_minus = _sliding_shares(setting.network, fine, seen, grid)
    for t in _SLID:
        weight = float(slide_weights(q.cosine, model(t).ratio)[0])
        known = "; duty cycle of small-step descent .9465" if t == 100 else ""
        name = f"weight of x+ for negatives, t = {t:g}"
        rows.append(Row(name, on_plus[at[t]], weight, "< 1", f"planar model: c/R{known}"))
    weight = float(slide_weights(q.cosine, model(275.0).ratio)[1])
    name = "weight of x- for positives, t = 275"
    rows.append(Row(name, on_minus[at[275.0]], weight, "< 1", "planar model: Rc"))
    loss, ratio = seen["heavy"] + seen["light"], seen["heavy"] / seen["light"]
    rows.append(Row("loss, t = 24.2", loss[at[24.2]], float(model(24.2).loss), None, "planar"))
    share = HEAVY / (HEAVY + LIGHT)
    rows.append(Row("accuracy on the plateau", seen["accuracy"][at[100.0]], share, None, "p/(1+p)"))
    for t in dict.fromkeys((500.0, t1)):
        note = f"planar model; limit r = {float(q.limit_ratio):.6g}"
        rows.append(Row(f"A/B, t = {t:g}", ratio[at[t]], float(model(t).ratio), None, note))
    return rows


def _sliding_shares(network, run, seen, times) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean shares of x+ for sliding negatives and of x- for sliding positives.

    `nan` where none slides.
    """
    sides = np.stack([np.asarray(sides_at(run, t)) for t in times])
    positive = np.asarray(network.outer_weight > 0)
    found = []
    for sign, sample, name in ((False, 0, "on_plus"), (True, -1, "on_minus")):
        sliding = (sides[:, :, sample] == 2) & (positive == sign)
        count = np.sum(sliding, axis=1)
        total = np.sum(np.where(sliding, seen[name], 0.0), axis=1)
        found.append(np.where(count > 0, total / np.maximum(count, 1), math.nan))
    return found[0], found[1]


def _both_layers(workspace: Workspace) -> Findings:
    """Run the same data with both layers trained from a balanced start."""
    t1 = 1e4 if workspace.quick else 1e7
    problem, _ = two_clusters(HEAVY, LIGHT, ANGLE, train="both")
    network = single_neuron_init(
        jax.random.key(workspace.seed), WIDTH, 2, math.log(_BALANCED_SCALE)
    )
    fine, coarse = (
        workspace.solve(f"both layers, rtol {rtol:g}", problem, network, t1, rtol=rtol, **OPTIONS)
        for rtol in (RTOL, COARSE_RTOL)
    )
    phases = boundaries(problem, network, fine, coarse)
    positive = np.asarray(network.outer_weight > 0)
    events = _events(fine, coarse, positive)
    phases = {name: phases[name] for name in ("condensation", "saddle to plateau", "plateau")}
    both = {**_as_ends(phases), **events}
    ends = sorted(time for time, _ in both.values() if math.isfinite(time))
    late = np.geomspace(100, t1, 120)
    times = np.unique([*np.geomspace(1e-3, 1, 40), *np.linspace(0, 100, 460), *late, *ends])
    snapshots = {
        "start": 0.0,
        "condensed": phases["condensation"][0],
        "negatives leave x₊": events["negatives leave x+"][0],
        "positives slide on x₋": events["positives slide on x-"][0],
        "second saddle": 50.0,
        f"t = {t1:g}": t1,
    }
    snapshots = {name: time for name, time in snapshots.items() if time <= t1}
    seen, places = (
        record(problem, fine, np.asarray(ts)) for ts in (times, list(snapshots.values()))
    )
    data = phase_data(fine, seen, times, snapshots, places, both, positive)
    data.attrs = {
        "title": "Both layers trained: the same data, 60 neurons, balanced, λ = 1e-3",
        "angle": ANGLE, "split": 100.0, "scales": "linear log",
        "plateau": 1.0, "limit": 1.0, "limit_name": "1",
    }  # fmt: skip
    rows = _both_rows(problem, network, fine, phases, events, t1)
    if not workspace.quick:
        rows += verdict_rows(theory.examine(problem, network, fine))
    return Findings(tuple(rows), data)


def _as_ends(phases: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Return the ends of phases under names that say so."""
    return {f"end of {name}": end for name, end in phases.items()}


def _events(fine, coarse, positive) -> dict[str, tuple[float, float]]:
    """Return when slides on the other class end and begin, with error bars."""
    found = []
    for run in (fine, coarse):
        table = run.switches.to_pandas()
        own = positive[table["neuron"].to_numpy()]
        plus = table["sample"].to_numpy() < HEAVY
        negatives, positives = table[~own & plus], table[own & ~plus]
        left = negatives[negatives["kind"] == "slide_exit_active"]["time"]
        entered = positives[positives["kind"] == "slide_enter"]["time"]
        again = negatives[negatives["kind"] == "slide_enter"]["time"]
        again = again[again > left.max()] if len(left) else again[:0]
        found.append([times.min() if len(times) else math.inf for times in (left, entered, again)])
    names = ("negatives leave x+", "positives slide on x-", "negatives slide again")
    return {
        name: (float(a), abs(a - b) + RTOL * a if math.isfinite(a) else math.nan)
        for name, a, b in zip(names, *found, strict=True)
    }


def _both_rows(problem, network, fine, phases, events, t1: float) -> list[Row]:
    """Return when what happens, weights of slides, and where A/B goes."""
    known = {
        "condensation": "positives within 0.01 rad",
        "saddle to plateau": "f- turns",
        "plateau": "f- = 0",
        "negatives leave x+": "long before the plateau is left; near 15 in another draw",
        "positives slide on x-": "the first of them",
        "negatives slide again": "wanted by the limit, not seen by the end of the run",
    }
    both = {**phases, **events}
    rows = [
        Row(f"{'end of ' * (name in phases)}{name}", with_error(both[name]), None, None, note)
        for name, note in known.items()
    ]
    grid = [*_SLID_BOTH, 50.0, t1]
    seen = record(problem, fine, grid)
    on_plus, on_minus = _sliding_shares(network, fine, seen, grid)
    cosine, ratio = math.cos(ANGLE), seen["heavy"] / seen["light"]
    for k, t in enumerate(_SLID_BOTH):
        first = t < 15
        weight = float(slide_weights(cosine, ratio[k])[0 if first else 1])
        name = f"weight of {'x+ for negatives' if first else 'x- for positives'}, t = {t:g}"
        # While outputs vanish A/B = p, whatever was drawn.
        known = cosine * LIGHT / HEAVY if t == 3 else None
        rule = f"== {weight:.5g}"
        note = f"{SOURCE}: c/R" + "; c/p at first" * (t == 3) if first else f"{SOURCE}: Rc"
        rows.append(Row(name, (on_plus if first else on_minus)[k], known, rule, note))
    rows.append(Row("f-, t = 50", seen["minus"][-2], 0, None, "a second saddle: f- stays at zero"))
    # Growth is as 1/(t log t), so is the turning of the negatives to the hyperplane: cos - A/B
    # falls as a small power of log t, until they slide again and A/B goes to 1 as 1/log t.
    note = "at the KKT point with both signs alive both slide, A/B = 1: far off, as negatives "
    note += "turn to their hyperplane by a small power of log t"
    rows.append(Row(f"A/B, t = {t1:g}", ratio[-1], None, None, note))
    alive = observables.living(problem, fine.network)
    rows.append(Row("living neurons at the end", float(np.sum(np.asarray(alive)))))
    return rows


EXPERIMENTS: tuple[Experiment, ...] = (
    Experiment("fixed-output", "four phases, the output layer fixed", _fixed_output, phases_figure),
    Experiment("both-layers", "the same data, both layers trained", _both_layers, phases_figure),
    *against_descent.EXPERIMENTS,
    *sweeps.EXPERIMENTS,
)

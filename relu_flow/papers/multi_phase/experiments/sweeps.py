r"""How the end depends on the ratio of living neurons, and the times on angle and weight."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ....experiment.experiment import Experiment, Findings, Row, Workspace
from ....reduced.planar import planar
from ..figures.sweeps import alpha_figure, angles_figure
from ..theory import Course, TwoPoints, deactivation_time_small_angle, escape_time_small_angle
from .setting import (
    HEAVY,
    NEGATIVES,
    POSITIVES,
    RTOL,
    WIDTH,
    boundaries,
    fixed_output,
    record,
    solve_fixed,
)

_WIDE = 1.0  # the angle of the sweep over alpha: at small ones t_3 grows beyond all bounds
_LIVING = ((30, 12), (20, 20), (12, 30))
_MORE_LIVING = ((35, 7), (27, 14), (22, 17), (17, 22), (15, 27), (10, 35))
_END = 1e4
_RISEN = 1e-3  # an f_- that ever was above: below, it falls from the start
_EVENTS = ("escape", "positives_slide", "negatives_leave")
_FORMS = ("escape", "deactivation", "reactivation")


def _alpha(workspace: Workspace) -> Findings:
    """Run each branch of the end."""
    living = _LIVING if workspace.quick else _LIVING + _MORE_LIVING
    times = np.geomspace(0.02, _END, 160)
    rows, flows, models, events = [], [], [], []
    for positives, negatives in living:
        name = f"{positives} positive, {negatives} negative"
        setting = fixed_output(
            workspace.seed, angle=_WIDE, positives=positives, negatives=negatives
        )
        run = solve_fixed(workspace, name, setting, _END)
        seen = record(setting.problem, run, times)
        model = setting.planar(_END)
        rises = np.max(seen["minus"]) > _RISEN
        events.append([t if rises or k else math.inf for k, t in enumerate(_times(setting, run))])
        flows.append(seen["heavy"] / seen["light"])
        models.append(
            np.asarray(jax.vmap(lambda t, model=model: model(t).ratio)(jnp.asarray(times)))
        )
        rows += _alpha_rows(name, setting, model, events[-1], flows[-1][-1])
    grid = np.unique([*np.geomspace(0.1, 5, 60), math.cos(_WIDE), 1 / math.cos(_WIDE)])
    gammas = [(0.7 / (1 + a), 0.7 * a / (1 + a)) for a in grid]
    courses = [Course(TwoPoints(HEAVY, _WIDE, plus, minus)) for plus, minus in gammas]
    forms = [[float(getattr(course, name)) for name in _FORMS] for course in courses]
    alpha = [negatives / positives for positives, negatives in living]
    data = xr.Dataset(
        {
            "ratio": (("run", "time"), np.stack(flows)),
            "planar_ratio": (("run", "time"), np.stack(models)),
            "alpha": ("run", alpha),
            "event_time": (("run", "event"), np.asarray(events)),
            "limit": ("grid", [float(course.points.limit_ratio) for course in courses]),
            "form": (("grid", "event"), np.asarray(forms)),
            "gamma": ("run", [(m + n) / WIDTH for m, n in living]),
        },
        coords={"time": times, "event": list(_FORMS), "grid": grid},
        attrs={"angle": _WIDE, "gamma": 0.7},
    )
    return Findings(tuple(rows), data)


def _times(setting, run) -> list[float]:
    """Return escape, t_3 and t_4 of a run; `inf` where not reached."""
    found = boundaries(setting.problem, setting.network, run, run)
    return [found[name][0] for name in ("plateau", "escape", "deactivated")]


def _alpha_rows(name: str, setting, model, found, ratio: float) -> list[Row]:
    q, course = setting.points, setting.course
    labels = ("f- = 0", "positives slide (t_3)", "negatives leave (t_4)")
    rows = []
    for label, time, event, form in zip(labels, found, _EVENTS, _FORMS, strict=True):
        expected = float(getattr(model.times, event))
        closed = float(getattr(course, form))
        note = f"planar model; closed form {closed:.6g}" if math.isfinite(closed) else "never"
        expected = expected if math.isfinite(expected) else "never"
        rows.append(Row(f"alpha = {float(q.alpha):.3g}: {label}", time, expected, None, note))
    note = f"planar model; {name}; limit {float(q.limit_ratio):.6g}"
    expected = float(model(_END).ratio)
    rows.append(Row(f"alpha = {float(q.alpha):.3g}: A/B at the end", ratio, expected, None, note))
    return rows


def _angles(workspace: Workspace) -> Findings:
    """Measure escape and deactivation against angle and weight of the heavy class."""
    heavies = (1.5, 4.0, 8.0)
    angles = np.geomspace(0.1, 0.8, 8 if workspace.quick else 15)
    plus, minus = POSITIVES / WIDTH, NEGATIVES / WIDTH

    def by_ode():
        solved = jax.vmap(
            jax.vmap(lambda p, a: planar(p, a, plus, minus, 1e6).times, (None, 0)), (0, None)
        )(jnp.asarray(heavies), jnp.asarray(angles))
        return {"escape": solved.escape, "deactivation": solved.positives_slide}

    model = workspace.piece("planar model", by_ode)
    fine = np.geomspace(angles[0], angles[-1], 60)
    forms = _closed_forms(jnp.asarray(heavies), jnp.asarray(fine), plus, minus)
    closed, small = (np.stack(pair) for pair in forms)
    at = _closed_forms(jnp.asarray(heavies), jnp.asarray(angles), plus, minus)[0]
    cases = [((4, 1), 0.2), ((4, 1), 0.5), ((3, 2), 0.3)]
    if not workspace.quick:
        cases += [((4, 1), a) for a in (0.1, 0.15, 0.3, 0.8)]
        cases += [((3, 2), a) for a in (0.15, 0.2, 0.45, 0.6)]
        cases += [((8, 1), a) for a in (0.15, 0.3, 0.6)]
    runs = [_angle_run(workspace, *weights, angle) for weights, angle in cases]
    rows = [row for run_rows, _, _ in runs for row in run_rows]
    flows, gaps = ([run[column] for run in runs] for column in (1, 2))
    solved = np.stack([model["escape"], model["deactivation"]])
    reached = np.isfinite(solved)  # f_- of a class that is hardly lighter never rises
    gap = np.abs(solved[reached] / np.stack(at)[reached] - 1)
    name = "planar model against closed form, largest relative difference"
    rows.append(Row(name, float(np.max(gap)), None, None, f"{gap.size} times"))
    data = xr.Dataset(
        {
            "planar": (("event", "heavy", "angle"), solved),
            "closed": (("event", "heavy", "fine_angle"), closed),
            "small": (("event", "heavy", "fine_angle"), small),
            "flow": (("run", "column"), np.asarray(flows)),
            "flow_gap": (("run", "event"), np.asarray(gaps)),
        },
        coords={
            "event": list(_FORMS[:2]), "heavy": list(heavies), "angle": angles, "fine_angle": fine,
            "column": ["heavy", "angle", "escape", "deactivation"],
        },
        attrs={"rtol": RTOL},
    )  # fmt: skip
    return Findings(tuple(rows), data)


def _angle_run(workspace: Workspace, heavy: int, light: int, angle: float):
    """Solve for one pair of weights and angle.

    Returns:
        Rows, what the figure shows, and by how much of themselves the closed forms differ.
    """
    setting = fixed_output(workspace.seed, heavy=heavy, light=light, angle=angle)
    course, q = setting.course, setting.points
    t1 = 1.1 * float(course.deactivation)
    name = f"p = {heavy / light:g}, angle {angle:g}"
    found = _times(setting, solve_fixed(workspace, name, setting, t1))[:2]
    exact = [float(getattr(course, form)) for form in _FORMS[:2]]
    model = setting.planar(t1).times
    small = escape_time_small_angle(q), deactivation_time_small_angle(q)
    rows = []
    for label, time, event, form, limit in zip(
        ("f- = 0", "t_3"), found, _EVENTS, exact, small, strict=False
    ):
        note = f"planar; closed {form:.6g}; small {float(limit):.5g}"
        rows.append(Row(f"{name}: {label}", time, float(getattr(model, event)), None, note))
    gap = [abs(time / form - 1) for time, form in zip(found, exact, strict=True)]
    return rows, (heavy / light, angle, *found), gap


@eqx.filter_jit
def _closed_forms(heavies, angles, plus: float, minus: float):
    """Return escape and deactivation in closed form, and for small angles."""

    def forms(p, angle):
        q = TwoPoints(p, angle, plus, minus)
        course = Course(q)
        small = escape_time_small_angle(q), deactivation_time_small_angle(q)
        return (course.escape, course.deactivation), small

    return jax.vmap(jax.vmap(forms, (None, 0)), (0, None))(heavies, angles)


EXPERIMENTS = (
    Experiment("alpha", "three ends, by the ratio of living neurons", _alpha, alpha_figure),
    Experiment("angles", "times against angle and weight", _angles, angles_figure),
)

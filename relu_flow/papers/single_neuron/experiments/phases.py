"""The first phase against yardsticks, and the second as one bundle, for several scales."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ....claims.verdict import Evidence
from ....experiment.experiment import Experiment, Findings, Row, Workspace
from ....flow.solve import solve
from ....flow.trajectory import Trajectory
from ....model.network import TwoLayerReLU
from ....observe.angle import largest_angle_among
from .. import figures
from ..theory import claims, constants
from ..theory.measured import Measured
from . import runs

_WIDTH, _FEATURES = 25, 4
_SCALES = (0, -1, -2, -3, -4, -5, -7, -10, -13)
_QUICK = (0, -3, -4, -7, -13)
_SMALL = -3  # from this exponent down laws of vanishing scale are read off
_TIMES = 240
_RESOLUTION = 1e-11


@eqx.filter_jit
def _network_at(run: Trajectory, t) -> TwoLayerReLU:
    return run.network_at(t)


class CompiledFlow:
    """A run whose dense output is compiled: it is asked for at hundreds of times."""

    def __init__(self, run: Trajectory):
        self.ts, self.switches, self.initial_sides = run.ts, run.switches, run.initial_sides
        self.run = run

    def network_at(self, t) -> TwoLayerReLU:
        """Return the network at a time."""
        return _network_at(self.run, jnp.asarray(t))


def _record(workspace: Workspace, exponent: int) -> tuple[Measured, Trajectory]:
    """Solve one run with dense output; return it as the theorems look at it, and itself."""
    problem, teacher, key = runs.draw(workspace, _FEATURES, "capped", 0)
    network = runs.start(key, problem, _WIDTH, exponent)
    log_lambda = exponent * runs.LOG_STEP
    found = constants(problem, network, np.asarray(teacher), log_lambda)
    end = (20 - 2 * log_lambda) / found.gamma_norm
    run = solve(problem, network, end, rtol=_RESOLUTION / 10, dense=True, max_steps=1024)
    return Measured(Evidence(problem, network, CompiledFlow(run)), found, _RESOLUTION), run


def _compared(record: Measured, name: str) -> list:
    """Return the comparisons of a claim on a run."""
    found = record.found
    made = {c.name: c for c in claims(found.teacher, found.log_lambda, found.eps)}
    return list(made[name].check(record.evidence).comparisons)


def _alignment(workspace: Workspace) -> Findings:
    """Compare every neuron's turning with its yardstick's."""
    scales = _QUICK if workspace.quick else _SCALES

    def compute(exponent):
        record, _ = _record(workspace, exponent)
        found = record.found
        unit = found.gamma / found.gamma_norm
        times = np.linspace(0.0, 1.5 * max(found.alignment_end, found.crossing_end), _TIMES)
        cosine = np.stack([record.at(float(t)).direction @ unit for t in times])
        path = np.array([[y.direction(float(t)) @ unit for y in found.yardsticks] for t in times])
        crossed = _compared(record, "Lemma 3, times")
        worst = max(crossed, key=lambda c: c.measured)
        off, aligned = _compared(record, "Lemma 5")[1], _compared(record, "Lemma 3, order")[0]
        return {
            "time": times,
            "cosine": cosine,
            "yardstick": path,
            "sign": found.sign * (found.growing | found.shrinking),
            "late": math.exp(worst.measured),
            "late_bound": math.exp(worst.bound),
            "off": math.exp(off.measured),
            "off_bound": math.exp(off.bound),
            "otherwise": aligned.measured,
            "alignment_end": found.alignment_end,
        }

    pieces = {e: workspace.piece(f"{runs.scale_name(e)}", lambda e=e: compute(e)) for e in scales}
    dims = {"time": ("point",), "cosine": ("point", "neuron"), "yardstick": ("point", "neuron"),
            "sign": ("neuron",)}  # fmt: skip
    data = xr.Dataset(
        {
            name: (("exponent", *dims.get(name, ())), np.stack([pieces[e][name] for e in scales]))
            for name in pieces[scales[0]]
        },
        coords={"exponent": list(scales)},
    )
    rows = []
    for e in scales:
        here = data.sel(exponent=e)
        note = "worst crossing; zero: below the run's resolution. Bound: Lemma 3, epsilon = 1/4"
        rows.append(
            Row(f"|tau - t| of crossings, 4^{e}", float(here["late"]), None,
                float(here["late_bound"]), note)
        )  # fmt: skip
        rows.append(
            Row(f"1 - cos(w, gamma) at T1, 4^{e}", float(here["off"]), None,
                float(here["off_bound"]), "worst neuron; bound: Lemma 5")
        )  # fmt: skip
    small = [e for e in scales if e <= _SMALL]
    seen = [e for e in small if float(data["late"].sel(exponent=e)) > 1e-9]
    if len(seen) > 1:
        factor = runs.per_step(data["late"].sel(exponent=seen).to_numpy(), np.array(seen))
        note = f"4^{seen[0]} to 4^{seen[-1]}; 16: the square of the scale"
        rows.append(Row("|tau - t|, factor a step of 4", factor, None, None, note))
    wrong = float(data["otherwise"].sel(exponent=small).sum())
    note = f"all scales from 4^{_SMALL} down; which hyperplanes, and in what order"
    rows.append(Row("neurons that cross otherwise than their yardsticks", wrong, None, 0, note))
    return Findings(tuple(rows), data)


@eqx.filter_jit
def _bundle_course(run: Trajectory, growing, times):
    """Return the largest angle of growing neurons, in degrees, and the size of their sum."""

    def one(t):
        network = run.network_at(t)
        size = jnp.exp(network.log_scale + network.outer_log_scale) * network.outer_weight
        total = jnp.where(growing, size, 0.0) @ network.inner_weight
        return jnp.degrees(largest_angle_among(network, growing)), jnp.linalg.norm(total)

    return jax.lax.map(one, jnp.asarray(times))


def _cohesion(workspace: Workspace) -> Findings:
    """Follow the largest angle between growing neurons through the second phase."""
    scales = _QUICK if workspace.quick else _SCALES

    def compute(exponent):
        record, run = _record(workspace, exponent)
        found, end = record.found, record.evidence.end
        times = np.linspace(0.0, end, _TIMES)
        angles, sizes = _bundle_course(run, found.growing, times)
        return {
            "time": times,
            "angle": angles,
            "size": sizes,
            "final": angles[-1],
            "after": np.max(np.asarray(angles)[times >= found.alignment_end]),
            "alignment_end": found.alignment_end,
            "departure": record.departure,
        }

    pieces = {e: workspace.piece(f"{runs.scale_name(e)}", lambda e=e: compute(e)) for e in scales}
    dims = {"time": ("point",), "angle": ("point",), "size": ("point",)}
    data = xr.Dataset(
        {
            name: (("exponent", *dims.get(name, ())), np.stack([pieces[e][name] for e in scales]))
            for name in pieces[scales[0]]
        },
        coords={"exponent": list(scales)},
    )
    rows = []
    for e in scales:
        bound = runs.cohesion_bound(e)
        here = data.sel(exponent=e)
        rows += [
            Row(f"angle of growing neurons from T1 on, degrees, 4^{e}", float(here["after"]), None,
                bound if bound < 180 else None, "bound: cos > 1 - 4 lambda^(1/4)"),
            Row(f"the same at the end, 4^{e}", float(here["final"]), None, None, "m=25, d=4"),
        ]  # fmt: skip
    small = [e for e in scales if e <= _SMALL]
    factor = runs.per_step(data["final"].sel(exponent=small).to_numpy(), np.array(small))
    rows.append(Row("angle at the end, factor a step of 4", factor, "4.00 in its tables", 4.0))
    return Findings(tuple(rows), data)


EXPERIMENTS = (
    Experiment(
        "alignment",
        "first experiment 1: neurons beside their yardsticks in the first phase",
        _alignment,
        figures.alignment_figure,
    ),
    Experiment(
        "cohesion",
        "first experiment 2: angles between neurons while the bundle grows",
        _cohesion,
        figures.cohesion_figure,
    ),
)

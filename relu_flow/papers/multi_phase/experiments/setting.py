r"""The setting of Wang and Ma's four phases: chosen neurons, and what is read off runs.

Which neurons live is decided by where they start, and with it how many of each sign there
are, on which every time depends. So that runs can be laid beside each other, neurons are
drawn at random and taken in the order of the draw until the wanted numbers are there.
"""

import dataclasses
import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from ....claims.verdict import Outcome, Verdict
from ....data.clusters import two_clusters
from ....experiment.experiment import Row, Workspace
from ....flow.trajectory import Trajectory
from ....model.initialisers import multi_phase_init
from ....model.network import TwoLayerReLU
from ....model.problem import Problem
from ....observe import observables, schemes
from ....observe.motion import activations
from ....reduced.planar import PlanarRun, planar
from ..theory import Course, TwoPoints, survives

SOURCE = "after Wang & Ma, re-derived"
# Two classes at an angle of 0.3, four to one; of 60 neurons 19 live with a positive outer
# weight and 4 with a negative one: a draw of which the times are known by other means.
HEAVY, LIGHT, ANGLE = 4, 1, 0.3
POSITIVES, NEGATIVES, WIDTH = 19, 4, 60
RTOL, COARSE_RTOL = 1e-12, 1e-10
_DRAWS_A_NEURON = 40
_PIECE = 64
OPTIONS = {"dense": True, "max_steps": 2048, "milestones": schemes.multi_phase().milestones()}


@dataclasses.dataclass(frozen=True)
class Setting:
    """Two clusters and the network that a flow starts from, the outer layer fixed.

    Attributes:
        problem: The problem.
        network: The network; positive neurons that live come first, then negative ones, then
            those that die.
        points: The constants of the reduced model.
    """

    problem: Problem
    network: TwoLayerReLU
    points: TwoPoints

    @property
    def course(self) -> Course:
        """Return the closed form of the flow from vanishing inner weights."""
        return Course(self.points)

    def planar(self, t1: float, nearness: float = 0.01) -> PlanarRun:
        """Solve the planar model from vanishing inner weights."""
        q = self.points
        return planar(q.heavy, q.angle, q.gamma_plus, q.gamma_minus, t1, nearness=nearness)


def fixed_output(
    seed: int,
    *,
    heavy: int = HEAVY,
    light: int = LIGHT,
    angle: float = ANGLE,
    positives: int = POSITIVES,
    negatives: int = NEGATIVES,
    width: int = WIDTH,
    inner_scale: float = 1e-5,
) -> Setting:
    r"""Return a setting with $\kappa_2 = 1$ and given numbers of living neurons.

    Args:
        seed: Seed of the draw.
        heavy: Number of copies of $x_+$.
        light: Number of copies of $x_-$.
        angle: $\Delta$, radians.
        positives: $m_+$.
        negatives: $m_-$.
        width: $m$.
        inner_scale: $\kappa_1$.
    """
    problem, _ = two_clusters(heavy, light, angle)
    pool = multi_phase_init(jax.random.key(seed), _DRAWS_A_NEURON * width, 2, 0.0, 0.0)
    on = pool.inner_weight @ problem.inputs.T
    positive = np.asarray(pool.outer_weight > 0)
    p = heavy / light
    lives = np.asarray(survives(p, angle, jnp.asarray(positive), on[:, 0], on[:, -1]))
    wanted = [(lives & positive, positives), (lives & ~positive, negatives)]
    wanted.append((~lives, width - positives - negatives))
    chosen = np.concatenate([np.flatnonzero(mask)[:count] for mask, count in wanted])
    shrink = -0.5 * math.log(width)
    network = TwoLayerReLU(
        pool.inner_weight[chosen],
        pool.outer_weight[chosen],
        math.log(inner_scale) + shrink,
        shrink,
    )
    return Setting(problem, network, TwoPoints(p, angle, positives / width, negatives / width))


def solve_fixed(workspace: Workspace, name: str, setting: Setting, t1: float) -> Trajectory:
    """Solve a setting with the options that all experiments share: one compiled program."""
    return workspace.solve(name, setting.problem, setting.network, t1, rtol=RTOL, **OPTIONS)


def read(problem: Problem, network: TwoLayerReLU) -> dict[str, Array]:
    """Return outputs, pulls, accuracy, and each neuron's place and shares."""
    outputs = problem.predictions(network)
    positive = problem.targets > 0
    losses = problem.sample_weight * problem.loss.value(outputs, problem.targets)
    shares = activations(problem, network)
    direction = network.directions()
    return {
        "plus": outputs[0],
        "minus": outputs[-1],
        "heavy": jnp.sum(jnp.where(positive, losses, 0.0)),
        "light": jnp.sum(jnp.where(positive, 0.0, losses)),
        "accuracy": observables.accuracy(problem, network),
        "on_plus": shares[:, 0],
        "on_minus": shares[:, -1],
        "azimuth": jnp.arctan2(direction[:, 1], direction[:, 0]),
        "log_norm": network.log_norm(),
    }


@eqx.filter_jit
def _record(problem: Problem, run: Trajectory, times: Float[Array, " times"]) -> dict[str, Array]:
    return jax.lax.map(lambda t: read(problem, run.network_at(t)), times)


def record(
    problem: Problem, run: Trajectory, times: np.ndarray | Sequence[float]
) -> dict[str, np.ndarray]:
    """Return what `read` returns at several times of a run.

    In pieces of one length, the last one filled up: a single compiled program serves all.
    """
    times = np.asarray(times, float)
    pieces = []
    for start in range(0, len(times), _PIECE):
        piece = times[start : start + _PIECE]
        filled = np.append(piece, np.full(_PIECE - len(piece), piece[-1]))
        found = _record(problem, run, jnp.asarray(filled))
        pieces.append({name: np.asarray(rows)[: len(piece)] for name, rows in found.items()})
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def boundaries(
    problem: Problem, network: TwoLayerReLU, fine: Trajectory, coarse: Trajectory
) -> dict[str, tuple[float, float]]:
    """Return the ends of the phases by name, each with its error bar; `inf` if not reached.

    The error bar is the difference of two runs at two tolerances, and what neither resolves.
    """
    scheme = schemes.multi_phase()
    ends = [[end for _, end in scheme.times(problem, network, run)] for run in (fine, coarse)]
    found = {}
    for phase, time, other in zip(scheme.phases, *ends, strict=True):
        error = abs(time - other) + RTOL * time if math.isfinite(time) else math.nan
        found[phase.name] = (time, error)
    return found


def with_error(value: tuple[float, float]) -> float | str:
    """Return a time and its error bar as text."""
    time, error = value
    return f"{time:.9g} ± {error:.1g}" if math.isfinite(time) else math.inf


def phase_data(
    run: Trajectory,
    seen: dict[str, np.ndarray],
    times: np.ndarray,
    snapshots: dict[str, float],
    places: dict[str, np.ndarray],
    phases: dict[str, tuple[float, float]],
    positive: np.ndarray,
) -> xr.Dataset:
    """Return a run as what its figure is drawn from.

    Args:
        run: The run.
        seen: From `record` at `times`.
        times: When.
        snapshots: Names and times of pictures of the neurons.
        places: From `record` at these times.
        phases: What is marked: names, with times and error bars as from `boundaries`.
        positive: Which neurons have positive outer weight.
    """
    scalars = ("plus", "minus", "heavy", "light", "accuracy")
    table = run.switches.to_pandas()
    data = xr.Dataset(
        {name: ("time", seen[name]) for name in scalars}
        | {name: (("time", "neuron"), seen[name]) for name in ("on_plus", "on_minus", "log_norm")}
        | {name: (("snapshot", "neuron"), places[name]) for name in ("azimuth",)}
        | {"place_log_norm": (("snapshot", "neuron"), places["log_norm"])}
        | {"snapshot_time": ("snapshot", list(snapshots.values()))}
        | {"positive": ("neuron", positive)}
        | {"boundary_time": ("boundary", [time for time, _ in phases.values()])}
        | {"boundary_error": ("boundary", [error for _, error in phases.values()])}
        | {f"switch_{name}": ("switch", table[name].to_numpy(copy=True)) for name in
           ("time", "neuron", "sample")},
        coords={
            "time": np.asarray(times),
            "snapshot": list(snapshots),
            "boundary": list(phases),
        },
    )  # fmt: skip
    data["switch_kind"] = ("switch", table["kind"].astype(str).to_numpy(dtype="U24"))
    data["time"].attrs["units"] = "gradient-flow time of the mean loss"
    return data


def verdict_rows(verdicts: Sequence[Verdict]) -> list[Row]:
    """Return a row for everything compared by claims whose hypotheses are met."""
    rows = []
    for verdict in verdicts:
        if verdict.outcome is Outcome.HYPOTHESES_NOT_MET:
            continue
        for c in verdict.comparisons:
            bound = f"{c.relation} {c.bound:.6g}" + (f" ± {c.tolerance:.1g}" * (c.relation == "=="))
            name = f"{verdict.claim.name}: {c.name}"
            note = f"{'holds' if c.holds else 'VIOLATED'}; {SOURCE}"
            rows.append(Row(name, c.measured, None, bound, note if c.reached else "not reached"))
    return rows

"""Runs that the experiments on a single teacher neuron share, and what is read off their ends."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Key, Real

from ....data.teacher import Variant, single_neuron
from ....experiment.experiment import Row, Workspace
from ....flow.results import RESULTS
from ....flow.solve import solve
from ....flow.trajectory import Trajectory
from ....model.initialisers import single_neuron_init
from ....model.network import TwoLayerReLU
from ....model.problem import Problem
from ....observe import angle, observables, rank

LEVEL = 1e-9  # the paper stops at this loss
# The paper gives up after 2e7 iterations at a learning rate of .01, at t = 2e5. Steps are as
# short as the largest eigenvalue of the data asks for, the smallest may be 1e-6 of it, and nine
# tenths of all steps are spent on the last of the loss, when angles no longer change. So runs
# end sooner, and tables say what is left (`unfinished`).
LATEST = 2e3
_QUICK_LATEST = 1e3
_RTOL, _SECOND_RTOL = 1e-9, 1e-11
LOG_STEP = math.log(4.0)  # scales are powers of four
_SHARES = np.geomspace(2**-10, 1.0, 72)  # of a run, where the network is recorded
_SLIDES = 32  # most hyperplanes a neuron may slide on at once
_WATCHED = 16  # from so many features on runs show progress and leave checkpoints


@dataclasses.dataclass(frozen=True)
class Settled:
    """A run that ends soon after its loss has fallen below a level.

    Attributes:
        network: The network at the first recorded time with a loss below the level.
        time: That time; the last one if there is none.
        reached: Whether there is one.
        broken: Whether the solver gave up before there was one.
        second: Whether it did so at the usual tolerance, and another one was tried.
        times: All recorded times up to then: seven in each doubling of time.
        networks: The networks at these times, stacked.
    """

    network: TwoLayerReLU
    time: float
    reached: bool
    broken: bool
    second: bool
    times: Float[np.ndarray, " times"]
    networks: TwoLayerReLU


def draw(
    workspace: Workspace,
    features: int,
    variant: Variant,
    trial: int,
    max_angle: float | None = None,
) -> tuple[Problem, Float[Array, " features"], Key[Array, ""]]:
    """Return the data of a trial, its teacher, and a key for its initial network."""
    data_key, network_key = jr.split(jr.fold_in(jr.key(workspace.seed), trial))
    problem, found = single_neuron(data_key, features, variant=variant, max_angle=max_angle)
    return problem, found.teacher, network_key


def start(key: Key[Array, ""], problem: Problem, width: int, exponent: float) -> TwoLayerReLU:
    r"""Return the paper's initial network for $\lambda = 4^{\mathrm{exponent}}$."""
    return single_neuron_init(key, width, problem.features, exponent * LOG_STEP)


def scale_name(exponent: float) -> str:
    """Return a scale's name in the names of pieces, where signs would be lost."""
    return f"log4 lambda {'minus ' if exponent < 0 else ''}{abs(exponent):.6g}"


def settle(
    workspace: Workspace,
    name: str,
    problem: Problem,
    network: TwoLayerReLU,
    level: float = LEVEL,
    latest: float = LATEST,
) -> Settled:
    """Run until the loss is below a level, or until a latest time.

    The end is guessed, and doubled if it was too early. The run is then made again from the
    start: one that goes on from neurons at rest on hyperplanes would have lost, by rounding,
    on which side of them they are.

    Args:
        workspace: Where progress is shown.
        name: What is run.
        problem: Mean square loss.
        network: Where from.
        level: Of the loss.
        latest: The latest time; sooner in quick forms.
    """
    latest = min(latest, _QUICK_LATEST) if workspace.quick else latest
    second = False
    end = min(_guessed_end(problem, float(jnp.max(network.log_scale)), level), latest)
    while True:
        ts = end * _SHARES
        title = f"{name} to t={end:.4g}"
        run, below = _attempt(workspace, title, problem, network, ts, _RTOL, level)
        if not np.isfinite(np.asarray(run.ts)).all() and not below.any():
            workspace.say(f"{title}: ended early at rtol={_RTOL:g}: {RESULTS[run.result]}")
            second = True
            run, below = _attempt(workspace, title, problem, network, ts, _SECOND_RTOL, level)
        recorded = np.isfinite(np.asarray(run.ts))
        broken = not recorded.all() and not below.any()
        if below.any() or broken or end >= latest:
            break
        end = min(2 * end, latest)
    count = int(np.argmax(below)) + 1 if below.any() else max(1, int(recorded.sum()))
    networks = jax.tree.map(lambda leaf: leaf[:count], run.networks)
    final = jax.tree.map(lambda leaf: leaf[-1], networks)
    reached = bool(below.any())
    return Settled(final, float(ts[count - 1]), reached, broken, second, ts[:count], networks)


def _attempt(
    workspace: Workspace, name: str, problem: Problem, network, ts, rtol: float, level: float
) -> tuple[Trajectory, np.ndarray]:
    """Run to the last of some times; return the run and when its loss is below the level.

    Once the loss is at rounding, long after the level, an early end is of no importance.
    """
    options = {"ts": ts, "rtol": rtol, "max_steps": 1_000_000, "throw": False}
    options["max_slides"] = min(problem.features, _SLIDES)
    if problem.features < _WATCHED:
        run = solve(problem, network, ts[-1], **options)
    else:
        run = workspace.solve(name, problem, network, float(ts[-1]), **options)
    recorded = np.isfinite(np.asarray(run.ts))
    return run, recorded & (np.asarray(_losses(problem, run.networks)) < level)


def _guessed_end(problem: Problem, log_lambda: float, level: float) -> float:
    r"""Return about when the loss is below a level if the limit has rank one.

    The bundle has grown after $\ln(1/\lambda)/\|\gamma_{[n]}\|$ and a little. Near its limit
    $v^*$ it obeys $\dot v = \|v^*\|(1 + \bar v^*\bar v^{*\top})C(v^* - v)$ with $C = XX^\top/n$;
    in $C^{1/2}(v^* - v)$, whose square is twice the loss, that is symmetric. Initial weights
    that are large make it faster, by about their square norm.
    """
    inputs, targets = np.asarray(problem.inputs), np.asarray(problem.targets)
    teacher = np.linalg.lstsq(inputs, targets)[0]
    size = float(np.linalg.norm(teacher))
    values, vectors = np.linalg.eigh(inputs.T @ inputs / len(targets))
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    across = root @ teacher / size
    matrix = size * (root @ root + np.outer(across, across))
    rates, modes = np.linalg.eigh(matrix)
    share = (modes.T @ (root @ teacher)) ** 2 / 2
    low, high = 1e-3, 1e6
    while high > 1.01 * low:
        middle = math.sqrt(low * high)
        loss = float(share @ np.exp(-2 * np.maximum(rates, 0.0) * middle))
        low, high = (middle, high) if loss > level else (low, middle)
    gamma = float(np.linalg.norm(targets @ inputs)) / len(targets)
    growth = (3 + max(0.0, -log_lambda)) / gamma
    return growth + 1.3 * high / max(1.0, math.exp(2 * log_lambda))


@eqx.filter_jit
def _losses(problem: Problem, networks: TwoLayerReLU) -> Float[Array, " times"]:
    return jax.vmap(lambda network: observables.loss(problem, network))(networks)


@eqx.filter_jit
def read(problem: Problem, network: TwoLayerReLU) -> dict[str, Array]:
    r"""Return what the tables are made of; angles in degrees.

    `spread` is $\|W\|_*/\|W\|_F - 1$: zero for rank one, to first order what the other
    singular values are by the first.
    """
    alive = observables.living(problem, network)
    nuclear = rank.nuclear_norm(problem, network)
    frobenius = jnp.linalg.norm(jnp.exp(network.log_norm()))
    return {
        "max_angle": jnp.degrees(angle.largest_angle(problem, network)),
        "mean_angle": jnp.degrees(angle.mean_angle(problem, network)),
        "positive_angle": jnp.degrees(angle.positive_angle(problem, network)),
        "nuclear": nuclear,
        "spread": nuclear / frobenius - 1,
        "effective_rank": rank.effective_rank(problem, network),
        "square_norm": observables.squared_parameter_norm(problem, network),
        "loss": observables.loss(problem, network),
        "active": jnp.sum(alive),
        "active_positive": jnp.sum(alive & (network.outer_weight > 0)),
    }


def settled_piece(
    workspace: Workspace,
    name: str,
    problem: Problem,
    network: TwoLayerReLU,
    latest: float = LATEST,
) -> dict[str, np.ndarray]:
    """Return what is read off the end of a run, from disk if it was made before."""

    def compute():
        run = settle(workspace, name, problem, network, latest=latest)
        found = read(problem, run.network)
        if run.broken:
            found = {key: jnp.full(value.shape, math.nan) for key, value in found.items()}
        return found | {"time": run.time, "reached": run.reached, "second": run.second}

    return workspace.piece(name, compute)


def second_row(second: xr.DataArray) -> Row:
    """Return how many runs the solver ended early at the usual tolerance."""
    tried = int(second.notnull().sum())
    note = f"of {tried}: the solver ended early at a tolerance of {_RTOL:g}; then {_SECOND_RTOL:g}"
    return Row("runs made again at another tolerance", float(second.sum()), None, 0, note)


def unfinished(
    square_norm: float | Float[np.ndarray, "..."],
) -> float | Float[np.ndarray, "..."]:
    r"""Return by what share angles between aligned neurons have yet to change.

    For a bundle $\dot v = \|v\|(1 + \bar v\bar v^\top)g$, and the cosine of two of its
    neurons grows at the rate $\bar v^\top g$ times sine squared: their angle falls as
    $\|v\|^{-1/2}$, and at the end $\|v\| = \|\theta\|^2/2$ is one.
    """
    return np.abs(np.sqrt(square_norm / 2) - 1)


def per_step(values: Float[np.ndarray, "..."], exponents: Real[np.ndarray, "..."]) -> float:
    """Return the factor by which a quantity falls when the scale is divided by four."""
    slope = np.polyfit(np.asarray(exponents, float), np.log(np.asarray(values, float)), 1)[0]
    return float(np.exp(slope))


def cohesion_bound(exponent: float, eps: float = 0.25) -> float:
    r"""Return the angle, in degrees, whose cosine is $1 - 4\lambda^\varepsilon$; 180 if none is."""
    return math.degrees(math.acos(max(-1.0, 1 - 4 * math.exp(eps * exponent * LOG_STEP))))

"""What the early-alignment experiments read off a run, be it of the flow or of descent."""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Real

from ....discrete.descent import descent
from ....experiment.experiment import Row, Workspace
from ....experiment.progress import Watcher
from ....model.network import TwoLayerReLU
from ....model.problem import Problem
from ....observe import motion, observables

RATE = 2e-3  # the paper's learning rate: its iteration k is the flow's time k * RATE
RATES = (2e-3, 4e-3, 8e-3)
Course = dict[str, Real[np.ndarray, "..."] | Bool[np.ndarray, "..."]]


@eqx.filter_jit
def _in_span(problem: Problem, networks: TwoLayerReLU) -> tuple[Problem, TwoLayerReLU]:
    """Return the same in coordinates of the inputs' span, and one for all that is across it.

    Outputs, norms, and products with inputs stay what they are, and so do their rates.
    """
    if problem.basis is None:
        return problem, networks
    inputs = jnp.pad(problem.inputs @ problem.basis, ((0, 0), (0, 1)))
    along = networks.inner_weight @ problem.basis
    across = jnp.linalg.norm(networks.inner_weight - along @ problem.basis.T, axis=-1)
    inner = jnp.concatenate([along, across[..., None]], axis=-1)
    small = Problem(inputs, problem.targets, problem.loss, problem.reduction, problem.train)
    return small, eqx.tree_at(lambda n: n.inner_weight, networks, inner)


@eqx.filter_jit
def _rates(problem: Problem, networks: TwoLayerReLU) -> dict[str, Array]:
    def at(network: TwoLayerReLU):
        return {
            "loss": problem.loss_value(network),
            "direction_rate": motion.direction_rate(problem, network),
            "norm_rate": motion.norm_rate(problem, network),
        }

    return jax.lax.map(at, networks)


@eqx.filter_jit
def _shapes(problem: Problem, networks: TwoLayerReLU) -> dict[str, Array]:
    centers = jnp.stack(observables.class_centers(problem))
    lengths = jnp.linalg.norm(centers, axis=1)
    centers = centers / jnp.where(lengths > 0, lengths, 1.0)[:, None]

    def at(network: TwoLayerReLU):
        # Products of neurons: much smaller than W if the inputs are images.
        inner = observables.relative_inner(network)
        largest = jnp.linalg.eigvalsh(inner @ inner.T)[-1]
        return {
            "stable_rank": jnp.sum(inner**2) / largest,
            "square_norm": jnp.exp(2 * jnp.max(network.log_scale)) * largest,
            "cosine": network.directions() @ centers.T,
            "log_norm": network.log_norm(),
            "outer_sign": jnp.sign(network.outer_weight),
            "alive": observables.living(problem, network),
        }

    return jax.lax.map(at, networks)


@eqx.filter_jit
def _losses(problem: Problem, networks: TwoLayerReLU) -> dict[str, Array]:
    return {"loss": jax.lax.map(problem.loss_value, networks)}


def course(problem: Problem, networks: TwoLayerReLU) -> Course:
    r"""Return what is drawn of a run of the flow, by name.

    Args:
        problem: What was solved.
        networks: Stacked over the recorded times.

    Returns:
        What `rates` returns. Over times, too: `stable_rank`; `square_norm`, $\|W\|_2^2$.
        Over times and neurons: `cosine` to $x_+$ and to $x_-$ (last axis; zero for an empty
        class), `log_norm`, `outer_sign`, `alive`.
    """
    return rates(problem, networks) | _host(_shapes(problem, networks))


def rates(problem: Problem, networks: TwoLayerReLU) -> Course:
    """Return `loss` and the paper's changes `direction_rate` and `norm_rate`, over times."""
    return _host(_rates(*_in_span(problem, networks)))


def losses(problem: Problem, networks: TwoLayerReLU) -> Course:
    """Return `loss` over times."""
    return _host(_losses(*_in_span(problem, networks)))


def _host(read: dict[str, Array]) -> Course:
    return {name: np.asarray(value) for name, value in read.items()}


def mean_alignment(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    r"""Return the mean over living neurons of the larger cosine to $x_+$ or $x_-$."""
    centers = jnp.stack(observables.class_centers(problem))
    centers = centers / jnp.linalg.norm(centers, axis=1, keepdims=True)
    best = jnp.max(network.directions() @ centers.T, axis=1)
    alive = observables.living(problem, network)
    count = jnp.sum(alive, dtype=best.dtype)
    return jnp.sum(jnp.where(alive, best, 0.0)) / jnp.maximum(count, 1)


def descend(
    workspace: Workspace,
    problem: Problem,
    network: TwoLayerReLU,
    ts: Float[np.ndarray, " times"],
    rate: float,
    batch: int | None = None,
) -> TwoLayerReLU:
    """Run gradient descent and return the networks at given times.

    Shows progress and leaves a checkpoint, as `Workspace.solve` does for the flow.

    Args:
        workspace: Where it runs; seeds the batches.
        problem: What is minimised.
        network: Where from.
        ts: Times of the flow, multiples of the rate.
        rate: The learning rate.
        batch: Samples in a batch; all unless given.
    """
    name = f"descent at rate {rate:g}" if batch is None else f"batches at rate {rate:g}"
    with Watcher(float(ts[-1]), workspace.quiet, name) as watcher:
        run = descent(
            problem, network, round(float(ts[-1]) / rate), rate, batch_size=batch,
            key=jax.random.fold_in(jax.random.key(workspace.seed), 99), ts=ts.tolist(),
            progress=watcher,
            checkpoint=workspace.folder / f"{name.replace(' ', '-')}-{workspace.stamp}.checkpoint",
        )  # fmt: skip
        return jax.block_until_ready(run.networks)


def departures(flow: Mapping[str, np.ndarray], runs: Mapping[float, Course]) -> np.ndarray:
    """Return each run's largest difference in loss from the flow over the recorded times."""
    return np.array([np.max(np.abs(run["loss"] - flow["loss"])) for run in runs.values()])


def departure_rows(rates: tuple[float, ...], apart: np.ndarray) -> tuple[Row, ...]:
    """Return rows on how descent departs from the flow."""
    first = "largest |loss of descent - loss of the flow| over the run"
    rows = [Row(f"departure at rate {rates[0]:g}", float(apart[0]), note=first)]
    rows += [
        Row(
            f"departure at rate {rate:g} / at {rates[0]:g}",
            float(value / apart[0]),
            bound=f"{rate / rates[0]:.3g}",
            note="bound: if proportional to the rate",
        )
        for rate, value in zip(rates[1:], apart[1:], strict=True)
    ]
    return tuple(rows)


def peak(ts: Float[np.ndarray, " times"], values: Float[np.ndarray, " times"]) -> float:
    """Return when recorded values are largest."""
    return float(ts[int(np.argmax(values))])


def iterations(time: float) -> float:
    """Return how many iterations of the paper a time of the flow is."""
    return float(np.round(time / RATE, 1))


def span(values: np.ndarray, digits: int = 4) -> str:
    """Return the range of values over seeds as text."""
    return f"{np.min(values):.{digits}g} to {np.max(values):.{digits}g}"

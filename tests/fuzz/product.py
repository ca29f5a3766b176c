"""The product's run of a drawn problem, as plain numbers."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

import relu_flow as rf

LOSSES = {"exp": rf.ExponentialLoss, "logistic": rf.LogisticLoss, "square": rf.SquareLoss}


@dataclass
class Run:
    """A run: why it ended (empty if at its end), switches, modes at the start and states.

    `states` are (inner weights, outer weights, log of the inner scale, outputs) at each time.
    """

    code: str
    events: list
    initial_sides: np.ndarray
    states: list
    trajectory: rf.Trajectory | None


def build(problem):
    """Return a drawn problem and its network as the product's own objects."""
    made = rf.Problem(
        problem["X"],
        problem["y"],
        loss=LOSSES[problem["loss"]](),
        reduction=problem["reduction"],
        train=problem["train"],
    )
    return made, rf.TwoLayerReLU(problem["w0"], problem["v0"], log_scale=problem["log_scale"])


def run(problem, ts, rtol=1e-12):
    """Return the product's run, with the states at `ts`; without `ts` that at the end."""
    made, network = build(problem)
    asked = None if ts is None else jnp.asarray(ts)
    trajectory = rf.solve(made, network, float(problem["t_end"]), ts=asked, rtol=rtol, throw=False)
    return read(problem, trajectory)


def read(problem, trajectory):
    """Return a trajectory as plain numbers."""
    log = trajectory.switches
    num = min(int(log.num), len(log.time))
    columns = [np.asarray(column)[:num].tolist() for column in (log.time, log.neuron, log.sample)]
    kinds = [rf.SwitchKind(int(code)).name.lower() for code in np.asarray(log.kind)[:num]]
    nets = trajectory.networks
    inner, outer = np.asarray(nets.inner_weight), np.asarray(nets.outer_weight)
    scale, other = np.asarray(nets.log_scale), np.asarray(nets.outer_log_scale)
    states = []
    for w, v, rho, sigma in zip(inner, outer, scale, other, strict=True):
        outputs = (np.exp(rho + sigma) * v) @ np.maximum(w @ problem["X"].T, 0)
        states.append((w, np.exp(sigma - rho) * v, rho, outputs))
    return Run(
        str(rf.RESULTS[trajectory.result]),
        list(zip(*columns, kinds, strict=True)),
        np.asarray(trajectory.initial_sides),
        states,
        trajectory,
    )

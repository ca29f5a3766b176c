"""Comparison with the reference cases: trajectories computed with 40 or 50 digits elsewhere.

Each case in `reference_cases/` was computed by a program in arbitrary precision that shares
no code with this one (Taylor series, Filippov solutions at the kinks) and checked against
closed forms, a second solver and itself at other precisions. Its inputs are exact float64
numbers. `conditioning` is the factor by which a relative perturbation of the initial
weights is amplified; no float64 program can beat that factor times 1e-16.
"""

import itertools
import json
from decimal import Decimal
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import relu_flow as rf

FOLDER = Path(__file__).parent / "reference_cases"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
LOSSES = {"exp": rf.ExponentialLoss, "logistic": rf.LogisticLoss, "square": rf.SquareLoss}
MODES = "IAS"


def load(name):
    """Return a case as stored."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def build(case):
    """Return a case's problem and initial network."""
    problem = rf.Problem(
        np.array(case["X"]),
        np.array(case["y"]),
        LOSSES[case["loss"]](),
        case["normalisation"],
        train=case.get("train", "both"),
    )
    network = rf.TwoLayerReLU(np.array(case["w0"]), np.array(case["v0"]), case["log_scale"])
    return problem, network


def tolerance(case, quantity, floor):
    """Return what float64 can reach: `floor`, or 100 times the amplified rounding."""
    conditioning = case["reference"]["quality"]["conditioning"]
    if not conditioning:
        return 1e-9
    return max(floor, 100 * conditioning[quantity] * 1e-16)


def paths(switches, modes, resolution):
    """Return for each pair its list of (time, mode from then on), instants merged.

    `switches` are (time, neuron, sample, kind); what a pair does at one instant counts by
    its net effect. A pair that comes to rest on its hyperplane may be said to slide there
    with weight 0 or to be inactive: both are written as inactive by our solver.
    """
    after = {
        "activate": "A",
        "deactivate": "I",
        "slide_enter": "S",
        "slide_exit_active": "A",
        "slide_exit_inactive": "I",
    }
    found = {}
    for time, neuron, sample, kind in switches:
        path = found.setdefault((neuron, sample), [])
        if path and abs(time - path[-1][0]) <= resolution * abs(time):
            path.pop()
        path.append((time, after[kind]))
    for (neuron, sample), path in found.items():
        mode = modes[neuron][sample]
        kept = []
        for time, new in path:
            if new != mode:
                kept.append((time, new))
            mode = new
        found[neuron, sample] = kept
    return {pair: path for pair, path in found.items() if path}


def reference_switches(case):
    """Return the reference's switches with exact times."""
    return [(Decimal(t), j, i, kind) for t, j, i, kind in case["reference"]["events"]]


def our_switches(trajectory):
    """Return a trajectory's switches likewise."""
    log = trajectory.switches
    return [
        (
            Decimal(float(log.time[k])),
            int(log.neuron[k]),
            int(log.sample[k]),
            rf.SwitchKind(int(log.kind[k])).name.lower(),
        )
        for k in range(int(log.num))
    ]


def worst_time_error(case, trajectory):
    """Return the largest relative error of a switch time; differing switches raise."""
    modes = case["reference"]["initial_modes"]
    ours_modes = ["".join(MODES[m] for m in row) for row in np.asarray(trajectory.initial_sides)]
    assert ours_modes == modes
    resolution = Decimal("1e-12")
    theirs = paths(reference_switches(case), modes, resolution)
    ours = paths(our_switches(trajectory), modes, resolution)
    assert set(ours) == set(theirs), (
        f"missing {sorted(set(theirs) - set(ours))}, extra {sorted(set(ours) - set(theirs))}"
    )
    matched = []
    for pair, path in theirs.items():
        assert [mode for _, mode in ours[pair]] == [mode for _, mode in path], pair
        matched += [(a[0], b[0]) for a, b in zip(path, ours[pair], strict=True)]
    matched.sort()
    for (a, ours_a), (b, ours_b) in itertools.pairwise(matched):
        assert b - a <= resolution * b or ours_a < ours_b, "order of switches"
    return max((float(abs(a - b) / a) for a, b in matched), default=0.0)


def state_errors(case, trajectory, problem):
    """Return the largest errors of the sampled quantities, by the names of `conditioning`."""
    errors: dict[str, float] = {}
    for k, sample in enumerate(case["reference"]["samples"]):
        network = jax_row(trajectory.networks, k)
        number = lambda texts: np.array(texts, dtype=float)
        size = np.linalg.norm(network.inner_weight, axis=1)
        ours_loss, loss = float(problem.loss_value(network)), float(sample["loss"])
        apart = np.exp(np.asarray(network.outer_log_scale - network.log_scale))
        ratio = number(sample["v_over_w"])
        ours_ratio = np.asarray(network.outer_weight) * apart / size
        rounding = loss_rounding(problem, network)
        pairs = {
            "loss_rel": max(abs(ours_loss - loss) - rounding, 0.0) / loss,
            "log10_w_abs": np.log10(np.e) * np.asarray(network.log_norm())
            - number(sample["log10_w"]),
            "dir_abs": np.asarray(network.directions()) - number(sample["dir"]),
            "v_over_w_rel": (ours_ratio - ratio) / np.maximum(np.abs(ratio), 1),
            "f_abs": np.asarray(problem.predictions(network)) - number(sample["f"]),
        }
        for name, error in pairs.items():
            errors[name] = max(errors.get(name, 0.0), float(np.max(np.abs(error))))
    return errors


def loss_rounding(problem, network):
    """Return how far the loss moves when every product in the outputs is rounded once.

    Beside fitted targets that is far more than the rounding of the loss itself.
    """
    pull = np.abs(problem.loss.pull(problem.predictions(network), problem.targets))
    scale = np.exp(np.asarray(network.log_scale + network.outer_log_scale))
    inner = np.abs(network.inner_weight) @ np.abs(problem.inputs).T
    products = (scale * np.abs(network.outer_weight)) @ inner
    return problem.sample_weight * float(np.sum(pull * products)) * np.finfo(float).eps


def jax_row(networks, k):
    """Return one network of a stack."""
    return rf.TwoLayerReLU(
        networks.inner_weight[k],
        networks.outer_weight[k],
        networks.log_scale[k],
        networks.outer_log_scale[k],
    )


def sample_times(case):
    """Return the times at which the reference gives states."""
    return jnp.array([float(sample["t"]) for sample in case["reference"]["samples"]])

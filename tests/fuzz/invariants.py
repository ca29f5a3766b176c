"""What holds for every run, and problems that must have the same solution.

The first kind looks at a run alone, so it also covers what the independent solver refuses. The
second returns a run of a changed problem in the terms of the problem itself, to be judged there.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from scipy.optimize import lsq_linear

import relu_flow as rf

from . import product
from .compare import AFTER

BEFORE = {
    "activate": (0,),
    "deactivate": (1,),
    "slide_enter": (0, 1),
    "slide_exit_active": (2,),
    "slide_exit_inactive": (2,),
}


def violations(problem, run, ts):
    """Return lines that say which laws a run breaks."""
    if not all(np.all(np.isfinite(part)) for state in run.states for part in state):
        return ["law: states are not finite"]
    return [*_chains(problem, run), *_rising_loss(problem, run, ts), *_imbalance(problem, run)]


def _chains(problem, run):
    """Check that times ascend within the run and that the modes of each pair follow."""
    times = np.array([event[0] for event in run.events])
    if np.any(np.diff(times) < 0) or np.any(times < 0) or np.any(times > problem["t_end"]):
        yield "law: times of switches are not in order"
    pairs = {}
    for time, j, i, kind in run.events:
        pairs.setdefault((j, i), []).append((time, kind))
    for pair, path in pairs.items():
        side, waiting = run.initial_sides[pair], []
        for k, (time, kind) in enumerate(path):
            waiting.append(kind)
            if k + 1 < len(path) and path[k + 1][0] == time:
                continue  # what happens at one instant may be written in any order
            side = _follow(side, waiting)
            waiting = []
            if side is None:
                yield f"law: pair {pair} cannot {kind} at {time!r}"
                break


def _follow(side, kinds):
    """Return the side after all of some kinds in an order that is possible, else `None`."""
    if not kinds:
        return side
    for k, kind in enumerate(kinds):
        if side in BEFORE[kind]:
            after = _follow(AFTER[kind], kinds[:k] + kinds[k + 1 :])
            if after is not None:
                return after
    return None


def loss(problem, outputs):
    """Return the reduced loss."""
    y, share = problem["y"], 1.0 if problem["reduction"] == "sum" else 1 / len(problem["y"])
    if problem["loss"] == "exp":
        return share * np.sum(np.exp(-y * outputs))
    if problem["loss"] == "logistic":
        return share * np.sum(np.logaddexp(0, -y * outputs))
    return share * np.sum((outputs - y) ** 2) / 2


def _rising_loss(problem, run, ts):
    scale = np.exp(2 * problem["log_scale"])
    start = (scale * problem["v0"]) @ np.maximum(problem["w0"] @ problem["X"].T, 0)
    outputs = [start, *(state[3] for state in run.states)]
    losses = np.array([loss(problem, f) for f in outputs])
    size = np.array([loss(problem, f) + 1e-3 * np.sum(f**2) for f in outputs])
    for k in np.flatnonzero(~(np.diff(losses) <= 1e-11 * size[:-1])):
        yield f"law: the loss rises by {losses[k + 1] - losses[k]:.1e} until {ts[k]:.6g}"


def _imbalance(problem, run):
    """Check that v^2 - |w|^2 stays, in units of the initial scale."""
    if problem["train"] != "both":
        return
    gap = lambda w, v: v**2 - np.sum(w**2, axis=1)
    size = lambda w, v: v**2 + np.sum(w**2, axis=1)
    first = gap(problem["w0"], problem["v0"])
    for w, v, rho, _ in run.states:
        unit = np.exp(2 * (rho - problem["log_scale"]))
        allowed = 1e-10 * np.maximum(unit * size(w, v), size(problem["w0"], problem["v0"]))
        if np.any(~(np.abs(unit * gap(w, v) - first) <= allowed)):
            yield "law: v^2 - |w|^2 is not conserved"
            return


# Velocities.


def pulls(problem, outputs):
    """Return minus the derivatives of the loss by the outputs."""
    y, share = problem["y"], 1.0 if problem["reduction"] == "sum" else 1 / len(problem["y"])
    if problem["loss"] == "exp":
        return share * y * np.exp(-y * outputs)
    if problem["loss"] == "logistic":
        return share * y / (1 + np.exp(y * outputs))
    return share * (y - outputs)


def smallest_velocity(problem, w, v, outputs, sides):
    """Return the velocities of true weights, slides by the smallest norm."""
    g, inputs = pulls(problem, outputs), problem["X"]
    drives = np.zeros_like(w)
    for j, row in enumerate(sides):
        drives[j] = (row == 1) * g @ inputs
        across = (g[:, None] * inputs)[row == 2]
        if len(across):
            share = lsq_linear(across.T, -drives[j], (0, 1), tol=1e-15).x
            drives[j] += share @ across
    outer = np.sum(w * drives, axis=1) * (problem["train"] == "both")
    return v[:, None] * drives, outer


def dissipation(problem, run, ts):
    """Check velocities between pairs of near times (2k, 2k + 1) with no switch between them.

    The difference quotient must be the smallest velocity, and the loss must fall at the rate
    of its square.
    """
    for k in range(0, len(ts), 2):
        start, end = ts[k], ts[k + 1]
        if any(start <= event[0] <= end for event in run.events):
            continue
        sides = np.array(run.initial_sides)
        for time, j, i, kind in run.events:
            if time < start:
                sides[j, i] = AFTER[kind]
        (w0, v0, f0), (w1, v1, f1) = (_true(run.states[m]) for m in (k, k + 1))
        step = end - start
        middle = [(a + b) / 2 for a, b in ((w0, w1), (v0, v1), (f0, f1))]
        inner, outer = smallest_velocity(problem, middle[0], middle[1], middle[2], sides)
        speed = np.sum(inner**2) + np.sum(outer**2)
        size = np.sqrt(np.sum(middle[0] ** 2) + np.sum(middle[1] ** 2)) / step
        gap = np.hypot(
            np.linalg.norm((w1 - w0) / step - inner), np.linalg.norm((v1 - v0) / step - outer)
        )
        if gap > 1e-5 * np.sqrt(speed) + 1e-12 * size:
            yield f"law: velocity at {start:.6g} off by {gap / np.sqrt(speed):.1e}"
        rate = (loss(problem, f0) - loss(problem, f1)) / step
        if abs(rate - speed) > 1e-5 * speed + 1e-13 * loss(problem, f0) / step:
            yield f"law: the loss falls by {rate!r} at {start:.6g}, not {speed!r}"


def _true(state):
    w, v, rho, outputs = state
    unit = np.exp(rho)
    return unit[:, None] * w, unit * v, outputs


# The same solution in other words. Each returns the run in the problem's own terms.


def permuted(problem, ts, random):
    """Neurons and samples in another order."""
    rows, columns = random.permutation(len(problem["v0"])), random.permutation(len(problem["y"]))
    changed = problem | {
        "X": problem["X"][columns],
        "y": problem["y"][columns],
        "w0": problem["w0"][rows],
        "v0": problem["v0"][rows],
    }
    run = product.run(changed, ts)
    back, across = np.argsort(rows), np.argsort(columns)
    return dataclasses.replace(
        run,
        events=[(t, int(rows[j]), int(columns[i]), kind) for t, j, i, kind in run.events],
        initial_sides=run.initial_sides[back][:, across],
        states=[(w[back], v[back], rho[back], f[across]) for w, v, rho, f in run.states],
    )


def turned(problem, ts, matrix):
    """Inputs and weights times an orthogonal matrix."""
    changed = problem | {"X": problem["X"] @ matrix, "w0": problem["w0"] @ matrix}
    run = product.run(changed, ts)
    return dataclasses.replace(
        run, states=[(w @ matrix.T, v, rho, f) for w, v, rho, f in run.states]
    )


def signed_permutation(random, features):
    """Return an orthogonal matrix with entries 0, 1, -1."""
    return np.eye(features)[random.permutation(features)] * random.choice([-1.0, 1.0], features)


def rotation(random, features):
    """Return a random orthogonal matrix."""
    return np.linalg.qr(random.normal(size=(features, features)))[0]


def scaled(problem, ts):
    """Larger inputs: weights are smaller, and time runs four times as fast."""
    both = problem["train"] == "both"
    changed = problem | {
        "X": problem["X"] * (4 if both else 2),
        "w0": problem["w0"] / 2,
        "v0": problem["v0"] / (2 if both else 1),
        "t_end": problem["t_end"] / 4,
    }
    run = product.run(changed, ts / 4)
    factor = 2.0 if both else 1.0
    return dataclasses.replace(
        run,
        events=[(4 * t, j, i, kind) for t, j, i, kind in run.events],
        states=[(2 * w, factor * v, rho, f) for w, v, rho, f in run.states],
    )


def split(problem, ts):
    """Two runs, the second from where the first ended; states at `ts` are of both.

    Returns the run, or `None` where the first ends on a hyperplane: then the second starts
    within rounding of one, which is another problem.
    """
    made, network = product.build(problem)
    half = 0.5 * (ts[2] + ts[3])
    ask = lambda times: jnp.asarray(np.append(np.zeros(6 - len(times)), times))
    first = rf.solve(made, network, half, ts=ask([*ts[:3], half]), rtol=1e-12, throw=False)
    run = product.read(problem, first)
    ends = np.array(run.initial_sides)
    for _, j, i, kind in run.events:
        ends[j, i] = AFTER[kind]
    z = run.states[-1][0] @ problem["X"].T
    if run.code or np.any(np.abs(z) < 1e-9 * np.linalg.norm(run.states[-1][0], axis=1)[:, None]):
        return None
    later = np.append(np.full(3, half), ts[3:])
    second = rf.solve(
        made,
        first.network,
        float(problem["t_end"]),
        t0=half,
        ts=jnp.asarray(later),
        rtol=1e-12,
        throw=False,
    )
    rest = product.read(problem, second)
    return dataclasses.replace(
        rest,
        events=run.events + rest.events,
        initial_sides=run.initial_sides,
        states=run.states[2:5] + rest.states[3:],
    )

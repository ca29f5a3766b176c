"""The same flow by general solvers: how long, how many steps, how wrong, which switches.

    pip install -e ".[app,peers]" && python benchmarks/peers.py --json benchmarks/peers.json

Ten samples of one teacher neuron, 25 neurons from a scale of 1e-3, square loss, to a loss of 1e-9:
the problem on which a researcher would compare this package with what there is. Each peer as its
manual recommends: compiled where it can be, Jacobians given to the implicit ones, every switch an
event where events are asked for (Diffrax and SciPy then start again there). Seconds are the best
of three runs after the first; the first, compilation included, is in the file too (of this package
as `compiled_seconds`: all its tolerances share one program). States and
switches are compared with relu_flow at rtol 1e-14. Compare ratios: it is one machine.
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)

import diffrax as dfx
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

import relu_flow as rf

SAMPLES, FEATURES, WIDTH, SCALE = 10, 10, 25, 1e-3
END = 4035.0  # where the loss, the mean of halves of squares, falls below 5e-10
REPEATS = 3


class Teacher:
    """The problem, as arrays, as a vector field, and as this package's own objects."""

    def __init__(self, seed: int = 0):
        random = np.random.default_rng(seed)
        teacher = random.normal(size=FEATURES)
        teacher /= np.linalg.norm(teacher)
        spread = 0.6 / np.sqrt(FEATURES)
        while True:
            inputs = teacher + spread * random.normal(size=(SAMPLES, FEATURES))
            if np.all(inputs @ teacher > np.sqrt(0.5) * np.linalg.norm(inputs, axis=1)):
                break
        self.inputs, self.targets = inputs, inputs @ teacher
        inner = random.normal(size=(WIDTH, FEATURES)) * SCALE / np.sqrt(WIDTH * FEATURES)
        outer = np.linalg.norm(inner, axis=1) * random.choice([-1.0, 1.0], WIDTH)
        self.start = np.concatenate([inner.ravel(), outer])
        self.problem = rf.Problem(inputs, self.targets, rf.SquareLoss(), "mean")
        self.network = rf.TwoLayerReLU(inner, outer)

    def field(self, t, state, xp=np):
        """Return the vector field, with the derivative of the ReLU at zero being zero."""
        inner, outer = state[: WIDTH * FEATURES].reshape(WIDTH, FEATURES), state[-WIDTH:]
        heights = inner @ self.inputs.T
        hidden = xp.maximum(heights, 0.0)
        pull = (self.targets - outer @ hidden) / SAMPLES
        turned = ((heights > 0) * (outer[:, None] * pull[None])) @ self.inputs
        return xp.concatenate([turned.ravel(), hidden @ pull])

    def heights(self, state):
        """Return the preactivations, whose zeros are the events."""
        return (state[: WIDTH * FEATURES].reshape(WIDTH, FEATURES) @ self.inputs.T).ravel()


class Outcome:
    """What a run came to.

    Attributes:
        state: Weights at the end.
        switches: Times of switches, `None` if they were not asked for.
        steps: Accepted steps.
        evaluations: Evaluations of the field, or expansions; `None` if not told.
    """

    def __init__(self, state, switches, steps, evaluations=None):
        self.state, self.switches = np.asarray(state), switches
        self.steps, self.evaluations = int(steps), evaluations


def extra(name: str) -> Any:
    """Return a module of a package that only the extra `peers` installs."""
    return importlib.import_module(name)


def by_relu_flow(task: Teacher, rtol: float) -> Outcome:
    """Solve by this package."""
    run = rf.solve(task.problem, task.network, END, rtol=rtol)
    network, num = run.network, int(run.switches.num)
    inner = np.exp(network.log_scale)[:, None] * network.inner_weight
    outer = np.exp(network.outer_log_scale) * network.outer_weight
    state = np.concatenate([np.asarray(inner).ravel(), np.asarray(outer)])
    times = np.asarray(run.switches.time[:num])
    return Outcome(state, times, run.stats["steps"], int(run.stats["evaluations"]))


def by_diffrax(task: Teacher, solver: dfx.AbstractSolver, rtol: float) -> Callable[[], Outcome]:
    """Return a solve by Diffrax that does not look for switches."""
    term = dfx.ODETerm(lambda t, y, args: task.field(t, y, jnp))

    @jax.jit
    def solve(start):
        return dfx.diffeqsolve(
            term, solver, 0.0, END, None, start, max_steps=10**6,
            stepsize_controller=dfx.PIDController(rtol=rtol, atol=1e-4 * rtol),
        )  # fmt: skip

    def run():
        solution = solve(jnp.asarray(task.start))
        assert solution.ys is not None
        return Outcome(solution.ys[-1], None, solution.stats["num_accepted_steps"])

    return run


def by_diffrax_with_events(task: Teacher, rtol: float) -> Callable[[], Outcome]:
    """Return a solve by Diffrax that ends at a change of the pattern and goes on behind it."""
    import optimistix as optx

    term = dfx.ODETerm(lambda t, y, args: task.field(t, y, jnp))
    controller = dfx.PIDController(rtol=rtol, atol=1e-4 * rtol)
    root = optx.Bisection(rtol=1e-12, atol=1e-14, flip="detect")

    @jax.jit
    def leg(t, state):
        # One condition for all: the product's sign changes when one preactivation's does.
        sides = jnp.sign(task.heights(state))
        nearest = lambda t, y, args, **kwargs: jnp.min(sides * task.heights(y))
        solution = dfx.diffeqsolve(
            term, dfx.Tsit5(), t, END, None, state, max_steps=10**6,
            stepsize_controller=controller, event=dfx.Event(nearest, root),
        )  # fmt: skip
        assert solution.ts is not None
        assert solution.ys is not None
        ended, there = solution.ts[-1], solution.ys[-1]
        # A little behind the event, so that it is not met again.
        beyond = there + 1e-9 * task.field(ended, there, jnp)
        return ended, there, beyond, solution.stats["num_accepted_steps"]

    def run():
        t, state, steps, switches = 0.0, jnp.asarray(task.start), 0, []
        while True:
            t, there, beyond, taken = leg(t, state)
            steps += int(taken)
            if t >= END:
                return Outcome(there, np.array(switches), steps)
            switches.append(float(t))
            t, state = t + 1e-9, beyond

    return run


def by_scipy(task: Teacher, method: str, rtol: float) -> Callable[[], Outcome]:
    """Return a solve by SciPy that does not look for switches."""
    jacobian = jax.jit(jax.jacfwd(lambda y: task.field(0.0, y, jnp)))
    implicit = method in ("LSODA", "Radau", "BDF")
    options: dict[str, Any] = {"jac": lambda t, y: np.asarray(jacobian(y))} if implicit else {}

    def run():
        solution = solve_ivp(
            task.field, (0.0, END), task.start, method, rtol=rtol, atol=1e-4 * rtol, **options
        )
        return Outcome(solution.y[:, -1], None, solution.t.size - 1, solution.nfev)

    return run


def by_cvode(task: Teacher, rtol: float, events: bool) -> Callable[[], Outcome]:
    """Return a solve by CVODE's BDF, starting again at switches if they are asked for."""
    cvode = extra("sksundae.cvode")

    jacobian = jax.jit(jax.jacfwd(lambda y: task.field(0.0, y, jnp)))

    def field(t, y, yp):
        yp[:] = task.field(t, y)

    def jac(t, y, yp, out):
        del t, yp
        out[:] = np.asarray(jacobian(y))

    def crossings(t, y, out):
        del t
        out[:] = task.heights(y)

    options = {"rtol": rtol, "atol": 1e-4 * rtol, "jacfn": jac, "max_num_steps": 10**6}
    if events:
        options |= {"eventsfn": crossings, "num_events": WIDTH * SAMPLES}

    def run():
        t, state, steps, evaluations, switches = 0.0, task.start.copy(), 0, 0, []
        while True:
            solution = cvode.CVODE(field, **options).solve(np.array([t, END]), state)
            evaluations += solution.nfev
            steps += solution.t.size - 1
            if solution.t_events is None or solution.t[-1] >= END:
                seen = np.array(switches) if events else None
                return Outcome(solution.y[-1], seen, steps, evaluations)
            t, state = solution.t[-1], solution.y[-1]
            switches.append(t)
            state = state + 1e-9 * task.field(t, state)
            t += 1e-9

    return run


def by_heyoka(task: Teacher, tolerance: float, events: bool) -> Callable[[], Outcome]:
    """Return a solve by heyoka's Taylor series, each step ending at an event if they are asked for.

    Their cooldown is given: that deduced is zero for some, and the same event comes for ever.
    """
    hy = extra("heyoka")

    names = [hy.make_vars(f"s{k}") for k in range(task.start.size)]
    inner = np.array(names[: WIDTH * FEATURES], object).reshape(WIDTH, FEATURES)
    outer = names[-WIDTH:]
    total = lambda parts: hy.sum(list(parts))
    heights = [[total(w * x for w, x in zip(row, xs, strict=True)) for xs in task.inputs]
               for row in inner]  # fmt: skip
    outputs = [total(outer[j] * hy.relu(heights[j][i]) for j in range(WIDTH))
               for i in range(SAMPLES)]  # fmt: skip
    pull = [(y - f) / SAMPLES for y, f in zip(task.targets, outputs, strict=True)]
    rates = [
        outer[j] * total(hy.relup(heights[j][i]) * pull[i] * task.inputs[i, d]
                         for i in range(SAMPLES))
        for j in range(WIDTH) for d in range(FEATURES)
    ]  # fmt: skip
    rates += [total(hy.relu(heights[j][i]) * pull[i] for i in range(SAMPLES))
              for j in range(WIDTH)]  # fmt: skip
    switches: list[float] = []

    def met(ta, sign):
        del sign
        switches.append(ta.time)
        ta.state[:] += 1e-9 * task.field(ta.time, ta.state)
        return True

    options = {}
    if events:
        options["t_events"] = [hy.t_event(height, callback=met, cooldown=1e-9) for row in heights
                               for height in row]  # fmt: skip
    system = list(zip(names, rates, strict=True))
    solver = hy.taylor_adaptive(
        system, task.start.tolist(), tol=tolerance, compact_mode=True, **options
    )

    def run():
        switches.clear()
        solver.time = 0.0
        solver.state[:] = task.start
        if events:
            solver.reset_cooldowns()
        _, _, _, steps, *_ = solver.propagate_until(END)
        seen = np.sort(switches) if events else None
        return Outcome(solver.state.copy(), seen, steps, steps)

    return run


def by_descent(task: Teacher, rate: float) -> Callable[[], Outcome]:
    """Return gradient descent in JAX, as long as the flow."""
    steps = round(END / rate)
    step = lambda _, state: state + rate * task.field(0.0, state, jnp)
    descend = jax.jit(lambda state: jax.lax.fori_loop(0, steps, step, state))
    return lambda: Outcome(descend(jnp.asarray(task.start)), None, steps, steps)


def rows(task: Teacher, quick: bool) -> dict[str, Callable[[], Callable[[], Outcome]]]:
    """Return who is compared: a name, and what makes a solve."""
    chosen = {
        "relu_flow, rtol 1e-7": lambda: lambda: by_relu_flow(task, 1e-7),
        "relu_flow, rtol 1e-8": lambda: lambda: by_relu_flow(task, 1e-8),
        "relu_flow, rtol 1e-12": lambda: lambda: by_relu_flow(task, 1e-12),
        "Diffrax Tsit5, rtol 1e-6": lambda: by_diffrax(task, dfx.Tsit5(), 1e-6),
    }
    if quick:
        return chosen
    return chosen | {
        "Diffrax Dopri8, rtol 1e-10": lambda: by_diffrax(task, dfx.Dopri8(), 1e-10),
        "Diffrax Kvaerno5, rtol 1e-6": lambda: by_diffrax(task, dfx.Kvaerno5(), 1e-6),
        "Diffrax Tsit5, rtol 1e-8, events": lambda: by_diffrax_with_events(task, 1e-8),
        "SciPy DOP853, rtol 1e-8": lambda: by_scipy(task, "DOP853", 1e-8),
        "SciPy LSODA, rtol 1e-8": lambda: by_scipy(task, "LSODA", 1e-8),
        "CVODE BDF, rtol 1e-8": lambda: by_cvode(task, 1e-8, False),
        "CVODE BDF, rtol 1e-8, events": lambda: by_cvode(task, 1e-8, True),
        "heyoka, tol 1e-15": lambda: by_heyoka(task, 1e-15, False),
        "heyoka, tol 1e-15, events": lambda: by_heyoka(task, 1e-15, True),
        "gradient descent, rate 0.1": lambda: by_descent(task, 0.1),
        "gradient descent, rate 0.01": lambda: by_descent(task, 0.01),
    }


def measure(make: Callable[[], Callable[[], Outcome]], exact: Outcome) -> dict:
    """Return seconds, counts and errors of one who is compared."""
    began = time.perf_counter()
    run = make()
    outcome = run()
    first, times = time.perf_counter() - began, []
    for _ in range(REPEATS):
        began = time.perf_counter()
        outcome = run()
        times.append(time.perf_counter() - began)
    error = np.max(np.abs(outcome.state - exact.state)) / np.max(np.abs(exact.state))
    found, late = None, None
    if outcome.switches is not None:
        found = len(outcome.switches)
        if found == len(exact.switches):
            late = float(np.max(np.abs(outcome.switches / exact.switches - 1)))
    return {
        "seconds": min(times), "first_seconds": first, "steps": outcome.steps,
        "evaluations": outcome.evaluations, "error": float(error), "switches": found,
        "switch_error": late,
    }  # fmt: skip


def versions() -> dict[str, str]:
    """Return what was compared."""
    known = {}
    for name in ("jax", "diffrax", "scipy", "heyoka", "scikit-sundae"):
        try:
            known[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            known[name] = "not installed"
    return known


def main() -> None:
    """Compare, print a table, and keep the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="without what needs the extra peers")
    parser.add_argument("--only", help="only those whose name contains this")
    parser.add_argument("--json", type=Path, help="file for the figures")
    asked = parser.parse_args()
    task = Teacher()
    began = time.perf_counter()
    exact = by_relu_flow(task, 1e-14)
    figures = {
        "versions": versions(), "device": jax.default_backend(), "cores": os.cpu_count(),
        "end": END, "switches": len(exact.switches),
        # One program for every tolerance.
        "compiled_seconds": time.perf_counter() - began, "runs": {},
    }  # fmt: skip
    print(f"{'':34}{'seconds':>9}{'first':>8}{'steps':>9}{'error':>9}{'switches':>10}{'late':>9}")
    for name, make in rows(task, asked.quick).items():
        if asked.only and asked.only not in name:
            continue
        try:
            got = measure(make, exact)
        except ImportError as error:
            print(f"{name:34}{error}")
            continue
        figures["runs"][name] = got
        number = lambda value, form: "-" if value is None else format(value, form)
        print(
            f"{name:34}{got['seconds']:9.3f}{got['first_seconds']:8.1f}{got['steps']:9}"
            f"{got['error']:9.0e}{number(got['switches'], '10'):>10}"
            f"{number(got['switch_error'], '9.0e'):>9}", flush=True,
        )  # fmt: skip
    if asked.json is not None:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()

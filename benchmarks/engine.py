"""What the engine costs: steps, seconds, compile time, the cache, batches, the digits run.

`python benchmarks/engine.py` prints a table; `--quick` leaves out what takes long, `--json FILE`
keeps the single runs' figures; `python benchmarks/readme.py` makes the README's table from
`benchmarks/engine.json`. Times are medians of single runs once compiled, on the machine it runs
on: compare ratios. One thread is faster than two for arrays this small: set `PJRT_NPROC=1`
before the start to see it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np

import relu_flow as rf

SAMPLES, FEATURES, WIDTH, END = 20, 10, 50, 4.0
FINEST = 1e-14  # errors are differences to a run with this `rtol`
COUNTS = ("steps", "evaluations", "rounds", "switches")


def separable_problem(
    seed: int, samples: int = SAMPLES, features: int = FEATURES, width: int = WIDTH
) -> tuple[rf.Problem, rf.TwoLayerReLU]:
    """Return orthogonally separable data of unit norm and a balanced Gaussian network."""
    random = np.random.default_rng(seed)
    axis = random.normal(size=features)
    axis /= np.linalg.norm(axis)
    across = random.normal(size=(samples, features))
    across -= np.outer(across @ axis, axis)
    across /= np.linalg.norm(across, axis=1)[:, None]
    targets = np.where(np.arange(samples) % 2 == 0, 1.0, -1.0)
    inputs = targets[:, None] * (axis + 0.75 * across)
    inputs /= np.linalg.norm(inputs, axis=1)[:, None]
    inner = random.normal(size=(width, features)) / np.sqrt(features)
    signs = np.where(random.random(width) < 0.5, 1, -1)
    return rf.Problem(inputs, targets), rf.TwoLayerReLU(
        inner, np.linalg.norm(inner, axis=1) * signs
    )


def at_scale(network: rf.TwoLayerReLU, scale: float) -> rf.TwoLayerReLU:
    """Return the network at another scale."""
    return rf.TwoLayerReLU(network.inner_weight, network.outer_weight, np.log(scale))


def median_seconds(function, repeats: int = 9) -> float:
    """Return the median time of a call, its result waited for."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def largest_difference(times: rf.SwitchLog, exact: rf.SwitchLog) -> float:
    """Return the largest relative difference of switch times, `nan` if the logs differ."""
    same = [
        np.array_equal(getattr(times, name), getattr(exact, name))
        for name in ("neuron", "sample", "kind")
    ]
    if not all(same):
        return float("nan")
    at, wanted = (np.asarray(log.time)[: int(log.num)] for log in (times, exact))
    return float(np.max(np.abs(at / wanted - 1), initial=0.0))


def single_runs() -> dict:
    """Print and return steps, switches, errors and seconds of the reference problem."""
    problem, network = separable_problem(0)
    start = time.perf_counter()
    jax.block_until_ready(rf.solve(problem, at_scale(network, 1e-4), END).ts)
    first = time.perf_counter() - start
    print(f"first call (compile and run)      {first:8.2f} s  (goal 8)")
    rows = []
    for scale, goal in ((1e-4, 150), (1e-8, 80)):
        start_network = at_scale(network, scale)
        exact = rf.solve(problem, start_network, END, rtol=FINEST)
        for rtol in (1e-12, 1e-6):
            trajectory = rf.solve(problem, start_network, END, rtol=rtol)
            row = {
                "scale": scale,
                "rtol": rtol,
                **{name: int(trajectory.stats[name]) for name in COUNTS},
                "error": largest_difference(trajectory.switches, exact.switches),
                "seconds": median_seconds(
                    lambda n=start_network, r=rtol: rf.solve(problem, n, END, rtol=r).ts
                ),
            }
            rows.append(row)
            print(
                f"scale {scale:g}, rtol {rtol:g}: {row['steps']} steps, {row['evaluations']} "
                f"expansions (goal {goal}), {row['rounds']} local rounds, {row['switches']} "
                f"switches within {row['error']:.1e} of those at rtol {FINEST:g}, "
                f"{row['seconds']:.3f} s a run (goal 0.1)"
            )
    return {**machine(), "first_call_seconds": first, "runs": rows}


def machine() -> dict:
    """Return what the times depend on."""
    device = jax.devices()[0].device_kind
    return {"jax": jax.__version__, "device": device, "cores": os.cpu_count(), "end": END}


def batches(seeds: int) -> None:
    """Print seconds a run, one at a time, in `lax.map`, and in `vmap`."""
    problem, _ = separable_problem(0)
    networks = [at_scale(separable_problem(seed)[1], 1e-4) for seed in range(seeds)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *networks)
    solve_end = lambda network: rf.solve(problem, network, END).ts
    mapped = jax.jit(lambda batch: jax.lax.map(solve_end, batch))
    vmapped = jax.jit(jax.vmap(solve_end))
    one_by_one = lambda: [solve_end(network) for network in networks]
    print(f"{seeds} seeds, seconds a run:")
    for name, function in (
        ("one at a time", one_by_one),
        ("lax.map", lambda: mapped(stacked)),
        ("vmap", lambda: vmapped(stacked)),
    ):
        jax.block_until_ready(function())
        print(f"  {name:<16}{median_seconds(function, 3) / seeds:.4f}")


def command_line() -> None:
    """Print how long the digits command takes in a first and in a second process."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        for name in ("first process", "second process (cached)"):
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "relu_flow.app.cli", "digits", "--quiet", "--out", folder],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            compiling = next(line for line in done.stdout.splitlines() if "compiling" in line)
            print(f"digits, {name}: {time.perf_counter() - start:.1f} s; {compiling.strip()}")


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="single runs only")
    parser.add_argument("--json", type=Path, help="where to keep the single runs' figures")
    chosen = parser.parse_args()
    on = machine()
    print(f"jax {on['jax']}, {on['device']}, {on['cores']} cores, float64")
    figures = single_runs()
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n")
    if not chosen.quick:
        batches(64)
        command_line()


if __name__ == "__main__":
    main()

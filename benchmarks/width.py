"""How time grows with width: steps do not, switches do.

`python benchmarks/width.py` prints a table of orthogonally separable data at a small scale while
neurons align, `--json FILE` keeps it, `--quick` leaves out the widest; `python
benchmarks/readme.py` makes the README's table from `benchmarks/width.json`.
"""

import argparse
import json
import time
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np
from engine import COUNTS, at_scale, machine, separable_problem

import relu_flow as rf

SAMPLES, FEATURES, SCALE, END = 100, 50, 1e-6, 0.3
WIDTHS = (100, 300, 1000)


def runs(widths: tuple[int, ...]) -> list[dict]:
    """Print and return what runs of several widths take, once compiled."""
    rows = []
    for width in widths:
        problem, network = separable_problem(0, SAMPLES, FEATURES, width)
        network = at_scale(network, SCALE)

        def run(problem=problem, network=network, width=width):
            return rf.solve(problem, network, END, max_switches=70 * width)

        seconds = []
        for _ in range(4):
            start = time.perf_counter()
            jax.block_until_ready(run().ts)
            seconds.append(time.perf_counter() - start)
        first, *later = seconds
        stats = run().stats
        row = {
            "width": width,
            **{name: int(stats[name]) for name in COUNTS},
            "seconds": min(later),
            "first_call_seconds": first,
        }
        rows.append(row)
        print(
            f"width {width}: {row['steps']} steps, {row['evaluations']} expansions, "
            f"{row['switches']} switches in {row['rounds']} rounds, {row['seconds']:.2f} s "
            f"(first call {first:.1f} s)"
        )
    return rows


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="without the widest")
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    chosen = parser.parse_args()
    rows = runs(WIDTHS[:-1] if chosen.quick else WIDTHS)
    switches, seconds = (np.log([row[name] for row in rows]) for name in ("switches", "seconds"))
    slope = float(np.polyfit(switches, seconds, 1)[0])
    print(f"seconds grow with the number of switches to the power {slope:.2f}")
    if chosen.json:
        figures = {**machine(), "end": END, "slope": slope, "runs": rows}
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()

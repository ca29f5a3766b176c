"""Many drawn problems, one line of JSON each, and the table of what came of them."""

import itertools
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np

from . import compare, draws, invariants, product

POINTS = 6
WORDS = ("right", "refused", "wrong")


def cases(count, kinds=draws.KINDS, losses=draws.LOSSES, trains=draws.TRAINS, reductions=("sum",)):
    """Yield `count` cases (kind, seed, loss, train, reduction), all kinds of one seed together."""
    every = (
        (kind, seed, loss, train, reduction)
        for seed in itertools.count()
        for train in trains
        for loss in losses
        for reduction in reductions
        for kind in kinds
    )
    return itertools.islice(every, count)


def times(problem):
    """Return the times at which the states of a problem are compared."""
    return problem["t_end"] * np.arange(1, POINTS + 1) / POINTS


def examine(case, rtol=1e-12):
    """Return what came of one case, as a dictionary that can be written as JSON."""
    problem = draws.draw(*case)
    ts = times(problem)
    began = time.perf_counter()
    run = product.run(problem, ts, rtol)
    middle = time.perf_counter()
    verdict = compare.judge(problem, run, ts)
    broken = list(invariants.violations(problem, run, ts))
    return {
        "case": list(case),
        "word": "wrong" if broken else verdict.word,
        "until": verdict.until if np.isfinite(verdict.until) else None,
        "reason": verdict.reason,
        "code": run.code[:80],
        "differences": (broken + verdict.differences)[:4],
        "seconds": [round(middle - began, 4), round(time.perf_counter() - middle, 4)],
    }


def read(path):
    """Return the lines of a campaign's file; a last line that was cut off does not count."""
    path, lines = Path(path), []
    if path.exists():
        for text in path.read_text().splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                continue
    return lines


def run(wanted, path, seconds=np.inf, say=None):
    """Examine the cases that `path` does not have yet, appending each as it is done."""
    done = {tuple(line["case"]) for line in read(path)}
    began = time.monotonic()
    with Path(path).open("a") as file:
        file.write("\n" if done else "")  # ends a line that was cut off
        for case in wanted:
            if tuple(case) in done:
                continue
            if time.monotonic() - began > seconds:
                break
            line = examine(case)
            file.write(json.dumps(line) + "\n")
            file.flush()
            if say is not None and line["word"] == "wrong":
                say(" ".join(map(str, case)) + ": " + "; ".join(line["differences"][:2]))


def table(lines):
    """Return a table in Markdown: kinds down, losses and layers across; right/refused/wrong."""
    counts = Counter()
    for line in lines:
        kind, _, loss, train, _ = line["case"]
        for key in ((kind, loss, train), ("all", loss, train)):
            counts[*key, line["word"]] += 1
    columns = list(itertools.product(draws.LOSSES, draws.TRAINS))
    rows = ["| kind | " + " | ".join(f"{loss}, {train}" for loss, train in columns) + " |"]
    rows.append("| --- " * (len(columns) + 1) + "|")
    for kind in (*draws.KINDS, "all"):
        cells = [" / ".join(str(counts[kind, *c, word]) for word in WORDS) for c in columns]
        rows.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(rows)

"""Where a run differs from the independent solver's, and whether that is a true difference.

A difference counts only if the independent solver does the same up to there with other nodes,
from starts moved by `MOVE` of themselves, and with every step's end moved by rounding: what such
moves shift a switch or a state by tells how well it is determined, and adds to what float64 is
allowed. Moved starts alone would not do: a pull of 1e-16 beside a fit is rounding made on the way.
"""

from dataclasses import dataclass, field

import numpy as np

from .solver import solve

AFTER = {
    "activate": 1,
    "deactivate": 0,
    "slide_enter": 2,
    "slide_exit_active": 1,
    "slide_exit_inactive": 0,
}
FLOOR, MOVE = 1e-9, 1e-9
SHARE = 1e-2  # of what moved starts shift: a run may be off as if its start were off by 1e-11
TIED = 1e-10
MOVES = 3
AT_REST = 1e-5  # a run at rest resolves what decays to a billionth of that


@dataclass
class Verdict:
    """What came of a comparison.

    `word` is "right", "refused" (the independent solver knows no part of the course after
    `until`, and the run agrees up to there) or "wrong", with the `differences`.
    """

    word: str
    until: float
    reason: str = ""
    differences: list = field(default_factory=list)


def paths(events, sides, until=np.inf):
    """Return for each pair its list of (time, side from then on), what is instantaneous merged."""
    found = {}
    for time, j, i, kind in sorted(events, key=lambda event: event[0]):
        path = found.setdefault((j, i), [])
        if path and abs(time - path[-1][0]) <= TIED * abs(time):
            path.pop()
        path.append((time, AFTER[kind]))
    for pair, path in found.items():
        side, kept = sides[pair], []
        for time, new in path:
            if new != side and time < until:
                kept.append((time, new))
            side = new
        found[pair] = kept
    return {pair: path for pair, path in found.items() if path}


def judge(problem, run, ts, solution=None):
    """Return the `Verdict` on a run of a drawn problem with states at `ts`."""
    solution = solve(problem, ts) if solution is None else solution
    until = _horizon(solution)
    found = differences(problem, solution, run, ts, until)
    if found:
        until, slack = confirmed(problem, solution, ts, until)
        found = differences(problem, solution, run, ts, until, slack)
    if found:
        return Verdict("wrong", until, solution.reason, found)
    return Verdict("right" if until == np.inf else "refused", until, solution.reason)


def _horizon(solution):
    return solution.valid * (1 - 1e-9) if solution.reason else np.inf


def differences(problem, solution, run, ts, until, slack=None):
    """Return lines that say where a run differs before `until`."""
    if solution.initial_sides is None or until <= 0:
        return []
    slack = slack or {}
    present = np.any(problem["w0"] != 0, axis=1)
    lines = []
    start = np.array(run.initial_sides)
    for time, j, i, kind in run.events:
        if time == 0:  # a side that the first instant corrects
            start[j, i] = AFTER[kind]
    if np.any(start[present] != solution.initial_sides[present]):
        return [f"start: {start.tolist()} for {solution.initial_sides.tolist()}"]
    if run.code and until == np.inf:
        lines.append(f"code: {run.code[:60]}")
    ends = _last_times(solution, until)
    theirs, ours = (_kept(paths(x.events, solution.initial_sides), ends) for x in (solution, run))
    for pair in sorted(set(theirs) | set(ours)):
        lines += _pair_lines(pair, theirs.get(pair, []), ours.get(pair, []), ends, slack)
    if run.code and until < np.inf:
        return lines  # states after an early end are those of the end
    return lines + _state_lines(problem, solution, run, ts, until, slack)


def _last_times(solution, until):
    """Return for each neuron until when its switches are compared."""
    last = np.full(len(solution.initial_sides), until)
    for j, time in solution.vanished.items():
        last[j] = min(last[j], time * (1 - 1e-7))
    return last


def _kept(found, ends):
    kept = {pair: [s for s in path if s[0] < ends[pair[0]]] for pair, path in found.items()}
    return {pair: path for pair, path in kept.items() if path}


def _pair_lines(pair, theirs, ours, ends, slack):
    """Compare two lists of (time, side); a switch at the very end of the known may be missing."""
    lines = []
    for k in range(max(len(theirs), len(ours))):
        have, want = (path[k] if k < len(path) else None for path in (ours, theirs))
        allowed = lambda time, k=k: FLOOR * abs(time) + slack.get((*pair, k), 0.0)
        if have is None or want is None:
            known = have or want
            assert known
            time = known[0]
            if time < ends[pair[0]] - 2 * allowed(time):
                lines.append(f"pair {pair}: {'missed' if have is None else 'extra'} {known}")
                break
        elif have[1] != want[1]:
            lines.append(f"pair {pair}: {have} for {want}")
            break
        elif abs(have[0] - want[0]) > allowed(want[0]):
            lines.append(f"pair {pair}: time {have[0]!r} for {want[0]!r}")
            break
    return lines


def resolved(problem, state):
    """Return the inner weights below which a run at rest knows no digits, in the state's units."""
    w, v, log_scale, _ = state
    if problem["train"] == "both":
        return AT_REST * np.abs(v)
    # Those whose outputs the smallest target does not feel.
    targets = np.abs(problem["y"][problem["y"] != 0])
    if not targets.size:
        return np.zeros(len(w))
    per_output = np.max(np.linalg.norm(problem["X"], axis=1)) * np.where(v != 0, np.abs(v), 1.0)
    return np.exp(np.minimum(np.log(AT_REST * targets.min() / per_output) - 2 * log_scale, 600.0))


def measures(state, least: float | np.ndarray = 0.0):
    """Return what states are compared in, inner weights being at least so large."""
    w, v, log_scale, outputs = state
    norm = np.linalg.norm(w, axis=1)
    norm = np.where(norm > 0, np.maximum(norm, least), 0.0)
    safe = np.where(norm > 0, norm, 1.0)
    return {
        "log norm": np.where(norm > 0, np.log(safe) + log_scale, 0.0),
        "direction": w / safe[:, None],
        "ratio": v / safe / np.maximum(1, np.abs(v / safe)),
        "outputs": outputs,
    }


def plain(problem, state):
    """Return a state of the independent solver in the form of a run's."""
    w, v, exponent, outputs = state
    return w, v, problem["log_scale"] + exponent * np.log(2), outputs


def _state_lines(problem, solution, run, ts, until, slack):
    lines = []
    for k, (state, time) in enumerate(zip(solution.states, ts, strict=False)):
        if time >= until:
            break
        settled = np.inf if run.trajectory is None else float(run.trajectory.stats["settled"])
        both = plain(problem, state), run.states[k]
        least = (resolved(problem, x) if time > settled else 0.0 for x in both)
        want, have = (measures(x, smallest) for x, smallest in zip(both, least, strict=True))
        gone = [j for j, when in solution.vanished.items() if when <= time * (1 + 1e-9)]
        for name in want:
            gap = np.abs(want[name] - have[name])
            if name != "outputs":
                gap[gone] = 0.0
            gap = float(np.max(gap))
            allowed = 10 * FLOOR * max(1.0, float(np.max(np.abs(want["outputs"])))) + slack.get(
                (k, name), 0.0
            )
            if not gap <= allowed:  # nor if it is not a number
                lines.append(f"state at {time:.6g}: {name} off by {gap:.1e}, allowed {allowed:.1e}")
    return lines


def moved(problem, seed):
    """Return a problem whose start is moved by `MOVE` of itself, but not off a hyperplane."""
    random = np.random.default_rng(seed)
    w, v = np.array(problem["w0"], float), np.array(problem["v0"], float)
    shift = MOVE * np.linalg.norm(w, axis=1)[:, None] * random.uniform(-1, 1, size=w.shape)
    shift[np.any(w @ problem["X"].T == 0, axis=1)] = 0.0
    v = v * (1 + MOVE * random.uniform(-1, 1, size=v.shape))
    new = {**problem, "w0": w + shift, "v0": v}
    if problem["loss"] == "square":
        new["y"] = problem["y"] * (1 + MOVE * random.uniform(-1, 1, size=problem["y"].shape))
    return new


def confirmed(problem, solution, ts, until):
    """Return until when a solution is stable, and how far its switches and states may be off."""
    slack = {}
    others = [(solve(problem, ts, nodes=21, tolerance=2e-15), FLOOR, SHARE)]
    others += [(solve(moved(problem, seed), ts), 1e-3, SHARE) for seed in range(MOVES)]
    others += [(solve(problem, ts, shaken=seed), 1e-3, 1.0) for seed in range(MOVES)]
    for other, most, share in others:
        until = min(until, _horizon(other), _parting(solution, other, most, share, slack))
        _add_state_slack(problem, solution, other, share, slack)
    return until, slack


def _parting(solution, other, most, share, slack):
    """Return when two solutions part; `share` of what their switches differ by is `slack`."""
    if other.initial_sides is None or np.any(solution.initial_sides != other.initial_sides):
        return 0.0
    parting = np.inf
    left, right = (paths(x.events, solution.initial_sides) for x in (solution, other))
    for pair in set(left) | set(right):
        ours, theirs = left.get(pair, []), right.get(pair, [])
        for k in range(max(len(ours), len(theirs))):
            here = [path[k] for path in (ours, theirs) if k < len(path)]
            gap = abs(here[0][0] - here[-1][0])
            if len(here) < 2 or here[0][1] != here[1][1] or gap > most * here[0][0]:
                parting = min(parting, *(time for time, _ in here))
                break
            slack[*pair, k] = max(slack.get((*pair, k), 0.0), share * gap)
    return parting * (1 - 1e-6)


def _add_state_slack(problem, solution, other, share, slack):
    for k, (one, two) in enumerate(zip(solution.states, other.states, strict=False)):
        left, right = (measures(plain(problem, x)) for x in (one, two))
        for name in left:
            gap = share * float(np.max(np.abs(left[name] - right[name])))
            slack[k, name] = max(slack.get((k, name), 0.0), gap)

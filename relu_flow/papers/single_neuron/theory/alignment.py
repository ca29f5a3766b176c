"""The first phase of learning a single neuron: neurons turn while nothing is learnt.

Each function here compares a run with one statement; `single_neuron.claims` collects them.

Source:
    Chistikov, Englert, Lazić (2023), section 4 and appendix D.
"""

import itertools
import math
from collections.abc import Iterator

import numpy as np

from ....claims.verdict import Comparison
from .measured import Measured, log_beyond

_ALL_SUBSETS = 10  # up to so many samples every set of them is tried


def switch_times(record: Measured) -> Iterator[Comparison]:
    r"""Lemma 3: $|\tau_j^\ell - t_j^\ell| \le \lambda^{1-(1+(3\ell-1)/(3n_j))\varepsilon}$.

    One comparison for each $\ell$: that of the neuron with the least slack. A crossing
    that the run lacks counts as infinitely late.

    Source:
        Chistikov, Englert, Lazić (2023), Lemma 3(iii).
    """
    found, end = record.found, record.evidence.end
    rows: dict[int, list[tuple[float, float, int]]] = {}
    for j in np.flatnonzero(found.growing | found.shrinking):
        taus = found.yardsticks[j].times
        seen = [t for t, _ in record.crossings[j]]
        for count, tau in enumerate(taus, 1):
            power = 1 - (1 + (3 * count - 1) / (3 * max(found.crossings[j], 1))) * found.eps
            bound = power * found.log_lambda
            if count <= len(seen):
                off = abs(tau - seen[count - 1])
                measured = log_beyond(off, record.resolution * (1 + tau))
            else:
                measured = math.inf if end > tau + math.exp(min(bound, 0.0)) else math.nan
            rows.setdefault(count, []).append((measured, bound, int(j)))
    for count, found_here in sorted(rows.items()):
        # Unreached ones come first, then the least slack.
        order = lambda row: (not math.isnan(row[0]), row[1] - row[0])
        measured, bound, j = min(found_here, key=order)
        name = f"|tau - t| of crossing {count}, worst neuron {j}"
        yield Comparison(name, measured, "<=", bound, log=True)


def switch_order(record: Measured) -> Iterator[Comparison]:
    """Lemma 3: every neuron crosses the hyperplanes of its yardstick, in that order, no more.

    Source:
        Chistikov, Englert, Lazić (2023), Lemma 3(i) and (ii), and Lemmas 4, 23 and 28 for what
        comes after.
    """
    found = record.found
    reached = record.evidence.end >= found.crossing_end
    wrong = sum(
        tuple(i for _, i in seen) != path.samples
        for seen, path in zip(record.crossings, found.yardsticks, strict=True)
    )
    counted = sum(len(seen) for seen in record.crossings)
    expected = int(np.sum(found.crossings))
    unless = lambda value: float(value) if reached else math.nan
    yield Comparison("neurons that cross otherwise", unless(wrong), "==", 0.0)
    yield Comparison("switches in all", unless(counted), "==", float(expected))


def shrinking_rest(record: Measured) -> Iterator[Comparison]:
    r"""Lemma 4: from $T_0$ on neurons of $J_-$ rest, active nowhere, at most $\lambda\|z_j\|$.

    Source:
        Chistikov, Englert, Lazić (2023), Lemma 4 and the sentence before it.
    """
    found = record.found
    who = found.shrinking
    times = record.span(found.crossing_end, record.evidence.end)
    if not np.any(who):
        return
    if not times:
        yield Comparison("motion of shrinking neurons", math.nan, "<=", 0.0)
        return
    first = record.at(times[0])
    motion, active, norm = 0.0, 0, -math.inf
    size = found.log_lambda + np.log(np.linalg.norm(found.start[who], axis=1))
    for t in times:
        shot = record.at(t)
        turned = np.linalg.norm(shot.direction[who] - first.direction[who], axis=1)
        grown = np.abs(shot.log_norm[who] - first.log_norm[who])
        motion = max(motion, float(np.max(turned)), float(np.max(grown)))
        active = max(active, int(np.sum(shot.active[who])))
        norm = max(norm, float(np.max(shot.log_norm[who] - size)))
    resolution = record.resolution
    yield Comparison("motion of shrinking neurons", motion, "<=", 0.0, resolution)
    yield Comparison("samples they are active on", float(active), "==", 0.0)
    yield Comparison("their norm by lambda |z|", norm, "<=", 0.0, resolution, log=True)


def aligned(record: Measured) -> Iterator[Comparison]:
    r"""Lemma 5: where neurons of $J_+$ are at $T_1$.

    Their norms are below $2\|z_j\|\lambda^{1-\varepsilon}$, the cosines to $\gamma_{[n]}$ at
    least $1 - \lambda^\varepsilon$, and norms are the yardstick's up to $\lambda^{1-3\varepsilon}$
    in the logarithm.

    Source:
        Chistikov, Englert, Lazić (2023), Lemma 5.
    """
    found, end = record.found, record.evidence.end
    t, who = found.alignment_end, np.flatnonzero(found.growing)
    norm = away = ratio = math.nan
    if 0 <= t <= end and len(who):
        shot = record.at(t)
        size = np.log(2 * np.linalg.norm(found.start[who], axis=1))
        norm = float(np.max(shot.log_norm[who] - size))
        chord = np.linalg.norm(shot.direction[who] - found.gamma / found.gamma_norm, axis=1)
        away = log_beyond(float(np.max(chord)) ** 2 / 2, record.resolution**2)
        paths = np.array([found.yardsticks[j].log_norm(t) for j in who])
        off = np.max(np.abs(paths + found.log_lambda - shot.log_norm[who]))
        ratio = log_beyond(float(off), record.resolution * (1 + found.gamma_norm * t))
    scale, eps = found.log_lambda, found.eps
    yield Comparison("|w|/(2|z|) at T1", norm, "<=", (1 - eps) * scale, log=True)
    yield Comparison("1 - cos(w, gamma) at T1", away, "<=", eps * scale, log=True)
    yield Comparison("|ln|alpha| - ln|w/lambda||", ratio, "<=", (1 - 3 * eps) * scale, log=True)


def data_bounds(record: Measured) -> Iterator[Comparison]:
    r"""Proposition 17: eigenvalues, $\gamma_I$, crossing times by $\delta$ and $\Delta$.

    Source:
        Chistikov, Englert, Lazić (2023), Proposition 17(i), (ii), (iii) and (vi).
    """
    found, n = record.found, record.found.samples
    delta, top = found.delta, found.capital_delta
    ratio = found.eigenvalue[1:] / found.eigenvalue[:-1]
    gap = (1 - delta / (max(found.features - 1, 1) * top)) ** 2
    low, high = math.inf, -math.inf
    for chosen in _subsets(record):
        size = float(np.linalg.norm(found.targets[chosen] @ found.inputs[chosen])) / n
        low, high = min(low, size * n / len(chosen)), max(high, size * n / len(chosen))
    last = max((float(y.times[-1]) for y in found.yardsticks if len(y.times)), default=0.0)
    lower = max(delta, 0.0)
    late = 4 * n * math.log(n) / delta**3 if delta > 0 else math.inf
    rounding = 1e-12
    yield Comparison("largest eigenvalue", float(found.eigenvalue[0]), "<=", top**2, rounding)
    yield Comparison("ratio of eigenvalues", float(np.max(ratio, initial=0)), "<=", gap, rounding)
    yield Comparison("n |gamma_I|/|I|, least", low, ">=", lower**2.5 / math.sqrt(2), rounding)
    yield Comparison("n |gamma_I|/|I|, largest", high, "<=", top**2, rounding)
    yield Comparison("|gamma_[n]|", found.gamma_norm, ">=", lower**2, rounding)
    yield Comparison("last crossing of a yardstick", last, "<=", late, rounding)


def _subsets(record: Measured) -> list[list[int]]:
    """Return all sets of samples if they are few, else those on which yardsticks are active."""
    n = record.found.samples
    if n <= _ALL_SUBSETS:
        sizes = range(1, n + 1)
        return [list(s) for k in sizes for s in itertools.combinations(range(n), k)]
    stages = (stage for path in record.found.yardsticks for stage in path.stages)
    sets = {tuple(np.flatnonzero(stage.active).tolist()) for stage in stages}
    return [list(s) for s in sets | {tuple(range(n))} if s]


def early_crossings(record: Measured) -> Iterator[Comparison]:
    r"""Proposition 18: $T_0 < T_1/3$.

    Source:
        Chistikov, Englert, Lazić (2023), Proposition 18.
    """
    found = record.found
    yield Comparison("T0", found.crossing_end, "<=", found.alignment_end / 3)


def growth(record: Measured) -> Iterator[Comparison]:
    r"""Lemma 19: $\|w_j(t)\| < 2\|z_j\|\lambda^{1-\varepsilon t/T_1}$ up to $T_1$, for all neurons.

    Source:
        Chistikov, Englert, Lazić (2023), Lemma 19(i), for $J_+$, and Claim 20 in its proof, for all
        neurons.
    """
    found = record.found
    size = np.log(2 * np.linalg.norm(found.start, axis=1))
    excess = math.nan
    times = _early(record)
    if times:
        excess = max(
            float(np.max(record.at(t).log_norm - size))
            - (1 - found.eps * t / found.alignment_end) * found.log_lambda
            for t in times
        )
    yield Comparison("|w|/(2|z| lambda^{1 - eps t/T1})", excess, "<=", 0.0, log=True)


def _early(record: Measured) -> list[float]:
    found = record.found
    if not found.alignment_end > 0:
        return []
    before = record.span(0.0, min(found.crossing_end, found.alignment_end))
    after = record.span(found.crossing_end, found.alignment_end)
    return (
        sorted({*before, *after}) if before and record.evidence.end >= found.alignment_end else []
    )


def early_drive(record: Measured) -> Iterator[Comparison]:
    r"""Lemma 21: $\|\gamma_{I_+(w_j)} - g_j\| \le \lambda^{2-\varepsilon}$ up to $T_0$.

    For all neurons. The difference is $\frac1n\sum_{i \in I_+(w_j)} h(x_i)x_i$, computed
    without cancelling.

    Source:
        Chistikov, Englert, Lazić (2023), Lemma 21(iii); the bound on outputs in its proof is for
        all neurons and, by Proposition 18 and Lemma 19, up to $T_0$.
    """
    found = record.found
    worst = math.nan
    for t in record.span(0.0, found.crossing_end):
        shot = record.at(t)
        lost = np.linalg.norm((shot.active * shot.output) @ found.inputs, axis=1) / found.samples
        size = float(np.max(lost))
        value = shot.log_output + (math.log(size) if size > 0 else -math.inf)
        worst = value if math.isnan(worst) else max(worst, value)
    yield Comparison("|gamma - g|", worst, "<=", (2 - found.eps) * found.log_lambda, log=True)


def late_drive(record: Measured) -> Iterator[Comparison]:
    r"""Lemma 23: neurons of $J_+$ from $T_0$ to $T_1$.

    $\|\gamma_{[n]} - g_j\| \le \lambda^{2-3\varepsilon}$, of which a sample that a neuron is not
    active on contributes $y_ix_i/n$ whole; and $\|\bar\alpha_j - \bar w_j\| \le
    \lambda^{1-2\varepsilon}$.

    Source:
        Chistikov, Englert, Lazić (2023), Lemma 23(i) and (ii).
    """
    found, who = record.found, np.flatnonzero(record.found.growing)
    drive = turned = math.nan
    times = record.span(found.crossing_end, found.alignment_end) if len(who) else []
    if times:
        drive, widest = -math.inf, 0.0
        for t in times:
            shot = record.at(t)
            active = shot.active[who]
            if np.all(active):
                size = float(np.linalg.norm(shot.output @ found.inputs)) / found.samples
                lost = shot.log_output + (math.log(size) if size > 0 else -math.inf)
            else:
                off = np.linalg.norm(shot.drive[who] - found.gamma, axis=1)
                lost = math.log(float(np.max(off)))
            drive = max(drive, lost)
            paths = np.stack([found.yardsticks[j].direction(t) for j in who])
            gap = np.linalg.norm(paths - shot.direction[who], axis=1)
            widest = max(widest, float(np.max(gap)))
        turned = log_beyond(widest, record.resolution)
    scale, eps = found.log_lambda, found.eps
    yield Comparison("|gamma_[n] - g|", drive, "<=", (2 - 3 * eps) * scale, log=True)
    yield Comparison("|alpha - w|, directions", turned, "<=", (1 - 2 * eps) * scale, log=True)

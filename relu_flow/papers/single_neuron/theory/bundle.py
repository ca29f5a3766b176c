"""The second phase of learning a single neuron: one bundle of neurons learns it.

Each function here compares a run with one statement; `single_neuron.claims` collects them.
From `T1` on the growing neurons are one bundle with the sum `v`, active on all samples,
so that the network is linear there and `v` obeys a reduced equation nearly.

Source:
    Chistikov, Englert, Lazić (2023), sections 5 and 6, appendices E and F.
"""

import itertools
import math
from collections.abc import Iterator

import numpy as np

from ....claims.verdict import Comparison
from .measured import Bundle, Measured, log_beyond

# Rounding of both sides of the reduced equation, in units of rounding of a force of the teacher's
# size: 2.2 were seen along a run from e^-2300.
_FORCE_ULPS = 8.0


def bundled(record: Measured) -> Iterator[Comparison]:
    r"""From $T_1$ on cosines between neurons of $J_+$ exceed $1 - 4\lambda^\varepsilon$.

    Source:
        Chistikov, Englert, Lazić (2023), Lemma 28(i).
    """
    found = record.found
    chord = math.nan
    for t in record.late:
        direction = record.at(t).direction[found.growing]
        gaps = np.linalg.norm(direction[:, None] - direction[None], axis=-1)
        chord = float(np.max(gaps)) if math.isnan(chord) else max(chord, float(np.max(gaps)))
    away = chord if math.isnan(chord) else log_beyond(chord**2 / 2, record.resolution**2)
    bound = math.log(4) + found.eps * found.log_lambda
    yield Comparison("1 - cos within the bundle", away, "<=", bound, log=True)


def reduced_equation(record: Measured) -> Iterator[Comparison]:
    r"""From $T_1$ on $\|\dot v - f\| \le 3\lambda^{\varepsilon/2}\|f\|$.

    $f = \|v\|(g + \bar v\bar v^\top g)$ with $g = \frac1n\sum_ix_ix_i^\top(v^* - v)$, and
    $\dot v$ is summed up from the velocities of the neurons.

    Source:
        Chistikov, Englert, Lazić (2023), Lemma 28(vi), $f$ and $g$ being defined before it.
    """
    found = record.found
    # Near the teacher the force is a small difference, and its rounding a large part of it.
    force = float(found.eigenvalue[0]) * float(np.linalg.norm(found.teacher))
    rounding = _FORCE_ULPS * math.sqrt(found.samples) * float(np.finfo(float).eps) * force

    def beyond(b: Bundle) -> float:
        size = float(np.linalg.norm(b.reduced))
        return log_beyond(float(np.linalg.norm(b.rate - b.reduced)) / size, rounding / size)

    measured = max(map(beyond, record.moving), default=math.nan)
    bound = math.log(3) + found.eps / 2 * found.log_lambda
    yield Comparison("|v' - f|/|f|", measured, "<=", bound, log=True)


def set_number(record: Measured, bundle: Bundle) -> tuple[int, float]:
    r"""Return which $S_\ell$ a bundle can only be in, and how far inside it is.

    $\ell$ is the first coordinate not above the teacher's, counted from 1 ($d + 1$ if all
    are), so that the conditions $\Omega_k$ are met. The number beside it is the least slack of
    the others: of $\Phi_\ell$ in the logarithm, of $\Psi^\downarrow$ and $\Psi^\uparrow$
    relative to the larger side, of $\Xi$ as a difference of cosines; negative outside $S_\ell$.

    Source:
        Chistikov, Englert, Lazić (2023), section 5, the sets $S_\ell$; how slack is measured is
        this package's.
    """
    found, d = record.found, record.found.features
    top = float(np.max(bundle.log_part))
    if not math.isfinite(top):
        return 1, -1.0
    ratio = np.exp(bundle.log_part)
    first = next((k for k in range(d) if ratio[k] <= 1), d)
    if first == d:
        return d + 1, -1.0
    scaled = np.exp(bundle.log_part - top)
    eigenvalue = found.eigenvalue
    slacks = [bundle.log_part[first] - math.log(eigenvalue[first] / (2 * eigenvalue[first - 1]))
              if first else 1.0]  # fmt: skip
    for k, l in itertools.combinations(range(first, d), 2):
        half = eigenvalue[l] / (2 * eigenvalue[k])
        slacks.append(_relative(scaled[l], half * scaled[k]))
        slacks.append(_relative(_complement(scaled[k], top, 0.5 + half), scaled[l]))
    pulled = bundle.force / np.linalg.norm(bundle.force)
    cosine = float(bundle.direction @ pulled)
    slacks.append(cosine - math.exp(found.eps / 3 * found.log_lambda))
    return first + 1, float(min(slacks))


def _relative(larger: float, smaller: float) -> float:
    return (larger - smaller) / max(abs(larger), abs(smaller), np.finfo(float).tiny)


def _complement(scaled: float, log_scale: float, power: float) -> float:
    r"""Return $1 - (1 - x)^p$ in units of the scale, for $x$ in units of the scale."""
    x = math.exp(log_scale) * scaled
    if x < 1e-9:
        return power * scaled
    return -math.expm1(power * math.log1p(-min(x, 1 - 1e-16))) / math.exp(log_scale)


def staircase(record: Measured) -> Iterator[Comparison]:
    r"""From $T_1$ on $v$ stays in $S$ and goes through $S_1, S_2, \dots$ in order.

    Source:
        Chistikov, Englert, Lazić (2023), Lemma 28(ii), Claim 30 in its proof for the set at $T_1$,
        section 5 for the order.
    """
    numbers = [set_number(record, b) for b in record.moving]
    inside = min((slack for _, slack in numbers), default=math.nan)
    steps = np.diff([number for number, _ in numbers])
    first, last = (float(numbers[k][0]) if numbers else math.nan for k in (0, -1))
    backward = float(np.sum(steps < 0)) if numbers else math.nan
    converged = len(numbers) < len(record.late)
    yield Comparison("slack of the conditions of S", inside, ">=", 0.0)
    yield Comparison("set at T1", first, "==", 1.0)
    yield Comparison("steps back to an earlier set", backward, "==", 0.0)
    final = last if converged else math.nan
    yield Comparison("set at the end", final, "==", float(record.found.features))


def eigenvalue_order(record: Measured) -> Iterator[Comparison]:
    r"""From $T_1$ on $\nu_\ell$ exceeds $\nu_\ell^*$ in the order of falling eigenvalue.

    The times are roots on the run itself. The last coordinate stays below.

    Source:
        Chistikov, Englert, Lazić (2023), section 5, where $v$ goes over from $S_\ell$ to
        $S_{\ell+1}$, with Lemma 28(ii).
    """
    begin, d = record.found.alignment_end, record.found.features
    rises = [record.rise(k, 0.0, begin) for k in range(d - 1)]
    for k, (earlier, later) in enumerate(itertools.pairwise([begin, *rises])):
        wait = later - earlier
        yield Comparison(f"wait for coordinate {k + 1}", wait, ">=", 0.0)
    last = max((float(b.log_part[-1]) for b in record.moving), default=math.nan)
    yield Comparison("last coordinate by the teacher's", last, "<=", 0.0, log=True)


def toward_teacher(record: Measured) -> Iterator[Comparison]:
    r"""Proposition 25: $v^\top(v^* - v) > 0$; measured as a cosine.

    Source:
        Chistikov, Englert, Lazić (2023), Proposition 25, on $S$, where $v$ is by Lemma 28(ii).
    """
    cosines = [float(b.direction @ b.rest / np.linalg.norm(b.rest)) for b in record.moving]
    yield Comparison("cos(v, v* - v)", min(cosines, default=math.nan), ">=", 0.0)


def stays_active(record: Measured) -> Iterator[Comparison]:
    r"""Proposition 27: $\bar v^\top\bar x_i > \sqrt8\,\lambda^{\varepsilon/2}$.

    Source:
        Chistikov, Englert, Lazić (2023), Proposition 27, on $S$, where $v$ is by Lemma 28(ii).
    """
    found = record.found
    unit = found.inputs / np.linalg.norm(found.inputs, axis=1, keepdims=True)
    least = min((float(np.min(unit @ b.direction)) for b in record.moving), default=math.nan)
    measured = least if math.isnan(least) else math.log(least) if least > 0 else -math.inf
    bound = 0.5 * math.log(8) + found.eps / 2 * found.log_lambda
    yield Comparison("least cos(v, x)", measured, ">=", bound, log=True)


def speeds(record: Measured) -> Iterator[Comparison]:
    r"""Lemma 28: how fast $v$ grows, and how fast at most it nears the teacher.

    $\frac{d}{dt}\|v\|^2$ is at least $(\eta_d\nu_d^*/\|\gamma_{[n]}\|)^2\|v\|^2\|g\|$ on $S_1$
    and $3\lambda^{\varepsilon/3}\|v\|^2\|g\|$ on $S$;
    $\frac{d}{dt}\|v^*-v\|^2 \ge -5\eta_1\|v\|\|v^*-v\|^2$.

    Source:
        Chistikov, Englert, Lazić (2023), Lemma 28(vii), (viii) and (ix).
    """
    found = record.found
    growth = lambda b: 2 * float(b.direction @ b.rate) / float(np.linalg.norm(b.force))
    closing = lambda b: -2 * float(b.rest @ b.rate) / float(b.rest @ b.rest)
    first = [growth(b) for b in record.moving if b.log_part[0] <= 0]
    least = min((growth(b) for b in record.moving), default=math.nan)
    fastest = min((closing(b) for b in record.moving), default=math.nan)
    slowest = (found.eigenvalue[-1] * found.nu[-1] / found.gamma_norm) ** 2
    log_least = least if math.isnan(least) else math.log(least) if least > 0 else -math.inf
    log_bound = math.log(3) + found.eps / 3 * found.log_lambda
    bound = -5 * float(found.eigenvalue[0])
    measured = min(first, default=math.nan)
    yield Comparison("(|v|^2)'/(|v|^2 |g|) on S1", measured, ">=", float(slowest))
    yield Comparison("(|v|^2)'/(|v|^2 |g|) on S", log_least, ">=", log_bound, log=True)
    yield Comparison("(|v* - v|^2)'/(|v| |v* - v|^2)", fastest, ">=", bound)


def sizes(record: Measured) -> Iterator[Comparison]:
    r"""Lemma 32: $\|v\| < \frac12$ until $T_2$, $> \|\gamma_{[n]}\|/(4\eta_1)$ after.

    Source:
        Chistikov, Englert, Lazić (2023), Lemma 32(i) and (iii).
    """
    found, departure = record.found, record.departure
    norms = [(t, record.bundle(t).log_norm) for t in record.late]
    before = max((x for t, x in norms if t <= departure), default=math.nan)
    after = min((x for t, x in norms if t >= departure), default=math.nan)
    bound = math.log(found.gamma_norm / (4 * found.eigenvalue[0]))
    yield Comparison("|v| until T2", before, "<=", math.log(0.5), log=True)
    yield Comparison("|v| from T2", after, ">=", bound, log=True)


def polyak(record: Measured) -> Iterator[Comparison]:
    r"""From $T_2$ on $\|\nabla L\|^2 > \frac{2\eta_d\|\gamma_{[n]}\|}{5\eta_1}L$.

    Source:
        Chistikov, Englert, Lazić (2023), Lemma 32(iv).
    """
    found = record.found
    shots = [record.at(b.t) for b in record.moving if b.t >= record.departure]
    least = min((shot.log_slope() - shot.log_loss(found) for shot in shots), default=math.nan)
    ratio = float(found.eigenvalue[-1] / found.eigenvalue[0])
    bound = math.log(0.4 * found.gamma_norm) + math.log(max(ratio, 1e-300))
    yield Comparison("|grad L|^2/L", least, ">=", bound, log=True)


def convergence(record: Measured) -> Iterator[Comparison]:
    r"""Theorem 6: $T_2 < \ln(1/\lambda)(4+\varepsilon)d\Delta^2/\delta^6$, and the loss after it.

    $L(T_2 + t) < \frac12\Delta^2e^{-0.4\delta^4t/\Delta^2}$; the largest ratio of the two.

    Source:
        Chistikov, Englert, Lazić (2023), Theorem 6, with $T_2$ as in section 5; Lemma 32(ii) and
        (v).
    """
    found, departure = record.found, record.departure
    bound, unit = found.departure_bound, found.capital_delta**2
    if math.isnan(departure) and record.evidence.end > bound:
        departure = math.inf
    rate = 0.4 * max(found.delta, 0.0) ** 4 / unit
    lost = math.exp(record.log_loss_of_zero) * 1e-24
    excess = [
        log_beyond(math.exp(record.at(t).log_loss(found)), lost) + rate * (t - departure)
        for t in record.late
        if t >= departure
    ]
    excess = max(excess) - math.log(unit / 2) if excess else math.nan
    yield Comparison("T2", departure, "<=", bound)
    yield Comparison("loss by its bound", excess, "<=", 0.0, log=True)


def limit(record: Measured) -> Iterator[Comparison]:
    r"""Theorem 7 and Lemma 34: the limit of the run is a rank-one network of square norm 2.

    The theorem is about $\lambda \to 0$; what it says at a given $\lambda$ follows from the
    bundle's cosines above $1 - 4\lambda^\varepsilon$. With $b_j = \|w_j\|^2$ and balance,
    $1 = \|v\| \le \sum_j b_j \le 1/\sqrt{1 - 4\lambda^\varepsilon}$, so that $\|\theta\|^2$ is
    within $2/\sqrt{1 - 4\lambda^\varepsilon} - 2$ of 2, but for the neurons that rest; no
    neuron is further from $v^*$ than the bundle is wide; and a matrix whose rows are at most
    $\sqrt8\lambda^{\varepsilon/2}\|w_j\|$ off a line has a nuclear norm of at most $1 +
    \sqrt{8d}\,\lambda^{\varepsilon/2}$ Frobenius norms. The proof of Lemma 34 bounds by
    $\lambda^{\varepsilon/3}\ln(1/\lambda)$ how far the logarithm of a ratio of norms is from
    that at $T_1$, with room for what the latter is off the yardsticks' limit.

    Source:
        Chistikov, Englert, Lazić (2023), Theorem 7, Lemma 34 and their proofs; the bounds at a
        given $\lambda$ are this package's.
    """
    found = record.found
    shot = record.at(record.evidence.end)
    log_loss = shot.log_loss(found)
    zero = record.log_loss_of_zero
    at_rest = record.interpolates or shot.log_slope() < log_loss + math.log(1e-6)
    settled = at_rest and record.evidence.end >= found.alignment_end
    unless = lambda value: value if settled and np.any(found.growing) else math.nan
    yield Comparison(
        "loss by that of zero", unless(log_loss - zero), "<=", math.log(1e-16), log=True
    )
    who = np.flatnonzero(found.growing)
    wide = record.bundle_width
    inner = np.exp(shot.log_norm - np.max(shot.log_norm))[:, None] * shot.direction
    singular = np.linalg.svd(inner, compute_uv=False)
    share = float(np.sum(singular) / np.linalg.norm(singular)) - 1
    flat = math.sqrt(found.features) * (wide + record.rest_norm)
    resolution = 1e-7  # of a loss of 1e-16 what is left in the weights is its root
    yield Comparison("nuclear by Frobenius norm - 1", unless(share), "<=", flat, resolution)
    tilt = np.linalg.norm(shot.direction[who] - found.teacher, axis=1)
    widest = float(np.max(tilt, initial=0.0))
    yield Comparison("directions off the teacher", unless(widest), "<=", wide, resolution)
    yield Comparison("square norm", unless(shot.square_norm()), "==", 2.0, record.norm_excess)
    weight = np.array([found.yardsticks[j].log_limit_weight for j in who])
    ratio = shot.log_norm[who] - weight
    spread = float(np.ptp(ratio)) if len(who) else math.nan
    steps = record.resolution * (1 - 2 * found.log_lambda)
    # The logarithm of a bound that is not positive where lambda is not below one.
    bound = found.eps / 3 * found.log_lambda
    bound += math.log(-found.log_lambda) if found.log_lambda < 0 else math.inf
    measured = log_beyond(spread, steps) if len(who) else math.nan
    yield Comparison("ratios of norms off the yardsticks'", unless(measured), "<=", bound, log=True)

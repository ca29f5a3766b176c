r"""From the plateau to the end: levels, times and limits.

Formulas are in closed form for neurons condensed at zero (`course.py`). A start at
scale $\kappa_1$ changes outputs, and the positives' output at $x_-$, by at most about
$\delta = \kappa_1\kappa_2$ by the time neurons have condensed: that is the formulas'
accuracy. Divided by the speed with which $f_-$ passes through zero it is that of the time of
escape; $t_3$ is off by as much of $z$'s passage and of $f_+$. Forms for small angles are
right to relative order $\Delta^2$.

Source:
    After Wang, Ma, "Understanding Multi-phase Optimization Dynamics and Rich Nonlinear
    Behaviors of ReLU Networks" (2023), re-derived.
"""

import math
from collections.abc import Callable, Iterable

import jax.numpy as jnp
import numpy as np

from ....claims.verdict import Comparison
from ....observe.observables import accuracy
from .measured import (
    FLOOR,
    SLIDE_ENTER,
    SLIDE_EXIT_ACTIVE,
    SLIDE_EXIT_INACTIVE,
    Measured,
)
from .parameters import Constants
from .points import TwoPoints, deactivation_time_small_angle, escape_time_small_angle

NEARNESS = 0.01  # of A/B to its plateau value, when the plateau counts as reached
_SPREAD = 1e-9  # of instants that are one


def _shift(found: Constants, late: bool = False) -> float:
    """Return the accuracy of the time of escape, or of t_3 and what follows.

    By the speeds with which the deciding numbers pass through zero.
    """
    q, course = found.points, found.course
    time = course.deactivation if late else course.escape
    if not math.isfinite(float(time)):
        return math.inf
    state = course.at(time)
    lean = q.gamma_plus * (state.heavy * q.cosine - state.light)
    minus = lean - q.gamma_minus * state.light * q.sine2
    plus = q.gamma_plus * (state.heavy - state.light * q.cosine)
    slow = 1 / jnp.abs(lean) + 1 / plus if late else 1 / jnp.abs(minus)
    return float(found.accuracy * slow + FLOOR * time)


def _moved(found: Constants, t: float, read: Callable) -> float:
    """Return the accuracy of a number read off the course at a time.

    What it changes by if the course is early or late by its shift, and if outputs are off.
    """
    course = found.course
    late = t >= float(course.deactivation)
    shift = _shift(found, late)
    shift = shift if math.isfinite(shift) else 0.0
    here = float(read(course.at(t)))
    moves = [abs(float(read(course.at(max(t + d, 0.0)))) - here) for d in (-shift, shift)]
    return max(moves) + abs(here) * (4 * found.accuracy + FLOOR)


def plateau(record: Measured) -> Iterable[Comparison]:
    r"""A/B is $\rho$, and $L = (1 + 1/\rho)\pi_+ e^{-f_+}$ with $e^{f_+}$ linear in time.

    As $\Delta \to 0$ the plateau begins with $f_+ = f_- = \frac12\ln p$, whence
    $L = 2\sqrt p/(1+p)$. At nearness $\epsilon$ the two differ from $\frac12\ln p$ by at most
    $w = \frac12(1-c)(1+\alpha)\ln(p/\epsilon)$, to first order in $1 - c$, and by
    $\frac12\ln(1+\epsilon)$, one up and one down: in $L$ that is a factor of at most
    $e^w\cosh(\frac12\ln(1+\epsilon))$. What is left midway of the way to the plateau is known
    from the course, and allowed.

    Source:
        After Wang, Ma (2023), the saddle-to-plateau dynamics of their abstract; the levels are
        derived here and in `course.py`.
    """
    found, course, q = record.found, record.found.course, record.found.points
    enter, leave = float(course.plateau(NEARNESS)), float(course.escape)
    near = record.at(enter)
    ratio = lambda state: state.heavy / state.light
    loss = lambda state: state.heavy + state.light
    tolerance = _moved(found, enter, ratio)
    yield Comparison("A/B at entry", near.ratio, "==", float(q.rho) * (1 + NEARNESS), tolerance)
    yield Comparison(
        "loss at entry",
        near.heavy + near.light,
        "==",
        float(loss(course.at(enter))),
        _moved(found, enter, loss),
    )
    heavy = float(q.heavy)
    yield Comparison("loss at entry, small angle", near.heavy + near.light, "==", *small_angle(q))
    t = 0.5 * (enter + leave)
    middle, state = record.at(t), course.at(t)
    formula = float((1 + 1 / q.rho) * q.share_plus * jnp.exp(-state.plus))
    for name, read, bound in (
        ("A/B midway", ratio, float(q.rho)),
        ("loss midway", loss, formula),
    ):
        tolerance = _moved(found, t, read) + abs(float(read(state)) - bound)
        yield Comparison(name, float(read(middle)), "==", bound, tolerance)
    fitted = math.nan
    if t <= record.end:
        fitted = float(accuracy(record.evidence.problem, middle.network))
    yield Comparison("accuracy midway", fitted, "==", heavy / (1 + heavy), FLOOR)


def small_angle(q: TwoPoints) -> tuple[float, float]:
    r"""Return the loss of a plateau as $\Delta \to 0$, and how far one is from it on entry.

    Source:
        This package; derived in `plateau`.
    """
    heavy = float(q.heavy)
    level = 2 * math.sqrt(heavy) / (1 + heavy)
    wide = 0.5 * float(q.versed * (1 + q.alpha)) * math.log(heavy / NEARNESS)
    return level, (math.exp(wide) * math.cosh(0.5 * math.log1p(NEARNESS)) - 1) * level


def escape(record: Measured) -> Iterable[Comparison]:
    """When the light class is fitted, by bisection on the run.

    The search begins at half the expected time, when the class should be misclassified; if it
    is not, that time is what is measured.

    Source:
        After Wang, Ma (2023), the plateau escape of their abstract; the times are derived in
        `course.py` and `escape_time_small_angle`.
    """
    found, q = record.found, record.found.points
    low, high = 0.5 * float(found.course.escape), record.end
    measured = math.nan
    if low <= high and record.at(high).minus <= 0:
        for _ in range(50 if record.at(low).minus > 0 else 0):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if record.at(middle).minus > 0 else (low, middle)
        measured = 0.5 * (low + high) if record.at(low).minus > 0 else low
    exact = float(found.course.escape)
    yield Comparison("time of f- = 0", measured, "==", exact, _shift(found))
    yield _small_angle("time of f- = 0, small angle", measured, escape_time_small_angle(q), q)


def _small_angle(name, measured, bound, q) -> Comparison:
    bound = float(bound)
    return Comparison(name, measured, "==", bound, float(jnp.square(q.angle)) * bound)


def deactivation(record: Measured) -> Iterable[Comparison]:
    """Positives reach the hyperplane of x- and slide: all of them, at nearly one time.

    Source:
        After Wang, Ma (2023), the changes of activation patterns of their abstract; that it is
        a slide, and its time, are derived in `course.py`.
    """
    found, q = record.found, record.found.points
    expected, shift = float(found.course.deactivation), _shift(found, True)
    entered = _times(record, (SLIDE_ENTER,), True, expected + shift)
    yield Comparison("earliest entry", float(np.min(entered)), "==", expected, shift)
    yield Comparison("latest entry", float(np.max(entered)), "==", expected, shift)
    # To the power 1/(1 - alpha c) the relative error of rho = 1 is multiplied by that.
    small = float(deactivation_time_small_angle(q))
    tolerance = small * float(jnp.square(q.angle) / jnp.abs(1 - q.alpha * q.cosine))
    first = float(np.min(entered))
    yield Comparison("earliest entry, small angle", first, "==", small, tolerance)


def _times(record: Measured, kinds, positive: bool, last: float) -> np.ndarray:
    """Return when each living neuron of a sign did so after phase I.

    `inf` for one that never did, though the run goes on beyond `last`; `nan` if it does not.
    """
    chosen = np.flatnonzero(record.found.living & (record.found.positive == positive))
    missing = math.inf if record.end > last else math.nan
    found = record.events(kinds, positive, record.found.phase_one)
    return np.array([found.get(int(j), missing) for j in chosen] or [math.nan])


def both_slide(record: Measured) -> Iterable[Comparison]:
    r"""While both slide, both exponentials grow at constant rates, whatever $\kappa_1$ was.

    $e^{f_+}$ and $e^{-f_-}$, at the rates $\gamma_\pm\pi_\pm\sin^2\Delta$; measured between
    the last entry of a positive neuron and the first exit of a negative one.

    Source:
        This package; derived in `course.py`, "Both slide".
    """
    q, course = record.found.points, record.found.course
    entered = _times(record, (SLIDE_ENTER,), True, float(course.deactivation))
    left = _times(record, (SLIDE_EXIT_ACTIVE, SLIDE_EXIT_INACTIVE), False, math.inf)
    start, end = float(np.max(entered)), float(np.nanmin(np.append(left, record.end)))
    slopes = (math.nan, math.nan)
    if start < end:
        middle = (start + end) / 2
        stretch = [record.at(start + (middle - start) * k) for k in (0.1, 1.9)]
        passed = 1.8 * (middle - start)
        slopes = (
            (math.exp(stretch[1].plus) - math.exp(stretch[0].plus)) / passed,
            (math.exp(-stretch[1].minus) - math.exp(-stretch[0].minus)) / passed,
        )
    bounds = (
        float(q.gamma_plus * q.share_plus * q.sine2),
        float(q.gamma_minus * q.share_minus * q.sine2),
    )
    for name, slope, bound in zip(("exp(f+)", "exp(-f-)"), slopes, bounds, strict=True):
        yield Comparison(f"slope of {name}", slope, "==", bound, 1e-6 * bound)


def reactivation(record: Measured) -> Iterable[Comparison]:
    """Negatives leave the hyperplane of x+: all of them at one instant.

    That is when their weight c/R of x+ reaches one, which depends on the pulls alone.

    Source:
        After Wang, Ma (2023), the changes of activation patterns of their abstract; the
        instant is derived in `course.py` and `slide_weights`.
    """
    found = record.found
    expected, shift = float(found.course.reactivation), _closing_shift(found)
    left = _times(record, (SLIDE_EXIT_ACTIVE,), False, expected + shift)
    yield Comparison("first exit", float(np.min(left)), "==", expected, shift)
    spread = float(np.max(left) - np.min(left)) if np.all(np.isfinite(left)) else math.nan
    yield Comparison("spread of exits", spread, "<=", _SPREAD * expected)


def _closing_shift(found: Constants) -> float:
    """Return the accuracy of t_4, where A/B is c: both margins are off by what t_3 is."""
    q, course = found.points, found.course
    late = _shift(found, True)
    closing = q.sine2 * q.share_plus * (q.gamma_plus * q.cosine - q.gamma_minus)
    heavy = q.heavy * jnp.exp(course.minus_margin) + q.cosine * jnp.exp(course.plus_margin)
    lean = (1 + q.alpha) / (1 - q.alpha * q.cosine)
    return abs(late) + abs(float(found.accuracy * (1 + lean) * heavy / closing))


def slides_for_ever(record: Measured) -> Iterable[Comparison]:
    """No neuron leaves its slide, and A/B goes to alpha.

    A/B and the loss are compared with the course's at the end of the run.

    Source:
        This package; derived in `course.py`, "Both slide".
    """
    last = float(record.found.course.deactivation)
    exits = (SLIDE_EXIT_ACTIVE, SLIDE_EXIT_INACTIVE)
    count = math.nan
    if record.end > last:
        count = sum(len(record.events(exits, sign, 0.0)) for sign in (True, False))
    yield Comparison("neurons that leave a slide", float(count), "==", 0.0)
    yield from _state_at_end(record)


def stay_on(record: Measured) -> Iterable[Comparison]:
    """Positives stay active on both classes, negatives slide, and A/B stays at rho.

    A/B and the loss are compared with the course's at the end of the run.

    Source:
        This package; derived in `course.py`, "The end of the plateau".
    """
    after = record.found.phase_one
    entered = record.events((SLIDE_ENTER,), True, after)
    left = record.events((SLIDE_EXIT_ACTIVE, SLIDE_EXIT_INACTIVE), False, after)
    reached = record.end > float(record.found.course.plateau(NEARNESS))
    count = len(entered) if reached else math.nan
    yield Comparison("positives that slide", float(count), "==", 0.0)
    yield Comparison("negatives that leave", float(len(left)), "==", 0.0)
    yield from _state_at_end(record)


def _state_at_end(record: Measured) -> Iterable[Comparison]:
    """Loss and A/B at the end of the run, beside the course's at that time."""
    found, t = record.found, record.end
    here, course = record.at(t), record.found.course.at(t)
    for name, read in (
        ("A/B at the end", lambda state: state.heavy / state.light),
        ("loss at the end", lambda state: state.heavy + state.light),
    ):
        bound = float(read(course))
        measured = math.nan if math.isnan(bound) else float(read(here))
        yield Comparison(name, measured, "==", bound, _moved(found, t, read))


def limit(record: Measured) -> Iterable[Comparison]:
    r"""Phase IV: positives are along $e_+ \propto x_+ - c x_-$, negatives turn to $x_- - r x_+$.

    The direction of the negatives' sum follows from the course: its products with $x_-$ and
    $x_+$ are $-f_-$ and $y$. What is outside the plane of the data never moves, and has norm at
    most $\kappa_1$: it bounds the third singular value of the inner weights.

    Source:
        After Wang, Ma (2023), the final convergence of their abstract; the limit is derived in
        `course.py`, "Negatives on both, positives sliding".
    """
    yield from _state_at_end(record)
    found, q, data = record.found, record.found.points, record.found.certificate
    reached = record.end > float(found.course.reactivation)
    network, state = record.at(record.end).network, found.course.at(record.end)
    x_plus, x_minus = np.asarray(data.x_plus), np.asarray(data.x_minus)
    inner = np.asarray(network.inner_weight) * np.exp(np.asarray(network.log_scale))[:, None]
    negatives = np.sum(inner[found.living & ~found.positive], axis=0)
    limit = x_minus - float(q.limit_ratio) * x_plus
    gram = np.array([[1.0, float(q.cosine)], [float(q.cosine), 1.0]])
    parts = np.linalg.solve(gram, [float(state.turn), -float(state.minus)])
    expected = _cosine(parts[0] * x_plus + parts[1] * x_minus, limit)
    measured = _cosine(negatives, limit) if reached else math.nan
    tolerance = 20 * found.accuracy + _closing_shift(found) / record.end
    yield Comparison("cosine of negatives to x- - r x+", measured, "==", expected, tolerance)
    positives = inner[found.living & found.positive]
    aligned = x_plus - float(q.cosine) * x_minus
    worst = min((_cosine(b, aligned) for b in positives), default=math.nan)
    yield Comparison(
        "least cosine of positives to e+",
        worst if reached else math.nan,
        ">=",
        1 - found.accuracy,
        FLOOR,
    )
    singular = np.append(np.linalg.svd(inner, compute_uv=False), [0.0, 0.0])
    bound = math.exp(found.log_kappa_1)
    size = float(singular[2]) if reached else math.nan
    yield Comparison("third singular value", size, "<=", bound, FLOOR * float(singular[0]))


def _cosine(a, b) -> float:
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-300))

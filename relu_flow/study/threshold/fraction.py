"""Where a fraction of random runs stops having a property."""

from collections import Counter
from collections.abc import Callable, Mapping
from statistics import NormalDist

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from ..statistics.fractions import wilson
from ..statistics.outcomes import Interval, Tally, check_count, check_fraction, check_level
from .axis import Axis, AxisKind
from .crossing import gaps
from .search import Change, Finding, changes_between, dividing, first_batch

Answer = tuple[ArrayLike, ArrayLike] | tuple[ArrayLike, ArrayLike, Mapping[str, int]]
CountProperty = Callable[[Float[np.ndarray, " points"]], Answer]


class RandomThreshold(eqx.Module):
    """Where a fraction of random runs stops having a property.

    Attributes:
        finding: Whether the fraction is crossed once, never, or several times.
        threshold: Where the fraction is crossed, with its interval; an end is infinite if
            the trials do not bound it within the range, the estimate NaN if it is not
            inside. NaN unless it is crossed once or undecided. The tally counts trials.
        changes: Neighbouring values at which the fraction is surely above (`holds_at`) and
            surely below (`fails_at`): by Wilson intervals that hold at all values at once.
            They assume no curve.
        points: All values tried, ascending.
        held: How many trials held at each.
        trials: How many there were at each.
        converged: Whether the interval is within the tolerance (or nothing is crossed).
    """

    finding: Finding
    threshold: Interval
    changes: tuple[Change, ...]
    points: Float[np.ndarray, " points"]
    held: Int[np.ndarray, " points"]
    trials: Int[np.ndarray, " points"]
    converged: bool

    def __str__(self) -> str:
        text = f"{self.finding.value}; {self.threshold}"
        pairs = [f"surely above at {c.holds_at:g}, below at {c.fails_at:g}" for c in self.changes]
        return "; ".join([text, *pairs] + ([] if self.converged else ["not converged"]))


def find_random_threshold(
    property: CountProperty,
    low: float,
    high: float,
    *,
    tolerance: float,
    fraction: float = 0.5,
    axis: AxisKind = "linear",
    batch: int = 8,
    max_rounds: int = 20,
    level: float = 0.95,
) -> RandomThreshold:
    """Find where a fraction of random runs stops having a property.

    The fraction is assumed to be monotone, and nothing else. The interval holds the values that
    the likelihood of monotone curves does not refuse, and ends at values that were tried.
    The first batch covers the range; every later one covers the interval and half its width on
    either side. Rounds end when the interval is within the tolerance. Measured at a level of
    0.95, with 6 and 20 trials a value: the interval holds the threshold of smooth curves in 98 %
    of cases or more; where the slope jumps 13-fold at the threshold, in 89 % and 94 %.

    Trials must be independent: draw new seeds at every value and in every call. If the same
    seeds are to be used at all values, use `find_seed_thresholds`, which is sharper; here the
    interval would be too short.

    Args:
        property: Takes an array of at most `batch` values and returns, for each, how many
            trials held and how many there were. Runs that failed are no trials; a third value
            may say how many there were in all, by code.
        low: Smallest value.
        high: Largest value.
        tolerance: Width of the interval aimed at: a difference or, on a log axis, a ratio
            less one.
        fraction: The fraction that is crossed, in (0, 1).
        axis: "linear", "log" or "integer".
        batch: How many values at a time, at least 2.
        max_rounds: How often the property may be called.
        level: Confidence level.

    Raises:
        ValueError: If an argument is out of its range, or the property's counts are not
            whole numbers, from 0 to the number of trials.
    """
    span = Axis(low, high, axis, tolerance)
    check_count("batch", batch, 2)
    check_count("max_rounds", max_rounds, 1)
    check_fraction(fraction)
    check_level(level)
    counts: dict[float, Int[np.ndarray, " 2"]] = {}
    asked = first_batch(span, batch)
    failures: Counter[str] = Counter()
    _add(counts, failures, property, asked)
    found = _judge(span, counts, failures, fraction, level)
    for _ in range(max_rounds - 1):
        asked = _next(span, found, batch)
        if found.converged or not asked.size:
            break
        _add(counts, failures, property, asked)
        found = _judge(span, counts, failures, fraction, level)
    return found


def _add(
    counts: dict[float, Int[np.ndarray, " 2"]],
    failures: Counter[str],
    property: CountProperty,
    asked: Float[np.ndarray, " asked"],
) -> None:
    answer = property(asked)
    held, trials = np.asarray(answer[0]), np.asarray(answer[1])
    if len(answer) == 3:
        failures.update(answer[2])
    for part in (held, trials):
        if part.shape != asked.shape or part.dtype.kind not in "iu":
            raise ValueError(
                "Argument `property` must return two integers for each value, how many trials "
                f"held and how many there were, but for {asked.size} values it returned type "
                f"{part.dtype} and shape {part.shape}."
            )
    if np.any(held < 0) or np.any(held > trials):
        raise ValueError(
            "Argument `property` must return from 0 to all trials, but it returned "
            f"{held.tolist()} of {trials.tolist()}."
        )
    for point, *pair in zip(asked.tolist(), held, trials, strict=True):
        counts[point] = counts.get(point, np.zeros(2, int)) + np.array(pair, int)


def _judge(
    span: Axis,
    counts: dict[float, Int[np.ndarray, " 2"]],
    failures: Counter[str],
    fraction: float,
    level: float,
) -> RandomThreshold:
    points = np.array(sorted(counts))
    held, trials = np.array([counts[point] for point in points.tolist()]).T
    changes = _sure_changes(points, held, trials, fraction, level)
    some = trials > 0
    tried = points[some]
    z = NormalDist().inv_cdf((1 + level) / 2)
    found = gaps(held[some].astype(float), trials[some].astype(float), fraction, z)
    within = np.any(found.accepted[1:-1]) or (found.everywhere and found.nowhere)
    if len(changes) > 1:
        finding, values = Finding.SEVERAL, (np.nan, np.nan, np.nan)
        converged = all(span.close(change.holds_at, change.fails_at) for change in changes)
    elif not within:
        finding = Finding.EVERYWHERE if found.everywhere else Finding.NOWHERE
        values, converged = (np.nan, np.nan, np.nan), True
    else:
        values = (_estimate(span, tried, found.best), *_ends(tried, found.accepted))
        bounded = not found.everywhere and not found.nowhere
        finding = Finding.ONE if bounded else Finding.UNDECIDED
        converged = bounded and span.close(values[1], values[2])
    tally = Tally(int(trials.sum()), 0, dict(failures))
    interval = Interval(*values, level, tally, "isotonic likelihood")
    return RandomThreshold(finding, interval, changes, points, held, trials, converged)


def _ends(
    points: Float[np.ndarray, " points"], accepted: Bool[np.ndarray, " gaps"]
) -> tuple[float, float]:
    """Return the points around gaps; infinite before the first and after the last."""
    padded = np.concatenate([[-np.inf], points, [np.inf]])
    where = np.flatnonzero(accepted)
    return float(padded[where[0]]), float(padded[where[-1] + 1])


def _estimate(
    span: Axis, points: Float[np.ndarray, " points"], best: Bool[np.ndarray, " gaps"]
) -> float:
    """Return the middle of the likeliest gaps; NaN if they are not inside the range."""
    ends = np.array(_ends(points, best))
    if not np.all(np.isfinite(ends)):
        return np.nan
    middle = float(span.coordinate(ends).mean())
    return float(np.exp(middle)) if span.kind == "log" else middle


def _sure_changes(
    points: Float[np.ndarray, " points"],
    held: Int[np.ndarray, " points"],
    trials: Int[np.ndarray, " points"],
    fraction: float,
    level: float,
) -> tuple[Change, ...]:
    """Return changes between values at which all Wilson intervals together are sure."""
    low, high = wilson(held, trials, 1 - (1 - level) / points.size)
    sure = (low > fraction) | (high < fraction)
    return changes_between(points[sure], (low > fraction)[sure])


def _next(span: Axis, found: RandomThreshold, batch: int) -> Float[np.ndarray, " asked"]:
    if found.finding is Finding.SEVERAL:
        return dividing(span, found.changes, batch)
    ends = np.array([found.threshold.low, found.threshold.high])
    ends = np.where(np.isfinite(ends), ends, [span.low, span.high])
    start, stop = span.coordinate(ends)
    wider = np.linspace(start - (stop - start) / 2, stop + (stop - start) / 2, batch)
    limits = span.coordinate(np.array([span.low, span.high]))
    inside = np.clip(wider, *limits)
    if np.any(inside != wider):
        inside = np.linspace(inside[0], inside[-1], batch)
    return np.unique(span.value(inside))

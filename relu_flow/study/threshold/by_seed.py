"""Each seed's own threshold, and quantiles of them over seeds."""

from collections.abc import Callable
from typing import Literal

import equinox as eqx
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ..statistics.intervals import quantile_interval
from ..statistics.outcomes import NOT_A_NUMBER, Interval, Tally, check_count
from .axis import Axis, AxisKind
from .search import Finding, changes_between, dividing, first_batch

SeedProperty = Callable[[Float[np.ndarray, " lanes"], np.ndarray], ArrayLike]


class SeedThresholds(eqx.Module):
    """Where a property stops holding, for each seed.

    Attributes:
        seeds: The seeds.
        low: Lower end of the interval that holds the threshold: the property has not changed
            there yet. `-inf` if it is below the range.
        high: Upper end; `inf` if it is above the range. If a seed's property changes several
            times the interval holds all changes. Both are NaN if a run of the seed failed.
        findings: For each seed what was found; `None` where a run failed.
        axis: The axis.
        tolerance: The tolerance asked for.
    """

    seeds: np.ndarray
    low: Float[np.ndarray, " seeds"]
    high: Float[np.ndarray, " seeds"]
    findings: tuple[Finding | None, ...]
    axis: AxisKind
    tolerance: float

    def quantile(self, fraction: float = 0.5, level: float = 0.95) -> Interval:
        """Return a quantile of the thresholds over seeds, with its interval.

        The interval of `quantile_interval`, exact for independent seeds, from the lower ends to
        the upper ends of the seeds' own intervals; thresholds beyond the range are counted as
        censored. The fraction of seeds in which the
        property holds crosses `1 - fraction` there if it holds below, `fraction` if above.

        Raises:
            ValueError: If `fraction` or `level` is not between 0 and 1.
        """
        lower = quantile_interval(self.low, fraction, level=level)
        upper = quantile_interval(self.high, fraction, level=level)
        estimate = (lower.estimate + upper.estimate) / 2
        if self.axis == "log" and lower.estimate > 0 and np.isfinite(upper.estimate):
            estimate = float(np.sqrt(lower.estimate * upper.estimate))
        lost = sum(finding is None for finding in self.findings)
        beyond = int(np.sum(np.isinf(self.low) | np.isinf(self.high)))
        tally = Tally(lower.tally.used, beyond, {NOT_A_NUMBER: lost} if lost else {})
        return Interval(estimate, lower.low, upper.high, level, tally, "order statistics")


def find_seed_thresholds(
    property: SeedProperty,
    seeds: ArrayLike,
    low: float,
    high: float,
    *,
    tolerance: float,
    axis: AxisKind = "linear",
    side: Literal["below", "above"] = "below",
    batch: int = 4,
    max_rounds: int = 50,
) -> SeedThresholds:
    """Find each seed's own threshold: all seeds are bisected at once.

    For paired runs (the same directions and data at every value): the fraction of seeds in
    which the property holds is then the distribution of the seeds' thresholds, which needs no
    curve and far fewer runs than counts of fresh seeds.

    Args:
        property: Takes values and seeds, arrays of one length (at most `batch` for each
            seed), and returns for each pair whether the property holds: booleans, or 0, 1
            and NaN where the run failed.
        seeds: The seeds, distinct.
        low: Smallest value.
        high: Largest value.
        tolerance: How close the values may be at which it holds and fails; as `find_threshold`.
        axis: "linear", "log" or "integer".
        side: On which side of the threshold the property is expected to hold. Says where the
            threshold is of a seed for which it holds everywhere, or nowhere; a seed that
            changes once in the other direction counts as one that is not monotone.
        batch: How many values at a time for each seed, at least 2.
        max_rounds: How often the property may be called.

    Raises:
        ValueError: If an argument is out of its range, or the property's answer is not one
            boolean, 0, 1 or NaN for each pair.
    """
    span = Axis(low, high, axis, tolerance)
    check_count("batch", batch, 2)
    check_count("max_rounds", max_rounds, 1)
    if side not in ("below", "above"):
        raise ValueError(f'Argument `side` must be "below" or "above", but it is {side!r}.')
    labels = np.asarray(seeds)
    if labels.ndim != 1 or not labels.size or np.unique(labels).size != labels.size:
        raise ValueError("Argument `seeds` must be distinct, on one axis, but they are not.")
    known: list[dict[float, float]] = [{} for _ in labels]
    asked = [first_batch(span, batch) for _ in labels]
    for _ in range(max_rounds):
        _ask(property, labels, asked, known)
        asked = [_divide(span, answers, batch) for answers in known]
        if not any(points.size for points in asked):
            break
    found = [_judge(answers, side) for answers in known]
    lows, highs, findings = zip(*found, strict=True)
    return SeedThresholds(labels, np.array(lows), np.array(highs), findings, axis, tolerance)


def _ask(
    property: SeedProperty,
    labels: np.ndarray,
    asked: list[Float[np.ndarray, " _"]],
    known: list[dict[float, float]],
) -> None:
    owner = np.repeat(np.arange(labels.size), [points.size for points in asked])
    points = np.concatenate(asked)
    answers = np.asarray(property(points, labels[owner]), float)
    valid = np.isin(answers, (0.0, 1.0)) | np.isnan(answers)
    if answers.shape != points.shape or not np.all(valid):
        raise ValueError(
            "Argument `property` must return one boolean, 0, 1 or NaN for each value and seed, "
            f"but for {points.size} of them it returned shape {answers.shape}."
        )
    for who, point, answer in zip(owner, points.tolist(), answers.tolist(), strict=True):
        known[who][point] = answer


def _sorted(answers: dict[float, float]) -> tuple[np.ndarray, np.ndarray]:
    points = np.array(sorted(answers))
    return points, np.array([answers[point] for point in points.tolist()])


def _divide(span: Axis, answers: dict[float, float], batch: int) -> Float[np.ndarray, " points"]:
    points, holds = _sorted(answers)
    if np.any(np.isnan(holds)):
        return np.empty(0)
    return dividing(span, changes_between(points, holds == 1), batch)


def _judge(answers: dict[float, float], side: str) -> tuple[float, float, Finding | None]:
    points, holds = _sorted(answers)
    if np.any(np.isnan(holds)):
        return np.nan, np.nan, None
    changes = changes_between(points, holds == 1)
    below = side == "below"
    if not changes:
        everywhere = bool(holds[0] == 1)
        finding = Finding.EVERYWHERE if everywhere else Finding.NOWHERE
        if everywhere == below:
            return float(points[-1]), np.inf, finding
        return -np.inf, float(points[0]), finding
    ends = [end for change in changes for end in (change.holds_at, change.fails_at)]
    expected = (changes[0].holds_at < changes[0].fails_at) == below
    once = len(changes) == 1 and expected
    return min(ends), max(ends), Finding.ONE if once else Finding.SEVERAL

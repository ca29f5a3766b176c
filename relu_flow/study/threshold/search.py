"""Where a property stops holding along one axis, by bisection with batches."""

import enum
from collections.abc import Callable

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from ..statistics.outcomes import check_count
from .axis import Axis, AxisKind


class Finding(enum.Enum):
    """What was found of a property along an axis."""

    ONE = "stops holding once"
    EVERYWHERE = "holds everywhere"
    NOWHERE = "holds nowhere"
    SEVERAL = "not monotone: stops and starts holding"
    UNDECIDED = "undecided: too few trials"


class Change(eqx.Module):
    """Two neighbouring values, at one of which a property holds and at the other fails.

    Attributes:
        holds_at: Where it holds.
        fails_at: Where it fails.
    """

    holds_at: float
    fails_at: float


class Threshold(eqx.Module):
    """Where a property stops holding.

    Attributes:
        finding: Whether there is one threshold, none, or several.
        changes: Each pair of neighbouring values between which the property changes, in
            ascending order. It holds at one end of a pair and fails at the other; in between
            nothing is known.
        points: All values it was evaluated at, ascending.
        holds: Whether it held there.
        converged: Whether all changes are within the tolerance.
    """

    finding: Finding
    changes: tuple[Change, ...]
    points: Float[np.ndarray, " points"]
    holds: Bool[np.ndarray, " points"]
    converged: bool

    @property
    def holds_at(self) -> float:
        """Where the property still holds next to the only change; NaN if there is not one."""
        return self.changes[0].holds_at if len(self.changes) == 1 else np.nan

    @property
    def fails_at(self) -> float:
        """Where the property fails next to the only change; NaN if there is not one."""
        return self.changes[0].fails_at if len(self.changes) == 1 else np.nan

    def __str__(self) -> str:
        low, high = self.points[0], self.points[-1]
        text = f"{self.finding.value} in [{low:g}, {high:g}] ({self.points.size} points)"
        pairs = [f"holds at {c.holds_at:g}, fails at {c.fails_at:g}" for c in self.changes]
        return "; ".join([text, *pairs] + ([] if self.converged else ["not converged"]))


def find_threshold(
    property: Callable[[Float[np.ndarray, " points"]], ArrayLike],
    low: float,
    high: float,
    *,
    tolerance: float,
    axis: AxisKind = "linear",
    batch: int = 8,
    max_rounds: int = 50,
) -> Threshold:
    """Find where a property stops holding, between two values of a parameter.

    The first batch is spread evenly over the range, ends included. Every later one divides
    the intervals between neighbours of which one holds and one fails, so that each round
    makes them `batch + 1` times shorter if there is one. Whether the property holds below
    or above is found out. A property that changes more than once is reported with all changes
    that were seen; changes there and back between two neighbours of the first batch
    are not seen.

    For a property of random networks see `find_random_threshold` (a fraction of seeds) and
    `find_seed_thresholds` (each seed's own threshold).

    Args:
        property: Takes an array of at most `batch` values and returns for each whether it holds.
        low: Smallest value, such as a log scale, angle, mu or width.
        high: Largest value.
        tolerance: How close the values may be at which it holds and fails: a difference or, on
            a log axis, a ratio less one. On an integer axis 1 is neighbours.
        axis: "linear", "log" or "integer". For scales that underflow take their
            logarithms and "linear".
        batch: How many values at a time, at least 2.
        max_rounds: How often the property may be called.

    Raises:
        ValueError: If the range, `tolerance`, `axis`, `batch` or `max_rounds` is not valid, or
            the property's answer is not one boolean for each value.

    Example:
        >>> import numpy as np, relu_flow as rf
        >>> found = rf.find_threshold(lambda x: np.asarray(x) < 2.0, 1.0, 4.0, tolerance=1e-6)
        >>> found.finding.value, abs(found.holds_at - 2.0) < 1e-6
        ('stops holding once', True)
    """
    span = Axis(low, high, axis, tolerance)
    check_count("batch", batch, 2)
    check_count("max_rounds", max_rounds, 1)
    points = first_batch(span, batch)
    holds = _answers(property, points)
    for _ in range(max_rounds - 1):
        asked = dividing(span, changes_between(points, holds), batch)
        if not asked.size:
            break
        answers = _answers(property, asked)
        points, order = np.unique(np.concatenate([points, asked]), return_index=True)
        holds = np.concatenate([holds, answers])[order]
    changes = changes_between(points, holds)
    converged = all(span.close(change.holds_at, change.fails_at) for change in changes)
    return Threshold(_finding(changes, holds), changes, points, holds, converged)


def first_batch(span: Axis, batch: int) -> Float[np.ndarray, " points"]:
    """Return values spread evenly over a range, ends included."""
    inner = span.spread(span.low, span.high, batch - 2)
    return np.concatenate([[span.low], inner, [span.high]])


def changes_between(
    points: Float[np.ndarray, " points"], holds: Bool[np.ndarray, " points"]
) -> tuple[Change, ...]:
    """Return the pairs of neighbours of which one holds and one fails."""
    where = np.flatnonzero(holds[1:] != holds[:-1])
    pairs = [(i, i + 1) if holds[i] else (i + 1, i) for i in where]
    return tuple(Change(float(points[yes]), float(points[no])) for yes, no in pairs)


def dividing(span: Axis, changes: tuple[Change, ...], batch: int) -> Float[np.ndarray, " asked"]:
    """Return values that divide the changes not yet within the tolerance evenly.

    If there are more than a batch can divide, the widest come first.
    """

    def width(change: Change) -> float:
        return abs(np.subtract(*span.coordinate(np.array([change.holds_at, change.fails_at]))))

    wide = [change for change in changes if not span.close(change.holds_at, change.fails_at)]
    wide = sorted(wide, key=width, reverse=True)[:batch]
    shares = [batch // len(wide) + (i < batch % len(wide)) for i in range(len(wide))]
    parts = [span.spread(c.holds_at, c.fails_at, n) for c, n in zip(wide, shares, strict=True)]
    # Values next to each other in floating point have none between them.
    return np.unique(np.concatenate(parts)) if parts else np.empty(0)


def _finding(changes: tuple[Change, ...], holds: Bool[np.ndarray, " points"]) -> Finding:
    if not changes:
        return Finding.EVERYWHERE if holds[0] else Finding.NOWHERE
    return Finding.ONE if len(changes) == 1 else Finding.SEVERAL


def _answers(
    property: Callable[[Float[np.ndarray, " points"]], ArrayLike],
    points: Float[np.ndarray, " points"],
) -> Bool[np.ndarray, " points"]:
    answers = np.asarray(property(points))
    if answers.shape != points.shape or answers.dtype != bool:
        raise ValueError(
            "Argument `property` must return one boolean for each value, but for "
            f"{points.size} values it returned type {answers.dtype} and shape {answers.shape}."
        )
    return answers

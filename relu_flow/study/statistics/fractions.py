"""Fractions of runs, with Wilson intervals."""

from statistics import NormalDist

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from .outcomes import Interval, Tally, check_level, usable


def wilson(
    held: ArrayLike, trials: ArrayLike, level: float = 0.95
) -> tuple[Float[np.ndarray, "*batch"], Float[np.ndarray, "*batch"]]:
    """Return the ends of the Wilson score interval of a binomial fraction.

    The fractions that a score test at `1 - level` does not refuse. Its coverage is `level`
    on average over fractions, not at each. No trials: from 0 to 1.

    Args:
        held: How many trials came out.
        trials: How many there were.
        level: Confidence level.

    Raises:
        ValueError: If a count is negative, more came out than there were, or `level` is
            not between 0 and 1.

    Source:
        E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical
        Inference" (1927).
    """
    check_level(level)
    successes, number = np.broadcast_arrays(np.asarray(held, float), np.asarray(trials, float))
    if np.any(successes < 0) or not np.all(successes <= number):
        raise ValueError(
            f"Argument `held` must be from 0 to `trials`, but {held!r} of {trials!r} were given."
        )
    z = NormalDist().inv_cdf((1 + level) / 2)
    n = np.maximum(number, 1.0)
    p = successes / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    empty = number == 0
    # At none and at all the end is exactly 0 and 1; the formula is off by rounding.
    low = np.where((successes == 0) | empty, 0.0, middle - half)
    high = np.where((successes == number) | empty, 1.0, middle + half)
    return low, high


def fraction_interval(
    holds: ArrayLike, *, codes: ArrayLike | None = None, level: float = 0.95
) -> Interval:
    """Return the fraction of runs in which something holds, with its Wilson interval.

    Args:
        holds: For each run yes or no: booleans, or 0, 1 and NaN where it is not known.
        codes: Result codes; see `usable`. Runs that failed are no trials.
        level: Confidence level.

    Raises:
        ValueError: If `holds` has other values, `codes` another shape, or `level` is not
            between 0 and 1.
    """
    answers = np.asarray(holds, float).ravel()
    good, failures = usable(answers, None if codes is None else np.ravel(np.asarray(codes)))
    if not np.all(np.isin(answers[good], (0.0, 1.0))):
        raise ValueError("Argument `holds` must be booleans, or 0, 1 and NaN, but it is not.")
    held, trials = int(answers[good].sum()), int(good.sum())
    low, high = wilson(held, trials, level)
    estimate = held / trials if trials else np.nan
    tally = Tally(trials, 0, failures)
    return Interval(estimate, float(low), float(high), level, tally, "Wilson")

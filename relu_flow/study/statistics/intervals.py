"""Quantiles and means over seeds, with confidence intervals."""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import bdtr

from .bootstrap import bootstrap_ends
from .outcomes import Interval, Tally, check_count, check_fraction, check_level, usable


def quantile_interval(
    values: ArrayLike,
    fraction: float = 0.5,
    *,
    codes: ArrayLike | None = None,
    level: float = 0.95,
) -> Interval:
    r"""Return a quantile over runs, with an interval between two order statistics.

    The interval is exact: of $n$ independent values from any distribution the number below
    the quantile is binomial, and each end is the innermost order statistic that the
    quantile is beyond with probability at most half of `1 - level`. No distribution is
    assumed and nothing is resampled; the coverage is at least `level`, and more where the
    binomial has no better step. With too few runs an end is infinite: the median needs 6
    at a level of 0.95, the 0.9-quantile 36 for its upper end.

    Args:
        values: One for each run. `inf` is allowed and is larger than all others: right for
            times not reached if all runs have one end. If ends differ use `survival`.
        fraction: Of runs at or below the quantile, in (0, 1); 0.5 is the median.
        codes: Result codes; see `usable`.
        level: Confidence level.

    Raises:
        ValueError: If `fraction` or `level` is not between 0 and 1, or `codes` has another
            shape than `values`.

    Source:
        The estimate interpolates linearly, as `numpy.quantile` does. The interval is the
        classical distribution-free one (David, Nagaraja, "Order Statistics", 2003, sec. 7.1).
    """
    check_fraction(fraction)
    check_level(level)
    sample, tally = _sorted_sample(values, codes)
    lower, upper = order_statistics(sample.size, fraction, level)
    padded = np.concatenate([[-np.inf], sample, [np.inf]])
    return Interval(
        _interpolated(sample, fraction),
        float(padded[lower]),
        float(padded[upper]),
        level,
        tally,
        "order statistics",
    )


def order_statistics(size: int, fraction: float, level: float) -> tuple[int, int]:
    """Return the ranks, from 1, of the order statistics that bound a quantile.

    0 and `size + 1` stand for ends that the sample cannot bound.
    """
    if size == 0:
        return 0, 1
    tail = (1 - level) / 2
    below = bdtr(np.arange(size + 1), size, fraction)  # P(number below the quantile <= k)
    # P(quantile < X_(l)) = P(number <= l - 1); P(quantile > X_(u)) = P(number >= u).
    lower = int(np.sum(below[:-1] <= tail))
    allowed = np.flatnonzero(1 - below[:-1] <= tail)  # 1 - P(number <= k): rank k + 1
    upper = int(allowed[0]) + 1 if allowed.size else size + 1
    return lower, upper


def mean_interval(
    values: ArrayLike,
    *,
    codes: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 4999,
    seed: int = 0,
) -> Interval:
    """Return the mean over runs, with a bootstrap interval.

    The interval is the accelerated bootstrap with the correction for small samples of
    `bootstrap_ends`. Unlike that of a quantile it is not exact. Measured at a level of 0.95:
    it covers the mean of 10 Gaussian numbers in 94 % of cases, that of 10 exponential ones in
    91.5 %, of 5 in 87 %. The same seed gives the same interval.

    Args:
        values: One for each run, finite.
        codes: Result codes; see `usable`.
        level: Confidence level.
        resamples: Number of bootstrap samples.
        seed: Of the resampling.

    Raises:
        ValueError: If a value of a run that succeeded is infinite, `level` is not between 0
            and 1, or `codes` has another shape than `values`.
    """
    check_level(level)
    check_count("resamples", resamples, 1)
    sample, tally = _sorted_sample(values, codes)
    if np.any(np.isinf(sample)):
        raise ValueError(
            "Argument `values` must be finite where runs succeeded, but some are infinite. Times "
            "that were not reached have no mean: use `quantile_interval` or `survival`."
        )
    if sample.size < 2:
        estimate = float(sample[0]) if sample.size else np.nan
        return Interval(estimate, -np.inf, np.inf, level, tally, "too few runs")

    def means(weights: Float[np.ndarray, "draws runs"]) -> Float[np.ndarray, " draws"]:
        return weights @ sample / sample.size

    low, high = bootstrap_ends(means, sample.size, level=level, resamples=resamples, seed=seed)
    return Interval(float(sample.mean()), low, high, level, tally, "bootstrap")


def _sorted_sample(
    values: ArrayLike, codes: ArrayLike | None
) -> tuple[Float[np.ndarray, " runs"], Tally]:
    numbers = np.asarray(values, float).ravel()
    good, failures = usable(numbers, None if codes is None else np.ravel(np.asarray(codes)))
    sample = np.sort(numbers[good])
    return sample, Tally(sample.size, 0, failures)


def _interpolated(sample: Float[np.ndarray, " runs"], fraction: float) -> float:
    """Interpolate between order statistics; one that is not used is not multiplied by 0."""
    if sample.size == 0:
        return np.nan
    position = fraction * (sample.size - 1)
    before = int(position)
    share = position - before
    if share == 0:
        return float(sample[before])
    return float((1 - share) * sample[before] + share * sample[before + 1])

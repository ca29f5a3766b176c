"""Times that some runs do not reach: treated as censored, never left out or capped."""

from statistics import NormalDist

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from scipy.stats import CensoredData, logrank as scipy_logrank

from .outcomes import Interval, Tally, check_fraction, check_level, usable


class Survival(eqx.Module):
    """The Kaplan-Meier estimate of the fraction of runs that have not reached something.

    Attributes:
        time: Distinct times at which runs reached it, ascending.
        at_risk: How many runs were under way and had not reached it just before.
        events: How many reached it then.
        fraction: Of runs that have not reached it just after; right-continuous steps.
        low: Lower end of the confidence band, pointwise.
        high: Upper end of the confidence band, pointwise.
        level: Confidence level of the band at each time (not of the whole curve at once).
        tally: How many runs it is of.
        end: The latest time up to which a run went; the curve says nothing beyond.
    """

    time: Float[np.ndarray, " events"]
    at_risk: Int[np.ndarray, " events"]
    events: Int[np.ndarray, " events"]
    fraction: Float[np.ndarray, " events"]
    low: Float[np.ndarray, " events"]
    high: Float[np.ndarray, " events"]
    level: float
    tally: Tally
    end: float

    def at(self, times: ArrayLike) -> Float[np.ndarray, "*batch"]:
        """Return the fraction that has not reached it at given times; NaN beyond `end`.

        Where all runs have reached it the fraction is 0 at every later time.
        """
        asked = np.asarray(times, float)
        steps = np.concatenate([[1.0], self.fraction])
        values = steps[np.searchsorted(self.time, asked, side="right")]
        return np.where((asked > self.end) & (values > 0), np.nan, values)

    def quantile(self, fraction: float = 0.5) -> Interval:
        """Return the time by which a fraction of runs has reached it; 0.5 is the median.

        The estimate, or an end of the interval, is `inf`, that is not reached, where the
        curve, or the band, does not fall so far. The interval holds all times at which the band
        holds `1 - fraction`.

        Raises:
            ValueError: If `fraction` is not between 0 and 1.

        Source:
            Brookmeyer, Crowley, "A Confidence Interval for the Median Survival Time"
            (1982), with the band of this curve.
        """
        check_fraction(fraction)
        # A curve that is at the level up to rounding has reached it.
        left = (1 - fraction) * (1 + 1e-12)
        ends = [self._first(curve <= left) for curve in (self.fraction, self.low, self.high)]
        estimate, low, high = ends if self.tally.used else (np.nan, -np.inf, np.inf)
        return Interval(estimate, low, high, self.level, self.tally, "Kaplan-Meier")

    def _first(self, reached: Bool[np.ndarray, " events"]) -> float:
        return float(self.time[np.argmax(reached)]) if np.any(reached) else np.inf


class LogRank(eqx.Module):
    """A comparison of two groups of censored times.

    Attributes:
        statistic: Chi-squared, with one degree of freedom.
        p_value: Two-sided, from the limit of many events.
        first: Tally of the first group.
        second: Tally of the second group.
    """

    statistic: float
    p_value: float
    first: Tally
    second: Tally


def survival(
    times: ArrayLike,
    ends: ArrayLike,
    *,
    codes: ArrayLike | None = None,
    censor_failed: bool = False,
    level: float = 0.95,
) -> Survival:
    r"""Estimate how times are distributed that some runs do not reach.

    A run that ends at $e$ without having reached the level says that its time is larger
    than $e$, and that is how it enters: as at risk up to $e$ (included).

    The band is $S^{\exp(\pm z s/\ln S)}$ with Greenwood's $s^2 = \sum d/(n(n-d))$: the
    interval of $\ln(-\ln S)$, which stays inside $[0, 1]$. At $S = 0$, where it is not
    defined, the lower end is 0 and the upper end that of the time before (1 if there is none).

    Args:
        times: For each run the time at which it reached the level; `inf` where it did not
            (as the milestones of `solve`).
        ends: Up to which time each run went, or one for all. Matters only where a time is `inf`.
        codes: Result codes; see `usable`.
        censor_failed: Whether runs that failed enter up to their end, with the times they
            reached before, rather than being left out. Right if failing has nothing to do
            with how late the level is reached. Their codes are then not counted as left out.
        level: Confidence level.

    Raises:
        ValueError: If a time is `-inf`, a run that was used ends at a time that is not finite
            or before a time it reached, shapes differ, or `level` is not between 0 and 1.

    Source:
        Kaplan, Meier (1958); for the band Kalbfleisch, Prentice, "The Statistical Analysis of
        Failure Time Data" (2002), sec. 1.4.
    """
    check_level(level)
    time, reached, tally = _censored(times, ends, codes, censor_failed)
    distinct, events = np.unique(time[reached], return_counts=True)
    at_risk = time.size - np.searchsorted(np.sort(time), distinct, side="left")
    fraction = np.cumprod(1 - events / np.maximum(at_risk, 1))
    fraction = np.where(at_risk == events, 0.0, fraction)  # not a rounding above it
    low, high = _band(fraction, at_risk, events, level)
    end = float(time.max()) if time.size else np.nan
    return Survival(distinct, at_risk, events, fraction, low, high, level, tally, end)


def log_rank(
    first: ArrayLike,
    second: ArrayLike,
    first_ends: ArrayLike,
    second_ends: ArrayLike,
    *,
    first_codes: ArrayLike | None = None,
    second_codes: ArrayLike | None = None,
) -> LogRank:
    """Test whether two groups of censored times have one distribution.

    The groups must be of different seeds: paired runs are not independent.

    Args:
        first: Times of the first group, `inf` where not reached.
        second: Times of the second group.
        first_ends: Up to which time each run of the first group went, or one for all.
        second_ends: Likewise of the second.
        first_codes: Result codes of the first group; see `usable`.
        second_codes: Result codes of the second group.

    Raises:
        ValueError: As `survival`, or if a group has no run left or no time was reached.

    Source:
        Mantel (1966); the variance is hypergeometric, with ties. Computed by
        `scipy.stats.logrank`.
    """
    groups = [
        _censored(first, first_ends, first_codes, False),
        _censored(second, second_ends, second_codes, False),
    ]
    for name, (time, _, tally) in zip(("first", "second"), groups, strict=True):
        if not time.size:
            raise ValueError(f"Argument `{name}` must have runs that succeeded, but: {tally}.")
    if not any(np.any(reached) for _, reached, _ in groups):
        raise ValueError("Argument `first` or `second` must have a finite time, but none has.")
    x, y = (CensoredData(uncensored=t[r], right=t[~r]) for t, r, _ in groups)
    test = scipy_logrank(x, y)
    statistic, p_value = float(test.statistic) ** 2, float(test.pvalue)
    return LogRank(statistic, p_value, groups[0][2], groups[1][2])


def _censored(
    times: ArrayLike, ends: ArrayLike, codes: ArrayLike | None, censor_failed: bool
) -> tuple[Float[np.ndarray, " runs"], Bool[np.ndarray, " runs"], Tally]:
    """Return for each run used how far it is known, whether it got there, and the tally."""
    given = np.asarray(times, float)
    try:
        end = np.broadcast_to(np.asarray(ends, float), given.shape).ravel()
    except ValueError:
        raise ValueError(
            f"Argument `ends` must be one number or of the shape of the times, {given.shape}, "
            f"but its shape is {np.shape(ends)}."
        ) from None
    given = given.ravel()
    good, failures = usable(given, None if codes is None else np.ravel(np.asarray(codes)))
    if censor_failed:
        good, failures = usable(given, None)
    time, end = given[good], end[good]
    reached = np.isfinite(time)
    if np.any(time == -np.inf):
        raise ValueError("Argument `times` must be finite or `inf`, but a time is `-inf`.")
    if not np.all(np.isfinite(end[~reached])):
        raise ValueError(
            "Argument `ends` must be finite where a time was not reached, but some are not."
        )
    if np.any(end[reached] < time[reached]):
        raise ValueError("Argument `ends` must be no earlier than the times reached, but some are.")
    tally = Tally(time.size, int(np.sum(~reached)), failures)
    return np.where(reached, time, end), reached, tally


def _band(
    fraction: Float[np.ndarray, " events"],
    at_risk: Int[np.ndarray, " events"],
    events: Int[np.ndarray, " events"],
    level: float,
) -> tuple[Float[np.ndarray, " events"], Float[np.ndarray, " events"]]:
    z = NormalDist().inv_cdf((1 + level) / 2)
    inside = fraction > 0
    left = np.where(inside, at_risk - events, 1)
    spread = np.sqrt(np.cumsum(np.where(inside, events / (at_risk * left), 0.0)))
    safe = np.where(inside, fraction, 0.5)
    factor = np.exp(z * spread / -np.log(safe))
    low = np.where(inside, safe**factor, 0.0)
    high = np.where(inside, safe ** (1 / factor), 1.0)
    return low, np.minimum.accumulate(high) if high.size else high

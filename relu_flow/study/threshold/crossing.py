r"""Where a monotone curve of fractions crosses a level, with no further assumption on it.

A hypothesis is a gap between neighbouring points: the fraction is at least the level on one
side of it and at most the level on the other, and monotone. Its likelihood is that of
isotonic regression on either side, cut off at the level. A gap is refused if twice its
log-likelihood falls short of the best curve's, of either direction, by more than the quantile
of chi-squared with one degree of freedom. That is cautious: for smooth curves the limit law has
smaller quantiles (2.3 rather than 3.8 at 0.95, after Banerjee and Wellner, "Likelihood Ratio
Tests for Monotone Functions", 2001, recalled), which leaves room for points chosen one
after the other. A logistic curve instead gives shorter intervals that miss the crossing where
the curve is not one.
"""

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import isotonic_regression
from scipy.special import xlog1py, xlogy


class Gaps(eqx.Module):
    """Which gaps are not refused. Gap i is before point i; the last is after all points.

    Attributes:
        accepted: Between which neighbours the crossing may be, for either direction.
        best: Which of them are the likeliest.
        everywhere: Whether it is not refused that the fraction is nowhere below the level.
        nowhere: Whether it is not refused that the fraction is nowhere above the level.
    """

    accepted: Bool[np.ndarray, " gaps"]
    best: Bool[np.ndarray, " gaps"]
    everywhere: bool
    nowhere: bool


def gaps(
    held: Float[np.ndarray, " points"],
    trials: Float[np.ndarray, " points"],
    fraction: float,
    z: float,
) -> Gaps:
    """Find the gaps in which the curve may cross a level.

    Args:
        held: How many trials held, at points in order.
        trials: How many there were, at least one at each.
        fraction: The level, in (0, 1).
        z: Normal quantile of the confidence level.
    """
    falling = _likelihoods(held, trials, fraction)
    # A rising curve falls from the other end.
    rising = _likelihoods(held[::-1], trials[::-1], fraction)[::-1]
    best = max(_free(held, trials), _free(held[::-1], trials[::-1]))
    least = best - z**2 / 2 - 1e-9
    values = np.maximum(falling, rising)
    above, below = max(falling[-1], rising[0]), max(falling[0], rising[-1])
    return Gaps(
        values >= least,
        values >= values.max() - 1e-9,
        bool(above >= least),
        bool(below >= least),
    )


def _likelihoods(
    held: Float[np.ndarray, " points"], trials: Float[np.ndarray, " points"], fraction: float
) -> Float[np.ndarray, " gaps"]:
    """Return for each gap the largest log-likelihood of curves that fall through it."""
    return np.array(
        [
            _falling(held[:gap], trials[:gap], fraction, 1.0)
            + _falling(held[gap:], trials[gap:], 0.0, fraction)
            for gap in range(held.size + 1)
        ]
    )


def _free(held: Float[np.ndarray, " points"], trials: Float[np.ndarray, " points"]) -> float:
    return _falling(held, trials, 0.0, 1.0)


def _falling(
    held: Float[np.ndarray, " points"],
    trials: Float[np.ndarray, " points"],
    low: float,
    high: float,
) -> float:
    """Return the largest log-likelihood of falling curves between two bounds.

    The bounded optimum of isotonic regression is the free one, cut off.
    """
    if not held.size:
        return 0.0
    curve = isotonic_regression(held / trials, weights=trials, increasing=False).x
    curve = np.clip(curve, max(low, 0.0), min(high, 1.0))
    return float(np.sum(xlogy(held, curve) + xlog1py(trials - held, -curve)))

r"""Bootstrap intervals over clusters: what is drawn anew is seeds, with all of their points."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri, stdtrit

CHUNK = 2_000_000  # weights held at once


def bootstrap_ends(
    statistic: Callable[[Float[np.ndarray, "draws clusters"]], Float[np.ndarray, " draws"]],
    clusters: int,
    *,
    level: float,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    r"""Return the ends of a bootstrap interval of a statistic of weighted clusters.

    Bias-corrected and accelerated (BCa), with the acceleration from the jackknife, and
    widened for few clusters: the normal quantile at either end is replaced by that of
    Student's $t$ with `clusters - 1` degrees of freedom times
    $\sqrt{c/(c-1)}$, without which the interval of a mean of ten Gaussians is 10 % shorter
    than it has to be.

    Args:
        statistic: For weights (how often each cluster was drawn; of the sum `clusters`) the
            statistic, for many draws at once; NaN where a draw does not determine it.
        clusters: How many there are, at least 2.
        level: Confidence level.
        resamples: How many draws.
        seed: Of the draws.

    Source:
        Efron, "Better Bootstrap Confidence Intervals" (1987); for the widening Hesterberg,
        "What Teachers Should Know About the Bootstrap" (2015), "expanded percentile".
    """
    rng = np.random.default_rng(seed)
    ones = np.full(clusters, 1 / clusters)
    size = max(1, CHUNK // clusters)
    counts = [min(size, resamples - start) for start in range(0, resamples, size)]
    draws = np.concatenate([statistic(rng.multinomial(clusters, ones, n) * 1.0) for n in counts])
    draws = np.sort(draws[np.isfinite(draws)])
    estimate = statistic(np.ones((1, clusters)))[0]
    if draws.size == 0 or not np.isfinite(estimate):
        return -np.inf, np.inf
    # Ties with the estimate (lattice-valued data) count as half below.
    below = (np.mean(draws < estimate) + np.mean(draws <= estimate)) / 2
    bias = ndtri(np.clip(below, 1 / (2 * draws.size), 1 - 1 / (2 * draws.size)))
    speed = _acceleration(statistic, clusters)
    widened = np.sqrt(clusters / (clusters - 1)) * stdtrit(clusters - 1, (1 + level) / 2)
    shifted = bias + np.array([-widened, widened])
    ranks = ndtr(bias + shifted / np.maximum(1 - speed * shifted, 1e-3))
    low, high = np.quantile(draws, ranks)
    return float(low), float(high)


def _acceleration(
    statistic: Callable[[Float[np.ndarray, "draws clusters"]], Float[np.ndarray, " draws"]],
    clusters: int,
) -> float:
    """Return the acceleration from leaving out one cluster at a time."""
    scale = clusters / (clusters - 1)
    size = max(1, CHUNK // clusters)
    left_out = []
    for start in range(0, clusters, size):
        rows = np.arange(start, min(start + size, clusters))
        weights = np.full((rows.size, clusters), scale)
        weights[np.arange(rows.size), rows] = 0.0
        left_out.append(statistic(weights))
    values = np.concatenate(left_out)
    values = values[np.isfinite(values)]
    away = values.mean() - values if values.size else np.zeros(1)
    spread = np.sum(away**2) ** 1.5
    return float(np.sum(away**3) / (6 * spread)) if spread > 0 else 0.0

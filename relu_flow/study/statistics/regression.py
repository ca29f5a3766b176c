"""Straight lines through weighted points, many weightings at once; censored points too."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import log_ndtr

CHUNK = 500_000  # weights worked on at once
SHARPEST = 1e6  # inverse of the smallest spread about a line, in units of that of y


def line(
    x: Float[np.ndarray, " points"],
    y: Float[np.ndarray, " points"],
    weights: Float[np.ndarray, " points"],
    cluster: Int[np.ndarray, " points"],
    draws: Float[np.ndarray, "draws clusters"],
) -> tuple[Float[np.ndarray, " draws"], Float[np.ndarray, " draws"]]:
    """Return intercepts and slopes of weighted least squares; NaN where not determined.

    Args:
        x: Abscissas, about zero.
        y: Ordinates.
        weights: Weight of each point.
        cluster: Number of the cluster of each point.
        draws: Weight of each cluster, which multiplies those of its points.
    """
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y]) * weights
    sums = np.stack([np.bincount(cluster, term, draws.shape[1]) for term in terms], axis=1)
    total, sx, sy, sxx, sxy = (draws @ sums).T
    determinant = total * sxx - sx**2
    # Equal abscissas leave a determinant of rounding's size.
    known = determinant > 1e-12 * total * sxx
    safe = np.where(known, determinant, 1.0)
    slope = np.where(known, (total * sxy - sx * sy) / safe, np.nan)
    intercept = np.where(known, (sxx * sy - sx * sxy) / safe, np.nan)
    return intercept, slope


def censored_line(
    x: Float[np.ndarray, " points"],
    y: Float[np.ndarray, " points"],
    reached: Bool[np.ndarray, " points"],
    weights: Float[np.ndarray, "draws points"],
) -> tuple[Float[np.ndarray, " draws"], Float[np.ndarray, " draws"]]:
    r"""Return intercepts and slopes where some ordinates are lower bounds (Tobit).

    With $\theta = 1/\sigma$ and $\gamma = \theta(\text{intercept}, \text{slope})$ the
    log-likelihood $\sum w(\ln\theta - r^2/2) + \sum w\ln\Phi(-r)$, where
    $r = \theta y - \gamma\cdot(1, x)$, is concave (Olsen, 1978): the sums are over points
    reached and not. Newton's method with halved steps goes to its only maximum. Points on
    an exact line have none ($\theta$ grows for ever); the line has converged long before.

    Args:
        x: Abscissas, about zero.
        y: Ordinates; where not reached their lower bounds.
        reached: Which are ordinates.
        weights: Weight of each point, for each fit.

    Returns:
        Intercepts and slopes; NaN where the points do not determine them.
    """
    scales = _scale(x), _scale(y)
    size = max(1, CHUNK // x.size)
    parts = [
        _newton(x / scales[0], y / scales[1], reached, weights[start : start + size])
        for start in range(0, weights.shape[0], size)
    ]
    found = np.concatenate(parts)
    lines = found[:, :2] / found[:, 2:]
    return lines[:, 0] * scales[1], lines[:, 1] * scales[1] / scales[0]


def residual_spread(
    x: Float[np.ndarray, " points"],
    y: Float[np.ndarray, " points"],
    reached: Bool[np.ndarray, " points"],
    weights: Float[np.ndarray, " points"],
    intercept: float,
    slope: float,
) -> float:
    """Return the weighted root mean square distance of reached points from a line."""
    distance = (y - intercept - slope * x)[reached]
    return float(np.sqrt(np.average(distance**2, weights=weights[reached])))


def _scale(values: Float[np.ndarray, " points"]) -> float:
    spread = float(np.std(values))
    return spread if spread > 0 else 1.0


def _newton(
    x: Float[np.ndarray, " points"],
    y: Float[np.ndarray, " points"],
    reached: Bool[np.ndarray, " points"],
    weights: Float[np.ndarray, "draws points"],
) -> Float[np.ndarray, "draws 3"]:
    design = np.stack([-np.ones_like(x), -x, y], axis=1)  # r = design @ parameters
    parameters = np.tile([0.0, 0.0, 1.0], (weights.shape[0], 1))
    known = _determined(x, reached, weights)
    active = np.flatnonzero(known)
    for _ in range(200):
        at, weight = parameters[active], weights[active]
        value, slope, curvature = _likelihood(at, design, reached, weight)
        ridge = 1e-14 * np.trace(curvature, axis1=1, axis2=2)[:, None, None] * np.eye(3)
        step = np.linalg.solve(curvature + ridge, slope[..., None])[..., 0]
        gain = np.sum(step * slope, axis=1)
        going = (gain > 1e-14 * weight.sum(axis=1)) & (at[:, 2] < SHARPEST)
        if not np.any(going):
            break
        active, weight = active[going], weight[going]

        def likelihood(trial, weight=weight):
            return _likelihood(trial, design, reached, weight)[0]

        parameters[active] = _ascend(likelihood, at[going], step[going], value[going], gain[going])
    return np.where(known[:, None], parameters, np.nan)


def _ascend(
    likelihood: Callable[[Float[np.ndarray, "draws 3"]], Float[np.ndarray, " draws"]],
    parameters: Float[np.ndarray, "draws 3"],
    step: Float[np.ndarray, "draws 3"],
    value: Float[np.ndarray, " draws"],
    gain: Float[np.ndarray, " draws"],
) -> Float[np.ndarray, "draws 3"]:
    """Take each step, halved until the likelihood rises by a part of what it promises."""
    length = np.ones(parameters.shape[0])
    risen = np.zeros(parameters.shape[0], bool)
    trial = parameters
    for _ in range(40):
        trial = parameters + length[:, None] * step
        enough = value + 1e-4 * length * gain - 1e-12 * np.abs(value)
        risen = likelihood(trial) >= enough
        if np.all(risen):
            break
        length = np.where(risen, length, length / 2)
    return np.where(risen[:, None], trial, parameters)


def _likelihood(
    parameters: Float[np.ndarray, "draws 3"],
    design: Float[np.ndarray, "points 3"],
    reached: Bool[np.ndarray, " points"],
    weights: Float[np.ndarray, "draws points"],
) -> tuple[
    Float[np.ndarray, " draws"], Float[np.ndarray, "draws 3"], Float[np.ndarray, "draws 3 3"]
]:
    """Return the log-likelihood, its gradient, and minus its second derivative."""
    theta = parameters[:, 2]
    residual = parameters @ design.T
    tail = log_ndtr(-residual[:, ~reached])
    positive = np.maximum(theta, 1e-300)
    events = weights[:, reached].sum(axis=1)
    value = events * np.log(positive) - np.sum(
        weights[:, reached] * residual[:, reached] ** 2 / 2, axis=1
    )
    value = value + np.sum(weights[:, ~reached] * tail, axis=1)
    value = np.where(theta > 0, value, -np.inf)
    # Derivative of -ln Phi(-r): the hazard h, whose own derivative is h (h - r).
    hazard = np.exp(-(residual[:, ~reached] ** 2) / 2 - np.log(2 * np.pi) / 2 - tail)
    first, second = residual.copy(), np.ones_like(residual)
    first[:, ~reached] = hazard
    second[:, ~reached] = np.clip(hazard * (hazard - residual[:, ~reached]), 0.0, 1.0)
    gradient = -(weights * first) @ design
    gradient[:, 2] += events / positive
    curvature = np.einsum("bp,pi,pj->bij", weights * second, design, design, optimize=True)
    curvature[:, 2, 2] += events / positive**2
    return value, gradient, curvature


def _determined(
    x: Float[np.ndarray, " points"],
    reached: Bool[np.ndarray, " points"],
    weights: Float[np.ndarray, "draws points"],
) -> Bool[np.ndarray, " draws"]:
    """Whether points that were reached have more than one abscissa."""
    present = (weights > 0) & reached
    high = np.where(present, x, -np.inf).max(axis=1)
    low = np.where(present, x, np.inf).min(axis=1)
    return high - low > 1e-9 * _scale(x)

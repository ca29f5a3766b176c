r"""Exponents: the slope of a quantity against a parameter, on logarithmic or linear axes.

| law | x | y | axes of x, y |
| --- | --- | --- | --- |
| alignment time $\sim c \ln n$ | $n$ | time | log, linear |
| alignment time $\sim \mu^{-p}$ | $\mu$ | time | log, log |
| transition time $\sim c \ln(1/\text{scale})$ | minus the log scale | time | linear, linear |
| loss $\sim t^{-p}$ | $t$ | loss | log, log |
| angle $\sim \text{scale}^p$ | scale | angle | log, log |
"""

from typing import Literal

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from .bootstrap import bootstrap_ends
from .outcomes import Interval, Tally, check_count, check_level, usable
from .regression import censored_line, line, residual_spread

AxisScale = Literal["linear", "log"]
FEW = 10  # seeds below which a bootstrap interval is doubtful


class Exponent(eqx.Module):
    """A fitted slope.

    Attributes:
        slope: The slope with its interval; its tally counts points, not seeds.
        intercept: The line's value (its logarithm, on a log axis of y) where x is 0 (1, on a log
            axis of x).
        spread: Root mean square distance of the points that were reached from the line, on the axis
            of y.
        seeds: How many clusters of points that are drawn together.
        axes: The axes of x and y.
        warnings: What a reader should know before trusting the interval.
    """

    slope: Interval
    intercept: float
    spread: float
    seeds: int
    axes: tuple[AxisScale, AxisScale]
    warnings: tuple[str, ...]


class _Points(eqx.Module):
    """Points that are used, on their axes and about their means."""

    x: Float[np.ndarray, " points"]
    y: Float[np.ndarray, " points"]
    reached: Bool[np.ndarray, " points"]
    weights: Float[np.ndarray, " points"]
    seed: Int[np.ndarray, " points"]
    origin: tuple[float, float]
    clusters: int


def fit_exponent(
    x: ArrayLike,
    y: ArrayLike,
    axes: tuple[AxisScale, AxisScale] = ("log", "log"),
    *,
    ends: ArrayLike | None = None,
    seeds: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    codes: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 999,
    seed: int = 0,
) -> Exponent:
    """Fit a straight line on chosen axes, with an interval of its slope over seeds.

    Weighted least squares; where y was not reached (`inf`) the likelihood that it is beyond
    the run's end, with Gaussian errors on the axis of y (Tobit). The interval is the
    bootstrap of `bootstrap_ends` over seeds: a seed is drawn with all of its points, since the
    points of a paired study share it. Whether the law is a straight line at all is not tested.

    Args:
        x: The parameter; broadcast to the shape of `y`, such as one value for each column.
        y: The quantity. With two axes the first is seeds; with one each value is a seed of its
            own, which the points of one run are not. `inf`: beyond `ends`.
        axes: "linear" or "log" for x and for y. A scale that underflows goes in as its
            logarithm, on a linear axis.
        ends: Where `y` is `inf` the bound beyond which it is; broadcast to its shape.
        seeds: Label of the seed of each value of `y`, if not its row.
        weights: Weight of each value, such as the inverse variance; broadcast to its shape.
        codes: Result codes of the shape of `y`; see `usable`.
        level: Confidence level.
        resamples: Number of bootstrap samples.
        seed: Of the resampling.

    Raises:
        ValueError: If shapes do not fit; a value cannot be on a log axis; `x`, an end that is
            needed, or a weight is not finite; or fewer than two values of x with a finite
            y are left.
    """
    _check_axes(axes)
    check_level(level)
    check_count("resamples", resamples, 1)
    values = np.asarray(y, float)
    good, failures = usable(values, codes)
    points = _points(values, good, x, axes, ends, seeds, weights)
    censored = int(np.sum(~points.reached))
    intercept, slope = (float(ends[0]) for ends in _fit(points, np.ones((1, points.clusters))))
    spread = residual_spread(points.x, points.y, points.reached, points.weights, intercept, slope)
    interval = (-np.inf, np.inf)
    if points.clusters > 1:
        interval = bootstrap_ends(
            lambda draws: _fit(points, draws)[1],
            points.clusters,
            level=level,
            resamples=resamples,
            seed=seed,
        )
    tally = Tally(int(good.sum()), censored, failures)
    method = "bootstrap over seeds" + (", Tobit" if censored else ", least squares")
    return Exponent(
        Interval(slope, *interval, level, tally, method),
        intercept + points.origin[1] - slope * points.origin[0],
        spread,
        points.clusters,
        axes,
        _warnings(points, tally),
    )


def _fit(
    points: _Points, draws: Float[np.ndarray, "draws clusters"]
) -> tuple[Float[np.ndarray, " draws"], Float[np.ndarray, " draws"]]:
    """Return intercepts and slopes for weights of the clusters."""
    if np.all(points.reached):
        return line(points.x, points.y, points.weights, points.seed, draws)
    weights = points.weights * draws[:, points.seed]
    return censored_line(points.x, points.y, points.reached, weights)


def _points(
    values: Float[np.ndarray, "*batch"],
    good: Bool[np.ndarray, "*batch"],
    x: ArrayLike,
    axes: tuple[AxisScale, AxisScale],
    ends: ArrayLike | None,
    seeds: ArrayLike | None,
    weights: ArrayLike | None,
) -> _Points:
    labels = _labels(values, seeds)[good]
    distinct, seed = np.unique(labels, return_inverse=True)
    end = np.full(values.shape, np.inf) if ends is None else _fitted("ends", ends, values.shape)
    y, end = values[good], end[good]
    reached = np.isfinite(y)
    if np.any(y == -np.inf):
        raise ValueError("Argument `y` must be finite or `inf`, but a value is `-inf`.")
    if not np.all(np.isfinite(end[~reached])):
        raise ValueError("Argument `ends` must be finite where `y` is `inf`, but it is not.")
    abscissa = _on_axis("x", _fitted("x", x, values.shape)[good], axes[0])
    y = _on_axis("y", np.where(reached, y, end), axes[1])
    weight = np.ones(y.shape)
    if weights is not None:
        weight = _fitted("weights", weights, values.shape)[good]
        if not np.all(np.isfinite(weight) & (weight >= 0)):
            raise ValueError("Argument `weights` must be finite and not negative, but it is not.")
    if np.unique(abscissa[reached & (weight > 0)]).size < 2:
        raise ValueError(
            "Argument `x` must have two values with a finite `y` of a run that succeeded, but it "
            "has fewer: a slope is not determined."
        )
    origin = (float(abscissa.mean()), float(y.mean()))
    return _Points(
        abscissa - origin[0], y - origin[1], reached, weight, seed, origin, distinct.size
    )


def _labels(values: Float[np.ndarray, "*batch"], seeds: ArrayLike | None) -> np.ndarray:
    if seeds is not None:
        labels = np.asarray(seeds)
        if labels.shape != values.shape:
            raise ValueError(
                f"Argument `seeds` must have the shape of `y`, {values.shape}, but its shape is "
                f"{labels.shape}."
            )
        return labels
    if values.ndim not in (1, 2):
        raise ValueError(
            f"Argument `y` must have one axis, or two (seeds first), but it has {values.ndim}. "
            "With `seeds` any number will do."
        )
    rows = np.arange(values.shape[0]).reshape(-1, *[1] * (values.ndim - 1))
    return np.broadcast_to(rows, values.shape)


def _fitted(name: str, given: ArrayLike, shape: tuple[int, ...]) -> Float[np.ndarray, "*batch"]:
    try:
        return np.broadcast_to(np.asarray(given, float), shape)
    except ValueError:
        raise ValueError(
            f"Argument `{name}` must broadcast to the shape of `y`, {shape}, but its shape is "
            f"{np.shape(given)}."
        ) from None


def _on_axis(
    name: str, values: Float[np.ndarray, " points"], axis: AxisScale
) -> Float[np.ndarray, " points"]:
    if not np.all(np.isfinite(values)):
        raise ValueError(f"Argument `{name}` must be finite, but it is not.")
    if axis == "linear":
        return values
    if np.any(values <= 0):
        raise ValueError(
            f"Argument `{name}` must be positive on a log axis, but it holds {values.min():g}."
        )
    return np.log(values)


def _check_axes(axes: tuple[AxisScale, AxisScale]) -> None:
    if len(axes) != 2 or any(axis not in ("linear", "log") for axis in axes):
        raise ValueError(
            f'Argument `axes` must be a pair of "linear" or "log", for x and y, but it is {axes!r}.'
        )


def _warnings(points: _Points, tally: Tally) -> tuple[str, ...]:
    found = []
    if tally.censored:
        found.append(
            f"{tally.censored} of {tally.used} points were not reached; errors are taken to be "
            "Gaussian for them"
        )
    if tally.failed:
        found.append(f"{tally.failed} points of runs that failed were left out")
    if points.clusters < FEW:
        found.append(f"only {points.clusters} seeds: the interval may be too short")
    return tuple(found)

"""What the figures of questions share: lines with their intervals over seeds."""

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes


def shades(count: int) -> list:
    """Return colours of an ordered parameter, the last the darkest."""
    return list(colormaps["viridis"](np.linspace(0.85, 0.05, max(count, 1))))


def band(axis: Axes, data: xr.Dataset, name: str, x: str, colour, label: str) -> None:
    """Draw a statistic over seeds along a coordinate, with its interval as a band.

    Args:
        axis: Where.
        data: Has `name`, `name_low` and `name_high` along `x` alone.
        name: Of the statistic.
        x: Name of the coordinate.
        colour: Of the line.
        label: For the legend.
    """
    at = data[x].to_numpy()
    low, high = (data[f"{name}_{end}"].to_numpy() for end in ("low", "high"))
    axis.plot(at, data[name], "o-", color=colour, lw=1.4, ms=4, label=label)
    axis.fill_between(at, low, high, color=colour, alpha=0.18, lw=0)


def dots(axis: Axes, at: np.ndarray, values: np.ndarray, colour, spread: float) -> None:
    """Draw a dot for every seed, beside each other at each place.

    Args:
        axis: Where.
        at: Abscissas, one for each row of `values`.
        values: Over places and seeds; NaN is not drawn.
        colour: Of the dots.
        spread: How far from the abscissa dots may lie.
    """
    seeds = values.shape[1]
    aside = spread * (np.arange(seeds) / max(seeds - 1, 1) - 0.5)
    for x, row in zip(at, values, strict=True):
        axis.plot(x + aside, np.sort(row), ".", ms=3, color=colour, alpha=0.6)

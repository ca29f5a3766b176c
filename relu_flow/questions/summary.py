"""Statistics over the seeds of a study as rows of a table and as data of a figure."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import xarray as xr

from ..experiment.experiment import Row
from ..report.page.data import label_of, text_of
from ..study.statistics.fractions import fraction_interval
from ..study.statistics.intervals import mean_interval, quantile_interval
from ..study.statistics.outcomes import Interval
from ..study.statistics.summary import over_seeds


def shares(tree: xr.DataTree, holds: xr.DataArray) -> xr.Dataset:
    """Return in which fraction of the seeds something holds, with Wilson's intervals.

    Args:
        tree: The study, for its result codes: runs that failed are left out and counted.
        holds: Yes or no (or NaN), over the grid and `seed`.
    """
    return over_seeds(fraction_interval, holds.astype(float), codes=_codes(tree))


def medians(tree: xr.DataTree, values: xr.DataArray, fraction: float = 0.5) -> xr.Dataset:
    """Return the median over seeds (or another quantile), with exact intervals.

    Args:
        tree: The study, for its result codes.
        values: Numbers over the grid and `seed`; `inf` counts as larger than all others.
        fraction: Which quantile.
    """

    def quantile(values, codes) -> Interval:
        return quantile_interval(values, fraction, codes=codes)

    return over_seeds(quantile, values, codes=_codes(tree))


def means(tree: xr.DataTree, values: xr.DataArray) -> xr.Dataset:
    """Return the mean over seeds, with bootstrap intervals.

    Args:
        tree: The study, for its result codes.
        values: Finite numbers (or NaN) over the grid and `seed`.
    """
    return over_seeds(mean_interval, values, codes=_codes(tree))


def _codes(tree: xr.DataTree) -> xr.DataArray:
    codes = tree["runs/result"]
    assert isinstance(codes, xr.DataArray)
    return codes


def rows(
    quantity: str,
    found: xr.Dataset,
    bound: xr.DataArray | None = None,
    note: str | Callable[[dict], str] = "",
    texts: Mapping[str, Callable[[Any], str]] | None = None,
) -> Iterator[Row]:
    """Return a row of the table for each point of the grid.

    Args:
        quantity: What was measured; the point is added.
        found: From `shares` or `medians`.
        bound: What theory allows, over some of the grid.
        note: A note, or one for each point, from its coordinates.
        texts: How coordinates are written, by name, if not as on a study's page.
    """
    texts = texts or {}

    def said(name: str, value) -> str:
        return texts[name](value) if name in texts else f"{label_of(name)} {text_of(name, value)}"

    stacked = found.drop_vars("failures").stack(point=list(found["estimate"].dims))
    for k in range(stacked.sizes["point"]):
        one = stacked.isel(point=k)
        at = {str(name): one[name].item() for name in found["estimate"].dims}
        named = ", ".join(said(name, value) for name, value in at.items())
        yield Row(
            f"{quantity}: {named}" if named else quantity,
            float(one["estimate"]),
            bound=None if bound is None else float(bound.sel({n: at[str(n)] for n in bound.dims})),
            note=note(at) if callable(note) else note,
            low=float(one["low"]),
            high=float(one["high"]),
            runs=int(one["used"]),
            left_out=int(one["failed"]),
        )


def degrees(label: str) -> Callable[[float], str]:
    """Return how to write an angle in radians as degrees."""
    return lambda value: f"{label} {math.degrees(value):.4g}°"


def for_figure(**found: xr.Dataset) -> xr.Dataset:
    """Return several statistics as one data set: `NAME`, `NAME_low` and `NAME_high`."""
    arrays = {}
    for name, one in found.items():
        arrays |= {name: one["estimate"], f"{name}_low": one["low"], f"{name}_high": one["high"]}
    return xr.Dataset(arrays)

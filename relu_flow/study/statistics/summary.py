"""Statistics over the seeds of labelled arrays: one interval for each point of a grid."""

from collections.abc import Callable, Hashable

import numpy as np
import xarray as xr

from .outcomes import Interval


def over_seeds(
    statistic: Callable[..., Interval],
    *arrays: xr.DataArray,
    codes: xr.DataArray | None = None,
    dim: Hashable = "seed",
) -> xr.Dataset:
    """Apply a statistic along one dimension, at each point of the others.

    Arrays without some dimension are repeated along it. For a censored median over seeds:
    `over_seeds(lambda t, end, codes: survival(t, end, codes=codes).quantile(), times, ends,
    codes=codes)`.

    Args:
        statistic: Takes for each of `arrays` the values along `dim`, and `codes=` those of
            the codes (or `None`); returns an interval, as `quantile_interval`,
            `mean_interval` and `fraction_interval` do.
        *arrays: At least one; the first has the dimension.
        codes: Result codes; see `usable`.
        dim: The dimension that is lost.

    Returns:
        A data set with `estimate`, `low`, `high`, `used`, `censored`, `failed`, and `failures`
        along a further dimension `code`, the codes that occurred. Attributes give the level,
        the methods and the dimension.

    Raises:
        ValueError: If no array is given, or the first has no dimension `dim`.
    """
    if not arrays or dim not in arrays[0].dims:
        found = list(arrays[0].dims) if arrays else "no array"
        raise ValueError(
            f"Argument `arrays` must have the dimension {dim!r}, but the first has {found}."
        )
    given = arrays if codes is None else (*arrays, codes)
    # A run that one array lacks would shift the others: labels must be equal.
    aligned = xr.broadcast(*xr.align(*given, join="exact"))
    moved = [array.transpose(..., dim) for array in aligned]
    shape, length = moved[0].shape[:-1], moved[0].sizes[dim]
    flat = [array.to_numpy().reshape(-1, length) for array in moved]
    found = []
    for row in zip(*flat, strict=True):
        values, code = (row, None) if codes is None else (row[:-1], row[-1])
        found.append(statistic(*values, codes=code))
    return _dataset(found, moved[0].isel({dim: 0}, drop=True), shape, dim)


def _dataset(
    found: list[Interval], like: xr.DataArray, shape: tuple[int, ...], dim: Hashable
) -> xr.Dataset:
    dims = like.dims

    def array(values: list) -> tuple:
        return dims, np.reshape(np.asarray(values), shape)

    names = sorted({code for each in found for code in each.tally.failures})
    failures = np.array([[each.tally.failures.get(name, 0) for name in names] for each in found])
    return xr.Dataset(
        {
            "estimate": array([each.estimate for each in found]),
            "low": array([each.low for each in found]),
            "high": array([each.high for each in found]),
            "used": array([each.tally.used for each in found]),
            "censored": array([each.tally.censored for each in found]),
            "failed": array([each.tally.failed for each in found]),
            "failures": ((*dims, "code"), failures.reshape(*shape, len(names)).astype(int)),
        },
        coords={**like.coords, "code": np.array(names, dtype=object if not names else str)},
        attrs={
            "level": found[0].level if found else np.nan,
            "method": "; ".join(sorted({each.method for each in found})),
            "over": str(dim),
        },
    )

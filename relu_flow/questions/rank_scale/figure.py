"""Up to which scale networks end with rank one, for each width and number of samples."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...report.seeds import shades


def scale_figure(data: xr.Dataset, path: Path) -> None:
    """Draw where rank one breaks for each width and number of samples, and the bound.

    Args:
        data: Findings of the question.
        path: Where to write it; the ending decides the format.
    """
    figure = Figure(figsize=(15, 5), layout="constrained")
    *axes, right = figure.subplots(1, data.sizes["criterion"] + 1)
    sizes, widths = data["samples"].to_numpy(), data["width"].to_numpy()
    for axis, criterion in zip(axes, data["criterion"].to_numpy(), strict=True):
        _thresholds(axis, data.sel(criterion=criterion))
    for colour, samples in zip(shades(len(sizes)), sizes, strict=True):
        bound = -data["bound"].sel(samples=samples)
        right.plot(widths, bound, "o-", color=colour, label=f"{samples} samples")
    right.set_yscale("log")
    right.set_ylabel("minus log10 of the largest scale allowed")
    right.set_title("the bound (Assumption 2), median over seeds", fontsize=9, loc="left")
    for axis in (*axes, right):
        axis.set_xscale("log")
        axis.set_xticks(widths, [str(width) for width in widths])
        axis.minorticks_off()
        axis.set_xlabel("width")
        axis.legend(fontsize=8)
    figure.suptitle(
        "One teacher neuron: up to which scale does the network end with rank one?", fontsize=12
    )
    figure.savefig(path, dpi=130)


def _thresholds(axis: Axes, data: xr.Dataset) -> None:
    """Draw the medians of one criterion, and a dash for every seed."""
    sizes, widths = data["samples"].to_numpy(), data["width"].to_numpy()
    for k, (colour, samples) in enumerate(zip(shades(len(sizes)), sizes, strict=True)):
        here = data.sel(samples=samples)
        at = widths * (1.0 + 0.12 * (k - 0.5 * (len(sizes) - 1)))
        for x, row in zip(at, here["seeds"].to_numpy(), strict=True):
            known = row[np.isfinite(row)]
            axis.plot(np.full(known.shape, x), known, "_", ms=6, color=colour, alpha=0.3)
        middle = here["scale"].to_numpy()
        ends = np.abs([middle - here["scale_low"], here["scale_high"] - middle])
        axis.errorbar(at, middle, ends, fmt="o-", ms=5, lw=1.2, capsize=3, color=colour,
                      label=f"{samples} samples")  # fmt: skip
    axis.set_ylabel("log10 of the largest scale")
    axis.set_title(
        f"{data['called'].item()}: median over seeds, 95 %; a dash a seed", fontsize=9, loc="left"
    )

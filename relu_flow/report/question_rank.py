"""Figures of the questions about rank: against the teacher's angle."""

import math
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .page_data import scale_text
from .questions import band, dots, shades


def angle_figure(data: xr.Dataset, path: Path) -> None:
    """Draw how many networks have rank one against the angle, and their effective ranks.

    Args:
        data: Findings of the question.
        path: Where to write it; the ending decides the format.
    """
    figure = Figure(figsize=(12, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    degrees = data.assign_coords(max_angle=np.degrees(data["max_angle"]))
    scales = data["log_scale"].to_numpy()
    for colour, scale in zip(shades(len(scales)), scales, strict=True):
        band(left, degrees.sel(log_scale=scale), "share", "max_angle", colour,
             f"scale {scale_text(scale)}")  # fmt: skip
    left.set_ylabel("fraction of seeds that end with rank one")
    left.set_ylim(-0.03, 1.03)
    smallest = degrees["rank"].sel(log_scale=scales.min()).transpose("max_angle", "seed")
    dots(right, degrees["max_angle"].to_numpy(), smallest.to_numpy(), "#1f5a94", 2.5)
    right.set_ylabel(f"effective rank at the end, scale {scale_text(scales.min())}, a dot a seed")
    for axis in (left, right):
        axis.axvline(math.degrees(math.pi / 4), color="0.5", ls=":", lw=1)
        axis.set_xlabel("largest angle of an input to the teacher, degrees")
    left.annotate(
        "theory up to here", (45, 0.02), xytext=(-4, 0), textcoords="offset points",
        ha="right", fontsize=8, color="0.35",
    )  # fmt: skip
    left.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 0.1))
    figure.suptitle("One teacher neuron: does the network end with rank one?", fontsize=12)
    figure.savefig(path, dpi=130)


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

"""Figure of the question about correlated and orthogonal inputs."""

import math
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...report.page.data import scale_text
from ...report.seeds import band, shades


def correlation_figure(data: xr.Dataset, path: Path) -> None:
    """Draw alignment, rank and times against the cosine, and the threshold against the scale.

    Args:
        data: Findings of the question.
        path: Where to write it; the ending decides the format.
    """
    figure = Figure(figsize=(13, 9), layout="constrained")
    axes = figure.subplots(2, 2)
    scales = np.sort(data["log_scale"].to_numpy())[::-1]
    for colour, scale in zip(shades(len(scales)), scales, strict=True):
        here = data.sel(log_scale=scale)
        label = f"scale {scale_text(scale)}"
        for axis, name in ((axes[0, 0], "inside"), (axes[0, 1], "rank")):
            _against_cosine(axis, here, name, colour, label)
        _against_least(axes[1, 1], here, colour, label)
        _times(axes[1, 0], here, colour, label)
    axes[0, 0].set_ylabel("fraction of living neurons in their cone, mean over seeds")
    axes[0, 1].set_ylabel("effective rank at the end, median over seeds")
    for axis in axes[0]:
        _ticks(axis, data)
        axis.set_xlabel("cosine of the two inputs")
    axes[0, 0].set_ylim(0, 1.04)
    axes[0, 0].set_title("Two inputs of one class (lines: scale to the power 0.71)", fontsize=10)
    axes[0, 1].set_title("Two inputs of one class", fontsize=10)
    axes[1, 0].set_title("Two inputs of one class: when all neurons are in place", fontsize=10)
    axes[1, 1].set_title("Two classes of two random inputs (squares: orthogonal)", fontsize=10)
    axes[1, 0].set_ylim(bottom=0)
    for axis in axes.flat:
        axis.legend(fontsize=8)
    figure.suptitle("Does every neuron align as the inputs' correlation vanishes?", fontsize=12)
    figure.savefig(path, dpi=130)


def _places(data: xr.Dataset) -> tuple[np.ndarray, float, float]:
    """Return cosines above zero, and where zero and orthogonal inputs are put."""
    mus = data["mu"].to_numpy()
    least = mus[mus > 0].min()
    return mus, least / 10, least / 300


def _against_cosine(axis: Axes, here: xr.Dataset, name: str, colour, label: str) -> None:
    mus, zero, straight = _places(here)
    placed = here.assign_coords(mu=np.where(mus > 0, mus, zero)).isel(mu=mus >= 0).sortby("mu")
    band(axis, placed, name, "mu", colour, label)
    ends = [float(here[f"straight_{name}{end}"]) for end in ("", "_low", "_high")]
    axis.plot(straight, ends[0], "s", color=colour, ms=6)
    axis.vlines(straight, ends[1], ends[2], color=colour, lw=1)
    scale = math.exp(float(here["log_scale"]))
    axis.axvline(scale ** (1 / math.sqrt(2)), color=colour, ls=":", lw=1)


def _ticks(axis: Axes, data: xr.Dataset) -> None:
    mus, zero, straight = _places(data)
    least = math.log10(mus[mus > 0].min())
    decades = [10.0**k for k in range(math.ceil(least), 1, 2)]
    axis.set_xscale("log")
    names = [f"$10^{{{round(math.log10(x))}}}$" for x in decades]
    axis.set_xticks([straight, zero, *decades], ["orthogonal", "0", *names], fontsize=9)
    axis.minorticks_off()


def _times(axis: Axes, here: xr.Dataset, colour, label: str) -> None:
    positive = here.isel(mu=here["mu"].to_numpy() > 0)
    reached = np.isfinite(positive["time"].to_numpy())
    if not reached.any():
        return
    shown = positive.isel(mu=reached)
    # No band where the times do not bound the median from above.
    shown = shown.assign(time_high=shown["time_high"].where(np.isfinite(shown["time_high"])))
    band(axis, shown, "time", "mu", colour, label)
    axis.set_xscale("log")
    axis.set_xlabel("cosine of the two inputs")
    axis.set_ylabel("median time to align (where half of the seeds did)")


def _against_least(axis: Axes, here: xr.Dataset, colour, label: str) -> None:
    band(axis, here, "classes_inside", "least", colour, label)
    ends = [float(here[f"classes_straight_inside{end}"]) for end in ("", "_low", "_high")]
    axis.plot(0, ends[0], "s", color=colour, ms=6)
    axis.vlines(0, ends[1], ends[2], color=colour, lw=1)
    axis.axvline(0, color="0.7", ls=":", lw=1)
    axis.set_xlabel("smallest cosine of two of the signed inputs")
    axis.set_ylabel("fraction of living neurons in their cone, mean over seeds")
    axis.set_ylim(0, 1.04)

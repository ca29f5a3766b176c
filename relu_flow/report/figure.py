"""The figure of a run: alignment, norms, loss and switches on one time axis."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from .style import DARK, NEGATIVE, POSITIVE, SWITCHES


def run_figure(data: xr.Dataset, path: Path, title: str) -> None:
    """Draw a run and write it to a file.

    Args:
        data: From `to_dataset`, with a first time of 0 or later and more after it.
        path: Where to write it; the ending decides the format.
        title: First line of the figure.
    """
    figure = Figure(figsize=(9, 11), layout="constrained")
    axes = figure.subplots(4, 1, sharex=True, height_ratios=[3, 3, 2.4, 3])
    time = data["time"].to_numpy()
    shown = time > 0
    for neuron, sign in enumerate(data["outer_sign"].to_numpy()):
        style = {"color": POSITIVE if sign > 0 else NEGATIVE, "lw": 0.8, "alpha": 0.7}
        axes[0].plot(time[shown], data["alignment"][shown, neuron], **style)
        axes[1].plot(time[shown], data["log_norm"][shown, neuron] / np.log(10), **style)
    axes[0].set_ylabel("cosine to the centre\nof its class")
    axes[0].set_ylim(top=1.05)
    axes[0].axhline(1, color="0.8", lw=0.8, zorder=0)
    axes[1].set_ylabel("norm of the inner\nweights (log10)")
    signs = [
        Line2D([], [], color=POSITIVE, label="output weight > 0"),
        Line2D([], [], color=NEGATIVE, label="output weight < 0"),
    ]
    axes[0].legend(handles=signs, loc="upper left", fontsize=8, framealpha=0.9)
    axes[2].plot(time[shown], data["loss"][shown], color=DARK)
    axes[2].set_yscale("log")
    axes[2].set_ylabel("loss")
    _raster(axes[3], data)
    axes[3].set_xscale("log")
    axes[3].set_xlim(time[shown][0], time[-1])
    axes[3].set_xlabel("gradient-flow time")
    _mark_milestones(axes, data)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=150)


def _raster(axis: Axes, data: xr.Dataset) -> None:
    """Draw a dot for every switch: when, and of which neuron."""
    kinds = data["switch_kind"].attrs["flag_meanings"].split()
    code = data["switch_kind"].to_numpy()
    neuron, time = data["switch_neuron"].to_numpy(), data["switch_time"].to_numpy()
    handles = []
    for k, kind in enumerate(kinds):
        chosen = code == k
        if not chosen.any():
            continue
        colour = SWITCHES[kind]
        size = 5 if chosen.sum() > 500 else 16
        axis.scatter(time[chosen], neuron[chosen], s=size, color=colour, lw=0, alpha=0.7)
        label = f"{kind.replace('_', ' ')} ({chosen.sum()})"
        handles.append(Line2D([], [], color=colour, marker="o", ls="", label=label))
    axis.set_ylabel("neuron\n(one dot a switch)")
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    if handles:
        axis.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=5, fontsize=8
        )


def _mark_milestones(axes: np.ndarray, data: xr.Dataset) -> None:
    """Draw the milestones that were reached through all panels, named in the loss panel."""
    start = data["time"].to_numpy()[data["time"].to_numpy() > 0][0]
    for name, time in zip(
        data["milestone"].to_numpy(), data["milestone_time"].to_numpy(), strict=False
    ):
        if not np.isfinite(time) or time < start:
            continue
        for axis in axes:
            axis.axvline(time, color="0.6", lw=0.7, ls=":", zorder=0)
        axes[2].annotate(
            str(name), (time, 0.02), xycoords=("data", "axes fraction"), rotation=90,
            fontsize=7, ha="right", va="bottom", color="0.35",
        )  # fmt: skip

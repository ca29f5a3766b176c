"""How many networks have rank one, against the teacher's angle."""

import math
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ...report.page.data import scale_text
from ...report.seeds import band, dots, shades
from ...report.style import NEGATIVE


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
    dots(right, degrees["max_angle"].to_numpy(), smallest.to_numpy(), NEGATIVE, 2.5)
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

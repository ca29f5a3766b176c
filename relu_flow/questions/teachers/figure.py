"""Figure of the question about several teacher neurons."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...report.page.data import scale_text
from ...report.seeds import band, shades
from ...report.style import DISTINCT

_COLOURS = {"one sign": DISTINCT[0], "alternating": DISTINCT[1]}
_LINES = {"equal": ("o", "-"), "graded": ("s", "--")}


def teachers_figure(data: xr.Dataset, path: Path) -> None:
    """Draw who learns all teachers, with which norm, how late, and with which width.

    Args:
        data: Findings of the question.
        path: Where to write it; the ending decides the format.
    """
    figure = Figure(figsize=(13, 9), layout="constrained")
    axes = figure.subplots(2, 2)
    scale = float(data["log_scale"].min())
    _by_count(axes[0, 0], data.sel(log_scale=scale), "learnt")
    axes[0, 0].set_ylim(-0.03, 1.03)
    axes[0, 0].set_ylabel("fraction of seeds that come to zero loss")
    _by_count(axes[0, 1], data, "ratio")
    axes[0, 1].axhline(1, color="0.5", ls=":", lw=1)
    axes[0, 1].set_ylabel("median squared norm / one direction a teacher's")
    axes[0, 1].margins(y=0.35)  # room for the legend
    for axis in axes[0]:
        axis.set_title(f"Scale {scale_text(scale)}", fontsize=10)
        axis.legend(fontsize=8)
    _times(axes[1, 0], data)
    _widths(axes[1, 1], data)
    figure.suptitle(
        "Several teacher neurons: are all learnt, and by how many neurons?", fontsize=12
    )
    figure.savefig(path, dpi=130)


def _by_count(axis: Axes, data: xr.Dataset, name: str) -> None:
    counts = data["teachers"].to_numpy()
    aside = iter((-0.09, -0.03, 0.03, 0.09))
    for norms in data["norms"].to_numpy():
        for signs in data["signs"].to_numpy():
            here = data.sel(norms=norms, signs=signs)
            value, low, high = (here[f"{name}{end}"].to_numpy() for end in ("", "_low", "_high"))
            marker, line = _LINES[str(norms)]
            x, colour = counts + next(aside), _COLOURS[str(signs)]
            axis.plot(x, value, marker + line, color=colour, ms=5, lw=1.2,
                      label=f"{norms} norms, {signs}")  # fmt: skip
            bounded = np.isfinite(low) & np.isfinite(high)
            axis.vlines(x[bounded], low[bounded], high[bounded], color=colour, lw=1)
    axis.set_xticks(counts, [str(count) for count in counts])
    axis.set_xlim(counts.min() - 0.4, counts.max() + 0.4)
    axis.set_xlabel("number of teachers")


def _times(axis: Axes, data: xr.Dataset) -> None:
    """Draw times to fractions of the loss against the scale, for graded norms of both signs."""
    counts = data["teachers"].to_numpy()
    for colour, count in zip(shades(len(counts)), counts, strict=True):
        here = data.sel(teachers=count, norms="graded", signs="alternating")
        here = here.assign_coords(log_scale=-here["log_scale"] / np.log(10)).sortby("log_scale")
        for name, text in (("half", "half"), ("all", "a hundredth")):
            high = here[f"{name}_high"]
            shown = here.assign({f"{name}_high": high.where(np.isfinite(high))})
            shown = shown.assign({name: shown[name].where(np.isfinite(shown[name]))})
            band(axis, shown, name, "log_scale", colour, f"{count} teachers, to {text}")
            if name == "half":
                axis.lines[-1].set_linestyle(":")
    axis.set_xlabel("decades of the scale below 1")
    axis.set_ylabel("median time to a fraction of the loss")
    axis.set_title("Graded norms, alternating signs: plateaus", fontsize=10)
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=8)


def _widths(axis: Axes, data: xr.Dataset) -> None:
    band(axis, data, "wide", "width", DISTINCT[0], "graded norms, one sign")
    axis.set_xscale("log")
    widths = data["width"].to_numpy()
    axis.set_xticks(widths, [str(width) for width in widths])
    axis.minorticks_off()
    axis.set_ylim(-0.03, 1.03)
    axis.set_xlabel("number of neurons")
    axis.set_ylabel("fraction of seeds that come to zero loss")
    axis.set_title("3 graded teachers of one sign, against the width", fontsize=10)
    axis.legend(fontsize=8)

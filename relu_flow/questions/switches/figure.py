"""The figure of the question on switches: a column for each family of data."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...report.seeds import band, shades

_EVENTS = {"any_slides": "slides", "any_ties": "ties", "any_repels": "repels"}
_COUNTS = {"switches": "switches", "slides": "slides", "deaths": "deaths"}
_COLUMNS = (
    ("separable", "mu", None, "separable data", "smallest cosine mu"),
    ("clusters", "angle", "jitter", "two clusters", "angle between them, degrees"),
    ("teacher", "max_angle", None, "one teacher", "largest angle to it, degrees"),
    ("teachers", "max_angle", "outer", "two opposite teachers", "largest angle to one, degrees"),
)
_STYLES = ("-", "--")


def switches_figure(data: xr.Dataset, path: Path) -> None:
    """Draw fractions of runs with an event, and counts for each neuron, against the geometry.

    Args:
        data: Findings of the question.
        path: Where to write it; the ending decides the format.
    """
    figure = Figure(figsize=(16, 7.5), layout="constrained")
    axes = figure.subplots(2, 4, sharey="row", sharex="col")
    for column, (name, along, across, title, label) in zip(axes.T, _COLUMNS, strict=True):
        for axis, drawn in zip(column, (_EVENTS, _COUNTS), strict=True):
            _draw(axis, data, name, (along, across), drawn)
        column[0].set_title(title, fontsize=11)
        column[1].set_xlabel(label)
        if name != "teachers":
            _covered(column, data, name)
    axes[0, 0].set_ylim(-0.03, 1.22)
    axes[0, 0].set_yticks(np.linspace(0, 1, 6))
    axes[1, 0].set_ylim(top=1.12 * axes[1, 0].get_ylim()[1])
    axes[0, 0].set_ylabel("fraction of runs with any")
    axes[1, 0].set_ylabel("number for each neuron, median of runs")
    for axis in axes[:, 0]:
        axis.legend(fontsize=8, loc="upper right", ncols=3)
    figure.suptitle("What happens at hyperplanes, against the geometry of the data", fontsize=12)
    figure.savefig(path, dpi=130)


def _draw(
    axis: Axes, data: xr.Dataset, name: str, dims: tuple[str, str | None], drawn: dict[str, str]
) -> None:
    x, other = f"{name}_{dims[0]}", dims[1] and f"{name}_{dims[1]}"
    values = [None] if other is None else list(data[other].to_numpy())
    for style, value in zip(_STYLES, values, strict=False):
        for colour, (key, label) in zip(shades(len(drawn)), drawn.items(), strict=True):
            names = {f"{name}_{key}{end}": f"{key}{end}" for end in ("", "_low", "_high")}
            part = data[list(names)].rename(names)
            part = part if other is None else part.sel({other: value})
            if dims[0] != "mu":
                part = part.assign_coords({x: np.degrees(part[x])})
            band(axis, part, key, x, colour, label)
            axis.lines[-1].set_linestyle(style)
    if other is not None:
        lines = [Line2D([], [], color="0.3", ls=_STYLES[k]) for k in range(len(values))]
        said = [_text(dims[1], value) for value in values]
        axis.legend(lines, said, fontsize=8, loc="upper right", ncols=2)


def _text(name: str | None, value) -> str:
    return f"jitter {np.degrees(value):.2g}°" if name == "jitter" else f"signs {value}"


def _covered(column: np.ndarray, data: xr.Dataset, name: str) -> None:
    """Mark where theory says that nothing slides; of clusters, at the largest jitter drawn."""
    low, high = column[0].get_xlim()
    jitter = np.degrees(float(data["clusters_jitter"].max()))
    start, stop = {
        "separable": (0.0, high), "teacher": (low, 45.0), "clusters": (90 + 2 * jitter, high),
    }[name]  # fmt: skip
    for axis in column:
        axis.axvspan(start, stop, color="0.93", zorder=0)
        axis.set_xlim(low, high)
    column[0].text(
        (start + stop) / 2, 0.5, "theory:\nno slides", ha="center", fontsize=8, color="0.35"
    )

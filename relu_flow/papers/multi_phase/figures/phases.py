"""The figure of a flow through phases: outputs, pulls, slides, norms, and neurons in the plane."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from ....report.style import DARK, NEGATIVE, POSITIVE, SWITCHES

_PALE = "0.55"
_NAME_WIDTH = 0.2
_PANELS = ("loss", "output", "ratio", "weight", "norm", "raster")
_LABELS = {
    "loss": "loss,\naccuracy",
    "output": "outputs",
    "ratio": "A / B,\nratio of losses",
    "weight": "share of the other\nclass's input",
    "norm": "norm of the inner\nweights (log10)",
    "raster": "neuron\n(one dot a switch)",
}


def phases_figure(data: xr.Dataset, path: Path) -> None:
    """Draw a run through its phases, and pictures of its neurons at their ends.

    Args:
        data: Findings of the experiment. Times up to its attribute `split` are in the left
            column, later ones in the right; `scales` are the scales of the two time axes.
        path: Where to write it; the ending decides the format.
    """
    split, scales = float(data.attrs["split"]), data.attrs["scales"].split()
    time = data["time"].to_numpy()
    figure = Figure(figsize=(13, 16), layout="constrained")
    parts: np.ndarray = np.asarray(figure.subfigures(2, 1, height_ratios=[4.6, 1]))
    top, bottom = parts
    axes = top.subplots(
        len(_PANELS), 2, sharex="col", sharey="row", height_ratios=[1, 1, 1, 1, 1, 1.25],
        width_ratios=[1.6 if scale == "linear" else 1 for scale in scales],
    )  # fmt: skip
    spans = ((time[0], split), (split, time[-1]))
    for column, (scale, span) in enumerate(zip(scales, spans, strict=True)):
        _course(dict(zip(_PANELS, axes[:, column], strict=True)), data)
        axes[0, column].set_xscale(scale)
        axes[0, column].set_xlim(span)
        _name_boundaries(axes[:, column], data, span)
    for left, right in axes:
        left.spines["right"].set_visible(False)
        right.spines["left"].set_visible(False)
        right.tick_params(axis="y", which="both", left=False)
    for panel, axis in zip(_PANELS, axes[:, 0], strict=True):
        axis.set_ylabel(_LABELS[panel])
    for axis in axes[-1]:
        axis.set_xlabel("gradient-flow time")
    _legends(dict(zip(_PANELS, axes[:, -1], strict=True)), data)
    _pictures(bottom, data)
    figure.suptitle(str(data.attrs["title"]), fontsize=12)
    figure.savefig(path, dpi=130)


def _course(axes: dict[str, Axes], data: xr.Dataset) -> None:
    """Draw what is a function of time."""
    time = data["time"].to_numpy()
    heavy, light = data["heavy"].to_numpy(), data["light"].to_numpy()
    axes["loss"].plot(time, heavy + light, color=DARK)
    axes["loss"].plot(time, data["accuracy"], color="#2a9d5c", drawstyle="steps-post")
    axes["loss"].set_ylim(0, 1.08)
    for name, colour in (("plus", POSITIVE), ("minus", NEGATIVE)):
        axes["output"].plot(time, data[name], color=colour)
        if f"planar_{name}" in data:
            axes["output"].plot(time, data[f"planar_{name}"], color="k", lw=1, ls=(0, (2, 4)))
    axes["output"].axhline(0, color="0.8", lw=0.8, zorder=0)
    cosine = np.cos(float(data.attrs["angle"]))
    axes["ratio"].plot(time, heavy / light, color=DARK)
    for level, colour in ((1 / cosine, POSITIVE), (cosine, NEGATIVE)):
        axes["ratio"].axhline(level, color=colour, lw=0.9, ls="--", zorder=0)
    axes["ratio"].axhline(float(data.attrs["limit"]), color=_PALE, lw=0.9, ls=":", zorder=0)
    axes["ratio"].set_yscale("log")
    axes["ratio"].yaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.5, 1, 2, 4]))
    axes["ratio"].yaxis.set_major_formatter("{x:g}")
    axes["ratio"].yaxis.set_minor_locator(NullLocator())
    positive = data["positive"].to_numpy().astype(bool)
    alive = data["log_norm"].to_numpy()[-1] > data["log_norm"].to_numpy()[-1].max() - 9
    for name, mask, colour in (
        ("on_plus", ~positive & alive, NEGATIVE),
        ("on_minus", positive & alive, POSITIVE),
    ):
        shares = data[name].to_numpy()[:, mask]
        axes["weight"].plot(time, shares, color=colour, lw=0.8, alpha=0.7)
    axes["weight"].set_ylim(-0.05, 1.08)
    norms = data["log_norm"].to_numpy() / np.log(10)
    for neuron in range(norms.shape[1]):
        colour = POSITIVE if positive[neuron] else NEGATIVE
        axes["norm"].plot(time, norms[:, neuron], color=colour, lw=0.8, alpha=0.6)
    for kind, colour in SWITCHES.items():
        chosen = data["switch_kind"].to_numpy() == kind
        axes["raster"].scatter(
            data["switch_time"].to_numpy()[chosen], data["switch_neuron"].to_numpy()[chosen],
            s=13, color=colour, lw=0,
        )  # fmt: skip


def _name_boundaries(axes: np.ndarray, data: xr.Dataset, span: tuple[float, float]) -> None:
    """Draw the ends of phases through a column, and name them at its top, one above another."""
    names, times = data["boundary"].to_numpy(), data["boundary_time"].to_numpy()
    logarithmic = axes[0].get_xscale() == "log"
    place = np.log if logarithmic else lambda t: t
    last: list[float] = []  # where the last name of each row is, as a fraction of the axis
    for k in np.argsort(times):
        if not span[0] < times[k] <= span[1]:
            continue
        for axis in axes:
            axis.axvline(times[k], color="0.55", lw=0.8, ls=":", zorder=0)
        at = (place(times[k]) - place(span[0])) / (place(span[1]) - place(span[0]))
        free = [row for row, before in enumerate(last) if at - before > _NAME_WIDTH]
        row = free[0] if free else len(last)
        last[row : row + 1] = [float(at)]
        axes[0].annotate(
            f"{names[k]}\n{times[k]:.6g}", (times[k], 1.02 + 0.25 * row),
            xycoords=("data", "axes fraction"), fontsize=7.5, ha="center", color="0.25",
        )  # fmt: skip


def _legends(axes: dict[str, Axes], data: xr.Dataset) -> None:
    """Say what the colours are."""
    line = lambda colour, label, **style: Line2D([], [], color=colour, label=label, **style)
    limit = data.attrs["limit_name"]
    entries = {
        "loss": [line(DARK, "loss"), line("#2a9d5c", "accuracy")],
        "output": [line(POSITIVE, "f(x₊)"), line(NEGATIVE, "f(x₋)")],
        "ratio": [
            line(POSITIVE, "1/cos Δ: positives slide below", ls="--"),
            line(NEGATIVE, "cos Δ: negatives slide above", ls="--"),
            line(_PALE, f"limit {limit}", ls=":"),
        ],
        "weight": [
            line(NEGATIVE, "of x₊ for negative neurons"),
            line(POSITIVE, "of x₋ for positive neurons"),
        ],
        "norm": [line(POSITIVE, "output weight > 0"), line(NEGATIVE, "output weight < 0")],
    }
    if "planar_plus" in data:
        entries["output"].append(line("k", "planar model", lw=1, ls=(0, (2, 4))))
    for panel, handles in entries.items():
        axes[panel].legend(handles=handles, fontsize=8, loc="best", framealpha=0.9)
    present = set(data["switch_kind"].to_numpy())
    handles = [
        Line2D([], [], color=colour, marker="o", ls="", label=kind.replace("_", " "))
        for kind, colour in SWITCHES.items()
        if kind in present
    ]
    axes["raster"].legend(handles=handles, fontsize=8, loc="best", framealpha=0.9)


def _pictures(figure, data: xr.Dataset) -> None:
    """Draw the neurons in the plane of the data, at some times."""
    count = data.sizes["snapshot"]
    axes = figure.subplots(1, count)
    for k, axis in enumerate(axes):
        draw_neurons(axis, data.isel(snapshot=k))
        name, time = str(data["snapshot"].to_numpy()[k]), float(data["snapshot_time"][k])
        title = name if name.startswith("t =") or time == 0 else f"{name}\nt = {time:.4g}"
        axis.set_title(title, fontsize=9)


def draw_neurons(axis: Axes, place: xr.Dataset) -> None:
    """Draw one picture: neurons as rays relative to the longest, and the data's hyperplanes.

    Args:
        axis: Where to.
        place: `azimuth`, `place_log_norm` and `positive` by neuron; attribute `angle`.
    """
    half = float(place.attrs["angle"]) / 2
    for azimuth, colour, label in ((half, POSITIVE, "x₊"), (-half, NEGATIVE, "x₋")):
        normal = azimuth + np.pi / 2
        ends = 1.25 * np.array([np.cos(normal), np.sin(normal)])
        axis.plot([-ends[0], ends[0]], [-ends[1], ends[1]], color=colour, lw=0.8, ls="--")
        tip = float(np.cos(azimuth)), float(np.sin(azimuth))
        arrow = {"arrowstyle": "-|>", "color": "0.35", "lw": 0.9}
        axis.annotate("", (1.25 * tip[0], 1.25 * tip[1]), (0, 0), arrowprops=arrow)
        axis.text(1.45 * tip[0], 1.45 * tip[1], label, ha="center", va="center", fontsize=8,
                  color=colour)  # fmt: skip
    length = place["place_log_norm"].to_numpy()
    length = np.exp(length - length.max())
    positive = place["positive"].to_numpy().astype(bool)
    azimuth = place["azimuth"].to_numpy()
    x, y = length * np.cos(azimuth), length * np.sin(azimuth)
    for mask, colour in ((positive, POSITIVE), (~positive, NEGATIVE)):
        for j in np.flatnonzero(mask):
            axis.plot([0, x[j]], [0, y[j]], color=colour, lw=0.6, alpha=0.5)
        axis.scatter(x[mask], y[mask], s=11, color=colour, alpha=0.8, lw=0, zorder=3)
    axis.set_aspect("equal")
    axis.set_xlim(-1.1, 1.6)
    axis.set_ylim(-1.3, 1.3)
    axis.set_axis_off()

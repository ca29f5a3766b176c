"""Figures of the early-alignment experiments: the flow beside descent."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

from ...report.style import DARK, NEGATIVE, POSITIVE

_RATES = ("#7b2cbf", "#b5179e", "#f28482", "#8a8a8a")
_PUBLISHED = "#2a9d5c"


def draw_planar(data: xr.Dataset, path: Path) -> None:
    """Draw neurons in the plane at three times, and loss, phases and departure below."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(2, 3)
    for axis, shown in zip(axes[0], data["shown"].to_numpy(), strict=True):
        _plane(axis, data, int(shown))
    signs = [("output weight > 0", POSITIVE), ("output weight < 0", NEGATIVE)]
    handles = [Line2D([], [], color=c, marker="o", ls="", ms=4, label=n) for n, c in signs]
    handles += [
        Line2D([], [], color=DARK, marker=m, ls="", ms=6, mfc="none", label=n)
        for m, n in (("P", "input, label +1"), ("X", "input, label -1"))
        if n.endswith("+1") or bool((data["target"] < 0).any())
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, fontsize=8, frameon=False)
    _losses(axes[1, 0], data)
    _phases(axes[1, 1], data)
    _departure(axes[1, 2], data)
    _save(figure, path)


def draw_digits(data: xr.Dataset, path: Path) -> None:
    """Draw alignment, loss, rank, phases, departure, and the inputs' inner products."""
    figure = Figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplots(2, 3)
    _alignment(axes[0, 0], data)
    _losses(axes[0, 1], data)
    _rank(axes[0, 2], data)
    gram = axes[1, 0].imshow(data["gram"], cmap="RdBu_r", vmin=-50, vmax=50)
    first = int((data["gram"].sizes["sample"] + 1) // 2)
    axes[1, 0].set_xticks([first / 2, 1.5 * first], ["label -1", "label +1"])
    axes[1, 0].set_yticks(
        [first / 2, 1.5 * first], ["label -1", "label +1"], rotation=90, va="center"
    )
    axes[1, 0].set_title("inner products of the images", fontsize=9)
    figure.colorbar(gram, ax=axes[1, 0], shrink=0.8, extend="both")
    _phases(axes[1, 1], data)
    _departure(axes[1, 2], data)
    _save(figure, path)


def draw_batches(data: xr.Dataset, path: Path) -> None:
    """Draw loss, change in direction and change in norm of flow and batches, by epoch."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplots(2, 2)
    epochs = data["time"] / data.attrs["epoch"]
    panels = (
        (axes[0, 0], "loss", "loss", ()),
        (axes[0, 1], "direction_rate", "change in direction", (210, 23)),
        (axes[1, 0], "norm_rate", "change in norm", (690, 0.63)),
    )
    for axis, name, label, peak in panels:
        for colour, rate in zip(_RATES, data["rate"].to_numpy(), strict=False):
            values = data[f"descent_{name}"].sel(rate=rate)
            axis.plot(epochs, values, color=colour, lw=0.9, label=f"batches, rate {rate:g}")
        axis.plot(epochs, data[name], color=DARK, lw=1.6, ls="--", label="flow")
        if peak:
            axis.plot(*peak, marker="*", ms=11, ls="", color=_PUBLISHED, label="published peak")
        axis.set_xlabel("epoch of the paper")
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
    axes[0, 1].legend(fontsize=8)
    _departure(axes[1, 1], data)
    _save(figure, path)


def draw_inner(data: xr.Dataset, path: Path) -> None:
    """Draw a run of the inner layer alone, on a logarithmic axis of time."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplots(2, 2)
    time = data["time"].to_numpy()
    shown = time > 0
    for neuron, sign in enumerate(data["outer_sign"].to_numpy()):
        axes[0, 0].plot(
            time[shown], data["cosine"][shown, neuron], lw=0.7, alpha=0.7,
            color=POSITIVE if sign > 0 else NEGATIVE,
        )  # fmt: skip
    axes[0, 0].set_ylabel("cosine to $x_+$")
    handles = [
        Line2D([], [], color=POSITIVE, label="v = +1"),
        Line2D([], [], color=NEGATIVE, label="v = -1"),
    ]
    axes[0, 0].legend(handles=handles, fontsize=8, loc="center right")
    axes[0, 1].plot(time[shown], data["loss"][shown], color=DARK, label="flow")
    for colour, rate in zip(_RATES, data["rate"].to_numpy(), strict=False):
        axes[0, 1].plot(
            data["fine"][1:], data["descent_loss"].sel(rate=rate)[1:], color=colour, ls="--",
            label=f"descent, rate {rate:g}",
        )  # fmt: skip
    axes[0, 1].plot(
        data["coarse"][1:], data["paper_loss"][1:], color=_RATES[-1], ls="", marker="o", ms=3,
        label=f"descent, rate {data.attrs['paper_rate']:g}",
    )  # fmt: skip
    axes[0, 1].axhline(0.5, color=_PUBLISHED, lw=0.8, label="published start, about 0.5")
    axes[0, 1].set_ylabel("loss")
    axes[0, 1].legend(fontsize=8)
    for name, label, colour in (
        ("direction_rate", "change in direction", NEGATIVE),
        ("norm_rate", "change in norm", POSITIVE),
    ):
        values = data[name].to_numpy()[shown]
        axes[1, 0].plot(time[shown], values / values.max(), color=colour, label=label)
    axes[1, 0].plot(time[shown], data["loss"][shown], color=DARK, lw=1, label="loss")
    axes[1, 0].set_ylabel("relative to the largest")
    axes[1, 0].set_ylim(-0.03, 1.4)
    axes[1, 0].legend(fontsize=8, loc="upper right")
    for axis in (axes[0, 0], axes[0, 1], axes[1, 0]):
        axis.set_xscale("log")
        axis.set_xlabel("gradient-flow time")
        axis.axvline(data.attrs["paper_rate"], color="0.6", lw=0.8, ls=":")
    axes[0, 0].annotate(
        "iteration 1\nof the paper", (data.attrs["paper_rate"], 0), fontsize=7, color="0.35",
        xytext=(4, 0), textcoords="offset points",
    )  # fmt: skip
    _departure(axes[1, 1], data)
    _save(figure, path)


def _plane(axis: Axes, data: xr.Dataset, shown: int) -> None:
    """Draw directions on the unit circle, and arrows as long as the weights are."""
    at = data.sel(shown=shown)
    directions, log_norm = at["direction"].to_numpy(), at["log_norm"].to_numpy()
    length = np.exp(log_norm - log_norm.max())
    colours = [POSITIVE if s > 0 else NEGATIVE for s in at["outer_sign"].to_numpy()]
    axis.add_patch(Circle((0, 0), 1, fill=False, color="0.85", lw=0.8))
    ends = length[:, None] * directions
    for end, colour in zip(ends, colours, strict=True):
        axis.plot([0, end[0]], [0, end[1]], color=colour, lw=0.9, alpha=0.6)
    # A neuron whose weights have become zero has no direction.
    there = np.any(directions != 0, axis=1)
    axis.scatter(*directions[there].T, s=12, c=np.array(colours)[there], lw=0, alpha=0.8, zorder=3)
    for sign, marker in ((1, "P"), (-1, "X")):
        chosen = data["input"].to_numpy()[data["target"].to_numpy() == sign]
        axis.scatter(*(1.16 * chosen.T), s=38, marker=marker, c="none", edgecolors=DARK, lw=0.9)
    axis.set_aspect("equal")
    axis.set(xlim=(-1.35, 1.35), ylim=(-1.35, 1.35), xticks=[], yticks=[])
    time = shown * data.attrs["paper_rate"]
    index = int(np.argmin(np.abs(data["time"].to_numpy() - time)))
    loss = float(data["loss"][0, index])
    axis.set_title(
        f"iteration {shown} (t = {time:g}): loss {loss:.3g}\n"
        f"longest weights {np.exp(log_norm.max()):.1e}", fontsize=9,
    )  # fmt: skip


def _losses(axis: Axes, data: xr.Dataset) -> None:
    """Draw the loss of the flow, of all seeds if there are more, and of descent."""
    time = data["time"].to_numpy()
    if "seed" in data["loss"].dims:
        for one in data["loss"][1:]:
            axis.plot(time, one, color="0.8", lw=0.7, zorder=0)
        axis.plot([], [], color="0.8", label="flow, other seeds")
        own = data["loss"][0]
    else:
        own = data["loss"]
    axis.plot(time, own, color=DARK, lw=2, label="flow")
    for colour, rate in zip(_RATES, data["rate"].to_numpy(), strict=False):
        one = data["descent_loss"].sel(rate=rate)
        axis.plot(time, one, color=colour, lw=1, ls="--", label=f"descent, rate {rate:g}")
    if "published_loss" in data:
        axis.plot(
            data["published_time"], data["published_loss"], marker="*", ls="", ms=9,
            color=_PUBLISHED, label="published",
        )  # fmt: skip
    axis.set_yscale("log")
    axis.set_ylabel("loss")
    axis.legend(fontsize=7, loc="lower left")
    _time_axis(axis, data)


def _phases(axis: Axes, data: xr.Dataset) -> None:
    """Draw loss, change in norm and change in direction, each relative to its largest."""
    time = data["time"].to_numpy()
    loss = data["loss"][0] if "seed" in data["loss"].dims else data["loss"]
    for values, label, colour in (
        (data["direction_rate"], "change in direction", NEGATIVE),
        (data["norm_rate"], "change in norm", POSITIVE),
        (loss, "loss", DARK),
    ):
        largest = float(values.max())
        axis.plot(time, values / largest, color=colour, label=f"{label} (largest {largest:.3g})")
    axis.set_ylabel("relative to the largest")
    axis.set_ylim(-0.03, 1.42)
    axis.legend(fontsize=7, loc="upper right")
    _time_axis(axis, data)


def _departure(axis: Axes, data: xr.Dataset) -> None:
    """Draw how far descent departs from the flow at each rate, beside a proportional law."""
    rate, apart = data["rate"].to_numpy(), data["departure"].to_numpy()
    axis.plot(rate, apart[0] * rate / rate[0], color="0.6", ls=":", label="proportional")
    for colour, x, y in zip(_RATES, rate, apart, strict=False):
        axis.plot(x, y, marker="o", ls="", color=colour)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=2)
    axis.set_xticks(rate, [f"{r:g}" for r in rate])
    axis.set_yticks(apart, [f"{y:.2g}" for y in apart])
    axis.set_xlim(rate[0] / 1.3, rate[-1] * 1.3)
    axis.minorticks_off()
    axis.set_xlabel("learning rate")
    axis.set_ylabel("largest difference in loss\nof descent and flow")
    axis.legend(fontsize=8)


def _alignment(axis: Axes, data: xr.Dataset) -> None:
    """Draw each neuron's cosine to the positive centre."""
    for neuron, sign in enumerate(data["outer_sign"].to_numpy()):
        alive = bool(data["alive"][neuron])
        colour = (POSITIVE if sign > 0 else NEGATIVE) if alive else "0.75"
        axis.plot(data["time"], data["cosine"][:, neuron], color=colour, lw=0.8, alpha=0.7)
    kinds = [("output weight > 0 at the end", POSITIVE), ("< 0", NEGATIVE)]
    if not bool(data["alive"].all()):
        kinds.append(("dead at the end", "0.75"))
    axis.legend(handles=[Line2D([], [], color=c, label=n) for n, c in kinds], fontsize=7,
                loc="center right")  # fmt: skip
    axis.set_ylabel("cosine to $x_+$")
    axis.set_ylim(-1.05, 1.05)
    _time_axis(axis, data)


def _rank(axis: Axes, data: xr.Dataset) -> None:
    """Draw stable rank and squared spectral norm, each on its own axis."""
    axis.plot(data["time"], data["stable_rank"], color=DARK)
    axis.set_ylabel("stable rank")
    axis.set_ylim(0, 10)
    other = axis.twinx()
    other.plot(data["time"], data["square_norm"], color=POSITIVE)
    other.set_ylabel(r"$\|W\|_2^2$", color=POSITIVE)
    other.set_ylim(bottom=0)
    other.tick_params(axis="y", colors=POSITIVE)
    _time_axis(axis, data)


def _time_axis(axis: Axes, data: xr.Dataset) -> None:
    """Label time below and the paper's iterations, in thousands, above."""
    end = float(data["time"][-1])
    axis.set_xlim(0, end)
    axis.set_xlabel("gradient-flow time")
    scale = 1e3 * data.attrs["paper_rate"]
    above = axis.secondary_xaxis("top", functions=(lambda t: t / scale, lambda k: k * scale))
    above.tick_params(labelsize=7)
    above.set_xlabel("thousand iterations of the paper", fontsize=7)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=130)

"""Figures of descent beside the flow, and of how ends and times depend on the setting."""
# ruff: noqa: RUF001

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    LogFormatterMathtext,
    LogLocator,
    NullFormatter,
    NullLocator,
)

from ....report.style import DARK, NEGATIVE, POSITIVE

_TITLES = {"fixed": "output layer fixed", "both": "both layers trained"}
_RUNS = ("#0072b2", "#7b2cbf", "#d55e00", "#2a9d5c", "#e0a100", "#0f8b8d", "#6b705c",
         "#d6336c", "#5c4d3c")  # fmt: skip


def descent_figure(data: xr.Dataset, path: Path) -> None:
    """Draw flow and descent, their departure, and duty cycles beside weights.

    Args:
        data: Findings of the experiment.
        path: Where to write it; the ending decides the format.
    """
    figure = Figure(figsize=(17, 8), layout="constrained")
    axes = figure.subplots(2, 4)
    for row, name in zip(axes, _TITLES, strict=True):
        _outputs(row[0], data, name)
        _departures(row[1], row[2], data, name)
        _duties(row[3], data, name)
        row[0].set_title(_TITLES[name], fontsize=11, loc="left")
    figure.suptitle("Gradient descent beside the exact flow", fontsize=12)
    figure.savefig(path, dpi=130)


def _outputs(axis: Axes, data: xr.Dataset, name: str) -> None:
    time = data[f"{name}_time"].to_numpy()
    for side, colour, label in (("plus", POSITIVE, "f(x₊)"), ("minus", NEGATIVE, "f(x₋)")):
        axis.plot(time, data[f"{name}_flow_{side}"], color=colour, label=f"{label}, flow")
        rate = float(data[f"{name}_rate"][0])
        axis.plot(
            time[::2], data[f"{name}_descent_{side}"][0, ::2], "o", ms=4, mfc="none", color=colour,
            label=f"descent, η = {rate:g}",
        )  # fmt: skip
    axis.axhline(0, color="0.8", lw=0.8, zorder=0)
    axis.set_xlabel("time (η times steps)")
    axis.set_ylabel("output")
    axis.legend(fontsize=8)


def _departures(left: Axes, right: Axes, data: xr.Dataset, name: str) -> None:
    """Draw the departure in units of the rate over time, and its maximum over the rate."""
    time, rates = data[f"{name}_time"].to_numpy(), data[f"{name}_rate"].to_numpy()
    gap = data[f"{name}_gap"].to_numpy()
    shades = colormaps["viridis"](np.linspace(0.85, 0.0, len(rates)))
    for k, rate in enumerate(rates):
        left.plot(time, gap[k] / rate, color=shades[k], lw=1.1, label=f"η = {rate:g}")
    left.set_xlabel("time")
    left.set_ylabel("|output of descent - of flow| / η")
    left.legend(fontsize=8)
    typical = np.sqrt(np.mean(gap**2, axis=1))
    right.plot(rates, typical[-1] * rates / rates[-1], color="0.6", lw=1, label="proportional to η")
    right.scatter(rates, typical, color=shades, zorder=3, s=36)
    right.set_xscale("log")
    right.set_yscale("log")
    right.set_xlabel("learning rate η")
    right.set_ylabel("departure of outputs, root mean square")
    _plain(right, rates[::-1], None)
    right.legend(fontsize=8)


def _plain(axis: Axes, x, y) -> None:
    """Label ticks of logarithmic axes with plain numbers."""
    for which, ticks in ((axis.xaxis, x), (axis.yaxis, y)):
        if ticks is None:
            which.set_major_locator(LogLocator(subs=(1, 2, 5)))
            which.set_major_formatter("{x:.2g}")
            which.set_minor_formatter(NullFormatter())
            continue
        which.set_major_locator(FixedLocator(list(ticks)))
        which.set_minor_locator(NullLocator())
        which.set_major_formatter("{x:g}")


def _duties(axis: Axes, data: xr.Dataset, name: str) -> None:
    """Draw the weights of slides over time and descent's duty cycles on them."""
    time, at = data[f"{name}_time"].to_numpy(), data[f"{name}_duty_time"].to_numpy()
    for kind, colour, label in (
        ("on_plus", NEGATIVE, "of x₊, negative neurons"),
        ("on_minus", POSITIVE, "of x₋, positive neurons"),
    ):
        axis.plot(time, data[f"{name}_share_{kind}"], color=colour, label=f"weight {label}")
        axis.plot(
            at, data[f"{name}_duty_{kind}"][-1], "o", ms=5, mfc="none", color=colour,
            label="duty cycle of descent",
        )  # fmt: skip
    axis.set_ylim(0, 1.05)
    axis.set_xlabel("time")
    axis.set_ylabel("share of steps on the active side")
    axis.legend(fontsize=8, loc="lower right")


def alpha_figure(data: xr.Dataset, path: Path) -> None:
    """Draw A/B of each branch, its limit against alpha, and the times against alpha.

    Args:
        data: Findings of the experiment.
        path: Where to write it; the ending decides the format.
    """
    figure = Figure(figsize=(16, 5), layout="constrained")
    (left, middle, right) = figure.subplots(1, 3)
    cosine, grid = np.cos(float(data.attrs["angle"])), data["grid"].to_numpy()
    alpha, time = data["alpha"].to_numpy(), data["time"].to_numpy()
    for k in np.argsort(alpha):
        colour = _RUNS[k % len(_RUNS)]
        left.plot(time, data["planar_ratio"][k], color=colour, lw=1.2, label=f"α = {alpha[k]:.3g}")
        left.plot(time[::6], data["ratio"][k, ::6], "o", ms=4, color=colour, mfc="none")
        middle.plot(alpha[k], data["ratio"][k, -1], "o", ms=6, color=colour, mfc="none")
    for level, text in ((1 / cosine, "1/cos Δ"), (cosine, "cos Δ")):
        left.axhline(level, color="0.75", lw=0.8, ls="--", zorder=0)
        left.annotate(text, (time[0], level), fontsize=8, color="0.4", va="bottom")
    left.set(xscale="log", yscale="log", xlabel="gradient-flow time", ylabel="A / B")
    left.yaxis.set_major_locator(FixedLocator([0.5, 1, 2, 4]))
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_locator(NullLocator())
    left.legend(
        fontsize=7.5,
        loc="lower left",
        title="lines: planar model; circles: flow",
        title_fontsize=8,
    )
    middle.plot(grid, data["limit"], color=DARK, label="limit, closed form")
    middle.plot([], [], "o", color=DARK, mfc="none", label=f"flow at t = {time[-1]:g}")
    middle.set(xscale="log", xlabel="α = m₋/m₊", ylabel="A / B in the end")
    middle.legend(fontsize=8, loc="lower right")
    _branches(middle, cosine)
    _branches(right, cosine)
    gamma = float(data.attrs["gamma"])
    names = ("f₋ = 0", "positives slide (t₃)", "negatives leave (t₄)")
    for event, (name, colour) in enumerate(zip(names, (DARK, POSITIVE, NEGATIVE), strict=True)):
        form = data["form"].to_numpy()[:, event]
        right.plot(grid, np.where(np.isfinite(form), form, np.nan), color=colour, label=name)
        # Times scale as one over the sum of both gammas.
        found = data["event_time"].to_numpy()[:, event] * data["gamma"].to_numpy() / gamma
        right.plot(
            alpha, np.where(np.isfinite(found), found, np.nan), "o", color=colour, mfc="none"
        )
    right.set(xscale="log", yscale="log", xlabel="α = m₋/m₊", ylabel="time")
    right.legend(fontsize=8, title="lines: closed form; circles: flow", title_fontsize=8)
    right.set_xlim(middle.get_xlim())
    angle = float(data.attrs["angle"])
    figure.suptitle(f"Three ends, by the ratio of living neurons (p = 4, Δ = {angle:g})")
    figure.savefig(path, dpi=130)


def _branches(axis: Axes, cosine: float) -> None:
    """Draw and name the branches by alpha."""
    for level in (cosine, 1 / cosine):
        axis.axvline(level, color="0.75", lw=0.8, ls="--", zorder=0)
    for x, text in (
        (cosine**2, "negatives\nleave"),
        (1.0, "both slide\nfor ever"),
        (1 / cosine**2, "positives\nstay on"),
    ):
        axis.annotate(
            text, (x, 1.01), xycoords=("data", "axes fraction"), fontsize=8, color="0.35",
            ha="center",
        )  # fmt: skip


def angles_figure(data: xr.Dataset, path: Path) -> None:
    """Draw escape and deactivation against the angle, for several weights.

    Args:
        data: Findings of the experiment.
        path: Where to write it; the ending decides the format.
    """
    figure = Figure(figsize=(16, 5), layout="constrained")
    axes = figure.subplots(1, 3)
    flow, angle = data["flow"].to_numpy(), data["fine_angle"].to_numpy()
    for event, (axis, title) in enumerate(
        zip(axes[:2], ("plateau left: f₋ = 0", "positives slide: t₃"), strict=True)
    ):
        for k, heavy in enumerate(data["heavy"].to_numpy()):
            colour = _RUNS[k]
            axis.plot(angle, data["closed"][event, k], color=colour, label=f"p = {heavy:g}")
            axis.plot(angle, data["small"][event, k], color=colour, lw=0.8, ls=":")
            axis.plot(data["angle"], data["planar"][event, k], ".", ms=5, color=colour)
            mine = flow[:, 0] == heavy
            axis.plot(
                flow[mine, 1], flow[mine, 2 + event], "o", ms=9, mfc="none", color=colour, mew=1.4
            )
        axis.set(xscale="log", yscale="log", xlabel="angle Δ", ylabel="time", title=title)
        axis.legend(
            fontsize=8, title="line: closed form; dotted: small angles\ndots: planar model; "
            "circles: flow", title_fontsize=8,
        )  # fmt: skip
    axis = axes[2]
    for event, (marker, name) in enumerate(zip("os", ("f₋ = 0", "t₃"), strict=True)):
        for k in range(data.sizes["heavy"]):
            closed = data["closed"][event, k].to_numpy()
            small = np.abs(data["small"][event, k].to_numpy() / closed - 1)
            style = {"color": _RUNS[k], "lw": 0.9, "ls": ":" if event == 0 else "-."}
            axis.plot(angle, small, **style)
        colours = [_RUNS[list(data["heavy"].to_numpy()).index(p)] for p in flow[:, 0]]
        axis.scatter(
            flow[:, 1], data["flow_gap"][:, event], marker=marker, s=40, facecolors="none",
            edgecolors=colours, label=f"flow from κ₁ = 1e-5, {name}",
        )  # fmt: skip
    axis.set(
        xscale="log", yscale="log", xlabel="angle Δ", ylabel="|time / closed form - 1|",
        title="what forms leave out",
    )  # fmt: skip
    axis.set_ylim(1e-8, 3)
    axis.plot([], [], color="0.4", ls=":", label="small-angle form, f₋ = 0")
    axis.plot([], [], color="0.4", ls="-.", label="small-angle form, t₃")
    axis.legend(fontsize=8)
    for axis in axes:
        _plain(axis, [0.1, 0.2, 0.3, 0.5, 0.8], None)
        axis.yaxis.set_major_locator(LogLocator())
        axis.yaxis.set_major_formatter(LogFormatterMathtext())
        axis.yaxis.set_minor_formatter(NullFormatter())
    figure.suptitle("Times of the phases against the angle (19 and 4 of 60 neurons live)")
    figure.savefig(path, dpi=130)

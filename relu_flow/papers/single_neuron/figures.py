"""Figures of the experiments on learning a single neuron; each draws a data set to a file."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from ...report.style import DARK, NEGATIVE, POSITIVE

_FAINT = "0.6"
_VARIANTS = {"centred": POSITIVE, "uncentred": NEGATIVE}
_MARKERS = "osD^v"
_SCALE = r"$\lambda$"


def angles_figure(data: xr.Dataset, path: Path) -> None:
    """Draw largest and mean angle and nuclear norm against the scale, a dimension a colour."""
    figure = Figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplots(2, 3, sharex=True, sharey="col")
    exponents = data["exponent"].to_numpy()
    features = data["features"].to_numpy().tolist()
    colours = _shades(len(features))
    names = ("max_angle", "mean_angle", "nuclear")
    labels = ("largest angle, degrees", "mean angle, degrees", "nuclear norm of W")
    for row, variant in enumerate(data["variant"].to_numpy().tolist()):
        for axis, name, label in zip(axes[row], names, labels, strict=True):
            for size, colour, marker in zip(features, colours, _MARKERS, strict=False):
                values = data[name].sel(variant=variant, features=size)
                width = int(data["width"].sel(features=size))
                axis.plot(_powers(exponents), values, marker, color=colour, ms=3, alpha=0.35)
                median = values.median("trial").dropna("exponent")
                scales = _powers(median["exponent"].to_numpy())
                axis.plot(scales, median, color=colour, lw=1.3,
                          label=f"d = {size}, m = {width}")  # fmt: skip
            axis.set_yscale("log")
            axis.set_title(f"{variant}: {label}", fontsize=9)
        for axis, name in zip(axes[row, :2], names, strict=False):
            anchor = data[name].sel(variant=variant).median("trial").max("features")
            _slope_guide(axis, anchor, 1)
        axes[row, 2].axhline(1, color=_FAINT, lw=0.8, zorder=0)
    _scale_axes(axes[-1])
    axes[0, 2].legend(fontsize=8, loc="upper right")
    figure.suptitle(
        "The limit comes together in proportion to the scale of the initialisation\n"
        "(dots: draws; lines: medians; dashed: proportional to the scale)",
        fontsize=11,
    )
    _save(figure, path)


def losses_figure(data: xr.Dataset, path: Path) -> None:
    """Draw training and test loss against time, a scale a colour."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey="row")
    exponents = data["exponent"].to_numpy().tolist()
    colours = _shades(len(exponents))
    for column, variant in enumerate(data["variant"].to_numpy().tolist()):
        for row, (name, label) in enumerate((("train", "training"), ("test", "test"))):
            axis = axes[row, column]
            for exponent, colour in zip(exponents, colours, strict=True):
                here = data.sel(variant=variant, exponent=exponent)
                axis.plot(here["time"], here[name], color=colour, lw=1.2, label=_power(exponent))
            axis.set_yscale("log")
            axis.set_xscale("log")
            axis.set_title(f"{variant}: {label} loss", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("gradient-flow time")
    axes[0, 0].legend(fontsize=8, title=_SCALE, title_fontsize=8)
    figure.suptitle(f"Training and test loss, d = {data.attrs['features']}", fontsize=11)
    _save(figure, path)


def course_figure(data: xr.Dataset, path: Path) -> None:
    """Draw one run of the flow beside descent, and the departure of one from the other."""
    figure = Figure(figsize=(11, 11), layout="constrained")
    axes = figure.subplots(3, 2)
    _gaps(axes[0, 0], data)
    _crossing_times(axes[0, 1], data)
    time, steps = data["time"], data["step_time"]
    axis = axes[1, 0]
    alive = data["active"].isel(time=-1).to_numpy().astype(bool)
    axis.plot(time, data["alignment"][:, alive], color=POSITIVE, lw=0.7, alpha=0.6)
    axis.plot(steps[::6], data["descent_mean_alignment"][::6], "k.", ms=4, label="descent, mean")
    axis.plot(time, data["mean_alignment"], color=DARK, lw=1.3, label="flow, mean")
    axis.set_ylabel(r"cosine of active neurons to $\gamma_{[n]}$")
    axis.set_ylim(0, 1.05)
    axis.legend(fontsize=8, loc="lower right")
    axis = axes[1, 1]
    for name, colour, label in (
        ("nuclear", POSITIVE, r"$\|W\|_*$"),
        ("square_norm", NEGATIVE, r"$\|\theta\|^2$"),
    ):
        axis.plot(time, data[name], color=colour, lw=1.3, label=f"{label}, flow")
        axis.plot(steps[::6], data[f"descent_{name}"][::6], ".", color=colour, ms=4,
                  label=f"{label}, descent")  # fmt: skip
    axis.set_ylabel("nuclear norm, square norm")
    axis.legend(fontsize=8)
    axis = axes[2, 0]
    axis.plot(time, data["loss"], color=DARK, lw=1.3, label="flow")
    axis.plot(steps[::6], data["descent_loss"][::6], ".", color=POSITIVE, ms=4, label="descent")
    axis.set_yscale("log")
    axis.set_ylabel("loss")
    axis.legend(fontsize=8)
    for axis in (axes[1, 0], axes[1, 1], axes[2, 0]):
        axis.set_xscale("log")
        axis.set_xlabel(f"gradient-flow time; for descent {data.attrs['rate']} times iterations")
    _departure(axes[2, 1], data)
    title = "One neuron learnt, eigenvector by eigenvector: d = 16, m = 25, uncentred, $4^{-7}$"
    figure.suptitle(title, fontsize=11)
    _save(figure, path)


def _gaps(axis: Axes, data: xr.Dataset) -> None:
    """Draw the coordinates of teacher minus bundle, the largest eigenvalue darkest."""
    coordinates = data.sizes["coordinate"]
    for k, colour in enumerate(_shades(coordinates, colormaps["magma"])):
        axis.plot(data["time"], data["gap"][:, k], color=colour, lw=1)
    axis.axhline(0, color=_FAINT, lw=0.8, zorder=0)
    axis.set_xscale("log")
    axis.set_yscale("symlog", linthresh=1e-4, linscale=0.6)
    axis.set_ylim(-0.02, 2)
    axis.set_xlabel("gradient-flow time")
    axis.set_ylabel(r"coordinates of $v^* - v$" + "\n(dark: large eigenvalue)")


def _crossing_times(axis: Axes, data: xr.Dataset) -> None:
    """Draw when coordinates overtake against their eigenvalues."""
    seen = np.isfinite(data["crossing"].to_numpy())
    eigenvalue, crossing = data["eigenvalue"][seen], data["crossing"][seen]
    axis.plot(eigenvalue, crossing, "o-", color=DARK, ms=4, lw=0.7)
    named = np.inf
    for k, (x, y) in enumerate(zip(eigenvalue.to_numpy(), crossing.to_numpy(), strict=True)):
        if x > 0.76 * named:  # no room for a number beside the last one
            continue
        named = x
        axis.annotate(str(k + 1), (x, y), xytext=(-9, 5), textcoords="offset points", fontsize=7)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.invert_xaxis()
    axis.set_xlabel("eigenvalue, large to small")
    axis.set_ylabel("time at which the bundle's\ncoordinate overtakes the teacher's")


def _departure(axis: Axes, data: xr.Dataset) -> None:
    """Draw how far descent is from the flow, in units of the learning rate."""
    rates = data["rate"].to_numpy().tolist()
    styles = zip(rates, _shades(len(rates)), (4.0, 3.0, 2.0, 1.0), strict=True)
    for k, (rate, colour, thickness) in enumerate(styles):
        scaled = data["departure"][k] / rate
        axis.plot(data["early_time"], scaled, color=colour, lw=thickness, label=f"rate {rate:g}")
    axis.set_xlabel("gradient-flow time")
    axis.set_ylabel("departure of descent from the flow,\nby the learning rate")
    axis.legend(fontsize=8)


def teachers_figure(data: xr.Dataset, path: Path) -> None:
    """Draw the learning of two opposite teachers, and the limit against the scale."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    colours = {1.0: NEGATIVE, 3.0: POSITIVE}
    axes[0].plot(data["time"], data["loss"], color=DARK, lw=1.3)
    axes[0].set_yscale("log")
    axes[0].set_ylim(bottom=max(1e-10, 0.3 * float(data["loss"].min())))
    axes[0].set_ylabel("loss")
    for k, (norm, colour) in enumerate(colours.items()):
        axes[1].plot(data["time"], data["size"][:, k], color=colour, lw=1.3, label=f"norm {norm:g}")
        axes[1].axhline(norm, color=colour, lw=0.7, ls=":")
    axes[1].set_ylabel("norm of the neurons' sum,\nof either teacher")
    axes[1].legend(fontsize=8, title="teacher", title_fontsize=8)
    for axis in axes[:2]:
        axis.set_xscale("log")
        axis.set_xlabel("gradient-flow time")
        axis.set_title(f"{_SCALE} = {_power(data.attrs['shown'])}", fontsize=9)
    axes[2].set_yscale("log")
    axes[2].set_ylabel(r"$\|W\|_*/\|W\|_F - 1$ of the limit")
    done = data.isel(exponent=data["final_loss"].to_numpy() < data.attrs["learnt"])
    scales = _powers(done["exponent"].to_numpy())
    axes[2].plot(scales, done["spread"], "o-", color=DARK, ms=4, lw=1)
    if scales.size:
        _slope_guide(axes[2], done["spread"], 1)
    _scale_axes(axes[2:])
    size = f"d = {data.attrs['features']}, m = {data.attrs['neurons']}"
    figure.suptitle(f"Two opposite teachers of norms 1 and 3: {size}", fontsize=11)
    _save(figure, path)


def ranks_figure(data: xr.Dataset, path: Path) -> None:
    """Draw effective rank and excess of rank against the scale, a width a colour."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    exponents = data["exponent"].to_numpy()
    widths = data["width"].to_numpy().tolist()
    for width, colour in zip(widths, _shades(len(widths)), strict=True):
        here = data.sel(width=width)
        style = {"color": colour, "ms": 4, "lw": 1}
        axes[0].plot(
            _powers(exponents), here["effective_rank"], "o-", label=f"m = {width}", **style
        )
        axes[1].plot(_powers(exponents), here["spread"], "o-", **style)
    axes[0].set_ylabel("effective rank")
    axes[1].set_ylabel(r"$\|W\|_*/\|W\|_F - 1$")
    axes[1].set_yscale("log")
    _slope_guide(axes[1], data["spread"].max("width"), 1)
    _scale_axes(axes)
    axes[0].legend(fontsize=8)
    figure.suptitle("Rank of the limit (dashed: proportional to the scale)", fontsize=11)
    _save(figure, path)


def correlation_figure(data: xr.Dataset, path: Path) -> None:
    """Draw the excess of rank against the widest angle of an input, and how often it is one."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True)
    degrees = data["degrees"].to_numpy()
    reached = data["reached"].to_numpy() > 0
    for name, colour, label in (
        ("spread", POSITIVE, r"$\|W\|_*/\|W\|_F - 1$"),
        ("miss", NEGATIVE, r"$\|v - v^*\|$"),
    ):
        values = data[name].to_numpy()
        x = np.broadcast_to(degrees[:, None], values.shape)
        axes[0].plot(x[reached], values[reached], "o", color=colour, ms=3, alpha=0.4)
        axes[0].plot(x[~reached], values[~reached], "x", color=colour, ms=5, alpha=0.8)
        axes[0].plot(degrees, np.median(values, axis=1), color=colour, lw=1.2, label=label)
    axes[0].set_yscale("log")
    axes[0].legend(fontsize=8, loc="lower left", bbox_to_anchor=(0.0, 0.08))
    axes[0].set_ylabel("of the limit\n(crosses: loss still above 1e-9)")
    share = np.mean(data["spread"].to_numpy() < 0.01, axis=1)
    axes[1].plot(degrees, share, "o-", color=DARK, ms=4, lw=1)
    axes[1].set_ylim(-0.05, 1.05)
    axes[1].set_ylabel("share of draws with a limit of rank one")
    for axis in axes:
        axis.axvline(45, color=_FAINT, lw=0.8, ls=":")
        axis.set_xlabel("largest angle of an input to the teacher, degrees")
    figure.suptitle(
        r"Inputs further from the teacher than the theorem's 45 degrees, $\lambda = 4^{-7}$",
        fontsize=11,
    )
    _save(figure, path)


def sweep_figure(data: xr.Dataset, path: Path) -> None:
    """Draw the excess of rank against the scale, and thresholds beside promises."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    trials = data.sizes["trial"]
    exponents = data["exponent"].to_numpy()
    for k, colour in enumerate(_shades(trials)):
        here = data.isel(trial=k)
        axes[0].plot(_powers(exponents), here["spread"], "o-", color=colour, ms=3, lw=1)
        axes[0].axvline(10 ** float(here["threshold"]), color=colour, lw=0.7, ls=":")
    axes[0].axhline(data.attrs["level"], color=_FAINT, lw=0.8)
    axes[0].set_yscale("log")
    axes[0].set_ylabel(r"$\|W\|_*/\|W\|_F - 1$" + "\n(dotted: where it crosses the line)")
    _scale_axes(axes[:1])
    draws = np.arange(trials)
    axes[1].plot(draws, -data["promised"], "s", color=NEGATIVE, label="the theorem's bound")
    axes[1].plot(draws, -data["threshold"], "o", color=POSITIVE, label="rank one breaks")
    axes[1].set_yscale("log")
    axes[1].set_ylim(0.5, 100 * float(-data["promised"].min()))
    axes[1].set_xticks(draws)
    axes[1].set_xlim(-1, trials)
    axes[1].set_xlabel("draw")
    axes[1].set_ylabel(r"$-\log_{10}\lambda$")
    axes[1].legend(fontsize=8, loc="center right")
    figure.suptitle("Where rank one breaks, and where it is promised", fontsize=11)
    _save(figure, path)


def orthogonal_figure(data: xr.Dataset, path: Path) -> None:
    """Draw rank, norm and angle of the limit for orthogonal and correlated inputs."""
    figure = Figure(figsize=(13, 4.4), layout="constrained")
    axes = figure.subplots(1, 3)
    exponents = data["exponent"].to_numpy()
    families = data["family"].to_numpy().tolist()
    colours = (NEGATIVE, "#5aa0d8", "#7a1f00", POSITIVE, "#e0a100")
    for family, colour, marker in zip(families, colours, _MARKERS, strict=True):
        here = data.sel(family=family)
        excess = here["square_norm"] / here["least_norm"] - 1
        style = {"color": colour, "ms": 4, "lw": 1, "marker": marker}
        axes[0].plot(_powers(exponents), here["effective_rank"], label=family, **style)
        axes[1].plot(_powers(exponents), excess, **style)
        axes[2].plot(_powers(exponents), here["max_angle"], **style)
    axes[0].set_ylabel("effective rank")
    axes[1].set_yscale("symlog", linthresh=1e-4)
    axes[1].set_ylabel("square norm by the least known, less one")
    axes[2].set_yscale("log")
    axes[2].set_ylabel("largest angle of active neurons, degrees")
    _scale_axes(axes)
    figure.legend(fontsize=8, loc="outside lower center", ncols=5)
    figure.suptitle("Orthogonal inputs beside correlated ones", fontsize=11)
    _save(figure, path)


def alignment_figure(data: xr.Dataset, path: Path) -> None:
    """Draw neurons beside their yardsticks for three scales, and how late they cross."""
    exponents = data["exponent"].to_numpy()
    chosen = [exponents[0], exponents[len(exponents) // 2], exponents[-1]]
    figure = Figure(figsize=(15, 4), layout="constrained")
    axes = figure.subplots(1, 4)
    for axis, exponent in zip(axes, chosen, strict=False):
        here = data.sel(exponent=exponent)
        for k, sign in enumerate(here["sign"].to_numpy()):
            if sign == 0:
                continue
            colour = POSITIVE if sign > 0 else NEGATIVE
            axis.plot(here["time"], here["cosine"][:, k], color=colour, lw=1.6, alpha=0.45)
            axis.plot(here["time"], here["yardstick"][:, k], color=DARK, lw=0.7, ls=(0, (4, 3)))
        axis.axvline(float(here["alignment_end"]), color=_FAINT, lw=0.8, ls=":")
        axis.set_title(f"{_SCALE} = {_power(exponent)}", fontsize=9)
        axis.set_xlabel("gradient-flow time")
        axis.set_ylim(-1.05, 1.05)
    axes[0].set_ylabel(r"cosine to $\gamma_{[n]}$")
    late = data["late"].to_numpy()
    seen = (late > 0) & np.isfinite(late)
    axes[3].plot(_powers(exponents[seen]), late[seen], "o-", color=DARK, ms=4, lw=1,
                 label="measured")  # fmt: skip
    axes[3].plot(_powers(exponents), data["late_bound"], color=_FAINT, lw=1, label="Lemma 3")
    axes[3].set_yscale("log")
    axes[3].set_ylabel(r"largest $|\tau - t|$ of a crossing")
    _scale_axes(axes[3:])
    axes[3].legend(fontsize=8)
    figure.suptitle(
        "First phase: neurons (orange: positive output, blue: negative) beside their yardsticks "
        r"(dashed); dotted: $T_1$",
        fontsize=11,
    )
    _save(figure, path)


def cohesion_figure(data: xr.Dataset, path: Path) -> None:
    """Draw the largest angle of growing neurons and the bundle's norm against time."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True)
    exponents = data["exponent"].to_numpy().tolist()
    for exponent, colour in zip(exponents, _shades(len(exponents)), strict=True):
        here = data.sel(exponent=exponent)
        axes[0].plot(here["time"], here["angle"], color=colour, lw=1.2, label=_power(exponent))
        axes[1].plot(here["time"], here["size"], color=colour, lw=1.2)
        axes[0].plot(float(here["departure"]), np.interp(here["departure"], here["time"],
                     here["angle"]), "o", color=colour, ms=4)  # fmt: skip
    axes[0].set_ylabel("largest angle of growing neurons, degrees")
    axes[1].set_ylabel(r"norm of the bundle $\|v\|$")
    for axis in axes:
        axis.set_yscale("log")
        axis.set_xlabel("gradient-flow time")
    axes[0].legend(fontsize=8, title=_SCALE, title_fontsize=8)
    figure.suptitle("Second phase: the bundle grows and stays together (dots: $T_2$)", fontsize=11)
    _save(figure, path)


def _powers(exponents: np.ndarray) -> np.ndarray:
    return 4.0 ** np.asarray(exponents, float)


def _power(exponent: float) -> str:
    return f"$4^{{{exponent:g}}}$"


def _scale_axes(axes) -> None:
    """Label axes of scales, large ones on the left as they are published."""
    for axis in axes:
        axis.set_xscale("log", base=4)
        if not axis.xaxis_inverted():
            axis.invert_xaxis()
        axis.set_xlabel(f"scale {_SCALE} of the initialisation")


def _slope_guide(axis: Axes, values: xr.DataArray, power: float) -> None:
    """Draw a dashed line of a power law beside the smallest scales."""
    kept = values.dropna("exponent")
    exponents = kept["exponent"].to_numpy().astype(float)
    last = int(np.argmin(exponents))
    shown = exponents[exponents <= -3]
    line = 2.5 * float(kept[last]) * 4.0 ** (power * (shown - exponents[last]))
    line[line > float(kept.max())] = np.nan
    axis.plot(_powers(shown), line, color=_FAINT, lw=0.9, ls="--", zorder=0)


def _shades(count: int, colours: Colormap | None = None) -> list:
    """Return colours from dark to light that stay readable on white."""
    colours = colormaps["viridis"] if colours is None else colours
    return [colours(x) for x in np.linspace(0.05, 0.85, count)]


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=150)

"""The figure of the question on bounds: times and scales against n and mu, and their bounds."""

from pathlib import Path

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...report.seeds import band, shades

_STYLES = {"t_1": "--", "worst": ":"}


def bounds_figure(data: xr.Dataset, path: Path) -> None:
    """Draw the time until neurons are in place, and the largest scale, beside their bounds.

    Args:
        data: Findings of the question.
        path: Where to write it; the ending decides the format.
    """
    figure = Figure(figsize=(15, 5), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _times(left, data, "samples", "mu", "mu = {:g}")
    _times(middle, data, "mu", "samples", "n = {:g}")
    _scales(right, data)
    left.set_xlabel("samples n")
    middle.set_xlabel("smallest cosine mu")
    right.set_xlabel("samples n")
    left.set_ylabel("time until all neurons are in place, flow time")
    right.set_ylabel("-ln of the largest scale epsilon")
    for axis, name in ((left, "samples"), (middle, "mu"), (right, "scale_samples")):
        numbers = data[name].to_numpy()
        axis.minorticks_off()
        axis.set_xticks(numbers, [f"{n:g}" for n in numbers])
    for axis in (left, middle):
        _legend(axis, {"--": "t_1 of the theorem", ":": "sharper path, re-derived"})
    _legend(right, {"--": "eq. (28)", ":": "Lemma 3"})
    figure.suptitle("Early alignment: measured (medians over seeds) and bounds", fontsize=12)
    figure.savefig(path, dpi=130)


def _times(axis: Axes, data: xr.Dataset, along: str, across: str, label: str) -> None:
    values = data[across].to_numpy()
    for colour, value in zip(shades(len(values)), values, strict=True):
        line = data[["time", "time_low", "time_high", *_STYLES]].sel({across: value})
        band(axis, line, "time", along, colour, label.format(value))
        for name, style in _STYLES.items():
            axis.plot(line[along], line[name], style, color=colour, lw=1.3)
    axis.set_xscale("log")
    axis.set_yscale("log")


def _scales(axis: Axes, data: xr.Dataset) -> None:
    values = data["scale_mu"].to_numpy()
    names = {"scale": "scale", "scale_low": "scale_high", "scale_high": "scale_low"}
    for colour, value in zip(shades(len(values)), values, strict=True):
        line = data[[*names, "scale_bound", "scale_lemma_3"]].sel(scale_mu=value)
        # Minus a logarithm: the ends of the interval change places.
        turned = xr.Dataset({name: -line[other] for name, other in names.items()})
        band(axis, turned, "scale", "scale_samples", colour, f"mu = {value:g}")
        for bound, style in (("scale_bound", "--"), ("scale_lemma_3", ":")):
            axis.plot(line["scale_samples"], -line[bound], style, color=colour, lw=1.3)
    axis.set_xscale("log")
    axis.set_yscale("log")


def _legend(axis: Axes, bounds: dict[str, str]) -> None:
    handles, labels = axis.get_legend_handles_labels()
    for style, name in bounds.items():
        handles.append(Line2D([], [], color="0.3", ls=style))
        labels.append(name)
    low, high = axis.get_ylim()
    # Room above the bounds, so that the legend covers no line.
    axis.set_ylim(low, high * (high / low) ** 0.25)
    axis.legend(handles, labels, fontsize=8, loc="upper right", ncols=2)

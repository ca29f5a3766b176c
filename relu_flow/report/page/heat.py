"""Maps over the grid: medians and fractions at each of its points, on two axes of choice."""

import math
from typing import Any

import numpy as np

from ...study.statistics.fractions import fraction_interval
from ...study.statistics.intervals import quantile_interval
from ...study.statistics.outcomes import Interval
from .data import Collected
from .style import Section, escaped, safe_json
from .times import used_text


def map_section(data: Collected) -> Section:
    """Return the maps; the page's script draws what is selected."""
    if not data.axes:
        body = "<p>The study has one point of the grid: nothing differs between runs but seeds.</p>"
        return Section("maps", "Over the grid", body)
    layers = list(_layers(data))
    axes = [{"label": axis.label, "texts": list(axis.texts)} for axis in data.axes]
    content = {"axes": axes, "layers": layers}
    options = "".join(
        f'<option value="{k}">{escaped(layer["title"])}</option>' for k, layer in enumerate(layers)
    )
    pickers = ""
    if len(axes) > 2:
        names = [
            f'<option value="{k}">{escaped(axis["label"])}</option>' for k, axis in enumerate(axes)
        ]
        pickers = _select("map-x", "across", "".join(names)) + _select(
            "map-y", "upwards", "".join(names)
        )
        for k, axis in enumerate(axes):
            values = (
                f'<option value="{i}">{escaped(t)}</option>' for i, t in enumerate(axis["texts"])
            )
            pickers += _select(f"map-at-{k}", axis["label"], "".join(values))
    drawn = (
        "Each cell is a point of the grid"
        if len(axes) > 1
        else "Each point is a point of the grid, with its 95 % interval over seeds"
    )
    caption = (
        f"{drawn}; point at it for the interval and how many runs are behind it. Where there is no "
        "value it is said why: half of the runs or more did not reach the milestone, or no run "
        f"could be used. {used_text(data)}"
    )
    body = (
        f'<div class="controls">{_select("map-layer", "show", options)}{pickers}</div>'
        '<figure><div id="map" class="drawn-map"></div>'
        f'<script type="application/json" id="map-data">{safe_json(content)}</script>'
        f"<figcaption>{caption}</figcaption></figure>"
    )
    return Section("maps", "Over the grid", body)


def _select(key: str, label: str, options: str) -> str:
    return f'<label id="{key}-label">{escaped(label)} <select id="{key}">{options}</select></label>'


def _layers(data: Collected):
    for quantity in data.quantities:
        yield _layer(f"median {quantity.title}", quantity.unit, data.medians(quantity))
        if quantity.kind == "time":
            pairs = zip(data.reached(quantity), data.codes, strict=True)
            found = [fraction_interval(held, codes=codes) for held, codes in pairs]
            yield _layer(f"fraction that reached “{quantity.name}”", "", found, (0.0, 1.0))
    pairs = zip(data.column("switches"), data.codes, strict=True)
    found = [quantile_interval(values, codes=codes) for values, codes in pairs]
    yield _layer("median number of switches of a run", "", found)


def _layer(
    title: str,
    unit: str,
    found: list[Interval],
    limits: tuple[float, float] | None = None,
) -> dict[str, Any]:
    return {
        "title": title,
        "unit": unit,
        "limits": limits,
        "values": [_finite(interval.estimate) for interval in found],
        "low": [_finite(interval.low) for interval in found],
        "high": [_finite(interval.high) for interval in found],
        "used": [interval.tally.used for interval in found],
        "lost": [interval.tally.failed for interval in found],
        "late": [bool(np.isposinf(interval.estimate)) for interval in found],
    }


def _finite(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None

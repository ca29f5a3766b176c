"""How a page's figures look, and how they become HTML."""

import html
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from ...study.statistics.outcomes import Interval
from ..style import DARK, DISTINCT

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
ROWS = 40  # most points of the grid that a figure shows


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        key: Its anchor.
        title: Its heading.
        body: What is under it, as HTML.
    """

    key: str
    title: str
    body: str


def shown_cases(cases: int) -> list[int]:
    """Return which points of the grid are drawn: all, or evenly spread ones."""
    return np.unique(np.linspace(0, cases - 1, min(cases, ROWS)).round().astype(int)).tolist()


def colours_of(count: int) -> list[str]:
    """Return a colour for each of some ordered things, dark to light."""
    if count <= 1:
        return [DISTINCT[0]] * count
    return [str(c) for c in sample_colorscale("Viridis", np.linspace(0.0, 0.86, count).tolist())]


def faint(colour: str, opacity: float) -> str:
    """Return a colour that what is behind shines through."""
    if colour.startswith("#"):
        red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
        return f"rgba({red},{green},{blue},{opacity})"
    return colour.replace("rgb(", "rgba(").replace(")", f",{opacity})")


def is_wide(values: np.ndarray, factor: float = 20.0) -> bool:
    """Return whether the finite values are positive and call for a logarithmic axis."""
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    return bool(finite.size and finite.min() > 0 and finite.max() / finite.min() > factor)


def styled(figure: go.Figure, height: int, left: int = 70) -> go.Figure:
    """Give a figure the page's look."""
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": left, "r": 24, "t": 28, "b": 52},
        font={"family": FONT, "size": 13, "color": DARK},
        paper_bgcolor="#ffffff",
        plot_bgcolor="#ffffff",
        hoverlabel={"font": {"family": FONT, "size": 12}},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
    )
    axis = {
        "gridcolor": "#ececec",
        "linecolor": "#999999",
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": "#999999",
        "ticklen": 4,
    }
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def logarithmic(low: float, high: float) -> dict[str, Any]:
    """Return a logarithmic axis from one number to another, with few ticks."""
    span = np.log10(high / low)
    steps = (1, 2, 3, 5, 7) if span < 0.8 else (1, 2, 5) if span < 2.2 else (1,)
    every = max(1, round(span / 8))
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [s * 10.0**d for d in decades if d % every == 0 for s in steps]
    return {
        "type": "log",
        "range": [np.log10(low), np.log10(high)],
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
    }


def figure_html(figure: go.Figure, key: str, caption: str, controls: str = "") -> str:
    """Return a figure, its controls and caption; the page's script draws it from the JSON."""
    text = safe_json(json.loads(figure.to_json() or "{}"))
    height = figure.layout.height or 400
    return (
        f'<figure><div class="plot" id="{key}" style="height:{height}px"></div>'
        f'<script type="application/json" id="{key}-data">{text}</script>'
        f"{controls}<figcaption>{caption}</figcaption></figure>"
    )


def safe_json(value: object) -> str:
    """Return JSON that cannot end the element it is in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def escaped(value: object) -> str:
    """Return text that HTML shows as it is."""
    return html.escape(str(value))


def number_text(value: float) -> str:
    """Return a number to four digits."""
    if np.isnan(value):
        return "-"
    if np.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.4g}"


def interval_text(interval: Interval) -> str:
    """Return an estimate with its interval, such as `1.2 [1.1, 1.4]`."""
    if not interval.tally.used:
        return "-"
    low, high = number_text(interval.low), number_text(interval.high)
    return f"{number_text(interval.estimate)} [{low}, {high}]"

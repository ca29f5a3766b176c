"""When milestones are reached: distributions over seeds, and the phases they cut a run into."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ...study.statistics.curves import Survival, survival
from ...study.statistics.outcomes import SUCCESS, Interval
from ..style import DISTINCT
from .data import TIME, Collected, Quantity
from .style import (
    Section,
    colours_of,
    escaped,
    faint,
    figure_html,
    is_wide,
    logarithmic,
    number_text,
    shown_cases,
    styled,
)

_STEPS = 400  # most steps of a curve; more cannot be told apart
_BANDS = 4  # most curves that are drawn with their confidence bands


def time_sections(data: Collected) -> list[Section]:
    """Return the distributions of every milestone's times, and the strip of phases."""
    times = [q for q in data.quantities if q.kind == "time"]
    if not times:
        body = "<p>The study times no milestones.</p>"
        return [Section("times", "Times of milestones", body)]
    body = "".join(_distribution(data, quantity, k) for k, quantity in enumerate(times))
    return [
        Section("times", "Times of milestones", body),
        Section("phases", "Phases", _strip(data, times)),
    ]


def used_text(data: Collected, cases: list[int] | None = None) -> str:
    """Return how many runs are behind a figure, and how many are left out and why."""
    codes = data.codes if cases is None else data.codes[cases]
    used = int(np.sum(codes == SUCCESS))
    lost = codes[codes != SUCCESS]
    text = f"{used} of {codes.size} runs used"
    if lost.size:
        names, counts = np.unique(lost, return_counts=True)
        text += ", left out: " + ", ".join(
            f"{count} {name}" for name, count in zip(names, counts, strict=True)
        )
    if cases is not None and len(cases) < data.cases:
        text += f" ({len(cases)} of {data.cases} points of the grid are drawn, evenly spread)"
    return escaped(text + ".")


def _distribution(data: Collected, quantity: Quantity, number: int) -> str:
    shown = shown_cases(data.cases)
    colours = colours_of(len(shown))
    end = data.end
    medians = data.medians(quantity)
    curves = [survival(quantity.values[c], data.ends[c], codes=data.codes[c]) for c in shown]
    rows = len(shown)
    below = 40 + 20 * rows
    figure = make_subplots(
        rows=2, shared_xaxes=True, row_heights=[300, below], vertical_spacing=24 / (300 + below)
    )
    start = _start([curve.time for curve in curves], end)
    if is_wide(np.array([start, end])):
        figure.update_xaxes(**logarithmic(start, 1.06 * end))
    else:
        start = 0.0
        figure.update_xaxes(range=[0.0, 1.03 * end])
    for row, (case, curve, colour) in enumerate(zip(shown, curves, colours, strict=True)):
        label = data.labels[case]
        _curve(figure, curve, label, colour, (start, end), len(shown) <= _BANDS)
        _row(figure, medians[case], rows - 1 - row, label, colour, (start, end))
    styled(figure, 300 + below + 80, left=_left(data.labels))
    figure.update_layout(showlegend=False)
    figure.update_xaxes(title=TIME, row=2, col=1)
    figure.update_yaxes(title="fraction reached", range=[-0.03, 1.03], row=1, col=1)
    figure.update_yaxes(
        tickvals=list(range(rows)),
        ticktext=[data.labels[case] for case in reversed(shown)],
        range=[-0.7, rows - 0.3],
        row=2,
        col=1,
    )
    of = data.plan.study.milestones[number]
    ways = {1: "rises through", -1: "falls through", 0: "crosses"}
    what = f"{of.observable} first {ways[of.direction]} {of.level:g}"
    censored = sum(curve.tally.censored for curve in curves)
    band = ", in pointwise 95 % bands" if len(shown) <= _BANDS else ""
    caption = (
        f"<b>“{escaped(quantity.name)}”: {escaped(what)}.</b> Above, the fraction of runs that "
        "have reached it (Kaplan-Meier; runs that had not reached it by the end count as later: "
        f"{censored}, and their curve ends in a triangle){band}. Below, the median over seeds with "
        "its exact 95 % interval; a triangle at the right end: not reached, or not bounded by so "
        f"few runs. {used_text(data, shown)}"
    )
    return figure_html(figure, f"times-{number}", caption)


def _curve(
    figure: go.Figure,
    curve: Survival,
    label: str,
    colour: str,
    span: tuple[float, float],
    band: bool,
) -> None:
    """Draw the fraction reached against time."""
    if not curve.tally.used:
        return
    kept = np.unique(np.linspace(0, curve.time.size - 1, min(curve.time.size, _STEPS)).astype(int))
    time = np.concatenate([span[:1], curve.time[kept], span[1:]])

    def steps(values: np.ndarray, before: float) -> np.ndarray:
        inner = 1 - values[kept]
        return np.concatenate([[before], inner, inner[-1:] if inner.size else [before]])

    if band:
        high, low = steps(curve.low, 0.0), steps(curve.high, 0.0)
        # Once all have reached it the band says nothing new, and would hide what does.
        upto = slice(None) if curve.tally.censored else slice(-1)
        for y, fill in ((low, None), (high, "tonexty")):
            figure.add_scatter(
                x=time[upto], y=y[upto], mode="lines", line={"width": 0, "shape": "hv"}, fill=fill,
                fillcolor=faint(colour, 0.12), hoverinfo="skip", row=1, col=1,
            )  # fmt: skip
    reached = steps(curve.fraction, 0.0)
    figure.add_scatter(
        x=time, y=reached, mode="lines", name=label, line={"color": colour, "shape": "hv"},
        hovertemplate="%{y:.3f} reached by %{x:.4g}<extra>%{fullData.name}</extra>", row=1, col=1,
    )  # fmt: skip
    if curve.tally.censored:
        said = f"{curve.tally.censored} of {curve.tally.used} not reached by {span[1]:.4g}"
        figure.add_scatter(
            x=span[1:], y=reached[-1:], mode="markers", name=label,
            marker={"symbol": "triangle-right-open", "color": colour, "size": 9},
            hovertemplate=said + "<extra>%{fullData.name}</extra>", row=1, col=1,
        )  # fmt: skip


def _row(
    figure: go.Figure,
    median: Interval,
    y: int,
    label: str,
    colour: str,
    span: tuple[float, float],
) -> None:
    """Draw a median with its interval."""
    if not median.tally.used:
        return
    low, high = np.clip((median.low, median.high), *span)
    text = f"{number_text(median.estimate)} [{number_text(median.low)}, {number_text(median.high)}]"
    hover = f"median {text}<br>{median.tally}<extra>{label}</extra>"
    figure.add_scatter(
        x=[low, high], y=[y, y], mode="lines", line={"color": colour, "width": 3},
        opacity=0.45, hovertemplate=hover, row=2, col=1,
    )  # fmt: skip
    figure.add_scatter(
        x=[median.estimate if np.isfinite(median.estimate) else None], y=[y], mode="markers",
        marker={"color": colour, "size": 9}, hovertemplate=hover, row=2, col=1,
    )  # fmt: skip
    if not np.isfinite(median.high):
        figure.add_scatter(
            x=[span[1]], y=[y], mode="markers", hovertemplate=hover, row=2, col=1,
            marker={"symbol": "triangle-right-open", "color": colour, "size": 10},
        )  # fmt: skip


def _strip(data: Collected, times: list[Quantity]) -> str:
    """Return the strip of phases: milestones in order of their medians, a row a point."""
    shown, end = shown_cases(data.cases), data.end
    rows = len(shown)
    quantiles = {f: [data.medians(q, f) for q in times] for f in (0.25, 0.5, 0.75)}
    at = np.array([[[i.estimate for i in q] for q in quantiles[f]] for f in (0.25, 0.5, 0.75)])
    start = _start([at[0].ravel()], end)
    figure = go.Figure()
    for row, case in enumerate(shown):
        y = rows - 1 - row
        middle = at[1, :, case]
        order = [k for k in np.argsort(middle, kind="stable") if np.isfinite(middle[k])]
        begin = [max(middle[k], start) for k in order] + [end]
        for k, left, right in zip(order, begin[:-1], begin[1:], strict=True):
            figure.add_shape(
                type="rect", x0=left, x1=right, y0=y - 0.36, y1=y + 0.36, line={"width": 0},
                fillcolor=faint(DISTINCT[k % len(DISTINCT)], 0.22), layer="below",
            )  # fmt: skip
    for k, quantity in enumerate(times):
        lane, colour = k / max(1, len(times) - 1), DISTINCT[k % len(DISTINCT)]
        _marks(figure, data, quantity, at[:, k][:, shown], (start, end), lane, colour)
    styled(figure, 130 + 34 * rows, left=_left(data.labels))
    figure.update_xaxes(title=TIME, **logarithmic(start, 1.08 * end))
    figure.update_yaxes(
        tickvals=list(range(rows)),
        ticktext=[data.labels[case] for case in reversed(shown)],
        range=[-0.6, rows - 0.4],
        showgrid=False,
    )
    caption = (
        "Each row is a point of the grid. Points are medians over seeds, bars go from the lower to "
        "the upper quartile (up to the end where that was not reached). The strip "
        "has from each median on the colour of the milestone that was reached last; a milestone "
        f"without a point was not reached by half of the runs. {used_text(data, shown)}"
    )
    return figure_html(figure, "phase-strip", caption)


def _marks(
    figure: go.Figure,
    data: Collected,
    quantity: Quantity,
    at: np.ndarray,
    span: tuple[float, float],
    lane: float,
    colour: str,
) -> None:
    """Draw one milestone's medians and quartiles; lanes keep bars apart."""
    shown = shown_cases(data.cases)
    y = np.arange(len(shown))[::-1] + 0.22 - 0.44 * lane
    middle = np.where(np.isfinite(at[1]), np.maximum(at[1], span[0]), np.nan)
    low, high = np.clip(at[0], *span), np.clip(at[2], *span)
    texts = [
        f"{data.labels[case]}<br>quartiles " + ", ".join(number_text(x) for x in at[:, k])
        for k, case in enumerate(shown)
    ]
    figure.add_scatter(
        x=_plain(middle), y=y.tolist(), mode="markers", name=quantity.name, text=texts,
        marker={"size": 9, "color": colour, "line": {"color": "#ffffff", "width": 1}},
        error_x={
            "type": "data", "symmetric": False, "thickness": 2, "width": 0, "color": colour,
            "array": _plain(high - middle), "arrayminus": _plain(middle - low),
        },
        hovertemplate="%{text}<extra>%{fullData.name}</extra>",
    )  # fmt: skip


def _plain(values: np.ndarray) -> list[float | None]:
    return [float(x) if np.isfinite(x) else None for x in values]


def _start(times: list[np.ndarray], end: float) -> float:
    """Return the left end of a time axis: below the earliest time that is not zero."""
    known = np.concatenate(times)
    known = known[np.isfinite(known) & (known > 0)]
    return float(known.min()) / 1.5 if known.size else end / 100


def _left(labels: tuple[str, ...]) -> int:
    """Return the margin that labels of rows need."""
    return min(300, max(70, 30 + 7 * max(len(label) for label in labels)))

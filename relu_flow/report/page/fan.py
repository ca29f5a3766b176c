"""The neurons of one run as a fan of rays, with a slider over time and a raster of switches."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots

from ..style import DARK, DISTINCT, FAINT, NEGATIVE, NEUTRAL, POSITIVE, SWITCHES
from .data import TIME, Collected, scale_text
from .run import Rerun
from .style import Section, escaped, figure_html, logarithmic, number_text, safe_json, styled

_NEURONS, _SWITCHES, _INPUTS = 400, 20_000, 200  # most that are drawn
_SHORTEST = 0.12  # length of the ray of the smallest neuron; the largest has 1
_SIGNS = ((1.0, "outer weight > 0", POSITIVE), (-1.0, "outer weight < 0", NEGATIVE),
          (0.0, "outer weight 0", NEUTRAL))  # fmt: skip
_KINDS = {
    "activate": ("becomes active", "triangle-up", SWITCHES["activate"]),
    "deactivate": ("becomes inactive", "triangle-down", SWITCHES["deactivate"]),
    "slide_enter": ("begins to slide", "square", SWITCHES["slide_enter"]),
    "slide_exit_active": (
        "ends a slide, active",
        "triangle-up-open",
        SWITCHES["slide_exit_active"],
    ),
    "slide_exit_inactive": (
        "ends a slide, inactive",
        "triangle-down-open",
        SWITCHES["slide_exit_inactive"],
    ),
}


def fan_section(data: Collected, run: Rerun) -> Section:
    """Return the fan, its slider, and the loss and switches below."""
    chosen = _largest(run)
    plane, share = _plane(run, chosen)
    lengths, low, high = _lengths(run)
    tips = np.einsum("tjd,dk->tjk", run.directions[:, chosen], plane) * lengths[:, chosen, None]
    figure, first = _rim(run, plane, (low, high))
    for sign, name, colour in _SIGNS:
        figure.add_scatter(
            x=[], y=[], mode="lines+markers", name=name, line={"color": colour, "width": 2},
            marker={"size": 6, "color": colour}, hoverinfo="skip",
            showlegend=bool(np.any(run.signs == sign)),
        )  # fmt: skip
    figure.add_scatter(
        x=[], y=[], mode="markers", name="has just switched", hoverinfo="skip",
        marker={"size": 13, "color": "rgba(0,0,0,0)", "line": {"color": DARK, "width": 2}},
    )  # fmt: skip
    frames = [_frame(run, tips, chosen, k) for k in range(run.times.size)]
    for offset in range(len(_SIGNS) + 1):
        figure.data[first + offset].x = frames[0]["x"][offset]
        figure.data[first + offset].y = frames[0]["y"][offset]
    drawn = "" if len(chosen) == run.live.shape[1] else f"; the {len(chosen)} largest are drawn"
    caption = (
        f"The inner weights of {run.live.shape[1]} neurons{drawn}, projected on the plane of the "
        f"two principal directions of all times ({share:.0%} of the squared directions). The "
        "length grows with the logarithm of the norm: grey circles say of which, for a neuron in "
        "the plane; one out of it looks shorter. Symbols on the rim are directions of inputs, "
        "projected likewise. Rings mark neurons that switched since the time before."
    )
    controls = (
        '<div class="slider"><input id="fan-time" type="range" min="0" '
        f'max="{len(frames) - 1}" step="1" value="0" aria-label="time, logarithmic">'
        '<p><button id="fan-play" type="button">▶ play</button>'
        '<span id="fan-said"></span></p></div>'
    )
    content = safe_json({"frames": frames, "first": first})
    body = (
        f"<p>{_which(data, run)}</p>"
        + '<div class="sides">'
        + figure_html(figure, "fan", caption)
        + figure_html(_raster(run), "raster", _raster_caption(run), controls)
        + "</div>"
        + f'<script type="application/json" id="fan-frames">{content}</script>'
    )
    return Section("fan", "One run: its neurons", body)


def _which(data: Collected, run: Rerun) -> str:
    """Say which run it is, and whether it is the stored one."""
    case, seed = divmod(run.number, data.seeds)
    row = data.table.iloc[run.number]
    where = f"{data.labels[case]}, " if data.cases > 1 else ""
    text = (
        f"Run {run.number} ({where}seed {data.plan.study.seeds[seed]}), done again "
        f"with its weights at {run.times.size} times, as a study keeps none. It has "
        f"{len(run.switches)} switches; stored are {int(row['switches'])}."
    )
    pairs = [(time, float(row[f"time_{name}"])) for name, time in run.milestones.items()]
    both = [(a, b) for a, b in pairs if np.isfinite(a) and np.isfinite(b)]
    if both:
        worst = max(abs(a - b) / max(abs(b), 1e-300) for a, b in both)
        text += (
            f" Of {len(pairs)} milestones it reached {len(both)} that the stored run reached, at "
            f"times that differ by at most {worst:.1g}, relatively."
        )
    if run.ended:
        text += f" It ended early: {run.ended}"
    return escaped(text)


def _largest(run: Rerun) -> np.ndarray:
    """Return the neurons that are drawn: the largest at the end, in order of number."""
    order = np.argsort(-np.where(run.live[-1], run.log_norms[-1], -np.inf), kind="stable")
    return np.sort(order[:_NEURONS])


def _plane(run: Rerun, chosen: np.ndarray) -> tuple[Float[np.ndarray, "features 2"], float]:
    """Return two principal directions, and their share of the squared directions."""
    rows = run.directions[:, chosen].reshape(-1, run.directions.shape[2])
    _, singular, right = np.linalg.svd(rows.T @ rows)
    plane = np.zeros((rows.shape[1], 2))
    kept = right[:2].T
    # Signs of eigenvectors are arbitrary: the largest entry is made positive.
    kept = kept * np.sign(kept[np.argmax(np.abs(kept), axis=0), np.arange(kept.shape[1])])
    plane[:, : kept.shape[1]] = kept
    return plane, float(singular[:2].sum() / max(singular.sum(), 1e-300))


def _lengths(run: Rerun) -> tuple[Float[np.ndarray, "times width"], float, float]:
    """Return the length of every ray, and the log norms of the shortest and the longest."""
    known = run.log_norms[run.live]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    high = max(high, low + 1e-9)
    share = (np.where(run.live, run.log_norms, low) - low) / (high - low)
    return np.where(run.live, _SHORTEST + (1 - _SHORTEST) * share, 0.0), low, high


def _rim(run: Rerun, plane: np.ndarray, ends: tuple[float, float]) -> tuple[go.Figure, int]:
    """Return a figure with circles and inputs, and how many traces it has."""
    figure = go.Figure()
    around = np.linspace(0, 2 * np.pi, 181)
    low, high = (end / np.log(10) for end in ends)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        radius = _SHORTEST + (1 - _SHORTEST) * share
        figure.add_scatter(
            x=np.round(radius * np.cos(around), 4).tolist(),
            y=np.round(radius * np.sin(around), 4).tolist(),
            mode="lines", line={"color": FAINT, "width": 1}, hoverinfo="skip", showlegend=False,
        )  # fmt: skip
        figure.add_annotation(
            x=radius * np.cos(1.2), y=radius * np.sin(1.2), showarrow=False,
            text=_power(low + (high - low) * share), font={"size": 10, "color": "#777777"},
            bgcolor="rgba(255,255,255,0.75)", borderpad=0,
        )  # fmt: skip
    inputs = np.asarray(run.problem.inputs)[:_INPUTS]
    norms = np.linalg.norm(inputs, axis=1, keepdims=True)
    seen = inputs / np.where(norms > 0, norms, 1) @ plane
    targets = np.asarray(run.problem.targets)[:_INPUTS]
    for symbol, name, colour, members in (
        ("circle-open", "input, target > 0", POSITIVE, targets > 0),
        ("x-thin", "input, target ≤ 0", NEGATIVE, targets <= 0),
    ):
        if np.any(members):
            figure.add_scatter(
                x=np.round(1.12 * seen[members, 0], 4).tolist(),
                y=np.round(1.12 * seen[members, 1], 4).tolist(),
                mode="markers", name=name, hoverinfo="skip",
                marker={"symbol": symbol, "size": 10, "color": colour,
                        "line": {"width": 2, "color": colour}},
            )  # fmt: skip
    styled(figure, 540)
    hidden = {"visible": False, "range": [-1.2, 1.2], "fixedrange": True}
    figure.update_xaxes(**hidden)
    figure.update_yaxes(**hidden, scaleanchor="x")
    figure.update_layout(
        margin={"l": 20, "r": 20, "t": 10, "b": 90, "autoexpand": False},
        legend={"orientation": "h", "x": 0.5, "xanchor": "center", "y": 0, "yanchor": "top"},
    )
    return figure, len(tuple(figure.data))


def _frame(run: Rerun, tips: np.ndarray, chosen: np.ndarray, k: int) -> dict[str, Any]:
    """Return what changes with time: rays by sign, rings, the time, and words for it."""
    xs, ys = [], []
    for sign, _, _ in _SIGNS:
        here = (run.signs[k, chosen] == sign) & run.live[k, chosen]
        for coordinates, into in ((tips[k, here, 0], xs), (tips[k, here, 1], ys)):
            into.append([z for tip in np.round(coordinates, 4).tolist() for z in (0, tip, None)])
    before = run.times[k - 1] if k else run.times[0]
    when = run.switches["time"].to_numpy()
    named = run.switches["neuron"].to_numpy()[(when > before) & (when <= run.times[k])]
    rings = np.isin(chosen, named)
    xs.append(np.round(tips[k, rings, 0], 4).tolist())
    ys.append(np.round(tips[k, rings, 1], 4).tolist())
    # An empty trace leaves the legend, which would move all the rest.
    xs, ys = [x or [None] for x in xs], [y or [None] for y in ys]
    done = int(np.sum(when <= run.times[k]))
    said = (
        f"t = {number_text(run.times[k])},  loss {number_text(run.losses[k])},  "
        f"{done}/{when.size} switches"
    )
    return {"time": _on_axis(run, k), "x": xs, "y": ys, "said": said}


def _on_axis(run: Rerun, k: int) -> float:
    """Return where a time is on the logarithmic axis, which zero is drawn left of."""
    if run.times[k] > 0 or run.times.size < 3:
        return float(max(run.times[k], 1e-300))
    return float(run.times[1] ** 2 / run.times[2])


def _raster(run: Rerun) -> go.Figure:
    """Return loss and switches against time, with a line that the slider moves."""
    width = run.live.shape[1]
    below = int(np.clip(14 * width, 200, 520))
    figure = make_subplots(rows=2, shared_xaxes=True, row_heights=[130, below],
                           vertical_spacing=16 / (130 + below))  # fmt: skip
    figure.add_scatter(
        x=[_on_axis(run, k) for k in range(run.times.size)], y=run.losses.tolist(), mode="lines",
        line={"color": DARK}, name="loss", showlegend=False, row=1, col=1,
        hovertemplate="t = %{x:.4g}, loss %{y:.4g}<extra></extra>",
    )  # fmt: skip
    shown = run.switches.iloc[:_SWITCHES]
    for kind, (name, symbol, colour) in _KINDS.items():
        rows = shown[shown["kind"] == kind]
        if rows.empty:
            continue
        figure.add_scatter(
            x=rows["time"].tolist(), y=rows["neuron"].tolist(), mode="markers", name=name,
            marker={"symbol": symbol, "color": colour, "size": 9},
            customdata=rows["sample"].tolist(), row=2, col=1,
            hovertemplate="neuron %{y}, input %{customdata}, t = %{x:.6g}"
            "<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    styled(figure, 130 + below + 110)
    start, end = _on_axis(run, 0), float(run.times[-1])
    figure.update_layout(margin={"l": 64, "r": 22, "t": 62, "b": 52})
    figure.update_xaxes(**logarithmic(start, max(end, 1.01 * start)))
    figure.update_xaxes(title=TIME, row=2, col=1)
    figure.update_yaxes(title="loss", row=1, col=1)
    positive = run.losses[run.losses > 0]
    if positive.size and positive.max() > 20 * positive.min():
        around = logarithmic(positive.min() / 1.3, positive.max() * 1.3)
        figure.update_yaxes(**around, row=1, col=1)
    figure.update_yaxes(title="neuron", range=[-0.7, width - 0.3], row=2, col=1)
    if width <= 30:
        figure.update_yaxes(dtick=1 if width <= 15 else 5, tick0=0, row=2, col=1)
    cursor = {"type": "line", "x0": start, "x1": start, "y0": 0, "y1": 1, "xref": "x"}
    cursor["line"] = {"color": DISTINCT[1], "width": 2}
    for axis in ("y", "y2"):  # the page's script moves these two by their places
        figure.add_shape(cursor, yref=f"{axis} domain")
    return figure


def _raster_caption(run: Rerun) -> str:
    total = len(run.switches)
    text = f"The loss, and every switch of the run: {total} in all"
    if total > _SWITCHES:
        text += f", the first {_SWITCHES} are drawn"
    return escaped(
        text + ". The line is at the time of the slider; its left end is t = 0, then time is "
        "logarithmic."
    )


def _power(decades: float) -> str:
    """Return a power of ten as a number, however small."""
    return f"{10**decades:.2g}" if abs(decades) < 290 else scale_text(decades * np.log(10))

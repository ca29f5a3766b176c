"""Observables that a study keeps at given times: medians and quartiles over seeds."""

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from ...study.run.collect import open_study
from ...study.statistics.outcomes import SUCCESS
from .data import TIME, Collected
from .style import (
    Section,
    colours_of,
    escaped,
    faint,
    figure_html,
    is_wide,
    logarithmic,
    shown_cases,
    styled,
)
from .times import used_text

_BANDS = 4


def over_time_section(data: Collected) -> Section | None:
    """Return the courses of the observables that are kept at times; `None` if there are none."""
    record = data.plan.study.record
    if not record.at_times:
        return None
    node = open_study(data.path)["times"]
    body = ""
    for k, name in enumerate(record.at_times):
        values = node[name].to_numpy().reshape(data.cases, data.seeds, len(record.times))
        body += _course(data, name, values, k)
    return Section("courses", "Observables over time", body)


def _course(
    data: Collected, name: str, values: Float[np.ndarray, "cases seeds times"], number: int
) -> str:
    shown, times = shown_cases(data.cases), data.plan.study.record.times
    figure = go.Figure()
    drawn = []
    for case, colour in zip(shown, colours_of(len(shown)), strict=True):
        used = values[case][data.codes[case] == SUCCESS]
        if not used.size:
            continue
        low, middle, high = np.quantile(used, (0.25, 0.5, 0.75), axis=0)
        drawn.append(middle[np.isfinite(middle)])
        if len(shown) <= _BANDS:
            for y, fill in ((low, None), (high, "tonexty")):
                figure.add_scatter(
                    x=times, y=y, mode="lines", line={"width": 0}, fill=fill, showlegend=False,
                    fillcolor=faint(colour, 0.15), hoverinfo="skip",
                )  # fmt: skip
        figure.add_scatter(
            x=times, y=middle, mode="lines+markers", line={"color": colour},
            marker={"size": 7}, name=data.labels[case], customdata=np.stack([low, high], 1),
            hovertemplate="t = %{x:.4g}: %{y:.4g}, quartiles %{customdata[0]:.4g}, "
            "%{customdata[1]:.4g}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    styled(figure, 440)
    rest = {"orientation": "v", "x": 1.01, "y": 1, "yanchor": "top"}
    figure.update_layout(legend=rest, showlegend=True)
    wide_time = is_wide(np.asarray(times))
    figure.update_xaxes(
        title=TIME, **(logarithmic(0.9 * times[0], 1.1 * times[-1]) if wide_time else {})
    )
    every = np.concatenate([np.zeros(0), *drawn])
    figure.update_yaxes(title=name)
    if every.size and is_wide(every):
        figure.update_yaxes(**logarithmic(every.min() / 1.3, every.max() * 1.3))
    bands = (
        "Bands go from quartile to quartile."
        if len(shown) <= _BANDS
        else "Quartiles are shown on pointing."
    )
    caption = (
        f"<b>{escaped(name)}</b> at the times kept: medians over seeds, joined by straight lines. "
        f"{bands}{_ends(data)} {used_text(data, shown)}"
    )
    return figure_html(figure, f"course-{number}", caption)


def _ends(data: Collected) -> str:
    """Say where lines end if runs end at a milestone: the rest would be of the slow ones alone."""
    until = data.plan.study.until
    if until is None:
        return ""
    return f" Lines end where the first of the runs came to “{escaped(until)}” and ended."

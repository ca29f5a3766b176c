"""Tables of a page: every point of the grid with intervals, and exponents with what they say."""

from collections.abc import Iterable, Iterator

import numpy as np

from ...study.statistics.exponents import AxisScale, Exponent, fit_exponent
from ...study.statistics.fractions import fraction_interval
from ...study.statistics.outcomes import SUCCESS
from .data import TIME, Collected, Quantity, label_of, text_of
from .style import Section, escaped, interval_text, number_text
from .times import used_text

_FITS = 60  # most exponents of a page; each is bootstrapped
_WORK = 10**8  # points times bootstrap samples of all exponents, within a minute
_ROWS = 400  # most points of the grid in a table


def runs_section(data: Collected) -> Section:
    """Return the table of all points of the grid."""
    names = ["point of the grid", "used", "left out"]
    for quantity in data.quantities:
        unit = f" ({quantity.unit})" if quantity.unit and quantity.kind == "end" else ""
        names.append(f"median {quantity.title}{unit}")
        if quantity.kind == "time":
            names.append(f"fraction that reached “{quantity.name}”")
    columns = [list(_column(data, quantity)) for quantity in data.quantities]
    rows = []
    for case in range(min(data.cases, _ROWS)):
        counts = data.counts(case)
        lost = ", ".join(f"{n} {name}" for name, n in counts.items() if name != SUCCESS)
        cells = [cell for column in columns for cell in column[case]]
        rows.append([data.labels[case], str(counts[SUCCESS]), lost or "0", *cells])
    caption = (
        "Estimate [95 % interval]: of medians exact, between order statistics; of fractions "
        "Wilson's. ∞: not reached by the end, or not bounded by so few runs (a median needs six). "
        f"Times are {TIME}. {used_text(data)}"
    )
    if data.cases > _ROWS:
        caption += f" The first {_ROWS} of {data.cases} points; all are in runs.parquet."
    return Section("runs", "Table of runs", table_html("runs-table", names, rows, caption))


def _column(data: Collected, quantity: Quantity) -> Iterator[list[str]]:
    """Yield a quantity's cells for each point of the grid."""
    medians = data.medians(quantity)
    if quantity.kind == "end":
        yield from ([interval_text(median)] for median in medians)
        return
    for median, held, codes in zip(medians, data.reached(quantity), data.codes, strict=True):
        yield [interval_text(median), interval_text(fraction_interval(held, codes=codes))]


def exponents_section(data: Collected) -> Section:
    """Return the table of exponents along every axis of numbers with three values or more."""
    names = ["quantity", "law", "at", "slope", "over the range", "spread", "what it says"]
    fits = list(_fits(data))
    left = max(0, len(fits) - _FITS)
    points = sum(len(cases) * data.seeds for *_, cases in fits[:_FITS])
    resamples = int(np.clip(_WORK / max(points, 1), 199, 999))
    rows = [_fitted(data, *fit, resamples) for fit in fits[:_FITS]]
    if not rows:
        body = (
            "<p>No parameter of the grid is a number with at least three values: no exponents are "
            "fitted.</p>"
        )
        return Section("exponents", "Exponents", body)
    caption = (
        "Slopes of straight lines on the axes of the law, with 95 % intervals by bootstrap over "
        f"seeds ({resamples} samples; all points of a seed together); times not reached enter as "
        "later than the end (Tobit). Over the range: what the line changes by between the ends of "
        "the axis, a factor (x) on a logarithmic axis of the value. Spread: of points about the "
        "line, on its axis. Whether a law is a straight line is not tested."
    )
    if data.plan.study.combine == "paired" and len(data.varied) > 1:
        caption += " The parameters of a paired study change together: slopes are along the pairs."
    if left:
        caption += f" {left} further fits are not shown."
    return Section("exponents", "Exponents", table_html("exponents-table", names, rows, caption))


def _fits(data: Collected) -> Iterator[tuple[Quantity, str, str, list[int]]]:
    """Yield what is fitted against which parameter, where, and over which points."""
    for parameter in data.varied:
        for where, cases in _lines(data, parameter).items():
            values = {data.parameter(case, parameter) for case in cases}
            plain = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
            if plain and len(values) >= 3:
                for quantity in data.quantities:
                    yield quantity, parameter, where, cases


def _lines(data: Collected, parameter: str) -> dict[str, list[int]]:
    """Return the points of the grid in lines along a parameter, the others fixed."""
    paired = data.plan.study.combine == "paired"
    others = [] if paired else [name for name in data.varied if name != parameter]
    lines: dict[str, list[int]] = {}
    for case in range(data.cases):
        parts = [f"{label_of(n)} {text_of(n, data.parameter(case, n))}" for n in others]
        lines.setdefault(", ".join(parts) or "all", []).append(case)
    return lines


def _axes(
    quantity: Quantity, parameter: str, x: np.ndarray, y: np.ndarray
) -> tuple[tuple[AxisScale, AxisScale], np.ndarray, str, str]:
    """Return the axes of the law, its parameter's values on them, its name, and what it is in.

    Times grow with the logarithm of the scale and of sizes, and as powers of other parameters.
    """
    finite = y[np.isfinite(y)]
    positive = bool(finite.size) and bool(np.all(finite > 0))
    logarithmic = quantity.unit == "natural logarithm"
    power = positive and not logarithmic
    if parameter == "log_scale":
        if quantity.kind == "time":
            return ("linear", "linear"), -x, "time ~ slope · ln(1/scale)", "1/scale"
        law = "value ~ scale^slope" if power else "value ~ slope · ln(scale)"
        return ("linear", "log" if power else "linear"), x, law, "scale"
    name = label_of(parameter)
    if np.all(x > 0):
        if quantity.kind == "time" and parameter in ("samples", "features", "width"):
            return ("log", "linear"), x, f"time ~ slope · ln({name})", name
        what = "time" if quantity.kind == "time" else "value"
        law = f"{what} ~ {name}^slope" if power else f"{what} ~ slope · ln({name})"
        return ("log", "log" if power else "linear"), x, law, name
    return ("linear", "linear"), x, f"value ~ slope · {name}", name


def _fitted(
    data: Collected,
    quantity: Quantity,
    parameter: str,
    where: str,
    cases: list[int],
    resamples: int,
) -> list[str]:
    values, codes = quantity.values[cases].T, data.codes[cases].T
    x = np.array([float(data.parameter(case, parameter)) for case in cases])
    used = np.where(codes == SUCCESS, values, np.nan)
    axes, abscissa, law, name = _axes(quantity, parameter, x, used)
    try:
        found = fit_exponent(
            abscissa, values, axes, ends=data.ends[cases].T if quantity.kind == "time" else None,
            codes=codes, resamples=resamples,
        )  # fmt: skip
    except ValueError:
        said = "not determined: fewer than two values of the parameter with times reached"
        return [quantity.title, law, where, "-", "-", "-", said]
    return [
        quantity.title,
        law,
        where,
        interval_text(found.slope),
        _change(found, abscissa),
        number_text(found.spread),
        _verdict(found, name),
    ]


def _change(found: Exponent, x: np.ndarray) -> str:
    """Return what the line changes by between the smallest and the largest x."""
    along = np.log(x) if found.axes[0] == "log" else x
    change = found.slope.estimate * float(np.ptp(along))
    return f"x {np.exp(change):.3g}" if found.axes[1] == "log" else f"{change:+.3g}"


def _verdict(found: Exponent, name: str) -> str:
    """Say whether the quantity depends on the parameter, and what to doubt."""
    slope = found.slope
    if slope.low > 0:
        said = f"grows with {name}"
    elif slope.high < 0:
        said = f"falls with growing {name}"
    else:
        said = f"no dependence on {name} can be told"
    used = f"{slope.tally.used} runs, {found.seeds} seeds"
    return "; ".join([said, used, *found.warnings])


def table_html(key: str, names: Iterable[str], rows: Iterable[list[str]], caption: str) -> str:
    """Return a table whose first column heads the rows."""
    head = "".join(f'<th scope="col">{escaped(name)}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{escaped(first)}</th>'
        + "".join(f"<td{_kind(cell)}>{escaped(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return (
        f'<div class="scroll" tabindex="0"><table id="{key}"><caption>{escaped(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _kind(cell: str) -> str:
    return ' class="number"' if "[" in cell or len(cell) < 12 else ""

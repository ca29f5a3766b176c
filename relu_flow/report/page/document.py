"""A study as one standalone HTML page: nothing is fetched when it is opened."""

import json
import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from plotly.offline import get_plotlyjs

from ...study.statistics.outcomes import SUCCESS
from .data import Collected, label_of
from .fan import fan_section
from .heat import map_section
from .over_time import over_time_section
from .run import choose_run, run_again
from .style import Section, escaped
from .tables import exponents_section, runs_section
from .times import time_sections

_PLURALS = {"seed": "seeds", "log_scale": "scales", "width": "widths", "case": "pairs"}

# Even if a figure wanted to fetch something, the browser would refuse.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)


_NOTHING = Section("nothing", "Figures", "<p>No run succeeded: there is nothing to draw.</p>")


def write_page(
    path: str | Path, out: str | Path | None = None, *, run: int | None = None, fan: bool = True
) -> Path:
    """Write the page of a collected study.

    Args:
        path: The study's folder.
        out: The file; `report.html` in the study's folder unless given.
        run: Number of the run whose neurons are shown; the first that succeeded unless given. It
            is done again, which takes a compilation.
        fan: Whether to show a run's neurons at all.

    Returns:
        The file.

    Raises:
        ValueError: If the folder is no study's or not collected, or there is no such run.
        OSError: If the file cannot be written.
    """
    data = Collected(path)
    target = Path(path) / "report.html" if out is None else Path(out)
    if target.is_dir() or not target.parent.is_dir():
        raise ValueError(
            f"Argument `out` must be a file in a folder that is there, but it is {target}."
        )
    chosen = choose_run(data, run)
    figures = list(_figures(data)) if data.counts()[SUCCESS] else [_NOTHING]
    if fan and chosen is not None:
        figures.append(fan_section(data, run_again(data, chosen)))
    sections = [*figures, runs_section(data), exponents_section(data), _provenance(data)]
    _write(target, _assembled(data, sections))
    return target


def _figures(data: Collected) -> Iterator[Section]:
    """Yield what is drawn of all runs."""
    yield from time_sections(data)
    yield map_section(data)
    over_time = over_time_section(data)
    if over_time is not None:
        yield over_time


def _assembled(data: Collected, sections: list[Section]) -> str:
    here = resources.files(__package__ or "relu_flow.report.page")
    style = here.joinpath("style.css").read_text(encoding="utf-8")
    script = here.joinpath("script.js").read_text(encoding="utf-8")
    title = escaped(data.attributes["title"])
    links = "".join(f'<a href="#{s.key}-section">{escaped(s.title)}</a>' for s in sections)
    parts = "".join(
        f'<section id="{s.key}-section"><h2>{escaped(s.title)}</h2>{s.body}</section>'
        for s in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{title}</title><link rel="icon" href="data:,"><style>{style}</style>'
        f"<script>{get_plotlyjs()}</script></head>\n<body><header><h1>{title}</h1>"
        f"{_summary(data)}<nav>{links}</nav></header>\n<main>{parts}</main>\n"
        "<noscript><p>The figures need JavaScript; the tables do not.</p></noscript>"
        f"<script>{script}</script></body></html>\n"
    )


def _summary(data: Collected) -> str:
    """Return what the study is in a sentence, and how its runs ended."""
    study, plan = data.plan.study, data.plan
    dims = " x ".join(
        f"{len(values)} {_PLURALS.get(name, f'values of {label_of(name)}')}"
        for name, values in plan.dims.items()
    )
    counts = data.counts()
    lost = plan.size - counts[SUCCESS]
    items = "".join(
        f"<li{'' if name == SUCCESS else ' class=bad'}><b>{count}</b> "
        f"{escaped(name.replace('_', ' '))}</li>"
        for name, count in counts.items()
    )
    note = (
        "All runs succeeded; all are used everywhere."
        if not lost
        else f"{lost} of {plan.size} runs did not succeed. They are left out of every figure and "
        "table, which say of how many runs they are; nothing is averaged over them."
    )
    return (
        f'<p class="note">{plan.size} runs: {escaped(dims)}; '
        f"data “{escaped(study.data['family'])}”, to time {study.t1:g}{_until(data)}; "
        f"spec <code>{study.hash[:12]}</code></p>"
        f'<ul class="counts" id="counts">{items}</ul><p class="note">{escaped(note)}</p>'
    )


def _until(data: Collected) -> str:
    until = data.plan.study.until
    return "" if until is None else f" or to “{escaped(until)}” if that comes first"


def _provenance(data: Collected) -> Section:
    """Return the spec and with what it was run."""
    attributes = data.attributes
    shown = (
        ("spec hash", "spec_hash"),
        ("versions", "versions"),
        ("device", "device"),
        ("machine", "machine"),
        ("batch form", "batch_form"),
        ("batch", "batch"),
        ("relative tolerance", "rtol"),
        ("conventions", "conventions"),
    )
    said = [(name, _plain(attributes.get(key, "-"))) for name, key in shown]
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td>{escaped(value)}</td></tr>' for name, value in said
    )
    spec = json.dumps(json.loads(data.plan.study.canonical()), indent=1)
    body = (
        f'<div class="scroll"><table id="provenance-table"><tbody>{rows}</tbody></table></div>'
        f"<details><summary>The spec</summary><pre>{escaped(spec)}</pre></details>"
    )
    return Section("provenance", "Spec and provenance", body)


def _plain(value: object) -> str:
    """Return an attribute without the signs of JSON."""
    return "".join(sign for sign in str(value) if sign not in '{}"')


def _write(target: Path, text: str) -> None:
    """Write the file, whole or not at all."""
    aside = target.with_name(f".{target.name}-{os.getpid()}")
    try:
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)

"""Put the figures of `engine.json`, `width.json` and `peers.json` into the README's tables.

python benchmarks/engine.py --json benchmarks/engine.json
python benchmarks/width.py --json benchmarks/width.json
python benchmarks/peers.py --json benchmarks/peers.json
python benchmarks/readme.py
"""

import json
from pathlib import Path

HERE = Path(__file__).parent
END = "<!-- end of {} -->\n"
BEGIN = "<!-- {}: made by benchmarks/readme.py -->\n"


def power(number: float | None) -> str:
    """Return a power of ten as one reads it."""
    return "" if number is None else f"{number:.0e}".replace("e-0", "e-")


def costs(figures: dict) -> str:
    """Return the table of what single runs cost and the sentence below it, as Markdown."""
    lines = [
        "| initial scale | rtol | steps | expansions of the network | switches "
        "| largest error of their times | seconds a run |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {power(run['scale'])} | {power(run['rtol'])} | {run['steps']} "
            f"| {run['evaluations']} | {run['switches']} | {power(run['error'])} "
            f"| {run['seconds']:.2f} |"
            for run in figures["runs"]
        ),
    ]
    said = (
        f"Once compiled; the first call took {figures['first_call_seconds']:.1f} s "
        f"(JAX {figures['jax']}, {figures['cores']} cores, {figures['device']}). Errors are "
        "relative, against a run at `rtol=1e-14`."
    )
    return "\n".join([*lines, "", said, ""])


def width(figures: dict) -> str:
    """Return the table of wide networks and the sentence below it, as Markdown."""
    lines = [
        "| width | steps | expansions of the network | switches | seconds a run |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {run['width']} | {run['steps']} | {run['evaluations']} | {run['switches']} "
            f"| {run['seconds']:.2f} |"
            for run in figures["runs"]
        ),
    ]
    said = (
        f"To t = {figures['end']:g}, while neurons align; once compiled, best of three (JAX "
        f"{figures['jax']}, {figures['cores']} cores, {figures['device']}). Seconds grow with the "
        f"number of switches to the power {figures['slope']:.2f}."
    )
    return "\n".join([*lines, "", said, ""])


def peers(figures: dict) -> str:
    """Return the table of other solvers and the sentence below it, as Markdown."""
    lines = [
        "| solver | seconds | steps | error at the end | switches found "
        "| largest error of their times |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, run in figures["runs"].items():
        found = "not looked for" if run["switches"] is None else run["switches"]
        lines.append(
            f"| {name} | {run['seconds']:.3f} | {run['steps']} | {power(run['error'])} "
            f"| {found} | {power(run['switch_error'])} |"
        )
    which = ", ".join(f"{name} {number}" for name, number in figures["versions"].items())
    said = (
        f"There are {figures['switches']} switches. Once compiled, best of three, to t = "
        f"{figures['end']:g} ({figures['cores']} cores, {figures['device']}; {which}). Errors are "
        "relative, against relu_flow at `rtol=1e-14`."
    )
    return "\n".join([*lines, "", said, ""])


TABLES = {
    "costs": ("engine.json", costs),
    "width": ("width.json", width),
    "peers": ("peers.json", peers),
}


def with_tables(readme: str) -> str:
    """Return the README with each table between its two marks."""
    for name, (file, table) in TABLES.items():
        begin, end = BEGIN.format(name), END.format(name)
        before, rest = readme.split(begin)
        figures = json.loads((HERE / file).read_text())
        readme = before + begin + table(figures) + end + rest.split(end)[1]
    return readme


def main() -> None:
    """Rewrite the README."""
    readme = HERE.parent / "README.md"
    readme.write_text(with_tables(readme.read_text()))


if __name__ == "__main__":
    main()

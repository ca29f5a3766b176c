"""Put the figures of `engine.json` into the README's table of costs.

python benchmarks/engine.py --json benchmarks/engine.json && python benchmarks/readme.py
"""

import json
from pathlib import Path

HERE = Path(__file__).parent
BEGIN, END = "<!-- costs: made by benchmarks/readme.py -->\n", "<!-- end of costs -->\n"


def power(number: float) -> str:
    """Return a power of ten as one reads it."""
    return f"{number:.0e}".replace("e-0", "e-")


def table(figures: dict) -> str:
    """Return the table and the sentence below it, as Markdown."""
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


def with_table(readme: str, figures: dict) -> str:
    """Return the README with the table between its two marks."""
    before, rest = readme.split(BEGIN)
    return before + BEGIN + table(figures) + END + rest.split(END)[1]


def main() -> None:
    """Rewrite the README."""
    readme = HERE.parent / "README.md"
    figures = json.loads((HERE / "engine.json").read_text())
    readme.write_text(with_table(readme.read_text(), figures))


if __name__ == "__main__":
    main()

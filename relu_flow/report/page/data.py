"""What a page is made from: a collected study as arrays over points of the grid and seeds."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from ...study.declare.plan import Plan
from ...study.run.collect import open_study
from ...study.run.store import read_study
from ...study.statistics.curves import survival
from ...study.statistics.intervals import quantile_interval
from ...study.statistics.outcomes import SUCCESS, Interval

TIME = "gradient-flow time"
NOT_DONE = "not done"

_UNITS = {
    "largest_angle": "radians",
    "mean_angle": "radians",
    "positive_angle": "radians",
    "negative_angle": "radians",
    "log_parameter_norm": "natural logarithm",
    "log_nuclear_norm": "natural logarithm",
    "log_largest_tangent_eigenvalue": "natural logarithm",
}


@dataclass(frozen=True)
class GridAxis:
    """An axis of the grid.

    Attributes:
        key: The parameter's name in the study; `"case"` for pairs.
        label: What it is called.
        texts: Its values as text.
        numbers: Its values, if they are numbers; the natural logarithm of a scale.
    """

    key: str
    label: str
    texts: tuple[str, ...]
    numbers: tuple[float, ...] | None


@dataclass(frozen=True)
class Quantity:
    """Something that every run has a value of.

    Attributes:
        name: What it is called.
        kind: `"time"` of a milestone, or `"end"`: an observable at the end.
        unit: Of the values; empty for a pure number.
        values: One for each point of the grid and seed; `inf` for a time not reached.
    """

    name: str
    kind: Literal["time", "end"]
    unit: str
    values: Float[np.ndarray, "cases seeds"]

    @property
    def title(self) -> str:
        """What it is, for a reader."""
        return f"time of “{self.name}”" if self.kind == "time" else f"{self.name} at the end"


class Collected:
    """A collected study.

    Attributes:
        path: Its folder.
        plan: Its plan, with the study itself.
        attributes: What was written down with the results: versions, device, hash.
        table: The table of runs, ordered by run.
    """

    def __init__(self, path: str | Path):
        """Read a collected study.

        Raises:
            ValueError: If the folder is no study's, or it has not been collected (or was
                collected as another study).
        """
        self.path = Path(path)
        self.plan = Plan.of(read_study(self.path))
        tree = open_study(self.path)
        self.attributes: dict[str, Any] = {str(k): v for k, v in tree.attrs.items()}
        runs = self.path / "runs.parquet"
        if not runs.exists() or self.attributes.get("spec_hash") != self.plan.study.hash:
            raise ValueError(
                f"Argument `path` must be a collected study, but what was collected in {path} is "
                f"not whole or not of this study. Collect it again: relu-flow study collect {path}"
            )
        self.table = pd.read_parquet(runs).sort_values("run", ignore_index=True)
        if len(self.table) != self.plan.size:
            raise ValueError(
                f"Argument `path` must be a collected study, but {runs} has {len(self.table)} "
                f"runs instead of {self.plan.size}. Collect it again: relu-flow study collect "
                f"{path}"
            )

    @property
    def cases(self) -> int:
        """Number of points of the grid."""
        return len(self.plan.cases)

    @property
    def seeds(self) -> int:
        """Number of runs at each of them."""
        return len(self.plan.study.seeds)

    def column(self, name: str) -> Float[np.ndarray, "cases seeds"]:
        """Return a column of the table of runs, a row for each point of the grid."""
        return self.table[name].to_numpy(float).reshape(self.cases, self.seeds)

    @cached_property
    def ends(self) -> Float[np.ndarray, "cases seeds"]:
        """When each run ended."""
        return self.column("end_time")

    @cached_property
    def end(self) -> float:
        """When the last run that succeeded ended; `t1` if none did."""
        ends = self.ends[self.codes == SUCCESS]
        return float(ends.max()) if ends.size else self.plan.study.t1

    @cached_property
    def codes(self) -> np.ndarray:
        """How each run ended, as text, over points and seeds."""
        names = self.table["result"].astype(object)
        filled = names.where(names.notna(), NOT_DONE)
        return np.asarray(filled, str).reshape(self.cases, self.seeds)

    def counts(self, case: int | None = None) -> dict[str, int]:
        """Return how many runs ended how, at a point or in all; successful ones first."""
        chosen = self.codes if case is None else self.codes[case]
        found = Counter(chosen.ravel().tolist())
        return {SUCCESS: found.pop(SUCCESS, 0), **dict(sorted(found.items()))}

    @cached_property
    def axes(self) -> tuple[GridAxis, ...]:
        """The axes along which more than seeds differ."""
        if self.plan.study.combine == "paired":
            return (GridAxis("case", "pair", self.labels, None),) if self.cases > 1 else ()
        return tuple(
            _axis(name, values) for name, values in self.plan.dims.items() if name != "seed"
        )

    @cached_property
    def varied(self) -> tuple[str, ...]:
        """The parameters that have more than one value."""
        return tuple(k for k, v in self.plan.study.lists().items() if len(v) > 1)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """A text for each point of the grid that tells it from the others."""
        parts = [
            [
                f"{label_of(name)} {text_of(name, self.parameter(case, name))}"
                for name in self.varied
            ]
            for case in range(self.cases)
        ]
        return tuple(", ".join(part) if part else "all runs" for part in parts)

    def parameter(self, case: int, name: str) -> Any:
        """Return the value of a parameter at a point of the grid."""
        point = self.plan.cases[case]
        own = {"width": point.width, "log_scale": point.log_scale}
        return {**own, **point.data, **point.initial}[name]

    @cached_property
    def quantities(self) -> tuple[Quantity, ...]:
        """Times of milestones, then observables at the end."""
        study = self.plan.study
        times = [
            Quantity(m.name, "time", TIME, self.column(f"time_{m.name}")) for m in study.milestones
        ]
        ends = [
            Quantity(name, "end", _UNITS.get(name, ""), self.column(f"end_{name}"))
            for name in study.record.end
        ]
        return (*times, *ends)

    def medians(self, quantity: Quantity, fraction: float = 0.5) -> list[Interval]:
        """Return the median of a quantity at each point, or another quantile.

        Where all runs that succeeded end at `t1` a time not reached is larger than all others
        and the interval is exact. Of other milestones than the one at which runs end, a time not
        reached is only later than that run's own end (`survival`).
        """
        rows = zip(quantity.values, self.ends, self.codes, strict=True)
        if quantity.kind == "end" or self.plan.study.until in (None, quantity.name):
            return [quantile_interval(v, fraction, codes=c) for v, _, c in rows]
        return [survival(v, e, codes=c).quantile(fraction) for v, e, c in rows]

    def reached(self, quantity: Quantity) -> Iterator[np.ndarray]:
        """Yield for each point whether the runs that succeeded reached a milestone; else NaN."""
        for values, codes in zip(quantity.values, self.codes, strict=True):
            yield np.where(codes == SUCCESS, np.isfinite(values), np.nan)


def label_of(parameter: str) -> str:
    """Return what a parameter is called."""
    return {"log_scale": "scale"}.get(parameter, parameter.replace("_", " "))


def text_of(parameter: str, value: Any) -> str:
    """Return a value of a parameter as text; a scale from its natural logarithm."""
    if parameter == "log_scale":
        return scale_text(value)
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int | float):
        return f"{value:.6g}"
    return "(" + ", ".join(f"{x:.6g}" for x in value) + ")"


def scale_text(log_scale: float) -> str:
    """Return a scale as a decimal number however small it is, such as `1e-4343`."""
    if abs(log_scale) < 300:
        return f"{math.exp(log_scale):.4g}"
    decades = log_scale / math.log(10)
    mantissa = 10 ** (decades - math.floor(decades))
    return f"{mantissa:.3g}e{math.floor(decades):d}"


def _axis(name: str, values: tuple) -> GridAxis:
    plain = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    numbers = tuple(float(v) for v in values) if plain else None
    return GridAxis(name, label_of(name), tuple(text_of(name, v) for v in values), numbers)

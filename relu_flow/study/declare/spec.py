"""What a study is: one frozen declaration, from Python or from a TOML file, with a hash."""

import hashlib
import json
import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from ..._text import rows
from .families import FAMILIES, INITIALISERS, OBSERVABLES
from .settings import as_values, house_message, initialiser_table, settings_table

FORMAT = 1  # of the store; part of the hash

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class MilestoneSpec(BaseModel):
    """A milestone to be timed: an observable's first crossing of a level.

    Attributes:
        observable: Name of the observable.
        level: The level.
        direction: +1 rising, -1 falling, 0 either.
        name: What it is called; the observable's name unless given.
    """

    model_config = _STRICT

    observable: str
    level: float
    direction: Literal[-1, 0, 1] = 0
    name: str = ""

    @field_validator("observable")
    @classmethod
    def _known(cls, name: str) -> str:
        return _one_of("observable", name, OBSERVABLES)

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        if isinstance(given, dict) and not given.get("name"):
            return {**given, "name": given.get("observable", "")}
        return given


class RecordSpec(BaseModel):
    """What is kept of a run beside milestones and counts.

    Attributes:
        end: Observables at the end.
        times: Times at which the observables `at_times` are taken; ascending, up to `t1`.
        at_times: Observables at those times.
        at_milestones: Observables at each milestone. Needs dense output: memory for
            `max_steps` states of a network.
        switches: Whether every switch is kept, not their counts alone.
    """

    model_config = _STRICT

    end: tuple[str, ...] = ("loss",)
    times: tuple[float, ...] = ()
    at_times: tuple[str, ...] = ()
    at_milestones: tuple[str, ...] = ()
    switches: bool = False

    @field_validator("end", "at_times", "at_milestones")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            _one_of("record", name, OBSERVABLES)
        if len(set(names)) < len(names):
            raise ValueError(f"Argument `record` must name an observable once, but has {names}.")
        return names


class Study(BaseModel):
    r"""Many runs: a grid of data sets, widths and scales, for each of many seeds.

    All seeds are run at every point of the grid. The data and the directions of the initial
    weights depend on the seed alone (and the first neurons of a wide network are those of a
    narrow one), so that points of the grid are compared in pairs.

    Attributes:
        data: `family`, the name of a constructor of data, and its parameters. Each a value or a
            list of values (for a parameter that is a list itself, a list of lists).
        seeds: How many, or which; or a table of `start` and `stop`.
        widths: Numbers of neurons.
        log_scales: Natural logarithms of the initial scale. `scales` may be given instead.
        t1: End of a run, in units of gradient-flow time.
        combine: `"grid"`, the Cartesian product, or `"paired"`: lists of one length that are
            gone through together (what has one value is repeated).
        root: Root of all random keys.
        vary: Whether a seed changes data and network, or one alone; the other is that of
            seed 0.
        initialiser: A name, or a table of `name` and further parameters, each a value or list.
        loss: Name of the loss; the family's own unless given.
        reduction: How losses are reduced over samples; the family's own unless given.
        train: Which layers are trained; the family's own unless given.
        rtol: Relative tolerance.
        milestones: What is timed.
        until: Name of the milestone at which a run ends, if it comes before `t1`; its end is
            then the milestone's.
        record: What is kept besides.
        max_steps: Most steps of a run.
        max_switches: Slots for switches, see `relu_flow.solve`.
        max_slides: Slots for slides, see `relu_flow.solve`.
        batch: Runs in a chunk, the unit of work and of what is stored.
        name: For people; part of the hash as everything is.

    Raises:
        ValueError: If a key is unknown or missing or a value is out of its range; the message
            names it. Ranges of data parameters are checked by the family itself.

    Example:
        >>> import relu_flow as rf
        >>> data = {"family": "orthogonal", "samples": 3, "features": 3}
        >>> print(rf.Study(data=data, seeds=100, widths=[10, 20], scales=[1e-2, 1e-4], t1=20.0))
        Study orthogonal (c1da6b9ec45d)
          runs       400: 100 seed x 2 width x 2 log_scale
          data       orthogonal
          fixed      samples 3, features 3
          network    balanced, vary both
          end        t1 20
          kept       loss
          rtol       1e-12
    """

    model_config = _STRICT

    data: dict[str, Any]
    seeds: tuple[int, ...] = Field(min_length=1)
    widths: tuple[int, ...] = Field(min_length=1)
    log_scales: tuple[float, ...] = Field(min_length=1)
    t1: float = Field(gt=0)
    combine: Literal["grid", "paired"] = "grid"
    root: int = Field(default=0, ge=0, lt=2**32)
    vary: Literal["both", "data", "network"] = "both"
    initialiser: dict[str, Any] = {"name": "balanced"}
    loss: Literal["exponential", "logistic", "square"] | None = None
    reduction: Literal["sum", "mean"] | None = None
    train: Literal["both", "inner"] | None = None
    rtol: float = Field(default=1e-12, ge=1e-15, le=0.1)
    milestones: tuple[MilestoneSpec, ...] = ()
    until: str | None = None
    record: RecordSpec = RecordSpec()
    max_steps: int = Field(default=16384, ge=1)
    max_switches: int | None = Field(default=None, ge=1)
    max_slides: int | None = Field(default=None, ge=0)
    batch: int = Field(default=16, ge=1, le=65536)
    name: str = ""

    def __init__(self, **given: Any):
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise ValueError(house_message(error, list(type(self).model_fields))) from None

    @classmethod
    def from_toml(cls, path: str | Path) -> "Study":
        """Read a study from a TOML file.

        Raises:
            ValueError: If it cannot be read, is no TOML, or no study.
        """
        try:
            given = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"Argument `spec` must be a TOML file, but {path}: {error}.") from None
        except OSError as error:
            why = error.strerror or str(error)
            raise ValueError(
                f"Argument `spec` must be a file that can be read, but {path}: {why}."
            ) from None
        return cls(**given)

    @classmethod
    def from_json(cls, text: str) -> "Study":
        """Read a study from what `canonical` returned."""
        return cls(**json.loads(text))

    def canonical(self) -> str:
        """Return the study as JSON: one text for one study."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @property
    def hash(self) -> str:
        """The SHA-256 of the canonical JSON and of the format of the store."""
        return hashlib.sha256(f"{FORMAT}\n{self.canonical()}".encode()).hexdigest()

    def __str__(self) -> str:
        """Return a summary; `relu_flow.study.declare.plan.describe` says what it will cost."""
        sizes = {name: len(values) for name, values in self.lists().items()}
        points = math.prod(sizes.values()) if self.combine == "grid" else max(sizes.values())
        axes = {"seed": len(self.seeds), **{name: n for name, n in sizes.items() if n > 1}}
        alone = {name: values[0] for name, values in self.lists().items() if len(values) == 1}
        short = lambda value: f"{value:.6g}" if isinstance(value, float) else str(value)
        until = f", or when {self.until} is reached" if self.until else ""
        record, every = self.record, ["every switch"] if self.record.switches else []
        lines = [
            ("runs", f"{len(self.seeds) * points}: "
                     + " x ".join(f"{size} {name}" for name, size in axes.items())),
            ("data", self.data["family"]),
            ("fixed", ", ".join(f"{name} {short(value)}" for name, value in alone.items())),
            ("network", f"{self.initialiser['name']}, vary {self.vary}"),
            ("end", f"t1 {self.t1:g}{until}"),
            ("milestones", ", ".join(f"{m.name} ({m.observable} at {m.level:g})"
                                     for m in self.milestones)),
            ("kept", ", ".join([*record.end, *record.at_times, *record.at_milestones, *every])),
            ("rtol", f"{self.rtol:g}"),
        ]  # fmt: skip
        return rows(f"Study {self.name or self.data['family']} ({self.hash[:12]})", lines)

    def __repr__(self) -> str:
        return f"Study({self.name or self.data['family']!r}, {self.hash[:12]})"

    @model_validator(mode="before")
    @classmethod
    def _scales(cls, given: Any) -> Any:
        """Replace scales by their logarithms."""
        if not isinstance(given, dict) or "scales" not in given:
            return given
        given = dict(given)
        scales = as_values(given.pop("scales"))
        if "log_scales" in given:
            raise ValueError("Argument `scales` must be left out if `log_scales` is given.")
        for scale in scales:
            if not isinstance(scale, int | float) or not 0 < scale < math.inf:
                raise ValueError(
                    f"Argument `scales` must be positive numbers, but contains {scale!r}."
                )
        return {**given, "log_scales": [math.log(scale) for scale in scales]}

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds(cls, given: Any) -> Any:
        if isinstance(given, int) and not isinstance(given, bool):
            return tuple(range(given))
        if isinstance(given, dict) and set(given) == {"start", "stop"}:
            return tuple(range(int(given["start"]), int(given["stop"])))
        return given

    @field_serializer("seeds")
    def _short_seeds(self, seeds: tuple[int, ...]) -> Any:
        """Write consecutive seeds by their ends: there may be a million."""
        start, stop = seeds[0], seeds[-1] + 1
        if seeds != tuple(range(start, stop)):
            return list(seeds)
        return stop if start == 0 else {"start": start, "stop": stop}

    @field_validator("widths", "log_scales", mode="before")
    @classmethod
    def _lists(cls, given: Any) -> Any:
        return as_values(given)

    @field_validator("seeds", "widths", "log_scales")
    @classmethod
    def _distinct(cls, values: Sequence, info) -> Sequence:
        for value in values:
            low, high = _RANGES[info.field_name]
            if not low <= value <= high:
                raise ValueError(
                    f"Argument `{info.field_name}` must be from {low} to {high}, but contains "
                    f"{value}."
                )
        if info.field_name == "seeds" and len(set(values)) < len(values):
            raise ValueError("Argument `seeds` must be distinct, but one is repeated.")
        return values

    @field_validator("data")
    @classmethod
    def _data(cls, given: dict[str, Any]) -> dict[str, Any]:
        family = _one_of("data.family", given.get("family"), FAMILIES)
        return {"family": family, **settings_table(family, given)}

    @field_validator("initialiser", mode="before")
    @classmethod
    def _initialiser(cls, given: Any) -> Any:
        given = {"name": given} if isinstance(given, str) else given
        if not isinstance(given, dict):
            raise ValueError(
                f"Argument `initialiser` must be a name or a table, but it is {given!r}."
            )
        name = _one_of("initialiser.name", given.get("name"), INITIALISERS)
        return {"name": name, **initialiser_table(name, given)}

    @model_validator(mode="after")
    def _together(self) -> "Study":
        """Check what several keys have to agree in."""
        if FAMILIES[self.data["family"]].regression and self.loss not in (None, "square"):
            raise ValueError(
                f"Argument `loss` must be 'square' for {self.data['family']}, whose targets are "
                f"real numbers, but it is {self.loss!r}."
            )
        train = self.train or FAMILIES[self.data["family"]].train
        if self.initialiser["name"] == "multi_phase" and train != "inner":
            raise ValueError(
                "Argument `train` must be 'inner' with the initialiser multi_phase, whose layers "
                "have scales of their own, but it is 'both'."
            )
        names = [milestone.name for milestone in self.milestones]
        if len(set(names)) < len(names):
            raise ValueError(f"Argument `milestones` must have distinct names, but has {names}.")
        if self.until is not None and self.until not in names:
            raise ValueError(
                f"Argument `until` must be the name of a milestone, {names}, but it is "
                f"{self.until!r}."
            )
        self._check_record()
        self._check_lists()
        return self

    def _check_record(self) -> None:
        times = self.record.times
        if list(times) != sorted(set(times)) or (
            times and not 0 <= times[0] <= times[-1] <= self.t1
        ):
            raise ValueError(
                f"Argument `record.times` must ascend from 0 to t1 = {self.t1:g}, but it is "
                f"{times}."
            )
        for key, needed, what in (
            ("at_times", times, "times"),
            ("at_milestones", self.milestones, "milestones"),
        ):
            if getattr(self.record, key) and not needed:
                raise ValueError(
                    f"Argument `record.{key}` must be left out without {what}, but it is given."
                )

    def _check_lists(self) -> None:
        for name, values in self.lists().items():
            if self.combine == "grid" and len(set(values)) < len(values):
                raise ValueError(f"Argument `{name}` must have distinct values, but has {values}.")
        lengths = {name: len(values) for name, values in self.lists().items() if len(values) > 1}
        if self.combine == "paired" and len(set(lengths.values())) > 1:
            raise ValueError(
                "Argument `combine` must be 'grid' unless all lists have one length, but they "
                f"have {lengths}."
            )

    def lists(self) -> dict[str, tuple]:
        """Return every parameter of the grid and its values; seeds are not among them."""
        data = {k: v for k, v in self.data.items() if k != "family"}
        initial = {k: v for k, v in self.initialiser.items() if k != "name"}
        return {"width": self.widths, "log_scale": self.log_scales, **data, **initial}


_RANGES = {"seeds": (0, 2**32 - 1), "widths": (1, 2**31 - 1), "log_scales": (-1e15, 300.0)}


def _one_of(key: str, name: object, table) -> str:
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"Argument `{key}` must be one of {sorted(table)}, but it is {name!r}.")
    return name

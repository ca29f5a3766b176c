"""From a study to its runs: which there are, in which shapes, in which chunks."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...model.switch import SwitchKind
from .families import FAMILIES, shapes
from .record import COUNTS, lane_schema
from .spec import Study

_PROGRAM = 600e6  # bytes of a process that has compiled a solver


@dataclass(frozen=True)
class Case:
    """A point of the grid.

    Attributes:
        width: Number of neurons.
        log_scale: Natural logarithm of the initial scale.
        data: Parameters of the data.
        initial: Further parameters of the initialiser.
    """

    width: int
    log_scale: float
    data: dict[str, Any]
    initial: dict[str, float]


@dataclass(frozen=True)
class Group:
    """The points of the grid that share a compiled program.

    Attributes:
        index: Its number.
        cases: The points' numbers.
        fixed: The parameters of the data that are compiled in.
        real: The names of those that are not.
        width: Number of neurons.
        samples: Number of inputs.
        features: Number of coordinates of an input.
    """

    index: int
    cases: tuple[int, ...]
    fixed: tuple[tuple[str, Any], ...]
    real: tuple[str, ...]
    width: int
    samples: int
    features: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Samples, features and width."""
        return self.samples, self.features, self.width


@dataclass(frozen=True)
class Chunk:
    """Runs that are done together, and stored together.

    Attributes:
        index: Its number.
        group: Its group's number.
        start: First of the group's runs.
        stop: One after the last.
    """

    index: int
    group: int
    start: int
    stop: int


@dataclass(frozen=True)
class Plan:
    """The runs of a study. Run number `case * len(seeds) + k` is the k-th seed at a case.

    Attributes:
        study: The study.
        cases: The points of the grid, the last list the fastest; or the pairs.
        groups: Cases by what has to be compiled.
        chunks: The runs of each group, cut to the size of a batch.
    """

    study: Study
    cases: tuple[Case, ...]
    groups: tuple[Group, ...]
    chunks: tuple[Chunk, ...]

    @classmethod
    def of(cls, study: Study) -> "Plan":
        """Plan a study; raises `ValueError` if a parameter is out of its family's range."""
        cases = tuple(_cases(study))
        groups = tuple(_groups(study, cases))
        return cls(study, cases, groups, tuple(_chunks(study, groups)))

    @property
    def size(self) -> int:
        """Number of runs."""
        return len(self.cases) * len(self.study.seeds)

    @cached_property
    def dims(self) -> dict[str, tuple]:
        """The axes of the results and their coordinates; seeds come last."""
        study = self.study
        if study.combine == "paired":
            return {"case": tuple(range(len(self.cases))), "seed": study.seeds}
        varied = {k: v for k, v in study.lists().items() if len(v) > 1}
        return {**varied, "seed": study.seeds}

    def runs(self, chunk: Chunk) -> np.ndarray:
        """Return the numbers of a chunk's runs."""
        seeds = len(self.study.seeds)
        position = np.arange(chunk.start, chunk.stop)
        cases = np.asarray(self.groups[chunk.group].cases)
        return cases[position // seeds] * seeds + position % seeds

    def memory(self, workers: int) -> float:
        """Return about how many bytes the driver and its workers need together.

        A process with compiled programs, the results in memory while they are collected, and
        for each worker its chunk (and dense output, if observables at milestones are kept).
        """
        largest = max(self.groups, key=lambda g: math.prod(g.shape))
        lane = _bytes(lane_schema(self.study, largest.samples, largest.width))
        dense = 0.0
        if self.study.record.at_milestones:
            samples, features, width = largest.shape
            state = width * (features + 3 * samples) + 8 * samples
            dense = 8.0 * self.study.max_steps * state
        kept = sum(len(g.cases) for g in self.groups) * len(self.study.seeds) * self._summary
        return _PROGRAM + kept + workers * (2 * self.study.batch * lane + 3 * dense)

    def disk(self) -> float:
        """Return about how many bytes the store needs, collected file included.

        The number of switches is not known before: two of each pair of neuron and sample.
        """
        total = 2.0 * self.size * self._summary + 6000.0 * len(self.chunks)
        if self.study.record.switches:
            row = 2 * 17
            for group in self.groups:
                runs = len(group.cases) * len(self.study.seeds)
                total += runs * row * 2 * group.width * group.samples
        return total

    @property
    def _summary(self) -> float:
        fields = lane_schema(self.study, 1, 1)
        return _bytes({k: v for k, v in fields.items() if not k.startswith("switch_")})


def _bytes(fields: dict[str, tuple[tuple[int, ...], np.dtype]]) -> float:
    return float(sum(math.prod(shape) * dtype.itemsize for shape, dtype in fields.values()))


def _cases(study: Study) -> Iterator[Case]:
    lists = study.lists()
    if study.combine == "paired":
        most = max(len(values) for values in lists.values())
        repeated = (values * most if len(values) == 1 else values for values in lists.values())
        rows = zip(*repeated, strict=True)
    else:
        rows = itertools.product(*lists.values())
    for row in rows:
        point = dict(zip(lists, row, strict=True))
        yield Case(
            point["width"],
            point["log_scale"],
            {name: point[name] for name in study.data if name != "family"},
            {name: point[name] for name in study.initialiser if name != "name"},
        )


def _groups(study: Study, cases: tuple[Case, ...]) -> Iterator[Group]:
    family = study.data["family"]
    kinds = FAMILIES[family].parameters
    known: dict[tuple, tuple[int, int]] = {}
    found: dict[tuple, list[int]] = {}
    for number, case in enumerate(cases):
        settings = tuple(case.data.items())
        if settings not in known:
            problem = shapes(family, case.data, study.loss)
            known[settings] = (problem.inputs.shape[0], problem.inputs.shape[1])
        fixed = tuple((k, v) for k, v in settings if kinds[k] != "real")
        found.setdefault((fixed, case.width, *known[settings]), []).append(number)
    real = tuple(k for k in study.data if k != "family" and kinds[k] == "real")
    for index, ((fixed, width, samples, features), members) in enumerate(found.items()):
        yield Group(index, tuple(members), fixed, real, width, samples, features)


def _chunks(study: Study, groups: tuple[Group, ...]) -> Iterator[Chunk]:
    number = itertools.count()
    for group in groups:
        total = len(group.cases) * len(study.seeds)
        for start in range(0, total, study.batch):
            stop = min(start + study.batch, total)
            yield Chunk(next(number), group.index, start, stop)


def describe(plan: Plan, workers: int) -> str:
    """Return what a study will do, for people."""
    shapes = sorted({group.shape for group in plan.groups})
    named = ", ".join(f"{n} x {d}, width {w}" for n, d, w in shapes[:8])
    more = f" and {len(shapes) - 8} more" if len(shapes) > 8 else ""
    lines = [
        f"study    {plan.study.name or plan.study.data['family']} ({plan.study.hash[:12]})",
        f"runs     {plan.size}: " + " x ".join(f"{len(v)} {k}" for k, v in plan.dims.items()),
        f"chunks   {len(plan.chunks)} of up to {plan.study.batch} runs",
        f"shapes   {len(shapes)} to be compiled (samples x features): {named}{more}",
        f"kept     {len(COUNTS)} counts, {len(SwitchKind)} kinds of switches, "
        f"{len(plan.study.milestones)} milestones a run"
        + (", every switch" if plan.study.record.switches else ""),
        f"memory   about {plan.memory(workers) / 1e9:.1f} GB with {workers} workers",
        f"disk     about {plan.disk() / 1e6:.0f} MB",
    ]
    return "\n".join(lines)

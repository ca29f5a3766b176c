"""Phases as data: where a stretch of a run begins and ends, as its author defines it.

A boundary is a level that an observable crosses (`Milestone`), a switch of the pattern
(`SwitchEvent`), or the later of several (`Latest`). A scheme is a list of phases with one
source; several may be timed on one run, side by side (`relu_flow.time_phases`).

A boundary of which the condition holds already at the start lies at the start.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float

from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from .milestones import Milestone
from .pattern import Switches

Selection = Callable[[Problem, TwoLayerReLU], Bool[Array, " chosen"]]


@runtime_checkable
class Reached(Protocol):
    """When a milestone was reached; `inf` if it was not (see `relu_flow.Crossing`)."""

    @property
    def time(self) -> Float[Array, ""]: ...  # noqa: D102


@runtime_checkable
class Timed(Protocol):
    """What boundaries read of a run; `relu_flow.Trajectory` is one."""

    @property
    def switches(self) -> Switches: ...  # noqa: D102
    @property
    def milestones(self) -> Mapping[str, Reached]: ...  # noqa: D102


class SwitchEvent(eqx.Module):
    """The first or last switch of some kinds, by some neurons, on some samples' hyperplanes.

    The last one is the last *of the run*: whether it is the last for ever, the run cannot say.

    Attributes:
        name: Its name.
        kinds: Codes of `relu_flow.SwitchKind`; all kinds if `None`.
        neurons: A function of the problem and the initial network that tells which neurons
            count, such as `positive_neurons`; all if `None`.
        samples: The same for samples, such as `negative_samples`.
        which: `"first"` or `"last"`.
        after: Only switches after this boundary count.

    Raises:
        ValueError: If `which` is neither, or a code is not one of a kind of switch.
    """

    name: str = eqx.field(static=True)
    kinds: tuple[int, ...] | None = eqx.field(static=True, default=None)
    neurons: Selection | None = eqx.field(static=True, default=None)
    samples: Selection | None = eqx.field(static=True, default=None)
    which: Literal["first", "last"] = eqx.field(static=True, default="first")
    after: "Boundary | None" = None

    def __check_init__(self):
        if self.which not in ("first", "last"):
            raise ValueError(
                f"Argument `which` must be 'first' or 'last', but it is {self.which!r}."
            )
        wrong = [kind for kind in self.kinds or () if kind not in range(5)]
        if wrong:
            raise ValueError(
                f"Argument `kinds` must hold codes of `SwitchKind` (0 to 4), but it has {wrong}."
            )


class Latest(eqx.Module):
    """The latest of several boundaries: when all of them have been passed.

    Attributes:
        name: Its name.
        boundaries: The boundaries; at least one.
    """

    name: str = eqx.field(static=True)
    boundaries: tuple["Boundary", ...]


Boundary = Milestone | SwitchEvent | Latest


class Phase(eqx.Module):
    """A stretch of a run.

    Attributes:
        name: Its name.
        start: Where it begins; the start of the run if `None`.
        end: Where it ends; never if `None`.
    """

    name: str = eqx.field(static=True)
    start: Boundary | None = None
    end: Boundary | None = None

    @property
    def starts_at(self) -> str:
        """Name of the boundary where it begins."""
        return "start of the run" if self.start is None else self.start.name

    @property
    def ends_at(self) -> str:
        """Name of the boundary where it ends."""
        return "never" if self.end is None else self.end.name


class Scheme(eqx.Module):
    """One author's division of a run into phases.

    Attributes:
        name: Its name.
        phases: The phases; they may overlap, or leave gaps.
        source: Whose it is; says so where it is not quoted.
    """

    name: str = eqx.field(static=True)
    phases: tuple[Phase, ...]
    source: str = eqx.field(static=True)

    @classmethod
    def chain(cls, name: str, ends: Sequence[tuple[str, Boundary | None]], source: str) -> "Scheme":
        """Return the scheme of phases each of which begins where the one before ends.

        Args:
            name: Its name.
            ends: Name and end of each phase.
            source: Whose it is.
        """
        starts = [None, *(end for _, end in ends[:-1])]
        phases = [Phase(n, start, end) for (n, end), start in zip(ends, starts, strict=True)]
        return cls(name, tuple(phases), source)

    def milestones(self) -> tuple[Milestone, ...]:
        """Return all milestones that the boundaries need, each once."""
        boundaries = [b for phase in self.phases for b in (phase.start, phase.end)]
        return distinct(m for b in boundaries if b is not None for m in _milestones_of(b))

    def times(
        self, problem: Problem, network: TwoLayerReLU, run: Timed, t0: float = 0.0
    ) -> tuple[tuple[float, float], ...]:
        """Return beginning and end of each phase on a run; `inf` where not reached.

        Args:
            problem: What was solved.
            network: The network at the start of the run.
            run: The run, solved with `milestones()`.
            t0: When it started.
        """

        def when(boundary: Boundary | None, otherwise: float) -> float:
            if boundary is None:
                return otherwise
            return boundary_time(boundary, problem, network, run, t0)

        return tuple((when(p.start, t0), when(p.end, math.inf)) for p in self.phases)


def boundary_time(
    boundary: Boundary, problem: Problem, network: TwoLayerReLU, run: Timed, t0: float = 0.0
) -> float:
    """Return when a run passes a boundary; `inf` if it does not.

    Args:
        boundary: The boundary; its milestones must be among the run's.
        problem: What was solved.
        network: The network at the start of the run.
        run: The run.
        t0: When it started.

    Raises:
        ValueError: If the run was not asked for a milestone of the boundary.
    """
    if isinstance(boundary, Latest):
        return max(boundary_time(b, problem, network, run, t0) for b in boundary.boundaries)
    if isinstance(boundary, SwitchEvent):
        return _switch_time(boundary, problem, network, run, t0)
    if boundary.name not in run.milestones:
        raise ValueError(
            f"Argument `run` must have the milestone {boundary.name!r}, but it has "
            f"{sorted(run.milestones)}."
        )
    if boundary.direction:
        excess = boundary.observable(problem, network) - boundary.level
        if boundary.direction * float(excess) >= 0:
            return t0
    return float(run.milestones[boundary.name].time)


def distinct(milestones: Iterable[Milestone]) -> tuple[Milestone, ...]:
    """Return the milestones, each once: equal ones are those with all attributes equal."""
    found: list[Milestone] = []
    for milestone in milestones:
        if not any(_same(milestone, other) for other in found):
            found.append(milestone)
    return tuple(found)


def _same(a: Milestone, b: Milestone) -> bool:
    if (a.name, a.direction, a.observable) != (b.name, b.direction, b.observable):
        return False
    return float(a.level) == float(b.level)


def _milestones_of(boundary: Boundary) -> tuple[Milestone, ...]:
    if isinstance(boundary, Milestone):
        return (boundary,)
    if isinstance(boundary, Latest):
        return tuple(m for b in boundary.boundaries for m in _milestones_of(b))
    return () if boundary.after is None else _milestones_of(boundary.after)


def _switch_time(event: SwitchEvent, problem, network, run: Timed, t0: float) -> float:
    log = run.switches
    time, kind = np.asarray(log.time), np.asarray(log.kind)
    chosen = np.isfinite(time)
    if event.kinds is not None:
        chosen &= np.isin(kind, event.kinds)
    for select, index in ((event.neurons, log.neuron), (event.samples, log.sample)):
        if select is not None:
            chosen &= np.asarray(select(problem, network))[np.asarray(index)]
    if event.after is not None:
        chosen &= time > boundary_time(event.after, problem, network, run, t0)
    if not chosen.any():
        return math.inf
    return float(time[chosen].min() if event.which == "first" else time[chosen].max())

"""The times of phases: two solves at two tolerances, and what they agree on."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import equinox as eqx
import numpy as np

from .._types import FloatScalarLike
from ..flow.solve import solve
from ..flow.trajectory import Trajectory
from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from ..observe.milestones import Milestone
from ..observe.phases import Scheme

if TYPE_CHECKING:
    import pandas as pd


class BoundaryTime(eqx.Module):
    """When a boundary was passed.

    Attributes:
        name: Its name.
        time: The time on the finer run; `inf` if it was not reached.
        error: How uncertain that is, an estimate and not a bound: the difference of the two
            runs, plus what neither can resolve. `inf` if only the finer run reached it.
    """

    name: str
    time: float
    error: float

    @property
    def reached(self) -> bool:
        """Whether it was passed before the end of the run."""
        return math.isfinite(self.time)

    def __str__(self) -> str:
        return f"{self.time:.12g} ± {self.error:.1g}" if self.reached else "not reached"


class PhaseTime(eqx.Module):
    """When a phase began and ended.

    Attributes:
        scheme: The scheme's name.
        phase: The phase's name.
        start: Where it began.
        end: Where it ended; never reached for a phase that has no end.
        source: Whose definition it is.
    """

    scheme: str
    phase: str
    start: BoundaryTime
    end: BoundaryTime
    source: str

    @property
    def duration(self) -> float:
        """End minus start: `inf` if it did not end, `nan` if it did not begin.

        Negative if, by these definitions, it ended before it began.
        """
        return self.end.time - self.start.time if self.start.reached else math.nan


class PhaseTimes(eqx.Module):
    """The phases of several schemes on one problem.

    Attributes:
        phases: The phases, in the order of the schemes.
        run: The run at the finer tolerance.
        coarse: The run at the coarser tolerance.
    """

    phases: tuple[PhaseTime, ...]
    run: Trajectory
    coarse: Trajectory

    def __getitem__(self, which: tuple[str, str]) -> PhaseTime:
        """Return the phase of a scheme's and a phase's name.

        Raises:
            KeyError: If there is none.
        """
        for phase in self.phases:
            if (phase.scheme, phase.phase) == which:
                return phase
        raise KeyError(which)

    def to_pandas(self) -> "pd.DataFrame":
        """Return a table with one row a phase.

        Columns are scheme, phase, start, start_error, end, end_error, duration, starts_at,
        ends_at, source. Times are numbers where they were reached, and the words "not reached"
        where they were not; so is the duration of a phase that did not begin or end.
        """
        import pandas as pd

        said = lambda value: value if math.isfinite(value) else "not reached"
        rows = [
            {
                "scheme": phase.scheme,
                "phase": phase.phase,
                "start": said(phase.start.time),
                "start_error": phase.start.error if phase.start.reached else math.nan,
                "end": said(phase.end.time),
                "end_error": phase.end.error if phase.end.reached else math.nan,
                "duration": said(phase.duration),
                "starts_at": phase.start.name,
                "ends_at": phase.end.name,
                "source": phase.source,
            }
            for phase in self.phases
        ]
        return pd.DataFrame(rows)


def time_phases(
    problem: Problem,
    network: TwoLayerReLU,
    schemes: Scheme | Sequence[Scheme],
    t1: FloatScalarLike,
    *,
    t0: FloatScalarLike = 0.0,
    rtol: float = 1e-12,
    coarsening: float = 100.0,
    **options: Any,
) -> PhaseTimes:
    """Return when the phases of several schemes begin and end, with error bars.

    The flow is solved twice, with `rtol` and with `coarsening` times that; both solves are one
    compiled program. Times are those of the first. The error bar is the difference of the two
    plus the relative resolution `rtol` and a few units of rounding. It does not cover what both
    share: that an observable which crosses its level twice within a step is not seen to, or that
    a scheme's definition is not what one had in mind.

    Args:
        problem: What is minimised.
        network: Where from.
        schemes: The schemes, or a single one; milestones of the same name must be the same.
        t1: End, in units of gradient-flow time.
        t0: Start.
        rtol: Tolerance of the finer run.
        coarsening: Ratio of the two tolerances; more than one.
        options: Further options of `solve`, such as `max_steps`; not `milestones`.

    Raises:
        ValueError: If `coarsening` is at most one, `schemes` are none, two milestones of one
            name differ, or an argument of `solve` is out of range.
        RuntimeError: If a run ended early, unless `throw=False` is among the options: then what
            it did not come to counts as not reached.

    Example:
        >>> import relu_flow as rf
        >>> from relu_flow.observe import schemes
        >>> problem = rf.Problem([[1.0, 0.0], [0.0, 2.0]], [1.0, -1.0])
        >>> network = rf.TwoLayerReLU([[1.0, 0.0], [0.5, 0.5]], [1.0, -1.0], log_scale=-3.0)
        >>> found = rf.time_phases(problem, network, schemes.last_switch(), t1=5.0)
        >>> [phase.phase for phase in found.phases]
        ['switching', 'fixed pattern']
        >>> round(found.phases[0].end.time, 6), found.phases[0].end.error < 1e-9
        (0.402539, True)
    """
    if not coarsening > 1:
        raise ValueError(f"Argument `coarsening` must be more than 1, but it is {coarsening}.")
    every = _checked(schemes)
    milestones: dict[str, Milestone] = {}
    for scheme in every:
        for milestone in scheme.milestones():
            _add(milestones, milestone)
    run, coarse = (
        solve(
            problem, network, t1, t0=t0, rtol=tolerance,
            milestones=tuple(milestones.values()), **options,
        )
        for tolerance in (rtol, coarsening * rtol)
    )  # fmt: skip
    floor = rtol + 16 * float(np.finfo(run.switches.time.dtype).eps)
    start = float(t0)
    found = []
    for scheme in every:
        fine_times = scheme.times(problem, network, run, start)
        coarse_times = scheme.times(problem, network, coarse, start)
        rows = zip(scheme.phases, fine_times, coarse_times, strict=True)
        for phase, (start_fine, end_fine), (start_coarse, end_coarse) in rows:
            found.append(
                PhaseTime(
                    scheme.name,
                    phase.name,
                    _boundary(phase.starts_at, start_fine, start_coarse, floor, start),
                    _boundary(phase.ends_at, end_fine, end_coarse, floor, start),
                    scheme.source,
                )
            )
    return PhaseTimes(tuple(found), run, coarse)


def _checked(schemes: Any) -> tuple[Scheme, ...]:
    """Return the schemes as a tuple; a single one counts as one of one."""
    every = tuple(schemes) if isinstance(schemes, Iterable) else (schemes,)
    for scheme in every:
        if not isinstance(scheme, Scheme):
            raise ValueError(
                "Argument `schemes` must contain schemes such as those of "
                f"`relu_flow.observe.schemes`, but one of them is {scheme!r}."
            )
    return every


def _add(milestones: dict[str, Milestone], new: Milestone) -> None:
    """Add a milestone; the same one may be asked for by several schemes."""
    old = milestones.setdefault(new.name, new)
    same = (old.observable, old.direction, float(old.level)) == (
        new.observable, new.direction, float(new.level),
    )  # fmt: skip
    if not same:
        raise ValueError(
            "Argument `schemes` must have distinct names for different milestones, but two of "
            f"them are called {new.name!r}."
        )


def _boundary(name: str, time: float, other: float, floor: float, t0: float) -> BoundaryTime:
    if not math.isfinite(time):
        return BoundaryTime(name, math.inf, math.nan)
    if time == other == t0:
        return BoundaryTime(name, time, 0.0)
    error = abs(time - other) + floor * max(abs(time), abs(time - t0))
    return BoundaryTime(name, time, error)

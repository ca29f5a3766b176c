"""Claims, and what a run says of them.

A claim has hypotheses, each with a margin, and comparisons of something measured on a run
with something computed from the data and the initial network alone. Checking it gives a
verdict: it holds, it is violated, its hypotheses are not met, or the run does not reach
far enough to tell.
"""

import enum
import math
from collections.abc import Callable, Iterable, Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    runtime_checkable,
)

import equinox as eqx
from jaxtyping import Array, Float

from .._types import FloatScalarLike
from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from ..observe.pattern import Switching

if TYPE_CHECKING:
    import pandas as pd


Made = TypeVar("Made")
Options = ParamSpec("Options")


class Outcome(enum.Enum):
    """What a run says of a claim."""

    HOLDS = "holds"
    VIOLATED = "violated"
    HYPOTHESES_NOT_MET = "hypotheses not met"
    NOT_REACHED = "not reached"


@runtime_checkable
class Flow(Switching, Protocol):
    """What a claim reads of a run; `relu_flow.Trajectory` with dense output is one.

    It is a protocol so that the theory depends on no solver: anything that can say where
    the network is at a time will do.
    """

    @property
    def ts(self) -> Float[Array, " times"]: ...  # noqa: D102
    def network_at(self, t: FloatScalarLike) -> TwoLayerReLU: ...  # noqa: D102


class Evidence(eqx.Module):
    """A problem, the network a flow started from, and the flow.

    Attributes:
        problem: The problem.
        network: The network at time zero.
        flow: The run, with dense output.
        end: The time up to which the run goes.
        kept: What has been made of this evidence, by the function that made it (see `once`).
    """

    problem: Problem
    network: TwoLayerReLU
    flow: Flow
    end: float
    kept: dict[Callable[..., Any], Any] = eqx.field(static=True)

    def __init__(self, problem: Problem, network: TwoLayerReLU, flow: Flow):
        self.problem, self.network, self.flow = problem, network, flow
        self.end = float(flow.ts[-1])
        self.kept = {}

    def once(self, make: Callable[["Evidence"], Made]) -> Made:
        """Return what a function makes of this evidence; it is asked once.

        Claims about one run share what they measure on it. It goes when the evidence goes.
        """
        if make not in self.kept:
            self.kept[make] = make(self)
        return self.kept[make]


class Hypothesis(eqx.Module):
    """A condition that a claim asks for.

    Attributes:
        name: The condition, in words or symbols.
        margin: Positive if it is met; how far, in the condition's own units.
    """

    name: str
    margin: float

    @property
    def met(self) -> bool:
        """Whether it is met (a margin that is not a number never is)."""
        return bool(self.margin > 0)


class Comparison(eqx.Module):
    """Something measured beside its bound.

    Attributes:
        name: What is compared.
        measured: The measured side; `nan` if the run does not reach far enough to measure
            it, `inf` where that is what was found.
        relation: How the measured side relates to the bound.
        bound: The other side.
        tolerance: By how much the relation may fail: rounding and the solver's error for an
            inequality, the accuracy of the formula for an equality.
        log: Whether both sides are natural logarithms of what is meant.
    """

    name: str
    measured: float
    relation: Literal["<=", ">=", "=="]
    bound: float
    tolerance: float = 0.0
    log: bool = False

    @property
    def reached(self) -> bool:
        """Whether the run went far enough to measure it."""
        return not math.isnan(self.measured)

    @property
    def slack(self) -> float:
        """How far the relation is from failing, in the units of both sides.

        For an equality this is the tolerance less the distance. With logarithms, a slack
        of log 10 says that the bound is off by a factor of ten.
        """
        if self.measured == self.bound:
            return 0.0 if self.relation != "==" else self.tolerance
        if self.relation == "==":
            return self.tolerance - abs(self.measured - self.bound)
        difference = self.bound - self.measured
        return difference if self.relation == "<=" else -difference

    @property
    def holds(self) -> bool:
        """Whether the relation holds, within the tolerance."""
        return bool(self.slack >= (0.0 if self.relation == "==" else -self.tolerance))


class Verdict(eqx.Module):
    """What a run says of one claim.

    Attributes:
        claim: The claim.
        hypotheses: Its hypotheses, with margins.
        comparisons: Its comparisons. They are made even where hypotheses are not met, as
            far as they can be: that is how a theorem is explored outside its reach.
    """

    claim: "Claim"
    hypotheses: tuple[Hypothesis, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def outcome(self) -> Outcome:
        """What follows: hypotheses first, then any violation, then what was not reached."""
        if not all(hypothesis.met for hypothesis in self.hypotheses):
            return Outcome.HYPOTHESES_NOT_MET
        if any(c.reached and not c.holds for c in self.comparisons):
            return Outcome.VIOLATED
        if not self.comparisons or not all(c.reached for c in self.comparisons):
            return Outcome.NOT_REACHED
        return Outcome.HOLDS

    @property
    def conclusion_holds(self) -> bool:
        """Whether everything compared holds, whatever the hypotheses say."""
        return bool(self.comparisons) and all(c.reached and c.holds for c in self.comparisons)

    @property
    def tightest(self) -> Comparison:
        """The comparison with the least slack, of those that were reached."""
        reached = [c for c in self.comparisons if c.reached]
        if not reached:
            raise ValueError(f"The claim {self.claim.name!r} was not reached: nothing compared.")
        return min(reached, key=lambda c: c.slack)

    @property
    def slack(self) -> float:
        """Slack of the tightest comparison; `nan` if nothing was reached."""
        reached = [c.slack for c in self.comparisons if c.reached]
        return min(reached) if reached else math.nan

    def __str__(self) -> str:
        lines = [f"{self.claim.name}: {self.outcome.value} (slack {self.slack:.3g})"]
        lines += [
            f"  needs {h.name}: {'met' if h.met else 'not met'} (margin {h.margin:.3g})"
            for h in self.hypotheses
        ]
        lines += [
            f"  {'log ' if c.log else ''}{c.name}: {c.measured:.6g} {c.relation} {c.bound:.6g}"
            + ("" if c.reached else " (not reached)")
            for c in self.comparisons
        ]
        return "\n".join(lines)


class Claim(eqx.Module):
    """A statement of a paper that a run can bear out or refute.

    Attributes:
        name: Short name, such as "Theorem 1(1), time".
        statement: The statement.
        source: Where it is stated; "after ..., re-derived" if it is not quoted, with the
            derivation in the docstring of the function that makes the claim.
        hypotheses: Computes the conditions from problem and initial network.
        comparisons: Computes the comparisons from the evidence.
    """

    name: str
    statement: str
    source: str
    hypotheses: Callable[[Evidence], Iterable[Hypothesis]]
    comparisons: Callable[[Evidence], Iterable[Comparison]]

    def check(self, evidence: Evidence) -> Verdict:
        """Return what the evidence says of the claim."""
        return Verdict(self, tuple(self.hypotheses(evidence)), tuple(self.comparisons(evidence)))


class Claims(tuple[Claim, ...], Generic[Options]):
    """The claims of a paper, in its order: a tuple. Called with options, the same with these.

    It decorates the function of the options that makes them, whose defaults the tuple has:
    every paper's `claims` can be iterated over and called.
    """

    _make: Callable[Options, Iterable[Claim]]

    def __new__(cls, make: Callable[Options, Iterable[Claim]]):
        """Make the claims with their default options."""
        claims = super().__new__(cls, make())  # type: ignore[call-arg]
        claims._make = make
        claims.__doc__ = make.__doc__
        return claims

    def __call__(self, *args: Options.args, **kwargs: Options.kwargs) -> tuple[Claim, ...]:
        """Return the claims with other options than the defaults."""
        return tuple(self._make(*args, **kwargs))


def check(claims: Iterable[Claim], evidence: Evidence) -> tuple[Verdict, ...]:
    """Return a verdict for each claim, in their order."""
    return tuple(claim.check(evidence) for claim in claims)


def table(verdicts: Iterable[Verdict] | Mapping[str, Verdict]) -> "pd.DataFrame":
    """Return one row a comparison: claim, what, measured, relation, bound, slack, outcome."""
    import pandas as pd

    found = verdicts.values() if isinstance(verdicts, Mapping) else verdicts
    rows = [
        {
            "claim": verdict.claim.name,
            "outcome": verdict.outcome.value,
            "compared": ("log " if c.log else "") + c.name,
            "measured": c.measured,
            "relation": c.relation,
            "bound": c.bound,
            "slack": c.slack if c.reached else math.nan,
        }
        for verdict in found
        for c in verdict.comparisons
    ]
    return pd.DataFrame(rows)

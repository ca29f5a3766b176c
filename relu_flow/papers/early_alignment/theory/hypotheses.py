"""The hypotheses of the early-alignment theorem, and how its claims compare."""

import math
from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np

from ....claims.verdict import Comparison, Evidence, Hypothesis
from ....model.loss import ExponentialLoss, LogisticLoss, SquareLoss
from ....observe.observables import balancedness_error
from .measured import Measured, measure

ROUNDING = 1e-9  # of cosines, logarithms and ratios of a run at rtol 1e-12, with room to spare
_BALANCED = 1e-12


def compare(
    name: str,
    measured: float | np.integer,
    relation: Literal["<=", ">=", "=="],
    bound: float | np.integer,
    *,
    reached: bool | np.bool = True,
    tolerance: float = 0.0,
    log: bool = False,
) -> Comparison:
    """Return a comparison of something that must hold all along.

    If the run does not reach far enough, a failure is one already, but success is not: then the
    measured side is `nan`, which leaves it open.

    Source:
        This package; a statement about all times is judged on a run that ends.
    """
    found = Comparison(name, float(measured), relation, float(bound), tolerance, log)
    if reached or not found.holds:
        return found
    return Comparison(name, math.nan, relation, float(bound), tolerance, log)


def compare_time(name: str, time: float, bound: float, end: float) -> Comparison:
    """Return the comparison of a time with the bound by which it must come.

    A time of `inf` is one not seen. It fails if the run reaches the bound; if it ends before,
    the measured side is `nan`, which leaves it open.

    Source:
        This package; a bound on a time is judged on a run that may end before it.
    """
    unknown = not math.isfinite(time) and end < bound
    return Comparison(name, math.nan if unknown else float(time), "<=", float(bound))


def loss_of_the_theorem(evidence: Evidence) -> Hypothesis:
    """Ask for the exponential or the logistic loss.

    Source:
        Min, Mallada, Vidal (2024), the two losses for which Theorem 1 is stated.
    """
    suits = isinstance(evidence.problem.loss, ExponentialLoss | LogisticLoss)
    return Hypothesis("loss is exponential or logistic", 1.0 if suits else -1.0)


def loss_of_lemma_2(evidence: Evidence) -> Hypothesis:
    """Ask for a loss with Lemma 2's property, the square loss of labels +1 and -1 included.

    Source:
        Min, Mallada, Vidal (2024), Lemma 2 and the remark on the square loss.
    """
    suits = isinstance(evidence.problem.loss, ExponentialLoss | LogisticLoss | SquareLoss)
    suits = suits and bool(np.all(np.abs(np.asarray(evidence.problem.targets)) == 1))
    return Hypothesis("loss has Lemma 2's property, labels +1 and -1", 1.0 if suits else -1.0)


def both_layers(evidence: Evidence) -> Hypothesis:
    """Ask that both layers are trained.

    Source:
        Min, Mallada, Vidal (2024), the flow of both layers that Theorem 1 is about.
    """
    return Hypothesis("both layers trained", 1.0 if evidence.problem.train == "both" else -1.0)


def balanced(evidence: Evidence) -> Hypothesis:
    r"""Ask for eq. (3), $|v_j| = \|w_j\|$ at the start, to rounding, with no neuron zero.

    Source:
        Min, Mallada, Vidal (2024), eq. (3); a neuron that is zero has no direction.
    """
    error = float(balancedness_error(evidence.problem, evidence.network))
    return Hypothesis(
        "|v_j| = ||w_j|| > 0 at the start",
        min(_BALANCED - error, evidence.once(measure).constants.w_min),
    )


def separable(evidence: Evidence) -> Hypothesis:
    r"""Ask for Assumption 1, $\mu > 0$.

    Source:
        Min, Mallada, Vidal (2024), Assumption 1.
    """
    return Hypothesis("Assumption 1: mu > 0", evidence.once(measure).constants.mu)


def avoidable(evidence: Evidence) -> Hypothesis:
    r"""Ask for Assumption 2: no neuron points along the sum of the class it must avoid.

    Source:
        Min, Mallada, Vidal (2024), Assumption 2, in the form $\zeta_2 > 0$ (see `Constants`).
    """
    return Hypothesis("Assumption 2: zeta_2 > 0", evidence.once(measure).constants.zeta_2)


def scale_of_lemma_3(evidence: Evidence) -> Hypothesis:
    r"""Ask for Lemma 3's scale, $\epsilon \le 1/(4\sqrt h X_{\max}W_{\max}^2)$.

    Source:
        Min, Mallada, Vidal (2024), Lemma 3, its condition on $\epsilon$.
    """
    held = evidence.once(measure).constants
    return Hypothesis(
        "scale at most Lemma 3's (in logarithms)", held.log_lemma_3_scale - held.log_epsilon
    )


def scale_of_the_theorem(evidence: Evidence) -> Hypothesis:
    """Ask for eq. (28), the scale that the proof of Theorem 1 uses.

    Source:
        Min, Mallada, Vidal (2024), eq. (28), as in `Constants.log_scale_bound`.
    """
    held = evidence.once(measure).constants
    return Hypothesis(
        "scale at most eq. (28)'s (in logarithms)", held.log_scale_bound - held.log_epsilon
    )


def occupied(evidence: Evidence) -> Hypothesis:
    r"""Ask that for each class some neuron of its sign is active on it: $S_\pm$ will hold one.

    An empty class asks for nothing. The margin is the smallest over the classes of the largest
    initial $\cos(w_j, x_i)$.

    Source:
        Min, Mallada, Vidal (2024), Theorem 1(1): such a neuron ends in $S_\pm$, and Theorem
        1(2) asks that both hold one.
    """
    held = evidence.once(measure)
    margins = [
        float(np.max(held.cosines[0][np.ix_(held.favours == sign, held.signs == sign)], initial=-1))
        for sign in (1.0, -1.0)
        if np.any(held.signs == sign)
    ]
    return Hypothesis("each class has a neuron of its sign active on it", min(margins))


Ask = Callable[[Evidence], Hypothesis]

FLOW: tuple[Ask, ...] = (both_layers, balanced)
SMALL: tuple[Ask, ...] = (loss_of_lemma_2, *FLOW, scale_of_lemma_3)
SEPARABLE: tuple[Ask, ...] = (loss_of_the_theorem, *FLOW, separable)
THEOREM: tuple[Ask, ...] = (*SEPARABLE, avoidable, scale_of_the_theorem)


def asking(*conditions: Ask) -> Callable[[Evidence], Iterable[Hypothesis]]:
    """Return what a claim needs to ask for these conditions.

    Source:
        This package; the names of the conditions say where they are from.
    """
    return lambda evidence: [condition(evidence) for condition in conditions]


def all_in_place(held: Measured) -> float:
    """Since when all neurons are in their cones or dead; `inf` if at the end they are not.

    Source:
        Min, Mallada, Vidal (2024), Theorem 1(1), which bounds this time by $t_1$; here it is
        read off the log of switches.
    """
    return float(np.max(held.in_place))

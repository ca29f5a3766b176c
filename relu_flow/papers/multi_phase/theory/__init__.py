r"""Four phases of two clusters at an acute angle, as claims.

A heavy class and a light one, the outer layer fixed. Phase I: neurons condense, negative
ones begin to slide. Phase II: a plateau on which the light class is misclassified. Phase III
(past the plateau, at $t_3$): positive neurons slide too. Phase IV: negative neurons are
active on the heavy class again. Which of these exist depends on
$\alpha = m_-/m_+$ (see `course.py`).

Source:
    After Wang, Ma, "Understanding Multi-phase Optimization Dynamics and Rich Nonlinear
    Behaviors of ReLU Networks" (2023), re-derived; the setting is recalled, not quoted.
"""

import math

from ....claims.verdict import Claim, Claims, Evidence, Flow, Hypothesis, Verdict, check
from ....model.network import TwoLayerReLU
from ....model.problem import Problem
from . import early, late
from .course import Course as Course, Outputs as Outputs
from .measured import Measured
from .parameters import Constants as Constants, constants as constants
from .points import (
    TwoPoints as TwoPoints,
    deactivation_time_small_angle as deactivation_time_small_angle,
    escape_time_small_angle as escape_time_small_angle,
    living_fractions as living_fractions,
    side_rates as side_rates,
    slide_weights as slide_weights,
    survival_angle as survival_angle,
    survives as survives,
)

SOURCE = "after Wang & Ma (2023), re-derived"


def _hypotheses(record: Measured) -> list[Hypothesis]:
    found = record.found
    return [
        *(Hypothesis(name, float(m)) for name, m in found.certificate.margins.items()),
        Hypothesis("outer weights of one size", 1e-9 - found.uneven),
        Hypothesis(
            "kappa_1 << kappa_2 (decades beyond 2)",
            (found.log_kappa_2 - found.log_kappa_1) / math.log(10) - 2,
        ),
        Hypothesis("kappa_2 <= 1", 1e-9 - found.log_kappa_2),
        Hypothesis(
            "living neurons of both signs",
            min(found.living_positives, found.living_negatives) - 0.5,
        ),
    ]


def _weight_hypotheses(record: Measured) -> list[Hypothesis]:
    """Weights of slides depend on the pulls alone: which layers are trained is no matter."""
    names = ("separate classes", "acute classes", "unit norms", "copies", "labels")
    names += ("exponential loss", "mean of losses")
    margins = record.found.certificate.margins
    return [Hypothesis(name, float(margins[name])) for name in names]


def _escapes(found: Constants) -> dict[str, float]:
    """$f_-$ rises at first."""
    q = found.points
    return {"p c > 1 + alpha sin^2": float(q.heavy * q.cosine - 1 - q.alpha * q.sine2)}


def _lasts(found: Constants) -> dict[str, float]:
    """A/B comes near its plateau value before the plateau is left."""
    enter = float(found.course.plateau(late.NEARNESS))
    return {**_escapes(found), "plateau before escape": float(found.course.escape) - enter}


def _ends(found: Constants) -> dict[str, float]:
    return {"alpha c < 1": float(1 - found.points.alpha * found.points.cosine)}


def _returns(found: Constants) -> dict[str, float]:
    return {"alpha < c": float(found.points.cosine - found.points.alpha)}


def _between(found: Constants) -> dict[str, float]:
    return {**_ends(found), "alpha > c": -_returns(found)["alpha < c"]}


def _stays(found: Constants) -> dict[str, float]:
    return {"alpha c > 1": -_ends(found)["alpha c < 1"]}


_STATEMENTS = (
    ("Phase I, survivors", "initial directions decide who lives", None, early.survivors),
    ("Phase I, condensation", "positives turn to p x+ - x-", None, early.condensation),
    ("Phase I, slides", "living negatives slide on x+'s hyperplane", None, early.phase_one_slides),
    ("Phase II, plateau", "A/B = rho, the loss falls slowly", _lasts, late.plateau),
    ("Phase II, escape", "when the light class is fitted", _escapes, late.escape),
    ("Phase III, deactivation", "when positives slide on x-'s", _ends, late.deactivation),
    ("Phase III, slopes", "exp(f+), exp(-f-) grow linearly", _ends, late.both_slide),
    ("Phase IV, reactivation", "when negatives leave x+'s", _returns, late.reactivation),
    ("Phase IV, limit", "A/B -> r, two directions", _returns, late.limit),
    ("Both slide for ever", "nobody leaves; A/B -> alpha", _between, late.slides_for_ever),
    ("Positives stay on", "t_3 does not exist; A/B -> rho", _stays, late.stay_on),
)


_WEIGHTS = (
    ("Slide weights, negatives", "a slide takes the share c/R of x+", early.negatives_weights),
    ("Slide weights, positives", "a slide takes the share Rc of x-", early.positives_weights),
)


@Claims
def claims() -> tuple[Claim, ...]:
    """Return the claims; the branches of the end exclude each other by their hypotheses.

    Raises:
        ValueError: When a claim is checked: see `constants`.

    Source:
        This package's list, after Wang, Ma (2023); each claim's function says what is derived.
    """

    def claim(name, statement, extra, compare) -> Claim:
        def conditions(evidence: Evidence) -> tuple[Hypothesis, ...]:
            found = evidence.once(Measured)
            more = extra(found.found) if extra else {}
            return (*_hypotheses(found), *(Hypothesis(*row) for row in more.items()))

        return Claim(
            name, statement, SOURCE, conditions, lambda e: tuple(compare(e.once(Measured)))
        )

    def weights(name, statement, compare) -> Claim:
        conditions = lambda evidence: tuple(_weight_hypotheses(evidence.once(Measured)))
        return Claim(
            name, statement, SOURCE, conditions, lambda e: tuple(compare(e.once(Measured)))
        )

    return (*(claim(*row) for row in _STATEMENTS), *(weights(*row) for row in _WEIGHTS))


def examine(problem: Problem, network: TwoLayerReLU, trajectory: Flow) -> tuple[Verdict, ...]:
    """Check every claim on a run with dense output.

    Raises:
        ValueError: If a class is empty or weights are zero: see `constants`.

    Source:
        This package; it checks what `claims` lists.
    """
    evidence = Evidence(problem, network, trajectory)
    return check(claims, evidence)

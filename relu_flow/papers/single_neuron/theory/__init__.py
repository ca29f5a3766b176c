r"""Learning a single neuron by a shallow ReLU network: the theorems as claims.

A teacher neuron, inputs within $\pi/4$ of it, mean square loss, both layers trained from a
small balanced initialisation. First neurons turn as their yardsticks do, and those with
positive outer weight align with $\gamma_{[n]}$ (until $T_1$); then they grow as one bundle
that learns the teacher, one eigenvector of the inputs after the other; the limit has rank
one. Assumption 2 asks for a scale far below what a float holds, and networks here keep
scales as logarithms, so that it can be met; where it is not, conclusions are still compared.

Source:
    Chistikov, Englert, Lazić, "Learning a Neuron by a Shallow ReLU Network: Dynamics and
    Implicit Bias for Correlated Inputs" (2023).
"""

from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Float

from ....claims.verdict import (
    Claim,
    Claims,
    Comparison,
    Evidence,
    Flow,
    Hypothesis,
    Verdict,
    check,
)
from ....model.network import TwoLayerReLU
from ....model.problem import Problem
from . import alignment, bundle
from .measured import Measured
from .norm_rank import theorem_8
from .parameters import SOURCE, Constants as Constants, constants as constants, hypotheses
from .yardsticks import Yardstick as Yardstick, yardstick as yardstick

_STATEMENTS: tuple[tuple[str, str, Callable[[Measured], Iterable[Comparison]]], ...] = (
    ("Lemma 3, times", "switches are where yardsticks cross", alignment.switch_times),
    ("Lemma 3, order", "switches are those of the yardsticks, in order", alignment.switch_order),
    ("Lemma 4", "shrinking neurons rest from T0 on", alignment.shrinking_rest),
    ("Lemma 5", "growing neurons are small and aligned at T1", alignment.aligned),
    ("Proposition 17", "bounds on data and yardsticks by delta", alignment.data_bounds),
    ("Proposition 18", "all crossings are long before T1", alignment.early_crossings),
    ("Lemma 19", "neurons grow no faster than gamma_[n] alone would have it", alignment.growth),
    ("Lemma 21", "until T0 the drive is that of vanishing scale", alignment.early_drive),
    ("Lemma 23", "from T0 to T1 growing neurons follow yardsticks", alignment.late_drive),
    ("Phase 2, bundle", "growing neurons stay together", bundle.bundled),
    ("Phase 2, reduced equation", "the bundle obeys it nearly", bundle.reduced_equation),
    ("Phase 2, sets", "the bundle goes through S1, S2, ... in order", bundle.staircase),
    ("Phase 2, order", "coordinates are learnt by falling eigenvalue", bundle.eigenvalue_order),
    ("Proposition 25", "the bundle points on toward the teacher", bundle.toward_teacher),
    ("Proposition 27", "the bundle stays active on all samples", bundle.stays_active),
    ("Lemmas 28 and 32", "speeds of growth and of approach", bundle.speeds),
    ("Lemmas 28 and 32, sizes", "the bundle is small until T2, not after", bundle.sizes),
    ("Polyak-Lojasiewicz", "from T2 on the slope bounds the loss", bundle.polyak),
    ("Theorem 6", "T2 is early enough and the loss then falls fast", bundle.convergence),
    ("Theorem 7", "the limit interpolates with rank one and square norm 2", bundle.limit),
)


# Where a claim goes by another name than the statements it is made of.
_SOURCES = {
    "Phase 2, bundle": "Lemma 28(i)",
    "Phase 2, reduced equation": "Lemma 28(vi)",
    "Phase 2, sets": "Lemma 28(ii) and section 5",
    "Phase 2, order": "section 5 and Lemma 28(ii)",
    "Polyak-Lojasiewicz": "Lemma 32(iv)",
    "Lemmas 28 and 32": "Lemma 28(vii) to (ix)",
    "Lemmas 28 and 32, sizes": "Lemma 32(i) and (iii)",
}


@Claims
def claims(
    teacher: Float[np.ndarray, " features"] | None = None,
    log_lambda: float | None = None,
    eps: float = 0.25,
    resolution: float = 1e-11,
) -> tuple[Claim, ...]:
    r"""Return the claims about a run from a small balanced initialisation.

    Args:
        teacher: $v^*$; recovered from the targets if not given.
        log_lambda: $\ln\lambda$; the largest `log_scale` of the network if not given.
        eps: $\varepsilon$ in (0, 1/4].
        resolution: How far the run is exact, relative to each neuron's own size and for
            every e-fold of its growth; ten times the `rtol` it was solved with, say.

    Raises:
        ValueError: When a claim is checked: see `constants`.

    Source:
        Chistikov, Englert, Lazić (2023), Lemmas 3 to 5, 19, 21, 23, 28, 32 and 34, Propositions 17,
        18, 25 and 27, Theorems 6 to 8.
    """

    def measure(evidence: Evidence) -> Measured:
        found = constants(evidence.problem, evidence.network, teacher, log_lambda, eps)
        return Measured(evidence, found, resolution)

    def conditions(evidence: Evidence) -> tuple[Hypothesis, ...]:
        return hypotheses(evidence.problem, evidence.network, evidence.once(measure).found)

    def claim(name: str, statement: str, compare) -> Claim:
        source = f"{SOURCE}, {_SOURCES.get(name, name.split(',')[0])}"
        return Claim(name, statement, source, conditions, lambda e: tuple(compare(e.once(measure))))

    made = tuple(claim(*row) for row in _STATEMENTS)
    return (*made, theorem_8(measure))


def examine(
    problem: Problem,
    network: TwoLayerReLU,
    trajectory: Flow,
    teacher: Float[np.ndarray, " features"] | None = None,
    log_lambda: float | None = None,
    eps: float = 0.25,
) -> tuple[Verdict, ...]:
    """Check every claim on a run with dense output; arguments as those of `claims`.

    Source:
        This package; it checks the statements that `claims` lists.
    """
    evidence = Evidence(problem, network, trajectory)
    return check(claims(teacher, log_lambda, eps), evidence)

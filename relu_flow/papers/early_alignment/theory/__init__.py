r"""Early alignment in networks on orthogonally separable data, checked on a run.

The theorem: from a small balanced start, every neuron turns in a time of order
$\ln n/\sqrt\mu$ into the cone of the class its output favours, or dies; then the norms grow,
the loss falls like 1/t, and the inner weights end at a stable rank of at most two.

Hypotheses and bounds come from the data and the initial network alone
(`parameters.py`, which also says how other reductions and the plain logistic
loss change them); what they are compared with is read off a run.

Source:
    Min, Mallada, Vidal, "Early Neuron Alignment in Two-layer ReLU Networks with Small
    Initialization" (2024).
"""

from ...._types import FloatScalarLike
from ....claims.verdict import Claim, Claims, Evidence, Flow, Verdict, check
from ....model.network import TwoLayerReLU
from ....model.problem import Problem
from . import directions, growth, patterns
from .parameters import Constants as Constants, constants as constants, restated


@Claims
def claims() -> tuple[Claim, ...]:
    """Return the claims: on directions, on activation patterns, on growth.

    Source:
        This package's list; each claim says in `source` which statement of the paper it is.
    """
    return (*directions.claims, *patterns.claims, *growth.claims)


def examine(
    problem: Problem,
    network: TwoLayerReLU,
    trajectory: Flow,
    log_epsilon: FloatScalarLike | None = None,
) -> tuple[Verdict, ...]:
    r"""Check every claim on a run.

    Args:
        problem: The problem.
        network: The network at time zero, where the run must start.
        trajectory: The run, with dense output.
        log_epsilon: The scale's natural logarithm $\log\epsilon$ in $W(0) = \epsilon W_0$;
            the largest `log_scale` of a neuron unless given. Bounds depend on it.

    Returns:
        A verdict for each of `claims`, in their order.

    Raises:
        ValueError: If `log_epsilon` is so far off that $W_0$ overflows.

    Source:
        This package; it checks the claims of Min, Mallada, Vidal (2024) that `claims` lists.
    """
    evidence = Evidence(problem, restated(network, log_epsilon), trajectory)
    return check(claims, evidence)

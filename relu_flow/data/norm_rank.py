r"""Teacher data on which interpolating with least rank and with least norm agree, or not.

With as many samples as features and independent inputs, the networks of rank one that
interpolate the data of a teacher neuron are those whose neurons are all parallel to it.
Whether these are also the interpolators of least $\sum_j (a_j^2 + \|w_j\|^2)$ is told by the
dual basis $\chi_1, \dots, \chi_d$ of the inputs, $\langle\chi_k, x_i\rangle = \delta_{ki}$,
through

$$M = \max_{p, q} \cos\angle(p, q) - \sin\angle(p, v_*),$$

over $p$ and $q$ in the cones of two complementary groups of $\chi_k$: they are if $M < 0$,
and none of them is if $M > 0$. $M$ itself is theory; certified here are two conditions, one
sufficient for each sign.
"""

import math
from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._types import FloatArrayLike, FloatScalarLike
from ..model.loss import SquareLoss
from ..model.problem import Problem
from .certificate import AbstractCertificate, Margins, met, rounding
from .draws import check_interval, check_size
from .sphere import angle, cosines, off_diagonal, unit
from .teacher import teacher_check

Claim = Literal["agree", "disagree"]


class DualBasis(AbstractCertificate):
    r"""The dual basis of the inputs, and what it says of norm and rank.

    Attributes:
        margins: For the claim `"agree"`: `obtuse duals`, what the largest
            $\cos(\chi_k, \chi_l)$, $k \ne l$, leaves of rounding below zero. For
            `"disagree"`: `acute pair`, the value of `pair_bound`. For both: `independent
            inputs` $\sqrt{\eta_d/\eta_1}$ less rounding (see `Teacher`), `unit teacher` and
            `teacher's targets` as of `Teacher`, `angles below pi/2`
            $\pi/2 - \max_i\angle(v_*, x_i)$, and `square loss`, yes or no.
        teacher: $v_*$.
        angles: $\angle(v_*, x_i)$, radians.
        chi: $\chi_k$, one a row: the rows of the inverse of the matrix with columns $x_i$.
        max_cosine: $\max_{k \ne l}\cos(\chi_k, \chi_l)$. If it is not positive, $M < 0$.
        pair_bound: $\max_{k \ne l}\cos(\chi_k, \chi_l) - \sin\angle(\chi_k, v_*)$, a lower
            bound of $M$: that of $p = \chi_k$ and $q = \chi_l$ alone.
    """

    margins: Margins
    teacher: Float[Array, " features"]
    angles: Float[Array, " samples"]
    chi: Float[Array, "samples features"]
    max_cosine: Float[Array, ""]
    pair_bound: Float[Array, ""]


def norm_agrees_with_rank(
    features: int, xi: FloatScalarLike | None = None
) -> tuple[Problem, DualBasis]:
    r"""Return data whose interpolators of least rank are those of least norm.

    $x_i = \xi e_i + \frac{1-\xi}{d}\mathbf 1$ and $v_* = \mathbf 1/\sqrt d$: inputs at equal
    angles about the teacher. Nothing is random. All eigenvalues of $XX^\top/n$ but one
    coincide and $v_*$ is an eigenvector, so that Assumption 1 of the theorem about the flow
    is not met.

    Args:
        features: $d$, the number of coordinates and of samples, at least 2.
        xi: $\xi$, positive and at most $\sqrt{2(\sqrt2 - 1)/(d-1)}$, and below 1; half of
            the smaller unless given. Inputs come together as it falls.

    Raises:
        ValueError: If an argument is out of its range.

    Source:
        The family with $M < 0$ of Chistikov, Englert, Lazić, "Learning a Neuron by a
        Shallow ReLU Network: Dynamics and Implicit Bias for Correlated Inputs" (2023).
    """
    check_size("features", features, 2)
    limit = math.sqrt(2 * (math.sqrt(2) - 1) / (features - 1))
    # The end itself is allowed, where it is below 1.
    beyond = min(1.0, float(np.nextafter(limit, np.inf)))
    xi = min(limit, 1.0) / 2 if xi is None else xi
    text = f"positive, below 1 and at most {limit:.17g} with {features} features"
    check_interval("xi", xi, 0.0, beyond, text)
    inputs = xi * jnp.eye(features) + (1 - jnp.asarray(xi)) / features
    return _certified(inputs, jnp.full(features, 1 / math.sqrt(features)), "agree")


def norm_disagrees_with_rank(
    features: int = 3, b: FloatScalarLike = 11.0
) -> tuple[Problem, DualBasis]:
    r"""Return data of which no interpolator of least rank has the least norm.

    $x_1 = be_1$, $x_{2,3} = be_1 \mp \sqrt b e_2 + e_3$, $x_i = be_1 + e_i$ for $i \ge 4$,
    and $v_* = \frac45 e_1 + \frac35 e_3$. Nothing is random.

    Args:
        features: $d$, the number of coordinates and of samples, at least 3.
        b: At least 11. The bound of $M$ grows with it, to $1/5$, while the inputs come together.

    Raises:
        ValueError: If an argument is out of its range.

    Source:
        The family with $M > 0$ of Chistikov, Englert, Lazić (2023).
    """
    check_size("features", features, 3)
    below = float(np.nextafter(11.0, 0.0))
    check_interval("b", b, below, math.inf, "finite and at least 11")
    inputs = jnp.eye(features).at[:, 0].set(b).at[1, 2].set(1.0)
    inputs = inputs.at[1:3, 1].set(jnp.sqrt(jnp.asarray(b)) * jnp.array([-1.0, 1.0]))
    return _certified(inputs, jnp.zeros(features).at[jnp.array([0, 2])].set([0.8, 0.6]), "disagree")


def dual_basis_check(problem: Problem, teacher: FloatArrayLike, claim: Claim) -> DualBasis:
    r"""Measure the dual basis of any problem with as many samples as features.

    That $\chi_k^\top\chi_l \le 0$ for all $k \ne l$ is sufficient for $M < 0$: all cosines
    of $p$ and $q$ are then at most zero. That the pair bound is positive is sufficient for
    $M > 0$: it is one of the values of which $M$ is the maximum. Neither is necessary, and
    both may fail.

    Args:
        problem: A problem with as many samples as features.
        teacher: $v_*$, one entry a feature.
        claim: Whether the margins are to be those of `"agree"` ($M < 0$) or of
            `"disagree"` ($M > 0$).

    Raises:
        ValueError: If there are not as many samples as features, at least 2, the teacher
            does not fit, or the claim is unknown.

    Source:
        Theorem 8 of Chistikov, Englert, Lazić (2023) and the condition stated with it.
    """
    if problem.samples != problem.features or problem.samples < 2:
        raise ValueError(
            "Argument `problem` must have as many samples as features, at least 2, but it has "
            f"{problem.samples} samples and {problem.features} features."
        )
    if claim not in get_args(Claim):
        raise ValueError(f"Argument `claim` must be one of {get_args(Claim)}, but it is {claim!r}.")
    known = teacher_check(problem, teacher)
    chi = jnp.linalg.inv(problem.inputs).T
    pairs = off_diagonal(cosines(chi), -jnp.inf)
    max_cosine = jnp.max(pairs)
    sines = jnp.sin(angle(chi, known.teacher))
    pair_bound = jnp.max(pairs - sines[:, None])
    if claim == "agree":
        margins = {"obtuse duals": rounding(problem) - max_cosine}
    else:
        margins = {"acute pair": pair_bound}
    margins |= {
        "independent inputs": known.margins["spanning inputs"],
        "unit teacher": known.margins["unit teacher"],
        "teacher's targets": known.margins["teacher's targets"],
        "angles below pi/2": math.pi / 2 - jnp.max(known.angles),
        "square loss": met(isinstance(problem.loss, SquareLoss)),
    }
    return DualBasis(
        margins=margins,
        teacher=known.teacher,
        angles=known.angles,
        chi=chi,
        max_cosine=max_cosine,
        pair_bound=pair_bound,
    )


def _certified(inputs, teacher, claim: Claim) -> tuple[Problem, DualBasis]:
    problem = Problem(inputs, inputs @ unit(teacher), SquareLoss(), "mean")
    return problem, dual_basis_check(problem, unit(teacher), claim)

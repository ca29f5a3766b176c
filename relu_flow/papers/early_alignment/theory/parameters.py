r"""Constants of the early-alignment theorem, from data and initial network alone.

Min, Mallada and Vidal study the flow of the *summed* loss with $|\ell'(y, 0)| = 1$. A problem
here has pulls $g_i = c\,\rho_i y_i$ with $\rho_i = \ell'(y_i, f_i)/\ell'(y_i, 0)$ and the
*pull* $c = |\ell'(y, 0)|$ times the weight of a sample: 1 for the summed exponential loss,
1/n for its mean, 1/2 for the summed logistic loss without their factor 2. So the reduced loss
is $c$ times theirs, and its flow is theirs run in the time $s = c\,t$. Everything below is in
the time $t$ of the problem: times are theirs divided by $c$, rates theirs multiplied by $c$.
In $L(t) \le L_2/(1 + \alpha L_2 (t - t_2))$ the two factors cancel: $\alpha$ stays.
"""

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ...._types import FloatScalarLike
from ....data.separable import separability_check
from ....model.network import TwoLayerReLU
from ....model.problem import Problem

_ALONG = 1e-14  # sine of an angle that is rounding


class Constants(eqx.Module):
    r"""What the theorem's bounds are made of. Times and rates are those of the problem's flow.

    The initial weights are read as $W(0) = \epsilon W_0$. Any $\epsilon$ gives a valid
    theorem; the bounds differ, as they are not homogeneous in it.

    Where a class is empty its sums and cones are left out; where $\mu \le 0$ the bounds that
    need $\mu > 0$ are infinite or zero, whichever says nothing.

    Attributes:
        samples: $n$.
        positives: $n_+$, samples with label +1.
        negatives: $n_-$, samples with label -1.
        width: $h$.
        pull: $c$, see the module.
        mu: Assumption 1's smallest cosine of two of the $y_i x_i$ (different ones).
        x_max: Largest norm of an input.
        x_min: Smallest norm of an input.
        log_epsilon: $\log\epsilon$.
        w_max: Largest norm of a column of $W_0$.
        w_min: Smallest norm of a column of $W_0$.
        zeta_1: Lemma 8: a direction with $\cos(z, x_\pm) > \sqrt{1 - \zeta_1}$ is in
            $S_\pm$. The best such number: the smallest squared cosine of $x_+$ or $x_-$ with
            an input (derived; at least $\mu^2$).
        zeta_2: From Assumption 2: one minus the square of the largest cosine of an initial
            neuron to the sum of the class it must avoid (one if that cosine is negative).
        xi: Lemma 9's $\xi$: $|\cos(p, q)| \le \sqrt{1-\xi}$ for p in the cone K of the
            $y_i x_i$ and q outside $S_+ \cup S_-$. The best such number, $\mu^2$.
        cone_miss: $2^{-|V_+|}$ and $2^{-|V_-|}$: by how much the probability that $S_+$
            ($S_-$) holds a neuron at the end may fall short of one, for a Gaussian $W_0$.

    Source:
        Min, Mallada, Vidal, "Early Neuron Alignment in Two-layer ReLU Networks with Small
        Initialization" (2024), section 3 and the proofs of Lemmas 3 to 11 and Theorem 1. The
        best $\zeta_1$ and $\xi$ are derived in `relu_flow.separability_check`, which measures the
        data.
    """

    samples: int
    positives: int
    negatives: int
    width: int
    pull: float
    mu: float
    x_max: float
    x_min: float
    log_epsilon: float
    w_max: float
    w_min: float
    zeta_1: float
    zeta_2: float
    xi: float
    cone_miss: tuple[float, float]

    @property
    def zeta(self) -> float:
        r"""The smaller of $\zeta_1$ and $\zeta_2$ (the text says max; the proof needs min).

        Source:
            Min, Mallada, Vidal (2024), $\zeta$ of eq. (28), from Lemma 8 and Assumption 2.
        """
        return min(self.zeta_1, self.zeta_2)

    @property
    def slowest(self) -> float:
        r"""The rate $c \min\{\zeta, \xi\}\sqrt\mu X_{\min}$ that times are measured by.

        Source:
            Min, Mallada, Vidal (2024), the denominator of $t_1$ in the proof of Theorem 1(1)
            and of the exponent in eq. (28).
        """
        return self.pull * min(self.zeta, self.xi) * math.sqrt(max(self.mu, 0.0)) * self.x_min

    @property
    def dwell(self) -> float:
        r"""Longest stay in a pattern outside the final ones, times its number of active inputs.

        That is $4/(c\min\{\zeta,\xi\}\sqrt\mu X_{\min})$. The final patterns are that of the
        neuron's own cone and that of the dead.

        Source:
            Min, Mallada, Vidal (2024), proof of Theorem 1(1).
        """
        return _ratio(4.0, self.slowest)

    @property
    def class_sizes(self) -> tuple[int, int]:
        r"""$n_+$ and $n_-$.

        Source:
            Min, Mallada, Vidal (2024), the notation $n_\pm$.
        """
        return self.positives, self.negatives

    def path(self, favoured: int) -> float:
        r"""Longest time to the final pattern: $T(\mathcal P_{\max})$.

        For $V_+$ this is `dwell` times $\sum_{k \le n_-} 1/k + 1/2 + \sum_{k \le n_+ - 1} 1/k$;
        for $V_-$ the classes are exchanged.

        Args:
            favoured: 0 for neurons with positive output weight, 1 for the others.

        Source:
            Min, Mallada, Vidal (2024), proof of Theorem 1(1), $T(\mathcal P_{\max})$.
        """
        own, other = self.class_sizes[favoured], self.class_sizes[1 - favoured]
        return self.dwell * (_harmonic(other) + 0.5 + _harmonic(own - 1))

    @property
    def t_1(self) -> float:
        r"""When all neurons are in place: $16\ln n/(c\min\{\zeta,\xi\}\sqrt\mu X_{\min})$.

        At least the two paths, which it bounds for $n \ge 2$ but not for $n = 1$.

        Source:
            Min, Mallada, Vidal (2024), Theorem 1(1) and its proof, which has the paths.
        """
        printed = _ratio(16.0 * math.log(self.samples), self.slowest)
        return max(printed if self.samples > 1 else 0.0, self.path(0), self.path(1))

    @property
    def horizon(self) -> float:
        r"""Lemma 3's $T = \ln(1/(\sqrt h\,\epsilon))/(4 n c X_{\max})$.

        It is negative if $\epsilon > 1/\sqrt h$.

        Source:
            Min, Mallada, Vidal (2024), Lemma 3, $T$.
        """
        growth = 4.0 * self.samples * self.pull * self.x_max
        return -(self._log_root + self.log_epsilon) / growth

    @property
    def log_lemma_3_scale(self) -> float:
        r"""Lemma 3's largest $\log\epsilon$: of $1/(4\sqrt h X_{\max} W_{\max}^2)$.

        Source:
            Min, Mallada, Vidal (2024), Lemma 3, its condition on $\epsilon$.
        """
        return -_log(4 * self.x_max * self.w_max**2) - self._log_root

    @property
    def log_square_norm(self) -> float:
        r"""Lemma 3's bound on $\log\|w_j\|^2$ up to T: of $2\epsilon W_{\max}^2/\sqrt h$.

        Source:
            Min, Mallada, Vidal (2024), Lemma 3.
        """
        return _log(2 * self.w_max**2) + self.log_epsilon - self._log_root

    @property
    def log_output(self) -> float:
        r"""Lemma 3's bound on $\log|f|$ up to T: of $2\epsilon\sqrt h X_{\max}W_{\max}^2$.

        Source:
            Min, Mallada, Vidal (2024), Lemma 3.
        """
        return _log(2 * self.x_max * self.w_max**2) + self.log_epsilon + self._log_root

    @property
    def log_direction_error(self) -> float:
        r"""Lemma 1's bound up to T: log of $4 c\,\epsilon n\sqrt h X_{\max}^2W_{\max}^2$.

        Source:
            Min, Mallada, Vidal (2024), Lemma 1.
        """
        return self.log_output + math.log(self.error_per_output)

    @property
    def error_per_output(self) -> float:
        r"""Lemma 4's factor $2 n c X_{\max}$ from the largest output to the direction's error.

        The lemma asks for outputs of at most one in size.

        Source:
            Min, Mallada, Vidal (2024), Lemma 4; Lemma 10 has the same factor.
        """
        return 2.0 * self.samples * self.pull * self.x_max

    @property
    def log_scale_bound(self) -> float:
        r"""The largest $\log\epsilon$ of eq. (28).

        The smaller of $\min\{\mu,\zeta,\xi\}\sqrt\mu X_{\min}/(8\sqrt h n X_{\max}^2W_{\max}^2)$
        and $h^{-1/2}\exp(-64 n X_{\max}\ln n/(\min\{\zeta,\xi\}\sqrt\mu X_{\min}))$. The
        first has 8 where the paper prints 4, as its eq. (29) needs; the second says that
        $t_1 \le T$. The pull cancels.

        Source:
            Min, Mallada, Vidal (2024), eqs. (28) and (29).
        """
        least = min(self.mu, self.zeta, self.xi)
        if least <= 0 or self.w_max == 0 or not math.isfinite(self.t_1):
            return -math.inf
        error = 8 * self.samples * (self.x_max * self.w_max) ** 2
        first = math.log(least * math.sqrt(self.mu) * self.x_min / error) - self._log_root
        return min(first, -self._log_root - 4 * self.samples * self.pull * self.x_max * self.t_1)

    @property
    def boundary_speed(self) -> float:
        r"""Least speed of $\cos(w_j, x_i)$ through zero up to T: $c\,\mu^{3/2}X_{\min}/2$.

        Source:
            Min, Mallada, Vidal (2024), proof of Theorem 1(1).
        """
        return 0.5 * self.pull * max(self.mu, 0.0) ** 1.5 * self.x_min

    def class_rate(self, favoured: int) -> float:
        r"""The rate $c\sqrt\mu\,n_\pm X_{\min}$, a lower bound of $c\|x_\pm\|$.

        Args:
            favoured: 0 for the positive class, 1 for the negative.

        Source:
            Min, Mallada, Vidal (2024), Lemma 11 for the pattern of $S_\pm$.
        """
        root = math.sqrt(max(self.mu, 0.0))
        return self.pull * root * self.class_sizes[favoured] * self.x_min

    def aligned(self, favoured: int, start: float | None = None) -> float:
        r"""By when $\cos(w_j, x_\pm) \ge 1/4$: $t_1 + 6/(c\sqrt\mu n_\pm X_{\min})$.

        It holds for the neurons of $V_\pm$ in $S_\pm$, from then on until $t_2^\pm$.

        Args:
            favoured: 0 for the positive class, 1 for the negative.
            start: When all neurons are in place; `t_1` unless given.

        Source:
            Min, Mallada, Vidal (2024), proof of Theorem 1(2).
        """
        start = self.t_1 if start is None else start
        return start + _ratio(6.0, self.class_rate(favoured))

    def t_2(self, favoured: int, start: float | None = None) -> float:
        r"""By when the class's output exceeds 1/4 somewhere: the bound on $t_2^\pm$.

        With $t_1$ for `start` it is `aligned` plus
        $4(\ln(2/(\epsilon^2\sqrt\mu X_{\min}W_{\min}^2)) + 4ncX_{\max}t_1)$ over `class_rate`.

        Args:
            favoured: 0 for the positive class, 1 for the negative.
            start: When all neurons are in place; `t_1` unless given.

        Source:
            Min, Mallada, Vidal (2024), proof of Theorem 1(2).
        """
        start = self.t_1 if start is None else start
        if self.mu <= 0 or self.w_min == 0:
            return math.inf
        logs = math.log(2 / (math.sqrt(self.mu) * self.x_min * self.w_min**2))
        logs += -2 * self.log_epsilon + 4 * self.samples * self.pull * self.x_max * start
        return self.aligned(favoured, start) + _ratio(4 * logs, self.class_rate(favoured))

    @property
    def alpha(self) -> float:
        r"""The rate of the loss, $(\mu X_{\min})^2/(32 X_{\max})$.

        Source:
            Min, Mallada, Vidal (2024), Theorem 1(2) and its proof.
        """
        return (max(self.mu, 0.0) * self.x_min) ** 2 / (32 * self.x_max)

    @property
    def margin(self) -> float:
        r"""A margin with which each class is classified by a unit vector: $\mu X_{\min}$.

        Source:
            Min, Mallada, Vidal (2024), Lemma 15, which is used with $\gamma = \mu X_{\min}$.
        """
        return max(self.mu, 0.0) * self.x_min

    @property
    def log_rank_excess(self) -> float:
        r"""Log of $4\sqrt h\,\epsilon W_{\max}^2$ in $\|W\|_F^2 \le 2\|W\|_2^2 + O(\epsilon)$.

        Source:
            Min, Mallada, Vidal (2024), Theorem 1(2); its proof has this constant of
            $O(\epsilon)$.
        """
        return _log(4 * self.w_max**2) + self.log_epsilon + self._log_root

    @property
    def _log_root(self) -> float:
        return 0.5 * math.log(self.width)


def restated(network: TwoLayerReLU, log_epsilon: FloatScalarLike | None = None) -> TwoLayerReLU:
    r"""Return the same network with one scale, so that its inner weights are $W_0$.

    Args:
        network: The initial network.
        log_epsilon: The scale's natural logarithm; the largest `log_scale` unless given.

    Raises:
        ValueError: If $W_0$ overflows in units of that scale.

    Source:
        Min, Mallada, Vidal (2024), eq. (3), $W(0) = \epsilon W_0$.
    """
    scale = jnp.max(network.log_scale) if log_epsilon is None else jnp.asarray(log_epsilon)
    inner = network.inner_weight * jnp.exp(network.log_scale - scale)[:, None]
    outer = network.outer_weight * jnp.exp(network.outer_log_scale - scale)
    if not (np.all(np.isfinite(inner)) and np.all(np.isfinite(outer))):
        raise ValueError(
            "Argument `log_epsilon` must be near the scales of the network, but it is "
            f"{float(scale):g} and they reach {float(jnp.max(network.log_scale)):g}."
        )
    return TwoLayerReLU(inner, outer, scale)


def class_signs(problem: Problem) -> Float[np.ndarray, " samples"]:
    """Return the labels as +1 and -1 (a target of zero counts as negative).

    Source:
        Min, Mallada, Vidal (2024), the labels $y_i$ of +1 and -1.
    """
    return np.where(np.asarray(problem.targets) > 0, 1.0, -1.0)


def pull_scale(problem: Problem) -> float:
    """Return $c$: the largest pull, in size, of a sample on a network whose output is zero.

    Source:
        This package; Lemma 2 of Min, Mallada, Vidal (2024) has $c = 1$ (see the module).
    """
    pull = problem.loss.pull(jnp.zeros_like(problem.targets), problem.targets)
    return problem.sample_weight * float(jnp.max(jnp.abs(pull)))


def constants(
    problem: Problem, network: TwoLayerReLU, log_epsilon: FloatScalarLike | None = None
) -> Constants:
    r"""Compute the theorem's constants.

    Args:
        problem: The problem; labels are the signs of its targets.
        network: The network at time zero.
        log_epsilon: $\log\epsilon$; the largest `log_scale` of a neuron unless given.

    Source:
        As for `Constants`.
    """
    start = restated(network, log_epsilon)
    signs = class_signs(problem)
    data = separability_check(eqx.tree_at(lambda p: p.targets, problem, jnp.asarray(signs)))
    weights = np.asarray(start.inner_weight)
    sizes = np.linalg.norm(weights, axis=1)
    directions = np.asarray(start.directions())
    favours = np.asarray(start.outer_weight)
    zeta_2 = 1.0
    for sign, total in ((1.0, data.x_plus), (-1.0, data.x_minus)):
        if not np.any(signs == sign):
            continue
        center = np.asarray(total) / np.linalg.norm(total)
        for direction in directions[favours * sign < 0]:
            cosine = direction @ center
            sine = np.linalg.norm(direction - cosine * center)
            sine = sine if sine > _ALONG else 0.0
            zeta_2 = min(zeta_2, float(sine**2) if cosine > 0 else 1.0)
    return Constants(
        samples=len(signs),
        positives=int(np.sum(signs > 0)),
        negatives=int(np.sum(signs < 0)),
        width=network.width,
        pull=pull_scale(problem),
        mu=float(data.mu),
        x_max=float(data.x_max),
        x_min=float(data.x_min),
        log_epsilon=float(start.log_scale[0]),
        w_max=float(sizes.max()),
        w_min=float(sizes.min()),
        zeta_1=min(max(float(data.zeta_1), 0.0), 1.0),
        xi=float(data.xi),
        zeta_2=zeta_2,
        cone_miss=(float(0.5 ** np.sum(favours > 0)), float(0.5 ** np.sum(favours < 0))),
    )


def _harmonic(terms: int) -> float:
    return sum(1.0 / k for k in range(1, terms + 1))


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else math.inf

r"""What the theory of learning a single neuron needs of the data and the initial network.

The setting: $y_i = \mathrm{relu}(v^{*\top}x_i)$ with a teacher $\|v^*\| = 1$ at less than
$\pi/4$ from every input; mean square loss, both layers trained; $w_j(0) = \lambda z_j$ and
$a_j(0) = s_j\|w_j(0)\|$. Everything here is computed from that, nothing from a run.

Source:
    Chistikov, Englert, Lazić, "Learning a Neuron by a Shallow ReLU Network: Dynamics and
    Implicit Bias for Correlated Inputs" (2023), sections 2 and 3.
"""

import math

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int

from ....claims.verdict import Hypothesis
from ....data.teacher import Teacher, teacher_check
from ....model.loss import SquareLoss
from ....model.network import TwoLayerReLU
from ....model.problem import Problem
from .yardsticks import Yardstick, yardstick

SOURCE = "Chistikov, Englert, Lazić (2023)"
_EXACT = 1e-9  # how exactly given numbers must satisfy an equation that is assumed of them


class Constants(eqx.Module):
    r"""The quantities of the theorems, by the paper's letters.

    Attributes:
        inputs: $x_i$, one row a sample.
        targets: $y_i$.
        teacher: $v^*$.
        log_lambda: $\ln\lambda$.
        eps: $\varepsilon \in (0, 1/4]$.
        start: $z_j$: inner weights with $\lambda$ taken out.
        sign: $s_j$; 0 for an outer weight that is zero.
        yardsticks: The path of each neuron as $\lambda \to 0$.
        growing: $J_+$: which neurons have $s_j = 1$ and are active on some sample.
        shrinking: $J_-$: the same with $s_j = -1$.
        crossings: $n_j$, how many hyperplanes lie ahead; 0 outside $J_\pm$.
        eigenvalue: $\eta_k$ of $\frac1n\sum_i x_ix_i^\top$, descending.
        eigenvector: $u_k$, one column each, signs such that $\nu^*_k \ge 0$.
        nu: $\nu^*_k = u_k^\top v^*$.
        gamma: $\gamma_{[n]} = \frac1n\sum_i y_ix_i$.
        delta_parts: What $\delta$ is the least of. Where the paper takes a minimum of
            $|\bar\alpha_j^\top\bar x_i|$ over stages it is taken here at time zero and at
            every crossing, over all samples but the one crossed: if anything more than is
            asked, so that Assumption 2 is never judged too leniently. (Other bounds with
            $\delta$ are then weaker than the paper's.)
        capital_delta: $\Delta = \max\{\|x_i\|, \|z_j\|, 1\}$.

    Source:
        Chistikov, Englert, Lazić (2023), sections 2 and 3.
    """

    inputs: Float[np.ndarray, "samples features"]
    targets: Float[np.ndarray, " samples"]
    teacher: Float[np.ndarray, " features"]
    log_lambda: float
    eps: float
    start: Float[np.ndarray, "width features"]
    sign: Int[np.ndarray, " width"]
    yardsticks: tuple[Yardstick, ...]
    growing: Bool[np.ndarray, " width"]
    shrinking: Bool[np.ndarray, " width"]
    crossings: Int[np.ndarray, " width"]
    eigenvalue: Float[np.ndarray, " features"]
    eigenvector: Float[np.ndarray, "features features"]
    nu: Float[np.ndarray, " features"]
    gamma: Float[np.ndarray, " features"]
    delta_parts: dict[str, float]
    capital_delta: float

    @property
    def samples(self) -> int:
        """Number of inputs, $n$.

        Source:
            Chistikov, Englert, Lazić (2023), section 2.
        """
        return self.inputs.shape[0]

    @property
    def features(self) -> int:
        """Number of coordinates of an input, $d$.

        Source:
            Chistikov, Englert, Lazić (2023), section 2.
        """
        return self.inputs.shape[1]

    @property
    def width(self) -> int:
        """Number of neurons, $m$.

        Source:
            Chistikov, Englert, Lazić (2023), section 2.
        """
        return self.start.shape[0]

    @property
    def delta(self) -> float:
        r"""$\delta$, the least of `delta_parts`.

        Source:
            Chistikov, Englert, Lazić (2023), section 3, $\delta$; but see `delta_parts`.
        """
        return min(self.delta_parts.values())

    @property
    def gamma_norm(self) -> float:
        r"""$\|\gamma_{[n]}\|$.

        Source:
            Chistikov, Englert, Lazić (2023), section 3.
        """
        return float(np.linalg.norm(self.gamma))

    @property
    def largest_log_lambda(self) -> float:
        r"""The largest $\ln\lambda$ of Assumption 2.

        That is $-\frac3\varepsilon\ln(mn^{9n\Delta^2/\delta^3})$; `-inf` if $\delta$ is zero.

        Source:
            Chistikov, Englert, Lazić (2023), Assumption 2.
        """
        if not self.delta > 0:
            return -math.inf
        exponent = 9 * self.samples * self.capital_delta**2 / self.delta**3
        return -3 / self.eps * (math.log(self.width) + exponent * math.log(self.samples))

    @property
    def crossing_end(self) -> float:
        r"""$T_0 = 1 + \max_j\tau_j^{n_j}$: one after the last crossing of a yardstick.

        Source:
            Chistikov, Englert, Lazić (2023), section 4, before Lemma 4.
        """
        return 1 + max((float(y.times[-1]) for y in self.yardsticks if len(y.times)), default=0.0)

    @property
    def alignment_end(self) -> float:
        r"""$T_1 = \varepsilon\ln(1/\lambda)/\|\gamma_{[n]}\|$.

        Source:
            Chistikov, Englert, Lazić (2023), section 4, before Lemma 5.
        """
        return -self.eps * self.log_lambda / self.gamma_norm

    @property
    def departure_bound(self) -> float:
        r"""The bound of Theorem 6 on $T_2$: $\ln(1/\lambda)(4+\varepsilon)d\Delta^2/\delta^6$.

        Source:
            Chistikov, Englert, Lazić (2023), Theorem 6 and Lemma 32(ii).
        """
        if not self.delta > 0:
            return math.inf
        ratio = self.features * self.capital_delta**2 / self.delta**6
        return -self.log_lambda * (4 + self.eps) * ratio


def constants(
    problem: Problem,
    network: TwoLayerReLU,
    teacher: Float[np.ndarray, " features"] | None = None,
    log_lambda: float | None = None,
    eps: float = 0.25,
) -> Constants:
    r"""Compute the quantities of the theorems from the data and the initial network.

    Args:
        problem: Mean square loss with both layers trained is what the theorems are about.
        network: The network at time zero, no neuron zero.
        teacher: $v^*$; the least-squares solution of $Xv = y$ if not given.
        log_lambda: $\ln\lambda$; the largest `log_scale` of a neuron if not given.
        eps: $\varepsilon$, in (0, 1/4].

    Raises:
        ValueError: If `eps` is out of range, the teacher has another shape or is zero, the inner
            weights of a neuron are zero, or all targets are zero.

    Source:
        Chistikov, Englert, Lazić (2023), sections 2 and 3.
    """
    inputs, targets = np.asarray(problem.inputs), np.asarray(problem.targets)
    teacher, log_lambda, start = _checked(problem, network, teacher, log_lambda, eps)
    sign = np.sign(np.asarray(network.outer_weight)).astype(int)
    paths = tuple(
        yardstick(inputs, targets, z, int(s) if s else 1) for z, s in zip(start, sign, strict=True)
    )
    active = start @ inputs.T > 0
    growing, shrinking = (sign == 1) & active.any(1), (sign == -1) & active.any(1)
    ahead = np.where(growing, (~active).sum(1), np.where(shrinking, active.sum(1), 0))
    data = teacher_check(problem, teacher)
    eigenvalue = np.asarray(data.eigenvalues)
    # Without enough inputs some are zero; what is divided by them later is not met by then anyway.
    eigenvalue = np.maximum(eigenvalue, np.finfo(eigenvalue.dtype).tiny)
    nu = np.asarray(data.coefficients)
    parts = _data_parts(data, eigenvalue) | _start_parts(inputs, start, paths, growing, shrinking)
    return Constants(
        inputs=inputs,
        targets=targets,
        teacher=teacher,
        log_lambda=log_lambda,
        eps=float(eps),
        start=start,
        sign=sign,
        yardsticks=paths,
        growing=growing,
        shrinking=shrinking,
        crossings=ahead,
        eigenvalue=eigenvalue,
        eigenvector=np.asarray(data.eigenvectors).T,
        nu=nu,
        gamma=np.asarray(data.gamma),
        delta_parts=parts,
        capital_delta=max(float(data.big_delta), float(np.max(np.linalg.norm(start, axis=1)))),
    )


def _checked(problem, network, teacher, log_lambda, eps):
    """Return teacher, logarithm of the scale, and inner weights without it."""
    if not 0 < eps <= 0.25:
        raise ValueError(f"Argument `eps` must be in (0, 1/4], but it is {eps}.")
    inputs, targets = np.asarray(problem.inputs), np.asarray(problem.targets)
    if teacher is None:
        teacher = np.linalg.lstsq(inputs, targets)[0]
    teacher = np.asarray(teacher, inputs.dtype)
    if teacher.shape != (problem.features,):
        raise ValueError(
            f"Argument `teacher` must have shape ({problem.features},), but it has {teacher.shape}."
        )
    if not np.any(targets):
        raise ValueError("Argument `problem` must have a target other than zero, but all are zero.")
    log_scale = np.asarray(network.log_scale)
    log_lambda = float(np.max(log_scale)) if log_lambda is None else float(log_lambda)
    start = np.asarray(network.inner_weight) * np.exp(log_scale - log_lambda)[:, None]
    if not np.all(np.any(start, axis=1)):
        raise ValueError(
            "Argument `network` must have no zero row of inner weights, but it has one."
        )
    return teacher, log_lambda, start


def _data_parts(data: Teacher, eigenvalue: np.ndarray) -> dict[str, float]:
    """Return the parts of delta that the data give."""
    features = len(eigenvalue)
    roots = np.sqrt(eigenvalue)
    gaps = (roots[:-1] - roots[1:]) * (features - 1)
    return {
        "input norms": float(np.min(data.norms)),
        "cosines between inputs": float(data.min_cosine),
        "gaps of root eigenvalues": float(np.min(gaps, initial=np.inf)),
        "least root eigenvalue": float(roots[-1]),
        "teacher's coordinates": float(np.min(data.coefficients)) * math.sqrt(features),
    }


def _start_parts(inputs, start, paths, growing, shrinking) -> dict[str, float]:
    """Return the parts of delta that the initial network and its yardsticks give."""
    unit = inputs / np.linalg.norm(inputs, axis=1, keepdims=True)
    cosines, sines, heights, first, stages = [], [], [], [], []
    for j in np.flatnonzero(growing | shrinking):
        path = paths[j]
        cosine = path.cosine(0.0)
        if growing[j]:
            cosines.append(cosine)
        else:
            sines.append(math.sqrt(max(0.0, 1 - cosine**2)))
            if path.samples:
                first.append(float(unit[path.samples[0]] @ path.stages[0].direction))
        crossed = (-1, *path.samples)
        for stage, sample in zip(path.stages, crossed, strict=True):
            height = np.abs(unit @ stage.direction)
            heights.append(float(np.min(np.delete(height, sample) if sample >= 0 else height)))
            if math.isfinite(stage.end):
                stages.append(stage.end - stage.start)
    least = lambda values: min(values, default=math.inf)
    return {
        "initial norms": float(np.min(np.linalg.norm(start, axis=1))),
        "cosines of growing neurons": least(cosines),
        "sines of shrinking neurons": least(sines),
        "distances from other hyperplanes": least(heights),
        "first distances of shrinking neurons": least(first),
        "durations of stages": least(stages),
    }


def hypotheses(problem: Problem, network: TwoLayerReLU, found: Constants) -> tuple[Hypothesis, ...]:
    """Return the conditions of all theorems: the setting, Assumption 1, Assumption 2.

    Source:
        Chistikov, Englert, Lazić (2023), section 2, Assumptions 1 and 2.
    """
    return (*setting(problem, network, found), *assumption_1(found), assumption_2(found))


def setting(problem: Problem, network: TwoLayerReLU, found: Constants) -> tuple[Hypothesis, ...]:
    """Return the conditions of the setting: loss, teacher, angles, balance.

    Source:
        Chistikov, Englert, Lazić (2023), section 2.
    """
    suited = (
        isinstance(problem.loss, SquareLoss)
        and problem.reduction == "mean"
        and problem.train == "both"
    )
    predicted = np.maximum(found.inputs @ found.teacher, 0.0)
    error = np.max(np.abs(predicted - found.targets)) / np.max(np.abs(found.targets))
    norms = np.linalg.norm(found.inputs, axis=1) * np.linalg.norm(found.teacher)
    angle = np.max(np.arccos(np.clip(found.inputs @ found.teacher / norms, -1, 1)))
    inner = np.asarray(network.log_norm())
    outer = np.log(np.abs(np.asarray(network.outer_weight)) + np.finfo(float).tiny)
    imbalance = np.max(np.abs(outer + np.asarray(network.outer_log_scale) - inner))
    return (
        Hypothesis("mean square loss, both layers trained", 1.0 if suited else -1.0),
        Hypothesis("targets are the teacher's outputs", _EXACT - float(error)),
        Hypothesis("angles to the teacher below pi/4", math.pi / 4 - float(angle)),
        Hypothesis("balanced neurons: log |a| = log |w|", _EXACT - float(imbalance)),
    )


def assumption_1(found: Constants) -> tuple[Hypothesis, ...]:
    """Return the five parts of Assumption 1; strict conditions keep off rounding by 1e-12.

    Part (v) is about the flow: a neuron that is no longer active anywhere rests. Here it is
    asked of the yardsticks, beyond whose last hyperplane the velocity has to point back.

    Source:
        Chistikov, Englert, Lazić (2023), Assumption 1.
    """
    unit = found.inputs / np.linalg.norm(found.inputs, axis=1, keepdims=True)
    singular = np.linalg.svd(found.inputs, compute_uv=False)
    spans = singular[-1] / singular[0] if found.samples >= found.features else 0.0
    start = found.start / np.linalg.norm(found.start, axis=1, keepdims=True)
    off_gamma = np.linalg.norm(start[found.shrinking] - found.gamma / found.gamma_norm, axis=1)
    gaps = [np.linalg.norm(unit[i] - unit[k]) for i in range(len(unit)) for k in range(i)]
    spread = np.min(-np.diff(found.eigenvalue), initial=np.inf) / found.eigenvalue[0]
    stages = found.delta_parts["durations of stages"]
    # Beyond the last hyperplane of a shrinking neuron, its sample would push it back.
    last = [found.yardsticks[j].samples[-1:] for j in np.flatnonzero(found.shrinking)]
    back = [found.targets[i] * np.sum(found.inputs[i] ** 2) for (i,) in filter(None, last)]
    regular = all(path.transversal for path in found.yardsticks)
    strict = lambda margin: float(margin) - 1e-12
    return (
        Hypothesis("1(i) more than one dimension", found.features - 1.0),
        Hypothesis("1(i) inputs span the space", strict(spans)),
        unit_teacher(found),
        Hypothesis("1(ii) a growing neuron", float(np.sum(found.growing))),
        Hypothesis("1(ii) no neuron on a hyperplane", strict(np.min(np.abs(start @ unit.T)))),
        Hypothesis("1(ii) shrinking neurons off gamma", strict(np.min(off_gamma, initial=np.inf))),
        Hypothesis("1(iii) different directions of inputs", strict(min(gaps, default=math.inf))),
        Hypothesis("1(iii) different eigenvalues", strict(spread)),
        Hypothesis("1(iii) teacher has all coordinates", strict(np.min(found.nu))),
        Hypothesis("1(iv) one hyperplane at a time", strict(stages)),
        Hypothesis(
            "1(v) yardsticks cross, and rest once inactive",
            min(back, default=math.inf) / found.samples if regular else -1.0,
        ),
    )


def unit_teacher(found: Constants) -> Hypothesis:
    """Return the condition that the teacher has norm one: bounds on norms are in its unit.

    Source:
        Chistikov, Englert, Lazić (2023), Assumption 1(i).
    """
    return Hypothesis("1(i) unit teacher", _EXACT - abs(float(np.linalg.norm(found.teacher)) - 1))


def assumption_2(found: Constants) -> Hypothesis:
    r"""Return Assumption 2; the margin is in units of $\ln\lambda$.

    That $0 < \varepsilon \le \frac14$ is checked by `constants`.

    Source:
        Chistikov, Englert, Lazić (2023), Assumption 2.
    """
    margin = found.largest_log_lambda - found.log_lambda
    return Hypothesis("2: scale small enough", margin)

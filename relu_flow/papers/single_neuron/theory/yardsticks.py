r"""Yardsticks: the paths of single neurons in the flow of vanishing scale, in closed form.

A yardstick starts at $\alpha = z_j$ and obeys $\dot\alpha = s\|\alpha\|\gamma_{I_+(\alpha)}$
with $\gamma_I = \frac1n\sum_{i\in I} y_i x_i$. Between hyperplanes $\gamma$ is constant;
with $\bar\alpha$ the direction at the start of such a stage, $c = \cos\angle(\bar\alpha, \gamma)$
and $e$ the unit vector along the rest of $\bar\alpha$ beside $\gamma$,

$$\cos\varphi(t) = \tanh(\operatorname{artanh} c + s\|\gamma\|t), \qquad
  \bar\alpha(t) = \sin\varphi\,e + \cos\varphi\,\bar\gamma,$$
$$\|\alpha(t)\| = \tfrac12\|\alpha\|\,[(1 + sc)e^{\|\gamma\|t} + (1 - sc)e^{-\|\gamma\|t}].$$

The hyperplane of $x$ is met where $\cot\varphi = -e^\top x/\bar\gamma^\top x$, that is at
$t = s(\operatorname{arsinh}\cot\varphi - \operatorname{arsinh}\cot\varphi_0)/\|\gamma\|$,
as $\operatorname{artanh}\cos\varphi = \operatorname{arsinh}\cot\varphi$.

Source:
    Chistikov, Englert, Lazić, "Learning a Neuron by a Shallow ReLU Network: Dynamics and
    Implicit Bias for Correlated Inputs" (2023), section 3 and Propositions 13, 14 and 22. The
    form with `arsinh` is that of Proposition 14(ii) and (vi), re-derived: it keeps its accuracy
    at small angles.
"""

import math

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float

_ALIGNED = 1e-14  # sines below are rounding: nothing turns any more


class Stage(eqx.Module):
    r"""A yardstick from one hyperplane to the next.

    Attributes:
        start: When it begins, in units of gradient-flow time of the mean loss.
        end: When the next hyperplane is met; `inf` if never.
        direction: Unit vector at the start.
        log_norm: Natural logarithm of the norm at the start.
        gamma: The vector that drives it.
        active: On which samples it is active.
        sample: Whose hyperplane is met at the end; -1 if none.

    Source:
        Chistikov, Englert, Lazić (2023), Propositions 2 and 14, the times from $\tau_j^{\ell-1}$ to
        $\tau_j^\ell$.
    """

    start: float
    end: float
    direction: Float[np.ndarray, " features"]
    log_norm: float
    gamma: Float[np.ndarray, " features"]
    active: Bool[np.ndarray, " samples"]
    sample: int


class Yardstick(eqx.Module):
    r"""The path of one neuron in the flow of vanishing scale.

    Attributes:
        sign: +1 or -1, the sign of the outer weight.
        stages: From hyperplane to hyperplane; the last one has no end.
        transversal: Whether it went on beyond every hyperplane it met. If not, the last
            stage begins on a hyperplane to which it is pushed back, and says nothing.

    Source:
        Chistikov, Englert, Lazić (2023), section 3, the trajectory $\alpha_j^t$, and Proposition 2.
    """

    sign: int
    stages: tuple[Stage, ...]
    transversal: bool

    @property
    def times(self) -> Float[np.ndarray, " crossings"]:
        r"""When hyperplanes are crossed, ascending, in units of gradient-flow time.

        Source:
            Chistikov, Englert, Lazić (2023), Proposition 2, $\tau_j^\ell$.
        """
        return np.array([stage.end for stage in self.stages[:-1]])

    @property
    def samples(self) -> tuple[int, ...]:
        r"""Whose hyperplanes are crossed, in order.

        Source:
            Chistikov, Englert, Lazić (2023), Proposition 2, $i_j^\ell$.
        """
        return tuple(stage.sample for stage in self.stages[:-1])

    def stage(self, t: float) -> Stage:
        """Return the stage that holds time `t >= 0` (the later one at a crossing).

        Source:
            This package; the formulas of Proposition 14 are for one stage.
        """
        return self.stages[int(np.searchsorted(self.times, t, side="right"))]

    def direction(self, t: float) -> Float[np.ndarray, " features"]:
        """Return the unit vector at time `t >= 0`.

        Source:
            Chistikov, Englert, Lazić (2023), Proposition 14(vi) and (x); Proposition 22 for the
            last stage.
        """
        stage = self.stage(t)
        return _turned(stage, self.sign, t - stage.start)

    def log_norm(self, t: float) -> float:
        """Return the natural logarithm of the norm at time `t >= 0`.

        Source:
            Chistikov, Englert, Lazić (2023), Proposition 13(ii).
        """
        stage = self.stage(t)
        return stage.log_norm + _log_growth(stage, self.sign, t - stage.start)

    def cosine(self, t: float) -> float:
        r"""Return $\cos\varphi$, the cosine to what drives it; `nan` if nothing does.

        Source:
            Chistikov, Englert, Lazić (2023), section 3, $\varphi_j^t$; Propositions 14(vi) and 22.
        """
        gamma = self.stage(t).gamma
        size = np.linalg.norm(gamma)
        return float(self.direction(t) @ gamma / size) if size > 0 else math.nan

    @property
    def log_limit_weight(self) -> float:
        r"""$\lim_t (\log\|\alpha(t)\| - \|\gamma\|t)$ of the last stage; for sign +1.

        Differences between neurons that end with the same $\gamma$ are the logarithms of
        the limits of the ratios of their norms.

        Source:
            Chistikov, Englert, Lazić (2023), Lemma 34, the limit of
            $\|\alpha_j^t\|/\|\alpha_{j'}^t\|$, by Proposition 13(ii).
        """
        last = self.stages[-1]
        size = float(np.linalg.norm(last.gamma))
        if size == 0:
            return last.log_norm
        half = (1 + self.sign * float(last.direction @ last.gamma) / size) / 2
        return last.log_norm + _log(half) - size * last.start


def yardstick(
    inputs: Float[np.ndarray, "samples features"],
    targets: Float[np.ndarray, " samples"],
    start: Float[np.ndarray, " features"],
    sign: int,
) -> Yardstick:
    """Follow one yardstick through all its crossings.

    Args:
        inputs: One row a sample.
        targets: Any reals; the theorems ask for positive ones.
        start: Where from, not zero. A hyperplane that it starts on counts as inactive.
        sign: +1 or -1.

    Raises:
        ValueError: If `start` is zero or `sign` is neither +1 nor -1.

    Source:
        Chistikov, Englert, Lazić (2023), section 3; the next crossing by Proposition 14(i), (ii)
        and (vi).
    """
    size = float(np.linalg.norm(start))
    if size == 0:
        raise ValueError("Argument `start` must not be zero, but it is.")
    if sign not in (1, -1):
        raise ValueError(f"Argument `sign` must be +1 or -1, but it is {sign!r}.")
    time, direction, log_norm = 0.0, start / size, math.log(size)
    active = inputs @ direction > 0
    stages: list[Stage] = []
    crossed = -1
    # Where the theorems hold each sample is crossed once at most; other data may turn back.
    for _ in range(2 * len(targets) + 1):
        gamma = (active * targets) @ inputs / len(targets)
        stage = Stage(time, math.inf, direction, log_norm, gamma, active, -1)
        if crossed >= 0 and not _goes_on(stage, sign, inputs[crossed], crossed):
            return Yardstick(sign, (*stages, stage), False)
        wait, sample = _next_crossing(stage, sign, inputs, crossed)
        if sample < 0:
            return Yardstick(sign, (*stages, stage), True)
        stages.append(Stage(time, time + wait, direction, log_norm, gamma, active, sample))
        direction = _turned(stage, sign, wait)
        log_norm += _log_growth(stage, sign, wait)
        active = active.copy()
        active[sample] = ~active[sample]
        time, crossed = time + wait, sample
    stage = Stage(time, math.inf, direction, log_norm, 0.0 * direction, active, -1)
    return Yardstick(sign, (*stages, stage), False)


def _parts(stage: Stage) -> tuple[float, Float[np.ndarray, " features"], float, float, np.ndarray]:
    """Return size and direction of gamma, cosine and sine to it, and the rest's direction."""
    size = float(np.linalg.norm(stage.gamma))
    if size == 0:
        return 0.0, stage.gamma, 0.0, 0.0, stage.direction
    unit = stage.gamma / size
    cosine = float(stage.direction @ unit)
    rest = stage.direction - cosine * unit
    rest = rest - (rest @ unit) * unit
    sine = float(np.linalg.norm(rest))
    return size, unit, cosine, sine, rest / sine if sine > _ALIGNED else rest


def _next_crossing(stage: Stage, sign: int, inputs, crossed: int) -> tuple[float, int]:
    """Return how long it takes to the next hyperplane and whose it is; -1 if there is none.

    The hyperplane just crossed is met again by no stage: the angle to gamma is monotone.
    """
    size, unit, cosine, sine, rest = _parts(stage)
    if size == 0 or sine <= _ALIGNED:
        return math.inf, -1
    beside, along = inputs @ rest, inputs @ unit
    with np.errstate(divide="ignore", invalid="ignore"):
        cotangent = -beside / along
        wait = sign * (np.arcsinh(cotangent) - np.arcsinh(cosine / sine)) / size
    side = inputs @ stage.direction
    # A neuron on the wrong side by rounding has just crossed, together with another sample.
    pending = (side > 0) != stage.active
    wait = np.where(pending & (np.abs(wait) < 1e-12), 0.0, wait)
    wait = np.where(np.isfinite(wait) & ((wait > 0) | pending & (wait == 0)), wait, math.inf)
    if crossed >= 0:
        wait[crossed] = math.inf
    sample = int(np.argmin(wait))
    return (float(wait[sample]), sample) if math.isfinite(wait[sample]) else (math.inf, -1)


def _goes_on(stage: Stage, sign: int, x, sample: int) -> bool:
    """Return whether it leaves the hyperplane it has met on the side where it counts to be."""
    speed = sign * float(stage.gamma @ x)
    return speed > 0 if stage.active[sample] else speed <= 0


def _turned(stage: Stage, sign: int, wait: float) -> Float[np.ndarray, " features"]:
    size, unit, cosine, sine, rest = _parts(stage)
    if size == 0 or sine <= _ALIGNED:
        return stage.direction
    turned = math.asinh(cosine / sine) + sign * size * wait
    # sech by its own exponential, which cannot overflow.
    fading = math.exp(-abs(turned))
    return 2 * fading / (1 + fading**2) * rest + math.tanh(turned) * unit


def _log_growth(stage: Stage, sign: int, wait: float) -> float:
    size, _, cosine, sine, _ = _parts(stage)
    if size == 0:
        return 0.0
    toward = sign * cosine
    # Of 1 + c and 1 - c the one that cancels is had from the sine.
    plus = 1 + toward if toward >= 0 else sine**2 / (1 - toward)
    minus = 1 - toward if toward <= 0 else sine**2 / (1 + toward)
    growth = np.logaddexp(_log(plus) + size * wait, _log(minus) - size * wait)
    return float(growth) - math.log(2)


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf

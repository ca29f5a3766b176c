r"""Two clusters at an acute angle, phase by phase, in closed form.

$p$ copies of a unit vector $x_+$ labelled +1 and one $x_-$ labelled -1 at angle $\Delta$,
mean exponential loss, outer weights fixed at $\pm\kappa_2/\sqrt m$, inner weights from zero.
$c = \cos\Delta$, $A = \pi_+ e^{-f_+}$ and $B = \pi_- e^{f_-}$ with $\pi_+ = p/(1+p)$ and
$\pi_- = 1/(1+p)$, $R = A/B$, $\gamma_\pm = \kappa_2^2 m_\pm/m$ for $m_\pm$ living neurons,
$\alpha = \gamma_-/\gamma_+$. Everything below is exact for neurons condensed at zero; a start
at scale $\kappa_1$ changes outputs by order $\kappa_1\kappa_2$.

**Positives active on both points, negatives sliding on $x_+^\perp$** (`Approach`).
$f_+' = \gamma_+(A - Bc)$, $f_-' = \gamma_+(Ac - B) - \gamma_- B\sin^2\Delta$. Since
$R = p\,e^{-f_+ - f_-}$,

$$R' = -(1+c)\gamma_+ B R\,(R - \rho), \qquad \rho = 1 + \alpha(1 - c):$$

$R = \rho$ is invariant, and attracts. Dividing $f_+'$ and $z' = \gamma_+(Ac - B)$ by $R'$ and
integrating partial fractions from $R_0$, with $x = \ln\frac{R-\rho}{R_0-\rho} \le 0$,

$$(1+c)\,\Delta f_+ = -\tfrac c\rho \ln\tfrac R{R_0} - \bigl(1 - \tfrac c\rho\bigr) x, \qquad
  (1+c)\,\Delta z = -\tfrac1\rho \ln\tfrac R{R_0} + \bigl(\tfrac1\rho - c\bigr) x .$$

Time follows from $(e^{f_+})' = \gamma_+\pi_+(1 - c/R)$, which tends to
$s = \gamma_+\pi_+(1 - c/\rho) = (\gamma_+ + \gamma_-)\pi_+(1-c)/\rho$; the rest integrates to

$$e^{f_+} - e^{f_+(0)} - s\,t = \tfrac{c}{\rho(1+c)} \int_R^{R_0} e^{f_+}\,\tfrac{dR}R,$$

with $e^{f_+} \propto R^{-a}|R-\rho|^{-b}$, $a = \frac{c}{\rho(1+c)}$, $b = \frac{1-c/\rho}{1+c}$:
an incomplete beta function of $1 - \rho/R$.

**The end of the plateau.** $z = 0$ again exists if and only if $\rho c < 1$, that is
$\alpha c < 1$, since $1 - \rho c = (1-c)(1-\alpha c)$. There $x$ is so low that $R = \rho$ but
for $(\rho/p)^{1/((1-c)(1-\alpha c))}$, and the two relations give
$e^{f_+(t_3)} = (p/\rho)^{1/(1-\alpha c)}$: the exponent recalled from Wang and Ma, here at any
angle.

**Both slide.** $e^{f_+}$ and $e^{-f_-}$ are linear in time with slopes
$\gamma_\pm\pi_\pm\sin^2\Delta$; $R \to \alpha$; $L\,t \to (1/\gamma_+ + 1/\gamma_-)/\sin^2\Delta$.

**Negatives on both, positives sliding.** The first case with the classes' roles exchanged:
$R \to 1/R$, $\alpha \to 1/\alpha$, from $R = c$. Hence $R \to r$ with $1/r = 1 + (1-c)/\alpha$.

A branch "$\alpha c > 1$: positives leave their slide" does not exist from this start: $R$ is
$\rho$ when they would begin it, and $\rho c < 1$ is needed for that; so they never do.

Source:
    After Wang, Ma, "Understanding Multi-phase Optimization Dynamics and Rich Nonlinear
    Behaviors of ReLU Networks" (2023), re-derived.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...._types import FloatScalarLike
from .points import TwoPoints

_HALVINGS = 200
_FOLDS = 40.0  # beyond that an exponential is below rounding
_PANELS = 16
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)


def bisect(function: Callable, low, high) -> Float[Array, ""]:
    """Return where a function changes from negative to positive, to rounding.

    The function is negative at `low` and positive at `high`, whichever of these is larger.

    Source:
        This package; what is sought along a `Course` has no closed form.
    """

    def halve(_, ends):
        low, high = ends
        middle = 0.5 * (low + high)
        below = function(middle) < 0
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    low, high = jax.lax.fori_loop(0, _HALVINGS, halve, (low, high))
    return 0.5 * (low + high)


class Approach(eqx.Module):
    r"""One kind active on both points, the other sliding: $R$ approaches $\rho$.

    Written for positives active; for negatives exchange the classes. The state is a
    function of $x = \ln|(R - \rho)/(R_0 - \rho)|$, from 0 down to minus infinity.

    Attributes:
        points: The constants, of the exchanged classes where they are.
        start: Time of the start.
        margin: The active kind's margin at the start ($f_+$, or $-f_-$ if exchanged).
        ratio: $R$ at the start ($1/R$ if exchanged), above $c$.

    Source:
        After Wang, Ma (2023), re-derived at the head of this file.
    """

    points: TwoPoints
    start: Float[Array, ""]
    margin: Float[Array, ""]
    ratio: Float[Array, ""]

    @property
    def slope(self) -> Float[Array, ""]:
        """Return the rate at which the exponential of the margin grows in the end.

        Source:
            This package; $s$ at the head of this file.
        """
        q = self.points
        return q.gamma_plus * (1 + q.alpha) * q.share_plus * q.versed / q.rho

    def ratio_at(self, x) -> Float[Array, " *nodes"]:
        """Return $R$ ($1/R$ if exchanged) at $x$, which may be of any shape.

        Source:
            This package; the definition of $x$.
        """
        return self.points.rho + (self.ratio - self.points.rho) * jnp.exp(x)

    def margin_at(self, x) -> Float[Array, " *nodes"]:
        r"""Return the active kind's margin at $x$, which may be of any shape.

        Source:
            This package; the relation for $\Delta f_+$ at the head of this file.
        """
        q = self.points
        fall = jnp.log(self.ratio / self.ratio_at(x))
        # rho - c = (1 - c)(1 + alpha)
        gain = q.cosine * fall - q.versed * (1 + q.alpha) * x
        return self.margin + gain / (q.rho * (1 + q.cosine))

    def other_margin_at(self, x) -> Float[Array, ""]:
        r"""Return the margin of the other class ($-f_-$, or $f_+$ if exchanged) at $x$.

        Source:
            This package; from $R = p\,e^{-f_+ - f_-}$.
        """
        return self.margin_at(x) + jnp.log(self.ratio_at(x) / self.points.heavy)

    def lean_at(self, x) -> Float[Array, ""]:
        r"""Return how far the active kind's output at the other point has moved since the start.

        It counts positive with the active kind's sign: $z$, or $y$ of `Outputs` if exchanged.

        Source:
            This package; the relation for $\Delta z$ at the head of this file.
        """
        q = self.points
        fall = jnp.log(self.ratio / self.ratio_at(x))
        # 1 - rho c = (1 - c)(1 - alpha c)
        gain = fall + q.versed * (1 - q.alpha * q.cosine) * x
        return gain / (q.rho * (1 + q.cosine))

    def time_at(self, x) -> Float[Array, ""]:
        r"""Return the time at $x$.

        Source:
            This package; the integral of $(e^{f_+})'$ at the head of this file.
        """
        q = self.points
        grown = jnp.exp(self.margin_at(x)) - jnp.exp(self.margin)
        a = q.cosine / (q.rho * (1 + q.cosine))
        return self.start + (grown - a * self._excess(x)) / self.slope

    def _excess(self, x) -> Float[Array, ""]:
        r"""Return $\int_R^{R_0} e^{f_+} dR/R = \int_x^0 e^{f_+}(R - \rho)/R\,dx$ by Gauss's rule.

        The integrand decays as $e^{(1-b)x}$, and is analytic but for $R = 0$, at a distance of
        at least $\pi$: panels of a length of two or three are resolved to rounding.
        """
        q = self.points
        decay = q.cosine * (1 + 1 / q.rho) / (1 + q.cosine)
        x = jnp.maximum(x, -_FOLDS / decay)
        panel = jnp.arange(_PANELS, dtype=x.dtype)[:, None]
        node = x * (panel + 0.5 + 0.5 * _NODES[None]) / _PANELS
        ratio = self.ratio_at(node)
        values = jnp.exp(self.margin_at(node)) * (ratio - q.rho) / ratio
        return -x / (2 * _PANELS) * jnp.sum(values * _WEIGHTS[None])

    def at_time(self, t) -> Float[Array, ""]:
        """Return $x$ at a time from the start on.

        Source:
            This package; the inverse of `time_at`, by bisection.
        """
        q = self.points
        fastest = q.gamma_plus * q.share_plus
        growth = jnp.log1p(fastest * (t - self.start) * jnp.exp(-self.margin))
        c, turn = q.cosine, jnp.abs(jnp.log(self.ratio / q.rho))
        lowest = -(q.rho * (1 + c) * growth + c * turn) / (q.versed * (1 + q.alpha)) - 1
        return bisect(lambda x: t - self.time_at(x), lowest, jnp.zeros_like(lowest))


class Course(eqx.Module):
    r"""The whole flow from condensed neurons at zero, in closed form.

    Times are in units of gradient-flow time of the mean loss; `inf` if never, `nan` if
    $p\cos\Delta \le 1$.

    Attributes:
        points: The constants.
        escape: When $f_- = 0$ again; `inf` if it never was positive.
        deactivation: $t_3$, when the positives reach $x_-^\perp$ and slide.
        reactivation: $t_4$, when the negatives leave $x_+^\perp$.
        plus_margin: $f_+(t_3)$.
        minus_margin: $-f_-(t_3)$.

    Source:
        After Wang, Ma (2023), phases II to IV, re-derived at the head of this file.
    """

    points: TwoPoints
    escape: Float[Array, ""]
    deactivation: Float[Array, ""]
    reactivation: Float[Array, ""]
    plus_margin: Float[Array, ""]
    minus_margin: Float[Array, ""]

    def __init__(self, points: TwoPoints):
        self.points = jax.tree.map(lambda v: jnp.asarray(v, float), points)
        found = _landmarks(self.points)
        self.escape, self.deactivation, self.reactivation = found[:3]
        self.plus_margin, self.minus_margin = found[3:]

    def plateau(self, nearness: FloatScalarLike = 0.01) -> Float[Array, ""]:
        r"""Return when A/B has come within a share `nearness` of $\rho$ (0 if it begins there).

        Source:
            This package; A/B reaches $\rho$ only in the limit, so that entry needs a threshold.
        """
        return _near(self.points, jnp.asarray(nearness, float))

    def at(self, t: FloatScalarLike) -> "Outputs":
        """Return the outputs at a time from 0 on; `jax.vmap` over it for many.

        Source:
            This package; the closed forms at the head of this file.
        """
        return _outputs(self, jnp.asarray(t, float))

    def slid(self, t) -> tuple[Float[Array, ""], Float[Array, ""]]:
        r"""Return $f_+$ and $-f_-$ while both kinds slide: from $t_3$ to $t_4$.

        Source:
            This package; "Both slide" at the head of this file.
        """
        q = self.points
        passed = q.sine2 * (t - self.deactivation)
        plus = jnp.exp(self.plus_margin) + q.gamma_plus * q.share_plus * passed
        minus = jnp.exp(self.minus_margin) + q.gamma_minus * q.share_minus * passed
        return jnp.log(plus), jnp.log(minus)


@eqx.filter_jit
def _landmarks(q: TwoPoints) -> tuple[Float[Array, ""], ...]:
    """Return the times of a `Course`, and both margins at the second."""
    c, first = q.cosine, _first(q)
    valid = jnp.asarray(q.heavy) * c > 1
    span = jnp.abs(jnp.log(q.heavy / q.rho))
    lowest = -(1 + c) * q.rho * span / (q.versed * (1 + q.alpha)) - 1
    top = _level(first, (1 + q.alpha * q.sine2) / c)
    escape = bisect(first.other_margin_at, top, lowest)
    rises = q.heavy * c > 1 + q.alpha * q.sine2
    escape = jnp.where(rises, first.time_at(escape), jnp.inf)
    ends = q.alpha * c < 1
    short = jnp.where(ends, q.versed * (1 - q.alpha * c), 1.0)
    x = bisect(lambda x: -first.lean_at(x), _level(first, 1 / c), -span / short - 1)
    time = jnp.where(ends, first.time_at(x), jnp.inf)
    plus, minus = first.margin_at(x), first.other_margin_at(x)
    closing = q.sine2 * q.share_plus * (q.gamma_plus * c - q.gamma_minus)
    last = time + (q.heavy * jnp.exp(minus) - c * jnp.exp(plus)) / closing
    last = jnp.where(q.alpha < c, last, jnp.inf)
    times = [jnp.where(valid, t, jnp.nan) for t in (escape, time, last)]
    return (*times, plus, minus)


class Outputs(eqx.Module):
    """The state at a time.

    Attributes:
        plus: $f_+$.
        minus: $f_-$.
        lean: $z$, what the positives contribute at $x_-$.
        turn: $y$, what the negatives take away at $x_+$.
        heavy: $A$.
        light: $B$; their sum is the mean loss.

    Source:
        This package's notation (see the head of this file).
    """

    plus: Float[Array, ""]
    minus: Float[Array, ""]
    lean: Float[Array, ""]
    turn: Float[Array, ""]
    heavy: Float[Array, ""]
    light: Float[Array, ""]


@eqx.filter_jit
def _near(q: TwoPoints, nearness: Float[Array, ""]) -> Float[Array, ""]:
    """Return when A/B has come near its value on the plateau."""
    first = _first(q)
    x = jnp.minimum(jnp.log(nearness * q.rho / jnp.abs(q.heavy - q.rho)), 0.0)
    return jnp.where(q.heavy * q.cosine > 1, first.time_at(x), jnp.nan)


@eqx.filter_jit
def _outputs(course: Course, t: Float[Array, ""]) -> Outputs:
    q = course.points
    first = _first(q)
    x = first.at_time(jnp.minimum(t, course.deactivation))
    outputs = (first.margin_at(x), first.other_margin_at(x), first.lean_at(x), 0.0)
    slid = course.slid(t)
    outputs = _choose(t > course.deactivation, (*slid, 0.0, 0.0), outputs)
    margin = course.slid(course.reactivation)[1]
    late = Approach(_exchanged(q), course.reactivation, margin, 1 / q.cosine)
    y = late.at_time(jnp.maximum(t, course.reactivation))
    turned = (late.other_margin_at(y), late.margin_at(y), 0.0, late.lean_at(y))
    plus, minus, lean, turn = _choose(t > course.reactivation, turned, outputs)
    missing = jnp.isnan(course.deactivation)
    heavy, light = q.share_plus * jnp.exp(-plus), q.share_minus * jnp.exp(-minus)
    found = Outputs(plus, -minus, lean, turn, heavy, light)
    return jax.tree.map(lambda leaf: jnp.where(missing, jnp.nan, leaf), found)


def _first(points: TwoPoints) -> Approach:
    zero = jnp.zeros(())
    return Approach(points, zero, zero, jnp.asarray(points.heavy, float))


def _exchanged(points: TwoPoints) -> TwoPoints:
    heavy = 1 / jnp.asarray(points.heavy)
    return TwoPoints(heavy, points.angle, points.gamma_minus, points.gamma_plus)


def _level(approach: Approach, ratio) -> Float[Array, ""]:
    """Return $x$ where $R$ has a value, zero if it starts beyond."""
    rho = approach.points.rho
    return jnp.log(jnp.clip((ratio - rho) / (approach.ratio - rho), 1e-300, 1.0))


def _choose(condition, new, old):
    return tuple(jnp.where(condition, a, b) for a, b in zip(new, old, strict=True))

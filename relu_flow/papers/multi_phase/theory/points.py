r"""Two clusters at an acute angle: constants, who lives, and who slides with what weight.

For the setting and the notation see `course.py`.

Source:
    After Wang, Ma, "Understanding Multi-phase Optimization Dynamics and Rich Nonlinear
    Behaviors of ReLU Networks" (2023), re-derived.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ...._types import FloatScalarLike


class TwoPoints(eqx.Module):
    r"""The constants of the two-point problem.

    Attributes:
        heavy: $p$, the weight of $x_+$ for one of $x_-$; $p\cos\Delta > 1$ is assumed by
            every time below, which are `nan` otherwise.
        angle: $\Delta$ in $(0, \pi/2)$, radians.
        gamma_plus: $\gamma_+ = \kappa_2^2 m_+/m$.
        gamma_minus: $\gamma_- = \kappa_2^2 m_-/m$.

    Source:
        After Wang, Ma (2023); the setting is recalled, not quoted.
    """

    heavy: FloatScalarLike
    angle: FloatScalarLike
    gamma_plus: FloatScalarLike
    gamma_minus: FloatScalarLike

    @property
    def cosine(self) -> Float[Array, ""]:
        r"""Return $c = \cos\Delta$.

        Source:
            This package's notation.
        """
        return jnp.cos(self.angle)

    @property
    def versed(self) -> Float[Array, ""]:
        r"""Return $1 - c$, without cancellation at small angles.

        Source:
            This package's notation.
        """
        return 2 * jnp.sin(jnp.asarray(self.angle) / 2) ** 2

    @property
    def sine2(self) -> Float[Array, ""]:
        r"""Return $\sin^2\Delta$.

        Source:
            This package's notation.
        """
        return jnp.sin(self.angle) ** 2

    @property
    def share_plus(self) -> Float[Array, ""]:
        r"""Return $\pi_+ = p/(1+p)$, the share of the positive class.

        Source:
            This package's notation.
        """
        return jnp.asarray(self.heavy) / (1 + jnp.asarray(self.heavy))

    @property
    def share_minus(self) -> Float[Array, ""]:
        r"""Return $\pi_- = 1/(1+p)$, the share of the negative class.

        Source:
            This package's notation.
        """
        return 1 / (1 + jnp.asarray(self.heavy))

    @property
    def alpha(self) -> Float[Array, ""]:
        r"""Return $\alpha = \gamma_-/\gamma_+ = m_-/m_+$.

        Source:
            After Wang, Ma (2023), recalled, not quoted.
        """
        return jnp.asarray(self.gamma_minus) / jnp.asarray(self.gamma_plus)

    @property
    def rho(self) -> Float[Array, ""]:
        r"""Return $\rho = 1 + \alpha(1 - c)$, the value of A/B on the plateau.

        Source:
            This package; derived in `course.py`.
        """
        return 1 + self.alpha * self.versed

    @property
    def limit_ratio(self) -> Float[Array, ""]:
        r"""Return the limit of A/B: $\alpha/(1-c+\alpha)$, $\alpha$ or $\rho$, by the branch.

        It is also the ratio of the multipliers $\lambda_+/\lambda_-$ of the limit as a KKT
        point of "minimise $\frac12\|b\|^2$ subject to margins of at least one".

        Source:
            This package; the limits are derived in `course.py`.
        """
        late = self.alpha / (self.versed + self.alpha)
        slides = jnp.where(self.alpha * self.cosine < 1, self.alpha, self.rho)
        return jnp.where(self.alpha < self.cosine, late, slides)

    @property
    def limit_margin(self) -> Float[Array, ""]:
        r"""Return the limit of the margin over the norm of all inner weights.

        At a KKT point (see `limit_ratio`) $\|b\|^2 = \lambda_+ + \lambda_-$. The class whose
        own neurons alone are active on it ($x_-$ sees negatives alone if $\alpha c < 1$) has margin
        $\gamma_-(\lambda_- - \lambda_+ c) = 1$ if the negatives are active on both points,
        $\gamma_-\lambda_-\sin^2\Delta = 1$ if they slide too; else, mirrored,
        $\gamma_+(\lambda_+ - \lambda_- c) = 1$.

        Source:
            This package; derived above.
        """
        r, c = self.limit_ratio, self.cosine
        late = self.gamma_minus * (1 - r * c) / (1 + r)
        slides = self.gamma_minus * self.sine2 / (1 + r)
        early = self.gamma_plus * (1 - c / r) * r / (1 + r)
        slides = jnp.where(self.alpha * c < 1, slides, early)
        return jnp.sqrt(jnp.where(self.alpha < c, late, slides))


def survival_angle(heavy: FloatScalarLike, angle: FloatScalarLike) -> Float[Array, ""]:
    r"""Return $\theta_0 = \arctan(\sin\Delta/(p - c))$: of $p x_+ - x_-$ beyond $x_+$.

    In radians, measured away from $x_-$; it decides which negative neurons live.

    Source:
        This package; derived in `living_fractions`.
    """
    return jnp.arctan2(jnp.sin(angle), jnp.asarray(heavy) - jnp.cos(angle))


def living_fractions(
    heavy: FloatScalarLike, angle: FloatScalarLike
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    r"""Return the expected shares $m_+/m$ and $m_-/m$ that live, for isotropic weights.

    Half of the neurons have either sign. With $f = 0$ a positive neuron lives if and only
    if it is active on $x_+$ (see `survives`): a half plane. A negative one that is active on
    both moves against $p x_+ - x_-$ and lives if it meets $x_+^\perp$ first: its angle from
    $x_+$ towards $x_-$ is in $(-\theta_0, \Delta + \pi/2)$, out of $2\pi$. The ratio of the
    two expectations is $\alpha = \frac12 + (\Delta + \theta_0)/\pi$. For $pc > 1$.

    Source:
        This package; derived above.
    """
    lives = jnp.asarray(angle) + jnp.pi / 2 + survival_angle(heavy, angle)
    return jnp.asarray(0.25), lives / (4 * jnp.pi)


def survives(
    heavy: FloatScalarLike,
    angle: FloatScalarLike,
    positive: Bool[Array, " width"],
    on_plus: Float[Array, " width"],
    on_minus: Float[Array, " width"],
) -> Bool[Array, " width"]:
    r"""Return which neurons live, from signs and initial preactivations at $x_+$, $x_-$.

    With $f = 0$ and $pc > 1$, positives: active on $x_+$, $\langle b, x_-\rangle$ grows and
    both stay; on $x_-$ alone, it falls until nothing is active. Negatives: on $x_-$ alone
    they drift to $x_+^\perp$ and slide; on $x_+$ alone they die; on both,
    $\langle b, x_+\rangle$ falls at a rate $\propto p - c$, $\langle b, x_-\rangle$ at
    $pc - 1$, and they live if the former is first.

    Source:
        This package; derived above.
    """
    c = jnp.cos(angle)
    first = on_plus * (heavy * c - 1) < on_minus * (heavy - c)
    return jnp.where(positive, on_plus > 0, (on_minus > 0) & ((on_plus <= 0) | first))


def side_rates(
    cosine: FloatScalarLike, ratio: FloatScalarLike
) -> dict[str, tuple[Float[Array, ""], Float[Array, ""]]]:
    r"""Return the speeds of the preactivation on either side of each hyperplane.

    In units of $\kappa_2 B/\sqrt m$, for a neuron active on the other class's point; the
    first of a pair on the inactive side, the second on the active one. Both positive: it
    crosses and is active; both negative: it dies; towards each other: it slides; apart: it
    repels. With an output layer that is trained, balanced, its sign kept, all speeds are
    multiplied by the same factor: the same neurons slide with the same weights.

    Args:
        cosine: $c$.
        ratio: $R = A/B$.

    Returns:
        For "positive on x+", "positive on x-", "negative on x+", "negative on x-".

    Source:
        This package; the gradient flow of `course.py` on either side, after Filippov.
    """
    c, r = jnp.asarray(cosine), jnp.asarray(ratio)
    return {
        "positive on x+": (-c, r - c),
        "positive on x-": (r * c, r * c - 1),
        "negative on x+": (c, c - r),
        "negative on x-": (-r * c, 1 - r * c),
    }


def slide_weights(
    cosine: FloatScalarLike, ratio: FloatScalarLike
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    r"""Return the share of $x_+$ that sliding negatives take, and of $x_-$ positives: c/R, Rc.

    Filippov's weight is (inactive side's speed)/(its difference from the active side's),
    of `side_rates`. A slide needs a weight below one. The speed along the hyperplane is
    $\kappa_2/\sqrt m$ times $B\sin\Delta$ and $A\sin\Delta$.

    Source:
        This package; Filippov's rule for the speeds of `side_rates`.
    """
    rates = side_rates(cosine, ratio)
    inactive, active = rates["negative on x+"]
    inactive_, active_ = rates["positive on x-"]
    return inactive / (inactive - active), inactive_ / (inactive_ - active_)


def escape_time_small_angle(points: TwoPoints) -> Float[Array, ""]:
    r"""Return $2(1+p)(1-p^{-1/2})/(\Gamma\Delta^2)$, where $\Gamma = \gamma_+ + \gamma_-$.

    The time of escape to relative order $\Delta^2$: from $e^{f_+} = \sqrt p + s t$ on the
    plateau, $s \approx \Gamma\pi_+\Delta^2/2$, and $e^{f_+} = p$ at escape.

    Source:
        After Wang, Ma (2023), phase II, re-derived.
    """
    total = points.gamma_plus + points.gamma_minus
    p, angle = jnp.asarray(points.heavy), jnp.asarray(points.angle)
    return 2 * (1 + p) * (1 - p**-0.5) / (total * angle**2)


def deactivation_time_small_angle(points: TwoPoints) -> Float[Array, ""]:
    r"""Return $2\frac{1+p}p(p^{1/(1-\alpha c)} - p^{1/2})/(\Gamma\Delta^2)$.

    $t_3$ to relative order $\Delta^2/(1-\alpha c)$, from $e^{f_+} = \sqrt p + s t$ on the plateau
    and its value at $t_3$ with $\rho = 1$. `inf` if $\alpha c \ge 1$.

    Source:
        After Wang, Ma (2023), phase III, re-derived.
    """
    total = points.gamma_plus + points.gamma_minus
    p, angle = jnp.asarray(points.heavy), jnp.asarray(points.angle)
    power = p ** (1 / jnp.maximum(1 - points.alpha * points.cosine, 0.0))
    return 2 * (1 + p) / p * (power - jnp.sqrt(p)) / (total * angle**2)

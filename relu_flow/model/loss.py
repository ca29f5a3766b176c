"""Losses: their value, their pull, and the recurrence of the pull's power series.

The *pull* of a sample is minus the derivative of its loss by the network's output.
Everything here is for one sample; problems multiply by their reduction's constant.
"""

import abc
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._series import product_term, put


class AbstractLoss(eqx.Module):
    """A loss of one real output and one real target, with analytic pull."""

    binary: eqx.AbstractClassVar[bool]

    @abc.abstractmethod
    def value(
        self, prediction: Float[Array, " *batch"], target: Float[Array, " *batch"]
    ) -> Float[Array, " *batch"]:
        """Return the loss."""

    @abc.abstractmethod
    def pull(
        self, prediction: Float[Array, " *batch"], target: Float[Array, " *batch"]
    ) -> Float[Array, " *batch"]:
        """Return minus the derivative of the loss by the prediction."""

    @abc.abstractmethod
    def curvature(
        self, prediction: Float[Array, " *batch"], target: Float[Array, " *batch"]
    ) -> Float[Array, " *batch"]:
        """Return the second derivative of the loss by the prediction."""

    def pull_after(
        self,
        prediction: Float[Array, " *batch"],
        change: Float[Array, " *batch"],
        target: Float[Array, " *batch"],
    ) -> Float[Array, " *batch"]:
        """Return the pull once the prediction has changed, for changes known to their digits."""
        return self.pull(prediction + change, target)

    def pull_change(
        self,
        prediction: Float[Array, " *batch"],
        change: Float[Array, " *batch"],
        target: Float[Array, " *batch"],
    ) -> Float[Array, " *batch"]:
        """Return by how much the pull changes with the prediction, to all digits of that.

        Infinite where that is not known: then what small changes of outputs do to pulls that cancel
        is known to the digits of these pulls only.
        """
        del change, target
        return jnp.full_like(prediction, jnp.inf)

    @abc.abstractmethod
    def pull_term(
        self,
        m: Int[Array, ""],
        prediction: Float[Array, "order samples"],
        pull: Float[Array, "order samples"],
        memory: Float[Array, "order samples"],
        target: Float[Array, " samples"],
    ) -> tuple[Float[Array, " samples"], Float[Array, "order samples"]]:
        """Return coefficient `m >= 1` of the pull's power series in time.

        Args:
            m: Which coefficient.
            prediction: Coefficients of the outputs, known up to `m`, zero beyond.
            pull: Coefficients of the pull, known up to `m - 1`, zero beyond.
            memory: What this method returned for `m - 1`; from `first_memory` for 1.
            target: Targets.

        Returns:
            The coefficient and the memory for `m + 1`.
        """

    @abc.abstractmethod
    def first_memory(
        self, pull: Float[Array, "order samples"], target: Float[Array, " samples"]
    ) -> Float[Array, "order samples"]:
        """Return the memory that `pull_term` starts from; `pull` holds coefficient 0."""


def _derivative_product(m, prediction, factor):
    r"""Coefficient $m$ of $\int f' q\,dt$: $\frac1m\sum_{l=1}^m l f_l q_{m-l}$."""
    order = jnp.arange(prediction.shape[0], dtype=prediction.dtype)[:, None]
    return product_term(order * prediction, factor, m) / m


class ExponentialLoss(AbstractLoss):
    r"""The exponential loss $e^{-yf}$, for targets $y = \pm1$."""

    binary: ClassVar[bool] = True

    def value(self, prediction, target):
        """Return the loss."""
        return jnp.exp(-target * prediction)

    def pull(self, prediction, target):
        r"""Return $y e^{-yf}$."""
        return target * jnp.exp(-target * prediction)

    def curvature(self, prediction, target):
        r"""Return $y^2 e^{-yf}$."""
        return target * target * jnp.exp(-target * prediction)

    def pull_change(self, prediction, change, target):
        r"""Return $g\,(e^{-yh} - 1)$ for a change $h$."""
        return self.pull(prediction, target) * jnp.expm1(-target * change)

    def pull_term(self, m, prediction, pull, memory, target):
        r"""Return $g_m$ from $g' = -y f' g$."""
        return -target * _derivative_product(m, prediction, pull), memory

    def first_memory(self, pull, target):
        """Return zeros: nothing needs to be remembered."""
        del target
        return jnp.zeros_like(pull)


class LogisticLoss(AbstractLoss):
    r"""The logistic loss $\log(1 + e^{-yf})$, for targets $y = \pm1$ (no factor 2)."""

    binary: ClassVar[bool] = True

    def value(self, prediction, target):
        """Return the loss."""
        return jax.nn.softplus(-target * prediction)

    def pull(self, prediction, target):
        r"""Return $y\,\mathrm{sigmoid}(-yf)$."""
        return target * jax.nn.sigmoid(-target * prediction)

    def curvature(self, prediction, target):
        r"""Return $y^2 p(1-p)$ with $p = \mathrm{sigmoid}(-yf)$."""
        margin = target * prediction
        return target * target * jax.nn.sigmoid(margin) * jax.nn.sigmoid(-margin)

    def pull_change(self, prediction, change, target):
        r"""Return $-y\tanh\frac{yh}2\,(p(1-p') + p'(1-p))$ for a change $h$, $p'$ after it."""
        before, after = target * prediction, target * (prediction + change)
        p, others = jax.nn.sigmoid(-before), jax.nn.sigmoid(before)
        p_after, others_after = jax.nn.sigmoid(-after), jax.nn.sigmoid(after)
        mixed = p * others_after + p_after * others
        return -target * jnp.tanh(0.5 * target * change) * mixed

    def pull_term(self, m, prediction, pull, memory, target):
        r"""Return $g_m$ from $p' = -y f' p (1-p)$; `memory` holds $q = p(1-p)$."""
        coefficient = -target * target * _derivative_product(m, prediction, memory)
        # q = y g - g^2 for y = +-1; g's own new coefficient enters twice.
        pull = put(pull, m, coefficient)
        memory = put(memory, m, target * coefficient - product_term(pull, pull, m))
        return coefficient, memory

    def first_memory(self, pull, target):
        """Return the series of $q = p(1-p)$, of which coefficient 0 is known."""
        return jnp.zeros_like(pull).at[0].set(pull[0] * (target - pull[0]))


class SquareLoss(AbstractLoss):
    r"""The square loss $(f-y)^2/2$, for real targets."""

    binary: ClassVar[bool] = False

    def value(self, prediction, target):
        """Return the loss."""
        return 0.5 * (prediction - target) ** 2

    def pull(self, prediction, target):
        r"""Return $y - f$."""
        return target - prediction

    def curvature(self, prediction, target):
        """Return one."""
        del target
        return jnp.ones_like(prediction)

    def pull_change(self, prediction, change, target):
        """Return minus the change."""
        del prediction, target
        return -change

    def pull_after(self, prediction, change, target):
        """Return the pull once the prediction has changed, to the digits of what is left."""
        return (target - prediction) - change

    def pull_term(self, m, prediction, pull, memory, target):
        r"""Return $g_m = -f_m$."""
        del pull, target
        return -prediction[m], memory

    def first_memory(self, pull, target):
        """Return zeros: nothing needs to be remembered."""
        del target
        return jnp.zeros_like(pull)


# Under which names studies and commands know them.
LOSSES: dict[str, AbstractLoss] = {
    "exponential": ExponentialLoss(),
    "logistic": LogisticLoss(),
    "square": SquareLoss(),
}

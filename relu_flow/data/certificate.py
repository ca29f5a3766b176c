"""Certificates: what was measured on a data set, and by how much it meets hypotheses."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..model.problem import Problem

Margins = dict[str, Float[Array, ""]]


class AbstractCertificate(eqx.Module):
    """Properties measured on a given problem, and the margins of the hypotheses on it.

    A certificate comes from a check of the problem's numbers, never from what a
    constructor meant to draw. Checks work under `jax.jit` and `jax.vmap`.

    Attributes:
        margins: For each hypothesis, positive if it is met, by how much in units that the
            check states. An equality is met within rounding and its margin is what is left
            of that; a yes or no has the margin 1 or -1.
    """

    margins: eqx.AbstractVar[Margins]

    @property
    def holds(self) -> Bool[Array, ""]:
        """Whether all margins are positive (one that is not a number never is)."""
        return jnp.all(jnp.stack(list(self.margins.values())) > 0)

    @property
    def unmet(self) -> tuple[str, ...]:
        """Names of the hypotheses that are not met; for concrete certificates."""
        return tuple(name for name, margin in self.margins.items() if not margin > 0)


def met(condition: bool | Bool[Array, ""]) -> Float[Array, ""]:
    """Return the margin of a yes or no: 1 or -1."""
    return jnp.where(condition, 1.0, -1.0)


def rounding(problem: Problem) -> float:
    """Return the relative error allowed to inner products, of either axis of the inputs."""
    eps = float(jnp.finfo(problem.inputs.dtype).eps)
    return 8 * max(problem.samples, problem.features) * eps

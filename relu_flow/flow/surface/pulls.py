"""Pulls about a time, each in two parts: what it is without outputs, and what these change.

Where samples pull alike, as integer inputs with labels +1 and -1 do, their pulls cancel along the
normal of another input, and what moves a neuron there is the difference that outputs make. At
small scales that is below the rounding of the pulls, and is lost when they are summed. So the two
parts are summed apart: what the first come to is zero if it is their rounding, whatever the second
come to.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..method.frame import Frame
from ..tolerances import JUDGED, ROUNDING, eps

# Of pulls that outputs have changed by more than such a share, the parts are not told apart: it
# would save no digits, and cost those of residuals that are fitted.
_CHANGED = 1.0 / 16


class Pulls(eqx.Module):
    """Pulls as power series about one or several times.

    Attributes:
        rest: What they are without outputs, 0 where they are not told apart.
        change: What is left of them.
        doubt: Rounding errors of the first coefficients of that.
        reach: For how long the series are meant to hold.
    """

    rest: Float[Array, " samples"]
    change: Float[Array, "order *taken samples"]
    doubt: Float[Array, "judged *taken samples"]
    reach: Float[Array, ""]

    @property
    def total(self) -> Float[Array, "order *taken samples"]:
        """The pulls."""
        return self.change.at[0].add(self.rest)

    @property
    def rounding(self) -> Float[Array, " samples"]:
        """Rounding errors of `rest`."""
        return ROUNDING * eps(self.rest) * jnp.abs(self.rest)


def apart(
    frame: Frame, outputs: Float[Array, " samples"]
) -> tuple[Float[Array, " samples"], Float[Array, " samples"]]:
    """Return the parts of pulls: `Pulls.rest`, and coefficient 0 of `Pulls.change`."""
    none = jnp.zeros_like(outputs)
    rest = frame.pull(none)
    change = frame.pull_change(none, outputs)
    little = jnp.abs(change) < _CHANGED * jnp.abs(rest)
    return jnp.where(little, rest, 0.0), jnp.where(little, change, frame.pull(outputs))


def with_rest(
    pulls: Pulls,
    series: Float[Array, "order ..."],
    error: Float[Array, "judged ..."],
    rest: Float[Array, "..."],
    rounding: Float[Array, "..."],
) -> tuple[Float[Array, "order ..."], Float[Array, "judged ..."]]:
    """Add to a sum of changes what the rests come to, if it is not their rounding; and errors.

    Where the rests cancel, the sum is known no better than its derivatives let it be by the end:
    drives are sums of whole pulls, and what rounding leaves of those is in all the derivatives.
    """
    known = jnp.abs(rest) > rounding
    later = jnp.zeros_like(rounding)
    for m in range(min(error.shape[0], JUDGED) - 1, 0, -1):
        later = (later + error[m]) * pulls.reach
    series = series.at[0].add(jnp.where(known, rest, 0.0))
    return series, error.at[0].add(jnp.where(known, rounding, later))

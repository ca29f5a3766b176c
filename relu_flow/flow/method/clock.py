r"""What time it is within a step: of a power series, or of a step through a tail.

Tails of $1/t$ look the same in every decade. With $\kappa = 1/a$, and time that runs as
$e^{\kappa s}$, what falls as $1/(t + a)$ falls as $e^{-\kappa s}$, and what grows as its logarithm
grows as $s$: polynomials in $s$ reach over a decade, polynomials in $t$ over a twentieth of one.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


def pace(warp: Float[Array, ""], offset: Float[Array, "*offsets"]) -> Float[Array, "*offsets"]:
    """Return how much time goes by per offset, in units."""
    return jnp.exp(warp * offset)


def elapsed(warp: Float[Array, ""], offset: Float[Array, "*offsets"]) -> Float[Array, "*offsets"]:
    """Return the time since a step's start, in units, at an offset."""
    rate = jnp.where(warp > 0, warp, 1.0)
    return jnp.where(warp > 0, jnp.expm1(rate * offset) / rate, offset)


def offset_of(
    warp: Float[Array, ""], elapsed: Float[Array, "*offsets"]
) -> Float[Array, "*offsets"]:
    """Return the offset at a time since a step's start, in units."""
    rate = jnp.where(warp > 0, warp, 1.0)
    return jnp.where(warp > 0, jnp.log1p(rate * elapsed) / rate, elapsed)


class Clock(eqx.Module):
    r"""Times within a step.

    Attributes:
        start: When the step starts.
        unit: Its unit of time.
        warp: $\kappa$, per unit of offset; 0 if offsets are times.
    """

    start: Float[Array, ""]
    unit: Float[Array, ""]
    warp: Float[Array, ""]

    def elapsed(self, offset: Float[Array, "*offsets"]) -> Float[Array, "*offsets"]:
        """Return the time since the start, in units, at an offset."""
        return elapsed(self.warp, offset)

    def offset(self, elapsed: Float[Array, "*offsets"]) -> Float[Array, "*offsets"]:
        """Return the offset at a time since the start, in units."""
        return offset_of(self.warp, elapsed)

    def time(self, offset: Float[Array, "*offsets"]) -> Float[Array, "*offsets"]:
        """Return the time at an offset."""
        return self.start + self.unit * self.elapsed(offset)

    def offset_at(self, time: Float[Array, "*offsets"]) -> Float[Array, "*offsets"]:
        """Return the offset at a time."""
        return self.offset((time - self.start) / self.unit)

    def pace(self, offset: Float[Array, "*offsets"]) -> Float[Array, "*offsets"]:
        """Return how much time goes by per offset, in units."""
        return pace(self.warp, offset)

    def end(self, length: Float[Array, ""], stop: Float[Array, ""]) -> Float[Array, ""]:
        """Return when a step of a length ends: at `stop` if it goes that far."""
        return jnp.where(length >= self.offset_at(stop), stop, self.time(length))

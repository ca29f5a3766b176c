r"""One neuron in constant pulls, both layers trained: where it is at any time, in closed form.

With a constant pattern the drive $G = |G| e$ is constant too, and with
$b = \langle w, e\rangle$ the sums $v \pm b$ grow and shrink as $e^{\pm|G|t}$ while the rest
of $w$ stays. So a preactivation times $u = e^{|G|t}$ is a quadratic in $u$, written here in
$y = u - 1$, which is as accurate for a switch at once as for a late one:

$$u\,z = z_0 + (z_0 + c v)\,y + \tfrac12 c (v + b)\,y^2, \qquad c = \langle e, x\rangle.$$

The limit of vanishing scale goes from switch to switch by it (`reduced/constant_pulls.py`), and
steps of a flow in which the outputs do not move yet (`loop/quiet.py`).
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..._norm import norm

_LOG_2 = float(np.log(2.0))


class Boost(eqx.Module):
    """A neuron along and across its constant drive: what grows, what shrinks, what stays.

    Under `jax.vmap` all of them.

    Attributes:
        inner: Its inner weights at the start.
        outer: Its outer weight there.
        speed: Norm of the drive, in the unit of time.
        unit: Direction of the drive.
        across: Inner weights across it.
        rising: Half of v + b.
        falling: Half of v - b.
    """

    inner: Float[Array, "*width features"]
    outer: Float[Array, "*width"]
    speed: Float[Array, "*width"]
    unit: Float[Array, "*width features"]
    across: Float[Array, "*width features"]
    rising: Float[Array, "*width"]
    falling: Float[Array, "*width"]

    @classmethod
    def of(
        cls,
        inner: Float[Array, " features"],
        outer: Float[Array, ""],
        imbalance: Float[Array, ""],
        drive: Float[Array, " features"],
    ) -> "Boost":
        """Return the boost of a neuron; `imbalance` is v^2 - |w|^2, kept by the flow."""
        speed = norm(drive)
        unit = drive / jnp.where(speed > 0, speed, 1.0)
        along = inner @ unit
        across = inner - along * unit
        across = across - (across @ unit) * unit
        # Where v + b or v - b would cancel, the other and their product are used.
        product = imbalance + across @ across
        plus, minus = outer + along, outer - along
        same = outer * along >= 0
        safe = lambda x: jnp.where(x == 0, 1.0, x)
        rising = jnp.where(same, plus, product / safe(minus))
        falling = jnp.where(same, product / safe(plus), minus)
        nothing = (outer == 0) & (along == 0)
        zero = jnp.zeros_like(speed)
        rising, falling = jnp.where(nothing, zero, rising), jnp.where(nothing, zero, falling)
        return cls(inner, outer, speed, unit, across, 0.5 * rising, 0.5 * falling)

    def first_crossings(
        self,
        sign: Float[Array, " samples"],
        height: Float[Array, " samples"],
        push: Float[Array, " samples"],
    ) -> Float[Array, " samples"]:
        """Return when each hyperplane is met first, `inf` if never.

        Args:
            sign: On which side of each it is.
            height: Preactivations; one on the wrong side counts as on the hyperplane.
            push: Products of the drive with the inputs.
        """
        start = jnp.maximum(sign * height, 0.0)
        cosine = push / jnp.where(self.speed > 0, self.speed, 1.0)
        # Whom nothing pushes keeps its height, however small the share of it in what grows.
        slope = jnp.where(cosine == 0, start, sign * (height + cosine * self.outer))
        y = first_root(sign * cosine * self.rising, slope, start)
        speed = jnp.where(self.speed > 0, self.speed, 1.0)
        return jnp.where(self.speed > 0, jnp.log1p(y) / speed, jnp.inf)

    def height_after(
        self,
        time: Float[Array, ""],
        height: Float[Array, " samples"],
        push: Float[Array, " samples"],
    ) -> Float[Array, " samples"]:
        """Return the preactivations after a time, over e^(|G| t): no number becomes large."""
        cosine = push / jnp.where(self.speed > 0, self.speed, 1.0)
        less = -jnp.expm1(-self.speed * time)
        shrunk = 1.0 - less
        return height * shrunk + cosine * (self.rising + self.falling * shrunk) * less

    def turns(self) -> Float[Array, "*width"]:
        """Return until when the neuron shrinks, 0 if it grows or does neither."""
        ratio = jnp.abs(self.falling) / jnp.where(self.rising == 0, 1.0, jnp.abs(self.rising))
        time = 0.5 * jnp.log(jnp.maximum(ratio, 1.0)) / jnp.where(self.speed > 0, self.speed, 1.0)
        return jnp.where((self.speed > 0) & (self.rising != 0), time, 0.0)

    def after(
        self,
        time: Float[Array, ""],
        height: Float[Array, " samples"],
        push: Float[Array, " samples"],
    ) -> "Arrived":
        """Return where the neuron is after a time."""
        grown = self.speed * time
        log = lambda x: jnp.log2(jnp.abs(x))
        size = norm(self.across)
        logs = (log(self.rising) + grown / _LOG_2, log(self.falling) - grown / _LOG_2, log(size))
        largest = jnp.max(jnp.stack(logs))
        rests = self.speed == 0
        k = jnp.where(jnp.isfinite(largest) & ~rests, jnp.floor(largest), 0.0).astype(jnp.int32)
        shift = k.astype(grown.dtype) * _LOG_2
        rising = self.rising * jnp.exp(grown - shift)
        falling = self.falling * jnp.exp(-grown - shift)
        inner = jnp.ldexp(self.across, -k) + (rising - falling) * self.unit
        reach = jnp.ldexp(size, -k) + jnp.abs(rising) + jnp.abs(falling)
        cosine = push / jnp.where(rests, 1.0, self.speed)
        gained = _gained(self.rising, grown, shift) - _gained(self.falling, -grown, shift)
        moved = jnp.ldexp(height, -k) + cosine * gained
        return Arrived(
            jnp.where(rests, self.inner, inner),
            jnp.where(rests, self.outer, rising + falling),
            jnp.where(rests, height, moved),
            k,
            reach,
        )


class Arrived(eqx.Module):
    """Where a neuron has come to in constant pulls.

    Attributes:
        inner: Inner weights, times a power of two.
        outer: Outer weight, likewise.
        height: Preactivations, likewise.
        exponent: What was taken out: the true numbers are so many powers of two larger.
        reach: The size of the summands of the weights.
    """

    inner: Float[Array, "*width features"]
    outer: Float[Array, "*width"]
    height: Float[Array, "*width samples"]
    exponent: Int[Array, "*width"]
    reach: Float[Array, "*width"]


def first_root(a, b, c):
    """Return the first root of a y^2 + b y + c at which it falls to zero, c being >= 0.

    The formula for it is chosen by the sign of b, so that nothing cancels.
    """
    square = b * b - 4 * a * c
    root = jnp.sqrt(jnp.maximum(square, 0.0))
    falling = (b < 0) & (square >= 0)
    first = 2 * c / jnp.where(falling, root - b, 1.0)
    second = (b + root) / jnp.where(a < 0, -2 * a, 1.0)
    return jnp.where(falling, first, jnp.where((b >= 0) & (a < 0), second, jnp.inf))


def _gained(part, grown, shift):
    """Return `part * (e^grown - 1) e^-shift`, of a long time too."""
    short = jnp.expm1(jnp.clip(grown, -1.0, 1.0)) * jnp.exp(-shift)
    long = jnp.exp(grown - shift) - jnp.exp(-shift)
    return part * jnp.where(jnp.abs(grown) < 1, short, long)

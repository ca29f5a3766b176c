"""Modes: the discrete state of neurons, and how far they are from each hyperplane.

A mode says on which side of every hyperplane a neuron is, or that it slides there.
Preactivations are integrated from velocities and carried along (`Modes.height`): the sign of
one that nothing moves stays as it is, however much its neuron grows.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._norm import norm
from ...model.switch import ACTIVE, INACTIVE, SLIDING, SwitchKind
from ..method.frame import Frame
from ..tolerances import ON_HYPERPLANE, VANISHED, eps


def switch_kind(old: Int[Array, " *shape"], new: Int[Array, " *shape"]) -> Int[Array, " *shape"]:
    """Return the code of `SwitchKind` for a change of mode."""
    from_slide = jnp.where(
        new == ACTIVE, SwitchKind.SLIDE_EXIT_ACTIVE, SwitchKind.SLIDE_EXIT_INACTIVE
    )
    plain = jnp.where(new == ACTIVE, SwitchKind.ACTIVATE, SwitchKind.DEACTIVATE)
    kind = jnp.where(old == SLIDING, from_slide, plain)
    return jnp.where(new == SLIDING, SwitchKind.SLIDE_ENTER, kind).astype(jnp.int8)


def mode_after(kind: Int[Array, " *shape"]) -> Int[Array, " *shape"]:
    """Return the mode that a switch leads to."""
    active = (kind == SwitchKind.ACTIVATE) | (kind == SwitchKind.SLIDE_EXIT_ACTIVE)
    mode = jnp.where(active, ACTIVE, INACTIVE)
    return jnp.where(kind == SwitchKind.SLIDE_ENTER, SLIDING, mode).astype(jnp.int8)


class Modes(eqx.Module):
    """The discrete state of neurons, and how far they are from each hyperplane.

    Of one neuron without the leading axis.

    Attributes:
        side: INACTIVE, ACTIVE or SLIDING for each neuron and sample.
        height: Preactivations of the hyperplanes' representatives, integrated by themselves:
            exactly zero on a hyperplane. Of other samples it says nothing.
        slides: Representatives of the hyperplanes slid on; unused slots hold `samples`.
        dual: Vectors biorthogonal to the slots' inputs; zero for unused slots.
    """

    side: Int[Array, "*width samples"]
    height: Float[Array, "*width samples"]
    slides: Int[Array, "*width slides"]
    dual: Float[Array, "*width slides features"]

    def signs(self, frame: Frame) -> Float[Array, "width samples"]:
        """Return +1 or -1 for the side of each hyperplane, 0 for slides and other samples."""
        sign = jnp.where(self.side == ACTIVE, 1.0, -1.0).astype(self.height.dtype)
        sign = sign * jax.lax.broadcast_to_rank(frame.own.astype(sign.dtype), sign.ndim)
        return jnp.where(self.side == SLIDING, 0.0, sign)


def sides_of(frame: Frame, height: Float[Array, "*width samples"]) -> Int[Array, "*width samples"]:
    """Return the sides of all samples from the heights of their representatives.

    Who is on a hyperplane counts as on its negative side.
    """
    positive = (height > 0)[..., frame.representative]
    along = jax.lax.broadcast_to_rank(frame.factor > 0, positive.ndim)
    return jnp.where(positive == along, ACTIVE, INACTIVE).astype(jnp.int8)


def near_hyperplanes(
    frame: Frame, inner: Float[Array, "width features"]
) -> Bool[Array, "width samples"]:
    """Return which neurons are on which hyperplane, up to rounding of their weights."""
    size = norm(inner)[:, None] * frame.norms[None]
    return jnp.abs(inner @ frame.inputs.T) <= ON_HYPERPLANE * eps(inner) * size


def reconciled(
    frame: Frame,
    modes: Modes,
    height: Float[Array, "width samples"],
    inner: Float[Array, "width features"],
) -> Float[Array, "width samples"]:
    """Return the heights, from the weights where these differ by more than their rounding.

    A small height of a large neuron is better known than its weights can tell. But what was
    rounding once is not any more when a neuron has shrunk; then its weights are right, unless
    they contradict the mode.
    """
    product = inner @ frame.inputs.T
    apart = (
        jnp.abs(product - height) > VANISHED * eps(inner) * norm(inner)[:, None] * frame.norms[None]
    )
    trusted = apart & (height != 0) & (jnp.sign(product) == jnp.sign(height))
    return jnp.where(trusted, product, height)


def entry(
    array: Float[Array, "taken samples"], index: Int[Array, " taken"]
) -> Float[Array, " taken"]:
    """Return one entry a row, the last if there are not as many."""
    column = jnp.minimum(index, array.shape[1] - 1)[:, None]
    return jnp.take_along_axis(array, column, axis=1)[:, 0]

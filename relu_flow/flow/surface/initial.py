"""The modes that a network starts in."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from ...model.switch import ACTIVE, INACTIVE, SLIDING
from ..method.frame import Frame, Neurons
from ..tolerances import ROUNDING, eps
from .constraints import Motion, normal_push
from .modes import Modes, near_hyperplanes, sides_of
from .pulls import Pulls, apart
from .slides import with_dual


def initial_modes(frame: Frame, neurons: Neurons, slots: int) -> tuple[Modes, Int[Array, ""]]:
    """Return the modes at the start, and how many pairs start on a repelling hyperplane.

    A neuron on a hyperplane starts on its inactive side; where that is wrong the first
    step finds it so at once and mends it. A repelling hyperplane is different: both sides
    are right, and so is staying there, which is what is chosen (smallest velocity).
    """
    inner, samples = neurons.inner, frame.inputs.shape[0]
    near = near_hyperplanes(frame, inner)
    height = jnp.where(near, 0.0, inner @ frame.inputs.T)
    # Zero inner weights are on no side: they rest.
    moving = jnp.any(inner != 0, axis=1)[:, None]
    side = jnp.where(moving, sides_of(frame, height), INACTIVE).astype(jnp.int8)
    none = jnp.zeros((inner.shape[0], 0, inner.shape[1]), inner.dtype)
    modes = Modes(side, height, jnp.full(none.shape[:2], samples, jnp.int32), none)
    repelling, pinned = _unstable(frame, neurons, modes, near & frame.own[None])

    staying = repelling[:, frame.representative]
    side = jnp.where(staying, SLIDING, side).astype(jnp.int8)
    find = lambda row: jnp.nonzero(row, size=slots, fill_value=samples)[0]
    slides = jax.vmap(find)(repelling).astype(jnp.int32)
    dual = jnp.zeros((*slides.shape, inner.shape[1]), inner.dtype)
    modes = with_dual(frame, Modes(side, height, slides, dual))
    return modes, jnp.sum(repelling | pinned, dtype=jnp.int32)


def _unstable(frame: Frame, neurons: Neurons, modes: Modes, near: Bool[Array, "width samples"]):
    """Return who is on a hyperplane that pushes it off on both sides, or on the active one."""
    active = (modes.side == ACTIVE).astype(neurons.inner.dtype)
    amplitude = neurons.amplitude(frame.train_outer) * neurons.outer
    outputs = amplitude @ (active * modes.height[:, frame.representative] * frame.factor[None])
    rest, change = apart(frame, outputs)
    doubt = ROUNDING * eps(change) * jnp.abs(change)
    pulls = Pulls(rest, change[None, None], doubt[None, None], jnp.zeros((), change.dtype))
    one, rate = neurons.outer[None], jnp.ones_like(neurons.outer)
    drive = (active * (rest + change)[None]) @ frame.inputs
    push, error, _ = normal_push(frame, modes, Motion(pulls, one, rate, drive[None]))
    positive, negative = frame.group_pulls(rest + change)
    outer, push, error = neurons.outer[:, None], push[0], error[0]
    below = outer * push
    above = outer * (push + ((positive + negative) * jnp.diagonal(frame.gram))[None])
    zero = jnp.abs(outer) * error
    unstable = near & (above > zero)
    return unstable & (below < -zero), unstable & (jnp.abs(below) <= zero)

"""The modes that a network starts in, and the geometry of a given set of slides."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .field import slide_inputs
from .frame import Frame, Neurons
from .switching import ACTIVE, INACTIVE, SLIDING, Modes, near_hyperplanes, rounding


def initial_modes(frame: Frame, neurons: Neurons, slots: int) -> tuple[Modes, Int[Array, ""]]:
    """Return the modes at the start, and how many pairs start on a repelling hyperplane.

    A neuron on a hyperplane starts on its inactive side; where that is wrong the first
    step finds it so at once and mends it. A repelling hyperplane is different: both sides
    are right, and so is staying there, which is what is chosen (smallest velocity).
    """
    inner, samples = neurons.inner, frame.inputs.shape[0]
    near = near_hyperplanes(frame, inner)
    side = jnp.where((inner @ frame.inputs.T > 0) & ~near, ACTIVE, INACTIVE)
    side = side[:, frame.representative]
    side = jnp.where(frame.factor > 0, side, 1 - side).astype(jnp.int8)
    own = frame.representative == jnp.arange(samples)

    active = (side == ACTIVE).astype(inner.dtype)
    amplitude = neurons.amplitude(frame.train_outer) * neurons.outer
    pull = frame.pull(amplitude @ (active * (inner @ frame.inputs.T)))
    drive = (active * pull) @ frame.inputs
    positive, negative = frame.group_pulls(pull)
    outer = neurons.outer[:, None]
    below = outer * (drive @ frame.inputs.T)
    above = below + outer * (positive + negative) * frame.norms**2
    zero = rounding(inner) * jnp.abs(outer) * frame.norms * (jnp.abs(pull) @ frame.norms)
    repelling = near & own & (above > zero) & (below < -zero)
    pinned = near & own & (above > zero) & (jnp.abs(below) <= zero)

    staying = repelling[:, frame.representative]
    side = jnp.where(staying, SLIDING, side).astype(jnp.int8)
    find = lambda row: jnp.nonzero(row, size=slots, fill_value=samples)[0]
    slides = jax.vmap(find)(repelling).astype(jnp.int32)
    dual = jnp.zeros((*slides.shape, inner.shape[1]), inner.dtype)
    modes = with_dual(frame, Modes(side, near, slides, dual))
    return modes, jnp.sum(repelling | pinned, dtype=jnp.int32)


def with_dual(frame: Frame, modes: Modes) -> Modes:
    """Return the modes with the vectors biorthogonal to the inputs slid on, made anew."""
    if modes.slides.shape[1] == 0:
        return modes

    def dual(slides) -> Float[Array, "slides features"]:
        across = slide_inputs(frame, slides)
        unused = jnp.diag((slides >= frame.inputs.shape[0]).astype(across.dtype))
        found = jnp.linalg.solve(across @ across.T + unused, across)
        # One Newton-Schulz step makes up for the squared condition of the normal equations.
        return 2 * found - (found @ across.T) @ found

    sliding = jnp.any(modes.slides < frame.inputs.shape[0])
    made = jax.lax.cond(
        sliding, lambda: jax.vmap(dual)(modes.slides), lambda: jnp.zeros_like(modes.dual)
    )
    return eqx.tree_at(lambda m: m.dual, modes, made)

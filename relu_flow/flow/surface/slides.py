"""The hyperplanes that a neuron slides on: their dual vectors, and who is kept on them."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...model.switch import SLIDING
from ..method.field import slide_inputs
from ..method.frame import Frame
from ..tolerances import DEPENDENT, eps
from .modes import Modes, entry


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


def update_slides(frame: Frame, modes: Modes, r, old, new):
    """Take hyperplane `r` into the slides or out of them; rank-one updates of the dual."""
    samples = frame.inputs.shape[0]
    enters, leaves = (new == SLIDING) & (old != SLIDING), (old == SLIDING) & (new != SLIDING)
    unused = modes.slides == samples
    overflow = enters & ~jnp.any(unused)
    slot = jnp.where(enters, jnp.argmax(unused), jnp.argmax(modes.slides == r.astype(jnp.int32)))
    x, across = frame.inputs[r], slide_inputs(frame, modes.slides)
    # Entering: the new dual vector is x across the old slides (twice, for rounding).
    free = x - across.T @ (modes.dual @ x)
    free = free - modes.dual.T @ (across @ free)
    new_vector = free / jnp.where(free @ x > 0, free @ x, 1.0)
    entered = modes.dual - jnp.outer(modes.dual @ x, new_vector)
    entered = entered.at[slot].set(new_vector)
    # Leaving: the others lose their part along the dual vector that goes.
    gone = modes.dual[slot]
    share = modes.dual @ gone / jnp.where(gone @ gone > 0, gone @ gone, 1.0)
    left = (modes.dual - jnp.outer(share, gone)).at[slot].set(0.0)
    dual = jnp.where(enters, entered, jnp.where(leaves, left, modes.dual))
    slides = jnp.where(
        enters, modes.slides.at[slot].set(r.astype(modes.slides.dtype)), modes.slides
    )
    slides = jnp.where(leaves, modes.slides.at[slot].set(samples), slides)
    # One Newton-Schulz step keeps the dual biorthogonal however often it is updated.
    dual = 2 * dual - (dual @ slide_inputs(frame, slides).T) @ dual
    return slides, dual, overflow


def onto_slides(
    frame: Frame, modes: Modes, inner: Float[Array, "width features"]
) -> Float[Array, "width features"]:
    """Remove what rounding has added to sliding neurons across their hyperplanes."""
    if modes.slides.shape[1] == 0:
        return inner

    def projected(inner):
        across = slide_inputs(frame, modes.slides)
        offset = jnp.einsum("jsd,jd->js", across, inner)
        return inner - jnp.einsum("jsd,js->jd", modes.dual, offset)

    sliding = jnp.any(modes.slides < frame.inputs.shape[0])
    return jax.lax.cond(sliding, projected, lambda inner: inner, inner)


def dependent(frame: Frame, modes: Modes, r: Int[Array, " taken"]) -> Bool[Array, "taken samples"]:
    """Return the inputs in the span of input `r` and of those slid on."""
    size = frame.norms[None] ** 2
    square, product = jnp.broadcast_to(size, modes.side.shape), frame.gram[r]

    def across():
        rows = frame.gram.at[modes.slides].get(mode="fill", fill_value=0.0)
        share = modes.dual @ frame.inputs.T
        at_r = jnp.take_along_axis(share, r[:, None, None], axis=2)
        return square - jnp.sum(share * rows, axis=1), product - jnp.sum(at_r * rows, axis=1)

    if modes.slides.shape[1]:
        sliding = jnp.any(modes.slides < frame.inputs.shape[0])
        square, product = jax.lax.cond(sliding, across, lambda: (square, product))
    free = square > DEPENDENT * eps(square) * size
    left = entry(jnp.where(free, square, jnp.inf), r)[:, None]
    return square - product * (product / left) <= DEPENDENT * eps(square) * size

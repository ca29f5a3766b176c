r"""The vector field with a frozen activation pattern, as Diffrax wants it.

    w_j' = alpha_j v_j G_j,   v_j' = beta_j <w_j, G_j>,   G_j = P_j sum_{i active} g_i x_i

with pulls $g_i$ from the network's outputs, $P_j$ the projector onto the orthogonal
complement of the inputs on whose hyperplanes neuron $j$ slides, $\alpha_j = 1$ (both layers
trained) or the ratio of the layers' scales, and $\beta_j = 1$ or 0. The pattern is part of
the arguments, never read off the weights: the field is smooth, and a step may overshoot a
switch without losing accuracy.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..._norm import norm
from ..tolerances import RENEWED
from .frame import Frame

Weights = tuple[Float[Array, "width features"], Float[Array, " width"]]


class Frozen(eqx.Module):
    """What does not change between switches: the arguments of the vector field.

    Attributes:
        active: 1 where a neuron is active on a sample, 0 where it is not or slides.
        slides: For each neuron the representatives of the hyperplanes it slides on;
            unused slots hold `samples`.
        dual: For each slot the vector biorthogonal to the slots' inputs, in their span;
            zero for unused slots.
        amplitude: Factor of each neuron in the network's output.
        inner_rate: Factor of the inner weights' equation.
        outer_rate: Factor of the outer weights' equation.
    """

    active: Float[Array, "width samples"]
    slides: Int[Array, "width slides"]
    dual: Float[Array, "width slides features"]
    amplitude: Float[Array, " width"]
    inner_rate: Float[Array, " width"]
    outer_rate: Float[Array, " width"]

    def times(self, factor: Float[Array, ""]) -> "Frozen":
        """Return the arguments in a unit of time that is so many times as long."""
        rates = lambda f: (f.inner_rate, f.outer_rate)
        return eqx.tree_at(rates, self, tuple(factor * rate for rate in rates(self)))


class FlowField(eqx.Module):
    """The vector field; `args` is a `Frozen`, the state is `(inner, outer)`."""

    frame: Frame

    def outputs(self, weights: Weights, frozen: Frozen) -> Float[Array, " samples"]:
        """Return the network's outputs at the inputs, the frozen pattern being true."""
        inner, outer = weights
        active = (inner @ self.frame.inputs.T) * frozen.active
        return (frozen.amplitude * outer) @ active

    def moved_by(
        self, weights: Weights, frozen: Frozen, pull: Float[Array, " samples"]
    ) -> Float[Array, " samples"]:
        """Bound how fast pulls of up to a size move the outputs."""
        (inner, outer), frame = weights, self.frame
        driving = frozen.active * pull[None]
        height = jnp.abs(inner @ frame.inputs.T) * frozen.active
        turned = (frozen.inner_rate * outer**2)[:, None] * (driving @ frame.overlap)
        grown = (frozen.outer_rate * jnp.sum(height * pull[None], axis=1))[:, None] * height
        return frozen.amplitude @ (frozen.active * turned + grown)

    def __call__(self, t, y: Weights, args: Frozen) -> Weights:
        """Return the time derivative of the weights."""
        del t
        inner, outer = y
        drive = driven_by(self.frame.pull(self.outputs(y, args)), args, self.frame)
        return (
            (args.inner_rate * outer)[:, None] * drive,
            args.outer_rate * jnp.sum(inner * drive, axis=1),
        )


def driven_by(
    pull: Float[Array, " samples"], frozen: Frozen, frame: Frame
) -> Float[Array, "width features"]:
    """Return the drives of neurons in some pulls, along the hyperplanes that they slide on."""
    return project((frozen.active * pull[None]) @ frame.inputs, frozen, frame)


def project(
    drive: Float[Array, "*order width features"], frozen: Frozen, frame: Frame
) -> Float[Array, "*order width features"]:
    """Take from each neuron's drive the part across the hyperplanes it slides on."""
    if frozen.slides.shape[-1] == 0:
        return drive

    def along(drive):
        weight = jnp.einsum("...jd,jsd->...js", drive, frozen.dual)
        across = slide_inputs(frame, frozen.slides)
        return drive - jnp.einsum("...js,jsd->...jd", weight, across)

    sliding = jnp.any(frozen.slides < frame.inputs.shape[0])
    return jax.lax.cond(sliding, along, lambda drive: drive, drive)


def slide_inputs(
    frame: Frame, slides: Int[Array, "*batch slides"]
) -> Float[Array, "*batch slides features"]:
    """Return the inputs of the slots, zero for unused ones."""
    return frame.inputs.at[slides].get(mode="fill", fill_value=0.0)


def weight_sizes(
    weights: Weights, train_outer: bool
) -> tuple[Float[Array, " width"], Float[Array, " width"]]:
    """Return what changes of the inner and of the outer weights of each neuron are compared with.

    With |v| far above |w| the inner weights are renewed within a step: no use in resolving what
    they were to more digits than v brings in.
    """
    inner, outer = norm(weights[0]), jnp.abs(weights[1])
    return inner + (RENEWED * outer if train_outer else 0.0), outer + inner


def relative_size(
    inner: Float[Array, "order width features"],
    outer: Float[Array, "order width"],
    sizes: tuple[Float[Array, " width"], Float[Array, " width"]],
    train_outer: bool,
) -> Float[Array, "order width"]:
    """Return how large changes of weights are, relative to `weight_sizes` of their neurons."""
    of_inner, of_outer = (jnp.where(size > 0, size, 1.0)[None] for size in sizes)
    relative = norm(inner) / of_inner
    return jnp.maximum(relative, jnp.abs(outer) / of_outer) if train_outer else relative

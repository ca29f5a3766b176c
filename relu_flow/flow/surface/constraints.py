r"""The constraints under which modes are right, as power series.

Each velocity is a sum over the *active* samples of pulls times entries of the Gram matrix
(`normal_push`): nothing is added that has to be taken away again, what is zero by structure
adds nothing, and the sum is compared with its own rounding error.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._norm import norm
from ...model.switch import ACTIVE
from ..method.frame import Frame
from ..tolerances import DEPENDENT, eps
from .modes import Modes
from .pulls import Pulls, with_rest


class Motion(eqx.Module):
    """Neurons moving in known pulls, as power series about their own local time.

    Attributes:
        pulls: The pulls; the axis `taken` is 1 if the time is the same for all.
        outer: Outer weights.
        rate: Factor of the inner weights' equation.
        drive: Sum of active pulls times inputs.
    """

    pulls: Pulls
    outer: Float[Array, "order width"]
    rate: Float[Array, " width"]
    drive: Float[Array, "order width features"]


def constraints(
    frame: Frame, modes: Modes, motion: Motion, product: Callable[..., Array] | None = None
) -> Float[Array, "width constraints order"]:
    """Return polynomials that are non-negative exactly as long as the modes are right.

    Args:
        frame: The problem.
        modes: Which modes.
        motion: How the neurons move with these modes.
        product: How outer weights and pushes are multiplied: as series unless given.

    Returns:
        For each neuron: preactivations times their side's sign, one a sample (zero for
        a slide, and for a sample that another one stands for); then for each slot the
        slide's weight from below, and from above. Leading coefficients that are only
        rounding are zero.
    """
    push, error, along = normal_push(frame, modes, motion)
    product = series_product if product is None else product
    velocity = motion.rate[None, :, None] * product(motion.outer, certain(push, error))
    order = velocity.shape[0]
    count = jnp.arange(1, order, dtype=velocity.dtype)[:, None, None]
    height = jnp.concatenate([modes.height[None], velocity[:-1] / count])
    signed = jnp.moveaxis(height, 0, 2) * modes.signs(frame)[..., None]
    # Who rests on a hyperplane is inactive there: then its velocity is the smallest.
    idle = jnp.all(signed == 0, axis=2) & (modes.side == ACTIVE) & frame.own[None]
    signed = signed.at[..., 0].set(jnp.where(idle, -1.0, signed[..., 0]))
    if modes.slides.shape[1] == 0:
        return signed
    sliding = jnp.any(modes.slides < frame.inputs.shape[0])
    weights = jax.lax.cond(
        sliding,
        lambda: _slide_constraints(frame, modes, motion, along),
        lambda: jnp.zeros((*modes.slides.shape[:1], 2 * modes.slides.shape[1], order), push.dtype),
    )
    return jnp.concatenate([signed, weights], axis=1)


class Along(eqx.Module):
    """The part of drives along the normals of slides, in the two parts that pulls have.

    Attributes:
        change: Of what outputs change, as a series.
        error: Its rounding errors.
        rest: Of what pulls are without outputs.
        rounding: Its rounding errors.
    """

    change: Float[Array, "order width slides"]
    error: Float[Array, "judged width slides"]
    rest: Float[Array, "width slides"]
    rounding: Float[Array, "width slides"]


def normal_push(frame: Frame, modes: Modes, motion: Motion):
    """Return what pushes each neuron along each hyperplane's normal, slides held.

    Returns:
        The push of each pair (times the outer weight it is the preactivation's velocity) and
        its rounding errors; the part of the drive along each slide's normal.
    """
    pulls = motion.pulls
    active = (modes.side == ACTIVE).astype(pulls.change.dtype)
    doubt = active[None] * pulls.doubt
    push, error = (active[None] * pulls.change) @ frame.gram, doubt @ frame.overlap
    rests, roundings = active * pulls.rest[None], active * pulls.rounding[None]
    rest, rounding = rests @ frame.gram, roundings @ frame.overlap
    shape, order = modes.slides.shape, push.shape[0]
    if shape[1] == 0:
        none = jnp.zeros(shape, push.dtype)
        return *with_rest(pulls, push, error, rest, rounding), Along(
            none[None], none[None], none, none
        )

    def held():
        size = norm(modes.dual)
        change = motion.drive.at[0].set((active * pulls.change[0]) @ frame.inputs)
        along = Along(
            jnp.einsum("pjd,jsd->pjs", change, modes.dual),
            (doubt @ frame.norms)[..., None] * size[None],
            jnp.einsum("jd,jsd->js", rests @ frame.inputs, modes.dual),
            (roundings @ frame.norms)[:, None] * size,
        )
        gram, overlap = (
            rows.at[modes.slides].get(mode="fill", fill_value=0.0)
            for rows in (frame.gram, frame.overlap)
        )
        taken = lambda along, rows: jnp.einsum("...js,jsn->...jn", along, rows)
        return (
            *with_rest(
                pulls, push - taken(along.change, gram), error + taken(along.error, overlap),
                rest - taken(along.rest, gram), rounding + taken(along.rounding, overlap),
            ),
            along,
        )  # fmt: skip

    def free():
        none = jnp.zeros(shape, push.dtype)
        zero = lambda rows: jnp.zeros((rows, *shape), push.dtype)
        along = Along(zero(order), zero(error.shape[0]), none, none)
        return *with_rest(pulls, push, error, rest, rounding), along

    return jax.lax.cond(jnp.any(modes.slides < frame.inputs.shape[0]), held, free)


def _slide_constraints(frame: Frame, modes: Modes, motion: Motion, along: Along):
    """Distances of each slide's weight from 0 and 1, times the jump of the pull."""
    pulls = motion.pulls
    of_slides = lambda array: [_at_slides(side, modes.slides) for side in frame.group_pulls(array)]
    (up, down), (up_doubt, down_doubt) = of_slides(pulls.change), of_slides(pulls.doubt)
    (up_rest,), (down_rest,) = of_slides(pulls.rest[None, None])
    (up_rounding,), (down_rounding,) = of_slides(pulls.rounding[None, None])
    sign = jnp.where(up[0] + down[0] + up_rest + down_rest < 0, -1.0, 1.0)
    used = modes.slides < frame.inputs.shape[0]

    def distance(toward, own, doubt, rest, rounding):
        series, error = with_rest(
            pulls, own + toward * along.change, doubt + along.error,
            rest + toward * along.rest, rounding + along.rounding,
        )  # fmt: skip
        return jnp.where(used, _excused(sign[None] * series, error), 0.0)

    below = distance(-1.0, down, down_doubt, down_rest, down_rounding)
    above = distance(1.0, up, up_doubt, up_rest, up_rounding)
    # No active input ever drives it along the hyperplane's normal: the slide is over, at rest.
    idle = (jnp.max(jnp.abs(down), axis=0) == 0) & (down_rest == 0)
    below = jnp.where(used & ~_driven(frame, modes) & idle, -1.0, below)
    return jnp.concatenate([jnp.moveaxis(below, 0, 2), jnp.moveaxis(above, 0, 2)], axis=1)


def slide_doubts(frame: Frame, modes: Modes, motion: Motion) -> Float[Array, "width slides"]:
    """Return by how much the pulls at each slide may be off, on the side where that is more."""
    sides = (_at_slides(side, modes.slides) for side in frame.group_pulls(motion.pulls.doubt))
    return jnp.maximum(*sides)[0]


def _at_slides(array: Float[Array, "order taken samples"], slides: Int[Array, "width slides"]):
    """Return the entries of the slots' samples, zero for unused slots."""
    padded = jnp.pad(array, ((0, 0), (0, 0), (0, 1)))
    spread = jnp.broadcast_to(padded, (array.shape[0], slides.shape[0], padded.shape[2]))
    index = jnp.broadcast_to(slides, (array.shape[0], *slides.shape))
    return jnp.take_along_axis(spread, index, axis=2)


def _driven(frame: Frame, modes: Modes) -> Bool[Array, "width slides"]:
    """Return whether an active input has a part along the slide's normal, by structure."""
    rows = frame.gram.at[modes.slides].get(mode="fill", fill_value=0.0)
    # The dual vectors are combinations of the slides' inputs.
    along = jnp.einsum("jsd,jtd,jtn->jsn", modes.dual, modes.dual, rows, optimize="optimal")
    size = norm(modes.dual)[..., None] * frame.norms[None, None]
    there = jnp.abs(along) > DEPENDENT * eps(along) * size
    return jnp.any(there & (modes.side == ACTIVE)[:, None, :], axis=-1)


def series_product(outer: Float[Array, "order width"], push: Float[Array, "order width samples"]):
    """Multiply the series of the outer weights with those of what they push."""
    order = push.shape[0]
    index = jnp.arange(order)[:, None] - jnp.arange(order)[None]
    toeplitz = jnp.where((index >= 0)[..., None], outer[jnp.maximum(index, 0)], 0.0)
    return jnp.einsum("mlj,ljn->mjn", toeplitz, push)


def certain(
    series: Float[Array, "order ..."], error: Float[Array, "judged ..."]
) -> Float[Array, "order ..."]:
    """Set to zero the coefficients before the first that is more than rounding."""
    return _without(series, jnp.abs(series[: error.shape[0]]) <= error)


def _excused(
    series: Float[Array, "order ..."], error: Float[Array, "judged ..."]
) -> Float[Array, "order ..."]:
    """Set to zero leading coefficients that are negative by no more than rounding.

    Positive ones are kept, however small: they only say that there is a little time left;
    unless they all are rounding.
    """
    first = series[: error.shape[0]]
    nothing = jnp.all(jnp.abs(first) <= error, axis=0)
    return _without(series, (first <= 0) & (first >= -error) | nothing[None])


def _without(series: Float[Array, "order ..."], none: Bool[Array, "judged ..."]):
    """Set to zero the leading coefficients that are `none`; all if no judged one is not."""
    index = jnp.arange(series.shape[0]).reshape(-1, *(1,) * (series.ndim - 1))
    first = jnp.where(jnp.all(none, axis=0), series.shape[0], jnp.argmin(none, axis=0))
    return jnp.where(index < first[None], 0.0, series)

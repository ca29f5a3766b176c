r"""What happens at a hyperplane: cross, slide, repel, die, and leave a slide again.

A *mode* is discrete state: on which side of every hyperplane a neuron is, or that it slides
there. Write $N_-$ and $N_+$ for the velocity of $\langle w_j, x_r\rangle$ with hyperplane $r$
on its negative and on its positive side, the neuron's other slides held. A neuron that
reaches the hyperplane crosses if the velocity beyond points away from it, and slides if it
points back (Filippov's rule). A slide's weight follows from the pulls; the slide ends when
the weight reaches 0 or 1.

Modes that are inconsistent to first order are found as constraints violated at time zero
and mended one hyperplane at a time, lowest index first. That is Murty's principal pivoting
for the linear complementarity problem of several hyperplanes at once, which is finite.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._series import evaluate, powers, shift_matrix
from ..model.switch import ACTIVE, INACTIVE, SLIDING, SwitchKind
from .field import slide_inputs
from .frame import Frame


def switch_kind(old: Int[Array, " *shape"], new: Int[Array, " *shape"]) -> Int[Array, " *shape"]:
    """Return the code of `SwitchKind` for a change of mode."""
    from_slide = jnp.where(
        new == ACTIVE, SwitchKind.SLIDE_EXIT_ACTIVE, SwitchKind.SLIDE_EXIT_INACTIVE
    )
    plain = jnp.where(new == ACTIVE, SwitchKind.ACTIVATE, SwitchKind.DEACTIVATE)
    kind = jnp.where(old == SLIDING, from_slide, plain)
    return jnp.where(new == SLIDING, SwitchKind.SLIDE_ENTER, kind).astype(jnp.int8)


class Modes(eqx.Module):
    """The discrete state of neurons.

    Attributes:
        side: INACTIVE, ACTIVE or SLIDING for each neuron and sample.
        fresh: Whether the neuron is still on that sample's hyperplane, to rounding, and
            `side` tells on which side of it it belongs.
        slides: Representatives of the hyperplanes slid on; unused slots hold `samples`.
        dual: Vectors biorthogonal to the slots' inputs; zero for unused slots.
    """

    side: Int[Array, "width samples"]
    fresh: Bool[Array, "width samples"]
    slides: Int[Array, "width slides"]
    dual: Float[Array, "width slides features"]


class Motion(eqx.Module):
    """Neurons moving in known pulls, as power series about their own local time.

    Attributes:
        inner: Inner weights.
        drive: Drives before projection.
        positive_pull: Pulls on the positive side of each slide's hyperplane.
        negative_pull: Pulls on its negative side.
        speed: Bound of each preactivation's velocity, before projection and on either side
            of the hyperplane, so that a weight of a slide and the velocity after its end
            are told from rounding alike.
        force: Bound of each neuron's drive over the whole step, so that it tells rounding
            from motion also where the drive cancels or passes through zero.
        slide_force: Pull on each slide's hyperplane whose rounding error is the true one.
        horizon: Length of time over which sizes are measured.
    """

    inner: Float[Array, "order width features"]
    drive: Float[Array, "order width features"]
    positive_pull: Float[Array, "order width slides"]
    negative_pull: Float[Array, "order width slides"]
    speed: Float[Array, "width samples"]
    force: Float[Array, " width"]
    slide_force: Float[Array, "width slides"]
    horizon: Float[Array, ""]


def rounding(array: Array) -> float:
    """Return the relative size below which a sum of products is taken for zero."""
    return 256 * float(jnp.finfo(array.dtype).eps)


def constraints(
    frame: Frame, modes: Modes, motion: Motion
) -> Float[Array, "width constraints order"]:
    """Return polynomials that are non-negative exactly as long as the modes are right.

    Args:
        frame: The problem.
        modes: Which modes.
        motion: How the neurons move with these modes.

    Returns:
        For each neuron: preactivations times their side's sign, one a sample (zero for
        a slide, or for a neuron at rest on that hyperplane); then for each slot the
        slide's weight from below, and from above. Leading coefficients that are only
        rounding are set to zero.
    """
    tolerance = rounding(motion.inner)
    sign = jnp.where(modes.side == ACTIVE, 1.0, -1.0) * (modes.side != SLIDING)
    preactivation = jnp.einsum("pjd,nd->jnp", motion.inner, frame.inputs)
    signed = sign[:, :, None] * preactivation
    # A fresh pair starts on its hyperplane, and may leave it tangentially, or rest there.
    size = evaluate(jnp.linalg.norm(motion.inner[1:], axis=-1), motion.horizon)
    zero = tolerance * (size[:, None] * frame.norms + motion.speed)
    leaving = _cleared(signed[..., 1:], zero, motion.horizon)
    leaving = jnp.concatenate([jnp.zeros_like(leaving[..., :1]), leaving], axis=-1)
    signed = jnp.where(modes.fresh[..., None], leaving, signed)
    if modes.slides.shape[1] == 0:
        return signed
    sliding = jnp.any(modes.slides < frame.inputs.shape[0])
    shape = (modes.slides.shape[0], 2 * modes.slides.shape[1], motion.inner.shape[0])
    weights = jax.lax.cond(
        sliding,
        lambda: _slide_constraints(modes, motion, tolerance),
        lambda: jnp.zeros(shape, signed.dtype),
    )
    return jnp.concatenate([signed, weights], axis=1)


def _slide_constraints(modes: Modes, motion: Motion, tolerance: float):
    """Distances of each slide's weight from 0 and 1, times the jump of the pull."""
    along = jnp.einsum("pjd,jsd->jsp", motion.drive, modes.dual)
    positive = jnp.moveaxis(motion.positive_pull, 0, 2)
    negative = jnp.moveaxis(motion.negative_pull, 0, 2)
    jump = positive + negative
    sign = jnp.where(jump[..., :1] < 0, -1.0, 1.0)
    below, above = sign * (negative - along), sign * (positive + along)
    # No drive along the hyperplane's normal for ever: the slide is over, at rest.
    over = lambda series: evaluate(jnp.moveaxis(jnp.abs(series), -1, 0), motion.horizon)
    dual_size = jnp.linalg.norm(modes.dual, axis=-1)
    scale = over(jump) + motion.slide_force + motion.force[:, None] * dual_size
    zero = tolerance * scale
    idle = over(below) <= zero
    # A weight that starts at 0 or 1, as that of a slide entered where the drive passes
    # through zero, is told by its first coefficient that is more than rounding.
    below, above = (_cleared(series, zero, motion.horizon) for series in (below, above))
    below = jnp.where(idle[..., None], -scale[..., None], below)
    used = jnp.any(modes.dual != 0, axis=-1)[..., None]
    return jnp.concatenate([jnp.where(used, below, 0.0), jnp.where(used, above, 0.0)], axis=1)


def _cleared(
    series: Float[Array, "width constraints order"],
    zero: Float[Array, "width constraints"],
    horizon: Float[Array, ""],
) -> Float[Array, "width constraints order"]:
    """Set the coefficients to zero that come before the first that is more than rounding."""
    order = series.shape[-1]
    large = jnp.abs(series) * powers(horizon, order) > zero[..., None]
    first = jnp.where(jnp.any(large, axis=-1), jnp.argmax(large, axis=-1), order)
    return jnp.where(jnp.arange(order) < first[..., None], 0.0, series)


class Change(eqx.Module):
    """One neuron's mode change at one hyperplane.

    Attributes:
        modes: The modes after it (of one neuron).
        drive: Change of the drive's power series, per unit of the representative input.
        representative: The hyperplane, by its representative sample.
        overflow: The neuron would slide on more hyperplanes than there are slots.
        transversality: Normal speed of the hit over its bound; 1 for the end of a slide.
    """

    modes: Modes
    drive: Float[Array, " order"]
    representative: Int[Array, ""]
    overflow: Bool[Array, ""]
    transversality: Float[Array, ""]


def resolve(
    frame: Frame,
    modes: Modes,
    outer: Float[Array, ""],
    drive: Float[Array, " features"],
    force: Float[Array, ""],
    pull: Float[Array, " samples"],
    pull_series: Float[Array, "order samples"],
    pull_floor: Float[Array, " samples"],
    horizon: Float[Array, ""],
    constraint: Int[Array, ""],
) -> Change:
    """Decide what one neuron does when one of its constraints is violated.

    Args:
        frame: The problem.
        modes: Modes of this neuron (fields without their leading axis).
        outer: Its outer weight at the switch.
        drive: Its drive before projection at the switch.
        force: Bound of its drive over the whole step, to tell rounding by.
        pull: The pulls at the switch.
        pull_series: The pulls' power series, from which the change of drive is built.
        pull_floor: Pulls of which rounding errors are what `rounding` says they are.
        horizon: Length of time over which sizes are measured.
        constraint: Index of the violated constraint (see `constraints`).

    Returns:
        The modes after it, and what it changes in the drive.
    """
    samples, slots = frame.inputs.shape[0], modes.slides.shape[0]
    is_hit = constraint < samples
    slot = jnp.where(is_hit, 0, (constraint - samples) % max(slots, 1))
    slid = modes.slides[slot] if slots else constraint
    r = jnp.where(is_hit, frame.representative[jnp.minimum(constraint, samples - 1)], slid)
    members = frame.representative == r
    up = jnp.where(members, jnp.maximum(frame.factor, 0), 0.0)
    down = jnp.where(members, jnp.maximum(-frame.factor, 0), 0.0)
    old = modes.side[r]
    pulls = evaluate(jnp.abs(pull_series) @ (up + down), horizon) + pull_floor @ (up + down)
    size = force + pulls * frame.norms[r]
    hit, speed = _hit_side(frame, modes, outer, drive, size, r, old, pull @ up, pull @ down)
    exit_side = jnp.where(constraint < samples + slots, INACTIVE, ACTIVE)
    new = jnp.where(is_hit, hit, exit_side).astype(modes.side.dtype)
    mirrored = jnp.where(new == SLIDING, SLIDING, 1 - new).astype(modes.side.dtype)
    side = jnp.where(up > 0, new, jnp.where(down > 0, mirrored, modes.side))
    slides, dual, overflow = modes.slides, modes.dual, jnp.array(False)
    if slots:
        slides, dual, overflow = _update_slides(frame, modes, r, old, new)
    here = jnp.where(new == ACTIVE, pull_series @ up, 0.0)
    here = here - jnp.where(new == INACTIVE, pull_series @ down, 0.0)
    there = jnp.where(old == ACTIVE, pull_series @ up, 0.0)
    there = there - jnp.where(old == INACTIVE, pull_series @ down, 0.0)
    return Change(
        Modes(side, modes.fresh | members, slides, dual),
        here - there,
        r,
        overflow | ((new == SLIDING) & (slots == 0)),
        jnp.where(is_hit, speed, 1.0),
    )


def _hit_side(frame, modes, outer, drive, size, r, old, up_pull, down_pull):
    """Filippov's rule for a neuron that reaches hyperplane `r` from side `old`."""
    x = frame.inputs[r]
    across = slide_inputs(frame, modes.slides)
    base = drive - (jnp.where(old == ACTIVE, up_pull, -down_pull)) * x
    free = x - across.T @ (modes.dual @ x)
    square = free @ x
    along = free @ base
    below = outer * (along - down_pull * square)
    above = outer * (along + up_pull * square)
    scale = jnp.abs(outer) * frame.norms[r] * size
    zero = rounding(drive) * scale
    from_active = jnp.where(below <= zero, INACTIVE, SLIDING)
    from_inactive = jnp.where(above >= -zero, ACTIVE, SLIDING)
    approach = jnp.where(old == ACTIVE, above, below)
    new = jnp.where(old == ACTIVE, from_active, from_inactive)
    return new, jnp.abs(approach) / jnp.where(scale > 0, scale, 1.0)


def _update_slides(frame: Frame, modes: Modes, r, old, new):
    """Take hyperplane `r` into the slides or out of them; rank-one updates of the dual."""
    samples = frame.inputs.shape[0]
    enters, leaves = (new == SLIDING) & (old != SLIDING), (old == SLIDING) & (new != SLIDING)
    unused = modes.slides == samples
    overflow = enters & ~jnp.any(unused)
    slot = jnp.where(enters, jnp.argmax(unused), jnp.argmax(modes.slides == r))
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


def shifted(series: Float[Array, "order width ..."], t: Float[Array, " width"]):
    """Re-expand each neuron's series about its own time `t`."""
    return jnp.einsum("kml,lk...->mk...", shift_matrix(t, series.shape[0]), series)


def near_hyperplanes(
    frame: Frame, inner: Float[Array, "width features"]
) -> Bool[Array, "width samples"]:
    """Return which neurons are on which hyperplane, up to rounding of their weights."""
    size = jnp.linalg.norm(inner, axis=1)[:, None] * frame.norms
    return jnp.abs(inner @ frame.inputs.T) <= 0.25 * rounding(inner) * size

r"""What happens at a hyperplane: cross, slide, repel, die, and leave a slide again.

A *mode* is discrete state: on which side of every hyperplane a neuron is, or that it slides
there. Write $N_-$ and $N_+$ for the velocity of $\langle w_j, x_r\rangle$ with hyperplane $r$
on its negative and on its positive side, the neuron's other slides held. A neuron that
reaches the hyperplane crosses if the velocity beyond points away from it, and slides if it
points back (Filippov's rule). A slide's weight follows from the pulls; the slide ends when
the weight reaches 0 or 1.

Each velocity is a sum over the *active* samples of pulls times entries of the Gram matrix
(`normal_push`): nothing is added that has to be taken away again, what is zero by structure
adds nothing, and the sum is compared with its own rounding error. Preactivations are
integrated from these velocities and carried along (`Modes.height`): the sign of one that
nothing moves stays as it is, however much its neuron grows.

Modes that are inconsistent to first order are found as constraints violated at time zero
and mended one hyperplane at a time, lowest index first. That is Murty's principal pivoting
for the linear complementarity problem of several hyperplanes at once, which is finite.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._series import shift_matrix
from ...model.switch import ACTIVE, INACTIVE, SLIDING, SwitchKind
from ..method.field import slide_inputs
from ..method.frame import Frame, norm
from ..tolerances import ARRIVAL, DEPENDENT, ON_HYPERPLANE, VANISHED, eps, smallest


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


class Motion(eqx.Module):
    """Neurons moving in known pulls, as power series about their own local time.

    Attributes:
        pull: The pulls; the axis `lanes` is 1 if the time is the same for all.
        doubt: Rounding errors of the first coefficients of `pull`.
        outer: Outer weights.
        rate: Factor of the inner weights' equation.
        drive: Sum of active pulls times inputs.
    """

    pull: Float[Array, "order lanes samples"]
    doubt: Float[Array, "judged lanes samples"]
    outer: Float[Array, "order width"]
    rate: Float[Array, " width"]
    drive: Float[Array, "order width features"]


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
        a slide, and for a sample that another one stands for); then for each slot the
        slide's weight from below, and from above. Leading coefficients that are only
        rounding are zero.
    """
    push, error, along, along_error = normal_push(frame, modes, motion)
    velocity = motion.rate[None, :, None] * _product(motion.outer, _certain(push, error))
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
        lambda: _slide_constraints(frame, modes, motion, along, along_error),
        lambda: jnp.zeros((*modes.slides.shape[:1], 2 * modes.slides.shape[1], order), push.dtype),
    )
    return jnp.concatenate([signed, weights], axis=1)


def normal_push(frame: Frame, modes: Modes, motion: Motion):
    """Return what pushes each neuron along each hyperplane's normal, slides held.

    Returns:
        The push of each pair (times the outer weight it is the preactivation's velocity) and
        its rounding errors; the part of the drive along each slide's normal, and those of it.
    """
    active = (modes.side == ACTIVE).astype(motion.pull.dtype)
    doubt = active[None] * motion.doubt
    push = (active[None] * motion.pull) @ frame.gram
    error = doubt @ frame.overlap
    shape = modes.slides.shape
    if shape[1] == 0:
        none = jnp.zeros((1, *shape), push.dtype)
        return push, error, none, none

    def held():
        along = jnp.einsum("pjd,jsd->pjs", motion.drive, modes.dual)
        along_error = (doubt @ frame.norms)[..., None] * jnp.linalg.norm(modes.dual, axis=-1)[None]
        pick = lambda rows: rows.at[modes.slides].get(mode="fill", fill_value=0.0)
        taken = jnp.einsum("pjs,jsn->pjn", along, pick(frame.gram))
        more = jnp.einsum("pjs,jsn->pjn", along_error, pick(frame.overlap))
        return push - taken, error + more, along, along_error

    def free():
        zero = lambda like: jnp.zeros((like.shape[0], *shape), push.dtype)
        return push, error, zero(push), zero(error)

    return jax.lax.cond(jnp.any(modes.slides < frame.inputs.shape[0]), held, free)


def _slide_constraints(frame: Frame, modes: Modes, motion: Motion, along, along_error):
    """Distances of each slide's weight from 0 and 1, times the jump of the pull."""
    pulls = lambda array: [_at_slides(side, modes.slides) for side in frame.group_pulls(array)]
    (positive, negative), doubts = pulls(motion.pull), pulls(motion.doubt)
    jump = positive + negative
    sign = jnp.where(jump[0] < 0, -1.0, 1.0)
    used = modes.slides < frame.inputs.shape[0]
    below, above = (
        jnp.where(used, _excused(sign[None] * series, along_error + own), 0.0)
        for series, own in ((negative - along, doubts[1]), (positive + along, doubts[0]))
    )
    # No active input ever drives it along the hyperplane's normal: the slide is over, at rest.
    over = used & ~_driven(frame, modes) & (jnp.max(jnp.abs(negative), axis=0) == 0)
    below = jnp.where(over, -1.0, below)
    return jnp.concatenate([jnp.moveaxis(below, 0, 2), jnp.moveaxis(above, 0, 2)], axis=1)


def _at_slides(array: Float[Array, "order lanes samples"], slides: Int[Array, "width slides"]):
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
    size = jnp.linalg.norm(modes.dual, axis=-1)[..., None] * frame.norms[None, None]
    there = jnp.abs(along) > DEPENDENT * eps(along) * size
    return jnp.any(there & (modes.side == ACTIVE)[:, None, :], axis=-1)


def _product(outer: Float[Array, "order width"], push: Float[Array, "order width samples"]):
    """Multiply the series of the outer weights with those of what they push."""
    order = push.shape[0]
    index = jnp.arange(order)[:, None] - jnp.arange(order)[None]
    toeplitz = jnp.where((index >= 0)[..., None], outer[jnp.maximum(index, 0)], 0.0)
    return jnp.einsum("mlj,ljn->mjn", toeplitz, push)


def _certain(
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


class Change(eqx.Module):
    """One neuron's mode change at one hyperplane.

    Attributes:
        modes: The modes after it (of one neuron).
        overflow: The neuron would slide on more hyperplanes than there are slots.
        independent: It met another hyperplane than those it slides on.
        unsure: Whether what other neurons' switches may have done to the pulls decides.
        transversality: Normal speed of the hit over its bound; 1 for the end of a slide.
    """

    modes: Modes
    overflow: Bool[Array, ""]
    independent: Bool[Array, ""]
    unsure: Bool[Array, ""]
    transversality: Float[Array, ""]


def resolve(
    frame: Frame,
    modes: Modes,
    outer: Float[Array, " order"],
    pull: Float[Array, "order samples"],
    doubt: Float[Array, "judged samples"],
    drift: Float[Array, " samples"],
    constraint: Int[Array, ""],
    value: Float[Array, ""],
    again: Bool[Array, ""],
) -> Change:
    """Decide what one neuron does when one of its constraints is violated.

    Args:
        frame: The problem.
        modes: Modes of this neuron (fields without their leading axis).
        outer: Its outer weight, as a series about the switch.
        pull: The pulls, likewise.
        doubt: Their rounding errors.
        drift: Bound of what other neurons' switches may have done to them since.
        constraint: Index of the violated constraint (see `constraints`).
        value: What that constraint has come to.
        again: Whether it is on the hyperplane since a decision at this very instant.
    """
    samples, slots = frame.inputs.shape[0], modes.slides.shape[0]
    is_hit = constraint < samples
    slot = jnp.where(is_hit, 0, (constraint - samples) % max(slots, 1))
    slid = modes.slides[slot] if slots else constraint
    r = jnp.where(is_hit, jnp.minimum(constraint, samples - 1), slid.astype(constraint.dtype))
    r = r.astype(frame.representative.dtype)
    members = frame.representative == r
    old = modes.side[r]
    hit, kept, free, unsure, transversality = _hit_side(
        frame, modes, outer, pull, doubt, drift, r, members, again
    )
    exit_side = jnp.where(constraint < samples + slots, INACTIVE, ACTIVE)
    if slots:
        ends = _slide_ends(frame, modes, pull, doubt, slot, exit_side, members, value)
        exit_side = jnp.where(ends, exit_side, SLIDING)
    new = jnp.where(is_hit, hit, exit_side).astype(modes.side.dtype)
    mirrored = jnp.where(new == SLIDING, SLIDING, 1 - new).astype(modes.side.dtype)
    side = jnp.where(members, jnp.where(frame.factor > 0, new, mirrored), modes.side)
    near = jnp.where(old == ACTIVE, 1.0, -1.0) * smallest(pull)
    height = jnp.where(members, jnp.where(is_hit & kept, near, 0.0), modes.height)
    slides, dual, overflow = modes.slides, modes.dual, jnp.array(False)
    if slots:
        slides, dual, overflow = _update_slides(frame, modes, r, old, new)
    return Change(
        Modes(side, height, slides, dual),
        overflow | ((new == SLIDING) & (slots == 0)),
        is_hit & free,
        is_hit & unsure,
        jnp.where(is_hit, transversality, 1.0),
    )


def _hit_side(frame: Frame, modes: Modes, outer, pull, doubt, drift, r, members, again):
    """Filippov's rule for a neuron that reaches hyperplane `r`.

    Of a velocity that is zero to rounding the first derivative that is not decides; of one
    that is zero with all of them, it may be decided either way as long as that is kept to:
    `kept` says that the neuron stays on its side, as near to the hyperplane as can be.
    """
    judged = doubt.shape[0]
    doubts = jnp.concatenate([doubt, drift[None]])
    below, above, free = _one_sided(frame, modes, pull[:judged], doubts, r, members)
    leads = lambda push, errors: _first_sign(outer[:judged], _certain(push, errors))
    falls, rises = (leads(push, errors[:-1]) for push, errors in (below, above))
    # A touch that turns back before the hyperplane stays on its side.
    leave_active = jnp.where(falls > 0, SLIDING, INACTIVE)
    leave_active = jnp.where((rises > 0) & ~again, ACTIVE, leave_active)
    leave_inactive = jnp.where(rises < 0, SLIDING, jnp.where(rises > 0, ACTIVE, INACTIVE))
    leave_inactive = jnp.where((falls < 0) & ~again, INACTIVE, leave_inactive)
    old = modes.side[r]
    new = jnp.where(old == ACTIVE, leave_active, leave_inactive)
    # Whom nothing certain brings here approaches it for ever, and rounding went the rest.
    arrival, errors = (jnp.where(old == ACTIVE, a, b) for a, b in zip(above, below, strict=True))
    kept = (leads(arrival, errors[:ARRIVAL]) == 0) & ~again
    new = jnp.where(kept, old, new)
    # It is on the hyperplane already if that of others is all there is.
    new = jnp.where((new == SLIDING) & ~free, INACTIVE, new)
    pulling = ((modes.side == ACTIVE) | members).astype(pull.dtype)
    size = (jnp.abs(pull[0]) * pulling) @ frame.norms * frame.norms[r]
    beyond, errors = (jnp.where(old == ACTIVE, b, a) for b, a in zip(below, above, strict=True))
    unsure = (jnp.abs(beyond[0]) > errors[0]) & (jnp.abs(beyond[0]) <= errors[-1])
    return new, kept, free, unsure, jnp.abs(arrival[0]) / jnp.where(size > 0, size, 1.0)


def _slide_ends(frame: Frame, modes: Modes, pull, doubt, slot, exit_side, members, value):
    """Return whether a slide's weight is certain to leave 0 or 1.

    One that nears its bound for ever, such as at a stationary point, would be taken there by
    rounding. It has not left if neither it nor its derivatives are more than that; unless
    `value` says so, by a switch of the neuron's own or because nothing drives the slide.
    """
    judged = doubt.shape[0]
    active = (modes.side == ACTIVE).astype(pull.dtype)[None]
    dual = modes.dual[slot]
    along = (active * pull[:judged]) @ (frame.inputs @ dual)
    error = ((active * doubt) @ frame.norms) * norm(dual)
    toward = jnp.where(exit_side == ACTIVE, 1.0, -1.0).astype(pull.dtype)
    own = members.astype(pull.dtype) * jnp.maximum(toward * frame.factor, 0)
    error = error + doubt @ own
    weight = pull[:judged] @ own + toward * along
    return jnp.any(jnp.abs(weight) > error) | (value < -error[0])


def _one_sided(frame: Frame, modes: Modes, pull, doubt, r, members):
    """Return the push at hyperplane `r` on its two sides, from the *other* active samples.

    Returns:
        The push on the negative and on the positive side, each with its errors, and whether
        the hyperplane is another one than those slid on.
    """
    active = ((modes.side == ACTIVE) & ~members).astype(pull.dtype)
    doubt_others = active[None] * doubt
    push = (active[None] * pull) @ frame.gram[r]
    error = doubt_others @ frame.overlap[r]
    square = frame.gram[r, r]
    if modes.slides.shape[0]:
        pick = lambda rows: rows[r].at[modes.slides].get(mode="fill", fill_value=0.0)
        along = (active[None] * pull) @ frame.inputs @ modes.dual.T
        push = push - along @ pick(frame.gram)
        size = jnp.linalg.norm(modes.dual, axis=-1) @ pick(frame.overlap)
        error = error + (doubt_others @ frame.norms) * size
        square = square - (modes.dual @ frame.inputs[r]) @ pick(frame.gram)
    free = square > DEPENDENT * eps(pull) * frame.gram[r, r]
    member = members.astype(pull.dtype)
    up, down = (member * jnp.maximum(sign * frame.factor, 0) for sign in (1, -1))
    below = push - (pull @ down) * square, error + doubt @ down * jnp.abs(square)
    above = push + (pull @ up) * square, error + doubt @ up * jnp.abs(square)
    return below, above, free


def _first_sign(outer: Float[Array, " judged"], push: Float[Array, " judged"]):
    """Return the sign of the product's first coefficient that is not zero; 0 if all are."""
    first = lambda series: series[jnp.argmax(series != 0)]
    return jnp.sign(first(outer)) * jnp.sign(first(push))


def _update_slides(frame: Frame, modes: Modes, r, old, new):
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


def shifted(
    series: Float[Array, "order samples"], t: Float[Array, " lanes"]
) -> Float[Array, "order lanes samples"]:
    """Re-expand a series about several times."""
    return jnp.einsum("kml,ln->mkn", shift_matrix(t, series.shape[0]), series)


def near_hyperplanes(
    frame: Frame, inner: Float[Array, "width features"]
) -> Bool[Array, "width samples"]:
    """Return which neurons are on which hyperplane, up to rounding of their weights."""
    size = jnp.linalg.norm(inner, axis=1)[:, None] * frame.norms[None]
    return jnp.abs(inner @ frame.inputs.T) <= ON_HYPERPLANE * eps(inner) * size

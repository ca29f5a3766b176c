r"""What happens at a hyperplane: cross, slide, repel, die, and leave a slide again.

Write $N_-$ and $N_+$ for the velocity of $\langle w_j, x_r\rangle$ with hyperplane $r$
on its negative and on its positive side, the neuron's other slides held. A neuron that
reaches the hyperplane crosses if the velocity beyond points away from it, and slides if it
points back (Filippov's rule). A slide's weight follows from the pulls; the slide ends when
the weight reaches 0 or 1.

Modes that are inconsistent to first order are found as constraints violated at time zero
and mended one hyperplane at a time, lowest index first. That is Murty's principal pivoting
for the linear complementarity problem of several hyperplanes at once, which is finite.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._norm import norm
from ...model.switch import ACTIVE, INACTIVE, SLIDING
from ..method.frame import Frame
from ..tolerances import ARRIVAL, DEPENDENT, eps
from .constraints import certain
from .modes import Modes
from .pulls import Pulls, with_rest
from .slides import update_slides


class Decision(eqx.Module):
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
    pulls: Pulls,
    drift: Float[Array, " samples"],
    constraint: Int[Array, ""],
    value: Float[Array, ""],
    nearest: Float[Array, " samples"],
    again: Bool[Array, ""],
) -> Decision:
    """Decide what one neuron does when one of its constraints is violated.

    Args:
        frame: The problem.
        modes: Modes of this neuron (fields without their leading axis).
        outer: Its outer weight, as a series about the switch.
        pulls: The pulls, likewise.
        drift: Bound of what other neurons' switches may have done to them since.
        constraint: Index of the violated constraint (see `constraints`).
        value: What that constraint has come to.
        nearest: How near to each hyperplane it can be told to be, as a preactivation.
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
        frame, modes, outer, pulls, drift, r, members, again
    )
    exit_side = jnp.where(constraint < samples + slots, INACTIVE, ACTIVE)
    if slots:
        ends = _slide_ends(frame, modes, pulls, slot, exit_side, members, value)
        exit_side = jnp.where(ends, exit_side, SLIDING)
    new = jnp.where(is_hit, hit, exit_side).astype(modes.side.dtype)
    mirrored = jnp.where(new == SLIDING, SLIDING, 1 - new).astype(modes.side.dtype)
    side = jnp.where(members, jnp.where(frame.factor > 0, new, mirrored), modes.side)
    # Nearer than rounding, what is left of its velocity would take it there at once, and again.
    near = jnp.where(old == ACTIVE, 1.0, -1.0) * nearest[r]
    height = jnp.where(members, jnp.where(is_hit & kept, near, 0.0), modes.height)
    slides, dual, overflow = modes.slides, modes.dual, jnp.array(False)
    if slots:
        slides, dual, overflow = update_slides(frame, modes, r, old, new)
    return Decision(
        Modes(side, height, slides, dual),
        overflow | ((new == SLIDING) & (slots == 0)),
        is_hit & free,
        is_hit & unsure,
        jnp.where(is_hit, transversality, 1.0),
    )


def _hit_side(frame: Frame, modes: Modes, outer, pulls: Pulls, drift, r, members, again):
    """Filippov's rule for a neuron that reaches hyperplane `r`.

    Of a velocity that is zero to rounding the first derivative that is not decides; of one
    that is zero with all of them, it may be decided either way as long as that is kept to:
    `kept` says that the neuron stays on its side, as near to the hyperplane as can be.
    """
    judged = pulls.doubt.shape[0]
    doubts = jnp.concatenate([pulls.doubt, drift[None]])
    judging = Pulls(pulls.rest, pulls.change[:judged], doubts, pulls.reach)
    below, above, free = _one_sided(frame, modes, judging, r, members)
    leads = lambda push, errors: _first_sign(outer[:judged], certain(push, errors))
    falls, rises = (leads(push, errors[:-1]) for push, errors in (below, above))
    # A touch that turns back before the hyperplane stays on its side.
    leave_active = jnp.where(falls > 0, SLIDING, INACTIVE)
    leave_active = jnp.where((rises > 0) & ~again, ACTIVE, leave_active)
    # Whom nothing moves beyond it comes to rest there: before it, it is driven on.
    leave_inactive = jnp.where((rises > 0) | (falls > 0), ACTIVE, INACTIVE)
    leave_inactive = jnp.where(rises < 0, SLIDING, leave_inactive)
    leave_inactive = jnp.where((falls < 0) & ~again, INACTIVE, leave_inactive)
    old = modes.side[r]
    new = jnp.where(old == ACTIVE, leave_active, leave_inactive)
    # Whom nothing certain brings here approaches it for ever, and rounding went the rest.
    arrival, errors = (jnp.where(old == ACTIVE, a, b) for a, b in zip(above, below, strict=True))
    kept = (leads(arrival, errors[:ARRIVAL]) == 0) & ~again
    new = jnp.where(kept, old, new)
    # It is on the hyperplane already if that of others is all there is.
    new = jnp.where((new == SLIDING) & ~free, INACTIVE, new)
    pulling = ((modes.side == ACTIVE) | members).astype(outer.dtype)
    size = (jnp.abs(pulls.total[0]) * pulling) @ frame.norms * frame.norms[r]
    beyond, errors = (jnp.where(old == ACTIVE, b, a) for b, a in zip(below, above, strict=True))
    unsure = (jnp.abs(beyond[0]) > errors[0]) & (jnp.abs(beyond[0]) <= errors[-1])
    return new, kept, free, unsure, jnp.abs(arrival[0]) / jnp.where(size > 0, size, 1.0)


def _slide_ends(frame: Frame, modes: Modes, pulls: Pulls, slot, exit_side, members, value):
    """Return whether a slide's weight is certain to leave 0 or 1.

    One that nears its bound for ever, such as at a stationary point, would be taken there by
    rounding. It has not left if neither it nor its derivatives are more than that; unless
    `value` says so, by a switch of the neuron's own or because nothing drives the slide.
    """
    judged, dtype = pulls.doubt.shape[0], pulls.doubt.dtype
    active, dual = (modes.side == ACTIVE).astype(dtype), modes.dual[slot]
    toward = jnp.where(exit_side == ACTIVE, 1.0, -1.0).astype(dtype)
    own = members.astype(dtype) * jnp.maximum(toward * frame.factor, 0)
    of_pull = own + toward * active * (frame.inputs @ dual)
    of_error = own + active * frame.norms * norm(dual)
    weight, error = with_rest(
        pulls, pulls.change[:judged] @ of_pull, pulls.doubt @ of_error,
        pulls.rest @ of_pull, pulls.rounding @ of_error,
    )  # fmt: skip
    return jnp.any(jnp.abs(weight) > error) | (value < -error[0])


def _one_sided(frame: Frame, modes: Modes, pulls: Pulls, r, members):
    """Return the push at hyperplane `r` on its two sides, from the *other* active samples.

    Returns:
        The push on the negative and on the positive side, each with its errors, and whether
        the hyperplane is another one than those slid on.
    """
    dtype = pulls.doubt.dtype
    active, member = (some.astype(dtype) for some in ((modes.side == ACTIVE) & ~members, members))
    # What a pull does to the push, and what its error does.
    parts, sizes = active * frame.gram[r], active * frame.overlap[r]
    square = frame.gram[r, r]
    if modes.slides.shape[0]:
        pick = lambda rows: rows[r].at[modes.slides].get(mode="fill", fill_value=0.0)
        parts = parts - active * (frame.inputs @ (pick(frame.gram) @ modes.dual))
        sizes = sizes + active * frame.norms * (norm(modes.dual) @ pick(frame.overlap))
        square = square - (modes.dual @ frame.inputs[r]) @ pick(frame.gram)
    free = square > DEPENDENT * eps(square) * frame.gram[r, r]

    def push(sign):
        own = member * jnp.maximum(sign * frame.factor, 0)
        of_pull, of_error = parts + sign * square * own, sizes + jnp.abs(square) * own
        return with_rest(
            pulls, pulls.change @ of_pull, pulls.doubt @ of_error,
            pulls.rest @ of_pull, pulls.rounding @ of_error,
        )  # fmt: skip

    return push(-1.0), push(1.0), free


def _first_sign(outer: Float[Array, " judged"], push: Float[Array, " judged"]):
    """Return the sign of the product's first coefficient that is not zero; 0 if all are."""
    first = lambda series: series[jnp.argmax(series != 0)]
    return jnp.sign(first(outer)) * jnp.sign(first(push))

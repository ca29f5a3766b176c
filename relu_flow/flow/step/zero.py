r"""A neuron at zero while the outer layer is fixed: how long it rests, and how it leaves.

Near zero the drive depends on a neuron's direction alone: it is $D_A = \sum_{i \in A} g_i x_i$ for
the pattern $A$ of that direction. Zero is a solution as long as it lies in the hull of all $v D_A$
(Clarke's set, over the patterns that directions have), whether or not other solutions lead
away: then the neuron rests. When zero is outside, the neuron has to leave. It sets out
along the hull's point nearest to zero, the smallest velocity, and every drive has a
positive part along that: it cannot come back while the pulls are what they are.

There are of order n^(rank - 1) patterns, so that this is done for few inputs of low dimension only
(`arrangement.py`). Elsewhere a neuron that comes to zero goes straight on if that leads
away from zero, and otherwise rests for good. Where some direction is inactive on all
inputs zero is in the hull whatever the pulls are.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._norm import norm
from ..._series import evaluate
from ..._trees import choose
from ...model.switch import INACTIVE
from ..method.frame import Frame
from ..surface.modes import Modes, sides_of
from ..tolerances import AT_ZERO, BEHIND, GRAZING, OUTSIDE, VANISHED, eps
from .hull import Nearest, nearest
from .step import Step

# Halvings of a step until the time at which zero is left is known to rounding.
_HALVINGS = 50
# Looks into a step at most, where zero is too near to the border of its hull to be sure of more.
_LOOKS = 64


def smallest_drive(frame: Frame, pull: Float[Array, " samples"]) -> Nearest:
    """Return the smallest drive that zero allows in some pulls; `outside`: it has to be left.

    `depth` is how far drives may move until then, 0 if that is not known.
    """
    # Which way it sets out by next to nothing has no derivative, nor has when.
    drives = jax.lax.stop_gradient((frame.patterns * pull[None]) @ frame.inputs)
    found = nearest(drives)
    clear = norm(found.point) > OUTSIDE * jnp.max(norm(drives))
    outside = found.outside & clear & frame.watched
    depth = jnp.where(~outside & (found.corners > frame.rank), found.depth, 0.0)
    return eqx.tree_at(lambda n: (n.outside, n.depth), found, (outside, depth))


def must_leave(frame: Frame, pull: Float[Array, "taken samples"], rests: Bool[Array, " taken"]):
    """Return which neurons at zero do not stay there; where it is not known, all of them."""
    if not frame.patterns.shape[0]:
        return jnp.full(rests.shape, True)
    outside = lambda: jax.vmap(lambda pull: smallest_drive(frame, pull).outside)(pull)
    leave = jax.lax.cond(jnp.any(rests), outside, lambda: jnp.zeros_like(rests))
    return leave | ~frame.watched


def at_zero(frame: Frame, modes: Modes, outer: Float[Array, " width"]) -> Bool[Array, " width"]:
    """Return which neurons are at zero, within the inputs' span, and could move."""
    return jnp.all((modes.height == 0) | ~frame.own[None], axis=1) & (outer != 0)


def rest_until(frame: Frame, step: Step, length: Float[Array, ""]) -> Float[Array, ""]:
    """Return how far a step may go until neurons at zero have to leave; at most `length`.

    Zero may be outside the hull for a small part of the step. So it is looked for from the start
    on, at times up to which drives cannot have moved as far as the border.
    """
    if not frame.patterns.shape[0]:
        return length
    resting = jnp.any(at_zero(frame, step.modes, step.series.outer[0]))
    look = lambda t: smallest_drive(frame, evaluate(step.series.pull, t))
    order = jnp.arange(step.series.pull.shape[0], dtype=length.dtype)[1:, None]
    fastest = evaluate(order * jnp.abs(step.series.pull[1:]), length) @ frame.norms

    def going_on(bracket):
        _, behind, found = bracket
        return ~found.outside & (behind < length)

    def march(bracket):
        _, before, found = bracket
        sure = found.depth / jnp.where(fastest > 0, fastest, 1.0)
        sure = jnp.where(fastest > 0, sure, length)
        behind = jnp.minimum(before + jnp.maximum(sure, length / _LOOKS), length)
        return before, behind, look(behind)

    def halve(_, bracket):
        before, behind = bracket
        middle = 0.5 * (before + behind)
        there = look(middle).outside
        return jnp.where(there, before, middle), jnp.where(there, middle, behind)

    def ends(before, behind):
        behind = jax.lax.fori_loop(0, _HALVINGS, halve, (before, behind))[1]
        # So far behind that rounding does not take it back: many units of the clock's, and still no
        # error of a time.
        margin = 256 * eps(length) * (jnp.abs(step.start / step.unit) + behind)
        return jnp.minimum(behind + margin, length)

    def search():
        zero = jnp.zeros_like(length)
        start = eqx.tree_at(lambda n: n.outside, look(zero), jnp.array(False))
        before, behind, found = jax.lax.while_loop(going_on, march, (zero, zero, start))
        return jax.lax.cond(found.outside, ends, lambda *_: length, before, behind)

    return jax.lax.cond(resting & frame.watched, search, lambda: length)


def leave_zero(
    frame: Frame,
    modes: Modes,
    inner: Float[Array, "width features"],
    velocity: Float[Array, " width"],
    pull: Float[Array, " samples"],
) -> tuple[Modes, Float[Array, "width features"]]:
    """Set out who is at zero and has to leave it, by next to nothing.

    Args:
        frame: The problem.
        modes: All modes.
        inner: All inner weights.
        velocity: How far each would get in a step for a drive of one.
        pull: The pulls.

    Returns:
        Modes and inner weights; the ordinary rules decide about hyperplanes along the way out.
    """

    def go():
        found = smallest_drive(frame, pull)
        drive = found.point
        gone = at_zero(frame, modes, velocity) & found.outside
        way = AT_ZERO * BEHIND * velocity
        height = frame.inputs @ drive
        near = jnp.abs(height) <= GRAZING * norm(drive) * frame.norms
        height = way[:, None] * jnp.where(near & frame.own, 0.0, height)[None]
        out = _off(frame, modes, height)
        moved = inner + way[:, None] * drive[None]
        return choose(gone, (out, moved), (modes, inner))

    resting = jnp.any(at_zero(frame, modes, velocity))
    return jax.lax.cond(resting, go, lambda: (modes, inner))


def vanishes(
    frame: Frame,
    modes: Modes,
    inner: Float[Array, "taken features"],
    way: Float[Array, " taken"],
    independent: Bool[Array, " taken"],
) -> Bool[Array, " taken"]:
    """Return whose inner weights are zero, within the span of the inputs.

    Who slides on all but one dimension and meets another hyperplane is at zero, whatever
    rounding says; and so is who comes from all sides at once, to the rounding of its way.
    On a line zero is a hyperplane like any other. A neuron at zero is on every hyperplane.

    Args:
        frame: The problem.
        modes: Modes of the neurons before they met a hyperplane.
        inner: Their inner weights there.
        way: How large these were on the way.
        independent: Whether the hyperplane is another than those slid on.
    """
    slides = jnp.sum(modes.slides < frame.norms.shape[0], axis=1, dtype=frame.rank.dtype)
    cornered = independent & (slides >= frame.rank - 1)
    size = VANISHED * eps(inner) * way
    return (cornered | (norm(inner) <= size)) & (frame.rank > 1)


def at_rest(modes: Modes, resting: Bool[Array, " taken"]) -> Modes:
    """Return the modes with some neurons at zero: on no side and no slide."""
    row = resting[:, None]
    return Modes(
        jnp.where(row, INACTIVE, modes.side).astype(modes.side.dtype),
        jnp.where(row, 0.0, modes.height),
        jnp.where(row, modes.side.shape[1], modes.slides),
        jnp.where(row[..., None], 0.0, modes.dual),
    )


def straight_on(
    frame: Frame, modes: Modes, height: Float[Array, "taken samples"], through
) -> Modes:
    """Return the modes of neurons that go on straight through zero, by next to nothing.

    There, on the other side of all hyperplanes but those slid on, the ordinary rules tell
    where the flow leads. If it leads back to zero, zero is where the neuron stays. `height` are
    the preactivations that they came from.
    """
    return choose(through, _off(frame, modes, -AT_ZERO * BEHIND * height), modes)


def _off(frame: Frame, like: Modes, height: Float[Array, "taken samples"]) -> Modes:
    """Return the modes of who has left zero, with no slide yet; `like` gives the shapes."""
    unused = jnp.full_like(like.slides, frame.norms.shape[0])
    return Modes(sides_of(frame, height), height, unused, jnp.zeros_like(like.dual))


def spanned(frame: Frame) -> Bool[Array, " features"]:
    """Return the coordinates in which inputs lie, if these are no more than their span."""
    there = jnp.any(frame.inputs != 0, axis=0)
    return there & (jnp.sum(there, dtype=frame.rank.dtype) == frame.rank)

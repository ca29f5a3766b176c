"""Whether a step's pulls know of what its switches do, and what is changed if they do not.

A step is expanded again until its correction converges and its pulls decide each of its switches;
it is made shorter where they cannot (`step/influence.py`).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._norm import norm
from ..._series import evaluate
from ..._trees import choose
from ...model.switch import ACTIVE
from ..method.frame import Frame
from ..step.influence import Influence
from ..step.step import Step, series_size
from ..step.step_size import SWITCH_SHARE, StepSize
from ..step.travellers import Arrival
from ..tolerances import CUT, SHARP, SHORTEST, eps
from .context import Context
from .crossing import Crossed
from .state import Attempt

# By what factor outputs must exceed what was expected of their kinks: these are bounds of several
# times what comes of most.
_WAKES = 4.0
# What is left of a correction has both signs, and lasts for a share of a step as small as this.
_CANCELS = 1.0 / 16
# Expansions in which a step's corrections have to converge before it is halved, and how often it
# is halved before it is taken, and counted, as it is.
_EXPANSIONS, _HALVINGS = 5, 8


def converge(
    context: Context, attempt: Attempt, step: Step, size: StepSize, crossed: Crossed
) -> tuple[Attempt, Bool[Array, ""]]:
    """Decide whether the pulls know of what the switches do, and what to change if not.

    Returns:
        The attempt, and whether it was given up: taken as it is although it did not converge.
    """
    # Who looks into a step that has converged already changes nothing of it.
    arrival, again = crossed.arrival, attempt.converged
    expansions = attempt.expansions + (~again).astype(jnp.int32)
    exhausted = expansions >= _EXPANSIONS * _HALVINGS
    same = _same_correction(arrival.correction, attempt.correction, size, context.rtol)
    apart = size.corrects & ~again & ~same
    undecided, before, alone = _undecided(context, step, size, crossed)
    # A step that ends right behind its first switch is better taken without a correction.
    drop = alone & undecided & crossed.influence.has_correction & ~again & ~exhausted
    # Most steps have no switch, and who looks into one that has converged asks no more.
    switching = jnp.any(crossed.candidates)
    look = lambda: _overlooks(context, step, size, crossed, attempt.correction)
    hidden = jax.lax.cond(switching & ~again, look, lambda: jnp.array(False))
    hidden = hidden & ~apart & ~drop
    undecided, early = undecided & ~again & ~apart & ~drop, undecided & apart
    given_up = (apart | undecided | hidden) & exhausted
    undecided, hidden = undecided & ~given_up, hidden & ~given_up
    # That costs least where the pulls can be corrected. It is tried once, in the first expansion
    # or after one that was cut: a correction that came out zero would be asked for again.
    tell = undecided & ~crossed.influence.has_correction & ~alone & (expansions <= 2)
    tell = tell | (hidden & ~size.corrects)
    tell = tell & jnp.array(context.can_correct) & (step.stiff == 0)
    cut = undecided & ~tell
    done = (~apart | given_up) & ~undecided & ~drop & ~hidden
    halved = apart & ~given_up & ~drop & (expansions % _EXPANSIONS == 0)
    halved = halved | (hidden & ~tell & ~cut)
    length = jnp.where(halved, 0.5 * size.length, size.length)
    # What does not converge is cut at once where it would be cut if it did.
    length = jnp.where(cut | (halved & early), jnp.minimum(before, length), length)
    # Of the first switch there was but a bound. With a correction it would come at another time,
    # since that spreads kinks to before them.
    first = jnp.maximum(size.kinks_from, (1 - CUT) * jnp.minimum(arrival.first_switch, size.length))
    first = jnp.where(again | crossed.influence.has_correction, size.kinks_from, first)
    # What a step of another length does is not known.
    found = jnp.where(halved | cut | drop, 0.0, arrival.correction)
    # A step in a tail has no switch: it is begun again, as a series.
    barred = (step.warp > 0) & switching & ~again
    done, given_up = done & ~barred, given_up & ~barred
    new = Attempt(
        expansions=jnp.where(barred, 0, expansions),
        correction=jnp.where(done | barred, attempt.correction, found),
        size=eqx.tree_at(
            lambda s: (s.length, s.corrects, s.kinks_from),
            size,
            (length, (size.corrects | tell) & ~drop & ~(cut & alone), first),
        ),
        stiff=step.stiff,
        warp=step.warp,
        tried=attempt.tried | (step.sweeps > 0),
        converged=done,
        end=choose(again, attempt.end, crossed.point),
        looking=attempt.looking,
        search=attempt.search,
    )
    return new, given_up


def _undecided(context: Context, step: Step, size: StepSize, crossed: Crossed):
    """Return whether the step must be shorter for its pulls to decide its switches, and how short.

    Where kinks decide a switch, the step ends right behind the first, so that the next one
    knows of it; and a switch that is undecided even so is left to a step of its own. No switch
    is taken to come earlier than it did without a correction: a correction spreads a kink to
    before it, and so may move at once a preactivation that is smaller still. The bound was put
    short of the switch by `CUT`.

    Returns:
        Both, and whether the step ends right behind its first switch already: then it is taken
        without a correction, which tells when that comes, and ends as soon as that has come.
    """
    arrival, corrected = crossed.arrival, crossed.influence.has_correction
    begun = jnp.abs(step.start / step.unit)
    shortest = SHORTEST * eps(begun) * begun
    # Powers of a shorter one, up to that of a series' order, would not be numbers.
    least = jnp.maximum(shortest, SHARP * step.available)
    floor = jnp.maximum((1 + 3 * CUT) * size.kinks_from, CUT * step.available)
    behind = jnp.maximum((1 + CUT) * arrival.first_switch, floor)
    longer = size.length > (1 + CUT) * behind
    sharp = (1 + SHARP) * arrival.first_switch + shortest
    sharpens = ~longer & ~corrected & (arrival.first_switch > least)
    sharpens = sharpens & (size.length > (1 + SHARP) * sharp)
    drops = corrected & (size.kinks_from > least) & (size.length <= (1 + CUT) * floor)
    misled = _misleads(context.frame, step, crossed.influence, arrival, size.length)
    undecided = jnp.isfinite(arrival.decide_by) | (misled & (longer | sharpens | drops))
    before = jnp.where(sharpens, sharp, arrival.decide_by)
    return undecided, jnp.where(longer, behind, before), sharpens | drops


def _same_correction(
    new: Float[Array, "degrees samples"],
    old: Float[Array, "degrees samples"],
    size: StepSize,
    rtol: Float[Array, ""],
) -> Bool[Array, ""]:
    """Return whether two corrections move no neuron apart by more than the tolerance."""
    change = jnp.sum(jnp.abs(new - old), axis=0)
    return jnp.sum(change * size.sensitivity) * size.length <= SWITCH_SHARE * rtol


def _overlooks(
    context: Context,
    step: Step,
    size: StepSize,
    crossed: Crossed,
    correction: Float[Array, "degrees samples"],
) -> Bool[Array, ""]:
    """Return whether neurons that switched put out more than a step's pulls were told.

    How far a step may go beyond a switch follows from how fast a neuron moves on its old course.
    But one that hardly moved may wake at a hyperplane, and grow ten thousandfold before the end.
    `correction` is what the pulls were told, see `method/correction.py`.
    """
    frame, influence, arrival = context.frame, crossed.influence, crossed.arrival
    rates, (inner, outer) = step.rates, arrival.weights
    old_inner, old_outer = (
        evaluate(series, size.length) for series in (step.series.inner, step.series.outer)
    )
    active = (arrival.modes.side == ACTIVE).astype(outer.dtype)
    beyond = outer[:, None] * active * (inner @ frame.inputs.T)
    beyond = beyond - old_outer[:, None] * rates.active * (old_inner @ frame.inputs.T)
    # Whoever does not switch adds nothing, not even rounding.
    beyond = jnp.where(jnp.any(crossed.candidates, axis=1), rates.amplitude, 0.0) @ beyond
    wakes = step.curvature * jnp.abs(beyond) > _WAKES * size.length * influence.drift
    # At the end Legendre polynomials of all degrees are 1.
    untold = jnp.where(wakes, beyond - jnp.sum(correction, axis=0), 0.0)
    share = jnp.where(influence.has_correction, _CANCELS, 1.0)
    return share * size.length * jnp.sum(jnp.abs(untold) * size.sensitivity) > context.rtol


def _misleads(
    frame: Frame, step: Step, influence: Influence, arrival: Arrival, length: Float[Array, ""]
) -> Bool[Array, ""]:
    """Return whether switches within a step of a length move a later one by more than may be."""
    modes, first_switch = arrival.modes, arrival.first_switch
    influence = eqx.tree_at(lambda i: i.kinks_from, influence, jnp.minimum(first_switch, length))
    area = influence.area_at(length[None])
    active = (step.modes.side == ACTIVE) | (modes.side == ACTIVE)
    rate = step.rates.inner_rate * series_size(step.series.outer[..., None], length)
    off = rate[:, None] * ((active.astype(area.dtype) * area) @ frame.overlap)
    height = modes.height
    moved = arrival.speed * (jnp.abs(step.start / step.unit) + length)
    wrong = off > step.lateness * jnp.maximum(jnp.abs(height), moved)
    misled = jnp.any(wrong & (height != 0) & frame.own[None])
    if modes.slides.shape[1] == 0:
        return misled
    # A slide whose weight the switches may have taken beyond its end is over since then.
    drift = influence.drift_at(length[None])
    sliding = active.astype(drift.dtype) * drift
    together = (
        jnp.add(*frame.group_pulls(drift[0])).at[modes.slides].get(mode="fill", fill_value=0.0)
    )
    off = norm(modes.dual) * (sliding @ frame.norms)[:, None] + together
    to_end = jnp.minimum(*jnp.split(arrival.slack, 2, axis=1))
    over = (modes.slides < frame.norms.shape[0]) & (off > to_end)
    since = jnp.maximum(length - influence.kinks_from, 0.0)
    late = since > step.lateness * (jnp.abs(step.start / step.unit) + length)
    return misled | (late & jnp.any(over))

r"""Quiet steps: as long as the outputs do not move, neurons follow closed forms, for any time.

Where all that moves is small, outputs $f$ stay what they are to rounding, pulls are constants,
and a neuron grows as $e^{|G|t}$ by the formulas of `method/constant_pulls.py`: from scales of
$e^{-10000}$ on, or between two saddles, in one step instead of thousands. Since $|v|' \le |G||w|$
and $|w|' \le |G||v|$, by a time $h$ a neuron's output has moved per unit of input by at most

$$\tfrac12 e^{2\rho} (v^2 + |w|^2)\,(e^{2|G|h} - 1),$$

and so a step is as long as the sum of these moves no neuron by more than a switch may
(`step/step_size.py`), nor any preactivation: one that pulls which cancel do not move is moved by
what they change, times all that its neuron has grown. It ends before a slide could, and before
the first switch, which is left to a step that knows of it.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._norm import norm
from ..method.clock import Clock
from ..method.constant_pulls import Boost
from ..method.field import project
from ..method.frame import Frame, Neurons
from ..method.proposal import driven
from ..step.step import Step
from ..step.step_size import SWITCH_SHARE, StepSize
from ..surface.constraints import Motion, certain, normal_push, slide_doubts
from ..surface.pulls import Pulls
from ..tolerances import eps
from .context import Context
from .milestones import Records, crossed
from .point import Point, settled
from .state import State

# How much longer than another step a quiet one must be: it costs about as much, but where both do
# there is no use in changing from one to the other.
_WORTH = 4.0
# Halvings of the logarithm of a step's length: that is far finer than its bound is sharp.
_HALVINGS = 32


class Quiet(eqx.Module):
    """The neurons of a step in constant pulls.

    Attributes:
        boosts: Where each goes, in the step's unit of time.
        push: Products of their drives with the inputs, zero if they are only rounding.
    """

    boosts: Boost
    push: Float[Array, "width samples"]

    @classmethod
    def of(cls, frame: Frame, step: Step, neurons: Neurons, rtol: Float[Array, ""]) -> "Quiet":
        """Return where neurons go in the pulls at a step's start.

        Pulls that are no more than what errors leave of fitted residuals are none: in all that
        time they would have gone. Nor does move whom only errors drive.
        """
        pull, rates = step.series.pull[0], step.rates
        felt = jnp.abs(pull) > step.noise
        only = lambda array: jnp.where(felt, array, 0.0)
        pulls = Pulls(
            only(step.rest), only(step.change[:1, None]), step.pulls.doubt[:1], step.trusted
        )
        motion = _motion(frame, step, pulls)
        push, error, _ = normal_push(frame, step.modes, motion)
        drive = project(motion.drive[0], rates, frame)
        moves = driven(frame, drive, rates, pull, step.noise, rtol)
        scale = jnp.where(moves, rates.inner_rate, 0.0)[:, None]
        boosts = jax.vmap(Boost.of)(neurons.inner, neurons.outer, neurons.imbalance, scale * drive)
        return cls(boosts, scale * certain(push, error)[0])


def foresee(
    context: Context,
    state: State,
    step: Step,
    limits: Float[Array, "width constraints order"],
    size: StepSize,
) -> tuple[Quiet, Float[Array, ""]]:
    """Return where neurons go in constant pulls, and how long these are; 0 if they are not.

    A step that has been expanded before stays of its kind. A milestone is left to steps of
    another kind: a quiet one ends before it.
    """
    frame, neurons = context.frame, state.point.neurons
    quiet = Quiet.of(frame, step, neurons, context.rtol)
    most = (_last_stop(context, state) - state.t) / state.unit
    known = frame, step, limits, size, neurons, quiet, most, context.rtol
    # How long a step is has no derivative.
    length = _quiet_length(*jax.lax.stop_gradient(known))
    length = jnp.where(state.attempt.expansions == 0, length, 0.0)
    if not context.options.milestones:
        return quiet, length
    return quiet, _before_milestones(context, state, step, quiet, length)


def _last_stop(context: Context, state: State) -> Float[Array, ""]:
    """Return beyond which time the step may not go: not beyond the last that is looked at."""
    stop = context.next_stop(state.records)
    if not context.num_looks:
        return stop
    return jnp.minimum(stop, state.records.next_times(context.ts, context.num_looks)[-1])


def _before_milestones(
    context: Context, state: State, step: Step, quiet: Quiet, length: Float[Array, ""]
) -> Float[Array, ""]:
    """Shorten a quiet step until it ends before all milestones, by no more than another step."""
    directions = context.directions

    def crosses(length):
        values = context.values(quiet_point(context.frame, state.point, quiet, length).neurons)
        return jnp.any(crossed(state.records, values, directions))

    def halve(bracket):
        low, high = bracket
        middle = 0.5 * (low + high)
        there = crosses(middle)
        return jnp.where(there, low, middle), jnp.where(there, middle, high)

    def shortened():
        # No finer than numbers of that size: there halving would go on for ever.
        finest = jnp.maximum(0.5 * step.available, 4 * eps(length) * length)
        wide = lambda bracket: bracket[1] - bracket[0] > finest
        low, _ = jax.lax.while_loop(wide, halve, (jnp.zeros_like(length), length))
        return jnp.where(low > step.available, low, 0.0)

    length = jax.lax.stop_gradient(length)
    return jax.lax.cond((length > 0) & crosses(length), shortened, lambda: length)


def quiet_point(frame: Frame, point: Point, quiet: Quiet, length: Float[Array, ""]) -> Point:
    """Return where neurons get from a point in constant pulls, without a switch."""
    after = jax.vmap(Boost.after, in_axes=(0, None, 0, 0))
    arrived = after(quiet.boosts, length, point.modes.height, quiet.push)
    modes = eqx.tree_at(lambda m: m.height, point.modes, arrived.height)
    neurons = eqx.tree_at(
        lambda n: (n.exponent, n.imbalance),
        point.neurons,
        (
            point.neurons.exponent + arrived.exponent,
            jnp.ldexp(point.neurons.imbalance, -2 * arrived.exponent),
        ),
    )
    return settled(frame, modes, neurons, arrived.inner, arrived.outer)


def quiet_records(
    context: Context, state: State, quiet: Quiet, length: Float[Array, ""]
) -> tuple[Float[Array, ""], Point, Records]:
    """Return when and where a quiet step ends, and the records then."""
    frame, stop = context.frame, _last_stop(context, state)
    at = lambda length: quiet_point(frame, state.point, quiet, length)
    end = Clock(state.t, state.unit, jnp.zeros_like(length)).end(length, stop)
    point, records = at(length), state.records
    if context.num_looks:
        times = records.next_times(context.ts, context.num_looks)
        offsets = jnp.minimum((times - state.t) / state.unit, length)
        seen = jax.vmap(lambda length: at(length).neurons)(offsets)
        records, _ = records.save_seen(context.ts, end, seen)
    values = context.values(point.neurons)
    return end, point, Records(records.saved, records.num_saved, values, records.time)


def _quiet_length(
    frame: Frame,
    step: Step,
    limits: Float[Array, "width constraints order"],
    size: StepSize,
    neurons: Neurons,
    quiet: Quiet,
    most: Float[Array, ""],
    rtol: Float[Array, ""],
) -> Float[Array, ""]:
    """Return for how long pulls are constant and nobody switches; 0 if another step does as well.

    No neuron turns from shrinking to growing on the way: sizes go one way, and so do heights.

    Args:
        frame: The problem.
        step: The step, as power series.
        limits: Its constraints.
        size: Its size.
        neurons: Neurons at its start.
        quiet: The same in constant pulls.
        most: How far it may go.
        rtol: Relative tolerance.
    """
    boosts, signs = quiet.boosts, step.modes.signs(frame)
    other = jnp.minimum(step.clock.elapsed(step.available), most)
    shortest = _WORTH * other
    square = neurons.outer**2 + norm(neurons.inner) ** 2
    loudness = jnp.log(0.5 * square) + jnp.add(*neurons.scales(frame.train_outer))
    sensitivity = jnp.log(size.sensitivity @ frame.norms)
    allowed = SWITCH_SHARE * rtol

    def moved(length):
        """Return the logarithm of how far outputs move, per unit of input."""
        return jax.nn.logsumexp(loudness + _log_expm1(2 * boosts.speed * length))

    def unmoved(length):
        return jnp.log(length) + sensitivity + moved(length) <= jnp.log(allowed)

    def search():
        reach, slack = _reach(frame, step, limits)
        size = step.rates.inner_rate * (jnp.abs(boosts.rising) + jnp.abs(boosts.falling))
        reach = jnp.where(signs != 0, size[:, None] * reach, 0.0)

        def is_quiet(length):
            way = jnp.exp(moved(length))
            height = jax.vmap(Boost.height_after, in_axes=(0, None, 0, 0))(
                boosts, length, step.modes.height, quiet.push
            )
            held = length * way * reach <= allowed * jnp.abs(height)
            return unmoved(length) & jnp.all(held) & (way < slack)

        def halve(_, bracket):
            low, high = bracket
            middle = jnp.sqrt(low) * jnp.sqrt(high)
            there = is_quiet(middle)
            return jnp.where(there, middle, low), jnp.where(there, high, middle)

        crossings = jax.vmap(Boost.first_crossings)(boosts, signs, step.modes.height, quiet.push)
        crossings = jnp.where(signs != 0, crossings, jnp.inf)
        turns = boosts.turns()
        turns = jnp.where(turns > 0, turns, jnp.inf)
        # The first switch is left to another step, well inside it.
        last = jnp.minimum(jnp.min(crossings) - 0.5 * other, jnp.minimum(jnp.min(turns), most))
        long = last > shortest
        last = jnp.where(long, last, shortest)
        low, _ = jax.lax.fori_loop(0, _HALVINGS, halve, (shortest, last))
        length = jnp.where(is_quiet(last), last, low)
        return jnp.where(long & is_quiet(length), length, 0.0)

    fine = jnp.all(limits[..., 0] >= 0) & step.accepted & ~step.stationary
    fine = fine & (most > shortest) & unmoved(shortest)
    return jax.lax.cond(fine, search, lambda: jnp.zeros_like(other))


def _motion(frame: Frame, step: Step, pulls: Pulls) -> Motion:
    """Return the motion of neurons in constant pulls."""
    drive = (step.rates.active * pulls.total[0]) @ frame.inputs
    return Motion(pulls, step.series.outer[:1], step.rates.inner_rate, drive[None])


def _reach(frame: Frame, step: Step, limits: Float[Array, "width constraints order"]):
    """Return how far pushes are moved, and how far outputs may before a slide could end.

    Both per unit of input by which outputs move.
    """
    modes, change = step.modes, step.curvature * frame.norms
    none = jnp.zeros_like(change)
    motion = _motion(frame, step, Pulls(none, none[None, None], change[None, None], step.available))
    _, pushed, along = normal_push(frame, modes, motion)
    far = jnp.full((), jnp.inf, change.dtype)
    if not modes.slides.shape[1]:
        return pushed[0], far
    moved = along.error[0] + slide_doubts(frame, modes, motion)
    slack = limits[:, frame.norms.shape[0] :, 0]
    ends = jnp.concatenate([moved, moved], axis=1)
    used = jnp.concatenate([modes.slides, modes.slides], axis=1) < frame.norms.shape[0]
    ratio = slack / jnp.where(ends > 0, ends, 1.0)
    return pushed[0], jnp.min(jnp.where(used & (ends > 0), ratio, jnp.inf))


def _log_expm1(x):
    """Return log(e^x - 1), of large x too."""
    small, large = jnp.minimum(x, 1.0), jnp.maximum(x, 1.0)
    return jnp.where(x < 1, jnp.log(jnp.expm1(small)), large + jnp.log1p(-jnp.exp(-large)))

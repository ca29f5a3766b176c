"""A step proposed by a solver, as power series over which switches can be searched.

`Taylor` brings its own series. For a Runge-Kutta method the dense output is a polynomial
on the step: it is sampled at Chebyshev points, which determine it, and so are the pulls.
"""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..._norm import norm
from ..._series import evaluate
from ..._trees import choose
from ..tolerances import REST, eps, smallest
from .clock import pace
from .collocation import collocate
from .field import FlowField, Frozen, Weights, driven_by, weight_sizes
from .frame import Frame
from .stiffness import StiffTrial
from .taylor import Expansion, Taylor, expand, trusted_length, trusted_pull_length

# Share of `rtol` that a step's own truncation error may take, per neuron.
_STEP_SHARE = 1e-2
# The same for the last coefficients of a collocation step, where what is left falls off faster, and
# between which factors the next is as long.
_STIFF_SHARE, _STIFF_GROWTH = 0.1, (0.2, 4.0)
# The same after one that failed; and how much longer than the series that must still be.
_STIFF_CUT, _STIFF_WORTH = (0.1, 0.7), 6.0
# With which power of a step's length its last coefficients grow, at least.
_STIFF_DEGREE = 8
# A step within which neurons move by less, and pulls, is not limited by accuracy.
_LAZY = 0.3
# Nor is it stiffness that limits it if no pull can decay by as many e-folds within it. With 4 for 2
# expansions are as many to 4 in a hundred; with 0 tails of 1/t take a third more, for nothing.
_FAST = 2.0
# What `_tail_rate` takes for a tail: powers of time from one half on. With 1.5 and 1.8 for 1.7, one
# run to t = 4 takes 100 and 59 evaluations for 71, and tails up to a tenth fewer and more steps.
_TAIL = 1.7, 3.0
# In how many e-folds of time a step is worth being measured. Over fewer time runs all but evenly,
# and who takes the rounding of fitted residuals for a tail does no harm.
_FOLDS = 0.25


class Proposal(eqx.Module):
    """A step: its series, how far they reach, and what to try next.

    Attributes:
        series: In units of the frozen rates' time.
        length: How far the series may be used, in that unit; 0 for a rejected step.
        trusted: The same, for a rejected step too.
        unit_factor: Factor for the unit of the next step.
        accepted: Whether the error was within the tolerance.
        stationary: Whether nothing moves any more (see `stop_if_stationary`).
        stiff: Length of the collocation step that this is, 0 if it is none.
        warp: How time runs on it (see `clock.py`), 0 if evenly.
        sweeps: Evaluations of the whole network that trying one took.
    """

    series: Expansion
    length: Float[Array, ""]
    trusted: Float[Array, ""]
    unit_factor: Float[Array, ""]
    accepted: Bool[Array, ""]
    stationary: Bool[Array, ""]
    stiff: Float[Array, ""]
    warp: Float[Array, ""]
    sweeps: Int[Array, ""]


def series_order(solver: dfx.AbstractSolver) -> int:
    """Return the highest power in the series of a proposal."""
    if isinstance(solver, Taylor):
        return solver.series_order
    assert isinstance(solver, dfx.AbstractERK)
    return _degree(solver)


def _degree(solver: dfx.AbstractERK) -> int:
    """Return a degree that holds the dense output of a Runge-Kutta method."""
    return max(solver.order(dfx.ODETerm(lambda t, y, args: y)) or 0, 4)


def evaluations(solver: dfx.AbstractSolver) -> int:
    """Return how many evaluations of the whole network one proposal costs."""
    tableau = getattr(solver, "tableau", None)
    return tableau.num_stages if isinstance(tableau, dfx.ButcherTableau) else 1


def propose(
    solver: dfx.AbstractSolver,
    field: FlowField,
    weights: Weights,
    frozen: Frozen,
    rtol: Float[Array, ""],
    correction: Float[Array, "order samples"],
    trial: StiffTrial,
    unit_error: Float[Array, " samples"],
    curvature: Float[Array, " samples"],
) -> Proposal:
    """Propose one step from a state, in the unit of time of the frozen rates.

    `correction` is added to the outputs; a Runge-Kutta method does without. `trial` says when a
    collocation step is tried, `unit_error` what rounding does to the pulls, `curvature` how much
    each falls with its output.
    """
    if isinstance(solver, Taylor):
        proposal = _propose_series(solver, field, weights, frozen, rtol, correction)
        if solver.stiff:
            fast = _is_fast(field, weights, frozen, curvature, proposal)
            proposal = _or_stiff(
                solver, field, weights, frozen, rtol, trial, unit_error, fast, proposal
            )
    else:
        proposal = _propose_runge_kutta(solver, field, weights, frozen, rtol)
    # How long a step is changes nothing that is asked for: it has no derivative.
    lengths = lambda p: (p.length, p.trusted, p.unit_factor, p.stiff, p.warp)
    return eqx.tree_at(lengths, proposal, jax.lax.stop_gradient(lengths(proposal)))


def _propose_series(solver: Taylor, field, weights, frozen, rtol, correction) -> Proposal:
    series = expand(field, weights, frozen, solver.series_order, correction)
    train_outer = field.frame.train_outer
    tolerance = local_tolerance(rtol)
    length = jnp.min(trusted_length(series.inner, series.outer, tolerance, train_outer))
    length = jnp.minimum(length, trusted_pull_length(series.pull, 0.1 * rtol))
    # In the unit in which coefficients neither fade nor grow, so that those of a pull are
    # numbers as long as the pull is one. Series that end reach anywhere and tell no unit.
    unit = length * tolerance ** (-1.0 / solver.series_order)
    # It matters only there: elsewhere the unit is the step's own length.
    tiny = jnp.max(jnp.abs(series.pull[0])) < jnp.finfo(length.dtype).tiny ** 0.75
    unit = jnp.where(jnp.isfinite(length), jnp.where(tiny, unit, length), 1.0)
    return Proposal(
        series, length, length, unit, jnp.array(True), jnp.array(False), *_not_stiff(length.dtype)
    )


def _not_stiff(dtype) -> tuple[Array, Array, Array]:
    """Return what a proposal says that is no collocation step."""
    zero = jnp.zeros((), dtype)
    return zero, zero, jnp.zeros((), jnp.int32)


def _or_stiff(
    solver: Taylor,
    field: FlowField,
    weights: Weights,
    frozen: Frozen,
    rtol: Float[Array, ""],
    trial: StiffTrial,
    unit_error: Float[Array, " samples"],
    fast: Bool[Array, ""],
    explicit: Proposal,
) -> Proposal:
    """Return a collocation step if one is planned and goes so much farther, else the series."""
    lazy, rate = _is_lazy(field.frame, explicit, frozen), _tail_rate(explicit, frozen)
    folds = rate * trial.stiff_length(lazy, explicit.length, rate)
    warp = jnp.where(trial.decided, trial.warp, jnp.where(folds > _FOLDS, rate, 0.0))
    lazy = lazy & (fast | (warp > 0))
    length, warp = jax.lax.stop_gradient((trial.stiff_length(lazy, explicit.length, warp), warp))
    tolerance = _STIFF_SHARE * rtol
    wanted = length > 0

    def attempt():
        safe = jnp.where(wanted, length, 1.0)
        found = collocate(
            field, weights, frozen, safe, warp, solver.series_order, tolerance,
            _stepped(unit_error, rtol), wanted,
        )  # fmt: skip
        good = wanted & (trial.decided | (found.converged & (found.error <= 1.0)))
        # From a hundredth of the tolerance on the error says itself how much more there may be.
        near = found.error ** (-1.0 / _STIFF_DEGREE)
        growth = 0.9 * jnp.where(found.error > 0.01, jnp.minimum(found.growth, near), found.growth)
        following = safe * jnp.clip(growth, *_STIFF_GROWTH)
        # As many e-folds of time again, if it is in these that the step was measured.
        following = following * pace(warp, safe)
        # One that the next stop cuts short says nothing against the length that was meant.
        cut = safe < trial.suggested
        following = jnp.where(cut, jnp.maximum(following, trial.suggested), following)
        stiff = Proposal(
            found.series, safe, safe, following, jnp.array(True), jnp.array(False), safe, warp,
            found.sweeps,
        )  # fmt: skip
        other = eqx.tree_at(lambda p: p.sweeps, explicit, found.sweeps)
        # After a tail less of the same kind is tried first: how long it lasts is not foreseen.
        shorter = safe * jnp.clip(growth, *_STIFF_CUT)
        again = trial.tail & (shorter > _STIFF_WORTH * explicit.length)
        rejected = eqx.tree_at(
            lambda p: (p.length, p.unit_factor, p.accepted),
            other,
            (jnp.zeros_like(safe), shorter, jnp.array(False)),
        )
        return choose(good, stiff, choose(again, rejected, other))

    return jax.lax.cond(wanted, attempt, lambda: explicit)


def _tail_rate(proposal: Proposal, frozen: Frozen) -> Float[Array, ""]:
    """Return how fast the largest pull falls, if it does so in a tail of a power of time; else 0.

    For g = (t + a)^-k it is g'' g / g'^2 = 1 + 1/k, in a decay 1. The rate is k/a.
    """
    pull = proposal.series.pull
    felt = jnp.any(frozen.active > 0, axis=0)
    first, second, third = pull[0], pull[1], pull[2]
    # In units of the first: squares of pulls may underflow.
    unit = jnp.where(first == 0, 1.0, first)
    rate, bend = -second / unit, 2 * third / unit
    falls = felt & (first != 0) & (rate > 0)
    bend = bend / jnp.where(falls, rate, 1.0) ** 2
    is_tail = falls & (bend > _TAIL[0]) & (bend < _TAIL[1]) & (rate * proposal.length < _LAZY)
    largest = jnp.argmax(jnp.where(is_tail, jnp.abs(first), 0.0))
    return jnp.where(is_tail[largest], rate[largest], 0.0)


def _is_lazy(frame: Frame, proposal: Proposal, frozen: Frozen) -> Bool[Array, ""]:
    """Return whether hardly anything moves within a step: not accuracy limits it."""
    series, length = proposal.series, proposal.length
    moved = lambda array: evaluate(array.at[0].set(0.0), length)
    scale = norm(series.inner[0]) + jnp.abs(series.outer[0])
    turned = jnp.max(norm(moved(series.inner)) / jnp.where(scale > 0, scale, 1.0))
    felt = jnp.any(frozen.active > 0, axis=0)
    size = jnp.max(jnp.where(felt, jnp.abs(series.pull[0]), 0.0))
    fallen = jnp.max(jnp.where(felt, jnp.abs(moved(series.pull)), 0.0))
    return (turned < _LAZY) & (fallen < _LAZY * size) & jnp.isfinite(length)


def _is_fast(
    field: FlowField, weights: Weights, frozen: Frozen, curvature, proposal: Proposal
) -> Bool[Array, ""]:
    """Return whether pulls may decay within a step: else it is not stiffness that limits it."""
    fastest = jnp.max(curvature * field.moved_by(weights, frozen, jnp.ones_like(curvature)))
    return fastest * proposal.length > _FAST


def local_tolerance(rtol: Float[Array, ""]) -> Float[Array, ""]:
    """Return the tolerance of the series that neurons follow within a step."""
    return jnp.maximum(_STEP_SHARE * rtol, jnp.finfo(rtol.dtype).eps)


def _propose_runge_kutta(solver, field: FlowField, weights, frozen, rtol) -> Proposal:
    terms, args = dfx.ODETerm(field), frozen
    zero, one = jnp.zeros((), rtol.dtype), jnp.ones((), rtol.dtype)
    state = solver.init(terms, zero, one, weights, args)
    _, error, dense, _, _ = solver.step(terms, zero, one, weights, args, state, True)
    interpolation = solver.interpolation_cls(t0=zero, t1=one, **dense)
    degree = _degree(solver)
    nodes, fit = _fit(degree, rtol.dtype)
    inner, outer = jax.vmap(interpolation.evaluate)(nodes)
    pull = jax.vmap(lambda w, v: field.frame.pull(field.outputs((w, v), frozen)))(inner, outer)
    start = field.frame.pull(field.outputs(weights, frozen))

    def series(samples, first):
        increments = jnp.tensordot(fit, samples - first[None], axes=1)
        return jnp.concatenate([first[None], increments])

    pull = series(pull, start)
    drive = jnp.einsum("jn,pn,nd->pjd", frozen.active, pull, field.frame.inputs)
    size = norm(weights[0])
    outer_size = jnp.abs(weights[1]) + size
    relative = norm(error[0]) / jnp.where(size > 0, size, 1.0)
    if field.frame.train_outer:
        growth = jnp.abs(error[1]) / jnp.where(outer_size > 0, outer_size, 1.0)
        relative = jnp.maximum(relative, growth)
    scaled = jnp.max(relative) / rtol
    accepted = scaled <= 1.0
    # Safety and least factor are those of Diffrax's `PIDController`, the largest that of Hairer,
    # Nørsett and Wanner (section II.4): an error that happens to vanish says little.
    factor = jnp.clip(0.9 * scaled ** (-1.0 / solver.order(terms)), 0.2, 5.0)
    factor = jnp.where(jnp.isfinite(scaled), factor, 0.2)
    return Proposal(
        Expansion(series(inner, weights[0]), series(outer, weights[1]), pull, drive),
        jnp.where(accepted, one, zero),
        one,
        factor,
        accepted,
        jnp.array(False),
        *_not_stiff(rtol.dtype),
    )


def stop_if_stationary(
    frame: Frame,
    proposal: Proposal,
    frozen: Frozen,
    noise: Float[Array, " samples"],
    rtol: Float[Array, ""],
) -> tuple[Proposal, Frozen]:
    """Stop a network that only errors drive: of rounding, or of steps.

    At a stationary point the active pulls cancel for every neuron (or are zero). What is
    left of them is compared with what errors leave of pulls, and with a tenth of the relative
    tolerance: after that, switches would be made of noise.

    Returns:
        The proposal and the rates, both without motion if the network is at rest.
    """
    # Summed as `loop/quiet.py` does, lest a quiet step find nobody to move.
    pull = proposal.series.pull[0]
    felt = jnp.where(jnp.abs(pull) > noise, pull, 0.0)
    drive = driven_by(felt, frozen, frame)
    resting = ~jnp.any(driven(frame, drive, frozen, pull, noise, rtol))

    def still(series):
        return series.at[1:].set(jnp.where(resting, 0.0, series[1:]))

    stopped = Proposal(
        jax.tree.map(still, proposal.series),
        proposal.length,
        proposal.trusted,
        jnp.where(resting, 1.0, proposal.unit_factor),
        proposal.accepted | resting,
        resting,
        jnp.where(resting, 0.0, proposal.stiff),
        jnp.where(resting, 0.0, proposal.warp),
        proposal.sweeps,
    )
    return stopped, frozen.times(jnp.where(resting, 0.0, 1.0))


def driven(
    frame: Frame,
    drive: Float[Array, "width features"],
    frozen: Frozen,
    pull: Float[Array, " samples"],
    noise: Float[Array, " samples"],
    rtol: Float[Array, ""],
) -> Bool[Array, " width"]:
    """Return which neurons are driven by more than errors of pulls, of which there is `noise`."""
    share = jnp.maximum(REST * eps(pull), 0.1 * rtol)
    error = share * jnp.abs(pull) + noise
    return norm(drive) > frozen.active @ (error * frame.norms)


def pull_noise(
    pull_error: Float[Array, " samples"], unit_error: Float[Array, " samples"], rtol
) -> Float[Array, " samples"]:
    """Return what errors leave of pulls that should be zero, those of rounding and of steps."""
    return pull_error + _stepped(unit_error, rtol) + smallest(pull_error)


def step_error(
    field: FlowField,
    weights: Weights,
    frozen: Frozen,
    curvature: Float[Array, " samples"],
    pull: Float[Array, " samples"],
    unit_error: Float[Array, " samples"],
    rtol: Float[Array, ""],
) -> Float[Array, " samples"]:
    """Return what errors of steps leave of pulls, however small these are.

    A weight that decays for ever beside the other layer's, which stays (v with |w| far above it),
    is known to digits of its neuron's size, not to its own: the outputs it leaves are noise once
    they are below that, and below what all pulls are known to. Beside a fixed outer weight inner
    weights have no size but what the targets give them; the smallest of these is that of all.
    """
    frame, (inner, outer) = field.frame, weights
    of_inner, of_outer = weight_sizes(weights, frame.train_outer)
    moved = (jnp.abs(outer) * of_inner)[:, None] * frame.norms[None]
    if frame.train_outer:
        moved = moved + of_outer[:, None] * jnp.abs(inner @ frame.inputs.T)
    outputs = frozen.amplitude @ (frozen.active * moved)
    there = frame.counted & (frame.targets != 0)
    least = jnp.min(jnp.where(there, jnp.abs(frame.targets), jnp.inf))
    if not frame.train_outer:
        outputs = jnp.where(jnp.isfinite(least), jnp.maximum(outputs, least), outputs)
    felt = jnp.max(jnp.where(jnp.any(frozen.active > 0, axis=0), jnp.abs(pull), 0.0))
    share = local_tolerance(rtol)
    known = jnp.maximum(share * felt, jnp.max(_stepped(unit_error, rtol)))
    # Outputs that all tend to zero are compared with nothing.
    known = jnp.where(jnp.isfinite(least), known, jnp.inf)
    return jnp.minimum(share * curvature * outputs, known)


def _stepped(unit_error: Float[Array, " samples"], rtol) -> Float[Array, " samples"]:
    """Return what errors of steps leave of the pulls, given what rounding does to them."""
    return jnp.maximum(1.0, local_tolerance(rtol) / eps(unit_error)) * unit_error


def _fit(degree: int, dtype) -> tuple[Array, Array]:
    """Return Chebyshev points on (0, 1] and the map from increments there to powers 1.. ."""
    angle = np.pi * np.arange(degree) / degree
    nodes = 0.5 * (1 + np.cos(angle))
    powers = nodes[:, None] ** np.arange(1, degree + 1)
    return jnp.asarray(nodes, dtype), jnp.asarray(np.linalg.inv(powers), dtype)

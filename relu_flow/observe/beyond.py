r"""What of a flow is known beyond its end: who never switches again, and how far the limit is.

Two bounds, each of the flow with its pattern as it is; while they hold, it stays as it is.

*By signs*, for classification losses, whose pulls keep those of the labels. Preactivations move
by $z_r' = v \sum_{i\,active} g_i \langle x_i, x_r\rangle$; a neuron of which no summand leads
towards a hyperplane, for any sample, never switches. So it is soon after alignment on orthogonally
separable data, while losses go on falling for ever.

*By distance*, for the square loss. Let $r$ be the residual $\sqrt c\,(f - y)$, without its part
that no weights of these patterns can change, $J$ the derivative of it by the weights, $s$ the
smallest singular value of $J$ on the rest, and $\sigma$ the norm of $\sqrt c X$. The loss falls by
the squared speed of the weights, $|r| |r|' = -|J^T r|^2$, so that they go no farther than
$|r|/s$; and since $J$ is linear in them with a norm of at most $\sigma$ (constant if the outer
weights are fixed), on all this way $s^2$ stays above $\lambda = s^2 - 2\sigma|r|$ ($s^2$). A
neuron moves at $\sigma|r|$ times its size at most, altogether by a share of $e^R - 1$ with
$R = \sigma |r|/\lambda$. What is farther than that from a hyperplane stays there, and a slide goes
on whose fraction stays between 0 and 1 when pulls change by as much. Neurons of which that is not
sure, as those that slide where a sample is being fitted, are left out of $J$; what they could do
to the residual in any mode is not left out of $r$. Then the limit is known to that share, and the
loss there is what $r$ leaves over, which need not be zero.
"""

from typing import Protocol, runtime_checkable

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float

from .._text import rows
from ..model.loss import SquareLoss
from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from ..model.switch import ACTIVE, SLIDING
from .pattern import Switching, sides_at

_EPS = float(np.finfo(np.float64).eps)
# Of a dot product, in units of eps sqrt(features) times the norms; the flow takes no less for zero.
_ORTHOGONAL = 4.0
# Of outputs, preactivations and eigenvalues, in units of eps, the sizes of what is summed and the
# number of summands: what rounding alone may have done to them.
_ROUNDING = 8.0


@runtime_checkable
class Ended(Switching, Protocol):
    """What tells modes and the network at the end; a `relu_flow.Trajectory` is one."""

    @property
    def ts(self) -> Float[Array, " times"]: ...  # noqa: D102
    @property
    def network(self) -> TwoLayerReLU: ...  # noqa: D102


class Outlook(eqx.Module):
    """What is known beyond the last network of a trajectory. Printed, it is a few lines.

    Attributes:
        final: Which neurons are sure never to switch again, those that rest for ever among them.
        since: Time of the last switch, if all are: from then on the pattern is that of the limit
            (`-inf` if there was none). `inf` if not all are.
        distance: By which share of its size a neuron still moves at most, the size being the norm
            of all its weights, or with `train="inner"` its outer weight; `inf` if not bounded.
        limit_loss: The loss that the flow tends to, to rounding; `nan` unless `distance` is finite.
    """

    final: Bool[np.ndarray, " width"]
    since: float
    distance: float
    limit_loss: float

    def __str__(self) -> str:
        count, width = int(np.sum(self.final)), self.final.size
        lines = [("switches", f"{count} of {width} neurons never switch again")]
        if count == width:
            start = f"from t = {self.since:.6g} on" if np.isfinite(self.since) else "all along"
            lines.append(("pattern", f"that of the limit, {start}"))
        if np.isfinite(self.distance):
            lines.append(("weights", f"move by at most {self.distance:.2g} of a neuron's size"))
            lines.append(("loss", f"tends to {self.limit_loss:.6g}"))
        return rows("Outlook", lines)


def outlook(problem: Problem, trajectory: Ended) -> Outlook:
    """Return what is known beyond the last network of a trajectory.

    The bounds are sufficient, not necessary: a neuron that is not sure never to switch need not
    ever do. Inputs that are orthogonal to rounding are taken to be so.

    Args:
        problem: The problem.
        trajectory: One run, as of `solve`; of many take one by
            `jax.tree.map(lambda leaf: leaf[k], trajectories)`. One that was cut short is judged by
            its last state.

    Raises:
        ValueError: If an argument is of another kind, or `trajectory` holds several runs or is not
            of the problem's shapes.

    Example:
        >>> import relu_flow as rf
        >>> problem = rf.Problem([[1.0, 0.0], [0.0, 1.0]], [1.0, 2.0], rf.SquareLoss())
        >>> network = rf.TwoLayerReLU([[0.1, 0.2], [0.3, 0.1]], [0.3, 0.4])
        >>> known = rf.outlook(problem, rf.solve(problem, network, t1=20.0))
        >>> print(str(known).splitlines()[1].strip())
        switches   2 of 2 neurons never switch again
        >>> known.distance < 1e-12
        True
    """
    if not isinstance(problem, Problem):
        raise ValueError(f"Argument `problem` must be a `Problem`, but it is {problem!r}.")
    if not isinstance(trajectory, Ended):
        raise ValueError(
            f"Argument `trajectory` must be what `solve` returns, but it is {trajectory!r}."
        )
    if np.ndim(trajectory.ts) != 1 or trajectory.initial_sides.ndim != 2:
        raise ValueError(
            "Argument `trajectory` must be one run, but it holds several. Take one: "
            "`jax.tree.map(lambda leaf: leaf[k], trajectories)`."
        )
    network, end = trajectory.network, trajectory.ts[-1]
    shape = (network.width, problem.samples)
    if trajectory.initial_sides.shape != shape or network.features != problem.features:
        raise ValueError(
            f"Argument `trajectory` must be of the problem's {problem.samples} samples and "
            f"{problem.features} features, but it has {trajectory.initial_sides.shape[1]} and "
            f"{network.features}."
        )
    last = _Last.of(problem, network, np.asarray(sides_at(trajectory, end)))
    distance, limit_loss, certain = _by_distance(last)
    final = last.resting() | _by_signs(last) | certain
    log = trajectory.switches
    times = np.asarray(log.time)[(np.asarray(log.neuron) >= 0) & np.asarray(log.time <= end)]
    since = float(np.max(times, initial=-np.inf)) if np.all(final) else np.inf
    return Outlook(final, since, distance, limit_loss)


class _Last(eqx.Module):
    """The last state, in NumPy's float64; neurons in units of their inner weights.

    Attributes:
        binary: Whether the loss is one of classification.
        square: Whether it is the square loss.
        train_outer: Whether both layers are trained.
        inputs: The inputs.
        targets: The targets.
        weight: Constant before each sample's loss.
        sides: Mode of each pair.
        inner: Inner weights.
        outer: Outer weights.
        size: Of each neuron, what its motion is measured by.
        log_unit: Logarithm of the unit.
    """

    binary: bool
    square: bool
    train_outer: bool
    inputs: Float[np.ndarray, "samples features"]
    targets: Float[np.ndarray, " samples"]
    weight: float
    sides: np.ndarray
    inner: Float[np.ndarray, "width features"]
    outer: Float[np.ndarray, " width"]
    size: Float[np.ndarray, " width"]
    log_unit: Float[np.ndarray, " width"]

    @classmethod
    def of(cls, problem: Problem, network: TwoLayerReLU, sides: np.ndarray) -> "_Last":
        """Return what is needed of the last state."""
        array = lambda x: np.asarray(x, np.float64)
        inner, log_unit = array(network.inner_weight), array(network.log_scale)
        # Layers farther apart than numbers reach are not told apart any more, but stay numbers.
        apart = np.clip(array(network.outer_log_scale) - log_unit, -700.0, 700.0)
        outer = array(network.outer_weight) * np.exp(apart)
        train_outer = problem.train == "both"
        size = np.hypot(np.linalg.norm(inner, axis=1), outer) if train_outer else np.abs(outer)
        return cls(
            problem.loss.binary,
            isinstance(problem.loss, SquareLoss),
            train_outer,
            array(problem.inputs),
            array(problem.targets),
            float(problem.sample_weight),
            sides,
            inner,
            outer,
            size,
            log_unit,
        )

    @property
    def active(self) -> Bool[np.ndarray, "width samples"]:
        """Which pairs are active."""
        return self.sides == ACTIVE

    @property
    def slides(self) -> Bool[np.ndarray, "width samples"]:
        """Which pairs slide."""
        return self.sides == SLIDING

    def voice(self) -> Float[np.ndarray, " width"]:
        """Return what a unit of each neuron's preactivations adds to the outputs."""
        return np.exp(2 * self.log_unit) * self.outer

    def hidden(self) -> Float[np.ndarray, "width samples"]:
        """Return the preactivations of the active pairs, zero for others."""
        return np.maximum(self.inner @ self.inputs.T, 0.0) * self.active

    def residual(self) -> Float[np.ndarray, " samples"]:
        """Return outputs minus targets, in units in which half its square is the loss."""
        return self.weight**0.5 * (self.voice() @ self.hidden() - self.targets)

    def pull(self) -> Float[np.ndarray, " samples"]:
        """Return the pulls of the square loss."""
        return -(self.weight**0.5) * self.residual()

    def at_zero(self) -> Bool[np.ndarray, " width"]:
        """Return who has no inner weights, and may come to have some."""
        return ~np.any(self.inner, axis=1) & (self.outer != 0)

    def resting(self) -> Bool[np.ndarray, " width"]:
        """Return who rests for ever: active nowhere, or of a size that lets nothing move."""
        dead = ~np.any(self.active | self.slides, axis=1) & ~self.at_zero()
        return dead | (self.size == 0)


def _by_signs(last: _Last) -> Bool[np.ndarray, " width"]:
    """Return which neurons no pull moves towards a hyperplane, whose signs are the labels'."""
    way, active = np.sign(last.outer), last.active
    if not last.binary:
        return np.zeros(way.shape, bool)
    norms = np.linalg.norm(last.inputs, axis=1)
    product = last.inputs @ last.inputs.T
    zero = _ORTHOGONAL * _EPS * last.inputs.shape[1] ** 0.5 * np.outer(norms, norms)
    pull = last.targets[:, None] * np.where(np.abs(product) <= zero, 0.0, product)
    towards = _pushed(way[:, None] * np.where(active, -1.0, 1.0), active, pull)
    # Its own active samples are among them: so they all pull its outer weight away from zero.
    calm = np.all(towards == 0, axis=1) & (way != 0)
    return calm & ~np.any(last.slides, axis=1) & ~last.at_zero()


def _pushed(
    way: Float[np.ndarray, "#width #samples"],
    pulling: Bool[np.ndarray, "width samples"],
    push: Float[np.ndarray, "samples samples"],
) -> Float[np.ndarray, "width samples"]:
    """Return for each pair what samples that pull the neuron push it one way, and none the other.

    Args:
        way: Which way counts, by its sign.
        pulling: Which samples pull.
        push: Of each sample, along the normal of each other.
    """
    return np.where(way > 0, pulling @ np.maximum(push, 0.0), pulling @ np.maximum(-push, 0.0))


def _by_distance(last: _Last) -> tuple[float, float, Bool[np.ndarray, " width"]]:
    """Return the share by which neurons move at most, the limit's loss, and who is final so."""
    none = np.zeros(last.size.shape, bool)
    if not last.square:
        return np.inf, np.nan, none
    clearance = _clearance(last)
    # Pairs that are not sure to stay as they are, and those among them that may become active. The
    # more there are, the larger the bound: their number only grows.
    unsure = np.zeros(last.sides.shape, bool) | last.at_zero()[:, None]
    free = unsure
    while True:
        share, left, limit_loss = _bound(last, unsure, free)
        if not np.isfinite(share):
            return np.inf, np.nan, none
        stays = np.where(last.slides, _slides_stay(last, left, share), clearance > share)
        more = unsure | ~(stays | last.resting()[:, None])
        freed = free | (more & ~_barred(last, more, left, share))
        if np.array_equal(more, unsure) and np.array_equal(freed, free):
            return share, limit_loss, ~np.any(unsure, axis=1)
        unsure, free = more, freed


def _clearance(last: _Last) -> Float[np.ndarray, "width samples"]:
    """Return how far neurons are from hyperplanes, on their side, in their sizes; less rounding."""
    heights = last.inner @ last.inputs.T
    heights = np.where(last.active, heights, -heights) / np.linalg.norm(last.inputs, axis=1)
    rounding = _ROUNDING * _EPS * last.inputs.shape[1] * np.linalg.norm(last.inner, axis=1)
    return (heights - rounding[:, None]) / np.where(last.size > 0, last.size, 1.0)[:, None]


def _bound(
    last: _Last, unsure: Bool[np.ndarray, "width samples"], free: Bool[np.ndarray, "width samples"]
) -> tuple[float, float, float]:
    """Return by which share neurons move at most, `|r|` of the docstring above, the limit's loss.

    Args:
        last: The last state.
        unsure: Pairs that may change their mode.
        free: Those among them that may be active.
    """
    scaled, residual = last.weight**0.5 * last.inputs, last.residual()
    samples, features = scaled.shape
    sure = ~np.any(unsure, axis=1)
    # What the outputs of each pattern can be changed by, and by how much neurons do.
    reach = np.diag(np.any(free, axis=0) * np.sum(scaled**2, axis=1))
    kernel = np.zeros((samples, samples))
    slid = last.slides & sure[:, None]
    modes, group = np.unique(last.active + 2 * slid, axis=0, return_inverse=True)
    turning = sure * (np.exp(last.log_unit) * last.outer) ** 2
    for mode, speed in zip(modes, np.bincount(group.ravel(), turning), strict=True):
        moved = (mode == 1)[:, None] * _across(scaled, mode == 2)
        reach += moved @ moved.T
        kernel += speed * (moved @ moved.T)
    if last.train_outer:
        growing = last.weight**0.5 * (np.exp(last.log_unit) * sure)[:, None] * last.hidden()
        kernel += growing.T @ growing
    reached, directions = np.linalg.eigh(reach)
    noise = _ROUNDING * _EPS * samples
    within = reached > noise * reached[-1]
    turned = directions.T @ residual
    limit_loss = 0.5 * float(np.sum(turned[~within] ** 2))
    if not np.any(within):
        return 0.0, 0.0, limit_loss
    directions = directions[:, within]
    slowest = np.linalg.eigvalsh(directions.T @ kernel @ directions)[0]
    slowest = slowest - noise * np.trace(kernel)
    # Rounding of outputs, and of which part of the residual is which.
    blurred = noise * reached[-1] / np.min(reached[within]) * np.linalg.norm(residual)
    summed = last.weight**0.5 * (np.abs(last.voice()) @ last.hidden() + np.abs(last.targets))
    rounding = _ROUNDING * _EPS * (last.size.size + features) * np.linalg.norm(summed)
    left = float(np.linalg.norm(turned[within]) + blurred + rounding)
    push = float(np.linalg.norm(scaled, 2)) * left
    rate = slowest - 2 * push if last.train_outer else slowest
    # More than about its own size says nothing of a neuron.
    share = float(np.expm1(push / rate)) if rate > push else np.inf
    return share, left, limit_loss


def _across(inputs: np.ndarray, slid: Bool[np.ndarray, " samples"]) -> np.ndarray:
    """Return the inputs without their components along those that are slid on."""
    if not np.any(slid):
        return inputs
    _, _, basis = np.linalg.svd(inputs[slid], full_matrices=False)
    basis = basis[: np.linalg.matrix_rank(inputs[slid])]
    return inputs - (inputs @ basis.T) @ basis


def _slides_stay(last: _Last, left: float, share: float) -> Bool[np.ndarray, "width samples"]:
    """Return which pairs slide on when the residual changes by as much as is left of it."""
    stays = np.zeros(last.sides.shape, bool)
    root, residual, pulls = last.weight**0.5, last.residual(), last.pull()
    for j in np.flatnonzero(np.any(last.slides, axis=1)):
        slid = last.slides[j]
        across = last.inputs[slid]
        if np.linalg.matrix_rank(across) < across.shape[0]:
            continue  # fractions are not unique: hyperplanes that coincide, or meet in one
        # Pulls of what is slid on, times the fractions of them that hold the neuron there.
        held = np.linalg.solve(across @ across.T, across) @ (last.active[j] * root * last.inputs.T)
        pull, fraction_of_it = pulls[slid], held @ residual
        sign, moved = np.sign(pull), 2 * left * np.linalg.norm(held, axis=1)
        above = sign * fraction_of_it > moved
        below = sign * (pull - fraction_of_it) > moved + 2 * left * root
        # It must be drawn to the hyperplane, and so by an outer weight that keeps its sign.
        drawn = (np.abs(last.outer[j]) > share * last.size[j]) & (last.outer[j] * pull < 0)
        stays[j, slid] = np.all(above & below & drawn)
    return stays


def _barred(
    last: _Last, unsure: Bool[np.ndarray, "width samples"], left: float, share: float
) -> Bool[np.ndarray, "width samples"]:
    """Return which unsure pairs never become active: on that side they are pushed back.

    The other unsure pairs of the neuron may be in any mode.
    """
    gram, pull = last.inputs @ last.inputs.T, last.pull()
    way = np.sign(last.outer) * (np.abs(last.outer) > share * last.size)
    sure_active = last.active & ~unsure
    own = pull * np.diag(gram)
    push = way[:, None] * ((sure_active * pull) @ gram + own)
    worst = _pushed(way[:, None], unsure, pull[:, None] * gram - np.diag(own))
    concerned = (sure_active | unsure).astype(float)
    change = 2 * left * last.weight**0.5 * np.sqrt(concerned @ gram**2)
    return unsure & ~last.active & (way[:, None] != 0) & (push + worst < -change)

"""What the theorems of learning a single neuron read off a run, at any scale of the weights."""

import math
from functools import cached_property

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from ....claims.verdict import Evidence
from ....model.network import TwoLayerReLU
from .parameters import Constants

_ACTIVE = 1e-11  # cosines up to here are on the hyperplane: a neuron that died rests there
_POINTS = 48  # times looked at in each stretch of a run


class Snapshot(eqx.Module):
    r"""A network at one time, as directions and logarithms.

    Attributes:
        t: When.
        direction: Unit inner weights.
        log_norm: Natural logarithm of the inner weights' norms.
        log_outer: Natural logarithm of the outer weights' sizes.
        sign: Sign of the outer weights.
        active: Which neuron is active on which sample.
        log_output: Natural logarithm of the size of what `output` is in units of.
        output: The network's outputs at the inputs, in units of their own size.
        drive: $g_j$, the vector that drives each neuron.

    Source:
        Chistikov, Englert, Lazić (2023), section 2 and Proposition 1(i), with $\sigma'(0) = 0$.
    """

    t: float
    direction: Float[np.ndarray, "width features"]
    log_norm: Float[np.ndarray, " width"]
    log_outer: Float[np.ndarray, " width"]
    sign: Float[np.ndarray, " width"]
    active: Bool[np.ndarray, "width samples"]
    log_output: float
    output: Float[np.ndarray, " samples"]
    drive: Float[np.ndarray, "width features"]

    @classmethod
    def of(cls, t: float, network: TwoLayerReLU, found: Constants) -> "Snapshot":
        """Read a network.

        Source:
            This package; directions and logarithms hold at scales that a float does not.
        """
        inner, outer = np.asarray(network.inner_weight), np.asarray(network.outer_weight)
        length = np.linalg.norm(inner, axis=1)
        direction = inner / np.where(length > 0, length, 1.0)[:, None]
        log_norm = _log(length) + np.asarray(network.log_scale)
        log_outer = _log(np.abs(outer)) + np.asarray(network.outer_log_scale)
        across = direction @ found.inputs.T
        active = across > _ACTIVE * np.linalg.norm(found.inputs, axis=1)
        size = log_norm + log_outer
        top = float(np.max(size))
        output = (np.sign(outer) * np.exp(size - top)) @ np.where(active, across, 0.0)
        pull = (found.targets - math.exp(top) * output) / found.samples
        return cls(
            t, direction, log_norm, log_outer, np.sign(outer), active, top, output,
            (active * pull) @ found.inputs,
        )  # fmt: skip

    def log_loss(self, found: Constants) -> float:
        """Return the natural logarithm of the loss; `-inf` if the loss is zero.

        Source:
            Chistikov, Englert, Lazić (2023), section 2, the mean square loss.
        """
        rest = found.targets - math.exp(self.log_output) * self.output
        return 2 * float(_log(np.linalg.norm(rest))) - math.log(2 * found.samples)

    def log_slope(self) -> float:
        r"""Return $\ln\|\nabla L\|^2$.

        Source:
            Chistikov, Englert, Lazić (2023), Proposition 1(i); $\|\nabla L\|^2$ is that of Lemma
            32(iv).
        """
        along = np.abs(np.sum(self.direction * self.drive, axis=1))
        outer = _log(along) + self.log_norm
        inner = _log(np.linalg.norm(self.drive, axis=1)) + self.log_outer
        return float(np.logaddexp.reduce(2 * np.concatenate([inner, outer])))

    def square_norm(self) -> float:
        r"""Return the squared Euclidean norm of all weights.

        Source:
            Chistikov, Englert, Lazić (2023), $\|\theta\|^2$ of Theorem 8.
        """
        return float(np.sum(np.exp(2 * self.log_norm)) + np.sum(np.exp(2 * self.log_outer)))


class Bundle(eqx.Module):
    r"""The sum $v = \sum_{j\in J_+} a_jw_j$ of the growing neurons, and how it moves.

    Attributes:
        t: When.
        log_norm: $\ln\|v\|$.
        direction: $\bar v$.
        rate: $\dot v/\|v\|$, from the velocity of every neuron.
        reduced: The same of the reduced equation, $g + \bar v\bar v^\top g$.
        rest: $v^* - v$.
        force: $g = \frac1n\sum_i x_ix_i^\top(v^* - v)$.
        log_part: $\ln(\nu_k/\nu^*_k)$; `-inf` where $\nu_k$ is not positive.

    Source:
        Chistikov, Englert, Lazić (2023), section 5, and appendix E before Lemma 28.
    """

    t: float
    log_norm: float
    direction: Float[np.ndarray, " features"]
    rate: Float[np.ndarray, " features"]
    reduced: Float[np.ndarray, " features"]
    rest: Float[np.ndarray, " features"]
    force: Float[np.ndarray, " features"]
    log_part: Float[np.ndarray, " features"]

    @classmethod
    def of(cls, shot: Snapshot, found: Constants) -> "Bundle":
        """Read the bundle off a snapshot.

        Source:
            Chistikov, Englert, Lazić (2023), section 5; velocities of neurons by Proposition 1(i).
        """
        inner, outer = shot.log_norm[found.growing], shot.log_outer[found.growing]
        direction, drive = shot.direction[found.growing], shot.drive[found.growing]
        top = float(np.max(inner + outer, initial=-np.inf))
        total = (shot.sign[found.growing] * np.exp(inner + outer - top)) @ direction
        size = float(np.linalg.norm(total))
        unit = total / size
        along = np.sum(direction * drive, axis=1)
        velocity = np.exp(2 * inner - top) * along @ direction + np.exp(2 * outer - top) @ drive
        log_norm = top + math.log(size)
        rest = found.teacher - math.exp(log_norm) * unit
        force = found.inputs.T @ (found.inputs @ rest) / found.samples
        part = unit @ found.eigenvector / np.where(found.nu > 0, found.nu, np.nan)
        return cls(
            t=shot.t,
            log_norm=log_norm,
            direction=unit,
            rate=velocity / size,
            reduced=force + (unit @ force) * unit,
            rest=rest,
            force=force,
            log_part=_log(part) + log_norm,
        )


class Measured:
    """A run as the theorems look at it; what is read once is kept.

    Args:
        evidence: Problem, initial network and run.
        found: The constants of the theorems.
        resolution: How far the run is exact, relative to each neuron's own size and for
            every e-fold of its growth.

    Source:
        This package; statements of the paper read a run through it.
    """

    def __init__(self, evidence: Evidence, found: Constants, resolution: float):
        self.evidence, self.found, self.resolution = evidence, found, resolution
        self._shots: dict[float, Snapshot] = {}

    def at(self, t: float) -> Snapshot:
        """Return the network at a time of the run.

        Source:
            This package; the run's dense output gives the network.
        """
        if t not in self._shots:
            network = self.evidence.flow.network_at(jnp.asarray(t))
            self._shots[t] = Snapshot.of(t, network, self.found)
        return self._shots[t]

    def bundle(self, t: float) -> Bundle:
        """Return the bundle of growing neurons at a time of the run.

        Source:
            Chistikov, Englert, Lazić (2023), section 5, $v^t$.
        """
        return Bundle.of(self.at(t), self.found)

    def span(self, start: float, end: float) -> list[float]:
        """Return times from `start` to `end`, ends included; none if the run ends before.

        Source:
            This package; a statement about all times of a stretch is checked at some of them.
        """
        if not (start <= end <= self.evidence.end):
            return []
        return np.linspace(start, end, _POINTS).tolist()

    @cached_property
    def crossings(self) -> list[list[tuple[float, int]]]:
        r"""For each neuron when it switched, and at which sample's hyperplane, in order.

        Source:
            Chistikov, Englert, Lazić (2023), Lemma 3, the times $t_j^\ell$ and samples $i_j^\ell$.
        """
        switches = self.evidence.flow.switches
        lists: list[list[tuple[float, int]]] = [[] for _ in range(self.found.width)]
        num = int(switches.num)
        columns = (np.asarray(c)[:num] for c in (switches.time, switches.neuron, switches.sample))
        for time, neuron, sample in zip(*columns, strict=True):
            if time <= self.evidence.end:
                lists[int(neuron)].append((float(time), int(sample)))
        return lists

    @cached_property
    def log_loss_of_zero(self) -> float:
        """Natural logarithm of the loss of a network that is zero.

        Source:
            This package; the loss at the end of a run is judged relative to it.
        """
        square = float(np.sum(self.found.targets**2))
        return math.log(square / (2 * self.found.samples))

    @cached_property
    def interpolates(self) -> bool:
        """Whether the run ends with a loss of at most 1e-16 of that of a zero network.

        Source:
            This package; Theorems 7 and 8 are about limits, and a run ends before.
        """
        reached = self.at(self.evidence.end).log_loss(self.found)
        return reached <= self.log_loss_of_zero + math.log(1e-16)

    @cached_property
    def bundle_width(self) -> float:
        r"""How far apart unit vectors with a cosine of $1 - 4\lambda^\varepsilon$ are.

        Source:
            Chistikov, Englert, Lazić (2023), Lemma 28(i), as the length of a chord.
        """
        return math.exp(0.5 * (math.log(8) + self.found.eps * min(self.found.log_lambda, 0.0)))

    @cached_property
    def rest_norm(self) -> float:
        r"""The norm of the inner weights of all neurons outside $J_+$, at time zero.

        If $\lambda > 1$, it is taken as 1.

        Source:
            Chistikov, Englert, Lazić (2023), the proof of Theorem 7: $\|w_j\| \le \lambda\|z_j\|$
            for $j \notin J_+$.
        """
        start = np.linalg.norm(self.found.start[~self.found.growing])
        return float(start) * math.exp(min(self.found.log_lambda, 0.0))

    @cached_property
    def norm_excess(self) -> float:
        r"""By how much the square norm of the limit may differ from 2 (see `limit`).

        Source:
            This package; the proof of Theorem 7 bounds $\sum_j\|w_j\|^2$ by
            $1/(1 - 4\lambda^\varepsilon)$, for which its root is enough.
        """
        width = self.bundle_width**2 / 2
        spread = 2 / math.sqrt(1 - width) - 2 if width < 1 else math.inf
        return spread + 2 * self.rest_norm**2 + 1e-6

    @cached_property
    def departure(self) -> float:
        r"""$T_2$: the first time from $T_1$ on with $\nu_1/\nu^*_1$ at least one half.

        `nan` if the run ends before.

        Source:
            Chistikov, Englert, Lazić (2023), section 5, $T_2$.
        """
        return self.rise(0, math.log(0.5), self.found.alignment_end)

    @cached_property
    def late(self) -> list[float]:
        r"""Times from $T_1$ to the end, close together from $T_2$ on while there is motion.

        Source:
            This package; statements about the second phase are checked at these times.
        """
        begin, end = self.found.alignment_end, self.evidence.end
        if not 0 <= begin <= end or not np.any(self.found.growing):
            return []
        if math.isnan(self.departure):
            return self.span(begin, end)
        after = np.geomspace(0.02, 1.02, 3 * _POINTS) - 0.02
        slowest = float(self.found.eigenvalue[-1])
        moving = self.departure + after * min(end - self.departure, 60 / max(slowest, 1e-300))
        return sorted({*self.span(begin, self.departure), *moving.tolist(), end})

    @cached_property
    def moving(self) -> list[Bundle]:
        r"""The bundle from $T_1$ on, until $v^* - v$ is lost in rounding.

        Source:
            This package; statements about the bundle are checked on these.
        """
        bundles = [self.bundle(t) for t in self.late]
        return [b for b in bundles if np.linalg.norm(b.rest) > 1e-6]

    def rise(self, part: int, log_level: float, start: float) -> float:
        """Return when a coordinate's log ratio to the teacher's first rises to a level.

        `nan` if it does not, `start` if it is there already.

        Source:
            This package; $T_2$ and the order of coordinates (section 5 of the paper) ask for it.
        """
        ratio = lambda t: float(self.bundle(t).log_part[part])
        if not 0 <= start <= self.evidence.end or not np.any(self.found.growing):
            return math.nan
        times = self.span(start, self.evidence.end) if part == 0 else self.late
        after = next((k for k, t in enumerate(times) if ratio(t) >= log_level), None)
        if after is None:
            return math.nan
        if after == 0:
            return times[0]
        below, above = times[after - 1], times[after]
        for _ in range(60):
            middle = 0.5 * (below + above)
            below, above = (below, middle) if ratio(middle) >= log_level else (middle, above)
            if not below < 0.5 * (below + above) < above:
                break
        return above


def log_beyond(value: float, resolution: float) -> float:
    """Return the logarithm of what of a value exceeds the resolution; `-inf` if nothing.

    Bounds such as the scale itself are far below what double precision resolves in a
    quantity of order one. A run can bear them out only to its own resolution: what it
    refutes is measured, what it cannot see is not held against the claim.

    Source:
        This package; the paper's bounds are on the exact flow.
    """
    return math.log(value - resolution) if value > resolution else -math.inf


def _log(x):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(x > 0, np.log(np.where(x > 0, x, 1.0)), -np.inf)

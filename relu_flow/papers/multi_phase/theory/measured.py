"""What a run of a two-cluster problem measures."""

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ...._types import FloatScalarLike
from ....claims.verdict import Evidence
from ....model.network import TwoLayerReLU
from ....model.problem import Problem
from ....model.switch import SwitchKind
from .parameters import constants

# Codes of the log of switches.
SLIDE_ENTER = SwitchKind.SLIDE_ENTER
SLIDE_EXIT_ACTIVE = SwitchKind.SLIDE_EXIT_ACTIVE
SLIDE_EXIT_INACTIVE = SwitchKind.SLIDE_EXIT_INACTIVE
FLOOR = 1e-8  # relative error of a run at the usual `rtol`, with room


class Snapshot(eqx.Module):
    """A network of the run.

    Attributes:
        network: The network.
        plus: Output at the first positive sample.
        minus: Output at the first negative sample.
        heavy: Loss of the positive class, its sum divided by the number of all samples: $A$.
        light: That of the negative class: $B$.

    Source:
        This package; what the claims read off a run.
    """

    network: TwoLayerReLU
    plus: float
    minus: float
    heavy: float
    light: float

    @property
    def ratio(self) -> float:
        """Return A/B.

        Source:
            This package's notation: $R$ of `course.py`.
        """
        return self.heavy / self.light


class Measured:
    """A run and its constants; networks are evaluated once for each time.

    Attributes:
        evidence: The problem, the initial network and the run.
        found: The constants of the first two.
        time: Of each switch that the run's log has kept; shape (switches,) as the next three.
        neuron: Its neuron.
        kind: Its kind, a code of `SwitchKind`.
        sample_positive: Whether its sample is of the positive class.

    Source:
        This package; what the claims read off a run.
    """

    def __init__(self, evidence: Evidence):
        self.evidence = evidence
        self.found = constants(evidence.problem, evidence.network)
        log = evidence.flow.switches
        kept = min(int(log.num), len(log.time))
        self.time = np.asarray(log.time)[:kept]
        self.neuron = np.asarray(log.neuron)[:kept]
        self.kind = np.asarray(log.kind)[:kept]
        self.sample_positive = (
            np.asarray(evidence.problem.targets)[np.asarray(log.sample)[:kept]] > 0
        )
        self._seen: dict[float, Snapshot] = {}

    @property
    def end(self) -> float:
        """Return the time up to which the run goes.

        Source:
            This package; a claim about a later time is left open.
        """
        return self.evidence.end

    def at(self, t: FloatScalarLike) -> Snapshot:
        """Return what the run measures at a time; all `nan` beyond its end or for `nan`.

        Source:
            This package; it reads the run's dense output.
        """
        t = float(t)
        if not 0 <= t <= self.end:
            return Snapshot(self.evidence.network, *[math.nan] * 4)
        if t not in self._seen:
            network = _network_at(self.evidence.flow, jnp.asarray(t))
            self._seen[t] = _snapshot(self.evidence.problem, network)
        return self._seen[t]

    def events(
        self, kinds: tuple[int, ...], positive: bool, after: float = 0.0
    ) -> dict[int, float]:
        """Return when each neuron of a sign first had such a switch on the other class.

        Args:
            kinds: Codes of `SwitchKind`.
            positive: Whether neurons of positive output weight are meant; their other class is
                the negative one.
            after: Only later switches count.

        Returns:
            A time for each neuron that had one; the others are left out.

        Source:
            This package; it reads the run's log of switches.
        """
        chosen = np.isin(self.kind, kinds) & (self.found.positive[self.neuron] == positive)
        chosen &= (self.sample_positive != positive) & (self.time > after)
        first: dict[int, float] = {}
        for neuron, time in zip(self.neuron[chosen], self.time[chosen], strict=True):
            first.setdefault(int(neuron), float(time))
        return first

    def slides(self, positive: bool) -> tuple[Int[np.ndarray, " sliding"], float, float]:
        """Return neurons of a sign that slide long on the other class, and from when to when.

        Of the neurons' first slides those count that last at least half as long as the
        longest; the stretch is the one in which all of these slide. If there are none, both
        times are `nan`.

        Source:
            This package; it reads the run's log of switches.
        """
        stays = {}
        for neuron, start in self.events((SLIDE_ENTER,), positive).items():
            exits = (SLIDE_EXIT_ACTIVE, SLIDE_EXIT_INACTIVE)
            end = self.events(exits, positive, start).get(neuron, self.end)
            stays[neuron] = (start, end)
        longest = max((b - a for a, b in stays.values()), default=0.0)
        long = {j: stay for j, stay in stays.items() if stay[1] - stay[0] >= 0.5 * longest > 0}
        if not long:
            return np.zeros(0, int), math.nan, math.nan
        start = max(a for a, _ in long.values())
        return np.array(sorted(long)), start, min(b for _, b in long.values())

    def implied_weights(
        self, neurons: Int[np.ndarray, " sliding"], positive: bool, t: float, h: float
    ) -> Float[np.ndarray, " sliding"]:
        r"""Return the share of the other class's input that neurons' own motion implies.

        A central difference of the run gives $\dot W_j = V_j(a_+ A x_+ - a_- B x_-)$, whose
        coefficients follow by least squares; $A$, $B$ are those of the network at the time.

        Args:
            neurons: Which neurons, as `slides` returns them.
            positive: Whether they are of positive output weight, and the share is of $x_-$.
            t: The time, within their slide.
            h: Half the distance of the two times of the difference.

        Source:
            This package; a test of `slide_weights` that does not use Filippov's rule.
        """
        before, here, behind = (self.at(s) for s in (t - h, t, t + h))
        scale = np.asarray(here.network.log_scale)
        inner = lambda found: np.asarray(
            found.network.inner_weight * jnp.exp(found.network.log_scale - scale)[:, None]
        )
        outer = np.asarray(here.network.outer_weight)
        outer = outer * np.exp(np.asarray(here.network.outer_log_scale) - scale)
        velocity = (inner(behind) - inner(before))[neurons] / (2 * h) / outer[neurons, None]
        certificate = self.found.certificate
        basis = np.stack([certificate.x_plus, certificate.x_minus], axis=1)
        a, b = np.linalg.lstsq(basis, velocity.T, rcond=None)[0]
        return -b / here.light if positive else a / here.heavy


def _snapshot(problem: Problem, network: TwoLayerReLU) -> Snapshot:
    predictions = np.asarray(problem.predictions(network))
    positive = np.asarray(problem.targets) > 0
    with np.errstate(over="ignore"):
        losses = np.asarray(problem.loss.value(jnp.asarray(predictions), problem.targets))
    losses = losses / problem.samples
    return Snapshot(
        network,
        float(predictions[positive][0]),
        float(predictions[~positive][0]),
        float(np.sum(losses[positive])),
        float(np.sum(losses[~positive])),
    )


@eqx.filter_jit
def _network_at(flow, t: Float[Array, ""]) -> TwoLayerReLU:
    """Return the network at a time: dense output is a program worth compiling once."""
    return flow.network_at(t)

"""Constants of a two-cluster problem and the network that a flow starts from."""

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from ....data.clusters import Clusters, clusters_check
from ....model.network import TwoLayerReLU
from ....model.problem import Problem
from .course import Course
from .points import TwoPoints, survival_angle, survives


class Constants(eqx.Module):
    r"""What the claims are computed from: data and initial network alone.

    Attributes:
        certificate: The data measured as two clusters.
        positive: Which neurons have a positive outer weight.
        living: Which neurons will not die, by `survives`.
        log_kappa_1: $\log\kappa_1$: the longest inner weight is $\kappa_1/\sqrt m$.
        log_kappa_2: $\log\kappa_2$: the largest outer weight is $\kappa_2/\sqrt m$.
        uneven: How far outer weights differ in size: log of largest over smallest.
        theta_0: $\arctan(\sin\Delta/(p - c))$, radians.
        points: $p$, $\Delta$, $\gamma_\pm$ with the living neurons counted.
        course: The flow in closed form, as if $\kappa_1 = 0$.
        phase_one: $10\sqrt{\kappa_1/\kappa_2}$, when neurons have condensed.
        accuracy: $\kappa_1\kappa_2$, by how much outputs may differ from the course's.

    Source:
        After Wang, Ma (2023); the setting, with the length of phase I, is recalled, not quoted.
    """

    certificate: Clusters
    positive: Bool[np.ndarray, " width"]
    living: Bool[np.ndarray, " width"]
    log_kappa_1: float
    log_kappa_2: float
    uneven: float
    theta_0: float
    points: TwoPoints
    course: Course
    phase_one: float
    accuracy: float

    @property
    def living_positives(self) -> int:
        """Return $m_+$, how many neurons of positive output weight live.

        Source:
            After Wang, Ma (2023), recalled, not quoted.
        """
        return int(np.sum(self.living & self.positive))

    @property
    def living_negatives(self) -> int:
        """Return $m_-$, how many neurons of negative output weight live.

        Source:
            After Wang, Ma (2023), recalled, not quoted.
        """
        return int(np.sum(self.living & ~self.positive))


def constants(problem: Problem, network: TwoLayerReLU) -> Constants:
    r"""Return the constants of a problem and the network that a flow starts from.

    Classes are represented by the directions of their sums; whether they are copies of
    unit vectors is for the hypotheses to say.

    Raises:
        ValueError: If a class is empty, an outer weight is zero, or inner weights all are.

    Source:
        This package; `Constants` says what they are after.
    """
    found = clusters_check(problem)
    if int(found.n_plus) == 0 or int(found.n_minus) == 0:
        raise ValueError(
            "Argument `problem` must have samples of both classes, but it has "
            f"{int(found.n_plus)} positive and {int(found.n_minus)} negative ones."
        )
    outer = np.asarray(network.outer_weight)
    log_norm = float(np.max(np.asarray(network.log_norm())))
    if np.any(outer == 0) or log_norm == -math.inf:
        raise ValueError(
            "Argument `network` must have outer weights that are not zero, and an inner one, "
            f"but {int(np.sum(outer == 0))} outer weights are and the longest inner weight "
            f"has log norm {log_norm}."
        )
    log_outer = np.log(np.abs(outer)) + np.asarray(network.outer_log_scale)
    positive = outer > 0
    on_plus, on_minus = network.inner_weight @ found.x_plus, network.inner_weight @ found.x_minus
    lives = survives(found.p, found.angle, jnp.asarray(positive), on_plus, on_minus)
    lives = np.asarray(lives)
    gamma = lambda mask: float(np.sum(np.exp(2 * log_outer[mask])))
    points = TwoPoints(
        float(found.p), float(found.angle), gamma(lives & positive), gamma(lives & ~positive)
    )
    half = 0.5 * math.log(network.width)
    kappa_1, kappa_2 = log_norm + half, float(np.max(log_outer)) + half
    return Constants(
        certificate=found,
        positive=positive,
        living=lives,
        log_kappa_1=kappa_1,
        log_kappa_2=kappa_2,
        uneven=float(np.ptp(log_outer)),
        theta_0=float(survival_angle(found.p, found.angle)),
        points=points,
        course=Course(points),
        phase_one=10 * math.exp(0.5 * (kappa_1 - kappa_2)),
        accuracy=math.exp(kappa_1 + kappa_2),
    )

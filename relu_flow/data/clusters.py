r"""Two clusters of opposite labels at an acute angle, one heavier than the other.

All inputs of a class are copies of one direction $x_\pm$ of norm 1. Negative neurons are
pushed off $x_+$ by the heavy class and pulled back by the light one: they slide.
"""

import math
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from .._types import FloatScalarLike
from ..model.loss import AbstractLoss, ExponentialLoss
from ..model.problem import Problem
from .certificate import AbstractCertificate, Margins, met, rounding
from .draws import check_interval, check_size, gaussians, uniform
from .sphere import angle as angle_between, azimuths, cap, frame, unit


class Clusters(AbstractCertificate):
    r"""What two clusters are measured by.

    Attributes:
        margins: `heavy class` $p\cos\Delta - 1$; `separate classes` $\Delta$ and
            `acute classes` $\pi/2 - \Delta$, radians; `unit norms` and `copies`, what the
            largest $|\|x_i\| - 1|$ and the spread leave of rounding; `labels`,
            `exponential loss`, `mean of losses` and `outer layer fixed`, yes or no.
        p: $n_+/n_-$, the ratio of the numbers of samples; `inf` or zero if a class is
            empty.
        angle: $\Delta$, the angle between the two class sums, radians; $\pi/2$ if a class
            is empty.
        n_plus: $n_+$, the number of samples with positive target.
        n_minus: $n_-$, the number of samples with negative target.
        x_plus: The direction of the sum of the positive inputs.
        x_minus: The direction of the sum of the negative inputs.
        spread: Largest angle of an input to the sum of its class, radians.
    """

    margins: Margins
    p: Float[Array, ""]
    angle: Float[Array, ""]
    n_plus: Int[Array, ""]
    n_minus: Int[Array, ""]
    x_plus: Float[Array, " features"]
    x_minus: Float[Array, " features"]
    spread: Float[Array, ""]


def two_clusters(
    positives: int,
    negatives: int,
    angle: FloatScalarLike,
    *,
    features: int = 2,
    key: Key[Array, ""] | None = None,
    jitter: FloatScalarLike = 0.0,
    loss: AbstractLoss | None = None,
    reduction: Literal["sum", "mean"] = "mean",
    train: Literal["both", "inner"] = "inner",
) -> tuple[Problem, Clusters]:
    r"""Return copies of two directions of norm 1 at a given angle, with opposite labels.

    Without a key $x_+$ and $x_-$ lie in the plane of the first two coordinates, at equal
    angles to the first axis; with one the plane is turned at random, the same for every
    angle and number of copies. The hypothesis $p\cos\Delta > 1$ is not enforced: the
    certificate says whether it is met.

    Args:
        positives: $n_+$, at least 1: copies of $x_+$, labelled +1. They come first.
        negatives: $n_-$, at least 1: copies of $x_-$, labelled -1.
        angle: $\Delta$ between $x_+$ and $x_-$, in $(0, \pi)$, radians.
        features: Number of coordinates of an input, at least 2.
        key: From `jax.random.key`; needed for `jitter`.
        jitter: Turn each copy away from $x_\pm$ by a uniform angle up to this one, in
            radians, from 0 to $\pi/2$, at a random azimuth. The certificate of data that are
            no longer copies does not hold.
        loss: Exponential unless given.
        reduction: How losses are reduced over samples.
        train: Which layers are trained; the outer one is fixed unless given.

    Raises:
        ValueError: If an argument is out of its range, or jitter is asked for without a key.

    Source:
        After Wang, Ma, "Understanding Multi-phase Optimization Dynamics and Rich Nonlinear
        Behaviors of ReLU Networks" (2023); the setting is recalled, not quoted.

    Example:
        >>> import relu_flow as rf
        >>> problem, certificate = rf.two_clusters(positives=4, negatives=2, angle=0.5)
        >>> float(certificate.p), round(float(certificate.angle), 12)
        (2.0, 0.5)
    """
    check_size("positives", positives)
    check_size("negatives", negatives)
    check_size("features", features, 2)
    check_interval("angle", angle, 0.0, math.pi, "between 0 and pi")
    plane, drawn = jnp.eye(2, features), None
    if key is not None:
        drawn = gaussians(key, 2 + positives + negatives, features + 1)
        plane = frame(drawn[:2, :-1])
    along, aside = jnp.cos(jnp.asarray(angle) / 2), jnp.sin(jnp.asarray(angle) / 2)
    labels = jnp.where(jnp.arange(positives + negatives) < positives, 1.0, -1.0)
    x_plus, x_minus = along * plane[0] + aside * plane[1], along * plane[0] - aside * plane[1]
    inputs = jnp.where(labels[:, None] > 0, x_plus[None], x_minus[None])
    if not (isinstance(jitter, int | float) and jitter == 0):
        inputs = _jittered(drawn, inputs, x_plus, x_minus, labels, jitter)
    problem = Problem(inputs, labels, loss, reduction, train)
    return problem, clusters_check(problem)


@eqx.filter_jit
def clusters_check(problem: Problem) -> Clusters:
    """Measure any problem as two clusters; signs of targets count as labels.

    Source:
        After Wang, Ma (2023); the hypotheses are recalled, not quoted.
    """
    inputs, targets = problem.inputs, problem.targets
    positive, negative = targets > 0, targets < 0
    n_plus, n_minus = jnp.sum(positive), jnp.sum(negative)
    x_plus, x_minus = (unit(side.astype(inputs.dtype) @ inputs) for side in (positive, negative))
    p = jnp.where(n_minus > 0, n_plus / jnp.maximum(n_minus, 1), jnp.inf)
    delta = angle_between(x_plus, x_minus)
    own = jnp.where(positive[:, None], x_plus[None], x_minus[None])
    spread = jnp.max(jnp.where(positive | negative, angle_between(inputs, own), jnp.inf))
    tolerance = rounding(problem)
    norms = jnp.linalg.norm(inputs, axis=1)
    return Clusters(
        margins={
            "heavy class": p * jnp.cos(delta) - 1,
            "separate classes": delta,
            "acute classes": math.pi / 2 - delta,
            "unit norms": tolerance - jnp.max(jnp.abs(norms - 1)),
            "copies": tolerance - spread,
            "labels": met(jnp.all(jnp.abs(targets) == 1) & (n_plus > 0) & (n_minus > 0)),
            "exponential loss": met(isinstance(problem.loss, ExponentialLoss)),
            "mean of losses": met(problem.reduction == "mean"),
            "outer layer fixed": met(problem.train == "inner"),
        },
        p=p,
        angle=delta,
        n_plus=n_plus,
        n_minus=n_minus,
        x_plus=x_plus,
        x_minus=x_minus,
        spread=spread,
    )


def _jittered(drawn, inputs, x_plus, x_minus, labels, jitter) -> Float[Array, "samples features"]:
    check_interval("jitter", jitter, 0.0, math.pi / 2, "between 0 and pi/2")
    if drawn is None:
        raise ValueError(f"Argument `key` must be given for a jitter, but `jitter` is {jitter}.")
    around = jnp.where(
        labels[:, None] > 0,
        azimuths(x_plus, drawn[2:, :-1]),
        azimuths(x_minus, drawn[2:, :-1]),
    )
    return cap(inputs, around, jitter * uniform(drawn[2:, -1]))

"""Orthogonal data: no input sees another, so that every sample's pull is its own."""

from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, Key

from .._types import FloatArrayLike
from ..model.loss import AbstractLoss, ExponentialLoss
from ..model.problem import Problem
from .certificate import AbstractCertificate, Margins, rounding
from .draws import between, check_ends, check_size, gaussians, signs
from .sphere import cosines, frame, off_diagonal


class Orthogonality(AbstractCertificate):
    r"""What orthogonal data are measured by.

    Attributes:
        margins: `orthogonal inputs`, in units of the cosine, is what the largest one leaves
            of rounding; `non-zero targets` is $\min_i |y_i|$.
        max_cosine: Largest $|\cos(x_i, x_k)|$ of two samples; zero for one sample.
        x_min: $\min_i \|x_i\|$.
        x_max: $\max_i \|x_i\|$.
        n_plus: Number of positive targets.
        n_minus: Number of negative targets.
        plus: $\|\sum_{y_i > 0} y_i x_i\|$. A neuron of vanishing scale with positive outer
            weight, active on all positive samples and no other, grows at this rate under
            the sum of square or exponential losses (half of it for logistic ones, divided
            by the number of samples for means).
        minus: $\|\sum_{y_i < 0} y_i x_i\|$, the same for negative outer weights. Which of
            the two is larger decides which group grows first.
    """

    margins: Margins
    max_cosine: Float[Array, ""]
    x_min: Float[Array, ""]
    x_max: Float[Array, ""]
    n_plus: Int[Array, ""]
    n_minus: Int[Array, ""]
    plus: Float[Array, ""]
    minus: Float[Array, ""]


def orthogonal(
    key: Key[Array, ""],
    samples: int,
    features: int,
    *,
    positives: int | None = None,
    targets: FloatArrayLike | None = None,
    norms: tuple[float, float] = (1.0, 1.0),
    rotate: bool = False,
    loss: AbstractLoss | None = None,
    reduction: Literal["sum", "mean"] = "sum",
) -> tuple[Problem, Orthogonality]:
    r"""Draw orthogonal inputs.

    Along coordinate axes, so that inner products are exactly zero: nothing is lost where
    initial networks are drawn isotropically. `rotate` turns them by a random rotation,
    which leaves rounding errors in the inner products. Norms and rotation are the same for
    any targets and losses, and the first samples of a larger set (of the same number of
    features) have the inputs of a smaller one, and its labels if there are as many
    positives as negatives, or one more.

    Args:
        key: From `jax.random.key`.
        samples: Number of samples.
        features: Number of coordinates of an input, at least `samples`.
        positives: How many targets are positive; half of them, or one more, unless given.
            Signs alternate from +1 until one class is complete.
        targets: The targets, instead of drawn ones. Drawn ones are +1 and -1 for a
            classification loss; for another loss sizes from 1 (the first) to 2 (the second,
            the others log-uniform between) with these signs.
        norms: Smallest and largest norm. The first sample has the smallest, the second the
            largest, the others are log-uniform.
        rotate: Whether to turn the inputs away from the axes.
        loss: Exponential unless given.
        reduction: How losses are reduced over samples.

    Raises:
        ValueError: If a size, `positives` or `norms` is out of its range, or `positives` is
            given beside `targets`.

    Source:
        Orthogonal inputs are the hypothesis of Boursier, Pillaud-Vivien, Flammarion,
        "Gradient flow dynamics of shallow ReLU networks for square loss and orthogonal
        inputs" (2022).

    Example:
        >>> import jax, relu_flow as rf
        >>> problem, certificate = rf.orthogonal(jax.random.key(0), samples=3, features=5)
        >>> bool(certificate.holds)
        True
    """
    check_size("samples", samples)
    check_size("features", features, samples, "no more inputs can be orthogonal")
    check_ends("norms", norms)
    loss = ExponentialLoss() if loss is None else loss
    drawn = gaussians(jr.fold_in(key, 0), samples, 2)
    if targets is None:
        targets = signs(samples, positives)
        if isinstance(loss, AbstractLoss) and not loss.binary:
            targets = targets * between(drawn[:, 1], jnp.array([1.0, 2.0]))
    elif positives is not None:
        raise ValueError(
            f"Argument `positives` must be left out if `targets` is given, but it is {positives}."
        )
    sizes = between(drawn[:, 0], jnp.asarray(norms, float))
    axes = jnp.eye(samples, features)
    if rotate:
        axes = frame(gaussians(jr.fold_in(key, 1), samples, features))
    problem = Problem(sizes[:, None] * axes, targets, loss, reduction)
    return problem, orthogonality_check(problem)


@eqx.filter_jit
def orthogonality_check(problem: Problem) -> Orthogonality:
    r"""Measure the orthogonality of any problem's inputs.

    Source:
        Boursier, Pillaud-Vivien, Flammarion (2022) for the hypothesis. The growth rates follow
        from $w' = vG$, $v' = \langle w, G\rangle$ with the constant $G = \sum_i y_i x_i$ over
        the active samples: $w$ and $v$ grow as $e^{\|G\|t}$.
    """
    inputs, targets = problem.inputs, problem.targets
    norms = jnp.linalg.norm(inputs, axis=1)
    max_cosine = jnp.max(jnp.abs(off_diagonal(cosines(inputs), 0.0)))
    pulled = targets[:, None] * inputs
    positive, negative = targets > 0, targets < 0
    return Orthogonality(
        margins={
            "orthogonal inputs": rounding(problem) - max_cosine,
            "non-zero targets": jnp.min(jnp.abs(targets)),
        },
        max_cosine=max_cosine,
        x_min=jnp.min(norms),
        x_max=jnp.max(norms),
        n_plus=jnp.sum(positive),
        n_minus=jnp.sum(negative),
        plus=jnp.linalg.norm(positive.astype(pulled.dtype) @ pulled),
        minus=jnp.linalg.norm(negative.astype(pulled.dtype) @ pulled),
    )

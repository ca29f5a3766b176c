r"""Orthogonally separable data: classes at acute angles inside, at obtuse angles across.

With $z_i = y_i x_i / \|x_i\|$ the data are $\mu$-orthogonally separable if all
$\langle z_i, z_k\rangle \ge \mu > 0$. All points of a spherical cap of half the angle
$\arccos\mu$ satisfy this, and two opposite points of its rim attain it.
"""

from typing import Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from .._types import FloatScalarLike, is_traced
from ..model.loss import AbstractLoss
from ..model.problem import Problem
from .certificate import AbstractCertificate, Margins, met
from .draws import between, check_ends, check_interval, check_size, gaussians, signs, uniform
from .sphere import azimuths, cap, cap_fraction, cosines, unit


class Separability(AbstractCertificate):
    r"""What orthogonally separable data are measured by.

    Attributes:
        margins: `separability` is $\mu$; `labels`, `classification loss` and `both layers`
            are yes or no. Whether losses are summed or averaged only rescales time and is
            no hypothesis here.
        mu: $\mu = \min_{i,k} \langle x_i y_i, x_k y_k\rangle / (\|x_i\|\|x_k\|)$.
        x_plus: $x_+ = \sum_{y_i > 0} x_i$; zero if the class is empty.
        x_minus: $x_- = \sum_{y_i < 0} x_i$; zero if the class is empty.
        x_min: $\min_i \|x_i\|$.
        x_max: $\max_i \|x_i\|$.
        n_plus: Number of positive targets.
        n_minus: Number of negative targets.
        zeta_1: The supremum of the $\zeta_1$ for which the cone
            $\cos(z, x_\pm) \ge \sqrt{1 - \zeta_1}$ is inside $S_\pm$, for either class that
            is not empty. Negative if a class sum is not even in its own cone: the square
            with the cosine's sign.
        xi: The largest $\xi$ for which $|\cos(p, q)| \le \sqrt{1 - \xi}$ for all $p$ in the
            cone of the $y_i x_i$ and all $q$ outside $S_+ \cup S_-$; zero unless $\mu > 0$.
    """

    margins: Margins
    mu: Float[Array, ""]
    x_plus: Float[Array, " features"]
    x_minus: Float[Array, " features"]
    x_min: Float[Array, ""]
    x_max: Float[Array, ""]
    n_plus: Int[Array, ""]
    n_minus: Int[Array, ""]
    zeta_1: Float[Array, ""]
    xi: Float[Array, ""]


def orthogonally_separable(
    key: Key[Array, ""],
    samples: int,
    features: int,
    mu: FloatScalarLike,
    *,
    positives: int | None = None,
    norms: tuple[float, float] = (1.0, 1.0),
    loss: AbstractLoss | None = None,
    reduction: Literal["sum", "mean"] = "sum",
) -> tuple[Problem, Separability]:
    r"""Draw orthogonally separable data whose $\mu$ is the one asked for, to rounding.

    The points $y_i x_i$ lie in a cap about a random axis. The first two are opposite points
    of its rim, at the angle $\arccos\mu$; the others are strictly inside, at uniformly
    random azimuths. A key's axis, azimuths, fractions of the cap's angle and labels are the
    same for every $\mu$ and every range of norms, and, with as many positives as negatives
    (or one more), the first samples of a larger set are a smaller one.

    Args:
        key: From `jax.random.key`.
        samples: Number of samples.
        features: Number of coordinates of an input.
        mu: In $(-1, 1]$. The theory asks for $\mu > 0$; with less the certificate says that
            it does not hold. One sample or one feature allows only 1.
        positives: How many samples are labelled +1, from 0 to `samples`; half of them, or
            one more, unless given. Labels alternate from +1 until one class is complete.
        norms: Smallest and largest norm. The first sample has the smallest, the second the
            largest, the others are log-uniform.
        loss: Exponential unless given; must take the labels +1 and -1.
        reduction: How losses are reduced over samples; the theory's is the sum.

    Raises:
        ValueError: If a size, `mu`, `positives` or `norms` is out of its range, or `mu` is
            not 1 where only 1 is possible.

    Source:
        The hypothesis is Assumption 1 of Min, Mallada, Vidal, "Early Neuron Alignment in
        Two-layer ReLU Networks with Small Initialization" (2024).

    Example:
        >>> import jax, relu_flow as rf
        >>> problem, certificate = rf.orthogonally_separable(jax.random.key(0), 6, 4, mu=0.8)
        >>> bool(certificate.holds), round(float(certificate.mu), 12)
        (True, 0.8)
    """
    check_size("samples", samples)
    check_size("features", features)
    check_ends("norms", norms)
    _check_mu(mu, samples, features)
    labels = signs(samples, positives)
    drawn = gaussians(key, samples + 1, features + 2)
    signed = _signed_inputs(drawn, jnp.asarray(mu, float), jnp.asarray(norms, float))
    problem = Problem(labels[:, None] * signed, labels, loss, reduction)
    return problem, separability_check(problem)


@eqx.filter_jit
def separability_check(problem: Problem) -> Separability:
    r"""Measure the orthogonal separability of any problem.

    For real targets their signs count as labels (and the certificate does not hold).

    Derived here: $\zeta_1 = \min_i \cos^2(x_\pm, x_i)$ over both classes and all samples.
    A $z$ at the angle $\psi$ from $x_+$ can reach every direction at that angle, so that
    the cone is inside $S_+$ if and only if $\psi + \phi_i < \pi/2$ for all angles $\phi_i$
    between $x_+$ and $y_i x_i$, that is $\sin\psi < \cos\phi_i$; and
    $\cos\psi = \sqrt{1 - \zeta_1}$.

    Derived here: $\xi = \mu^2$. Outside $S_+ \cup S_-$ there are $i, k$ with
    $\langle q, z_i\rangle \le 0 \le \langle q, z_k\rangle$. A $p$ of the cone has
    $\cos(p, z_i) \ge \mu$, so the angle from $p$ to $q$ is at least
    $\pi/2 - \arccos\mu$ and $\cos(p, q) \le \sqrt{1-\mu^2}$; likewise from below with
    $z_k$. The worst pair attains it: $p = z_k$ and $q$ along $z_k - \mu z_i$.

    Source:
        Min, Mallada, Vidal (2024), Assumption 1 and Lemmas 8 and 9, which say that such
        constants exist; their values are derived above.

    Example:
        >>> import relu_flow as rf
        >>> found = rf.separability_check(rf.Problem([[1.0, 0.1], [-1.0, 0.2]], [1.0, -1.0]))
        >>> round(float(found.mu), 6), round(float(found.xi), 6)
        (0.9562, 0.914318)
    """
    labels = jnp.sign(problem.targets)
    signed = labels[:, None] * problem.inputs
    norms = jnp.linalg.norm(problem.inputs, axis=1)
    mu = jnp.min(cosines(signed))
    positive, negative = labels > 0, labels < 0
    x_plus, x_minus = (side.astype(norms.dtype) @ problem.inputs for side in (positive, negative))
    zeta_1 = jnp.minimum(
        _signed_square(signed, x_plus, jnp.any(positive)),
        _signed_square(signed, -x_minus, jnp.any(negative)),
    )
    margins = {
        "separability": mu,
        "labels": met(jnp.all(jnp.abs(problem.targets) == 1)),
        "classification loss": met(problem.loss.binary),
        "both layers": met(problem.train == "both"),
    }
    return Separability(
        margins=margins,
        mu=mu,
        x_plus=x_plus,
        x_minus=x_minus,
        x_min=jnp.min(norms),
        x_max=jnp.max(norms),
        n_plus=jnp.sum(positive),
        n_minus=jnp.sum(labels < 0),
        zeta_1=zeta_1,
        xi=jnp.maximum(mu, 0.0) ** 2,
    )


def _signed_square(
    signed: Float[Array, "samples features"],
    center: Float[Array, " features"],
    present: Bool[Array, ""],
) -> Float[Array, ""]:
    cosine = jnp.min(unit(signed) @ unit(center))
    return jnp.where(present, cosine * jnp.abs(cosine), jnp.inf)


@eqx.filter_jit
def _signed_inputs(
    drawn: Float[Array, "rows columns"], mu: Float[Array, ""], norms: Float[Array, " 2"]
) -> Float[Array, "samples features"]:
    """Return the signed inputs from a row for the axis and one for each sample."""
    axis, directions = unit(drawn[0, :-2]), drawn[1:, :-2]
    around = azimuths(axis, directions)
    second = (jnp.arange(around.shape[0]) == 1)[:, None]
    around = jnp.where(second, -around[:1], around)
    # On the rim from mu itself: the cosine and sine of half its arc cosine.
    cosine, sine = jnp.sqrt((1 + mu) / 2), jnp.sqrt((1 - mu) / 2)
    fraction = cap_fraction(uniform(drawn[1:, -2]), axis.shape[0])
    points = cap(axis, around, fraction * jnp.arctan2(sine, cosine))
    points = points.at[:2].set((cosine * axis[None] + sine * around)[:2])
    return between(drawn[1:, -1], norms)[:, None] * points


def _check_mu(mu: FloatScalarLike, samples: int, features: int) -> None:
    if is_traced(mu):
        return
    if float(mu) != 1.0:
        check_interval("mu", mu, -1.0, 1.0, "greater than -1 and at most 1")
        for name, size in (("sample", samples), ("feature", features)):
            if size == 1:
                raise ValueError(
                    f"Argument `mu` must be 1 with one {name}, where all signed inputs are "
                    f"parallel, but it is {mu}."
                )

r"""Data of one teacher neuron: $y_i = \mathrm{relu}(\langle v_*, x_i\rangle)$."""

import math
from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, Float, Key

from .._types import FloatArrayLike, FloatScalarLike
from ..model.loss import SquareLoss
from ..model.problem import Problem
from .certificate import AbstractCertificate, Margins, met, rounding
from .draws import between, check_ends, check_interval, check_size, gaussians, uniform
from .sphere import angle, azimuths, cap, cap_fraction, cosines, off_diagonal, unit

Variant = Literal["capped", "centred", "uncentred"]


class Teacher(AbstractCertificate):
    r"""What the data of one teacher neuron are measured by.

    Eigenvalues and eigenvectors are those of $XX^\top/n = \frac1n\sum_i x_i x_i^\top$.

    Attributes:
        margins: What Assumption 1 asks of the data alone, each in its own units:
            `several features` $d - 1$; `unit teacher` and `teacher's targets`, what
            $|\|v_*\| - 1|$ and the largest $|y_i - \mathrm{relu}\langle v_*, x_i\rangle|$
            relative to $\|v_*\|\|x_i\|$ leave of rounding; `angles below pi/4`
            $\pi/4 - \max_i \angle(v_*, x_i)$; `spanning inputs`
            $\sqrt{\eta_d/\eta_1}$, `distinct directions`
            $\min_{i<k}\|\bar x_i - \bar x_k\|$, `distinct eigenvalues`
            $(d-1)\min_k(\sqrt{\eta_k} - \sqrt{\eta_{k+1}})/\sqrt{\eta_1}$ and
            `teacher in no eigenspace` $\sqrt d\min_k\nu^*_k/\|v_*\|$, each less rounding;
            `square loss` and `both layers`, yes or no. Whether losses are summed or
            averaged only rescales time and is no hypothesis here.
        teacher: $v_*$.
        angles: $\angle(v_*, x_i)$, radians.
        norms: $\|x_i\|$.
        eigenvalues: $\eta_1 \ge \dots \ge \eta_d \ge 0$, zero beyond the number of samples.
        eigenvectors: $u_1, \dots, u_d$, one a row, with signs such that $\nu^*_k \ge 0$;
            not determined where eigenvalues are not distinct.
        coefficients: $\nu^*_k = \langle v_*, u_k\rangle$.
        gamma: $\gamma_{[n]} = \frac1n\sum_i y_i x_i$.
        min_cosine: $\min_{i<k}\cos(x_i, x_k)$; 1 for one sample.
        delta: The part of $\delta$ that the data alone determine: the smallest of
            $\|x_i\|$, $\cos(x_i, x_k)$, $(\sqrt{\eta_k} - \sqrt{\eta_{k+1}})(d-1)$,
            $\sqrt{\eta_d}$ and $\nu^*_k\sqrt d$.
        big_delta: The part of $\Delta$ that the data alone determine:
            $\max\{\|x_i\|, 1\}$.
    """

    margins: Margins
    teacher: Float[Array, " features"]
    angles: Float[Array, " samples"]
    norms: Float[Array, " samples"]
    eigenvalues: Float[Array, " features"]
    eigenvectors: Float[Array, "features features"]
    coefficients: Float[Array, " features"]
    gamma: Float[Array, " features"]
    min_cosine: Float[Array, ""]
    delta: Float[Array, ""]
    big_delta: Float[Array, ""]


def single_neuron(
    key: Key[Array, ""],
    features: int,
    samples: int | None = None,
    *,
    variant: Variant = "capped",
    max_angle: FloatScalarLike | None = None,
    norms: tuple[float, float] | None = None,
    reduction: Literal["sum", "mean"] = "mean",
) -> tuple[Problem, Teacher]:
    r"""Draw inputs about a random teacher neuron of norm 1, and its targets.

    The variants differ in the inputs $x_1, \dots, x_n$:

    - `"capped"`: in a cap about $v_*$ whose rim is at `max_angle`. The first input is on
      the rim, so that the largest angle is attained; the others are inside, at random
      azimuths. A key's teacher, azimuths and fractions of `max_angle` are the same for
      every `max_angle` and range of norms.
    - `"centred"`: $N(v_*, I/d)$ under the condition that the angle to $v_*$ is below
      $\pi/2$.
    - `"uncentred"`: $N(m, (\sqrt2-1)I/d)$ about another direction $m$, under the same
      condition; $v_*$ is the direction of one more draw from that Gaussian.

    The condition is on the component along $v_*$ alone, which is therefore drawn from a
    truncated Gaussian: the law of redrawing each input until it is met, without redrawing.
    Only `"capped"` with `max_angle` below $\pi/4$ promises the paper's hypotheses; the
    certificate says whether the others happen to meet them.

    In each variant the first samples of a larger set (of the same number of features) are
    a smaller one.

    Args:
        key: From `jax.random.key`.
        features: Number of coordinates $d$ of an input, at least 2.
        samples: Number of samples; as many as features unless given.
        variant: Which inputs, see above.
        max_angle: For `"capped"`: the largest angle to the teacher, in $(0, \pi/2)$; 30
            degrees unless given.
        norms: For `"capped"`: smallest and largest norm of an input, both 1 unless given.
            The first sample has the smallest, the second the largest, the others are
            log-uniform.
        reduction: How losses are reduced over samples; the mean is the paper's
            $\frac1{2n}\sum_i (y_i - f(x_i))^2$.

    Raises:
        ValueError: If a size, the variant, `max_angle` or `norms` is out of its range, or
            one of the latter is given to a variant that has no use for it.

    Source:
        Chistikov, Englert, Lazić, "Learning a Neuron by a Shallow ReLU Network: Dynamics
        and Implicit Bias for Correlated Inputs" (2023), the experiments for centred and
        uncentred inputs. That condition is theirs for the angle to $v_*$; here $m$ and the
        additional draw are never redrawn.

    Example:
        >>> import jax, relu_flow as rf
        >>> problem, teacher = rf.single_neuron(jax.random.key(0), features=4, samples=8)
        >>> bool((teacher.angles < jax.numpy.pi / 4).all())
        True
    """
    check_size("features", features, 2)
    samples = features if samples is None else samples
    check_size("samples", samples)
    if variant not in get_args(Variant):
        raise ValueError(
            f"Argument `variant` must be one of {get_args(Variant)}, but it is {variant!r}."
        )
    drawn = gaussians(key, samples + 2, features + 2)
    if variant == "capped":
        teacher = unit(drawn[0, :-2])
        inputs = capped(
            drawn[2:],
            jnp.broadcast_to(teacher, (samples, features)),
            math.pi / 6 if max_angle is None else max_angle,
            (1.0, 1.0) if norms is None else norms,
        )
    else:
        for name, value in (("max_angle", max_angle), ("norms", norms)):
            if value is not None:
                raise ValueError(
                    f"Argument `{name}` must be left out unless `variant` is 'capped', but "
                    f"it is {value}."
                )
        teacher, inputs = _gaussian(drawn, variant)
    problem = Problem(inputs, jnp.maximum(inputs @ teacher, 0.0), SquareLoss(), reduction)
    return problem, teacher_check(problem, teacher)


def teacher_check(problem: Problem, teacher: FloatArrayLike) -> Teacher:
    r"""Measure any problem as the data of a given teacher neuron.

    Args:
        problem: Any problem.
        teacher: $v_*$, one entry a feature, not zero.

    Raises:
        ValueError: If the teacher has another shape, or is zero.

    Source:
        Chistikov, Englert, Lazić (2023), section 2 and Assumption 1.
    """
    features = problem.features
    teacher = jnp.asarray(teacher, problem.inputs.dtype)
    if teacher.shape != (features,):
        raise ValueError(
            f"Argument `teacher` must have shape {(features,)}, one entry for each feature, "
            f"but it has shape {teacher.shape}."
        )
    check_interval("teacher", jnp.linalg.norm(teacher), 0.0, math.inf, "finite and not zero")
    return _measure(problem, teacher)


@eqx.filter_jit
def _measure(problem: Problem, teacher: Float[Array, " features"]) -> Teacher:
    inputs, samples, features = problem.inputs, problem.samples, problem.features
    eigenvalues, eigenvectors = _spectrum(inputs, teacher)
    norm, norms = jnp.linalg.norm(teacher), jnp.linalg.norm(inputs, axis=1)
    coefficients = eigenvectors @ teacher
    roots = jnp.sqrt(eigenvalues)
    gap = (features - 1) * jnp.min(roots[:-1] - roots[1:], initial=jnp.inf)
    angles = angle(inputs, teacher)
    tolerance = rounding(problem)
    misfit = jnp.abs(problem.targets - jnp.maximum(inputs @ teacher, 0.0)) / (norm * norms)
    directions = unit(inputs)
    distances = jax.lax.map(lambda x: jnp.linalg.norm(directions - x[None], axis=1), directions)
    min_cosine = jnp.min(off_diagonal(cosines(inputs), 1.0))
    smallest = jnp.min(coefficients) * math.sqrt(features)
    margins = {
        "several features": jnp.asarray(features - 1.0),
        "unit teacher": tolerance - jnp.abs(norm - 1),
        "teacher's targets": tolerance - jnp.max(misfit),
        "angles below pi/4": math.pi / 4 - jnp.max(angles),
        "spanning inputs": roots[-1] / roots[0] - tolerance,
        "distinct directions": jnp.min(off_diagonal(distances, jnp.inf)) - tolerance,
        "distinct eigenvalues": gap / roots[0] - tolerance,
        "teacher in no eigenspace": smallest / norm - tolerance,
        "square loss": met(isinstance(problem.loss, SquareLoss)),
        "both layers": met(problem.train == "both"),
    }
    delta = jnp.min(jnp.stack([jnp.min(norms), min_cosine, gap, roots[-1], smallest]))
    return Teacher(
        margins=margins,
        teacher=teacher,
        angles=angles,
        norms=norms,
        eigenvalues=eigenvalues,
        eigenvectors=eigenvectors,
        coefficients=coefficients,
        gamma=problem.targets @ inputs / samples,
        min_cosine=min_cosine,
        delta=delta,
        big_delta=jnp.maximum(jnp.max(norms), 1.0),
    )


def capped(
    drawn: Float[Array, "samples columns"],
    axes: Float[Array, "samples features"],
    max_angle: FloatScalarLike,
    norms: tuple[float, float],
) -> Float[Array, "samples features"]:
    """Return one input about each unit axis, at an angle of at most `max_angle`.

    The first is at that angle. Each takes a row of Gaussian numbers, two more than features.
    """
    check_interval("max_angle", max_angle, 0.0, math.pi / 2, "between 0 and pi/2")
    check_ends("norms", norms)
    return _about(drawn, axes, jnp.asarray(max_angle, float), jnp.asarray(norms, float))


@eqx.filter_jit
def _about(
    drawn: Float[Array, "samples columns"],
    axes: Float[Array, "samples features"],
    max_angle: Float[Array, ""],
    norms: Float[Array, " 2"],
) -> Float[Array, "samples features"]:
    fraction = cap_fraction(uniform(drawn[:, -2]), axes.shape[1]).at[0].set(1.0)
    points = cap(axes, azimuths(axes, drawn[:, :-2]), fraction * max_angle)
    return between(drawn[:, -1], norms)[:, None] * points


@eqx.filter_jit
def _gaussian(drawn: Float[Array, "rows columns"], variant: Variant):
    """Return teacher and inputs of the published experiments.

    The first row is for the centre, the second for the additional draw.
    """
    center, others = unit(drawn[0, :-2]), drawn[1:, :-2]
    spread = math.sqrt((1.0 if variant == "centred" else math.sqrt(2) - 1) / center.shape[0])
    teacher = center if variant == "centred" else unit(center + spread * others[0])
    level = teacher @ center
    # Of the Gaussian component along the teacher, only what exceeds this is kept.
    least = ndtr(-level / spread)
    along = ndtri(least + (1 - least) * uniform(drawn[2:, -1]))
    aside = others[1:] - (others[1:] @ teacher)[:, None] * teacher[None]
    return teacher, center[None] + spread * (aside + along[:, None] * teacher[None])


def _spectrum(inputs: Float[Array, "samples features"], teacher: Float[Array, " features"]):
    """Return eigenvalues of the mean of squares, largest first, and eigenvectors as rows."""
    samples, features = inputs.shape
    # From the singular values of the inputs: eigenvalues keep twice as many digits.
    _, singular, right = jnp.linalg.svd(inputs, full_matrices=samples < features)
    eigenvalues = jnp.zeros(features, inputs.dtype).at[: singular.size].set(singular**2 / samples)
    return eigenvalues, right * jnp.where(right @ teacher < 0, -1.0, 1.0)[:, None]

r"""Data of several teacher neurons: $y_i = \sum_k a_k\,\mathrm{relu}(\langle v_k, x_i\rangle)$.

The teachers point as far apart as they can, to the vertices of a regular simplex: two are
opposite, three at 120 degrees. Each input lies about one of them, on the inactive side of
all others, so that every teacher is learnt from inputs of its own.
"""

import math
from collections.abc import Sequence
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from .._types import FloatArrayLike, FloatScalarLike
from ..model.loss import SquareLoss
from ..model.problem import Problem
from .certificate import AbstractCertificate, Margins, met, rounding
from .draws import check_interval, check_size, gaussians
from .sphere import angle, frame, unit
from .teacher import capped


class Teachers(AbstractCertificate):
    r"""What the data of several teacher neurons are measured by.

    Attributes:
        margins: `teachers' targets`, what the largest error of a target, relative to
            $\|x_i\|\sum_k \|a_k v_k\|$, leaves of rounding; `one teacher an input`, the
            smallest, over inputs, of the largest cosine to a teacher and of minus the
            second largest; `square loss`, yes or no.
        teachers: $v_k$, one a row.
        outer: $a_k$.
        owner: The teacher nearest in angle to each input.
        angles: The angle to that teacher, radians.
    """

    margins: Margins
    teachers: Float[Array, "teachers features"]
    outer: Float[Array, " teachers"]
    owner: Int[Array, " samples"]
    angles: Float[Array, " samples"]


def several_neurons(
    key: Key[Array, ""],
    features: int,
    samples: int | None = None,
    *,
    teacher_norms: Sequence[float] = (1.0, 3.0),
    outer: Sequence[float] | None = None,
    max_angle: FloatScalarLike | None = None,
    norms: tuple[float, float] = (1.0, 1.0),
    reduction: Literal["sum", "mean"] = "mean",
) -> tuple[Problem, Teachers]:
    r"""Draw inputs about several teacher neurons, and the targets of their sum.

    Sample $i$ lies in a cap about the direction of teacher $i$ modulo their number; the
    first is on the rim. A key's directions and azimuths are the same for all norms, signs
    and `max_angle`, and the first samples of a larger set are a smaller one.

    Args:
        key: From `jax.random.key`.
        features: Number of coordinates of an input, at least 2 and at least the number of
            teachers less one.
        samples: Number of samples; `features` for each teacher unless given.
        teacher_norms: $\|v_k\|$, positive, at least two: their number is that of the
            teachers. Two opposite teachers of norms 1 and 3 unless given.
        outer: $a_k$; all +1 unless given.
        max_angle: Largest angle of an input to its own teacher, radians, below
            $\arcsin(1/(K-1))$ for $K$ teachers: beyond, a second one may be active. Half of
            that unless given ($\pi/4$ for two).
        norms: Smallest and largest norm of an input. The first sample has the smallest, the
            second the largest, the others are log-uniform.
        reduction: How losses are reduced over samples.

    Raises:
        ValueError: If a size, a norm, `outer` or `max_angle` is out of its range.

    Source:
        Two opposite teachers of norms 1 and 3 in 16 dimensions are those of an experiment
        of Chistikov, Englert, Lazić, "Learning a Neuron by a Shallow ReLU Network" (2023);
        the law of the inputs is this project's.
    """
    sizes, weights = _teacher_sizes(teacher_norms, outer)
    count = sizes.shape[0]
    check_size("features", features, max(2, count - 1), "as many as the teachers less one")
    samples = count * features if samples is None else samples
    check_size("samples", samples)
    limit = math.asin(1 / (count - 1))
    max_angle = limit / 2 if max_angle is None else max_angle
    check_interval(
        "max_angle", max_angle, 0.0, limit, f"between 0 and {limit:.6g} with {count} teachers"
    )
    drawn = gaussians(key, count - 1 + samples, features + 2)
    directions = jnp.asarray(_simplex(count)) @ frame(drawn[: count - 1, :-2])
    axes = directions[np.arange(samples) % count]
    inputs = capped(drawn[count - 1 :], axes, max_angle, norms)
    teachers = sizes[:, None] * directions
    problem = Problem(inputs, _targets(inputs, teachers, weights), SquareLoss(), reduction)
    return problem, teachers_check(problem, teachers, weights)


def teachers_check(
    problem: Problem, teachers: FloatArrayLike, outer: FloatArrayLike | None = None
) -> Teachers:
    r"""Measure any problem as the data of given teacher neurons.

    Args:
        problem: Any problem.
        teachers: $v_k$, one a row.
        outer: $a_k$; all +1 unless given.

    Raises:
        ValueError: If shapes do not fit.
    """
    inputs = problem.inputs
    teachers = jnp.asarray(teachers, inputs.dtype)
    if teachers.ndim != 2 or teachers.shape[1] != problem.features or teachers.shape[0] == 0:
        raise ValueError(
            "Argument `teachers` must have one row a teacher and "
            f"{problem.features} columns, but it has shape {teachers.shape}."
        )
    outer = jnp.ones_like(teachers[:, 0]) if outer is None else jnp.asarray(outer, inputs.dtype)
    if outer.shape != teachers.shape[:1]:
        raise ValueError(
            f"Argument `outer` must have shape {teachers.shape[:1]}, one entry for each "
            f"teacher, but it has shape {outer.shape}."
        )
    return _measure(problem, teachers, outer)


@eqx.filter_jit
def _measure(
    problem: Problem,
    teachers: Float[Array, "teachers features"],
    outer: Float[Array, " teachers"],
) -> Teachers:
    inputs = problem.inputs
    size = jnp.linalg.norm(inputs, axis=1) * jnp.sum(
        jnp.abs(outer) * jnp.linalg.norm(teachers, axis=1)
    )
    misfit = jnp.abs(problem.targets - _targets(inputs, teachers, outer)) / size
    cosine = unit(inputs) @ unit(teachers).T
    own = jnp.argmax(cosine, axis=1)
    others = jnp.where(jnp.arange(outer.size)[None] == own[:, None], -1.0, cosine)
    apart = jnp.minimum(jnp.max(cosine, axis=1), -jnp.max(others, axis=1))
    return Teachers(
        margins={
            "teachers' targets": rounding(problem) - jnp.max(misfit),
            "one teacher an input": jnp.min(apart),
            "square loss": met(isinstance(problem.loss, SquareLoss)),
        },
        teachers=teachers,
        outer=outer,
        owner=own,
        angles=angle(inputs, teachers[own]),
    )


def _targets(inputs, teachers, outer) -> Float[Array, " samples"]:
    return jnp.maximum(inputs @ teachers.T, 0.0) @ outer


def _simplex(count: int) -> np.ndarray:
    """Return the unit vertices of a regular simplex, centred at zero, in `count - 1` dimensions."""
    helmert = np.zeros((count - 1, count))
    for m in range(1, count):
        helmert[m - 1, :m] = 1.0
        helmert[m - 1, m] = -m
    helmert /= np.linalg.norm(helmert, axis=1, keepdims=True)
    vertices = helmert.T
    return vertices / np.linalg.norm(vertices, axis=1, keepdims=True)


def _teacher_sizes(norms: Sequence[float], outer: Sequence[float] | None):
    sizes = np.asarray(norms, float)
    if sizes.ndim != 1 or sizes.size < 2 or not np.all((sizes > 0) & np.isfinite(sizes)):
        raise ValueError(
            "Argument `teacher_norms` must be at least two positive numbers, one for each "
            f"teacher, but it is {norms!r}."
        )
    weights = np.ones_like(sizes) if outer is None else np.asarray(outer, float)
    if weights.shape != sizes.shape or not np.all(np.isfinite(weights)) or np.any(weights == 0):
        raise ValueError(
            f"Argument `outer` must be {sizes.size} finite non-zero numbers, one for each "
            f"teacher, but it is {outer!r}."
        )
    return jnp.asarray(sizes), jnp.asarray(weights)

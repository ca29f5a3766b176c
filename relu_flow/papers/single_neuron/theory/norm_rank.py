r"""Minimum rank against minimum norm: when the limit of rank one is not the shortest.

For $n = d$ independent inputs let $\chi_k$ be the dual basis, $\chi_k^\top x_i =
\delta_{ki}$. A set $K$ of samples, neither empty nor everything, splits the space of weights
that are active on $K$ alone, and

$$\mathcal M = \max_K \max_{p \in \mathrm{cone}\{\chi_k\}_K,\;
  q \in \mathrm{cone}\{\chi_k\}_{K^c}} \cos\angle(p, q) - \sin\angle(p, v^*)$$

decides: if it is negative the rank-one networks of $v^*$ are the interpolators of least
Euclidean norm, if it is positive none of them is.

Source:
    Chistikov, Englert, Lazić (2023), section 7 and appendix G. How the maximum is found is
    this package's own: see `cone_quantity`.
"""

import itertools
import math
from collections.abc import Callable, Iterator

import equinox as eqx
import numpy as np
from jaxtyping import Float

from ....claims.verdict import Claim, Comparison, Evidence, Hypothesis
from ....model.network import TwoLayerReLU
from .measured import Measured
from .parameters import SOURCE, setting, unit_teacher

_MOST_FEATURES = 5  # the search is exponential in the dimension
_MOST_CELLS = 400_000


class ConeQuantity(eqx.Module):
    r"""The maximum $\mathcal M$, where it is attained, and how certain it is.

    Attributes:
        value: The largest value found; it is attained, so that it bounds $\mathcal M$ below.
        upper: What $\mathcal M$ is proved, up to rounding, not to exceed.
        p: Unit vector in the cone of `chosen`.
        q: Unit vector in the cone of the other samples.
        chosen: $K$.

    Source:
        Chistikov, Englert, Lazić (2023), section 7, the definition of $\mathcal M$; `upper` is this
        package's.
    """

    value: float
    upper: float
    p: Float[np.ndarray, " features"]
    q: Float[np.ndarray, " features"]
    chosen: tuple[int, ...]


class _Cone:
    """A simplicial cone, and the best cosine that any of its vectors has to given ones."""

    def __init__(self, generators: Float[np.ndarray, "rays features"]):
        faces = [
            generators[list(rows)]
            for size in range(2, len(generators) + 1)
            for rows in itertools.combinations(range(len(generators)), size)
        ]
        self.generators = generators
        self.faces = [(face, np.linalg.pinv(face.T)) for face in faces]

    def best(self, p: Float[np.ndarray, "points features"]):
        r"""Return the largest cosine to each unit vector, and the unit vector that has it.

        The nearest vector lies inside some face, where it is the projection to the span
        of the face with positive coordinates; or it is a ray.

        Source:
            This package; the best $q$ for each $p$ in the definition of $\mathcal M$.
        """
        along = p @ self.generators.T
        ray = np.argmax(along, axis=1)
        cosine, found = along[np.arange(len(p)), ray], self.generators[ray]
        for face, inverse in self.faces:
            coordinates = p @ inverse.T
            projected = coordinates @ face
            size = np.linalg.norm(projected, axis=1)
            better = np.all(coordinates >= 0, axis=1) & (size > cosine)
            cosine = np.where(better, size, cosine)
            unit = projected / np.where(size > 0, size, 1.0)[:, None]
            found = np.where(better[:, None], unit, found)
        return np.minimum(cosine, 1.0), found


def cone_quantity(
    inputs: Float[np.ndarray, "samples features"],
    teacher: Float[np.ndarray, " features"],
    tolerance: float = 1e-3,
) -> ConeQuantity:
    r"""Compute $\mathcal M$, with a proof of how large it is at most.

    For given $K$ and $p$ the best $q$ is the projection of $p$ to the cone of the others,
    exact by trying its faces. What is left is a function of $p$ on a spherical simplex of
    dimension $|K| - 1 \le d - 2$. It is searched by branch and bound: within an angle $R$
    of a cell's centre $c$ the angle to the cone is at least $\theta(c) - R$ and the angle
    to the teacher within $R$ of that of $c$, which bounds the function on the cell. Cells
    that cannot beat the best by more than `tolerance` are dropped, others halved along
    their longest edge. The best point of each $K$ is polished by a compass search to
    rounding, so that `value` is far more accurate than `tolerance`, which only says how
    sure it is that no better point was overlooked.

    Args:
        inputs: As many as there are features, independent; at most 5.
        teacher: $v^*$, not zero.
        tolerance: Of the upper bound.

    Raises:
        ValueError: If there are not as many inputs as features, or more than 5, or they
            are dependent; or the tolerance is so small that the search grows too large.

    Source:
        Chistikov, Englert, Lazić (2023), section 7, the definition of $\mathcal M$; the search is
        this package's.
    """
    inputs = np.asarray(inputs, float)
    samples, features = inputs.shape
    if samples != features or not 2 <= features <= _MOST_FEATURES:
        raise ValueError(
            f"Argument `inputs` must be square with 2 to {_MOST_FEATURES} rows, but it has "
            f"shape {inputs.shape}."
        )
    singular = np.linalg.svd(inputs, compute_uv=False)
    if singular[-1] <= 1e-12 * singular[0]:
        raise ValueError("Argument `inputs` must have independent rows, but they are dependent.")
    rays = np.linalg.inv(inputs).T
    rays = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    teacher = np.asarray(teacher, float) / np.linalg.norm(teacher)
    best = ConeQuantity(-math.inf, -math.inf, teacher, teacher, ())
    upper = -math.inf
    for size in range(1, samples):
        for chosen in itertools.combinations(range(samples), size):
            others = [k for k in range(samples) if k not in chosen]
            cone = _Cone(rays[others])
            p, bound = _search(rays[list(chosen)], cone, teacher, best.value, tolerance)
            upper = max(upper, bound)
            value, q = (x[0] for x in _value(p[None], cone, teacher)[:2])
            if value > best.value:
                best = ConeQuantity(float(value), upper, p, q, chosen)
    return eqx.tree_at(lambda b: b.upper, best, max(upper, best.value))


def _value(p, cone: _Cone, teacher):
    """Return the function at unit vectors, the best q, and the angles to cone and teacher."""
    cosine, q = cone.best(p)
    beside = np.linalg.norm(p - (p @ teacher)[:, None] * teacher, axis=1)
    to_teacher = np.arctan2(beside, p @ teacher)
    return cosine - beside, q, np.arccos(np.clip(cosine, -1, 1)), to_teacher


def _search(rays, cone: _Cone, teacher, known: float, tolerance: float):
    """Return the best point of one spherical simplex, and a bound of the function on it."""
    cells, point, best = rays[None], rays[0], -math.inf
    bound = -math.inf
    while len(cells):
        if len(cells) > _MOST_CELLS:
            raise ValueError(
                f"Argument `tolerance` must not be so small, but at {tolerance} more than "
                f"{_MOST_CELLS} cells are left."
            )
        centre, value, most, radius = _bounded(cells, cone, teacher)
        if np.max(value) > best:
            best, point = _polish(centre[np.argmax(value)], rays, cone, teacher)
        done = (most <= max(best, known) + tolerance) | (radius < 1e-14)
        bound = max(bound, float(np.max(most[done], initial=-math.inf)))
        cells = _halves(cells[~done])
    return point, bound


def _bounded(cells, cone: _Cone, teacher):
    """Return centres of cells, the function there, its bounds on the cells, and their radii."""
    centre = np.mean(cells, axis=1)
    centre = centre / np.linalg.norm(centre, axis=1, keepdims=True)
    value, _, to_cone, to_teacher = _value(centre, cone, teacher)
    chord = np.linalg.norm(cells - centre[:, None], axis=-1)
    radius = 2 * np.arcsin(np.minimum(np.max(chord, axis=1) / 2, 1.0))
    nearest = np.cos(np.maximum(to_cone - radius, 0.0))
    ends = np.sin(np.clip(to_teacher + np.array([[-1.0], [1.0]]) * radius, 0.0, math.pi))
    # A cap is convex only within a hemisphere; for wider cells nothing is known.
    most = np.where(radius < math.pi / 2, nearest - np.min(ends, axis=0), 1.0)
    return centre, value, most, radius


def _halves(cells):
    """Halve each cell along its longest edge."""
    if not len(cells):
        return cells
    count = cells.shape[1]
    pairs = np.array(list(itertools.combinations(range(count), 2)))
    lengths = np.linalg.norm(cells[:, pairs[:, 0]] - cells[:, pairs[:, 1]], axis=-1)
    first, second = pairs[np.argmax(lengths, axis=1)].T
    rows = np.arange(len(cells))
    middle = cells[rows, first] + cells[rows, second]
    middle = middle / np.linalg.norm(middle, axis=1, keepdims=True)
    left, right = cells.copy(), cells.copy()
    left[rows, first], right[rows, second] = middle, middle
    return np.concatenate([left, right])


def _polish(p, rays, cone: _Cone, teacher) -> tuple[float, Float[np.ndarray, " features"]]:
    """Climb from a point by steps between pairs of rays, halved where none climbs."""
    count = len(rays)
    weight = np.maximum(np.linalg.lstsq(rays.T, p)[0], 0.0)
    weight = weight / np.sum(weight)
    moves = np.eye(count)[:, None] - np.eye(count)[None]
    moves = moves.reshape(-1, count)
    step = 0.25
    best, point = -math.inf, p
    while step > 1e-12:
        tried = np.concatenate([weight[None], np.maximum(weight + step * moves, 0.0)])
        tried = tried / np.sum(tried, axis=1, keepdims=True)
        points = tried @ rays
        points = points / np.linalg.norm(points, axis=1, keepdims=True)
        values = _value(points, cone, teacher)[0]
        k = int(np.argmax(values))
        if values[k] > best:
            best, point, weight = float(values[k]), points[k], tried[k]
        else:
            step /= 2
    return best, point


def better_interpolator(
    inputs: Float[np.ndarray, "samples features"],
    teacher: Float[np.ndarray, " features"],
    quantity: ConeQuantity | None = None,
) -> TwoLayerReLU:
    r"""Return an interpolator of two neurons, of rank two, shorter than those of rank one.

    With $p$, $q$ of norm one where $\mathcal M > 0$ is attained, $\sigma$ the sign of
    $p^\top v^*$, $\xi = \min\{\min_K y_k/p^\top x_k, |\cos\angle(p, v^*)| -
    \sin\angle(p, q)\}$ and $r = p - qq^\top p$, the neurons are $a_1 = 1$, $w_1 = v^* -
    \sigma\xi p$ and $a_2 = \sigma\sqrt{\xi\|r\|}$, $w_2 = \sqrt{\xi/\|r\|}\,r$. The second
    is active on $K$ alone and gives back there what the first has lost; the square norm
    is $2 - 2\xi(|\cos\angle(p, v^*)| - \sin\angle(p, q)) + \xi^2 \le 2 - \xi^2$. (The minimum
    over $K$ is over its samples with $p^\top x_k > 0$. With $\sigma = -1$ the first neuron only
    gains, and the first term is void.)

    Args:
        inputs: As for `cone_quantity`.
        teacher: $v^*$, of norm one.
        quantity: What `cone_quantity` returned, if at hand.

    Raises:
        ValueError: If the quantity is not positive: there is no such interpolator.

    Source:
        Chistikov, Englert, Lazić (2023), the proof of Theorem 8, whose two cases are the two
        values of $\sigma$.
    """
    inputs, teacher = np.asarray(inputs, float), np.asarray(teacher, float)
    quantity = cone_quantity(inputs, teacher) if quantity is None else quantity
    if not quantity.value > 0:
        raise ValueError(
            f"Argument `inputs` must have a positive cone quantity, but it is {quantity.value:.6g}."
        )
    p, q = quantity.p, quantity.q
    beside = p - q * (q @ p)
    off = float(np.linalg.norm(beside))
    sign = 1.0 if p @ teacher > 0 else -1.0
    gain = sign * float(p @ teacher) - off
    height = inputs[list(quantity.chosen)] @ p
    room = (inputs[list(quantity.chosen)] @ teacher)[height > 0] / height[height > 0]
    xi = min(gain, float(np.min(room))) if sign > 0 else gain
    inner = np.stack([teacher - sign * xi * p, math.sqrt(xi / off) * beside])
    return TwoLayerReLU(inner, np.array([1.0, sign * math.sqrt(xi * off)]))


def theorem_8(measure: Callable[[Evidence], Measured]) -> Claim:
    r"""Return Theorem 8 as a claim about a run that has converged to its limit.

    Where $\mathcal M > 0$ an interpolator shorter than the limit is exhibited. Where it is
    negative, with $c$ such that $v^* = \sum_i c_ix_i$, no network has a square norm below
    $2\sum_i c_ih(x_i)$; this is checked all along the run, whose limit attains it.
    Derivation: $\sum_ic_i\,\mathrm{relu}(w^\top x_i) = v^{*\top}p$ for $w = p - q$ with $p$, $q$
    in the cones of the samples that $w$ is active on and of the others; its size is at
    most $\|w\|$ for all $w$ if $\cos\angle(p, q) \le \sin\angle(p, v^*)$, which is what
    $\mathcal M \le 0$ says, as then $\|w\|^2 \ge (p^\top v^*)^2 + (\|p\|\sin\angle(p, v^*) -
    \|q\|)^2$; and $\sum_j|a_j|\|w_j\| \le \|\theta\|^2/2$.

    Every interpolator has $\|\theta\|^2 \ge 2\max_i\cos\angle(v^*, x_i) > \sqrt2$.

    Source:
        Chistikov, Englert, Lazić (2023), Theorem 8, Claim 36 in its proof, Remark 38(i); that the
        limit attains the least norm, Theorem 7.
    """

    def quantity(evidence: Evidence) -> ConeQuantity | None:
        return _quantity(evidence.once(measure))

    def conditions(evidence: Evidence) -> tuple[Hypothesis, ...]:
        found, known = evidence.once(measure).found, evidence.once(quantity)
        square = 0.5 if found.samples == found.features <= _MOST_FEATURES else -0.5
        return (
            *setting(evidence.problem, evidence.network, found),
            unit_teacher(found),
            Hypothesis(f"as many inputs as features, at most {_MOST_FEATURES}", square),
            Hypothesis("more than one neuron", found.width - 1.5),
            Hypothesis(
                "cone quantity of certain sign",
                max(known.value, -known.upper) if known else -math.inf,
            ),
        )

    return Claim(
        "Theorem 8",
        "the rank-one limit has least norm if the cone quantity is negative, not if positive",
        f"{SOURCE}, Theorem 8",
        conditions,
        lambda evidence: tuple(_norm_comparisons(evidence.once(measure), evidence.once(quantity))),
    )


def _quantity(measured: Measured) -> ConeQuantity | None:
    found = measured.found
    if found.samples != found.features or not 2 <= found.features <= _MOST_FEATURES:
        return None
    if np.linalg.matrix_rank(found.inputs) < found.features:
        return None
    return cone_quantity(found.inputs, found.teacher)


def _norm_comparisons(record: Measured, quantity: ConeQuantity | None) -> Iterator[Comparison]:
    found = record.found
    shot = record.at(record.evidence.end)
    limit = shot.square_norm() if record.interpolates else math.nan
    cosine = found.inputs @ found.teacher / np.linalg.norm(found.inputs, axis=1)
    resolution = 1e-7  # of a loss of 1e-16 what is left in the weights is its root
    least = 2 * float(np.max(cosine))
    yield Comparison("square norm of an interpolator", limit, ">=", least, resolution)
    if quantity is None:
        return
    if quantity.value > 0:
        better = better_interpolator(found.inputs, found.teacher, quantity)
        inner, outer = np.asarray(better.inner_weight), np.asarray(better.outer_weight)
        norm = float(np.sum(inner**2) + np.sum(outer**2))
        error = outer @ np.maximum(inner @ found.inputs.T, 0) - found.targets
        worst = float(np.max(np.abs(error)))
        yield Comparison("square norm of the better one", norm, "<=", 2.0, -1e-12)
        yield Comparison("square norm of the limit", limit, ">=", norm)
        yield Comparison("its largest error", worst, "<=", 0.0, 1e-9 * np.max(found.targets))
        return
    shares = np.linalg.solve(found.inputs.T, found.teacher)
    spare = math.inf
    for t in [*record.span(0.0, record.evidence.end), *record.late]:
        seen = record.at(t)
        spare = min(
            spare, seen.square_norm() - 2 * math.exp(seen.log_output) * seen.output @ shares
        )
    yield Comparison("square norm beyond its dual bound", float(spare), ">=", 0.0, 1e-12)
    yield Comparison("square norm of the limit", limit, "==", 2.0, record.norm_excess)

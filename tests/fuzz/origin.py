"""A neuron at zero whose outer weight is fixed: rest, leave along a ray, or not decidable.

Its Clarke set is the hull of the drives of all patterns that a direction can have. It must
leave if zero is not in it; if it is, it may stay, which is the rule even if rays lead away.
"""

import itertools

import numpy as np
from scipy.optimize import linprog, nnls

from .decide import Undecidable


def cells(geometry):
    """Return the patterns (cells, samples) that directions off all hyperplanes can have."""
    found = []
    for signs in itertools.product((1.0, -1.0), repeat=geometry.classes):
        if margin(np.array(signs)[:, None] * geometry.normals) > 1e-12:
            by_class = np.array(signs)[geometry.of] * np.sign(geometry.factor)
            found.append(by_class > 0)
    return np.array(found)


def margin(vectors):
    """Return the largest least product of a direction with vectors, these scaled to one."""
    length = np.linalg.norm(vectors, axis=1)
    if not np.all(length > 0):
        return 0.0
    rows, count = vectors / length[:, None], vectors.shape[1]
    result = linprog(
        np.append(np.zeros(count), -1.0),
        A_ub=np.column_stack([-rows, np.ones(len(rows))]),
        b_ub=np.zeros(len(rows)),
        bounds=[(-1.0, 1.0)] * count + [(None, None)],
    )
    return -result.fun


def rays(geometry, pull, sign):
    """Return the modes of all rays on which a neuron can leave zero, to first order."""
    found = []
    for modes in itertools.product((1, -1, 0), repeat=geometry.classes):
        if sum(m == 0 for m in modes) >= geometry.rank:
            continue
        pattern = geometry.pattern(modes)
        if pattern.slides and not pattern.independent:
            continue
        speed = sign * (pattern.speed @ pull) * modes
        doubt = 1e-9 * (np.abs(pattern.speed) @ np.abs(pull))
        moving = np.array(modes) != 0
        if np.any(speed[moving] < -doubt[moving]) or not np.any(speed[moving] > doubt[moving]):
            continue
        weights = sign * np.concatenate([pattern.upper @ pull, pattern.lower @ pull])
        if np.any(weights <= 0):
            continue
        if np.any(speed[moving] <= doubt[moving]):
            raise Undecidable("a ray from zero along a hyperplane")
        found.append(modes)
    return found


def must_leave(patterns, inputs, pull):
    """Return whether zero is outside the Clarke set; `Undecidable` near its boundary."""
    distance = _distance(patterns, inputs, pull)
    if 1e-11 < distance < 1e-6:
        raise Undecidable("zero at the boundary of its Clarke set")
    return distance >= 1e-6


def _distance(patterns, inputs, pull):
    points = patterns @ (pull[:, None] * inputs)
    scale = np.max(np.linalg.norm(points, axis=1))
    if scale == 0:
        return 0.0
    system = np.vstack([points.T / scale, np.ones(len(points))])
    right = np.append(np.zeros(inputs.shape[1]), 1.0)
    return nnls(system, right)[1]


def leaves(patterns, inputs, pull_at):
    """Return when, on the unit interval, zero leaves its Clarke set for good; None if not.

    Args:
        patterns: All patterns.
        inputs: Inputs.
        pull_at: Gives the pulls at a point of the interval.
    """
    outside = lambda at: _distance(patterns, inputs, pull_at(at)) > 1e-12
    if not outside(1.0):
        return None
    before, behind = 0.0, 1.0
    for _ in range(50):
        middle = 0.5 * (before + behind)
        before, behind = (before, middle) if outside(middle) else (middle, behind)
    return behind

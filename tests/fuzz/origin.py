"""A neuron at zero whose outer weight is fixed: rest, leave along a ray, or not decidable.

Its Clarke set is the hull of the drives of all patterns that a direction can have. It must
leave if zero is not in it; if it is, it may stay, which is the rule even if rays lead away.
"""

import itertools

import numpy as np
from scipy.optimize import nnls

from .decide import Undecidable


def cells(geometry):
    """Return the patterns (cells, samples) that directions in general position can have."""
    random = np.random.default_rng(0)
    span = np.linalg.svd(geometry.inputs, full_matrices=False)[2][: geometry.rank]
    directions = [random.normal(size=(2000, geometry.rank))]
    for chosen in itertools.combinations(range(geometry.classes), geometry.rank - 1):
        across = geometry.normals[list(chosen)] @ span.T
        ray = np.linalg.svd(across)[2][-1] if chosen else np.ones(1)
        shift = 1e-4 * random.normal(size=(16, geometry.rank))
        directions += [ray + shift, -ray + shift]
    active = np.concatenate(directions) @ span @ geometry.inputs.T > 0
    code = active @ (1 << np.arange(active.shape[1]))
    return active[np.unique(code, return_index=True)[1]]


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
    points = patterns @ (pull[:, None] * inputs)
    scale = np.max(np.linalg.norm(points, axis=1))
    if scale == 0:
        return False
    system = np.vstack([points.T / scale, np.ones(len(points))])
    right = np.append(np.zeros(inputs.shape[1]), 1.0)
    distance = nnls(system, right)[1]
    if 1e-11 < distance < 1e-6:
        raise Undecidable("zero at the boundary of its Clarke set")
    return distance >= 1e-6

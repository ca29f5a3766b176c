"""Minimum norm against minimum rank: the cone quantity, and Theorem 8 on networks at rest."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import nnls

import relu_flow as rf
from relu_flow.claims.verdict import Outcome
from relu_flow.papers.single_neuron.theory.norm_rank import (
    _bounded,
    _Cone,
    better_interpolator,
    cone_quantity,
)

from .teacher_problems import checked


def positive_family(b=11.0):
    inputs = np.array([[b, 0, 0], [b, -math.sqrt(b), 1], [b, math.sqrt(b), 1]])
    return inputs, np.array([0.8, 0.0, 0.6])


def negative_family(features, xi):
    ones = np.ones((features, features))
    return xi * np.eye(features) + (1 - xi) / features * ones, np.ones(features) / math.sqrt(
        features
    )


def test_cone_quantity_has_its_published_value():
    quantity = cone_quantity(*positive_family())
    formula = 10 / 12 - math.sqrt(1 - 9 / 25 * 11 / 12)
    np.testing.assert_allclose(quantity.value, formula, rtol=1e-12)
    np.testing.assert_allclose(quantity.value, 0.014798, atol=5e-7)
    assert quantity.value <= quantity.upper <= quantity.value + 1e-3


@pytest.mark.parametrize(("features", "xi"), [(2, 0.5), (3, 0.3), (3, 0.6435), (4, 0.5)])
def test_cone_quantity_is_negative_on_the_other_family(features, xi):
    assert cone_quantity(*negative_family(features, xi)).upper < 0


def searched(inputs, teacher, points):
    """Return the largest value on grids of all cones, with SciPy's projection to a cone."""
    rays = np.linalg.inv(inputs).T
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    count, best = len(rays), -math.inf
    for code in range(1, 2**count - 1):
        inside = np.array([code >> k & 1 for k in range(count)], bool)
        size = inside.sum()
        grid = np.stack(np.meshgrid(*[np.linspace(0, 1, points if size < 3 else 25)] * size), -1)
        weights = grid.reshape(-1, size)
        weights = weights[np.isclose(weights.max(1), 1.0)] if size > 1 else np.ones((1, 1))
        for weight in weights:
            p = weight @ rays[inside]
            p /= np.linalg.norm(p)
            distance = nnls(rays[~inside].T, p)[1]
            cosine = math.sqrt(max(0.0, 1 - distance**2))
            if distance > 1 - 1e-12:
                cosine = (rays[~inside] @ p).max()
            best = max(best, cosine - math.sqrt(max(0.0, 1 - (p @ teacher) ** 2)))
    return best


@pytest.mark.parametrize("seed", range(4))
def test_cone_quantity_agrees_with_a_search_on_grids(seed):
    rng = np.random.default_rng(seed)
    features = 3 + seed % 2
    teacher = np.ones(features) / math.sqrt(features)
    inputs = teacher + 0.3 * rng.normal(size=(features, features))
    quantity = cone_quantity(inputs, teacher)
    grid = searched(inputs, teacher, 201)
    assert grid - 1e-12 <= quantity.value <= grid + 2e-3
    assert quantity.value <= quantity.upper <= quantity.value + 1e-3


@pytest.mark.parametrize("size", [0.5, 0.05])
def test_bounds_of_cells_hold_all_over_them(size):
    """Assert that at random points of random cells the function is below the cell's bound."""
    rng = np.random.default_rng(0)
    excess = []
    for _ in range(300):
        corner, *others, teacher = rng.normal(size=(4, 4))
        cell = corner + size * rng.normal(size=(3, 4))
        cell /= np.linalg.norm(cell, axis=1, keepdims=True)
        rays = np.array(others) / np.linalg.norm(others, axis=1, keepdims=True)
        teacher /= np.linalg.norm(teacher)
        bound = _bounded(cell[None], _Cone(rays), teacher)[2][0]
        points = rng.dirichlet(0.3 * np.ones(3), size=20) @ cell
        for p in points / np.linalg.norm(points, axis=1, keepdims=True):
            distance = nnls(rays.T, p)[1]
            cosine = math.sqrt(max(0.0, 1 - distance**2))
            cosine = cosine if distance < 1 - 1e-12 else (rays @ p).max()
            excess.append(cosine - math.sqrt(max(0.0, 1 - (p @ teacher) ** 2)) - bound)
    assert max(excess) <= 1e-7


def test_better_interpolator_interpolates_and_has_its_published_norm():
    inputs, teacher = positive_family()
    network = better_interpolator(inputs, teacher)
    assert isinstance(network, rf.TwoLayerReLU)
    outputs = jax.vmap(network)(jnp.asarray(inputs))
    np.testing.assert_allclose(outputs, inputs @ teacher, rtol=1e-13)
    square = float(jnp.sum(network.inner_weight**2) + jnp.sum(network.outer_weight**2))
    np.testing.assert_allclose(square, 1.9995297, atol=5e-8)
    with pytest.raises(ValueError, match="positive cone quantity"):
        better_interpolator(*negative_family(3, 0.3))


def test_cone_quantity_refuses_what_it_is_not_defined_for():
    with pytest.raises(ValueError, match="must be square"):
        cone_quantity(np.ones((2, 3)), np.ones(3))
    with pytest.raises(ValueError, match="independent rows"):
        cone_quantity(np.ones((2, 2)), np.ones(2))


class Still:
    """A flow that is where it ends, all the time."""

    def __init__(self, network):
        self.network, self.ts = network, jnp.array([1.0])
        self.switches = rf.SwitchLog.empty(1, float)
        self.initial_sides = jnp.zeros((network.width, 3), int)

    def network_at(self, t):
        del t
        return self.network


def rank_one(teacher):
    """Return two neurons along the teacher that share it."""
    root = np.sqrt([0.3, 0.7])
    return rf.TwoLayerReLU(root[:, None] * teacher, root)


def theorem_8(inputs, teacher, network):
    problem = rf.Problem(inputs, inputs @ teacher, rf.SquareLoss(), reduction="mean")
    start = rank_one(teacher / np.linalg.norm(teacher))
    start = rf.TwoLayerReLU(start.inner_weight, start.outer_weight, -2300.0)
    return checked(problem, start, Still(network), "Theorem 8")["Theorem 8"]


def test_theorem_8_where_rank_one_is_not_shortest():
    inputs, teacher = positive_family()
    assert theorem_8(inputs, teacher, rank_one(teacher)).outcome is Outcome.HOLDS
    # The published interpolator is not balanced; balancing it makes it shorter still.
    better = better_interpolator(inputs, teacher)
    first = np.linalg.norm(better.inner_weight[0])
    factor = np.array([[1 / math.sqrt(first)], [1.0]])
    shorter = rf.TwoLayerReLU(better.inner_weight * factor, better.outer_weight / factor[:, 0])
    assert theorem_8(inputs, teacher, shorter).outcome is Outcome.VIOLATED


def test_theorem_8_where_rank_one_is_shortest():
    inputs, teacher = negative_family(3, 0.5)
    assert theorem_8(inputs, teacher, rank_one(teacher)).outcome is Outcome.HOLDS
    one = rank_one(teacher)
    longer = rf.TwoLayerReLU(one.inner_weight / 2, one.outer_weight * 2)
    assert theorem_8(inputs, teacher, longer).outcome is Outcome.VIOLATED
    square = theorem_8(np.ones((2, 3)) + np.eye(2, 3), teacher, one)
    assert square.outcome is Outcome.HYPOTHESES_NOT_MET
    # Norms are in units of the teacher's: with another one 2 is not what the limit has.
    double = theorem_8(inputs, 2 * teacher, rank_one(teacher))
    assert [h.name for h in double.hypotheses if not h.met] == ["1(i) unit teacher"]
    assert double.outcome is Outcome.HYPOTHESES_NOT_MET

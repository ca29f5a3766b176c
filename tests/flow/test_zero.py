"""A neuron at zero, the outer layer fixed: when it must leave, and what that is decided from."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.spatial

import relu_flow as rf
from relu_flow.flow.method.arrangement import patterns
from relu_flow.flow.step.hull import nearest

from ..fuzz import draws, origin, product
from ..fuzz.geometry import Geometry

LATE = 10.0
INPUTS = np.array([[1.0, 0.0], [0.8, 0.6], [-0.6, 0.8], [-0.8, -0.6]])


def outside(drives):
    """Return whether a direction has a positive product with all drives: a linear programme."""
    features = drives.shape[1]
    found = scipy.optimize.linprog(
        np.append(np.zeros(features), -1.0),
        A_ub=np.column_stack([-drives, np.ones(len(drives))]),
        b_ub=np.zeros(len(drives)),
        bounds=[(-1.0, 1.0)] * features + [(None, None)],
    )
    return -found.fun > 1e-12


def leaving_time(targets, inner, end):
    """Return when zero leaves the hull, beside one neuron that is active on the first two inputs.

    Its pulls follow a linear equation, g' = -K g with K the Gram matrix of these inputs.
    """
    gram = INPUTS[:2] @ INPUTS[:2].T
    start = targets[:2] - INPUTS[:2] @ inner
    cells = origin.cells(Geometry(INPUTS))

    def beyond(t):
        """Return by how much the widest gap between directions of drives exceeds half a turn."""
        pull = np.concatenate([scipy.linalg.expm(-gram * t) @ start, targets[2:]])
        drives = cells @ (pull[:, None] * INPUTS)
        angles = np.sort(np.arctan2(drives[:, 1], drives[:, 0]))
        return np.max(np.diff(np.append(angles, angles[0] + 2 * np.pi))) - np.pi

    found = scipy.optimize.brentq(beyond, 0.0, end, xtol=1e-15)
    assert isinstance(found, float)
    return found


@pytest.mark.parametrize(
    ("targets", "inner", "end"),
    [
        ([2.26, 1.17, -0.75, -0.82], [2.33, -0.66], 0.7),
        ([-0.09, 0.46, -1.04, -1.61], [0.78, -0.53], 1.5),
        ([0.4, 0.77, -1.12, -1.31], [1.45, -0.38], 2.0),
    ],
)
def test_zero_is_left_when_it_leaves_the_hull(targets, inner, end):
    """Assert when a neuron at zero sets out: not before it has to, and then at once."""
    expected = leaving_time(np.array(targets), np.array(inner), end)
    problem = rf.Problem(INPUTS, targets, rf.SquareLoss(), reduction="sum", train="inner")
    network = rf.TwoLayerReLU([[0.0, 0.0], inner], [1.0, 1.0])
    ts = [0.5 * expected, 0.99 * expected, end]
    trajectory = rf.solve(problem, network, end, ts=ts)
    mine = np.asarray(trajectory.switches.neuron) == 0
    first = float(np.min(np.asarray(trajectory.switches.time)[mine]))
    # Zero has to be outside by more than rounding, which takes a while.
    assert first == pytest.approx(expected, rel=2e-10)
    weights = np.asarray(trajectory.networks.inner_weight)[:, 0]
    assert np.all(weights[:2] == 0)
    assert np.all(np.isfinite(weights[2]))
    assert np.any(weights[2] != 0)


@pytest.fixture(scope="module")
def descended():
    """Return to what loss descent of small steps comes, from soon after neuron 1 has left zero.

    At 10.66 the pull that slides live from turns, and they may end to either side.
    """
    numbers = draws.draw("unbalanced", 14, "square", "inner", "sum")
    problem, network = product.build(numbers)
    start = rf.solve(problem, network, 0.25).network
    inputs, targets, outer = numbers["X"], numbers["y"], np.asarray(start.outer_weight)
    inner = np.exp(np.asarray(start.log_scale))[:, None] * np.asarray(start.inner_weight)
    rate = 1e-4
    for _ in range(round((LATE - 0.25) / rate)):
        height = inner @ inputs.T
        pull = targets - outer @ np.maximum(height, 0.0)
        inner += rate * outer[:, None] * ((height > 0) * pull) @ inputs
    assert np.linalg.norm(inner[1]) > 0.1
    return 0.5 * np.sum((targets - outer @ np.maximum(inner @ inputs.T, 0.0)) ** 2)


@pytest.mark.parametrize("rtol", [1e-12, 1e-6])
def test_zero_is_left_within_a_step(rtol, descended):
    """Assert that a neuron leaves that has to for a part of a step only, and at once.

    It comes to zero at 1e-4. At 0.2422 zero is outside the hull of its drives, to be inside again
    before 0.3: looked for at the ends of steps, that was missed, and the loss stayed above 0.15.
    """
    numbers = draws.draw("unbalanced", 14, "square", "inner", "sum")
    problem, network = product.build(numbers)
    end = LATE
    run = rf.solve(problem, network, end, rtol=rtol)
    times = np.asarray(run.switches.time)[np.asarray(run.switches.neuron) == 1]
    left = float(np.min(times[times > 0.1]))
    assert float(problem.loss_value(run.network)) == pytest.approx(descended, rel=1e-4)
    # The pulls just before and after, from the outputs; other neurons do not know of this one yet.
    around = np.array([left * (1 - 1e-5), left * (1 + 1e-5)])
    nets = rf.solve(problem, network, end, ts=around, rtol=rtol).networks
    cells = origin.cells(Geometry(numbers["X"][:, :2]))
    gone = []
    predictions = np.asarray(jax.vmap(problem.predictions)(nets))
    for pull in numbers["y"] - predictions:
        gone.append(outside(cells @ (pull[:, None] * numbers["X"][:, :2])))
    assert gone == [False, True]


def test_zero_is_left_at_the_start():
    """Assert that a neuron that starts at zero, outside the hull, sets out at once."""
    targets = [-2.0, -2.0, 1.0, 1.0]  # drives of all patterns point to the left
    problem = rf.Problem(INPUTS, targets, rf.SquareLoss(), reduction="sum", train="inner")
    network = rf.TwoLayerReLU([[0.0, 0.0], [0.0, 0.0]], [1.0, 0.0])
    trajectory = rf.solve(problem, network, 0.7, ts=[0.1, 0.2, 0.7])
    weights = np.asarray(trajectory.networks.inner_weight)
    assert np.all(weights[:, 0, 0] < 0)
    assert np.all(weights[:, 1] == 0)


@pytest.mark.parametrize("shape", [(5, 2), (6, 3), (5, 4)])
def test_patterns_are_those_of_a_linear_programme(shape):
    """Assert that no cell is missing and none is made up, of degenerate inputs too."""
    random = np.random.default_rng(0)
    for trial in range(6):
        inputs = random.integers(-2, 3, size=shape).astype(float)
        inputs = inputs + (random.normal(size=shape) if trial % 2 else 0.0)
        if trial == 4:
            inputs[:, -1] = inputs[:, 0]  # one dimension short
        inputs[np.all(inputs == 0, axis=1)] = 1.0
        rank = np.linalg.matrix_rank(inputs)
        if rank < shape[1] - 1:
            continue
        found = patterns(jnp.asarray(inputs), jnp.asarray(rank, jnp.int32))
        ours = {tuple(row) for row in np.asarray(found, int)}
        theirs = {tuple(row) for row in origin.cells(Geometry(inputs)).astype(int)}
        assert ours == theirs


def test_many_patterns_are_not_listed():
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(40, 3)))
    assert patterns(inputs, jnp.asarray(3, jnp.int32)).shape == (0, 40)


@pytest.mark.parametrize("features", [2, 3])
def test_nearest_point_of_a_hull(features):
    """Assert the conditions that only the nearest point has, and the sign of the distance."""
    random, compiled = np.random.default_rng(features), eqx.filter_jit(nearest)
    for trial in range(40):
        points = random.normal(size=(30, features))
        if trial % 2:
            # Zero is outside by a little, or by a lot.
            direction = random.normal(size=features)
            direction /= np.linalg.norm(direction)
            gap = 10.0 ** -random.integers(0, 10)
            points += (gap - np.min(points @ direction)) * direction
        found = compiled(jnp.asarray(points))
        point = np.asarray(found.point)
        assert bool(found.outside) == outside(points)
        if found.outside:
            square = point @ point
            assert np.min(points @ point) >= square * (1 - 1e-6)
            weights, gap = scipy.optimize.nnls(
                np.vstack([points.T, np.ones(30)]), np.append(point, 1.0)
            )
            assert gap < 1e-12
            assert np.all(weights >= 0)
        else:
            assert np.linalg.norm(point) < 1e-12
            # So far in any direction the hull goes on, and more of it than the simplex found.
            assert int(found.corners) == features + 1
            assert 0 < float(found.depth) <= border(points) * (1 + 1e-9)
            directions = random.normal(size=(20, features))
            directions /= np.linalg.norm(directions, axis=1, keepdims=True)
            for direction in 0.999 * float(found.depth) * directions:
                assert not outside(points - direction)


def border(points):
    """Return how far zero is from the border of a hull that holds it, from its facets."""
    return float(np.min(-scipy.spatial.ConvexHull(points).equations[:, -1]))


@pytest.mark.parametrize("features", [2, 3])
def test_depth_in_a_simplex(features):
    """Assert that zero's distance from the border of a simplex is that from its nearest facet."""
    random, compiled = np.random.default_rng(features), eqx.filter_jit(nearest)
    for _ in range(40):
        corners = random.normal(size=(features + 1, features))
        weights = random.dirichlet(np.ones(features + 1))
        corners -= weights @ corners
        found = compiled(jnp.asarray(corners))
        assert not found.outside
        assert float(found.depth) == pytest.approx(border(corners), rel=1e-6)


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-8, 1e-10, 1e-12])
def test_a_facet_beside_zero_is_told_from_one_through_it(gap):
    """Assert that the nearest point is `gap` along a known normal, to the rounding of the points.

    Other points are as near to zero as the facet's, but for a multiple of the gap.
    """
    random = np.random.default_rng(0)
    angle, far = random.uniform(0, 2 * np.pi, 100), random.uniform(0.3, 2.0, (100, 2))
    normal = np.column_stack([np.cos(angle), np.sin(angle)])
    tangent = np.column_stack([-np.sin(angle), np.cos(angle)])
    above = np.column_stack(
        [gap * np.ones((100, 2)), gap * random.uniform(1.0, 3.0, (100, 3)), far[:, 0]]
    )
    along = np.column_stack([far[:, 0], -far[:, 1], random.uniform(-0.3, 0.3, (100, 3)), far[:, 1]])
    points = above[..., None] * normal[:, None] + along[..., None] * tangent[:, None]
    found = jax.jit(jax.vmap(nearest))(jnp.asarray(points))
    assert np.all(np.asarray(found.outside))
    np.testing.assert_allclose(np.asarray(found.point), gap * normal, rtol=0, atol=1e-15)

"""Collocation steps: their nodes, their polynomials, and that they change nothing but the cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import relu_flow as rf
from relu_flow.flow.method import collocation

from .. import problems

NODES = 12
SERIES, STIFF = rf.Taylor(), rf.Taylor(stiff=True)


def fitted(large, small):
    """Return two orthogonal samples of which the first is fitted but for a hundredth.

    The second neuron's residual moves slowly, the first's is a stiff decay.
    """
    weights = jnp.sqrt(jnp.asarray([0.99 * large, 1e-3 * small]))
    problem = rf.Problem(jnp.eye(2), jnp.asarray([large, small]), loss=rf.SquareLoss())
    return problem, rf.TwoLayerReLU(jnp.diag(weights), weights)


def logistic(target, start, t):
    """Return the product of a neuron's weights, which obeys `u' = 2 u (y - u)`."""
    return target / (1 + (target / start - 1) * np.exp(-2 * target * t))


def test_nodes_are_those_of_radau():
    """Assert order 2 s - 1 of the quadrature, order s of its stages, and the last node."""
    table = collocation._table(NODES)
    for power in range(2 * NODES - 1):
        value = table.quadrature[-1] @ table.nodes**power
        np.testing.assert_allclose(value, 1 / (power + 1), rtol=1e-13)
    assert abs(table.quadrature[-1] @ table.nodes ** (2 * NODES - 1) - 0.5 / NODES) > 1e-16
    for power in range(NODES):
        values = table.quadrature @ table.nodes**power
        np.testing.assert_allclose(values, table.nodes ** (power + 1) / (power + 1), atol=1e-14)
    assert table.nodes[-1] == 1.0


def test_products_on_a_step_are_those_at_its_nodes():
    """Assert that a product of too high a degree is interpolated, and keeps its zeros at 0."""
    rng, length = np.random.default_rng(0), 3.0
    a, b = np.zeros((17, 2)), np.zeros((17, 2, 3))
    a[:9], b[:8] = rng.standard_normal((9, 2)), rng.standard_normal((8, 2, 3))
    b[:2, 1, 2], b[:, 0, 0] = 0.0, 0.0
    scale = length ** -np.arange(17.0)
    a, b = a * scale[:, None], b * scale[:, None, None]
    found = collocation.product_on_step(jnp.asarray(a), jnp.asarray(b), jnp.asarray(length), NODES)
    found = np.asarray(found)
    at_nodes = (length * collocation._table(NODES).nodes)[:, None] ** np.arange(17)
    exact = (at_nodes @ a)[..., None] * np.tensordot(at_nodes, b, axes=1)
    values = np.tensordot(at_nodes, found, axes=1)
    keeps = np.ones((2, 3), bool)
    keeps[1, 2] = False  # what is taken from its first powers is missing there
    np.testing.assert_allclose(values[:, keeps], exact[:, keeps], atol=1e-11)
    assert not found[:2, 1, 2].any()
    assert not found[:, 0, 0].any()
    assert found[2:NODES, 1, 2].all()


@pytest.mark.parametrize(("large", "small", "end"), [(2.0, 1e-3, 1e4), (100.0, 1e-3, 1e4)])
def test_a_fitted_sample_does_not_keep_steps_short(large, small, end):
    """Assert closed forms in a hundred steps, where a power series takes ten thousands."""
    problem, network = fitted(large, small)
    run = rf.solve(problem, network, end, solver=STIFF)
    found = np.asarray(problem.predictions(run.network))
    start = np.asarray(problem.predictions(network))
    exact = logistic(np.asarray([large, small]), start, end)
    np.testing.assert_allclose(found, exact, rtol=1e-12)
    assert int(run.stats["steps"]) < 160
    assert int(run.stats["stiff_steps"]) > 20


def test_networks_within_a_collocation_step_and_their_derivatives():
    """Assert dense output and a derivative by a weight against the closed form."""
    problem, network = fitted(2.0, 1e-3)
    run = rf.solve(problem, network, 1e4, solver=STIFF, dense=True)
    start = np.asarray(problem.predictions(network))
    for t in (700.0, 3210.0, 6543.0):
        found = np.asarray(problem.predictions(run.network_at(t)))
        np.testing.assert_allclose(found, logistic(np.array([2.0, 1e-3]), start, t), rtol=3e-11)

    def output(scale):
        weights = network.outer_weight * jnp.asarray([1.0, scale])
        begun = rf.TwoLayerReLU(jnp.diag(weights), weights)
        return problem.predictions(rf.solve(problem, begun, 1e4, solver=STIFF).network)[1]

    _, slope = jax.jvp(output, (jnp.asarray(1.0),), (jnp.asarray(1.0),))
    near = [logistic(1e-3, start[1] * (1 + step) ** 2, 1e4) for step in (1e-4, -1e-4)]
    np.testing.assert_allclose(float(slope), (near[0] - near[1]) / 2e-4, rtol=1e-6)


def test_kinds_of_steps_agree():
    """Assert the same switches and states with and without collocation, far into the tail."""
    inputs, targets, network = problems.mixed(samples=3)
    inputs = inputs * np.asarray([[4.0], [1.0], [0.3]])
    problem = rf.Problem(inputs, targets, loss=rf.SquareLoss())
    runs = [rf.solve(problem, network, 3000.0, solver=s) for s in (SERIES, STIFF)]
    series, mixed = runs
    assert int(mixed.stats["stiff_steps"]) > 0
    assert int(series.stats["stiff_steps"]) == 0
    assert int(mixed.stats["steps"]) < int(series.stats["steps"])
    count = int(series.stats["switches"])
    assert int(mixed.stats["switches"]) == count > 0
    for name in ("neuron", "sample", "kind"):
        one, other = (np.asarray(getattr(run.switches, name))[:count] for run in runs)
        np.testing.assert_array_equal(one, other)
    one, other = (np.asarray(run.switches.time)[:count] for run in runs)
    np.testing.assert_allclose(one, other, rtol=1e-11)
    one, other = (np.asarray(problem.predictions(run.network)) for run in runs)
    np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)

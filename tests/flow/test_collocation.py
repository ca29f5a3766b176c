"""Collocation steps: their nodes, their polynomials, and that they change nothing but the cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import relu_flow as rf
from relu_flow._series import evaluate
from relu_flow.flow.arguments import check_arguments
from relu_flow.flow.loop.context import Context
from relu_flow.flow.loop.expansion import expand_step
from relu_flow.flow.loop.state import init
from relu_flow.flow.method import newton, radau
from relu_flow.flow.method.correction import no_correction
from relu_flow.flow.method.stiffness import StiffTrial
from relu_flow.flow.solve import make_options
from relu_flow.flow.step.step import heights_at, step_limits

from .. import problems

NODES = 12
SERIES, STIFF = rf.Taylor(stiff=False), rf.Taylor()


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
    table = radau.table_of(NODES)
    for power in range(2 * NODES - 1):
        value = table.quadrature[-1] @ table.nodes**power
        np.testing.assert_allclose(value, 1 / (power + 1), rtol=1e-13)
    for power in range(NODES):
        values = table.quadrature @ table.nodes**power
        np.testing.assert_allclose(values, table.nodes ** (power + 1) / (power + 1), atol=1e-14)
    assert table.nodes[-1] == 1.0
    # No more than that: of three nodes, of which the table also is.
    few = radau.table_of(3)
    np.testing.assert_allclose(few.nodes[:2], (4 + np.sqrt(6) * np.array([-1, 1])) / 10, rtol=1e-14)
    assert abs(few.quadrature[-1] @ few.nodes**5 - 1 / 6) > 1e-4


def sliding():
    """Return a field, weights and a frozen pattern in which one neuron slides, and its normal."""
    inputs, targets, network = problems.mixed()
    frame = rf.Frame.of(rf.Problem(inputs, targets))
    rng, (width, samples) = np.random.default_rng(1), (network.width, len(inputs))
    active = rng.integers(0, 2, (width, samples)).astype(float)
    slides = np.full((width, 1), samples)
    slides[0], active[0, 2] = 2, 0.0
    dual = np.zeros((width, 1, frame.inputs.shape[1]))
    dual[0, 0] = np.asarray(frame.inputs[2]) / float(frame.norms[2]) ** 2
    rates = (jnp.asarray(rng.uniform(0.5, 2, width)) for _ in range(3))
    frozen = rf.Frozen(jnp.asarray(active), jnp.asarray(slides), jnp.asarray(dual), *rates)
    normal = np.asarray(frame.inputs[2]) / float(frame.norms[2])
    inner = rng.standard_normal((width, len(normal)))
    inner[0] -= inner[0] @ normal * normal
    return rf.FlowField(frame), (jnp.asarray(inner), network.outer_weight), frozen, normal


def test_the_kernel_is_the_velocity_of_the_outputs_by_the_pulls():
    """Assert that each column is the derivative of the outputs along the flow of one pull.

    One neuron slides, and its velocity has no part along the hyperplane's normal.
    """
    field, weights, frozen, normal = sliding()
    expected = []
    for pull in np.eye(frozen.active.shape[1]):
        drive = np.array((np.asarray(frozen.active) * pull) @ field.frame.inputs)
        drive[0] -= drive[0] @ normal * normal
        velocity = (
            (frozen.inner_rate * weights[1])[:, None] * jnp.asarray(drive),
            frozen.outer_rate * jnp.sum(weights[0] * drive, axis=1),
        )
        expected.append(jax.jvp(lambda w: field.outputs(w, frozen), (weights,), (velocity,))[1])
    kernel = newton.tangent_kernel(field, weights, frozen)
    np.testing.assert_allclose(kernel, np.stack(expected, axis=1), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("stretch", [1e-6, 1.0, 1e6])
def test_newton_solves_the_equations_of_the_stages(stretch):
    """Assert the solution of the whole system, through the bases in which it falls apart.

    To the rounding of the right side: through eigenvectors of the quadrature, a millionfold as
    badly conditioned, 6e-10 of it would be left, which stiffness multiplies.
    """
    field, weights, frozen, _ = sliding()
    frozen, table = frozen.times(jnp.asarray(stretch)), radau.table_of(NODES)
    outputs, quadrature = field.outputs(weights, frozen), jnp.asarray(table.quadrature)
    residual = np.random.default_rng(2).standard_normal((NODES, len(outputs)))
    solve = newton.newton(
        field, weights, frozen, outputs, quadrature, jnp.array(False), jnp.array(True)
    )
    still = [jnp.zeros((NODES, *array.shape)) for array in (outputs, *weights)]
    slope = field.frame.loss.curvature(outputs, field.frame.targets)
    kernel = (
        newton.tangent_kernel(field, weights, frozen)
        * slope[None]
        * field.frame.sample_weight[None]
    )
    system = np.eye(residual.size) + np.kron(table.quadrature, kernel)
    exact = np.linalg.solve(system, residual.ravel()).reshape(residual.shape)
    mended, less = solve(jnp.asarray(residual), still)
    np.testing.assert_allclose(mended, exact, atol=1e-12, rtol=0)
    assert jnp.allclose(less, slope[None] * field.frame.sample_weight[None] * exact, rtol=1e-6)


@pytest.mark.parametrize("warp", [0.0, 0.5])
def test_products_on_a_step_are_those_at_its_nodes(warp):
    """Assert that a product of too high a degree is interpolated, and keeps its zeros at 0.

    Both in a time that runs evenly and in one that runs as an exponential.
    """
    rng, length = np.random.default_rng(0), 3.0
    a, b = np.zeros((17, 2)), np.zeros((17, 2, 3))
    a[:9], b[:8] = rng.standard_normal((9, 2)), rng.standard_normal((8, 2, 3))
    b[:2, 1, 2], b[:, 0, 0] = 0.0, 0.0
    scale = length ** -np.arange(17.0)
    a, b = a * scale[:, None], b * scale[:, None, None]
    a, b, *step = map(jnp.asarray, (a, b, length, warp))
    found = np.asarray(radau.product_on_step(a, b, step[0], step[1], NODES))
    offsets = length * radau.table_of(NODES).nodes
    at_nodes = offsets[:, None] ** np.arange(17)
    exact = (at_nodes @ a)[..., None] * np.tensordot(at_nodes, b, axes=1)
    exact = np.exp(warp * offsets)[:, None, None] * exact
    values = np.tensordot(at_nodes, found, axes=1)
    keeps = np.ones((2, 3), bool)
    keeps[1, 2] = False  # what is taken from its first powers is missing there
    np.testing.assert_allclose(values[:, keeps], exact[:, keeps], atol=1e-11)
    assert not found[:2, 1, 2].any()
    assert not found[:, 0, 0].any()
    assert found[2:NODES, 1, 2].all()


@pytest.mark.parametrize(("large", "small", "end"), [(2.0, 1e-3, 1e4), (100.0, 1e-3, 1e4)])
def test_a_fitted_sample_does_not_keep_steps_short(large, small, end):
    """Assert closed forms in few steps, though one residual's rate is thousands of the other's."""
    problem, network = fitted(large, small)
    run = rf.solve(problem, network, end, solver=STIFF)
    found = np.asarray(problem.predictions(run.network))
    start = np.asarray(problem.predictions(network))
    exact = logistic(np.asarray([large, small]), start, end)
    np.testing.assert_allclose(found, exact, rtol=1e-12)
    assert int(run.stats["steps"]) < 160
    assert int(run.stats["stiff_steps"]) > 20


@pytest.mark.parametrize("warp", [0.0, 1e-3])
def test_preactivations_on_a_step_are_those_of_its_weights(warp):
    """Assert that constraints, made of pulls and outer weights, follow the inner weights.

    Products of series cut off at their order do not, by 3e-13 at the end of this step, which is
    about the longest allowed.
    """
    problem, network = fitted(2.0, 1e-3)
    weights = network.outer_weight.at[0].set(jnp.sqrt(2.0))
    network = rf.TwoLayerReLU(jnp.diag(weights), weights)
    options = make_options(problem, network, (), None, STIFF, False, 64, None, None)
    checked = check_arguments(problem, network, 0.0, 1e4, None, 1e-12)
    problem, network, t0, *_ = checked
    context = Context.of(problem, network, *checked[3:], options)
    point, length = init(context, t0).point, jnp.asarray(700.0)
    step = expand_step(
        context, point, t0, jnp.ones(()), no_correction(2, float), length, length,
        StiffTrial.again(length, jnp.asarray(warp)),
    )  # fmt: skip
    assert float(step.stiff) == 700.0
    limits = step_limits(context.frame, step)
    for t in (150.0, 700.0):
        found = heights_at(context.frame, step.modes, limits, jnp.asarray(t))
        inner = evaluate(step.series.inner, jnp.asarray(t))
        np.testing.assert_allclose(found, inner @ context.frame.inputs.T, rtol=0, atol=1e-14)


def test_networks_within_a_collocation_step():
    """Assert dense output against the closed form."""
    problem, network = fitted(2.0, 1e-3)
    run = rf.solve(problem, network, 1e4, solver=STIFF, dense=True)
    start = np.asarray(problem.predictions(network))
    for t in (700.0, 3210.0, 6543.0):
        found = np.asarray(problem.predictions(run.network_at(t)))
        np.testing.assert_allclose(found, logistic(np.array([2.0, 1e-3]), start, t), rtol=3e-11)


@pytest.mark.slow  # 40 s of compilation
def test_derivatives_through_collocation_steps():
    """Assert a derivative by a weight against the closed form."""
    problem, network = fitted(2.0, 1e-3)
    start = np.asarray(problem.predictions(network))

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

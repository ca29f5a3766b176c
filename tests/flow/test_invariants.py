"""What the flow conserves, and what must not change its result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import ortho_group

import relu_flow as rf
from relu_flow.observe import observables

from .. import problems

END = 12.0


@pytest.fixture(scope="module")
def base():
    """Return a problem with crossings, slides and deaths, its network and its flow."""
    inputs, targets, network = problems.mixed()
    problem = rf.Problem(inputs, targets)
    return problem, network, rf.solve(problem, network, END)


def switch_rows(trajectory, neurons=None):
    """Return switches as comparable rows (neuron, sample, kind), and their times."""
    num = int(trajectory.switches.num)
    log = trajectory.switches
    neuron = np.asarray(log.neuron[:num])
    if neurons is not None:
        neuron = neurons[neuron]
    rows = list(zip(neuron, np.asarray(log.sample[:num]), np.asarray(log.kind[:num]), strict=True))
    times = np.asarray(log.time[:num])
    order = sorted(range(num), key=lambda k: (round(times[k], 9), rows[k]))
    return [rows[k] for k in order], times[order]


def assert_same_switches(ours, theirs, rtol=1e-11):
    """Assert that two lists of switches are the same, times included."""
    assert ours[0] == theirs[0]
    np.testing.assert_allclose(ours[1], theirs[1], rtol=rtol)


def test_the_problem_has_everything(base):
    """Assert that the problem of these tests crosses, slides and leaves slides."""
    kinds = set(np.asarray(base[2].switches.kind).tolist()) - {-1}
    assert kinds >= {0, 1, 2, 3}


def test_permuting_neurons_changes_nothing(base):
    """Assert that the order of neurons does not matter."""
    problem, network, trajectory = base
    order = np.random.default_rng(0).permutation(network.width)
    permuted = rf.TwoLayerReLU(
        network.inner_weight[order], network.outer_weight[order], network.log_scale[order]
    )
    other = rf.solve(problem, permuted, END)
    assert_same_switches(switch_rows(trajectory), switch_rows(other, order))


def test_rotating_inputs_changes_nothing(base):
    """Assert that the coordinates of the inputs do not matter."""
    problem, network, trajectory = base
    turn = ortho_group.rvs(problem.features, random_state=1)
    rotated = rf.Problem(problem.inputs @ turn, problem.targets)
    turned = rf.TwoLayerReLU(network.inner_weight @ turn, network.outer_weight, network.log_scale)
    other = rf.solve(rotated, turned, END)
    assert_same_switches(switch_rows(trajectory), switch_rows(other))
    np.testing.assert_allclose(
        problem.predictions(trajectory.network), rotated.predictions(other.network), rtol=1e-11
    )


def test_mean_stretches_time_by_the_number_of_samples(base):
    """Assert that the mean's flow is the sum's flow, slower."""
    problem, network, trajectory = base
    slow = rf.Problem(problem.inputs, problem.targets, reduction="mean")
    other = rf.solve(slow, network, END * problem.samples)
    rows, times = switch_rows(other)
    assert_same_switches(switch_rows(trajectory), (rows, times / problem.samples))


def test_padding_the_width_changes_nothing(base):
    """Assert that neurons without weights rest and disturb nobody."""
    problem, network, trajectory = base
    padded = rf.TwoLayerReLU(
        jnp.pad(network.inner_weight, ((0, 3), (0, 0))),
        jnp.pad(network.outer_weight, (0, 3)),
        jnp.pad(network.log_scale, (0, 3)),
    )
    other = rf.solve(problem, padded, END)
    assert_same_switches(switch_rows(trajectory), switch_rows(other), rtol=1e-12)
    assert not np.any(np.asarray(other.network.inner_weight[-3:]))


def test_moving_a_factor_into_the_scale_changes_nothing(base):
    """Assert that only the product of weights and scale matters."""
    problem, network, trajectory = base
    factor = np.exp(np.random.default_rng(2).normal(size=network.width))
    moved = rf.TwoLayerReLU(
        network.inner_weight * factor[:, None],
        network.outer_weight * factor,
        network.log_scale - np.log(factor),
    )
    other = rf.solve(problem, moved, END)
    assert_same_switches(switch_rows(trajectory), switch_rows(other))


def test_span_reduction_changes_nothing(base):
    """Assert that solving in the span of the inputs gives the flow in the whole space."""
    problem, network, trajectory = base
    turn = ortho_group.rvs(12, random_state=2)
    embed = lambda rows: np.pad(np.asarray(rows), ((0, 0), (0, 12 - problem.features))) @ turn
    wide = rf.Problem(embed(problem.inputs), problem.targets)
    assert wide.basis is not None
    assert wide.basis.shape == (12, problem.features)
    across = 0.5 * turn[-1]
    lifted = rf.TwoLayerReLU(
        embed(network.inner_weight) + across, network.outer_weight, network.log_scale
    )
    flat = rf.solve(wide, lifted, END)
    log_scale = np.asarray(flat.network.log_scale - network.log_scale)
    kept = np.exp(log_scale)[:, None] * np.asarray(flat.network.inner_weight) @ turn[-1]
    np.testing.assert_allclose(kept[:, 0] if kept.ndim > 1 else kept, 0.5, rtol=1e-11)
    assert_same_switches(switch_rows(trajectory), switch_rows(flat))


def test_balancedness_and_loss_through_thousands_of_switches():
    """Assert that v^2 - |w|^2 stays to 1e-12 and the loss never increases."""
    inputs, targets, network = problems.separable(samples=80, width=60, log_scale=np.log(1e-3))
    unbalanced = rf.TwoLayerReLU(
        network.inner_weight, network.outer_weight * np.linspace(0.5, 2, 60), network.log_scale
    )
    problem = rf.Problem(inputs, targets)
    ts = np.concatenate([[0], np.geomspace(1e-3, 3, 60)])
    trajectory = rf.solve(problem, unbalanced, 3.0, ts=ts)
    assert int(trajectory.switches.num) > 2000
    networks = trajectory.networks

    def imbalance(network):
        square = network.outer_weight**2 - jnp.sum(network.inner_weight**2, axis=1)
        return jnp.exp(2 * network.log_scale) * square, jnp.exp(2 * network.log_scale) * (
            network.outer_weight**2
        )

    now, size = (np.asarray(rows) for rows in jax.vmap(imbalance)(networks))
    assert np.max(np.abs(now - now[0]) / np.maximum(size, size[0])) < 1e-12
    loss = np.asarray(jax.vmap(lambda n: observables.loss(problem, n))(networks))
    assert np.all(np.diff(loss) <= 1e-13 * loss[:-1])
    assert loss[-1] < 0.5 * loss[0]

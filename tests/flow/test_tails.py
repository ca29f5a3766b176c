"""Tails of 1/t: steps through whole decades of time, right in all that is asked for within them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import relu_flow as rf
from relu_flow.flow.method.clock import Clock

SERIES = rf.Taylor(stiff=False)
LOSSES = [rf.ExponentialLoss(), rf.LogisticLoss()]


def separable(loss):
    """Return four samples that six neurons separate after sixteen switches."""
    rng = np.random.default_rng(1)
    inputs = np.abs(rng.normal(size=(4, 3))) * np.array([[1.0], [1.0], [-1.0], [-1.0]])
    problem = rf.Problem(inputs, [1.0, 1.0, -1.0, -1.0], loss)
    outer = [1.0, -1.0, 1.0, -1.0, 2.0, -1.0]
    return problem, rf.TwoLayerReLU(rng.normal(size=(6, 3)), outer, log_scale=-2.0)


def undecided(seed):
    """Return five random samples in the plane and six neurons."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(5, 2))
    problem = rf.Problem(inputs, np.sign(rng.normal(size=5)), rf.ExponentialLoss())
    network = rf.TwoLayerReLU(rng.normal(size=(6, 2)), np.tile([2.0, -2.0], 3), log_scale=-1.0)
    return problem, network


@pytest.mark.parametrize("warp", [0.0, 0.3, 1e-12])
def test_a_clock_goes_both_ways(warp):
    clock = Clock(*map(jnp.asarray, (5.0, 2.0, warp)))
    offsets = jnp.array([0.0, 1e-9, 0.7, 30.0])
    elapsed = offsets if warp == 0 else np.expm1(warp * offsets) / warp
    np.testing.assert_allclose(clock.elapsed(offsets), elapsed, rtol=1e-14)
    np.testing.assert_allclose(clock.offset(clock.elapsed(offsets)), offsets, rtol=1e-14)
    np.testing.assert_allclose(clock.offset_at(clock.time(offsets)), offsets, atol=1e-14)
    slope = jax.vmap(jax.grad(clock.elapsed))(offsets)
    np.testing.assert_allclose(clock.pace(offsets), slope, rtol=1e-14)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_decade_takes_a_step_or_two(loss):
    """Assert few steps to t = 1e300, and at 1e30 what power series come to, in 600 steps."""
    problem, network = separable(loss)
    far, near, series = (
        rf.solve(problem, network, end, solver=solver)
        for end, solver in ((1e300, None), (1e30, None), (1e30, SERIES))
    )
    assert int(far.stats["steps"]) < 450
    assert int(near.stats["steps"]) < 120 < int(series.stats["steps"])
    assert int(far.stats["switches"]) == int(series.stats["switches"])
    outputs = [np.asarray(problem.predictions(run.network)) for run in (near, series)]
    np.testing.assert_allclose(*outputs, rtol=1e-11)
    # A margin that grows as log t on all support vectors: the loss falls as 1/t.
    assert float(problem.loss_value(far.network)) < 1e-296


def test_what_is_asked_for_within_a_decade():
    """Assert states and a milestone on one sample: u' = 2 u e^-u, so 2 t = Ei(u) - Ei(1)."""
    problem = rf.Problem([[1.0]], [1.0], rf.ExponentialLoss())
    network = rf.TwoLayerReLU([[1.0]], [1.0])
    time = lambda u: (scipy.special.expi(u) - scipy.special.expi(1.0)) / 2
    sizes = np.linspace(3.0, 60.0, 300)
    ts = np.concatenate([time(sizes), [1e30]])

    def output(problem, network):
        return network(problem.inputs[0])

    def run(level, **options):
        milestone = rf.Milestone(output, level, name="reached")
        return rf.solve(problem, network, 1e30, milestones=milestone, **options)

    found = run(41.0, ts=ts, dense=True)
    assert int(found.stats["stiff_steps"]) > 10
    at_ts = jax.vmap(lambda n: n(problem.inputs[0]))(found.networks)
    np.testing.assert_allclose(at_ts[:-1], sizes, rtol=1e-12)
    np.testing.assert_allclose(found.milestones["reached"].time, time(41.0), rtol=1e-11)
    for size in (5.0, 23.45, 57.0):
        there = found.network_at(time(size))(problem.inputs[0])
        np.testing.assert_allclose(there, size, rtol=1e-12)
    ended = run(41.0, until="reached")
    np.testing.assert_allclose(ended.network(problem.inputs[0]), 41.0, rtol=1e-13)
    assert float(ended.stats["time"]) == float(ended.milestones["reached"].time)


@pytest.mark.parametrize("seed", [4, 7, 26])
def test_switches_in_a_tail(seed):
    """Assert switches up to t = 2e8 that end steps through a tail, against power series."""
    problem, network = undecided(seed)
    runs = [rf.solve(problem, network, 1e9, solver=solver) for solver in (None, SERIES)]
    count = int(runs[1].stats["switches"])
    assert int(runs[0].stats["switches"]) == count
    assert int(runs[0].stats["steps"]) < 0.6 * int(runs[1].stats["steps"])
    one, other = (np.asarray(run.switches.time)[:count] for run in runs)
    assert one[-1] > 1e5
    np.testing.assert_allclose(one, other, rtol=1e-11)
    for name in ("neuron", "sample", "kind"):
        one, other = (np.asarray(getattr(run.switches, name))[:count] for run in runs)
        np.testing.assert_array_equal(one, other)


def largest_drive(problem, network):
    """Return the norm of the largest drive, along the hyperplanes that are slid on."""
    inputs, targets = np.asarray(problem.inputs), np.asarray(problem.targets)
    pull = targets * np.exp(-targets * np.asarray(problem.predictions(network)))
    sizes = []
    for weight in np.asarray(network.inner_weight):
        height = inputs @ weight / np.linalg.norm(inputs, axis=1) / np.linalg.norm(weight)
        drive = (pull * (height > 1e-9)) @ inputs
        for normal in inputs[np.abs(height) <= 1e-9]:
            drive = drive - (drive @ normal) / (normal @ normal) * normal
        sizes.append(np.linalg.norm(drive))
    return max(sizes)


@pytest.mark.parametrize("seed", [6, 8, 38, 65])
def test_pulls_that_cancel_beside_a_tail(seed):
    """Assert that samples fitted as well as can be cost no steps, and no digits of the others.

    Their pulls are of order 1 and cancel, at rest (6), in a slide (8), as far as the tail lets
    them (38), and so that the tail holds a slide (65): there their rounding, times a step of 1e8,
    would decide otherwise.
    """
    problem, network = undecided(seed)
    ts = 10.0 ** np.arange(3, 10)
    runs = [rf.solve(problem, network, 1e9, ts=ts, rtol=rtol) for rtol in (1e-12, 1e-9)]
    first, count = runs[0], int(runs[0].stats["switches"])
    assert int(first.stats["steps"]) < 200
    series = rf.solve(problem, network, ts[0], solver=SERIES)
    found = jax.tree.map(lambda array: array[0], first.networks)
    one, other = (
        jnp.exp(network.log_scale)[:, None] * network.inner_weight
        for network in (found, series.network)
    )
    np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)
    assert int(series.stats["steps"]) > 8 * int(first.stats["steps"])
    # The same switches whatever the tolerance; a loss that falls, as all drives do, like 1/t.
    assert int(runs[1].stats["switches"]) == count
    for name in ("neuron", "sample", "kind"):
        one, other = (np.asarray(getattr(run.switches, name))[:count] for run in runs)
        np.testing.assert_array_equal(one, other)
    for run in runs:
        networks = [jax.tree.map(lambda a, i=i: a[i], run.networks) for i in range(len(ts))]
        losses = [float(problem.loss_value(network)) for network in networks]
        assert np.all(np.diff(losses) < 1e-14)
        drives = np.array([largest_drive(problem, network) for network in networks])
        assert np.all(drives[1:] * ts[1:] < 3 * drives[0] * ts[0])


@pytest.mark.slow  # 40 s of compilation
def test_derivative_in_a_tail():
    """Assert d/dc, for an input of size c, of when one neuron's output is 41: c t is fixed."""

    def time(size):
        problem = rf.Problem(size[None, None], [1.0], rf.ExponentialLoss())
        root = 1 / jnp.sqrt(size)
        network = rf.TwoLayerReLU(root[None, None], root[None])
        reached = rf.Milestone(lambda p, n: n(p.inputs[0]), 41.0, name="reached")
        return rf.solve(problem, network, 1e30, milestones=reached).milestones["reached"].time

    found, slope = jax.jvp(time, (jnp.asarray(1.0),), (jnp.asarray(1.0),))
    exact = (scipy.special.expi(41.0) - scipy.special.expi(1.0)) / 2
    np.testing.assert_allclose(found, exact, rtol=1e-11)
    np.testing.assert_allclose(slope, -exact, rtol=1e-9)

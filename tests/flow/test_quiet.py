"""Quiet steps: neurons in constant pulls, and that they change nothing but the cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import relu_flow as rf

from .. import problems

SERIES, QUIET = rf.Taylor(quiet=False), rf.Taylor()
TARGETS = np.asarray([1.0, 2.0])


def first_output(problem, network):
    """Return the output at the first sample."""
    return network(problem.inputs)[0]


def second_output(problem, network):
    """Return the output at the second sample."""
    return network(problem.inputs)[1]


def log_size(problem, network):
    """Return the logarithm of the first neuron's outer weight."""
    del problem
    return jnp.log(jnp.abs(network.outer_weight[0])) + network.outer_log_scale[0]


HALVES = (
    rf.Milestone(first_output, TARGETS[0] / 2, name="first"),
    rf.Milestone(second_output, TARGETS[1] / 2, name="second"),
)


def two_saddles(log_scale):
    """Return two orthogonal samples with a neuron for each, which never switches.

    The product of a neuron's weights obeys `u' = 2 u (y - u)`.
    """
    problem = rf.Problem(np.eye(2), TARGETS, loss=rf.SquareLoss())
    return problem, rf.TwoLayerReLU(np.eye(2), np.ones(2), log_scale)


def escape(log_scale):
    """Return when each output is half its target, from the closed form."""
    start = 2 * log_scale
    return (np.log(TARGETS) - start + np.log1p(-np.exp(start) / TARGETS)) / (2 * TARGETS)


@pytest.mark.parametrize("log_scale", [-100.0, -1e4, -1e6])
def test_times_of_escape_are_exact_whatever_the_scale(log_scale):
    """Assert closed forms to rounding in as many steps from e^-100 as from e^-1000000."""
    problem, network = two_saddles(log_scale)
    run = rf.solve(problem, network, -2 * log_scale, milestones=HALVES)
    found = [float(run.milestones[name].time) for name in ("first", "second")]
    np.testing.assert_allclose(found, escape(log_scale), rtol=1e-14)
    assert int(run.stats["steps"]) < 150
    assert 2 <= int(run.stats["quiet_steps"]) <= 6


def test_milestones_and_networks_within_a_quiet_step():
    """Assert sizes at times asked for, in dense output and at a milestone, from `v' = y v`."""
    log_scale, end = -1e3, 300.0
    problem, network = two_saddles(log_scale)
    size = lambda t: log_scale + TARGETS * np.asarray(t)[..., None]
    logs = lambda net: np.log(np.abs(net.outer_weight)) + np.asarray(net.outer_log_scale)
    reached = rf.Milestone(log_size, -900.25, name="reached")
    run = rf.solve(problem, network, end, milestones=reached)
    np.testing.assert_allclose(float(run.milestones["reached"].time), 99.75, rtol=1e-13)
    assert int(run.stats["steps"]) < 10
    ts = np.linspace(0, end, 300)
    run = rf.solve(problem, network, end, ts=ts, dense=True, max_steps=128)
    np.testing.assert_allclose(logs(run.networks), size(ts), rtol=1e-14)
    np.testing.assert_allclose(logs(run.network_at(123.4)), size(123.4), rtol=1e-14)
    # One as far as an iteration looks at times.
    assert int(run.stats["quiet_steps"]) == int(run.stats["steps"]) < 80


@pytest.mark.slow  # 40 s of compilation; `test_derivatives.py` has other milestones
def test_derivatives_of_an_escape():
    """Assert the derivative of a milestone's time by the scale, through quiet steps."""

    def time(log_scale):
        problem, network = two_saddles(log_scale)
        return rf.solve(problem, network, 400.0, milestones=HALVES).milestones["first"].time

    start = jnp.asarray(-100.0)
    slope = jax.jvp(time, (start,), (jnp.ones(()),))[1]
    np.testing.assert_allclose(float(slope), -1.0, rtol=1e-11)


@pytest.mark.parametrize("seed", [3, 4])
def test_kinds_of_steps_agree(seed):
    """Assert the same switches and states with and without quiet steps, through slides too."""
    inputs, targets, network = problems.mixed(seed, log_scale=-60.0)
    problem = rf.Problem(inputs, targets, loss=rf.SquareLoss())
    ts = np.linspace(0, 300.0, 7)
    runs = [rf.solve(problem, network, 300.0, ts=ts, solver=s) for s in (SERIES, QUIET)]
    series, mixed = runs
    assert int(series.stats["quiet_steps"]) == 0 < int(mixed.stats["quiet_steps"])
    assert int(mixed.stats["steps"]) < int(series.stats["steps"])
    count = int(series.stats["switches"])
    assert int(mixed.stats["switches"]) == count > 0
    assert int(mixed.stats["slides"]) > 0
    one, other = (np.asarray(run.switches.time)[:count] for run in runs)
    np.testing.assert_allclose(one, other, rtol=1e-11)
    for name in ("neuron", "sample", "kind"):  # up to the order of ties
        one, other = (np.sort(np.asarray(getattr(run.switches, name))[:count]) for run in runs)
        np.testing.assert_array_equal(one, other)
    sizes = [
        np.log(np.abs(run.networks.outer_weight)) + run.networks.outer_log_scale for run in runs
    ]
    np.testing.assert_allclose(*sizes, rtol=1e-10, atol=1e-10)


def test_what_pulls_that_cancel_do_not_move_is_moved_by_outputs():
    """Assert a switch for which outputs of 1e-13 are answerable, from another solver.

    The pulls of two samples cancel along the normal of a third. What its neuron's preactivation
    moves by is the difference that outputs make, times e^17 that the neuron has grown: nothing
    of the neuron, and all of the switch.
    """
    log_scale, end = -30.0, 19.0
    inputs, targets = np.asarray([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]]), np.asarray([1.0, 1.0, 0.0])
    inner = np.asarray([[1.0, 0.5], [1.0, -0.5]])
    outer = np.linalg.norm(inner, axis=1)
    active = np.asarray([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0]])

    def velocity(t, state):
        del t
        inner, outer = state[:4].reshape(2, 2), state[4:]
        pull = targets - outer @ (active * (inner @ inputs.T))
        # So that what cancels is not made of rounding.
        drive = active @ ((pull - targets)[:, None] * inputs) + active @ (targets[:, None] * inputs)
        return np.concatenate([(outer[:, None] * drive).ravel(), np.sum(inner * drive, axis=1)])

    crossing = lambda t, state: (state[0] - state[1]) * np.exp(-log_scale)
    crossing.__dict__["terminal"] = True
    start = np.exp(log_scale) * np.concatenate([inner.ravel(), outer])
    other = solve_ivp(velocity, (0, end), start, "DOP853", events=crossing, rtol=1e-13, atol=1e-40)
    (expected,) = other.t_events[0]
    problem = rf.Problem(inputs, targets, loss=rf.SquareLoss())
    run = rf.solve(problem, rf.TwoLayerReLU(inner, outer, log_scale), end)
    assert int(run.stats["quiet_steps"]) == 1
    assert (int(run.switches.neuron[0]), int(run.switches.sample[0])) == (0, 2)
    np.testing.assert_allclose(float(run.switches.time[0]), expected, rtol=1e-6)

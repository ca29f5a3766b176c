"""Yardsticks, the constants of the teacher's problem, and what is read off a network."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import relu_flow as rf
from relu_flow.papers.single_neuron import theory
from relu_flow.papers.single_neuron.theory.bundle import set_number
from relu_flow.papers.single_neuron.theory.measured import Bundle, Measured, Snapshot

from .teacher_problems import ROOTS, SIGNS, data_of, planar, spectral


def integrated(inputs, targets, start, sign, end):
    """Return crossings, and the end point, of a yardstick integrated by SciPy with events."""
    active, time, point, found = inputs @ start > 0, 0.0, start, []
    while time < end and active.any():
        gamma = (active * targets) @ inputs / len(targets)
        events = [lambda t, a, x=x: a @ x for x in inputs]
        for event, on in zip(events, active, strict=True):
            event.terminal, event.direction = True, -1 if on else 1  # pyright: ignore[reportFunctionMemberAccess]
        path = solve_ivp(
            lambda t, a, gamma=gamma: sign * np.linalg.norm(a) * gamma,
            (time, end), point, "DOP853", rtol=1e-13, atol=1e-15, events=events,
        )  # fmt: skip
        time, point = path.t[-1], path.y[:, -1]
        for i, hits in enumerate(path.t_events):
            if len(hits):
                found.append((time, i))
                active = active.copy()
                active[i] = not active[i]
    return found, time, point


def test_yardsticks_agree_with_numerical_integration():
    problem, network = spectral()
    inputs, targets = data_of(problem)
    total = 0
    for start, outer in zip(
        *map(np.asarray, (network.inner_weight, network.outer_weight)), strict=True
    ):
        sign = int(np.sign(outer))
        path = theory.yardstick(inputs, targets, start, sign)
        found, time, point = integrated(inputs, targets, start, sign, 6.0)
        assert path.transversal
        assert path.samples == tuple(i for _, i in found)
        np.testing.assert_allclose(path.times, [t for t, _ in found], rtol=1e-11)
        np.testing.assert_allclose(path.log_norm(time), np.log(np.linalg.norm(point)), atol=1e-11)
        np.testing.assert_allclose(path.direction(time), point / np.linalg.norm(point), atol=1e-11)
        total += len(found)
    assert total == 15


def test_a_yardstick_that_cannot_go_on_says_so():
    """Assert that a hyperplane between labels of opposite sign stops a yardstick."""
    inputs, targets = np.array([[1.0, 0.0], [0.8, 0.6]]), np.array([1.0, -3.0])
    start = np.array([1.0, -0.2])
    # With sign +1 it turns off the second input, and the first one turns it back.
    assert not theory.yardstick(inputs, targets, start, 1).transversal
    assert theory.yardstick(inputs, targets, start, -1).transversal


def test_constants_are_those_found_by_hand():
    problem, network = spectral()
    found = theory.constants(problem, network, eps=0.2)
    np.testing.assert_allclose(found.eigenvalue, ROOTS**2, atol=1e-14)
    nu = np.array([1, 0.2, 0.2, 0.2]) / math.sqrt(1.12)
    np.testing.assert_allclose(found.nu, nu, atol=1e-13)
    np.testing.assert_allclose(found.gamma, ROOTS**2 * nu, atol=1e-14)
    parts = found.delta_parts
    np.testing.assert_allclose(parts["input norms"], math.sqrt(1.29), rtol=1e-14)
    np.testing.assert_allclose(parts["cosines between inputs"], 0.79 / 1.29, rtol=1e-14)
    np.testing.assert_allclose(parts["gaps of root eigenvalues"], 0.3, rtol=1e-12)
    np.testing.assert_allclose(parts["least root eigenvalue"], 0.2, rtol=1e-12)
    np.testing.assert_allclose(parts["teacher's coordinates"], 0.4 / math.sqrt(1.12), rtol=1e-12)
    inner = np.asarray(network.inner_weight)
    norms = np.linalg.norm(inner, axis=1)
    np.testing.assert_allclose(parts["initial norms"], norms.min(), rtol=1e-14)
    np.testing.assert_allclose(found.capital_delta, norms.max(), rtol=1e-14)
    above = inner @ (SIGNS * ROOTS).T > 0
    positive = np.asarray(network.outer_weight) > 0
    np.testing.assert_array_equal(found.growing, positive & above.any(1))
    np.testing.assert_array_equal(found.shrinking, ~positive & above.any(1))
    speed = np.linalg.norm(ROOTS**2 * nu)
    np.testing.assert_allclose(found.alignment_end, 0.2 * 40 / speed, rtol=1e-13)
    needed = math.log(12) + 36 * found.capital_delta**2 / found.delta**3 * math.log(4)
    np.testing.assert_allclose(found.largest_log_lambda, -15 * needed, rtol=1e-13)
    bound = 40 * 4.2 * 4 * found.capital_delta**2 / found.delta**6
    np.testing.assert_allclose(found.departure_bound, bound, rtol=1e-13)


def test_scale_may_be_moved_between_weights_and_logarithm():
    problem, network = spectral()
    moved = rf.TwoLayerReLU(network.inner_weight / 3, network.outer_weight / 3, -40 + math.log(3))
    ours, theirs = (
        theory.constants(problem, network),
        theory.constants(problem, moved, log_lambda=-40.0),
    )
    np.testing.assert_allclose(ours.start, theirs.start, rtol=1e-12)
    assert math.isclose(ours.delta, theirs.delta, rel_tol=1e-10)


def test_snapshots_agree_with_automatic_differentiation():
    problem, network = spectral(log_scale=-0.3)
    found = theory.constants(problem, network)
    shot = Snapshot.of(0.0, network, found)
    inner, outer = (math.exp(-0.3) * w for w in (network.inner_weight, network.outer_weight))

    def loss(inner, outer):
        return jnp.mean((jax.nn.relu(problem.inputs @ inner.T) @ outer - problem.targets) ** 2) / 2

    value, (d_inner, d_outer) = jax.value_and_grad(loss, (0, 1))(inner, outer)
    square = float(jnp.sum(d_inner**2) + jnp.sum(d_outer**2))
    np.testing.assert_allclose(math.exp(shot.log_loss(found)), value, rtol=1e-12)
    np.testing.assert_allclose(math.exp(shot.log_slope()), square, rtol=1e-12)
    np.testing.assert_allclose(
        shot.square_norm(), jnp.sum(inner**2) + jnp.sum(outer**2), rtol=1e-12
    )
    who = found.growing
    bundle = Bundle.of(shot, found)
    total = outer[who] @ inner[who]
    velocity = -(d_outer[who] @ inner[who] + outer[who] @ d_inner[who])
    size = math.exp(bundle.log_norm)
    np.testing.assert_allclose(size * bundle.direction, total, rtol=1e-12)
    np.testing.assert_allclose(size * bundle.rate, velocity, rtol=1e-12)


@pytest.mark.parametrize(
    ("second", "inside"), [(0.07, True), (0.06, False), (0.35, True), (0.36, False)]
)
@pytest.mark.parametrize("scale", [0.0, -1000.0])
@pytest.mark.usefixtures("unchecked")
def test_the_sets_of_the_second_phase_have_their_boundaries(second, inside, scale):
    r"""Assert $\Psi$ for $\eta = (1, 1/4)$, $\nu_1/\nu_1^* = 1/2$: 0.0625 and $1 - 2^{-5/8}$.

    At a scale far below one the bounds are $1/16$ and $\frac58\cdot\frac12$, so that 0.35
    is outside there and so is 0.36.
    """
    problem, network = planar()
    found = theory.constants(problem, network)
    found = eqx.tree_at(lambda c: c.eigenvalue, found, np.array([1.0, 0.25]))
    bundle = Bundle(
        0.0, scale, np.array([1.0, 0.0]), np.zeros(2), np.zeros(2), np.array([1.0, 0.1]),
        np.array([1.0, 0.1]), np.log([0.5, second]) + scale,
    )  # fmt: skip
    number, slack = set_number(Measured(None, found, 1e-11), bundle)  # pyright: ignore[reportArgumentType]
    assert number == 1
    assert (slack > 0) == (inside and (scale == 0.0 or second < 5 / 16))

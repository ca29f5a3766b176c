"""The early-alignment theorem's constants by hand, and its sharper bound in closed form."""

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import relu_flow as rf
from relu_flow.claims.verdict import Evidence, Outcome
from relu_flow.papers.early_alignment import theory
from relu_flow.papers.early_alignment.theory.patterns import longest_stays

from ... import problems


class Log(eqx.Module):
    """A log of switches, by hand."""

    time: Array
    neuron: Array
    sample: Array
    kind: Array
    num: Array


def test_constants_of_three_points_by_hand():
    """Assert every constant of signed inputs at angles 0, 60 and 30 degrees."""
    inputs = np.array([[2.0, 0.0], [0.5, math.sqrt(0.75)], [-math.sqrt(0.75), -0.5]])
    network = rf.TwoLayerReLU(
        np.array([[0.0, 3.0], [1.0, -1.0]]), np.array([3.0, -math.sqrt(2)]), -50.0
    )
    targets = np.array([1.0, 1.0, -1.0])
    for problem, pull in (
        (rf.Problem(inputs, targets), 1.0),
        (rf.Problem(inputs, targets, reduction="mean"), 1 / 3),
        (rf.Problem(inputs, targets, rf.LogisticLoss(), "mean"), 1 / 6),
    ):
        held = theory.constants(problem, network)
        # x_+ = (2.5, sqrt(3/4)), of norm sqrt(7); its cosine to the second input is 2/sqrt(7).
        # The negative neuron has cosine (2.5 - sqrt(3/4))/sqrt(14) to it; the positive neuron
        # has a negative one to x_-.
        zeta_2 = 1 - (2.5 - math.sqrt(0.75)) ** 2 / 14
        expected = {
            "samples": 3, "positives": 2, "negatives": 1, "width": 2, "pull": pull,
            "mu": 0.5, "x_max": 2.0, "x_min": 1.0, "w_max": 3.0, "w_min": math.sqrt(2),
            "log_epsilon": -50.0, "zeta_1": 4 / 7, "zeta_2": zeta_2, "xi": 0.25, "zeta": 4 / 7,
        }  # fmt: skip
        for name, value in expected.items():
            assert getattr(held, name) == pytest.approx(value, rel=1e-13), name
        assert held.cone_miss == (0.5, 0.5)
        root, epsilon, h = math.sqrt(0.5), math.exp(-50.0), math.sqrt(2)
        slow = 0.25 * root * pull
        t_1 = 16 * math.log(3) / slow
        assert held.t_1 == pytest.approx(t_1)
        assert held.path(0) == pytest.approx(4 / slow * (1 + 0.5 + 1))
        assert held.path(1) == pytest.approx(4 / slow * (1 + 0.5 + 0.5))
        assert held.dwell == pytest.approx(4 / slow)
        assert held.horizon == pytest.approx(math.log(1 / (h * epsilon)) / (24 * pull))
        assert held.log_square_norm == pytest.approx(math.log(2 * epsilon * 9 / h))
        assert held.log_output == pytest.approx(math.log(2 * epsilon * h * 2 * 9))
        assert held.log_direction_error == pytest.approx(
            math.log(4 * epsilon * 3 * h * 4 * 9 * pull)
        )
        assert held.log_lemma_3_scale == pytest.approx(math.log(1 / (4 * h * 2 * 9)))
        assert held.log_scale_bound == pytest.approx(
            -0.5 * math.log(2) - 64 * 3 * 2 * math.log(3) / (0.25 * root)
        )
        assert held.boundary_speed == pytest.approx(pull * 0.5**1.5 / 2)
        assert held.alpha == pytest.approx(0.25 / 64)
        assert held.log_rank_excess == pytest.approx(math.log(4 * h * epsilon * 9))
        logs = math.log(2 / (epsilon**2 * root * 2)) + 4 * 3 * 2 * pull * t_1
        assert held.t_2(0) == pytest.approx(t_1 + (6 + 4 * logs) / (root * 2 * pull))
    toward = rf.TwoLayerReLU(np.array([[-1.0, -1.0]]), np.array([math.sqrt(2)]), -50.0)
    # x_- is at 210 degrees, this positive neuron at 225.
    zeta_2 = theory.constants(rf.Problem(inputs, targets), toward).zeta_2
    assert zeta_2 == pytest.approx(math.sin(math.radians(15)) ** 2)


def test_another_epsilon_is_another_reading_of_the_same_start():
    """Assert that epsilon W_0 is what stays, and a far one is refused."""
    network = rf.TwoLayerReLU(np.eye(2), np.ones(2), np.array([-3.0, -4.0]))
    problem = rf.Problem(np.eye(2) + 0.1, np.ones(2))
    default, other = (theory.constants(problem, network, e) for e in (None, -5.0))
    assert (default.log_epsilon, default.w_max) == (-3.0, 1.0)
    assert default.w_min == pytest.approx(math.exp(-1))
    assert other.w_max == pytest.approx(math.exp(2))
    assert other.w_min == pytest.approx(math.exp(1))
    with pytest.raises(ValueError, match="log_epsilon"):
        theory.constants(problem, network, -2000.0)


def test_best_zeta_1_and_xi_against_random_directions():
    """Assert Lemmas 8 and 9 on random directions, and that no larger constant will do."""
    inputs, targets, network = problems.separable(samples=6, features=3, width=2, spread=0.8)
    held = theory.constants(rf.Problem(inputs, targets), network)
    random = np.random.default_rng(0)
    signed = targets[:, None] * inputs
    center = inputs[targets > 0].sum(axis=0)
    z = random.normal(size=(300_000, 3))
    z /= np.linalg.norm(z, axis=1)[:, None]
    near = (z @ center) / np.linalg.norm(center)
    in_positive = np.all((z @ inputs.T > 0) == (targets > 0), axis=1)
    in_negative = np.all((z @ inputs.T > 0) == (targets < 0), axis=1)
    assert np.all(in_positive[near > math.sqrt(1 - held.zeta_1)])
    cone = random.dirichlet(np.full(6, 0.2), 3000) @ signed
    cone /= np.linalg.norm(cone, axis=1)[:, None]
    free = z[~in_positive & ~in_negative][:3000]
    largest = np.max(np.abs(cone @ free.T))
    assert largest <= math.sqrt(1 - held.xi)
    assert largest > math.sqrt(1 - held.xi) - 0.02
    opposite = inputs[targets < 0].sum(axis=0)
    both = [near > math.sqrt(1 - 1.1 * held.zeta_1), in_positive]
    also = [z @ opposite > math.sqrt(1 - 1.1 * held.zeta_1) * np.linalg.norm(opposite), in_negative]
    assert np.any(both[0] & ~both[1]) or np.any(also[0] & ~also[1])


class OneNeuron(eqx.Module):
    """The limit flow, in closed form, of a neuron that is active on the first of two inputs."""

    length: float
    angle: float = 1.0
    speed: float = 1.0

    @property
    def leaves(self):
        # From (0, 1) the cosine to (1, 0) is tanh(t); at sin(angle) the second input is met.
        return math.atanh(math.sin(self.angle)) / self.speed

    @property
    def ts(self):
        return jnp.array([self.length])

    @property
    def initial_sides(self):
        return jnp.array([[1, 0]])

    @property
    def switches(self):
        one = jnp.zeros(1, int)
        return Log(jnp.array([self.leaves]), one, one + 1, one, jnp.array(1))

    def network_at(self, t):
        t = self.speed * t
        inner = jnp.stack([jnp.sinh(t) + 1e-15, -jnp.ones(())])
        return rf.TwoLayerReLU(inner[None], jnp.cosh(t)[None], -300.0)


@pytest.mark.parametrize(("speed", "outcome"), [(1.0, Outcome.HOLDS), (0.98, Outcome.VIOLATED)])
def test_the_sharper_dwell_is_attained_in_the_plane(speed, outcome):
    """Assert that the bound is the stay of a neuron that starts on the far hyperplane."""
    flow = OneNeuron(2.0, speed=speed)
    inputs = np.array([[1.0, 0.0], [math.cos(1.0), math.sin(1.0)]])
    problem = rf.Problem(inputs, np.ones(2))
    network = rf.TwoLayerReLU(np.array([[1e-15, -1.0]]), np.ones(1), -300.0)
    evidence = Evidence(problem, network, flow)
    bounds = longest_stays(evidence)
    assert bounds[0] == pytest.approx(math.atanh(math.sin(1.0)), rel=1e-12)
    assert bounds[1] == np.inf
    verdicts = theory.examine(problem, network, flow)
    found = next(v for v in verdicts if v.claim.name == "Sharper dwell")
    assert found.outcome is outcome, str(found)
    assert found.comparisons[0].measured == pytest.approx(1 / speed, rel=1e-9)

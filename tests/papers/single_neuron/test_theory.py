"""The theorems of learning a single neuron, on runs that meet them and on broken ones."""

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import relu_flow as rf
from relu_flow.claims.verdict import Evidence, Outcome, table
from relu_flow.papers.single_neuron import theory
from relu_flow.papers.single_neuron.theory.measured import Measured

from .teacher_problems import by_name, checked, data_of, planar, refuted, spectral

PLANAR_END = 2700.0


@pytest.fixture(scope="module")
def literal():
    """Return problem, network and run at a scale that meets Assumption 2 literally."""
    problem, network = planar()
    return problem, network, rf.solve(problem, network, PLANAR_END, dense=True)


@pytest.fixture(scope="module")
def moderate():
    """Return problem, network and run at the scale e^-40."""
    problem, network = spectral()
    return problem, network, rf.solve(problem, network, 600.0, dense=True)


def test_switches_are_those_of_yardsticks_up_to_the_square_of_the_scale(moderate):
    problem, network, _ = moderate
    found = theory.constants(problem, network)
    expected = {
        (j, i): t
        for j, y in enumerate(found.yardsticks)
        for t, i in zip(y.times, y.samples, strict=True)
    }
    errors, scales = [], (-5.0, -6.5, -8.0, -40.0)
    for scale in scales:
        start = rf.TwoLayerReLU(network.inner_weight, network.outer_weight, scale)
        log = rf.solve(problem, start, 600.0, dense=True).switches
        rows = [np.asarray(c)[: int(log.num)] for c in (log.time, log.neuron, log.sample)]
        times = {(int(j), int(i)): t for t, j, i in zip(*rows, strict=True)}
        assert set(times) == set(expected)
        errors.append(max(abs(times[key] - t) for key, t in expected.items()))
    np.testing.assert_allclose(np.diff(np.log(errors[:3])) / np.diff(scales[:3]), 2, atol=0.02)
    assert errors[3] < 1e-12


def test_angle_of_the_limit_is_proportional_to_the_scale(moderate):
    problem, network, _ = moderate
    growing = np.asarray(theory.constants(problem, network).growing)
    angles, scales = [], (-6.0, -8.0)
    for scale in scales:
        start = rf.TwoLayerReLU(network.inner_weight, network.outer_weight, scale)
        limit = rf.solve(problem, start, 600.0, dense=True).network
        directions = np.asarray(limit.directions())[growing]
        angles.append(np.max(np.linalg.norm(directions[:, None] - directions, axis=-1)))
    np.testing.assert_allclose(np.log(angles[0] / angles[1]), 2.0, atol=0.02)


def test_coordinates_cross_when_the_reduced_equation_says(moderate):
    """Assert the times of the bundle's crossings against SciPy's integration from T1 on."""
    evidence = Evidence(*moderate)
    found = theory.constants(*moderate[:2])
    record = Measured(evidence, found, 1e-11)
    begin = found.alignment_end
    start = record.bundle(begin)
    scatter = found.inputs.T @ found.inputs / 4

    def reduced(t, state):
        log_norm, unit = state[0], state[1:]
        force = scatter @ (found.teacher - math.exp(log_norm) * unit)
        return np.concatenate([[2 * unit @ force], force - (unit @ force) * unit])

    rises = [lambda t, s, k=k: s[1 + k] - found.teacher[k] * math.exp(-s[0]) for k in range(3)]
    leaves = lambda t, s: s[1] - 0.5 * found.teacher[0] * math.exp(-s[0])
    state = np.concatenate([[start.log_norm], start.direction])
    path = solve_ivp(
        reduced, (begin, 150.0), state, "DOP853", rtol=1e-12, atol=1e-13, events=[*rises, leaves]
    )
    expected = [times[0] for times in path.t_events]
    times = [record.rise(k, 0.0, begin) for k in range(3)]
    np.testing.assert_allclose([*times, record.departure], expected, rtol=1e-6)
    assert times == sorted(times)


def test_every_claim_holds_where_assumption_2_is_met_literally(literal):
    verdicts = theory.examine(*literal)
    assert {v.claim.name: v.outcome for v in verdicts} == {
        v.claim.name: Outcome.HOLDS for v in verdicts
    }
    assert len(verdicts) == 21
    times = by_name(verdicts)["Theorem 6"].comparisons[0]
    assert 0.25 * 2300 / 0.9164 < times.measured < PLANAR_END
    # n_j = 2 and eps = 1/4 in the exponent, worked out by hand.
    bounds = {
        c.name.split(",")[0]: c.bound for c in by_name(verdicts)["Lemma 3, times"].comparisons
    }
    assert math.isclose(bounds["|tau - t| of crossing 2"], -2300 * (1 - (1 + 5 / 6) / 4))
    assert len(table(verdicts)) == sum(len(v.comparisons) for v in verdicts)


def test_bounds_are_those_worked_out_by_hand(literal):
    """Assert the other side of comparisons, at ln(lambda) = -2300 and eps = 1/4."""
    problem, network, flow = literal
    inputs, targets = data_of(problem)
    (low, high), axes = np.linalg.eigh(inputs.T @ inputs / 2)
    gamma, last = np.linalg.norm(targets @ inputs / 2), axes[0, 0]
    expected = {
        "Lemma 5": [-1725.0, -575.0, -575.0],
        "Lemma 21": [-4025.0],
        "Lemma 23": [-2875.0, -1150.0],
        "Phase 2, bundle": [-575 + math.log(4)],
        "Phase 2, reduced equation": [-287.5 + math.log(3)],
        "Proposition 27": [-287.5 + math.log(8) / 2],
        "Lemmas 28 and 32": [(low * last / gamma) ** 2, math.log(3) - 2300 / 12, -5 * high],
        "Lemmas 28 and 32, sizes": [math.log(0.5), math.log(gamma / (4 * high))],
        "Polyak-Lojasiewicz": [math.log(2 * low * gamma / (5 * high))],
    }
    delta, top = 0.583500 / math.hypot(1.02, 0.86) / math.hypot(0.825, 0.3), math.hypot(1.02, 0.86)
    expected["Theorem 6"] = [2300 * 4.25 * 2 * top**2 / delta**6, 0.0]
    late = 8 * math.log(2) / delta**3
    gap = (1 - delta / top) ** 2
    least = delta**2.5 / math.sqrt(2)
    expected["Proposition 17"] = [top**2, gap, least, top**2, delta**2, late]
    expected["Proposition 18"] = [2300 / 12 / gamma]
    verdicts = checked(problem, network, flow, "Theorem 7", *expected)
    for name, bounds in expected.items():
        found = [c.bound for c in verdicts[name].comparisons]
        np.testing.assert_allclose(found, bounds, rtol=1e-9, err_msg=name)
    last_row = verdicts["Theorem 7"].comparisons[-1]
    assert math.isclose(last_row.bound, math.log(2300) - 2300 / 12)


def test_conclusions_hold_at_a_scale_where_assumption_2_is_not_met(moderate):
    verdicts = theory.examine(*moderate)
    assert not refuted(verdicts)
    assert all(v.conclusion_holds for v in verdicts)
    unmet = {h.name for v in verdicts for h in v.hypotheses if not h.met}
    assert unmet == {"2: scale small enough"}
    free = {v.claim.name for v in verdicts if v.outcome is Outcome.HOLDS}
    assert free == {"Theorem 8"}
    assert all(
        v.outcome is Outcome.HYPOTHESES_NOT_MET for v in verdicts if v.claim.name not in free
    )


class Doctored:
    """A flow that says something else than what happened."""

    def __init__(self, flow, change=None, clock=1.0, log=None, end=None):
        self.flow, self.change, self.clock = flow, change, clock
        self.switches = log if log is not None else flow.switches
        if clock != 1.0:
            self.switches = eqx.tree_at(lambda s: s.time, flow.switches, flow.switches.time * clock)
        self.ts = flow.ts if end is None else jnp.array([end])
        self.initial_sides = flow.initial_sides

    def network_at(self, t):
        # Where another end is claimed the run has to say something there too: its last state.
        network = self.flow.network_at(jnp.minimum(t / self.clock, self.flow.ts[-1]))
        return network if self.change is None else self.change(float(t), network)


def scaled(network, log_factor):
    return rf.TwoLayerReLU(
        network.inner_weight, network.outer_weight, network.log_scale + log_factor
    )


def turned(network, angle, who):
    """Turn neurons in the plane of the first two coordinates."""
    c, s = np.cos(angle), np.sin(angle)
    turn = np.eye(network.features)
    turn[:2, :2] = [[c, s], [-s, c]]
    inner = np.where(who[:, None], network.inner_weight @ turn, network.inner_weight)
    return rf.TwoLayerReLU(inner, network.outer_weight, network.log_scale)


def opposite(network):
    return rf.TwoLayerReLU(network.inner_weight, -network.outer_weight, network.log_scale)


def exchanged(network):
    """Take a third of the first neuron's weight and give it to the second."""
    square = np.exp(2 * np.asarray(network.log_norm()))
    moved = square[0] / 3
    factor = np.zeros(network.width)
    factor[:2] = 0.5 * np.log([1 - moved / square[0], 1 + moved / square[1]])
    return scaled(network, factor)


def swapped_samples(flow, neuron):
    """Swap the samples of the first two switches of a neuron."""
    sample = np.array(flow.switches.sample)
    first, second = np.flatnonzero(np.asarray(flow.switches.neuron) == neuron)[:2]
    sample[[first, second]] = sample[[second, first]]
    return eqx.tree_at(lambda s: s.sample, flow.switches, jnp.asarray(sample))


GROWING, SHRINKING = np.arange(8) < 4, np.arange(8) >= 4
ALIGNED = 0.25 * 2300 / 0.9163035987904063
FIRST = np.arange(8) < 1


def when(condition, change):
    return lambda t, network: change(network) if condition(t) else network


DOCTORED = {
    "slow clock": (
        lambda flow: Doctored(flow, clock=1.001),
        {"Lemma 3, times", "Lemma 5", "Lemma 23"},
    ),
    "samples swapped": (
        lambda flow: Doctored(flow, log=swapped_samples(flow, 5)),
        {"Lemma 3, order"},
    ),
    "resting neurons turn": (
        lambda flow: Doctored(flow, lambda t, net: turned(net, 1e-9 * t, SHRINKING)),
        {"Lemma 4"},
    ),
    "too large early": (
        lambda flow: Doctored(
            flow, when(lambda t: t < ALIGNED + 1, lambda net: scaled(net, 400.0))
        ),
        {"Lemma 4", "Lemma 5", "Lemma 19", "Lemma 21", "Lemma 23"},
    ),
    "one neuron astray": (
        lambda flow: Doctored(
            flow, when(lambda t: t > ALIGNED - 1, lambda net: turned(net, 0.1, FIRST))
        ),
        {"Lemma 5", "Phase 2, bundle", "Phase 2, reduced equation"},
    ),
    "outer signs": (
        lambda flow: Doctored(flow, lambda t, net: opposite(net)),
        {"Phase 2, sets", "Proposition 25", "Proposition 27", "Lemmas 28 and 32"},
    ),
    "outer signs late": (
        lambda flow: Doctored(flow, when(lambda t: t > 2600, opposite)),
        {"Theorem 6", "Phase 2, sets"},
    ),
    "shrunk late": (
        lambda flow: Doctored(flow, when(lambda t: t > 2600, lambda net: scaled(net, -10.0))),
        {"Lemmas 28 and 32, sizes", "Polyak-Lojasiewicz", "Phase 2, sets"},
    ),
    "beyond the teacher": (
        lambda flow: Doctored(flow, lambda t, net: scaled(net, 0.01)),
        {"Phase 2, order", "Phase 2, sets"},
    ),
    "never departs": (
        lambda flow: Doctored(flow, lambda t, net: scaled(net, -1e4), end=1e7),
        {"Theorem 6"},
    ),
    "weight exchanged": (
        lambda flow: Doctored(flow, when(lambda t: t > 2600, exchanged)),
        {"Theorem 7"},
    ),
}


@pytest.mark.parametrize("name", DOCTORED)
def test_a_doctored_run_is_refuted(literal, name):
    problem, network, flow = literal
    doctor, expected = DOCTORED[name]
    verdicts = checked(problem, network, doctor(flow), *expected)
    seen = {name: verdict.outcome for name, verdict in verdicts.items()}
    assert seen == dict.fromkeys(expected, Outcome.VIOLATED)


def test_every_claim_about_runs_is_refuted_by_some_doctored_run():
    covered = set.union(*(expected for _, expected in DOCTORED.values()))
    names = {claim.name for claim in theory.claims()}
    # These three have tests of their own.
    assert names - covered == {"Proposition 17", "Proposition 18", "Theorem 8"}


def test_coordinates_learnt_in_another_order_refute_the_order(moderate):
    """Assert that exchanging the first two eigenvectors late in the run is found out."""
    problem, network, flow = moderate
    swap = np.eye(4)
    # The teacher's second coordinate is a fifth of the first.
    swap[:2, :2] = [[0.0, 0.2], [5.0, 0.0]]

    def exchange(t, net):
        del t
        return rf.TwoLayerReLU(net.inner_weight @ swap, net.outer_weight, net.log_scale)

    found = checked(problem, network, Doctored(flow, exchange), "Phase 2, order", "Theorem 7")
    assert refuted(found.values()) == {"Phase 2, order"}


def test_a_run_that_ends_early_has_not_reached_the_claims(literal):
    problem, network, flow = literal
    verdicts = by_name(theory.examine(problem, network, Doctored(flow, end=3.0)))
    names = set(verdicts) - {"Proposition 17", "Proposition 18"}
    assert {verdicts[n].outcome for n in names} == {Outcome.NOT_REACHED}


def unmet(problem, network, flow, **options):
    verdict = checked(problem, network, flow, "Lemma 3, times", **options)["Lemma 3, times"]
    assert verdict.outcome is Outcome.HYPOTHESES_NOT_MET
    return {h.name for h in verdict.hypotheses if not h.met}


def test_broken_settings_do_not_meet_the_hypotheses(literal):
    problem, network, flow = literal
    inputs, targets = data_of(problem)
    wide = planar(teacher=(math.cos(0.3), math.sin(0.3)))[0]
    assert unmet(wide, network, flow) >= {"angles to the teacher below pi/4"}
    longer = rf.Problem(inputs, 3 * targets, rf.SquareLoss(), reduction="mean")
    assert unmet(longer, network, flow) >= {"1(i) unit teacher"}
    assert refuted(checked(longer, network, flow, "Proposition 17").values()) == {"Proposition 17"}
    total = rf.Problem(inputs, targets, rf.SquareLoss())
    assert unmet(total, network, flow) == {"mean square loss, both layers trained"}
    other = unmet(problem, network, flow, teacher=np.array([0.8, 0.6]))
    assert "targets are the teacher's outputs" in other
    lone = rf.Problem(
        inputs[[0, 0]] * [[1], [2]], targets[[0, 0]] * [1, 2], rf.SquareLoss(), "mean"
    )
    expected = {"1(i) inputs span the space", "1(iii) different directions of inputs"}
    assert unmet(lone, network, flow, teacher=np.array([1.0, 0.0])) >= expected
    along = np.linalg.eigh(inputs.T @ inputs)[1][:, 1]
    eigen = rf.Problem(inputs, np.abs(inputs @ along), rf.SquareLoss(), "mean")
    assert unmet(eigen, network, flow) >= {"1(iii) teacher has all coordinates"}
    large = rf.TwoLayerReLU(network.inner_weight, network.outer_weight, -2.0)
    assert unmet(problem, large, flow) == {"2: scale small enough"}
    assert refuted(checked(problem, large, flow, "Proposition 18").values()) == {"Proposition 18"}


def test_broken_networks_do_not_meet_the_hypotheses(literal):
    problem, network, flow = literal
    outer = network.outer_weight
    negative = rf.TwoLayerReLU(network.inner_weight, -jnp.abs(outer), -2300.0)
    assert "1(ii) a growing neuron" in unmet(problem, negative, flow)
    inner = np.array(network.inner_weight)
    inner[0] = np.array([-0.3, 0.825]) / np.hypot(0.3, 0.825)
    touching = rf.TwoLayerReLU(inner, outer, -2300.0)
    assert "1(ii) no neuron on a hyperplane" in unmet(problem, touching, flow)
    inputs, targets = data_of(problem)
    gamma = targets @ inputs
    inner[0] = network.inner_weight[0]
    inner[5] = gamma / np.linalg.norm(gamma) * 0.8
    aimed = rf.TwoLayerReLU(inner, outer, -2300.0)
    assert "1(ii) shrinking neurons off gamma" in unmet(problem, aimed, flow)


def test_an_unbalanced_run_is_told_apart(literal):
    problem, network, _ = literal
    unbalanced = rf.TwoLayerReLU(network.inner_weight, 1.5 * network.outer_weight, -2300.0)
    flow = rf.solve(problem, unbalanced, PLANAR_END, dense=True)
    assert unmet(problem, unbalanced, flow) == {"balanced neurons: log |a| = log |w|"}
    assert refuted(checked(problem, unbalanced, flow, "Lemma 3, times").values()) == {
        "Lemma 3, times"
    }


def test_arguments_out_of_range_are_refused(literal):
    problem, network, flow = literal
    with pytest.raises(ValueError, match="`eps` must be in"):
        theory.examine(problem, network, flow, eps=0.3)
    with pytest.raises(ValueError, match="`teacher` must have shape"):
        theory.constants(problem, network, teacher=np.ones(3))
    with pytest.raises(ValueError, match="zero row of inner weights"):
        theory.constants(problem, rf.TwoLayerReLU(np.zeros((1, 2)), [1.0]))

"""Phases: their times against closed forms and the planar model, with error bars."""

from typing import Any

import jax
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import relu_flow as rf
from relu_flow.analysis.timing import time_phases
from relu_flow.model import switch
from relu_flow.observe import observables, pattern, schemes
from relu_flow.observe.motion import activations
from relu_flow.observe.phases import Latest, Phase, Scheme, SwitchEvent, boundary_time

# Lists of numbers will do, which the annotations do not say.
Problem: Any = rf.Problem
Network: Any = rf.TwoLayerReLU

HEAVY, ANGLE, POSITIVE, NEGATIVE, WIDTH = 4, 0.3, 19, 4, 60
TIMES = [20.0, 100.0, 275.0, 300.0]

# ------------------------------------------------- one neuron: a switch, then logistic growth

DEACTIVATED = SwitchEvent("second sample lost", (rf.SwitchKind.DEACTIVATE,))
HALF = rf.Milestone(observables.loss, np.float64(1.0), -1, "loss 1")
NEVER = rf.Milestone(observables.loss, np.float64(0.4), -1, "loss 0.4")
START = rf.Milestone(observables.loss, np.float64(3.0), -1, "loss 3")
LIFE = Scheme.chain(
    "one neuron",
    [("above 3", START), ("turning", DEACTIVATED), ("growing", HALF), ("to 0.4", NEVER)],
    "closed form",
)
BOTH = Scheme("both", (Phase("till both", None, Latest("both", (HALF, DEACTIVATED))),), "made up")


def neuron_times(log_scale):
    """Return when the second sample is lost and when the loss is 1, in closed form.

    Orthogonal samples e_1, e_2 with targets 2 and -1, square loss, w = (1, 1/2), v = |w|. While
    the output is negligible the flow is a boost along g = (2, -1); the second preactivation
    b cosh + ... is a quadratic in z = exp(|g| t). Then w = (r, 0), v = r, and the output u obeys
    u' = 2 u (2 - u), from exp(2 log_scale) r^2.
    """
    w, v = np.array([1.0, 0.5]), np.sqrt(1.25)
    speed = np.sqrt(5.0)
    unit = np.array([2.0, -1.0]) / speed
    along = w @ unit
    rest = w - along * unit
    roots = np.roots([unit[1] * (along + v) / 2, rest[1], unit[1] * (along - v) / 2])
    z = min(root for root in roots.real if root > 1)
    lost = np.log(z) / speed
    radius = v * (z + 1 / z) / 2 + along * (z - 1 / z) / 2
    return lost, lost + (np.log(2.0) - 2 * log_scale - 2 * np.log(radius)) / 4


@pytest.fixture(scope="module")
def life():
    """Return a function that times the phases of one neuron from a given scale."""
    problem = Problem([[1.0, 0.0], [0.0, 1.0]], [2.0, -1.0], rf.SquareLoss())

    def timed(log_scale):
        network = Network([[1.0, 0.5]], [np.sqrt(1.25)], log_scale)
        return time_phases(problem, network, [LIFE, BOTH], 2 - log_scale / 2)

    return timed


@pytest.mark.parametrize("log_scale", [-50.0, -10_000.0])
def test_error_bar_holds_the_error_of_root_found_times(life, log_scale):
    """Assert that switch and milestone are where they should be, within small error bars."""
    lost, half = neuron_times(log_scale)
    found = life(log_scale)
    turning, growing = found["one neuron", "turning"], found["one neuron", "growing"]
    assert turning.end.reached
    assert abs(turning.end.time - lost) <= turning.end.error <= 1e-11
    assert growing.start.time == turning.end.time
    assert abs(growing.end.time - half) <= growing.end.error
    assert growing.end.error <= 1e-9 * half
    assert found["both", "till both"].end.time == growing.end.time


def test_what_is_not_reached_is_said_in_words(life):
    """Assert that a loss below what is possible has no time, and what held at once has zero."""
    found = life(-50.0)
    beyond = found["one neuron", "to 0.4"].end
    assert not beyond.reached
    assert beyond.time == np.inf
    assert str(beyond) == "not reached"
    assert found["one neuron", "above 3"].end.time == 0.0
    table = found.to_pandas()
    assert list(table["phase"]) == ["above 3", "turning", "growing", "to 0.4", "till both"]
    assert list(table["end"] == "not reached") == [False, False, False, True, False]
    assert list(table["duration"] == "not reached") == [False, False, False, True, False]
    assert table["end"][2] == found["one neuron", "growing"].end.time
    assert np.isnan(table["end_error"][3])
    with pytest.raises(KeyError):
        found["one neuron", "no such phase"]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("wrong", [LIFE.phases[0], "early_alignment", 3.0])
def test_what_is_no_scheme_is_named(wrong):
    """Assert that a phase, a name or a number in the place of a scheme is told apart."""
    time: Any = time_phases
    for schemes_given in (wrong, [LIFE, wrong]):
        with pytest.raises(ValueError, match="Argument `schemes` must contain schemes"):
            time(Problem([[1.0]], [1.0]), Network([[1.0]], [1.0]), schemes_given, 1.0)


@pytest.mark.usefixtures("unchecked")
def test_schemes_are_checked(life):
    """Assert errors for equal names, a milestone that was not asked for, bad events."""
    problem = Problem([[1.0]], [1.0])
    network = Network([[1.0]], [1.0])
    other = rf.Milestone(observables.loss, 0.7, -1, "loss 1")
    clash = Scheme.chain("clash", [("a", other)], "made up")
    with pytest.raises(ValueError, match="distinct names"):
        time_phases(problem, network, [LIFE, clash], 1.0)
    with pytest.raises(ValueError, match="more than 1"):
        time_phases(problem, network, [LIFE], 1.0, coarsening=1.0)
    with pytest.raises(ValueError, match="Argument `t1`"):  # one scheme alone is taken
        time_phases(problem, network, LIFE, -1.0)
    with pytest.raises(ValueError, match="must have the milestone"):
        boundary_time(
            rf.Milestone(observables.loss, 0.1, name="x"), problem, network, life(-50.0).run
        )
    with pytest.raises(ValueError, match="'first' or 'last'"):
        SwitchEvent("x", which="second")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="codes of `SwitchKind`"):
        SwitchEvent("x", (7,))
    with pytest.raises(ValueError, match="between 0 and 1"):
        schemes.loss_drop(problem, 2.0)


def test_every_kind_of_switch_says_the_side_it_leads_to():
    """Assert the sides after a switch by name, and that the codes are the public ones."""
    sides = {
        "ACTIVATE": switch.ACTIVE,
        "DEACTIVATE": switch.INACTIVE,
        "SLIDE_ENTER": switch.SLIDING,
        "SLIDE_EXIT_ACTIVE": switch.ACTIVE,
        "SLIDE_EXIT_INACTIVE": switch.INACTIVE,
    }
    assert {k.name: switch.SIDE_AFTER[k] for k in rf.SwitchKind} == sides
    assert len({switch.ACTIVE, switch.INACTIVE, switch.SLIDING}) == 3


# ---------------------------------------------------------------- two clusters: every phase


def _all_schemes(problem):
    """Return the schemes that are timed, in their order."""
    return [
        schemes.multi_phase(),
        schemes.accuracy_steps(problem),
        schemes.loss_drop(problem),
        schemes.norms_overtake(),
        schemes.last_switch(),
        schemes.early_alignment(),
    ]


def _all_milestones(problem):
    """Return their milestones, so that a second solve is the same compiled program."""
    return [m for scheme in _all_schemes(problem) for m in scheme.milestones()]


@pytest.fixture(scope="module")
def clusters():
    """Return problem, network and phases of four copies of x_+ and one x_-, as in the slides."""
    plus, minus = np.array([1.0, 0.0]), np.array([np.cos(ANGLE), np.sin(ANGLE)])
    problem = Problem(
        np.stack([plus] * HEAVY + [minus]),
        np.array([1.0] * HEAVY + [-1.0]),
        reduction="mean",
        train="inner",
    )
    random = np.random.default_rng(0)
    angles = random.uniform(-0.5, 0.8, size=POSITIVE + NEGATIVE)
    angles[POSITIVE:] = ANGLE + np.pi / 2 - random.uniform(0.05, 0.25, size=NEGATIVE)
    signs = np.repeat([1.0, -1.0], [POSITIVE, NEGATIVE])
    network = Network(
        np.stack([np.cos(angles), np.sin(angles)], axis=1),
        signs,
        np.log(1e-5 / np.sqrt(WIDTH)),
        np.log(1 / np.sqrt(WIDTH)),
    )
    chosen = _all_schemes(problem)
    return problem, network, time_phases(problem, network, chosen, 300.0, ts=TIMES)


def test_phases_of_two_clusters_come_in_order_at_their_times(clusters):
    """Assert escape, deactivation and reactivation at the times of the planar model.

    They are 145.333, 266.333 (both by integrating the planar ODE) and 284.722 (closed form).
    """
    found = clusters[2]
    names = [
        "condensation", "saddle to plateau", "plateau", "escape", "deactivated",
        "directional convergence",
    ]  # fmt: skip
    ends = [found["multi-phase", name].end for name in names]
    times = [end.time for end in ends]
    assert times == sorted(times)
    np.testing.assert_allclose(times[2:5], [145.333, 266.333, 284.722], rtol=1e-3)
    assert times[0] < 0.1
    assert not ends[5].reached
    for end in ends[:5]:
        assert end.error < 1e-9 * end.time


def test_plateau_begins_where_the_planar_model_turns(clusters):
    """Assert when the negative output turns against an integration of the planar ODE."""
    cosine, share = np.cos(ANGLE), HEAVY / (1 + HEAVY)
    rate_pos, rate_neg = POSITIVE / WIDTH, NEGATIVE / WIDTH

    def field(t, f):
        a, b = share * np.exp(-f[0]), (1 - share) * np.exp(f[1])
        slope = rate_pos * (a * cosine - b) - rate_neg * b * np.sin(ANGLE) ** 2
        return [rate_pos * (a - b * cosine), slope]

    turn = lambda t, f: field(t, f)[1]
    found = solve_ivp(field, (0, 50), [0, 0], rtol=1e-10, atol=1e-12, events=turn)
    time = clusters[2]["multi-phase", "saddle to plateau"].end.time
    np.testing.assert_allclose(time, found.t_events[0][0], rtol=1e-3)


def test_rival_definitions_stand_side_by_side(clusters):
    """Assert boundaries shared by schemes, and an alignment that ends with the last slide."""
    problem, network, found = clusters
    escape = found["multi-phase", "plateau"].end.time
    np.testing.assert_allclose(found["accuracy", "plateau"].end.time, escape, rtol=1e-12)
    table = found.run.switches.to_pandas()
    assert found["last switch", "switching"].end.time == table["time"].max()
    entered = table[(table["kind"] == "slide_enter") & (table["neuron"] < POSITIVE)]["time"]
    aligned = found["early alignment", "alignment"].end
    # A neuron counts as inactive from a cosine of 1e-12 on, a little before it slides.
    np.testing.assert_allclose(aligned.time, entered.max(), rtol=1e-10)
    assert aligned.error < 1e-9 * aligned.time
    assert found["multi-phase", "escape"].end.time == entered[entered > escape].min()
    left = table[table["kind"] == "slide_exit_active"]["time"].min()
    event = SwitchEvent("first exit", (rf.SwitchKind.SLIDE_EXIT_ACTIVE,))
    assert boundary_time(event, problem, network, found.run) == left > table["time"].min()
    assert found["loss falls by 0.01", "before"].end.time < 0.2
    assert set(found.to_pandas()["scheme"]) == {
        "multi-phase", "accuracy", "loss falls by 0.01", "norms overtake", "last switch",
        "early alignment",
    }  # fmt: skip


def test_losses_and_rates_at_boundaries_are_what_they_are_defined_by(clusters):
    """Assert the defining quantity at root-found times, by numpy, on a second run."""
    problem, network, found = clusters
    step = 1e-3
    fallen = found["loss falls by 0.01", "before"].end.time
    fitted = found["early alignment", "fitting"].end.time
    overtaken = found["norms overtake", "directions"].end.time
    ts = [fallen, fitted, overtaken - step, overtaken + step]
    milestones = {m.name: m for m in _all_milestones(problem)}
    again = rf.solve(problem, network, 300.0, ts=ts, milestones=tuple(milestones.values()))
    inner = np.asarray(again.networks.inner_weight)
    scale = np.exp(np.asarray(again.networks.log_scale))
    outer = np.asarray(network.outer_weight) * np.exp(np.asarray(network.outer_log_scale))
    true = scale[:, :, None] * inner
    outputs = np.maximum(true @ np.asarray(problem.inputs).T, 0).transpose(0, 2, 1) @ outer
    losses = np.mean(np.exp(-np.asarray(problem.targets) * outputs), axis=1)
    np.testing.assert_allclose(losses[0], 0.99, rtol=1e-10)
    sizes = np.abs(outputs[1])
    np.testing.assert_allclose(min(sizes[:HEAVY].max(), sizes[HEAVY]), 0.25, rtol=1e-10)
    norms = np.linalg.norm(true, axis=2)
    directions = true / norms[:, :, None]
    turning = np.sum(np.linalg.norm(directions[3] - directions[2], axis=1)) / (2 * step)
    growing = (np.sum(norms[3] ** 2) - np.sum(norms[2] ** 2)) / (2 * step)
    np.testing.assert_allclose(growing, turning, rtol=1e-6)


def test_sides_follow_the_switches(clusters):
    """Assert modes at many times against a replay of the log one switch after another."""
    run = clusters[2].run
    table = run.switches.to_pandas()
    for t in (0.0, 1e-3, 0.5, 20.0, 266.3332, 284.0, 284.73, 300.0):
        sides = np.array(run.initial_sides)
        for row in table[table["time"] <= t].itertuples():
            after = {"activate": 1, "slide_exit_active": 1, "slide_enter": 2}
            sides[row.neuron, row.sample] = after.get(str(row.kind), 0)
        np.testing.assert_array_equal(pattern.sides_at(run, t), sides)
    counts = [int(pattern.sliding_count(run, t)) for t in (20.0, 275.0, 290.0)]
    assert counts == [NEGATIVE, POSITIVE + NEGATIVE, POSITIVE]


def test_slide_weights_read_off_the_network_are_the_duty_cycles(clusters):
    """Assert .937, .9465, .975 of negatives on x_+ and .9363 of positives on x_-.

    The duty cycles of small-step gradient descent at times 20, 100, 275, from an inner scale a
    hundred times larger, of which the start shifts the course a little.
    """
    problem, _, found = clusters
    networks = [jax.tree.map(lambda leaf, k=k: leaf[k], found.run.networks) for k in range(3)]
    weights = [activations(problem, network) for network in networks]
    seen = [float(w[POSITIVE, 0]) for w in weights]
    np.testing.assert_allclose(seen, [0.937, 0.9465, 0.975], atol=4e-3)
    np.testing.assert_allclose(weights[2][0, HEAVY], 0.9363, atol=4e-3)
    assert float(weights[0][0, HEAVY]) == 1.0

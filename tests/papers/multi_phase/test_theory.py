"""The four phases of two clusters: closed forms, and claims borne out and refuted by runs.

Times and slopes of the example (p = 4, angle 0.3, 19 and 4 living of 60 neurons) were found
by gradient descent with small steps and by another program; closed forms are compared with
the planar ODE, which is itself compared with SciPy elsewhere.
"""

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import relu_flow as rf
from relu_flow.claims.verdict import Evidence, Outcome
from relu_flow.papers.multi_phase import theory
from relu_flow.papers.multi_phase.theory import late, measured
from relu_flow.reduced.planar import planar

WIDTH = 60  # of the scales; neurons that die are fewer than that, and do nothing
HEAVY = 4
LOG_KAPPA = np.log(1e-5)
EXAMPLE = (4, 0.3, 19 / 60, 4 / 60)
CASES = {
    "negatives reactivate": EXAMPLE,
    "small angle": (4, 0.1, 0.3, 0.06),
    "both slide for ever": (6, 1.2, 0.2, 0.18),
    "positives stay on": (4, 0.3, 0.3, 0.33),
    "from below the plateau": (1.5, 0.7, 0.1, 0.3),
    "late": (30, 1.5, 0.2, 0.01),
}


@pytest.mark.parametrize("name", CASES)
def test_closed_forms_solve_the_planar_model(name):
    """Assert all times and the outputs at many times against the ODE."""
    end = 3e3
    run, course = planar(*CASES[name], t1=end), theory.Course(theory.TwoPoints(*CASES[name]))
    for time, expected in (
        (course.plateau(), run.times.plateau),
        (course.escape, run.times.escape),
        (course.deactivation, run.times.positives_slide),
        (course.reactivation, run.times.negatives_leave),
    ):
        if np.isfinite(expected):
            np.testing.assert_allclose(time, expected, rtol=1e-9)
    assert not np.isfinite(course.escape) or np.isfinite(run.times.escape) or course.escape > end
    times = jnp.concatenate([jnp.geomspace(0.1, end, 25), run.starts[1:]])
    states, ours = jax.vmap(run)(times), jax.vmap(course.at)(times)
    for key in ("plus", "minus", "lean", "turn"):
        np.testing.assert_allclose(
            getattr(ours, key), getattr(states, key), rtol=1e-9, atol=1e-9, err_msg=key
        )


def test_the_table_of_the_example():
    """Assert the numbers found by small-step descent and by another program."""
    points = theory.TwoPoints(*EXAMPLE)
    course = theory.Course(points)
    np.testing.assert_allclose(course.escape, 145.333, atol=1e-3)
    np.testing.assert_allclose(course.deactivation, 266.333, atol=1e-3)
    np.testing.assert_allclose(course.reactivation, 284.722, atol=1e-3)
    np.testing.assert_allclose(points.limit_ratio, 0.8250, atol=5e-5)
    ratios = [float(s.heavy / s.light) for s in map(course.at, (500.0, 1e3, 1e5))]
    np.testing.assert_allclose(ratios, [0.82882, 0.825004, float(points.limit_ratio)], atol=1e-6)
    np.testing.assert_allclose(theory.escape_time_small_angle(points), 144.93, atol=5e-3)
    other = theory.Course(theory.TwoPoints(4, 0.1, 0.3, 0.06))
    np.testing.assert_allclose(other.escape, 1389.34, atol=5e-3)
    np.testing.assert_allclose(other.deactivation, 2531.4, atol=0.05)


def test_small_angle_forms_are_right_to_second_order():
    """Assert that their relative error falls by four as the angle is halved."""
    errors = []
    for angle in (0.2, 0.1, 0.05):
        points = theory.TwoPoints(4, angle, 0.3, 0.06)
        course = theory.Course(points)
        escape = theory.escape_time_small_angle(points) / course.escape - 1
        last = theory.deactivation_time_small_angle(points) / course.deactivation - 1
        errors.append([float(escape), float(last)])
    ratios = np.array(errors[:-1]) / np.array(errors[1:])
    np.testing.assert_allclose(ratios, 4, atol=0.15)


@pytest.mark.parametrize("name", ["negatives reactivate", "both slide for ever", "late"])
def test_limit_ratio_and_margin_are_those_of_the_flow(name):
    """Assert the limit of margin over norm, from growth of both between two late times."""
    heavy, angle, plus, minus = CASES[name]
    points = theory.TwoPoints(heavy, angle, plus, minus)
    course, sine, cosine = theory.Course(points), np.sin(angle), np.cos(angle)

    def margin_and_norm(t):
        s = course.at(t)
        gram = np.linalg.inv([[1, cosine], [cosine, 1]])
        parts = np.array([float(s.turn), -float(s.minus)])
        positive = ((float(s.plus) + float(s.turn)) / sine) ** 2 / plus
        return float(s.plus), np.sqrt(positive + parts @ gram @ parts / minus)

    (early, small), (late, large) = margin_and_norm(1e200), margin_and_norm(1e250)
    np.testing.assert_allclose((late - early) / (large - small), points.limit_margin, rtol=1e-4)
    end = course.at(1e200)
    np.testing.assert_allclose(end.heavy / end.light, points.limit_ratio, rtol=1e-5)


@pytest.mark.parametrize("angle", [1e-4, 1e-3, 0.03, 0.3])
@pytest.mark.parametrize(("plus", "minus"), [(0.3, 0.1), (0.1, 1.0), (0.001, 1.0)])
def test_loss_on_entering_a_plateau_at_small_angles(angle, plus, minus):
    """Assert that the course enters it as near to the limit of small angles as is allowed."""
    for heavy in (1.5, 4.0, 100.0):
        points = theory.TwoPoints(heavy, angle, plus, minus)
        course = theory.Course(points)
        near = course.at(course.plateau(late.NEARNESS))
        level, allowed = late.small_angle(points)
        assert abs(float(near.heavy + near.light) - level) <= allowed


def test_without_a_heavy_class_there_are_no_times():
    """Assert that p cos <= 1 gives `nan`, not numbers of another branch."""
    course = theory.Course(theory.TwoPoints(1.02, 0.3, 0.3, 0.1))
    assert np.isnan([course.escape, course.deactivation, course.at(1.0).plus]).all()


def isotropic(number):
    """Return random unit vectors in space, random signs, and x_+, x_- at angle 0.3."""
    random = np.random.default_rng(0)
    b = random.normal(size=(number, 3))
    b /= np.linalg.norm(b, axis=1)[:, None]
    sign = np.where(random.random(number) < 0.5, 1.0, -1.0)
    return b, sign, np.eye(3)[0], np.array([np.cos(0.3), np.sin(0.3), 0])


def fates(b, sign, plus, minus):
    """Return who lives by the rule."""
    rows = map(jnp.asarray, (sign > 0, b @ plus, b @ minus))
    return np.asarray(theory.survives(HEAVY, 0.3, *rows))


def test_who_lives_against_simulation():
    """Assert fates neuron by neuron, by Euler steps with f = 0."""
    b, sign, plus, minus = isotropic(5000)
    predicted = fates(b, sign, plus, minus)
    for _ in range(3000):
        pull = HEAVY * (b @ plus > 0)[:, None] * plus - (b @ minus > 0)[:, None] * minus
        b = b + 2e-3 * sign[:, None] * pull
    alive = (b @ plus > 0) | (b @ minus > 0)
    assert np.mean(alive != predicted) < 2e-3  # neurons at the border of fates


def test_living_fractions_against_monte_carlo():
    """Assert the expected shares to four standard deviations of a million draws."""
    draws = isotropic(1_000_000)
    alive, sign = fates(*draws), draws[1]
    for share, expected in zip(
        (np.mean(alive & (sign > 0)), np.mean(alive & (sign < 0))),
        theory.living_fractions(HEAVY, 0.3),
        strict=True,
    ):
        deviation = np.sqrt(float(expected * (1 - expected)) / len(sign))
        np.testing.assert_allclose(share, expected, atol=4 * deviation)


def test_who_slides_where():
    """Assert the table of behaviours, by the signs of the speeds on either side."""
    c, behaviours = np.cos(0.3), {}
    for ratio in (0.8, 1.0, 1.3):
        rates = theory.side_rates(c, ratio)
        behaviours[ratio] = [np.sign([float(v) for v in pair]).tolist() for pair in rates.values()]
    cross, dies, slides, repels = [1, 1], [-1, -1], [1, -1], [-1, 1]
    assert behaviours[0.8] == [dies, slides, cross, repels]
    assert behaviours[1.0] == [repels, slides, slides, repels]
    assert behaviours[1.3] == [repels, cross, slides, dies]
    weights = [float(w) for w in theory.slide_weights(c, 1.01)]
    np.testing.assert_allclose(weights, [c / 1.01, c * 1.01], rtol=1e-12)


def build(angle=0.3, positives=19, negatives=4, dead=9, log_kappa=LOG_KAPPA, train="inner"):
    """Return two clusters in space, and neurons of which so many live."""
    random = np.random.default_rng(0)
    x_minus = np.array([np.cos(angle), np.sin(angle), 0])
    inputs = np.stack([np.eye(3)[0]] * HEAVY + [x_minus])
    targets = np.array([1.0] * HEAVY + [-1.0])
    theta = np.arctan2(np.sin(angle), HEAVY - np.cos(angle))
    half, far = dead // 2, angle + np.pi / 2
    angles = np.concatenate(
        [
            random.uniform(-1.5, 1.5, positives),
            random.uniform(0.05 - theta, far - 0.02, negatives),
            random.uniform(1.6, 4.6, half),
            random.uniform(far + 0.02, 2 * np.pi - theta - 0.05, dead - half),
        ]
    )
    signs = np.repeat([1.0, -1.0, 1.0, -1.0], [positives, negatives, half, dead - half])
    height = random.uniform(-0.8, 0.8, len(signs))
    flat = np.sqrt(1 - height**2)
    inner = np.stack([flat * np.cos(angles), flat * np.sin(angles), height], axis=1)
    scale = 0.5 * np.log(WIDTH)
    scales = (log_kappa - scale, -scale) if train == "inner" else (np.log(1e-3),)
    trained: Literal["both", "inner"] = "inner" if train == "inner" else "both"
    problem = rf.Problem(inputs, targets, reduction="mean", train=trained)
    return problem, rf.TwoLayerReLU(inner, signs, *scales)


def solved(end=500.0, **options):
    """Return a problem, a network and its flow; one compiled program for all."""
    problem, network = build(**options)
    return problem, network, rf.solve(problem, network, end, dense=True, max_steps=512)


def outcomes(problem, network, flow):
    """Return the verdicts by the names of their claims."""
    return {v.claim.name: v for v in theory.examine(problem, network, flow)}


@pytest.fixture(scope="module")
def run():
    return solved()


@pytest.fixture(scope="module")
def verdicts(run):
    return outcomes(*run)


BRANCHES = {"Both slide for ever", "Positives stay on"}


def test_constants_are_those_of_data_and_network(run):
    """Assert them against hand calculation."""
    found = theory.constants(*run[:2])
    assert (found.living_positives, found.living_negatives) == (19, 4)
    assert found.certificate.p == HEAVY
    points = found.points
    values = [float(v) for v in (points.angle, points.gamma_plus, points.gamma_minus)]
    np.testing.assert_allclose(values, [0.3, 19 / 60, 4 / 60], rtol=1e-12)
    # Scales are those of 60 neurons, the network has 32.
    np.testing.assert_allclose(found.log_kappa_1, np.log(1e-5 * np.sqrt(32 / 60)), rtol=1e-12)
    np.testing.assert_allclose(found.log_kappa_2, np.log(np.sqrt(32 / 60)), rtol=1e-12)
    np.testing.assert_allclose(found.theta_0, np.arctan(np.sin(0.3) / (4 - np.cos(0.3))))


def test_every_claim_of_the_branch_holds(verdicts):
    """Assert that the run bears out all claims, but those of other branches."""
    for name, verdict in verdicts.items():
        expected = Outcome.HYPOTHESES_NOT_MET if name in BRANCHES else Outcome.HOLDS
        assert verdict.outcome is expected, str(verdict)


def test_the_run_is_the_planar_model(run):
    """Assert outputs along the whole run against the ODE, to what the start leaves."""
    record, model = measured.Measured(Evidence(*run)), planar(*EXAMPLE, 500.0)
    for t in (20.0, 100.0, 260.0, 275.0, 300.0, 450.0):
        here, state = record.at(t), model(t)
        np.testing.assert_allclose([here.plus, here.minus], [state.plus, state.minus], atol=3e-6)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Both slide for ever", {"angle": 1.2, "positives": 14, "negatives": 13, "dead": 5}),
        ("Positives stay on", {"positives": 10, "negatives": 13}),
    ],
)
def test_other_branches(run, name, options):
    """Assert the two branches in which negatives slide for ever, on runs to t = 500.

    And that a run of another branch, or one whose log tells of another exit, refutes them.
    """
    problem, network, flow = solved(**options)
    found = outcomes(problem, network, flow)
    assert found[name].outcome is Outcome.HOLDS, str(found[name])
    assert found["Phase IV, reactivation"].outcome is Outcome.HYPOTHESES_NOT_MET
    assert outcomes(problem, network, run[2])[name].outcome is Outcome.VIOLATED
    last = int(flow.switches.num) - 1
    where = lambda f: (f.switches.neuron, f.switches.kind, f.switches.sample, f.switches.time)
    changed = (20, rf.SwitchKind.SLIDE_EXIT_ACTIVE, 0, 400.0)
    old = where(flow)
    new = [a.at[last].set(jnp.asarray(v, a.dtype)) for a, v in zip(old, changed, strict=True)]
    doctored = eqx.tree_at(where, flow, new)
    assert outcomes(problem, network, doctored)[name].outcome is Outcome.VIOLATED


def test_a_run_of_other_data_refutes_the_claims(run):
    """Assert that a flow at a slightly larger angle violates what depends on the angle."""
    problem, network, _ = run
    found = outcomes(problem, network, solved(angle=0.31)[2])
    for name in (
        "Phase II, plateau",
        "Phase II, escape",
        "Phase III, deactivation",
        "Phase III, slopes",
        "Phase IV, reactivation",
        "Phase IV, limit",
        "Slide weights, negatives",
        "Slide weights, positives",
    ):
        assert found[name].outcome is Outcome.VIOLATED, str(found[name])


def test_a_run_from_another_start_refutes_the_claims(run):
    """Assert that a larger start, or other neurons, violate what is said of phase I."""
    problem, network, _ = run
    large = outcomes(problem, network, solved(log_kappa=np.log(1e-2))[2])
    for name in ("Phase I, condensation", "Phase I, slides", "Phase IV, limit"):
        assert large[name].outcome is Outcome.VIOLATED, str(large[name])
    other = solved(positives=18, negatives=4, dead=10)[2]
    assert outcomes(problem, network, other)["Phase I, survivors"].outcome is Outcome.VIOLATED


def test_one_neuron_that_leaves_late_is_seen(run):
    """Assert that the exits of a mode are at one instant, or the claim is violated."""
    problem, network, flow = run
    log = flow.switches
    exits = np.flatnonzero(np.asarray(log.kind) == rf.SwitchKind.SLIDE_EXIT_ACTIVE)
    one = exits[np.asarray(log.neuron)[exits] == np.asarray(log.neuron)[exits[0]]]
    late = eqx.tree_at(lambda f: f.switches.time, flow, log.time.at[one].add(1e-3))
    verdict = outcomes(problem, network, late)["Phase IV, reactivation"]
    assert verdict.tightest.name == "spread of exits"
    assert verdict.outcome is Outcome.VIOLATED


def test_a_short_run_reaches_only_early_phases(run):
    """Assert `nan`, not a violation, for what lies beyond the end."""
    problem, network, _ = run
    found = outcomes(problem, network, solved(end=200.0)[2])
    assert found["Phase II, escape"].outcome is Outcome.HOLDS
    for name in ("Phase III, deactivation", "Phase III, slopes", "Phase IV, reactivation"):
        assert found[name].outcome is Outcome.NOT_REACHED, str(found[name])


@pytest.mark.parametrize(
    ("change", "unmet"),
    [
        ({"train": "both"}, "outer layer fixed"),
        ({"reduction": "sum"}, "mean of losses"),
        ({"loss": rf.LogisticLoss()}, "exponential loss"),
        ({"angle": 1.4}, "heavy class"),
        ({"stretch": 1.001}, "unit norms"),
        ({"bend": 0.01}, "copies"),
        ({"outer": 1.1}, "outer weights of one size"),
        ({"log_kappa": np.log(0.3)}, "kappa_1 << kappa_2 (decades beyond 2)"),
        ({"kappa_2": 1.0}, "kappa_2 <= 1"),
        ({"negatives": 0, "dead": 13}, "living neurons of both signs"),
    ],
)
def test_each_hypothesis_is_looked_at(run, change, unmet):
    """Assert that breaking one thing breaks that hypothesis, and so the claims."""
    shape = {k: v for k, v in change.items() if k in ("angle", "log_kappa", "negatives", "dead")}
    problem, network = build(**shape)
    inputs = problem.inputs * change.get("stretch", 1.0)
    inputs = inputs.at[0].set(
        inputs[0] * np.cos(change.get("bend", 0.0)) + np.eye(3)[2] * np.sin(change.get("bend", 0.0))
    )
    options: dict[str, Any] = {"reduction": "mean", "train": "inner"}
    options |= {k: v for k, v in change.items() if k in ("train", "reduction", "loss")}
    problem = rf.Problem(inputs, problem.targets, **options)
    outer = network.outer_weight.at[0].mul(change.get("outer", 1.0))
    network = rf.TwoLayerReLU(
        network.inner_weight,
        outer,
        network.log_scale,
        network.outer_log_scale + change.get("kappa_2", 0.0),
    )
    evidence = Evidence(problem, network, run[2])
    hypotheses = theory.claims()[0].hypotheses(evidence)
    assert unmet in [h.name for h in hypotheses if not h.met]


def test_codes_of_the_log_are_those_of_the_solver():
    """Assert the numbers that theory repeats, since it may not import the flow."""
    kinds = rf.SwitchKind
    assert measured.SLIDE_ENTER == kinds.SLIDE_ENTER
    assert measured.SLIDE_EXIT_ACTIVE == kinds.SLIDE_EXIT_ACTIVE
    assert measured.SLIDE_EXIT_INACTIVE == kinds.SLIDE_EXIT_INACTIVE


def test_bad_problems_are_refused():
    """Assert that a missing class, or no outer weight, raises."""
    problem, network = build()
    one = rf.Problem(problem.inputs, np.ones(HEAVY + 1))
    with pytest.raises(ValueError, match="Argument `problem` must"):
        theory.constants(one, network)
    silent = eqx.tree_at(lambda n: n.outer_weight, network, network.outer_weight.at[0].set(0))
    with pytest.raises(ValueError, match="Argument `network` must"):
        theory.constants(problem, silent)


@pytest.mark.slow
def test_weights_do_not_depend_on_which_layers_are_trained():
    """Assert the same weights, at the same A/B, of a balanced network trained in both."""
    problem, network = build(train="both")
    outer = jnp.sign(network.outer_weight) * jnp.linalg.norm(network.inner_weight, axis=1)
    network = eqx.tree_at(lambda n: n.outer_weight, network, outer)
    flow = rf.solve(problem, network, 40.0, dense=True, max_steps=512)
    found = outcomes(problem, network, flow)
    for name in ("Slide weights, negatives", "Slide weights, positives"):
        assert found[name].outcome is Outcome.HOLDS, str(found[name])
    assert found["Phase II, plateau"].outcome is Outcome.HYPOTHESES_NOT_MET

"""Derivatives of runs, forwards: against closed forms and finite differences; backwards refused.

One program does for all cases: two neurons on three inputs in the plane.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import relu_flow as rf
from relu_flow.observe.observables import loss

ACTIVATE, DEACTIVATE = rf.SwitchKind.ACTIVATE, rf.SwitchKind.DEACTIVATE
ENTER, LEAVE = rf.SwitchKind.SLIDE_ENTER, rf.SwitchKind.SLIDE_EXIT_ACTIVE


def run(theta):
    """Solve and return all that has a derivative, and which switches there were."""
    problem = rf.Problem(theta["inputs"], theta["targets"], rf.SquareLoss())
    network = rf.TwoLayerReLU(theta["inner"], theta["outer"], theta["log_scale"])
    low = rf.Milestone(loss, theta["level"], -1, name="low")
    trajectory = rf.solve(problem, network, theta["t1"], milestones=low, max_switches=8)
    final, log = trajectory.network, trajectory.switches
    return {
        "milestone": trajectory.milestones["low"].time,
        "switches": log.time,
        "inner": jnp.exp(final.log_scale - theta["log_scale"])[:, None] * final.inner_weight,
        "outer": jnp.exp(final.log_scale - theta["log_scale"]) * final.outer_weight,
        "loss": problem.loss_value(final),
    }, {"neuron": log.neuron, "sample": log.sample, "kind": log.kind}


@pytest.fixture(scope="module")
def derivative():
    """Return the run and its derivative in a direction, compiled."""
    return jax.jit(lambda theta, along: jax.jvp(run, (theta,), (along,), has_aux=True))


def start(inputs, targets, inner, outer, log_scale=0.0, level=1e-9, t1=3.0):
    """Return where a run starts, as numbers that may be varied."""
    numbers = {
        "inputs": inputs, "targets": targets, "inner": inner, "outer": outer,
        "log_scale": log_scale, "level": level, "t1": t1,
    }  # fmt: skip
    # Strong types, as those of every other start: else each case is a program of its own.
    return {name: jnp.asarray(number, float) for name, number in numbers.items()}


def draw(seed):
    """Return a random start and a random direction to vary it in."""
    random = np.random.default_rng(seed)
    normal = lambda *shape: random.normal(size=shape)
    theta = start(normal(3, 2), normal(3), normal(2, 2), normal(2), level=0.7)
    return theta, jax.tree.map(lambda leaf: jnp.asarray(normal(*leaf.shape), float), theta)


def by_pair(log, times):
    """Return the times of switches by neuron, sample and kind, whatever their order."""
    names = ("neuron", "sample", "kind")
    labels = zip(*(np.asarray(log[name]).tolist() for name in names), strict=True)
    return {label: float(t) for label, t in zip(labels, times, strict=True) if label[0] >= 0}


def differences(derivative, theta, along, step):
    """Return central differences of fourth order, of numbers and of switch times."""
    found = []
    for k in (-2, -1, 1, 2):
        there = jax.tree.map(lambda a, b, k=k: a + k * step * b, theta, along)
        values, _, log = derivative(there, along)
        found.append({**values, "switches": by_pair(log, values["switches"])})
    slope = lambda a, b, c, d: (a - 8 * b + 8 * c - d) / (12 * step)
    return jax.tree.map(slope, *found)


def check(derivative, theta, along, step=1e-4):
    """Compare with differences, and return the run's switches and values."""
    values, slopes, log = derivative(theta, along)
    expected = differences(derivative, theta, along, step)
    found = {**slopes, "switches": by_pair(log, slopes["switches"])}
    for name, value in expected.pop("switches").items():
        np.testing.assert_allclose(found["switches"][name], value, rtol=1e-6, atol=1e-6)
    for name, value in expected.items():
        if np.all(np.isfinite(np.asarray(values[name]))):
            np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=1e-6, err_msg=name)
    return values, log


@pytest.mark.parametrize(
    ("seed", "kinds"),
    [(15, [ACTIVATE, DEACTIVATE]), (10, [DEACTIVATE, ENTER]), (73, [ENTER, LEAVE])],
)
def test_through_crossings_and_slides(derivative, seed, kinds):
    """Assert times of milestones and switches, and states, against differences."""
    values, log = check(derivative, *draw(seed))
    np.testing.assert_array_equal(log["kind"][: len(kinds)], kinds)
    assert np.all(np.asarray(log["kind"])[len(kinds) :] == -1)
    assert np.isfinite(float(values["milestone"]))


def test_of_a_milestone_in_closed_form(derivative):
    """Assert the time at which one balanced neuron has learnt one input, given three times.

    With u = w^2 = v w the flow is u' = 6 u (y - u), and the loss is 3/2 (y - u)^2.
    """

    def time(y, first, level):
        last = y - jnp.sqrt(2 * level / 3)
        return jnp.log(last * (y - first) / (first * (y - last))) / (6 * y)

    y, w, level = 1.3, 0.2, 0.05
    theta = start([[1, 0]] * 3, [y] * 3, [[w, 0], [0, 0]], [w, 0], level=level)
    still = jax.tree.map(jnp.zeros_like, theta)
    ones, row = jnp.ones(3), jnp.array([1.0, 0.0])
    varied = (
        ({"targets": ones}, (1.0, 0.0, 0.0)),
        ({"inner": jnp.stack([row, 0 * row]), "outer": row}, (0.0, 2 * w, 0.0)),
        ({"level": jnp.asarray(1.0, float)}, (0.0, 0.0, 1.0)),
    )
    for along, direction in varied:
        values, slopes, _ = derivative(theta, {**still, **along})
        exact, slope = jax.jvp(time, (y, w**2, level), direction)
        np.testing.assert_allclose(values["milestone"], exact, rtol=1e-12)
        np.testing.assert_allclose(slopes["milestone"], slope, rtol=1e-11)


def test_of_a_switch_in_closed_form(derivative):
    """Assert when two neurons of vanishing scale reach a hyperplane, and its derivative.

    Driven by y x_1 = (y, 0) alone, w_1 = A cosh(yt) + B sinh(yt), and w_2 stays; x_2 = (1, -c)
    is reached where w_1 = c w_2. The third input is never active.
    """

    def time(y, c, inner, outer):
        (a, height), b = inner, outer
        level = c * height
        return jnp.log((level + jnp.sqrt(level**2 + b**2 - a**2)) / (a + b)) / y

    y, c = 0.9, 0.5
    inner, outer = np.array([[0.2, 1.4], [0.3, 1.1]]), np.array([0.5, 0.4])
    theta = start([[1, 0], [1, -c], [-1, -1]], [y, 0.4, 0.3], inner, outer, -30.0, t1=1.0)
    random = np.random.default_rng(0)
    along = jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape), float), theta)
    # The closed form is that of inputs of this form.
    dc = float(along["inputs"][1, 1])
    along["inputs"] = jnp.zeros((3, 2)).at[1, 1].set(dc)
    values, slopes, log = derivative(theta, along)
    times, slopes = by_pair(log, values["switches"]), by_pair(log, slopes["switches"])
    assert len(times) == 2
    for k in range(2):
        exact, slope = jax.jvp(
            time,
            (y, c, jnp.asarray(inner[k]), outer[k]),
            (along["targets"][0], -dc, along["inner"][k], along["outer"][k]),
        )
        np.testing.assert_allclose(times[k, 1, ACTIVATE], exact, rtol=1e-12)
        np.testing.assert_allclose(slopes[k, 1, ACTIVATE], slope, rtol=1e-10)


def test_at_a_tie(derivative):
    """Assert that switches of two neurons at one time have each its own derivative.

    Inputs and neurons mirror each other, so that both switch at once; the direction does not.
    """
    mirror = np.array([1.0, -1.0])
    one, neuron = np.array([0.6, 0.8]), np.array([0.5, -0.6])
    inputs, inner = [[1, 0], one, mirror * one], [neuron, mirror * neuron]
    theta = start(inputs, [2.5, 1.0, 1.0], inner, [0.8, 0.8], level=0.3)
    # Second derivatives jump there, which differences see in proportion to their step.
    values, log = check(derivative, theta, draw(1)[1], step=1e-5)
    times = np.asarray(values["switches"])
    np.testing.assert_allclose(times[0], times[1], rtol=1e-14)
    assert sorted(np.asarray(log["neuron"])[:2]) == [0, 1]


def test_backwards_is_refused_with_what_to_do():
    """Assert that reverse mode ends in a sentence, through either kind of run."""
    theta, _ = draw(10)
    problem = rf.Problem(theta["inputs"], theta["targets"], rf.SquareLoss())

    def time(inner):
        return run({**theta, "inner": inner})[0]["milestone"]

    def descended(inner):
        network = rf.TwoLayerReLU(inner, theta["outer"])
        return rf.descent(problem, network, 5, 0.1).network.log_norm()

    with pytest.raises(RuntimeError, match=r"`solve` cannot .*jax\.jacfwd"):
        jax.eval_shape(jax.grad(time), theta["inner"])
    with pytest.raises(RuntimeError, match=r"`descent` cannot .*jax\.jacfwd"):
        jax.eval_shape(jax.jacrev(descended), theta["inner"])

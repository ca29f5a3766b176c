"""The flow of vanishing scale in closed form, against the engine, SciPy and explicit Euler."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import relu_flow as rf
from relu_flow.reduced.limit import limit_flow

from .. import problems

END = 4.0


def table(switches):
    """Return the switches as {(neuron, sample): [(time, kind), ...]}."""
    found = {}
    for k in range(int(switches.num)):
        pair = int(switches.neuron[k]), int(switches.sample[k])
        found.setdefault(pair, []).append((float(switches.time[k]), int(switches.kind[k])))
    return found


def worst_time_gap(one, other):
    """Return the largest difference of switch times; differing switches raise."""
    one, other = table(one), table(other)
    kinds = lambda of: {pair: [kind for _, kind in path] for pair, path in of.items()}
    assert kinds(one) == kinds(other)
    return max(
        abs(a - b)
        for pair, path in one.items()
        for (a, _), (b, _) in zip(path, other[pair], strict=True)
    )


def assert_states_agree(one, other, tolerance):
    """Assert equal directions, log norms, and outer weights in units of the larger layer."""
    np.testing.assert_allclose(one.directions(), other.directions(), atol=tolerance)
    np.testing.assert_allclose(one.log_norm(), other.log_norm(), atol=10 * tolerance)
    shift = np.exp(one.outer_log_scale - other.outer_log_scale)
    np.testing.assert_allclose(
        one.outer_weight * shift, other.outer_weight, rtol=10 * tolerance, atol=10 * tolerance
    )


@pytest.fixture(scope="module")
def mixed():
    """Return the inputs, targets and network of many slides."""
    return problems.mixed(log_scale=-40.0, width=30)


@pytest.mark.slow  # the engine compiles for a shape of its own; the mixed data below stay
def test_agrees_with_the_engine_on_separable_data():
    """Assert all 594 switches and the states at scale e^-40, and that it knows its end."""
    inputs, targets, network = problems.separable(log_scale=-40.0)
    problem = rf.Problem(inputs, targets)
    limit, flow = limit_flow(problem, network, 1.0), rf.solve(problem, network, 1.0)
    assert int(limit.switches.num) == int(flow.switches.num) > 500
    assert worst_time_gap(limit.switches, flow.switches) < 1e-13
    assert_states_agree(limit.network, flow.network, 1e-13)
    last = float(flow.switches.time[int(flow.switches.num) - 1])
    np.testing.assert_allclose(float(limit.settled), last, rtol=1e-12)
    # From then on each neuron turns to its drive: 1 - cos falls like exp(-2 |G| t).
    cosine = np.sum(limit.directions_at(40.0) * limit.limit_directions, axis=1)
    np.testing.assert_allclose(cosine, 1.0, atol=1e-12)


def test_agrees_with_the_engine_on_mixed_data(mixed):
    """Assert crossings, slides, exits and deaths for random data with random labels."""
    inputs, targets, network = mixed
    problem = rf.Problem(inputs, targets)
    limit, flow = limit_flow(problem, network, END), rf.solve(problem, network, END)
    assert {int(k) for k in limit.switches.kind[: int(limit.switches.num)]} == set(rf.SwitchKind)
    assert int(limit.stats["slides"]) > 20
    np.testing.assert_array_equal(limit.initial_sides, flow.initial_sides)
    assert worst_time_gap(limit.switches, flow.switches) < 1e-12
    assert_states_agree(limit.network, flow.network, 1e-13)


def test_error_is_proportional_to_the_square_of_the_scale(mixed):
    """Assert order two in the scale for switch times of the flow, slides included."""
    inputs, targets, network = mixed
    problem = rf.Problem(inputs, targets)
    limit = limit_flow(problem, network, END).switches
    early = lambda log: {
        pair: times for pair, path in table(log).items() if (times := [t for t, _ in path])[-1] < 1
    }
    expected = early(limit)
    assert len(expected) > 40
    scales, errors = np.array([-6.0, -7.0, -8.0]), []
    for scale in scales:
        start = rf.TwoLayerReLU(network.inner_weight, network.outer_weight, scale)
        found = table(rf.solve(problem, start, END).switches)
        gaps = [
            abs(found[pair][k][0] - t)
            for pair, path in expected.items()
            for k, t in enumerate(path)
        ]
        errors.append(max(gaps))
    np.testing.assert_allclose(np.diff(np.log(errors)) / np.diff(scales), 2.0, atol=0.05)


def euler(inputs, pulls, inner, outer, train_outer, end, step):
    """Step explicit Euler with the ReLU's derivative zero at zero; slides chatter."""
    for _ in range(round(end / step)):
        drive = ((inner @ inputs.T > 0) * pulls) @ inputs
        inner, outer = (
            inner + step * outer[:, None] * drive,
            outer + step * train_outer * np.sum(inner * drive, axis=1),
        )
    return inner, outer


def parallel_inputs(inputs):
    """Return the inputs with some opposite, some parallel, some shorter than others."""
    first = inputs[:4]
    return np.concatenate([first, -2 * first[:1], 3 * first[1:2], -first[2:3], 0.5 * first[2:3]])


@pytest.mark.parametrize(
    ("train", "balancedness", "kind"),
    [
        ("both", -0.05, "plain"),
        ("both", 0.3, "plain"),
        ("inner", 0.3, "plain"),
        ("both", 0.0, "parallel"),
        ("both", 0.0, "square"),
    ],
)
def test_agrees_with_explicit_euler(mixed, train, balancedness, kind):
    """Assert states to the order of Euler's step, the oracle knowing nothing of switches.

    Unbalanced networks, both ways to train, inputs that share hyperplanes, and the mean
    square loss with targets of any size (pulls y_i / n).
    """
    inputs, targets, _ = mixed
    loss, reduction, pulls = rf.ExponentialLoss(), "sum", targets
    if kind == "parallel":
        inputs = parallel_inputs(inputs)
    if kind == "square":
        targets = 4 * np.random.default_rng(0).normal(size=8)
        loss, reduction, pulls = rf.SquareLoss(), "mean", targets / 8
    network = rf.unbalanced_init(jax.random.key(1), 30, 4, balancedness, -40.0)
    problem = rf.Problem(inputs, targets, loss, reduction, train)
    limit = limit_flow(problem, network, 1.0)
    assert int(limit.stats["slides"]) > 5
    final = limit.network
    inner = np.exp(final.log_scale + 40.0)[:, None] * final.inner_weight
    outer = np.exp(final.outer_log_scale + 40.0) * final.outer_weight
    start = np.asarray(network.inner_weight), np.asarray(network.outer_weight)
    gaps = []
    for step in (2e-4, 5e-5):
        found = euler(inputs, pulls, *start, train == "both", 1.0, step)
        gap = max(np.max(np.abs(found[0] - inner)), np.max(np.abs(found[1] - outer)))
        gaps.append(gap / np.max(np.abs(inner)))
    assert gaps[1] < 1e-3
    assert gaps[1] < 0.5 * gaps[0]


@pytest.mark.parametrize("balancedness", [-0.05, 0.3])
def test_agrees_with_the_engine_on_unbalanced_networks(mixed, balancedness):
    """Assert slides handed from one hyperplane to another within a long step."""
    inputs, targets, _ = mixed
    network = rf.unbalanced_init(jax.random.key(1), 30, 4, balancedness, -40.0)
    problem = rf.Problem(inputs, targets)
    limit, flow = limit_flow(problem, network, END), rf.solve(problem, network, END)
    assert worst_time_gap(limit.switches, flow.switches) < 1e-12
    assert_states_agree(limit.network, flow.network, 1e-13)


def test_single_neurons_agree_with_scipy_events():
    """Assert switch times of separable data with SciPy's solver and its event search.

    Neurons one by one; restarted at each event with the new pattern.
    """
    inputs, targets, network = problems.separable(log_scale=-40.0)
    problem = rf.Problem(inputs, targets)
    limit = table(limit_flow(problem, network, 1.0).switches)
    counted = 0
    for j in range(4):
        expected = sorted((path[0][0], i) for (k, i), path in limit.items() if k == j)
        weights = np.append(network.inner_weight[j], network.outer_weight[j])
        active, time = inputs @ weights[:-1] > 0, 0.0
        for at, sample in expected:
            drive = (active * targets) @ inputs

            def field(t, state, drive=drive):
                return np.append(state[-1] * drive, state[:-1] @ drive)

            cross = lambda t, state, x=inputs[sample]: state[:-1] @ x
            cross.terminal = True  # pyright: ignore[reportFunctionMemberAccess]
            run = solve_ivp(
                field, (time, 1.0), weights, "DOP853", events=cross, rtol=1e-12, atol=1e-14
            )
            np.testing.assert_allclose(run.t[-1], at, rtol=1e-9)
            time, weights = run.t[-1], run.y[:, -1]
            active[sample] = ~active[sample]
        counted += len(expected)
    assert counted > 20


def test_balancedness_is_conserved_and_scales_are_kept(mixed):
    """Assert v^2 - |w|^2 neuron by neuron, at times far apart and an absurd scale."""
    inputs, targets, _ = mixed
    network = rf.unbalanced_init(jax.random.key(1), 30, 4, 0.3, -1e4)
    problem = rf.Problem(inputs, targets)
    limit = limit_flow(problem, network, 400.0, ts=[0.5, 3.0, 400.0])
    for k in range(3):
        at = jax.tree.map(lambda leaf, k=k: leaf[k], limit.networks)
        grown = np.exp(-2 * (at.log_scale + 1e4))
        size = at.outer_weight**2 + np.sum(at.inner_weight**2, axis=1)
        kept = at.outer_weight**2 - np.sum(at.inner_weight**2, axis=1)
        np.testing.assert_allclose(kept / size, 0.3 * grown / size, atol=2e-13)
    # |G| <= 8 and the largest drives are above 1: e^400 to e^3200 of growth.
    assert 100 < float(jnp.max(limit.network.log_norm())) + 1e4 < 3200


def test_states_at_times_agree_however_asked_for(mixed):
    """Assert that `ts`, `network_at` and separate runs give the same states."""
    inputs, targets, network = mixed
    problem = rf.Problem(inputs, targets)
    times = [0.3, 1.1, 1.1, 2.5]
    limit = limit_flow(problem, network, END, ts=times)
    for k, t in enumerate(times):
        own = limit_flow(problem, network, t).network
        saved = jax.tree.map(lambda leaf, k=k: leaf[k], limit.networks)
        for found in (saved, limit.network_at(t)):
            assert_states_agree(found, own, 1e-14)
    early = limit.directions_at(0.0)
    np.testing.assert_allclose(early, network.directions(), atol=1e-15)


def test_neuron_that_vanishes_rests_and_is_counted():
    """Assert the hand-made case of a neuron that slides until its inner weights are zero."""
    problem = rf.Problem(np.array([[1.0, 0.0], [-0.5, 1.0]]), np.array([1.0, 1.0]))
    network = rf.TwoLayerReLU(np.array([[0.1, 0.3]]), np.array([-2.0]), -40.0)
    limit = limit_flow(problem, network)
    assert int(limit.stats["vanished"]) == 1
    final = limit.network_at(1e6)
    np.testing.assert_array_equal(final.inner_weight, 0.0)
    outer = float(np.exp(final.log_scale[0] + 40) * final.outer_weight[0])
    np.testing.assert_allclose(outer, -np.sqrt(4.0 - 0.1), rtol=1e-13)
    names = [rf.SwitchKind(int(k)).name for k in limit.switches.kind[: int(limit.switches.num)]]
    assert sorted(names) == ["DEACTIVATE", "SLIDE_ENTER", "SLIDE_EXIT_INACTIVE"]


def test_neuron_on_a_hyperplane_at_the_start():
    """Assert that it rests on a repelling one, is counted, and leaves one that it may.

    x = (1, 0), w = (0, 1), v = 1: repelling for y = 1, at rest for y = -1. With a second
    input (1, 1) of label +1 it is pushed to the active side of the first at once.
    """
    network = rf.TwoLayerReLU(np.array([[0.0, 1.0]]), np.array([1.0]))
    for target, repels in ((1.0, 1), (-1.0, 0)):
        limit = limit_flow(rf.Problem(np.array([[1.0, 0.0]]), np.array([target])), network)
        assert int(limit.stats["repels"]) == repels
        assert int(limit.switches.num) == 0
        assert float(limit.settled) == 0.0
    problem = rf.Problem(np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([1.0, 1.0]))
    limit = limit_flow(problem, network)
    assert table(limit.switches) == {(0, 0): [(0.0, int(rf.SwitchKind.ACTIVATE))]}
    np.testing.assert_allclose(limit.limit_directions, [np.array([2.0, 1.0]) / np.sqrt(5)])


def turned():
    """Return three orthogonal directions, none of them along an axis."""
    return np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]


def lone(inputs, targets, inner, outer=1.0, train: Literal["both", "inner"] = "both"):
    """Return the switches of one neuron for ever, its outer weight given."""
    problem = rf.Problem(inputs, targets, loss=rf.SquareLoss(), train=train)
    limit = limit_flow(problem, rf.TwoLayerReLU(np.array([inner]), np.array([outer])))
    return table(limit.switches)


@pytest.mark.parametrize("signs", [(1, -1, -1), (-1, 1, -1), (1, 1, -1), (-1, -1, 1)])
def test_orthogonal_inputs_wake_nobody(signs):
    """Assert that no neuron becomes active on an input to which all that drives it is orthogonal.

    Products of these inputs are rounding, which a neuron that grows for ever would amplify.
    """
    axes = turned()
    assert np.any(axes @ axes.T - np.diag(np.diag(axes @ axes.T)) != 0)
    for size in (1.0, 1e-3):
        inner = np.array(signs) * np.array([0.7, 0.4, size * 0.2]) @ axes
        assert not lone(axes, [1.0, 1.0, 1.0], inner)


def test_a_sign_stays_beside_a_neuron_grown_by_1e17():
    """Assert the one switch there is, late, in closed form, and that no other is made by it.

    Along the first input the neuron grows as e^t; the second, active, falls by 1e-17 of that;
    the third is inactive at a thousandth, far below the rounding of the weights by then.
    """
    axes, weak = turned(), 1e-17
    found = lone(axes, [1.0, -weak, 1.0], np.array([0.6, 0.5, -1e-3]) @ axes, 0.8)
    assert list(found) == [(0, 1)]
    ((time, kind),) = found[0, 1]
    assert kind == int(rf.SwitchKind.DEACTIVATE)
    # 0.5 = weak (0.6 + 0.8) (e^t - 1) / 2, and what decays is 1e-17 of that.
    np.testing.assert_allclose(time, np.log(1.0 + 1.0 / (1.4 * weak)), rtol=1e-15)


@pytest.mark.parametrize("train", ["both", "inner"])
@pytest.mark.parametrize("toward", [1, -1])
@pytest.mark.parametrize("weak", [1e-14, 1e-17, 1e-200])
def test_a_pull_far_below_another_decides(weak, toward, train):
    """Assert that a neuron slides if the weak pull takes it back, and dies if it does not.

    On its way to the first hyperplane it is driven by the pull of that sample, of size one;
    beyond it by the other alone, whose sign is certain. The slide's weight is as small, and lasts.
    """
    inputs = np.array([[1.0, 0.0, 0.0], [0.5 * toward, 1.0, 0.0], [0.0, 0.0, 1.0]])
    found = lone(inputs, [-1.0, weak, 0.0], [0.5, 1.0, -1.0], 1.0, train)
    early = {pair: path for pair, path in found.items() if path[0][0] < 1}
    ((time, kind),) = early[0, 0]
    slides = toward > 0
    assert kind == int(rf.SwitchKind.SLIDE_ENTER if slides else rf.SwitchKind.DEACTIVATE)
    np.testing.assert_allclose(
        time, np.arctanh(0.5) if train == "both" else 0.5, rtol=1e-15 + 30 * weak
    )
    assert list(early) == list(found) == [(0, 0)]


def test_thousands_of_neurons_in_one_call():
    """Assert that 5000 neurons are done together, and as if each were alone."""
    inputs, targets, _ = problems.mixed()
    network = rf.balanced_init(jax.random.key(0), 5000, 4, -40.0)
    problem = rf.Problem(inputs, targets)
    limit = limit_flow(problem, network, END)
    assert int(limit.switches.num) > 10_000
    assert np.all(np.diff(np.asarray(limit.switches.time[: int(limit.switches.num)])) >= 0)
    some = rf.TwoLayerReLU(network.inner_weight[:30], network.outer_weight[:30], -40.0)
    few = limit_flow(problem, some, END)
    assert_states_agree(
        rf.TwoLayerReLU(*(leaf[:30] for leaf in jax.tree.leaves(limit.network))),
        few.network,
        1e-13,
    )
    chosen = {pair: path for pair, path in table(limit.switches).items() if pair[0] < 30}
    expected = table(few.switches)
    assert chosen.keys() == expected.keys()
    for pair, path in chosen.items():
        np.testing.assert_allclose(path, expected[pair], rtol=1e-13)


def test_buffers_that_are_too_small_are_told(mixed):
    """Assert the result codes, and that `throw` turns them into an error."""
    inputs, targets, network = mixed
    problem = rf.Problem(inputs, targets)
    limit = limit_flow(problem, network, END, max_switches=10, throw=False)
    assert limit.result == rf.RESULTS.max_switches_reached
    limit = limit_flow(problem, network, END, max_slides=0, throw=False)
    assert limit.result == rf.RESULTS.max_slides_reached
    with pytest.raises(RuntimeError, match="max_slides"):
        limit_flow(problem, network, END, max_slides=0)
    with pytest.raises(ValueError, match="Argument `ts`"):
        limit_flow(problem, network, END, ts=[2 * END])


@pytest.mark.slow
def test_works_under_vmap(mixed):
    """Assert that a batch of networks gives each its own trajectory."""
    inputs, targets, network = mixed
    problem = rf.Problem(inputs, targets)
    signs = jnp.array([1.0, -1.0])
    run = lambda sign: limit_flow(
        problem, rf.TwoLayerReLU(network.inner_weight, sign * network.outer_weight, -40.0), END
    )
    both = jax.jit(jax.vmap(run))(signs)
    times = jnp.array([0.3, 1.1])
    one = limit_flow(problem, network, END)
    at = jax.jit(jax.vmap(one.network_at))(times)
    for k in range(2):
        found = jax.tree.map(lambda leaf, k=k: leaf[k], at)
        assert_states_agree(found, one.network_at(times[k]), 1e-13)
        own = run(signs[k])
        assert int(both.switches.num[k]) == int(own.switches.num)
        np.testing.assert_allclose(both.settled[k], own.settled, rtol=1e-13)

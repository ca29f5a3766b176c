"""Small problems on which a decision at a hyperplane was once wrong, each for a whole kind.

Times are those of a program in arbitrary precision (40 digits, Filippov solutions at the kinks).
Whatever the steps, the switches must be the same: other tolerances and times to save take others.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

import relu_flow as rf
from relu_flow import SwitchKind

from .. import problems
from ..fuzz import draws, product

ENTER, DIE, WAKE = SwitchKind.SLIDE_ENTER, SwitchKind.DEACTIVATE, SwitchKind.ACTIVATE
LEAVE = SwitchKind.SLIDE_EXIT_INACTIVE
XOR = [[-1, -1, 1], [1, -1, 1], [-1, 1, 1], [1, 1, 1]]


def solve(inputs, targets, inner, outer, end, log_scale=0.0, rtol=1e-12, ts=None, **how):
    """Solve a problem given in lists."""
    data = np.asarray(inputs, float), np.asarray(targets, float)
    problem = rf.Problem(*data, **{"loss": rf.SquareLoss(), **how})
    network = rf.TwoLayerReLU(np.asarray(inner, float), np.asarray(outer, float), log_scale)
    return problem, rf.solve(problem, network, end, rtol=rtol, ts=ts)


def switches(trajectory):
    """Return what switched: (time, neuron, sample, kind)."""
    log = trajectory.switches
    columns = (np.asarray(column) for column in (log.time, log.neuron, log.sample, log.kind))
    return [
        (float(t), *map(int, rest)) for t, *rest in zip(*columns, strict=True) if np.isfinite(t)
    ]


ALONE = {
    "slide": (
        [[0.01, 0.69], [-0.32, 0.74]], [-0.47, 0.28], [[-0.5, 0.12]],
        [(0.382090648087753726, 0, 0, ENTER)],
    ),
    "death": (
        [[0.376997, -0.237774], [-0.673663, -0.153805]], [-0.888526, 0.490284],
        [[-0.05149, -0.827538]], [(0.74710370503364052, 0, 0, DIE)],
    ),
    "zero after a slide": (
        [[-1, -0.9], [0.7, 0.2]], [-0.8, -0.7], [[-0.1, -0.2]],
        [(0.129877297918931, 0, 1, WAKE), (0.191675214310619, 0, 0, ENTER),
         (0.489758887616032, 0, 0, LEAVE), (0.489758887616032, 0, 1, DIE)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("rtol", [1e-8, 1e-10, 1e-12])
@pytest.mark.parametrize("name", ALONE)
def test_one_neuron_with_a_fixed_outer_weight(name, rtol, saved):
    """Assert that slides, deaths and rests at zero are told apart at any tolerance."""
    inputs, targets, inner, right = ALONE[name]
    ts = np.linspace(0.3, 3.0, 10) if saved else None
    _, run = solve(inputs, targets, inner, [1], 3.0, train="inner", rtol=rtol, ts=ts)
    found = switches(run)
    assert [what[1:] for what in found] == [what[1:] for what in right]
    times = [[what[0] for what in some] for some in (found, right)]
    np.testing.assert_allclose(*times, rtol=max(20 * rtol, 3e-15))
    if name.startswith("zero"):
        assert int(run.stats["vanished"]) == 1
        assert float(run.network.log_norm()[0]) == -np.inf


def slide_to_zero(active, target, slid, inner):
    """Return when a neuron that one sample drives meets a hyperplane, and slides into zero.

    Before: p = <w, a> relaxes to the target at |a|^2, and w moves along a. On the line across
    the slid input, w = s u and c = <u, a>, so that target - s c decays at c^2.
    """
    active, slid, inner = map(np.asarray, (active, slid, inner))
    square, start = active @ active, inner @ active
    there = start - (inner @ slid) * square / (active @ slid)
    enter = np.log((start - target) / (there - target)) / square
    unit = np.array([-slid[1], slid[0]]) / np.linalg.norm(slid)
    left, along = unit @ (inner + (there - start) / square * active), unit @ active
    return [enter, enter + np.log(1 - left * along / target) / along**2]


@pytest.mark.parametrize(
    ("inputs", "targets", "inner", "driven"),
    [
        ([[1.2, 1.6], [-1.3, -1.2]], [-1.8, -1], [-1.6, -0.6], 1),
        ([[-1.1, 0.2], [0.8, -1.1]], [-0.5, -1], [-0.6, 0.1], 0),
    ],
)
def test_zero_is_reached_once_and_kept(inputs, targets, inner, driven):
    """Assert that a neuron that slides into zero stays there, its times in closed form."""
    _, run = solve(inputs, targets, [inner], [1], 3.0, train="inner")
    enter, last = slide_to_zero(inputs[driven], targets[driven], inputs[1 - driven], inner)
    times = [what[0] for what in switches(run)]
    np.testing.assert_allclose(times, [enter, last, last], rtol=1e-13)
    assert float(run.network.log_norm()[0]) == -np.inf


@pytest.mark.parametrize("rtol", [1e-9, 1e-12])
def test_a_fitted_dead_sample_beside_targets_of_zero(rtol):
    """Assert that a pull of zero beside others decides as its sum with them says: one slide."""
    inputs, inner = [[-1, -1, 1], [1, -1, 1], [-1, 1, 1]], [[-0.1, -0.2, 0], [0.1, -0.8, 0]]
    _, run = solve(inputs, [0, 1, 0], inner, [1, 1], 6.0, train="inner", rtol=rtol)
    (found,) = switches(run)
    assert found[1:] == (0, 0, ENTER)
    np.testing.assert_allclose(found[0], 0.161234497901955, rtol=max(20 * rtol, 3e-15))


@pytest.mark.parametrize(
    ("inner", "train", "slides"),
    [
        ([[-0.6, 0.6, 0], [0.3, 0.3, 0]], "both", 0),
        ([[0.3, -0.9, 0], [-0.3, -0.3, 0]], "both", 1),
        ([[0, 0.1, 0], [-0.6, 0.1, 0]], "inner", 1),
    ],
)
def test_xor_comes_to_rest_where_no_loss_is_zero(inner, train, slides):
    """Assert that stationary points of XOR are recognised, and what switches on the way there.

    The weight of the slide goes to zero as `e^-ct`: rounding must not end it.
    """
    problem, run = solve(XOR, [0, 1, 1, 0], inner, [1, 1], 400.0, reduction="mean", train=train)
    assert float(run.stats["settled"]) < 70.0
    if train == "both":
        np.testing.assert_allclose(float(problem.loss_value(run.network)), 0.125, rtol=1e-12)
    assert [what[3] for what in switches(run)] == [ENTER] * slides


@pytest.mark.parametrize(
    ("inputs", "targets", "inner"),
    [
        ([[1, 1], [-1, 1]], [0, 0], [[-0.6, 0.1]]),
        ([[0, 1], [-1, 1], [1, 1]], [0, 1, 0], [[1, -0.1], [-0.3, 0.1]]),
    ],
)
def test_outputs_of_rounding_drive_nothing(inputs, targets, inner):
    """Assert that fits to the last digit settle, with few steps, and that none of it switches."""
    problem, run = solve(inputs, targets, inner, np.ones(len(inner)), 4000.0)
    assert float(run.stats["settled"]) < 50.0
    assert int(run.stats["steps"]) < 100
    assert not switches(run)
    assert float(problem.loss_value(run.network)) < 1e-24


def test_a_hyperplane_approached_for_ever_is_not_met():
    """Assert that neuron 0 stays on its side of w = 0 on its axis, as near to it as rounding.

    The pulls of three samples on that axis cancel there, -1 - 2 + 3 = 0, so that w = 0 is a
    stationary point of a smooth equation, not reached by any other start. Neuron 1 goes on.
    """
    inputs, targets, near = [[1, 0], [2, 0], [3, 0], [0, 1]], [-1, -1, 1, 1], []
    for start in np.linspace(0.01, 2.0, 60)[:28]:  # smaller than the outer weight, which stays
        inner = [[start, -0.3], [-0.1, 0.4]]
        _, run = solve(inputs, targets, inner, [1, 1], 20.0, loss=rf.ExponentialLoss())
        assert not switches(run), start
        near.append(abs(float(run.network.inner_weight[0, 0])))
    assert max(near) < 1e-14


@pytest.mark.parametrize("loss", [rf.ExponentialLoss(), rf.LogisticLoss()])
def test_squares_of_pulls_may_underflow(loss):
    """Assert that one sample is followed to t = 1e160, where loss and pull are 1e-163.

    The neuron ends along x, so that its output u = |x| |w|^2 grows at 2 |x| u times the pull
    e^-u, which makes the loss 1/(2 |x| u t) up to a share of 1/u.
    """
    problem, run = solve([[1, 0.5]], [1], [[1, 0]], [1], 1e160, loss=loss)
    value = float(problem.loss_value(run.network))
    right = 1 / (2 * np.sqrt(1.25) * -np.log(value) * 1e160)
    np.testing.assert_allclose(value, right, rtol=0.01)
    assert np.isinf(float(run.stats["settled"]))


@pytest.mark.parametrize("end", [600.0, 800.0])
def test_a_weight_that_decays_for_ever_is_a_number(end):
    """Assert that w' = -w with a fixed outer weight is e^-t or at rest, never not a number."""
    _, run = solve([[1]], [0], [[1]], [1], end, train="inner")
    size = float(run.network.log_norm()[0])
    settled = float(run.stats["settled"])
    np.testing.assert_allclose(size, -min(end, settled), rtol=1e-12)
    assert settled > 700.0


def test_weights_that_decay_at_different_rates_are_numbers():
    """Assert that one at the end of the numbers does not spoil another that is on its way there.

    All targets are zero and outer weights fixed: both neurons come to zero or rest inactive. Steps
    grew with the second until the first one's rate was infinite, times a drive of zero.
    """
    corners = [[1, 1, 1], [-1, 1, -1], [1, -1, 1], [-1, 1, 1], [1, -1, -1], [-1, -1, 1]]
    inner = [[0.002734375, 0.0046875, -0.000390625], [-0.001171875, -0.00234375, -0.0015625]]
    problem, run = solve(corners, [0] * 6, inner, [1, 1], 1e6, train="inner", reduction="mean")
    assert float(run.stats["time"]) == 1e6
    assert np.all(np.isfinite(run.network.inner_weight))
    assert float(problem.loss_value(run.network)) < 1e-300


def test_a_sign_that_nothing_moves_stays():
    """Assert that neurons may grow by 1e30 beside constant preactivations without a switch.

    Inputs are orthogonal, so that each preactivation moves with its own sample alone, and only
    active ones of negative pull fall. While the network is tiny the pulls are the targets.
    """
    inner = [[0.5, 0.25, -0.125], [-0.25, 0.5, 0.5]]
    targets = [1, -1, 1]
    _, run = solve(np.eye(3), targets, inner, [1, -1], 90.0, log_scale=-69.0)
    found = switches(run)
    assert [what[1:] for what in found] == [(0, 1, DIE), (1, 2, DIE)]
    for time, neuron, sample, _ in found:
        np.testing.assert_allclose(time, linear_hit(inner, targets, neuron, sample), rtol=1e-10)


def linear_hit(inner, targets, neuron, sample):
    """Return when a neuron in constant pulls meets a hyperplane, from its linear equation."""
    drive = np.where(np.asarray(inner[neuron]) > 0, targets, 0.0)
    matrix = np.zeros((4, 4))
    matrix[:3, 3] = matrix[3, :3] = drive
    start = np.append(inner[neuron], [1.0, -1.0][neuron])
    height = lambda t: (scipy.linalg.expm(t * matrix) @ start)[sample]
    found = scipy.optimize.brentq(height, 0.0, 1.0, xtol=1e-15)
    assert isinstance(found, float)
    return found


def drawn(*case):
    """Solve a random problem of `fuzz/draws.py`."""
    numbers = draws.draw(*case)
    problem, network = product.build(numbers)
    return rf.solve(problem, network, numbers["t_end"])


def test_hyperplanes_met_together_are_those_that_depend_on_each_other():
    """Assert that neuron 0, at 1e-14 from hyperplane 0, meets hyperplane 2 alone.

    Its pulls are as small, so that nothing but the hyperplanes' independence tells them apart.
    """
    run = drawn("ratio", 4, "square", "both", "mean")
    mine = [what for what in switches(run) if what[1] == 0 and 7 < what[0] < 12]
    exact = [
        (7.0710219479443869, 0, 0, LEAVE),
        (9.4846703138337886, 0, 2, ENTER),
        (10.178898610240751, 0, 0, ENTER),
    ]
    assert [what[1:] for what in mine] == [what[1:] for what in exact]
    times = [what[0] for what in mine]
    np.testing.assert_allclose(times, [what[0] for what in exact], rtol=5e-13)


def test_a_kink_that_is_told_does_not_move_smaller_preactivations_before():
    """Assert that a step whose switch moves a pull of 1e-119 is not cut to nothing.

    Times are those of the solver in `fuzz/`: the arbitrary-precision program does not get there.
    """
    run = drawn("tiny", 12, "square", "both", "mean")
    assert int(run.stats["steps"]) < 1000
    found = {what[1:3]: what[0] for what in switches(run)}
    exact = {(1, 2): 738.0894901738073, (1, 1): 751.2398777956276, (3, 3): 1381.7268373736852}
    for pair, time in exact.items():
        np.testing.assert_allclose(found[pair], time, rtol=1e-9)


def broken_line(inputs, targets, inner, outer, end):
    """Walk dw/dt = v times the drive at pulls of `targets`, up to a first slide; list switches."""
    t, walked = 0.0, []
    active = inputs @ inner > 0
    passed = np.zeros(len(inputs), bool)
    while True:
        drive = outer * (active * targets) @ inputs
        height, speed = inputs @ inner, inputs @ drive
        wait = np.full(len(inputs), np.inf)
        # The hyperplane just crossed is left behind: the height there is rounding.
        ahead = (height * speed < 0) & ~passed
        wait[ahead] = -height[ahead] / speed[ahead]
        i = int(np.argmin(wait))
        t, inner = t + wait[i], inner + (wait[i] if ahead.any() else 0.0) * drive
        if t > end:
            return walked
        active[i], passed = not active[i], np.arange(len(inputs)) == i
        behind = outer * (active * targets) @ inputs @ inputs[i]
        if behind * speed[i] < 0:
            return [*walked, (i, SwitchKind.SLIDE_ENTER, t)]
        walked.append((i, SwitchKind.ACTIVATE if active[i] else SwitchKind.DEACTIVATE, t))


@pytest.mark.parametrize("ratio", [-40.0, -300.0, -400.0, -630.0])
def test_squares_of_inner_weights_may_underflow(ratio):
    """Start with inner weights so small that outputs, pulls and outer weights stay what they are.

    A neuron then walks a broken line. At e^-400 times the outer weights they were taken for
    neurons at zero, and switched wrongly from the start on.
    """
    inputs, targets, network = problems.mixed()
    small, end = np.exp(ratio), 1e6
    inner, outer = np.asarray(network.inner_weight), np.asarray(network.outer_weight)
    start = rf.TwoLayerReLU(inner * small, outer, network.log_scale)
    log = rf.solve(rf.Problem(inputs, targets), start, 12.0).switches
    switches = 0
    for j in range(network.width):
        expected = broken_line(inputs, targets, inner[j], outer[j], end)
        of_it = np.asarray((log.neuron == j) & (log.time < end * small))
        sample, kind, time = (
            np.asarray(column)[of_it][: len(expected)].tolist()
            for column in (log.sample, log.kind, log.time / small)
        )
        assert list(zip(sample, kind, strict=True)) == [row[:2] for row in expected]
        np.testing.assert_allclose(time, [row[2] for row in expected], rtol=1e-9)
        switches += len(expected)
    assert switches > 20


@pytest.mark.slow  # compiles this file's solves once more for each level: minutes
@pytest.mark.parametrize("level", [0, 1, 2])
def test_decisions_do_not_depend_on_how_sums_are_rounded(level):
    """Run what is approached for ever, and small weights, with another order of operations.

    At levels 0 to 2 of XLA's optimisation one to three of 28 starts ended with a code, and two of
    XOR left a slide on pulls that were rounding; at the default level all did well, by luck.
    """
    chosen = "approached or squares or fixed_outer or rounding_drive or xor_comes"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", __file__, "-k", chosen],
        env={**os.environ, "XLA_FLAGS": f"--xla_backend_optimization_level={level}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout

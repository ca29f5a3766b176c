"""The flow against closed forms: one neuron, and the limit of vanishing scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from scipy.optimize import root_scalar

import relu_flow as rf

from .. import problems


def vanishing_scale_switches(inputs, targets, inner, outer, end):
    """Return (time, neuron, sample) of all crossings while the loss does not notice.

    With constant pulls y_i a neuron with a constant pattern follows, with G = |G| e and
    b = <w, e>, the boost b(t) = b cosh|G|t + v sinh|G|t, and w - b e is constant. So
    <w(t), x> is a quadratic in exp(|G|t), and crossing times are exact.
    """
    found = []
    for j, (w, v) in enumerate(zip(inner, outer, strict=True)):
        time, pattern = 0.0, inputs @ w > 0
        while time < end and pattern.any():
            drive = targets[pattern] @ inputs[pattern]
            speed = np.linalg.norm(drive)
            unit = drive / speed
            b = w @ unit
            rest = (w - b * unit) @ inputs.T
            along = inputs @ unit
            best, hit = np.inf, None
            for i in range(len(inputs)):
                roots = np.roots([along[i] * (b + v) / 2, rest[i], along[i] * (b - v) / 2])
                for z in roots[np.isreal(roots)].real:
                    sign = 1 if pattern[i] else -1
                    slope = along[i] * ((b + v) * z - (b - v) / z) / 2
                    if z >= 1 and sign * slope < 0 and np.log(z) / speed < best:
                        best, hit = np.log(z) / speed, i
            if hit is None or time + best > end:
                break
            c, s = np.cosh(speed * best), np.sinh(speed * best)
            w, v = w + (b * c + v * s - b) * unit, v * c + b * s
            w = w - (w @ inputs[hit]) * inputs[hit] / (inputs[hit] @ inputs[hit])
            time += best
            pattern[hit] = not pattern[hit]
            found.append((time, j, hit))
    return sorted(found)


def test_switch_times_approach_the_limit_as_the_square_of_the_scale():
    """Assert that the error of the closed form is proportional to the scale squared."""
    inputs, targets, network = problems.separable()
    end = 0.4
    exact = vanishing_scale_switches(
        inputs, targets, np.asarray(network.inner_weight), np.asarray(network.outer_weight), end
    )
    assert len(exact) > 300
    problem = rf.Problem(inputs, targets)
    errors = []
    scales = (1e-3, 1e-4, 1e-5)
    for scale in scales:
        start = rf.TwoLayerReLU(network.inner_weight, network.outer_weight, np.log(scale))
        log = rf.solve(problem, start, end * 1.05).switches
        times = {
            (int(j), int(i)): float(t)
            for t, j, i in zip(log.time, log.neuron, log.sample, strict=True)
            if j >= 0
        }
        errors.append(max(abs(times[j, i] - t) for t, j, i in exact))
    slopes = np.diff(np.log(errors)) / np.diff(np.log(scales))
    np.testing.assert_allclose(slopes, 2, atol=0.05)


@pytest.mark.parametrize("log_scale", [np.log(1e-2), -1e4])
def test_one_balanced_neuron_is_logistic(log_scale):
    """Assert u' = 2u(y - u) for one aligned neuron, square loss, at any initial scale."""
    target = 2.0
    problem = rf.Problem(np.array([[1.0]]), np.array([target]), rf.SquareLoss())
    network = rf.TwoLayerReLU(np.array([[1.0]]), np.array([1.0]), log_scale)
    # u = e^{2 rho} at the start, so that u / (y - u) = e^{2 rho + 2 y t} / (y - e^{2 rho}).
    half = (np.log(target - np.exp(2 * log_scale)) - 2 * log_scale) / (2 * target)
    ts = np.array([half - 1.0, half, half + 1.0])
    trajectory = rf.solve(problem, network, half + 1.0, ts=ts)
    found = [
        float(
            np.exp(2 * trajectory.networks.log_scale[k, 0])
            * trajectory.networks.outer_weight[k, 0]
            * trajectory.networks.inner_weight[k, 0, 0]
        )
        for k in range(3)
    ]
    odds = np.exp(2 * target * np.array([-1.0, 0.0, 1.0]))
    # The tolerance holds for every e-fold of growth, of which there are |log_scale|.
    tolerance = 1e-12 * (10 + abs(log_scale))
    np.testing.assert_allclose(found, target * odds / (1 + odds), rtol=tolerance)


def test_neuron_on_the_boundary_with_opposite_label_rests():
    """Assert the first kink example: x = (1, 0), y = -1, w = (0, 1), v = 1 stays.

    Source: Min, Mallada, Vidal (2024), appendix E.3: no solution exists there if the
    derivative of the ReLU at 0 is set to a positive number.
    """
    problem = rf.Problem(np.array([[1.0, 0.0]]), np.array([-1.0]))
    network = rf.TwoLayerReLU(np.array([[0.0, 1.0]]), np.array([1.0]))
    trajectory = rf.solve(problem, network, 5.0)
    np.testing.assert_array_equal(trajectory.network.inner_weight, [[0.0, 0.5]])
    np.testing.assert_allclose(np.exp(trajectory.network.log_scale) * 0.5, 1.0, rtol=1e-15)
    assert int(trajectory.switches.num) == 0
    assert int(trajectory.stats["repels"]) == 0


def test_neuron_on_the_boundary_with_its_label_may_rest_and_is_counted():
    """Assert the second kink example: y = +1; solutions are not unique, ours rests.

    Source: Min, Mallada, Vidal (2024), appendix E.4.
    """
    problem = rf.Problem(np.array([[1.0, 0.0]]), np.array([1.0]))
    network = rf.TwoLayerReLU(np.array([[0.0, 1.0]]), np.array([1.0]))
    trajectory = rf.solve(problem, network, 5.0)
    assert float(trajectory.network.inner_weight[0, 0]) == 0.0
    assert int(trajectory.switches.num) == 0
    assert int(trajectory.stats["repels"]) == 1


@pytest.mark.parametrize(
    ("angle", "early", "late"),
    [
        (0.1, (0.9887, 0.9974), (7.36e-3, 7.77e-3)),
        (np.pi / 2 - 0.001, (0.9964, 0.9994), (8.27e-3, 8.88e-3)),
        (np.pi / 2, (0.9964, 0.9994), (8.27e-3, 8.90e-3)),
    ],
)
def test_planar_toys_reach_the_published_losses(angle, early, late):
    """Assert the losses at the flow times of figures 7 to 9, within the spread of seeds.

    Two points of label +1, mean exponential loss, all weights from N(0, 1e-12), width 50.
    The ranges are those of small-step gradient descent over eight seeds; the published
    values 0.993, 0.997, 0.999 and 7.49e-3, 8.35e-3, 8.58e-3 lie in them. Figure 7: the
    points are at angle pi/2 - 0.1 or 0.1 from the axes; 8 and 9: nearly, exactly orthogonal.

    Source: Min, Mallada, Vidal (2024), figures 7 to 9.
    """
    second = (
        np.array([np.sin(0.1), np.cos(0.1)])
        if angle == 0.1
        else np.array([np.cos(angle), np.sin(angle)])
    )
    problem = rf.Problem(
        np.stack([np.array([1.0, 0.0]), second]), np.array([1.0, 1.0]), reduction="mean"
    )
    key = jax.random.key(0)
    network = rf.gaussian_init(key, 50, 2, np.log(1e-6))
    trajectory = rf.solve(problem, network, 42.0, ts=[14.0, 42.0])
    losses = [
        float(problem.loss_value(jax.tree.map(lambda leaf, k=k: leaf[k], trajectory.networks)))
        for k in range(2)
    ]
    assert early[0] - 1e-4 <= losses[0] <= early[1] + 1e-4
    assert late[0] * 0.995 <= losses[1] <= late[1] * 1.005


@pytest.mark.parametrize("loss", [rf.ExponentialLoss(), rf.LogisticLoss()])
@pytest.mark.parametrize(("size", "end"), [(1.0, 1e300), (1e8, 1e292), (1.0, 1.7e308)])
def test_one_sample_as_long_as_its_pull_is_a_number(loss, size, end):
    """Assert the output u of one neuron on one sample: u' = 2 c u e^-u, for inputs of size c.

    So Ei(u) - Ei(1) = 2 c t, with log u added to it for the logistic loss. A pull below `4e-307`
    counts as zero.
    """
    problem = rf.Problem([[size]], [1.0], loss)
    network = rf.TwoLayerReLU([[size**-0.5]], [size**-0.5])
    trajectory = rf.solve(problem, network, end)
    output = float(trajectory.network(problem.inputs[0]))
    if np.isfinite(trajectory.stats["settled"]):
        assert np.exp(-output) == pytest.approx(16 * np.finfo(float).tiny, rel=0.05)
        return
    more = np.log(output) if isinstance(loss, rf.LogisticLoss) else 0.0
    ways = scipy.special.expi(output) - scipy.special.expi(1.0) + more
    assert np.log(ways) == pytest.approx(np.log(2 * size) + np.log(end), abs=1e-11)
    assert output > 690


def crossing_by_cancelling_pulls(log_scale, inner, outer, drives):
    """Return when the first of two neurons crosses the third hyperplane, in closed form.

    The pulls of the first two samples are alike, and cancel along the third input's normal; so
    its preactivation moves by the integral of v f, f being the second neuron's output on the
    second sample: small beside the pulls, and exactly what that neuron makes of constant ones.
    Products of exponentials are (factor, rate).
    """
    speeds = np.linalg.norm(drives, axis=1)
    unit = drives / speeds[:, None]
    along = np.sum(inner * unit, axis=1)
    grown, shrunk = (outer + along) / 2, (outer - along) / 2
    velocity = [(grown[0], speeds[0]), (shrunk[0], -speeds[0])]
    weight = [(grown[1], speeds[1]), (shrunk[1], -speeds[1])]
    across = (inner[1] - along[1] * unit[1])[1]
    height = [
        (across, 0.0),
        (grown[1] * unit[1, 1], speeds[1]),
        (-shrunk[1] * unit[1, 1], -speeds[1]),
    ]
    terms = [(a * b * c, x + y + z) for a, x in velocity for b, y in weight for c, z in height]
    fastest = max(rate for _, rate in terms)

    def excess(t):
        integral = sum(
            factor / rate * (np.exp((rate - fastest) * t) - np.exp(-fastest * t))
            for factor, rate in terms
        )
        return 2 * log_scale + fastest * t + np.log(integral) - np.log(inner[0, 1] - inner[0, 0])

    return root_scalar(excess, bracket=(1.0, -log_scale), xtol=1e-13).root


@pytest.mark.parametrize(
    ("log_scale", "quiet"),
    [(-80.0, True), (-80.0, False), (-900.0, True)],
)
def test_what_outputs_change_of_pulls_that_cancel(log_scale, quiet):
    """Assert a switch that outputs bring about which are nothing beside the pulls.

    As integer inputs with labels of +1 and -1 have them. Summed with the pulls, outputs below
    1e-16 were lost, and the switch with them. (It comes where outputs are below 1e-12.)
    """
    inputs = np.asarray([[1.0, 0, 0], [0, 1, 0], [1, -1, 0], [0, 0, 3]])
    targets = np.asarray([1.0, 1.0, 0.0, 1.0])
    inner = np.asarray([[0.5, 1.0, -0.5], [-0.5, 1.0, 1.0]])
    outer, drives = np.linalg.norm(inner, axis=1), np.asarray([[1.0, 1.0, 0.0], [0.0, 1.0, 3.0]])
    expected = crossing_by_cancelling_pulls(log_scale, inner, outer, drives)
    problem = rf.Problem(inputs, targets, loss=rf.SquareLoss())
    network = rf.TwoLayerReLU(inner, outer, log_scale)
    run = rf.solve(problem, network, 1.1 * expected, solver=rf.Taylor(quiet=quiet))
    assert int(run.switches.num) == 1
    assert (int(run.switches.neuron[0]), int(run.switches.sample[0])) == (0, 2)
    np.testing.assert_allclose(float(run.switches.time[0]), expected, rtol=3e-11)


@pytest.mark.parametrize("loss", [rf.SquareLoss(), rf.LogisticLoss(), rf.ExponentialLoss()])
def test_changes_of_pulls_are_known_to_their_digits(loss):
    """Assert that a pull's change is its derivative's integral, for changes of all sizes.

    From outputs of zero and from others; and that it has the pull's own derivative, at 0 too.
    """
    nodes, weights = np.polynomial.legendre.leggauss(40)
    for target in (1.0, -1.0):
        for start in (0.0, 0.7, -10.0):
            for change in (1e-300, -1e-40, 1e-9, -0.1, 1.0, -3.0):
                outputs = jnp.asarray(start + 0.5 * change * (1 + nodes))
                slopes = loss.curvature(outputs, jnp.asarray(target))
                expected = -0.5 * change * (weights @ np.asarray(slopes))
                found = loss.pull_change(*map(jnp.asarray, (start, change, target)))
                np.testing.assert_allclose(float(found), expected, rtol=1e-14)
            for change in (0.0, 0.3):
                slope = jax.grad(loss.pull_change, 1)(start, change, target)
                curvature = loss.curvature(jnp.asarray(start + change), target)
                np.testing.assert_allclose(slope, -curvature, rtol=1e-13)

"""What switches do to a step: the constants of bounds of kinks, by quadrature, and their limits."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial import legendre

import relu_flow as rf
from relu_flow.flow.step.influence import Influence
from relu_flow.flow.tolerances import LEFT, PEAK

from .. import problems
from ..fuzz import draws, product

DEGREE = 6


TIMES = np.linspace(0.0, 1.0, 20001)


def projected(start):
    """Return a kink's Legendre coefficients, their polynomial, and what that leaves over time."""
    basis = np.array([legendre.legval(2 * TIMES - 1, row) for row in np.eye(DEGREE + 1)])
    kink = np.maximum(TIMES - start, 0.0)
    moments = (2 * np.arange(DEGREE + 1) + 1) * np.trapezoid(kink * basis, TIMES, axis=1)
    rest = kink - moments @ basis
    area = np.cumsum(0.5 * (rest[1:] + rest[:-1]) * np.diff(TIMES))
    return moments, moments @ basis, rest, area


def test_what_is_left_of_a_kink():
    """Assert that the bounds hold for kinks all over a step, and are not far above them."""
    integrated, at_once = [], []
    for start in np.concatenate([np.linspace(0.002, 0.98, 200), 1 - np.logspace(-2, -3, 10)]):
        moments, _, rest, area = projected(start)
        highest = np.sum(np.abs(moments[-2:]))
        integrated.append(np.max(np.abs(area)) / highest)
        at_once.append(np.max(np.abs(rest)) / np.sqrt(LEFT * highest))
    assert 0.9 * LEFT < max(integrated) < LEFT
    assert 0.9 * PEAK < max(at_once) < PEAK


def test_what_is_left_of_a_kink_does_little_at_once():
    """Assert that the integral of what is left is bounded all the way, and closely at first."""
    for start in np.linspace(0.002, 0.98, 30):
        moments, polynomial, _, area = projected(start)
        left = LEFT * np.sum(np.abs(moments[-2:]))
        slope = np.max(np.abs(np.gradient(polynomial, TIMES)))
        early, rising = (jnp.asarray([size]) for size in (abs(polynomial[0]), slope))
        first, yes = map(jnp.asarray, (start, True))
        influence = Influence(first, yes, jnp.ones(1), jnp.asarray([left]), early, rising)
        bound = np.asarray(influence.area_at(jnp.asarray(TIMES[1:])))[:, 0]
        assert np.all(np.abs(area) <= bound)
        assert bound[0] < 0.1 * bound[-1]


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_early_switches_do_not_cut_a_step_that_is_corrected(seed):
    """Assert five steps for hundreds of switches: what is left of their kinks comes later.

    Told of all kinks at once, the first switches were in doubt: each ended a step. At width 1000
    some two dozen did, and for each all neurons were taken through all their switches three times.
    """
    inputs, targets, network = problems.separable(seed, log_scale=float(np.log(1e-5)))
    solver = rf.Taylor(stiff=False, quiet=False)
    run = rf.solve(rf.Problem(inputs, targets), network, 0.3, solver=solver)
    assert int(run.stats["switches"]) > 500
    assert int(run.stats["steps"]) <= 5


@pytest.mark.parametrize("rtol", [1e-10, 1e-12])
def test_what_a_correction_spreads_to_before_a_kink_is_felt(rtol):
    """Assert the time of a slide that small pulls decide, beside neurons that wake.

    Of what these put out late in a step the correction spreads more to its start than follows
    from how fast they moved there: bounded by that, the slide began 5e-6 late.
    """
    numbers = draws.draw("tiny", 48, "square", "both", "sum")
    problem, network = product.build(numbers)
    run = rf.solve(problem, network, 1.0, rtol=rtol)
    last = int(run.switches.num) - 1
    assert (int(run.switches.neuron[last]), int(run.switches.sample[last])) == (2, 4)
    np.testing.assert_allclose(float(run.switches.time[last]), 0.5412795376314079, rtol=1e-11)


@pytest.mark.slow  # 20 s of compilation and 15 s for what it asks
def test_a_wide_network():
    """Assert as many steps at width 1000, with 51 000 switches, as with a tenth of the neurons."""
    runs = []
    for width in (1000, 100):
        inputs, targets, network = problems.separable(
            samples=100, features=50, width=width, log_scale=float(np.log(1e-6))
        )
        runs.append(rf.solve(rf.Problem(inputs, targets), network, 0.3, max_switches=60_000))
    wide, narrow = (run.stats for run in runs)
    assert int(wide["switches"]) > 50_000
    assert int(wide["steps"]) < 1.5 * int(narrow["steps"])


@pytest.mark.parametrize("rtol", [1e-6, 1e-8, 1e-10, 1e-12])
def test_a_neuron_that_wakes_within_a_step(rtol):
    """Assert that a switch long after is as exact as asked, from 1e-6 to 1e-12.

    Neuron 3 hardly moves until it crosses three hyperplanes at 5.8, and grows ten thousandfold
    within the step: told by its kinks alone, pulls were wrong by so much that at a tolerance of
    1e-10 the switch came at 21.8919. The time is that of the solver in `fuzz/`.
    """
    numbers = draws.draw("opposite", 81, "square", "both", "sum")
    problem, network = product.build(numbers)
    run = rf.solve(problem, network, numbers["t_end"], rtol=rtol)
    time = float(run.switches.time[int(run.switches.num) - 1])
    np.testing.assert_allclose(time, 21.90796249950401, rtol=max(rtol, 1e-13))

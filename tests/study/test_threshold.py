"""Thresholds of known properties, exact and noisy."""

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize

from relu_flow.study.threshold.axis import Axis
from relu_flow.study.threshold.by_seed import find_seed_thresholds
from relu_flow.study.threshold.crossing import gaps
from relu_flow.study.threshold.fraction import find_random_threshold
from relu_flow.study.threshold.search import Finding, find_threshold


class Recorded:
    """A property that remembers the batches it was asked for."""

    def __init__(self, holds):
        self.holds, self.batches = holds, []

    def __call__(self, points):
        self.batches.append(points)
        return self.holds(points)


def counted(fraction, trials, seed=0):
    """Return a property of fresh seeds at every call, of a known fraction."""
    rng = np.random.default_rng(seed)
    return lambda x: (rng.binomial(trials, fraction(x)), np.full(x.shape, trials))


def test_an_angle_above_which_a_property_fails():
    """Assert the ends, and that 8 values a round make the interval 9 times shorter."""
    known = Recorded(lambda angle: angle < np.pi / 5)
    found = find_threshold(known, 0.0, np.pi / 2, tolerance=1e-6)
    assert found.finding is Finding.ONE
    assert found.converged
    assert found.holds_at < np.pi / 5 <= found.fails_at < found.holds_at + 1e-6
    # 7 intervals first, 9 times shorter each round: (pi / 14) / 9**6 is below 1e-6.
    assert len(known.batches) == 7
    assert all(points.size == 8 for points in known.batches)
    assert found.points.size == 56
    assert np.array_equal(found.holds, found.points < np.pi / 5)


def test_a_width_from_which_a_property_holds():
    """Assert that an integer axis ends at neighbours, the smallest width first."""
    known = Recorded(lambda width: width >= 37)
    found = find_threshold(known, 2, 4096, tolerance=1, axis="integer", batch=4)
    assert (found.fails_at, found.holds_at) == (36, 37)
    assert found.converged
    for points in known.batches:
        assert np.array_equal(points, np.round(points))
        assert 1 <= points.size <= 4
    # A range with fewer integers than a batch has values is asked for once, whole.
    known = Recorded(lambda width: width >= 3)
    assert find_threshold(known, 2, 5, tolerance=1, axis="integer").holds_at == 3
    assert [points.tolist() for points in known.batches] == [[2, 3, 4, 5]]


def test_a_scale_on_a_log_axis():
    """Assert a ratio as tolerance, and a first batch evenly spaced in the logarithm."""
    known = Recorded(lambda scale: scale < 3e-5)
    found = find_threshold(known, 1e-9, 1.0, tolerance=1e-2, axis="log", batch=10)
    assert found.holds_at < 3e-5 <= found.fails_at < 1.01 * found.holds_at
    assert known.batches[0] == pytest.approx(np.logspace(-9, 0, 10))
    assert (known.batches[0][0], known.batches[0][-1]) == (1e-9, 1.0)


@pytest.mark.parametrize("everywhere", [True, False])
def test_properties_without_a_threshold(everywhere):
    """Assert that one batch ends it, and that it says which."""
    known = Recorded(lambda x: np.full(x.shape, everywhere))
    found = find_threshold(known, 0.0, 1.0, tolerance=1e-3)
    assert found.finding is (Finding.EVERYWHERE if everywhere else Finding.NOWHERE)
    assert found.changes == ()
    assert np.isnan(found.holds_at)
    assert len(known.batches) == 1
    assert ("everywhere" if everywhere else "nowhere") in str(found)


def test_both_crossings_of_a_property_that_is_not_monotone():
    """Assert that all changes are found to the tolerance, and no single one is offered."""
    found = find_threshold(lambda x: (x > 0.2) & (x < 0.8), 0.0, 1.0, tolerance=1e-4)
    assert found.finding is Finding.SEVERAL
    rise, fall = found.changes
    assert rise.fails_at <= 0.2 < rise.holds_at < rise.fails_at + 1e-4
    assert fall.holds_at < 0.8 <= fall.fails_at < fall.holds_at + 1e-4
    assert np.isnan(found.holds_at)
    assert np.isnan(found.fails_at)
    assert "not monotone" in str(found)


def test_more_changes_than_a_batch_has_values():
    """Assert that all are divided in the end, and that it says so if rounds do not suffice."""
    found = find_threshold(
        lambda x: np.floor(x) % 2 == 0, 0.5, 4.5, tolerance=1e-3, batch=5, max_rounds=200
    )
    assert found.converged
    assert [round(c.holds_at) for c in found.changes] == [1, 2, 3, 4]
    found = find_threshold(lambda x: np.floor(x) % 2 == 0, 0.5, 4.5, tolerance=1e-3, batch=5,
                           max_rounds=2)  # fmt: skip
    assert not found.converged


def test_a_tolerance_below_rounding_ends():
    """Assert that neighbours in floating point end the search."""
    found = find_threshold(lambda x: x < 0.3, 0.0, 1.0, tolerance=1e-30)
    assert np.nextafter(found.holds_at, 1.0) == found.fails_at == 0.3


def test_gaps_against_a_general_optimiser():
    """Assert the likelihood ratio of each gap: the best bounded monotone curve, found anew.

    A falling curve is a sum of falls that are not negative.
    """
    held, trials = np.array([9.0, 7, 8, 6, 2, 3, 0]), np.full(7, 10.0)

    def best(gap=None):
        upper = np.where(np.arange(7) < (7 if gap is None else gap), 1.0, 0.6)
        lower = np.where(np.arange(7) < (0 if gap is None else gap), 0.6, 0.0)
        inside = lambda p: np.clip(p, 1e-12, 1 - 1e-12)
        chance = lambda p: -stats.binom.logpmf(held, trials, inside(p)).sum()
        order = {"type": "ineq", "fun": lambda p: p[:-1] - p[1:]}
        start = (upper + lower) / 2
        found = minimize(chance, start, bounds=list(zip(lower, upper, strict=True)),
                         constraints=order, method="SLSQP", options={"ftol": 1e-12})  # fmt: skip
        return -found.fun

    ratios = np.array([2 * (best() - best(gap)) for gap in range(8)])
    for refused_beyond in (0.5, 1.0, 2.0, 4.0, 9.0):
        found = gaps(held, trials, 0.6, np.sqrt(refused_beyond))
        assert found.accepted.tolist() == (ratios <= refused_beyond).tolist()
    assert np.argmin(ratios) in np.flatnonzero(gaps(held, trials, 0.6, 1.0).best)
    assert 1 < np.sum(ratios < 4.0) < 7


def test_intervals_of_a_random_threshold_cover():
    """Assert coverage for an even curve and one that falls slowly before and fast after."""
    even = lambda x: 1 / (1 + np.exp(20 * (x - 0.4)))
    uneven = lambda x: np.where(
        x < 0.4, 1 - 0.5 * np.exp(3 * (x - 0.4)), 0.5 * np.exp(-40 * np.maximum(x - 0.4, 0))
    )
    for fraction in (even, uneven):
        hits = []
        for seed in range(20):
            found = find_random_threshold(counted(fraction, 20, seed), 0, 1, tolerance=0.1)
            assert found.finding is Finding.ONE
            assert found.converged
            assert found.threshold.high - found.threshold.low <= 0.1 + 1e-12
            hits.append(found.threshold.low <= 0.4 <= found.threshold.high)
            for change in found.changes:
                assert change.holds_at < 0.4 < change.fails_at
        assert np.sum(hits) >= 17  # fewer with probability 0.016 at 0.95


def test_random_thresholds_of_other_fractions_directions_and_axes():
    """Assert where a rising curve in a logarithm, and one of widths, cross a fraction of 0.8."""
    rising = lambda x: 1 / (1 + (50 / x) ** 3)
    at = 50 * 4 ** (1 / 3)
    found = find_random_threshold(
        counted(rising, 40), 1, 1000, tolerance=0.4, fraction=0.8, axis="log"
    )
    assert found.threshold.low < at < found.threshold.high < 1.4 * found.threshold.low
    assert found.threshold.estimate == pytest.approx(at, rel=0.2)
    found = find_random_threshold(
        counted(rising, 40), 1, 300, tolerance=25, fraction=0.8, axis="integer"
    )
    assert found.threshold.low < at < found.threshold.high
    assert np.array_equal(found.points, np.round(found.points))
    assert found.trials.sum() == found.threshold.tally.used


def test_a_random_property_that_is_not_random():
    """Assert that a step, where a fit has no maximum, is found within its neighbours."""
    found = find_random_threshold(counted(lambda x: 1.0 * (x < 0.41), 10), 0, 1, tolerance=0.02)
    assert found.finding is Finding.ONE
    assert found.threshold.low <= 0.41 <= found.threshold.high
    (change,) = found.changes
    assert change.holds_at < 0.41 <= change.fails_at


@pytest.mark.parametrize(
    ("fraction", "finding"),
    [(0.9, Finding.EVERYWHERE), (0.1, Finding.NOWHERE), (0.5, Finding.UNDECIDED)],
)
def test_random_properties_without_a_threshold(fraction, finding):
    """Assert that a fraction away from the one looked for is told from one that is at it."""
    found = find_random_threshold(
        counted(lambda x: np.full(x.shape, fraction), 30), 0, 1, tolerance=0.1, max_rounds=3
    )
    assert found.finding is finding
    assert found.changes == ()
    assert np.isfinite(found.threshold.low) == np.isfinite(found.threshold.high) == False  # noqa: E712


def test_failed_trials_are_counted_by_code():
    """Assert that failures of all calls are added up, and values without a trial do no harm."""
    rng = np.random.default_rng(4)

    def holds(x):
        trials = np.where(np.abs(x - 1) < 1e-9, 0, 12)
        return rng.binomial(trials, 1.0 * (x < 0.3)), trials, {"step_underflow": 2}

    calls = Recorded(holds)
    found = find_random_threshold(calls, 0, 1, tolerance=0.05)
    assert found.threshold.low <= 0.3 <= found.threshold.high
    assert found.threshold.tally.failures == {"step_underflow": 2 * len(calls.batches)}
    assert len(calls.batches) > 1


def test_a_random_property_that_is_not_monotone():
    """Assert that both crossings are reported and none as the threshold."""
    found = find_random_threshold(
        counted(lambda x: np.exp(-(((x - 0.5) / 0.2) ** 2)), 40), 0, 1, tolerance=0.1, max_rounds=3
    )
    assert found.finding is Finding.SEVERAL
    half = 0.2 * np.sqrt(np.log(2))
    rise, fall = found.changes
    assert rise.fails_at < 0.5 - half < rise.holds_at
    assert fall.holds_at < 0.5 + half < fall.fails_at
    assert np.isnan(found.threshold.estimate)


def test_seeds_own_thresholds():
    """Assert each seed's interval, and the median between order statistics of the truth."""
    own = np.exp(np.random.default_rng(2).normal(size=50))
    calls = []

    def holds(points, seeds):
        calls.append(points.size)
        return points < own[seeds]

    found = find_seed_thresholds(holds, np.arange(50), 1e-3, 1e3, tolerance=1e-3, axis="log")
    assert np.all((found.low < own) & (own <= found.high))
    assert np.all(found.high / found.low <= 1.001 * (1 + 1e-12))
    median = found.quantile()
    ordered = np.sort(own)
    assert median.estimate == pytest.approx(np.median(own), rel=1e-3)
    assert median.low == pytest.approx(ordered[17], rel=1e-3)  # the 18th and the 33rd of 50
    assert median.high == pytest.approx(ordered[32], rel=1e-3)
    assert max(calls) == 200


def test_seeds_beyond_the_range_failed_and_not_monotone():
    """Assert that such seeds keep their places in quantiles, and failed ones are counted."""
    own = np.array([0.5, 2.0, -1.0, 0.25, 0.75, 0.4])

    def holds(points, seeds):
        answers = np.where(points < own[seeds], 1.0, 0.0)
        twice = (points < 0.1) | ((points > 0.3) & (points < 0.6))
        answers = np.where(seeds == 3, twice, answers)
        return np.where((seeds == 5) & (points > 0.3), np.nan, answers)

    found = find_seed_thresholds(holds, np.arange(6), 0, 1, tolerance=1e-2, batch=11)
    one, several = Finding.ONE, Finding.SEVERAL
    assert found.findings == (one, Finding.EVERYWHERE, Finding.NOWHERE, several, one, None)
    assert (found.low[1], found.high[1]) == (1.0, np.inf)
    assert (found.low[2], found.high[2]) == (-np.inf, 0.0)
    assert found.low[3] < 0.1
    assert found.high[3] >= 0.6
    median = found.quantile(level=0.5)
    assert median.tally.used == 5
    assert median.tally.censored == 2
    assert median.tally.failures == {"not a number": 1}
    above = find_seed_thresholds(
        lambda x, s: x > own[s], np.arange(3), 0, 1, tolerance=1e-2, side="above"
    )
    assert above.findings == (one, Finding.NOWHERE, Finding.EVERYWHERE)
    assert (above.low[1], above.high[2]) == (1.0, 0.0)


def below(x):
    """Return whether values are below a half."""
    return x < 0.5


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: find_threshold(below, 1.0, 0.0, tolerance=0.1), "low"),
        (lambda: find_threshold(below, 0.0, np.inf, tolerance=0.1), "low"),
        (lambda: find_threshold(below, 0.0, 1.0, tolerance=0.1, axis="log"), "low"),
        (lambda: find_threshold(below, 0.0, 1.5, tolerance=1, axis="integer"), "high"),
        (lambda: find_threshold(below, 0.0, 1.0, tolerance=0.0), "tolerance"),
        (lambda: Axis(0.0, 1.0, "cubic", 0.1), "axis"),  # pyright: ignore[reportArgumentType]
        (lambda: find_threshold(below, 0.0, 1.0, tolerance=0.1, batch=1), "batch"),
        (lambda: find_threshold(below, 0.0, 1.0, tolerance=0.1, max_rounds=0), "max_rounds"),
        (lambda: find_threshold(lambda x: x, 0.0, 1.0, tolerance=0.1), "property"),
        (lambda: find_threshold(lambda x: True, 0.0, 1.0, tolerance=0.1), "property"),
        (lambda: find_random_threshold(lambda x: (x, x), 0, 1, tolerance=0.1), "property"),
        (lambda: find_random_threshold(lambda x: (np.full(x.shape, 3), np.full(x.shape, 2)),
                                       0, 1, tolerance=0.1), "property"),
        (lambda: find_random_threshold(counted(below, 3), 0, 1, tolerance=0.1, fraction=1),
         "fraction"),
        (lambda: find_seed_thresholds(lambda x, s: x, [1, 2], 0, 1, tolerance=0.1), "property"),
        (lambda: find_seed_thresholds(lambda x, s: x > s, [1, 1], 0, 1, tolerance=0.1), "seeds"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, name):
    """Assert that the message names the argument, in the house's form."""
    with pytest.raises(ValueError, match=rf"^Argument `{name}` must .*but"):
        call()

"""Statistics over seeds against textbook tables, closed forms and scipy."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.optimize import minimize

from relu_flow.study.statistics.curves import log_rank, survival
from relu_flow.study.statistics.exponents import fit_exponent
from relu_flow.study.statistics.fractions import fraction_interval, wilson
from relu_flow.study.statistics.intervals import mean_interval, order_statistics, quantile_interval
from relu_flow.study.statistics.summary import over_seeds

# Remission times in weeks of Freireich et al. (1963), as in Cox and Oakes (1984), table 1.1.
RELAPSED = [6.0, 6, 6, 7, 10, 13, 16, 22, 23]
IN_REMISSION = [6.0, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
TREATED = RELAPSED + [np.inf] * len(IN_REMISSION)
TREATED_ENDS = RELAPSED + IN_REMISSION
PLACEBO = [1.0, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
SCALES = np.array([1e-1, 1e-2, 1e-3, 1e-4, 1e-5])


def covered(interval, truth):
    """Return whether an interval holds the truth."""
    return interval.low <= truth <= interval.high


@pytest.mark.parametrize(
    ("size", "fraction", "ranks"),
    [
        # Tables of distribution-free intervals: the median of 5 has none at 95 %; of 6 it
        # is between the smallest and the largest; of 10 the 2nd and 9th; of 100 the 40th and 61st.
        # The largest of 35 is below the 0.9-quantile with probability 0.9**35 = 0.0250314.
        (5, 0.5, (0, 6)), (6, 0.5, (1, 6)), (10, 0.5, (2, 9)), (100, 0.5, (40, 61)),
        (35, 0.9, (28, 36)), (36, 0.9, (29, 36)), (0, 0.5, (0, 1)),
    ],
)  # fmt: skip
def test_ranks_of_quantile_intervals(size, fraction, ranks):
    """Assert the ranks that published tables, and a hand calculation for 0.9, give."""
    assert order_statistics(size, fraction, 0.95) == ranks


def test_ranks_are_the_innermost_that_cover():
    """Assert by sums of binomial probabilities that no end can be moved inwards."""
    for size, fraction, level in [(7, 0.5, 0.9), (40, 0.25, 0.95), (200, 0.9, 0.99)]:
        lower, upper = order_statistics(size, fraction, level)
        chance = stats.binom.pmf(np.arange(size + 1), size, fraction)
        tail = (1 - level) / 2
        assert chance[:lower].sum() <= tail < chance[: lower + 1].sum()
        assert chance[upper:].sum() <= tail < chance[upper - 1 :].sum()


def test_quantiles_take_infinite_times():
    """Assert that times not reached count as latest, and make no NaN."""
    found = quantile_interval([1.0, 2, 3, 4, 5, 6, np.inf, np.inf, np.inf, np.inf])
    assert (found.estimate, found.low, found.high) == (5.5, 2.0, np.inf)
    assert quantile_interval([1.0, np.inf, np.inf]).estimate == np.inf
    values = np.random.default_rng(0).normal(size=31)
    for fraction in (0.1, 0.5, 0.77):
        found = quantile_interval(values, fraction).estimate
        assert found == pytest.approx(np.quantile(values, fraction))


def test_failed_runs_are_counted_by_code():
    """Assert that values of failed runs are nowhere in a statistic, and seen in its tally."""
    values = np.array([1.0, 2, 3, 1e9, np.nan, 4, 1e9, np.nan])
    codes = np.array([0, 0, 0, 3, 0, 0, 3, 7])
    found = mean_interval(values, codes=codes)
    assert found.estimate == 2.5
    assert found.high < 5
    assert found.tally.used == 4
    assert found.tally.failures == {"3": 2, "7": 1, "not a number": 1}
    assert found.tally.failed == 4
    assert "2 left out: 3" in str(found)
    words = np.where(codes == 0, "successful", "step_underflow")
    found = quantile_interval(values, codes=words)
    assert found.estimate == 2.5
    assert found.tally.failures == {"step_underflow": 3, "not a number": 1}
    assert np.isnan(mean_interval([1.0], codes=[2]).estimate)


def test_mean_interval_against_scipy():
    """Assert agreement with scipy's BCa for many runs, where the widening is slight."""
    values = np.random.default_rng(1).gamma(2.0, size=400)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=9999, method="BCa", rng=np.random.default_rng(2)
    ).confidence_interval
    ours = mean_interval(values, resamples=9999)
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.04 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.04 * width)
    assert ours.estimate == pytest.approx(values.mean())
    again, other = mean_interval(values, seed=3), mean_interval(values, seed=4)
    assert str(again) == str(mean_interval(values, seed=3))
    assert again.low != other.low


@pytest.mark.parametrize("size", [10, 25])
def test_mean_intervals_cover(size):
    """Assert that the intervals hold the mean of Gaussians about as often as they say."""
    draws = np.random.default_rng(5).normal(size=(400, size))
    hits = [covered(mean_interval(row, resamples=499), 0.0) for row in draws]
    assert 0.92 < np.mean(hits) < 0.98  # one standard error is 0.011


def test_quantile_intervals_cover():
    """Assert that coverage is that of the binomial, whatever the distribution."""
    draws = np.random.default_rng(6).standard_cauchy(size=(1500, 21))
    hits = [covered(quantile_interval(row), 0.0) for row in draws]
    exact = stats.binom.pmf(np.arange(6, 16), 21, 0.5).sum()  # ranks 6 and 16
    assert exact == pytest.approx(0.9734, abs=1e-4)
    assert np.mean(hits) == pytest.approx(exact, abs=0.013)


def test_wilson_against_scipy():
    """Assert the ends for all counts of a few sizes."""
    for trials in (1, 7, 50):
        for held in range(trials + 1):
            theirs = stats.binomtest(held, trials).proportion_ci(0.9, method="wilson")
            low, high = wilson(held, trials, 0.9)
            assert float(low) == pytest.approx(theirs.low, abs=1e-12)
            assert float(high) == pytest.approx(theirs.high, abs=1e-12)
    assert [float(end) for end in wilson(0, 0)] == [0.0, 1.0]


def test_fractions_leave_failed_runs_out():
    """Assert that a failed run is neither yes nor no."""
    found = fraction_interval([1, 1, 0, 1, 1, np.nan], codes=[0, 0, 0, 0, 5, 0])
    assert found.estimate == 0.75
    assert found.tally.failures == {"5": 1, "not a number": 1}
    assert fraction_interval([True, False]).estimate == 0.5


def test_survival_of_the_leukaemia_trial():
    """Assert the published curve, at-risk numbers, and medians of 23 and 8 weeks."""
    curve = survival(TREATED, TREATED_ENDS)
    assert curve.time.tolist() == [6, 7, 10, 13, 16, 22, 23]
    assert curve.at_risk.tolist() == [21, 17, 15, 12, 11, 7, 6]
    assert curve.events.tolist() == [3, 1, 1, 1, 1, 1, 1]
    published = [0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448]
    assert curve.fraction == pytest.approx(published, abs=5e-4)
    assert curve.tally.used == 21
    assert curve.tally.censored == 12
    assert curve.quantile().estimate == 23
    assert (curve.quantile().low, curve.quantile().high) == (13, np.inf)
    assert curve.quantile(0.75).estimate == np.inf  # the curve does not fall so far
    assert survival(PLACEBO, 23.0).quantile().estimate == 8
    assert curve.at([0, 6, 22.5]) == pytest.approx([1, 0.857, 0.538], abs=5e-4)
    assert np.isnan(curve.at(36.0))


def test_survival_and_band_against_scipy():
    """Assert fractions and band for random censored times with ties."""
    rng = np.random.default_rng(7)
    true, ends = rng.exponential(2.0, 60).round(1), rng.exponential(3.0, 60).round(1)
    true[0], ends[0] = 98.0, 97.0  # so that the curve, and scipy's band, end above zero
    curve = survival(np.where(true <= ends, true, np.inf), ends, level=0.9)
    reached = true <= ends
    theirs = stats.ecdf(stats.CensoredData(true[reached], right=ends[~reached])).sf
    band = theirs.confidence_interval(0.9, method="log-log")
    assert curve.fraction == pytest.approx(theirs.evaluate(curve.time), abs=1e-12)
    assert curve.low == pytest.approx(band.low.evaluate(curve.time), abs=1e-12)
    assert curve.high == pytest.approx(band.high.evaluate(curve.time), abs=1e-12)


def test_survival_without_censoring_is_the_fraction_left():
    """Assert the limit of no censoring, up to a curve of exactly zero."""
    curve = survival([3.0, 1, 2, 2], 10.0)
    assert curve.fraction.tolist() == [0.75, 0.25, 0.0]
    assert curve.low[-1] == 0
    assert curve.high[-1] == curve.high[-2] < 1
    assert curve.at(99.0) == 0


def test_nothing_reached():
    """Assert that a level that no run reached has an infinite median, not an error."""
    curve = survival([np.inf, np.inf], [4.0, 5.0])
    assert curve.time.size == 0
    assert (curve.quantile().estimate, curve.quantile().low) == (np.inf, np.inf)
    empty = survival([1.0], 2.0, codes=[4])
    assert np.isnan(empty.quantile().estimate)
    assert empty.tally.failures == {"4": 1}


def test_medians_of_censored_times_cover():
    """Assert coverage for the median ln 2 of exponential times, and a biased alternative's lack."""
    rng = np.random.default_rng(8)
    hits, naive = [], []
    for _ in range(300):
        true, ends = rng.exponential(size=40), rng.uniform(0.3, 2.0, 40)
        times = np.where(true <= ends, true, np.inf)
        hits.append(covered(survival(times, ends).quantile(), np.log(2)))
        naive.append(covered(quantile_interval(times[np.isfinite(times)]), np.log(2)))
    assert 0.92 < np.mean(hits) < 0.99
    assert np.mean(naive) < 0.5


def test_failed_runs_may_be_censored():
    """Assert that a run that failed late is at risk until then, if asked."""
    times, ends, codes = [1.0, 2.0, np.inf], [9.0, 9.0, 1.5], [0, 0, 2]
    assert survival(times, ends, codes=codes).fraction.tolist() == [0.5, 0.0]
    curve = survival(times, ends, codes=codes, censor_failed=True)
    assert curve.fraction == pytest.approx([2 / 3, 0.0])
    assert (curve.tally.censored, curve.tally.failed) == (1, 0)


def test_log_rank_of_the_leukaemia_trial():
    """Assert the textbooks' chi-squared of 16.79."""
    found = log_rank(TREATED, PLACEBO, TREATED_ENDS, 23.0)
    assert found.statistic == pytest.approx(16.79, abs=5e-3)
    assert found.p_value == pytest.approx(stats.chi2(1).sf(found.statistic))
    assert (found.first.censored, found.second.censored) == (12, 0)


def test_slopes_of_exact_laws():
    """Assert that noiseless laws give their exponents, each on its axes."""
    seeds = np.full((12, 1), 1.0)
    law = fit_exponent(SCALES, seeds * 3 * SCALES**0.5)
    assert law.slope.estimate == pytest.approx(0.5)
    assert law.intercept == pytest.approx(np.log(3))
    assert law.slope.high - law.slope.low < 1e-9
    assert law.warnings == ()
    # A scale of exp(-10000) underflows; its logarithm does not.
    log_scales = np.array([-10.0, -100, -10000])
    law = fit_exponent(-log_scales, seeds * (2 - 1.5 * log_scales), ("linear", "linear"))
    assert (law.slope.estimate, law.intercept) == (pytest.approx(1.5), pytest.approx(2))
    widths = np.array([8, 64, 512])
    law = fit_exponent(widths, seeds * (1 + 4 * np.log(widths)), ("log", "linear"))
    assert (law.slope.estimate, law.intercept) == (pytest.approx(4), pytest.approx(1))


def test_weighted_slope_against_polyfit():
    """Assert estimate and intercept of a weighted fit of scattered points."""
    rng = np.random.default_rng(9)
    x, y, w = rng.uniform(1, 3, 30), rng.normal(size=30), rng.uniform(0, 1, 30)
    found = fit_exponent(x, y, ("linear", "linear"), weights=w)
    slope, intercept = np.polyfit(x, y, 1, w=np.sqrt(w))
    assert found.slope.estimate == pytest.approx(slope)
    assert found.intercept == pytest.approx(intercept)
    assert found.seeds == 30


def test_interval_of_a_slope_is_over_seeds():
    """Assert that seeds, not points, are drawn: noise shared by a seed's points does not average.

    With the slope differing from seed to seed the interval must be that of the mean of the
    seeds' own slopes.
    """
    rng = np.random.default_rng(10)
    own = 0.5 + 0.1 * rng.normal(size=15)
    y = SCALES ** own[:, None]
    found = fit_exponent(SCALES, y, resamples=4999)
    mean = mean_interval(own)
    assert found.slope.estimate == pytest.approx(own.mean())
    assert found.slope.low == pytest.approx(mean.low, abs=0.006)
    assert found.slope.high == pytest.approx(mean.high, abs=0.006)
    apart = fit_exponent(SCALES, y, seeds=np.arange(y.size).reshape(y.shape))
    assert apart.seeds == 75
    assert fit_exponent(SCALES, y, seeds=np.repeat(np.arange(15), 5).reshape(15, 5)).seeds == 15


def test_censored_slope_is_the_likeliest():
    """Assert that a general optimiser of the likelihood, written anew, ends at the same line."""
    rng = np.random.default_rng(11)
    x = np.tile(np.linspace(-1, 2, 12), (6, 1))
    y = 1 + 2 * x + rng.normal(size=x.shape)
    reached = y < 3
    found = fit_exponent(x, np.where(reached, y, np.inf), ("linear", "linear"), ends=3.0)

    def minus_log_likelihood(p):
        line, size = p[0] + p[1] * x, np.exp(p[2])
        beyond = stats.norm.logsf(3.0, line, size)
        return -np.sum(np.where(reached, stats.norm.logpdf(y, line, size), beyond))

    best = minimize(minus_log_likelihood, [0.0, 0.0, 0.0], method="BFGS", options={"gtol": 1e-6})
    assert found.slope.estimate == pytest.approx(best.x[1], abs=1e-5)
    assert found.intercept == pytest.approx(best.x[0], abs=1e-5)
    assert found.slope.tally.censored == np.sum(~reached) > 10
    assert covered(found.slope, 2.0)
    assert len(found.warnings) == 2  # censored points, and few seeds
    naive = np.polyfit(x[reached], y[reached], 1)[0]
    assert naive < found.slope.estimate - 0.2


def test_censored_slope_of_an_exact_law():
    """Assert that no noise, where the likelihood has no maximum, still gives the line."""
    times = np.tile(3 * SCALES**-0.5, (10, 1))
    found = fit_exponent(SCALES, np.where(times < 500, times, np.inf), ends=500.0, resamples=99)
    assert found.slope.estimate == pytest.approx(-0.5, abs=1e-9)
    assert found.slope.tally.censored == 10


@pytest.mark.parametrize("censored", [False, True])
def test_intervals_of_slopes_cover(censored):
    """Assert coverage with noise of seeds and of points."""
    rng = np.random.default_rng(12)
    hits = []
    for _ in range(100):
        noise = 0.2 * rng.normal(size=(16, 1)) + 0.3 * rng.normal(size=(16, 5))
        times = SCALES**-0.5 * np.exp(noise)
        end = 250.0 if censored else np.inf
        given = np.where(times < end, times, np.inf)
        fit = fit_exponent(SCALES, given, ends=end, resamples=199)
        hits.append(covered(fit.slope, -0.5))
    assert np.mean(hits) > 0.87  # two standard errors below 0.92


def test_failed_points_are_left_out_of_slopes():
    """Assert that a value of a failed run does not bend the line."""
    y = np.tile(SCALES, (3, 1))
    codes = np.zeros(y.shape, int)
    y[1, 2], codes[1, 2] = 1e6, 4
    found = fit_exponent(SCALES, y, codes=codes)
    assert found.slope.estimate == pytest.approx(1)
    assert found.slope.tally.failures == {"4": 1}
    assert any("failed" in warning for warning in found.warnings)


def test_over_seeds_of_labelled_arrays():
    """Assert that each cell of a grid gets the interval of its own values."""
    rng = np.random.default_rng(13)
    grid = {"scale": [1e-3, 1e-2], "seed": np.arange(12), "width": [4, 8, 16]}
    times = xr.DataArray(rng.exponential(size=(2, 12, 3)), grid)
    ends = xr.DataArray([1.0, 2.0], {"scale": grid["scale"]})
    codes = xr.zeros_like(times, int)
    codes[0, :2, 1] = 5
    times = times.where(times < ends, np.inf)
    found = over_seeds(
        lambda t, end, codes: survival(t, end, codes=codes).quantile(0.3), times, ends, codes=codes
    )
    assert found["estimate"].dims == ("scale", "width")
    cell = found.sel(scale=1e-2, width=8)
    alone = survival(times.sel(scale=1e-2, width=8), 2.0).quantile(0.3)
    assert (float(cell["estimate"]), float(cell["high"])) == (alone.estimate, alone.high)
    assert found["failed"].sum() == 2
    assert found["failures"].sel(code="5", scale=1e-3, width=8) == 2
    plain = over_seeds(mean_interval, times.where(np.isfinite(times), 0.0))
    assert plain["estimate"].to_numpy() == pytest.approx(
        times.where(np.isfinite(times), 0.0).mean("seed").to_numpy()
    )
    assert plain.sizes["code"] == 0


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: mean_interval([1.0, 2.0], codes=[0]), "codes"),
        (lambda: mean_interval([1.0, 2.0], codes=[True, False]), "codes"),
        (lambda: mean_interval([1.0, np.inf]), "values"),
        (lambda: mean_interval([1.0, 2.0], resamples=0), "resamples"),
        (lambda: quantile_interval([1.0], 1.0), "fraction"),
        (lambda: quantile_interval([1.0], level=95), "level"),
        (lambda: wilson(3, 2), "held"),
        (lambda: fraction_interval([0.5]), "holds"),
        (lambda: survival([np.inf], np.inf), "ends"),
        (lambda: survival([2.0], 1.0), "ends"),
        (lambda: survival([2.0, 3.0], [1.0, 2.0, 3.0]), "ends"),
        (lambda: survival([-np.inf], 1.0), "times"),
        (lambda: log_rank([1.0], [2.0], 3.0, 3.0, first_codes=[1]), "first"),
        (lambda: log_rank([np.inf], [np.inf], 3.0, 3.0), "first"),
        (lambda: fit_exponent([1.0, 1.0], [1.0, 2.0]), "x"),
        (lambda: fit_exponent([0.0, 1.0], [1.0, 2.0]), "x"),
        (lambda: fit_exponent([1.0, 2.0, 3.0], [1.0, 2.0]), "x"),
        (lambda: fit_exponent([1.0, 2.0], [-1.0, 2.0]), "y"),
        (lambda: fit_exponent([1.0, 2.0], [np.inf, 2.0]), "ends"),
        (lambda: fit_exponent([1.0, 2.0], [1.0, 2.0], ("log", "cubic")), "axes"),  # pyright: ignore[reportArgumentType]
        (lambda: fit_exponent([1.0, 2.0], [1.0, 2.0], weights=[-1, 1]), "weights"),
        (lambda: fit_exponent([1.0, 2.0], [1.0, 2.0], seeds=[1]), "seeds"),
        (lambda: over_seeds(mean_interval), "arrays"),
        (lambda: over_seeds(mean_interval, xr.DataArray([1.0], dims="run")), "arrays"),
    ],
)
def test_bad_input_is_named(call, name):
    """Assert that the message names the argument, in the house's form."""
    with pytest.raises(ValueError, match=rf"^Argument `{name}`.* must .*but"):
        call()

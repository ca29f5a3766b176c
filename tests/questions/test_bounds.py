"""The question on the bounds of early alignment: its worst path, its laws, its words."""

import math

import numpy as np
import pytest
import xarray as xr

from relu_flow import ExponentialLoss, Problem, TwoLayerReLU
from relu_flow.experiment.experiment import run_experiments
from relu_flow.papers.early_alignment.theory.path import remaining, worst_path
from relu_flow.questions.bounds import study as bounds
from relu_flow.questions.bounds.figure import bounds_figure
from relu_flow.study.declare.plan import Plan

NUMBERS, MUS, SEEDS = np.array([4, 16]), np.array([0.1, 0.4]), 12


def test_the_table_of_two_samples_is_that_by_hand():
    mu = 0.6  # artanh 0.8 = ln 3
    table = remaining(1, 1, mu, x_min=2.0)
    both = 2 * math.log(3) / (math.sqrt(2 * 1.6) * 2)
    expected = [[0.0, 0.0], [math.log(3) / 2 + both, both]]
    np.testing.assert_allclose(table, expected, rtol=1e-14)


def test_positive_samples_alone_are_gained_one_by_one():
    table = remaining(3, 0, 0.6)
    one, two = math.log(3), math.log(3) / math.sqrt(2 * 1.6)
    np.testing.assert_allclose(table, [[0.0, one + two, two, 0.0]], rtol=1e-14)


def _time_in_place(problem, network, step: float, end: float) -> float:
    """Follow z' = sign(v) P x_a(z) by small steps until all are in their cones or dead."""
    inputs, labels = np.asarray(problem.inputs), np.asarray(problem.targets)
    z = np.asarray(network.inner_weight)
    z = z / np.linalg.norm(z, axis=1)[:, None]
    sign = np.sign(np.asarray(network.outer_weight))
    wanted = sign[:, None] * labels > 0
    for k in range(int(end / step)):
        active = z @ inputs.T > 0
        if np.all(np.all(active == wanted, axis=1) | ~active.any(axis=1)):
            return k * step
        pull = (active * labels) @ inputs
        pull -= np.sum(pull * z, axis=1)[:, None] * z
        z = z + step * sign[:, None] * pull
        z /= np.linalg.norm(z, axis=1)[:, None]
    return math.inf


def _drawn(seed: int) -> tuple[Problem, TwoLayerReLU, float]:
    """Draw five unit inputs about an axis, all at acute angles, and a balanced network."""
    draws = np.random.default_rng(seed)
    signed = np.array([1.0, 0.0, 0.0]) + 0.45 * draws.uniform(-1, 1, (5, 3))
    signed /= np.linalg.norm(signed, axis=1)[:, None]
    labels = np.array([1.0, 1.0, -1.0, 1.0, -1.0])
    inner = draws.normal(size=(10, 3))
    outer = np.linalg.norm(inner, axis=1) * np.tile([1.0, -1.0], 5)
    problem = Problem(labels[:, None] * signed, labels, ExponentialLoss(), "sum")
    return problem, TwoLayerReLU(inner, outer, -1e6), float(np.min(signed @ signed.T))


def test_no_neuron_takes_longer_than_the_worst_path():
    for seed in range(6):
        problem, network, mu = _drawn(seed)
        bound = worst_path(problem, network, mu)
        measured = _time_in_place(problem, network, 1e-3, 10.0)
        assert 0 < measured <= bound < 50 * measured


def test_the_worst_path_is_attained_by_one_neuron_that_starts_in_the_other_cone():
    # One positive sample x, one negative at 60 degrees to -x; w in the negative cone.
    inputs, labels = np.array([[1.0, 0.0], [-0.5, math.sqrt(0.75)]]), np.array([1.0, -1.0])
    problem = Problem(inputs, labels, ExponentialLoss(), "sum")
    w = inputs[1] + 0.1 * np.array([math.sqrt(0.75), 0.5])
    network = TwoLayerReLU(w[None] / np.linalg.norm(w), np.ones(1), -1e6)
    mu, cosine = 0.5, float(w @ inputs[1] / np.linalg.norm(w))
    both = 2 * math.atanh(math.sqrt(0.75)) / math.sqrt(2 * 1.5)
    expected = math.atanh(cosine) + both
    assert worst_path(problem, network, mu) == pytest.approx(expected, rel=1e-12)


def test_the_worst_path_needs_acute_angles():
    problem, network, _ = _drawn(0)
    assert worst_path(problem, network, -0.2) == math.inf


def _tree(power: float) -> xr.DataTree:
    """A made-up study: the time is 3 n^power mu^-0.25, times a factor of each seed."""
    dims = ["samples", "mu", "seed"]
    coords = {"samples": NUMBERS, "mu": MUS, "seed": np.arange(SEEDS)}
    factor = np.exp(np.linspace(-0.2, 0.2, SEEDS))
    grid = 3.0 * NUMBERS[:, None, None] ** power * MUS[:, None] ** -0.25 * factor
    times = np.stack([grid, np.full(grid.shape, np.inf), np.full(grid.shape, np.inf)], -1)
    codes = np.zeros(grid.shape, int)
    codes[0, 0, 0] = 1
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(coords=coords),
            "/runs": xr.Dataset({"result": (dims, codes), "end_time": (dims, grid + 1)}),
            "/milestones": xr.Dataset(
                {"milestone_time": ([*dims, "milestone"], times)},
                coords={"milestone": ["place", *bounds.OUTPUTS]},
            ),
            "/times": xr.Dataset(
                {name: ([*dims, "time"], np.zeros((*grid.shape, 1))) for name in bounds.OUTPUTS},
                coords={"time": [0.0]},
            ),
        }
    )


def _found(power: float, least: float = 100.0):
    tree = _tree(power)
    times = tree["milestones/milestone_time"].isel(milestone=0).to_numpy()
    law = NUMBERS[:, None, None] ** 0.5 * MUS[:, None] ** -2.5
    t_1 = least * law * np.ones(SEEDS)
    limits = {
        "t_1": t_1, "path": t_1 / 2, "worst": 4 * times,
        "scale": -1e3 * law * np.ones(SEEDS), "lemma_3": np.full(times.shape, -3.25),
    }  # fmt: skip
    coords = {"samples": NUMBERS, "mu": MUS, "seed": np.arange(8)}
    low = np.broadcast_to(np.array([[-5.0, -4.0], [-9.75, -7.75]])[..., None], (2, 2, 8)).copy()
    low[1, 1, 0] = -np.inf  # fails already at the smallest scale tried
    scales = {"low": low, "high": low + 0.5}
    arrays = {key: xr.DataArray(part, coords, list(coords)) for key, part in scales.items()}
    return bounds.findings(tree, limits, arrays)


@pytest.fixture(scope="module")
def falling():
    return _found(-1.0)


def _row(found, text: str):
    return next(row for row in found.rows if row.quantity.startswith(text))


def test_exponents_are_those_of_the_law(falling):
    for mu in MUS:
        row = _row(falling, f"slope of ln time in ln n: mu {mu:g}")
        # The seed that failed at mu = 0.1 leaves its other point in, off the line by its factor.
        assert row.measured == pytest.approx(-1.0, abs=0.02)
        assert row.bound == pytest.approx(0.5, abs=1e-12)
    row = _row(falling, "slope of ln time in ln mu: samples 16")
    assert (row.measured, row.bound) == pytest.approx((-0.25, -2.5), abs=1e-12)


def test_times_and_looseness_are_medians_over_seeds(falling):
    row = _row(falling, "time until all neurons are in place: samples 16, mu 0.4")
    factor = np.exp(np.linspace(-0.2, 0.2, SEEDS))
    times = 3 / 16 * 0.4**-0.25 * factor
    assert row.measured in np.sort(times)[[5, 6]]
    assert row.bound == pytest.approx(100 * 4 * 0.4**-2.5)
    assert (row.runs, row.left_out) == (12, 0)
    loose = _row(falling, "t_1 over that time: samples 16, mu 0.4")
    assert loose.measured == pytest.approx(np.median(100 * 4 * 0.4**-2.5 / times))
    failed = _row(falling, "time until all neurons are in place: samples 4, mu 0.1")
    assert (failed.runs, failed.left_out) == (11, 1)


def test_scales_are_in_the_middle_of_what_is_known(falling):
    row = _row(falling, "largest log scale that puts neurons in place first: samples 4, mu 0.1")
    assert (row.measured, row.low, row.high) == (-4.75, -5.0, -4.5)
    assert row.bound == pytest.approx(-1e3 * 2 * 0.1**-2.5)
    assert "Lemma 3 asks for -3.25" in row.note
    assert (row.runs, row.left_out) == (8, 0)


def test_scales_have_exponents_too(falling):
    row = _row(falling, "slope of ln(-ln epsilon) in ln n: mu 0.1")
    # From 4.75 to 9.5: twice in four-fold n.
    assert (row.measured, row.bound) == pytest.approx((0.5, 0.5), abs=1e-12)
    assert (row.runs, row.left_out) == (16, 0)
    row = _row(falling, "slope of ln(-ln epsilon) in ln mu: samples 4")
    assert row.measured == pytest.approx(math.log(3.75 / 4.75) / math.log(4))
    assert row.bound == pytest.approx(-2.5)
    unbounded = _row(falling, "slope of ln(-ln epsilon) in ln n: mu 0.4")
    assert (unbounded.runs, unbounded.left_out) == (15, 1)


def test_the_paragraph_goes_by_its_numbers(falling):
    text = falling.paragraph
    assert "every run kept every bound" in text
    assert "falls with n while t_1 rises" in text
    assert "-0.25 [-0.25, -0.25]" in text
    assert "the time hardly feels mu" in text
    assert "ln epsilon = -9.5 to -3.8" in text
    assert "-ln epsilon has exponents +0.50 to +0.50 against +0.50 to +0.50" in text
    assert "Lemma 3 asks for -3.2" in text
    assert 80 <= len(text.split()) <= 185
    rising = _found(+1.0).paragraph
    assert "rises faster than t_1" in rising
    assert "falls" not in rising


def test_a_broken_bound_is_said():
    found = _found(-1.0, least=1e-9)
    assert "a bound was broken: somewhere only 0% of the seeds kept it" in found.paragraph
    assert _row(found, "least fraction of seeds in place by the bound: t_1").measured == 0.0


def test_what_comes_first_is_told_from_milestones_and_the_start():
    tree = _tree(-1.0).isel(samples=0, mu=1)
    times = tree["milestones/milestone_time"].to_numpy().copy()
    times[0, 1] = 0.1  # an output exceeded the level before
    times[1, 2] = 100.0  # after
    times[2, 0] = np.inf  # nothing happened
    tree["milestones"] = xr.Dataset(
        {"milestone_time": (["seed", "milestone"], times)},
        coords={"milestone": ["place", *bounds.OUTPUTS]},
    )
    start = np.zeros((SEEDS, 1))
    start[3] = 0.3
    large = {name: (["seed", "time"], start) for name in bounds.OUTPUTS}
    tree["times"] = xr.Dataset(large, coords={"time": [0.0]})
    found = bounds.in_place_first(tree).to_numpy()
    np.testing.assert_array_equal(found[:5], [0.0, 1.0, np.nan, 0.0, 1.0])


@pytest.mark.parametrize("quick", [True, False])
def test_the_study_can_be_run(quick):
    plan = Plan.of(bounds.study(quick, 0))
    assert list(plan.dims) == ["samples", "mu", "seed"]
    assert len(plan.groups) == (2 if quick else 4)


def test_bounds_are_of_each_runs_own_data():
    study = bounds._study([4], [0.2, 0.5], range(2), [-1e8], 0)
    found = bounds.limits(Plan.of(study))
    # As many samples as features and norms 1: t_1 is 16 ln n / (zeta_2 or mu^2) / sqrt(mu).
    assert found["t_1"].shape == (2, 2)
    assert np.all(found["t_1"][0] >= 16 * math.log(4) / 0.2**2.5 * (1 - 1e-9))
    assert np.all(found["t_1"][1] >= 16 * math.log(4) / 0.5**2.5 * (1 - 1e-9))
    assert np.all(found["worst"] < found["path"])
    assert np.all(found["scale"] < found["lemma_3"])


def test_the_figure_is_drawn(falling, tmp_path):
    bounds_figure(falling.data, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_quick_form_keeps_the_theory(tmp_path):
    found = run_experiments("x", (bounds.QUESTION,), tmp_path, quick=True, quiet=True)["bounds"]
    assert _row(found, "least fraction of seeds in place by the bound: sharper").measured == 1.0
    slopes = [row for row in found.rows if row.quantity.startswith("slope of ln time in ln n")]
    for row in slopes:
        assert isinstance(row.bound, float)
        assert row.high is not None
        assert row.high < 0 < row.bound

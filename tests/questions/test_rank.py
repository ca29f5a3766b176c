"""The questions about rank, answered from studies made up so that the answer is known."""

import math
from typing import get_args, get_type_hints

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

from relu_flow.app.cli import question
from relu_flow.questions import by_seed
from relu_flow.questions.catalogue import QUESTIONS, answer
from relu_flow.questions.rank_angle import study as rank_angle
from relu_flow.questions.rank_scale import study as rank_scale
from relu_flow.study.declare.plan import Plan

SEEDS = 40
DEGREES = (30.0, 60.0, 85.0)
SCALES = (math.log(1e-8), math.log(1e-4))
HELD = {SCALES[0]: (40, 30, 10), SCALES[1]: (40, 28, 2)}


def made_up(held, failed=0, late=0):
    """Return a collected study in which so many seeds end with rank one at each angle."""
    shape = (len(SCALES), len(DEGREES), SEEDS)
    rank, result, time = np.full(shape, 1.0), np.zeros(shape, int), np.full(shape, 9.0)
    for k, scale in enumerate(SCALES):
        for j in range(len(DEGREES)):
            rank[k, j, held[scale][j] :] = 1.5
    result[:, -1, :failed], rank[:, -1, :failed] = 1, np.nan
    time[:, -1, failed : failed + late] = np.inf
    coords = {"log_scale": list(SCALES), "max_angle": np.radians(DEGREES), "seed": range(SEEDS)}
    dims = list(coords)
    times = xr.DataArray(time[..., None], dims=[*dims, "milestone"])
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(coords=coords),
            "/runs": xr.Dataset({"result": (dims, result)}),
            "/milestones": xr.Dataset(
                {"milestone_time": times}, coords={"milestone": ["converged"]}
            ),
            "/end": xr.Dataset({"effective_rank": (dims, rank)}),
        }
    )


def test_shares_of_rank_one_are_counts_with_wilsons_intervals():
    found = rank_angle.findings(made_up(HELD))
    rows = {row.quantity: row for row in found.rows}
    for scale, text in zip(SCALES, ("1e-08", "0.0001"), strict=True):
        for angle, held in zip(DEGREES, HELD[scale], strict=True):
            row = rows[f"fraction with rank one: scale {text}, angle {angle:g}°"]
            exact = stats.binomtest(held, SEEDS).proportion_ci(method="wilson")
            assert row.measured == held / SEEDS
            assert (row.low, row.high) == pytest.approx(exact, rel=1e-9)
            assert (row.runs, row.left_out) == (SEEDS, 0)
            assert bool(row.note) == (angle < 45)
    assert "up to 30 degrees" in found.paragraph
    assert "At 85 degrees 25%" in found.paragraph
    assert "From scale 0.0001 to 1e-08 the fraction changes by +0% to +20%:" in found.paragraph
    assert "it still moves with the scale" in found.paragraph


def test_what_a_smaller_scale_does_not_bring_back_is_said():
    held = {SCALES[0]: (40, 30, 10), SCALES[1]: (40, 30, 10)}
    assert "does not come back" in rank_angle.findings(made_up(held)).paragraph
    always = dict.fromkeys(SCALES, (40, 40, 40))
    assert "No seed missed it" in rank_angle.findings(made_up(always)).paragraph
    never = dict.fromkeys(SCALES, (39, 40, 40))
    assert "already at 30 degrees" in rank_angle.findings(made_up(never)).paragraph


def test_runs_that_failed_or_did_not_converge_are_no_trials():
    found = rank_angle.findings(made_up(HELD, failed=3, late=4))
    rows = {row.quantity: row for row in found.rows}
    row = rows["fraction with rank one: scale 1e-08, angle 85°"]
    assert (row.measured, row.runs, row.left_out) == (3 / 33, 33, 7)
    row = rows["fraction that came to a loss of 1e-06: scale 1e-08, angle 85°"]
    assert (row.measured, row.runs, row.left_out) == (33 / 37, 37, 3)


@pytest.fixture(scope="module")
def scales():
    """Thresholds of seeds that break at known scales, and bounds."""
    draw = np.random.default_rng(0)
    widths, samples = (5, 20), (4, 8)
    true = {(w, n): draw.normal(-4.0 - (w == 20), 0.4, 30) for w in widths for n in samples}
    asked = []

    def thresholds(shape):
        def run(study):
            asked.append(len(study.seeds) * len(study.log_scales))
            above = np.array(study.log_scales)[:, None] > true[shape][list(study.seeds)]
            return ended(study, np.where(above, 2.0, 1.0))

        return by_seed.scale_thresholds(
            lambda seeds, log_scales: rank_scale.study(shape, seeds, log_scales, 0),
            run,
            lambda tree: rank_scale.rank_one(tree, "stable_rank"),
            range(30),
            *rank_scale.RANGE,
            tolerance=rank_scale.TOLERANCE,
        )

    found = {shape: thresholds(shape) for shape in true}
    allowed = {shape: {k: -100.0 * (shape[0] + k) for k in range(30)} for shape in true}
    return true, found, allowed, asked


def ended(study, rank, failed=False):
    """Return what a study would collect if runs ended with these ranks."""
    several = len(study.log_scales) > 1
    dims = ["log_scale", "seed"] if several else ["seed"]
    shaped = rank if several else rank[0]
    result = np.where(np.broadcast_to(failed, shaped.shape), 1, 0)
    coords = {"seed": list(study.seeds)} | (
        {"log_scale": list(study.log_scales)} if several else {}
    )
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(coords=coords),
            "/runs": xr.Dataset({"result": (dims, result)}),
            "/milestones": xr.Dataset(
                {"milestone_time": ([*dims, "milestone"], np.ones((*shaped.shape, 1)))},
                coords={"milestone": ["converged"]},
            ),
            "/end": xr.Dataset({"stable_rank": (dims, shaped)}),
        }
    )


def test_scales_asked_of_the_same_seeds_are_one_study():
    scales, who = np.array([-3.0, -2.0, -2.0, -3.0, -1.0]), np.array([0, 0, 1, 1, 2])
    blocks = sorted(by_seed._blocks(scales, who))
    assert blocks == [((0, 1), (-3.0, -2.0)), ((2,), (-1.0,))]


def test_each_seeds_scale_is_bracketed(scales):
    true, found, _, asked = scales
    for shape, each in found.items():
        assert np.all(each.low <= true[shape])
        assert np.all(true[shape] <= each.high)
        assert np.all(each.high - each.low <= rank_scale.TOLERANCE)
    # Far fewer than the 58 values a seed that a grid as fine would need.
    assert sum(asked) < 4 * 30 * 20


def test_medians_stand_beside_bounds_of_the_same_seeds(scales):
    true, found, allowed, _ = scales
    answered = rank_scale.findings({"stable_rank": found}, allowed, 32)
    for (shape, values), row in zip(true.items(), answered.rows, strict=True):
        assert f"width {shape[0]}, {shape[1]} samples" in row.quantity
        assert row.measured == pytest.approx(np.median(values) / math.log(10), abs=0.1, rel=1e-7)
        assert row.low < np.median(values) / math.log(10) < row.high
        assert row.bound == pytest.approx(-100 * (shape[0] + 14.5) / math.log(10), rel=1e-7)
        assert "2 seeds have no growing neuron" in row.note
    moved = (np.median(true[20, 8]) - np.median(true[5, 8])) / math.log(10)
    drawn = answered.data["scale"].sel(criterion="stable_rank", samples=8)
    np.testing.assert_allclose(
        float(drawn.sel(width=20)) - float(drawn.sel(width=5)), moved, atol=0.15
    )
    assert "from width 5 to 20 this moves by -0." in answered.paragraph
    assert "apart in 2 of 2 cases" in answered.paragraph
    assert "from number of samples 4 to 8" in answered.paragraph


def test_seeds_that_fail_have_no_threshold():
    def run(study):
        rank = np.where(np.array(study.log_scales)[:, None] > -3.0, 2.0, 1.0)
        rank = rank * np.ones(len(study.seeds))
        return ended(study, rank, failed=np.array(study.seeds) == 2)

    found = by_seed.scale_thresholds(
        lambda seeds, log_scales: rank_scale.study((5, 4), seeds, log_scales, 0),
        run,
        lambda tree: rank_scale.rank_one(tree, "stable_rank"),
        [0, 2, 7],
        *rank_scale.RANGE,
        tolerance=0.1,
    )
    assert np.isnan(found.low[1])
    assert found.quantile().tally.failed == 1
    assert np.all(np.abs(found.low[[0, 2]] + 3.0) < 0.11)


def test_runs_that_do_not_converge_have_not_rank_one():
    study = rank_scale.study((5, 4), (0, 1), (-2.0, -1.0), 0)
    tree = ended(study, np.ones((2, 2)))
    times = tree["milestones/milestone_time"]
    assert isinstance(times, xr.DataArray)
    times[0, 1] = np.inf
    np.testing.assert_array_equal(rank_scale.rank_one(tree, "stable_rank"), [[1, 0], [1, 1]])


@pytest.mark.parametrize("quick", [True, False])
def test_the_studies_can_be_planned(quick):
    assert Plan.of(rank_angle.study(quick, 3)).size >= 200
    widths, samples = rank_scale.shapes(quick)
    plan = Plan.of(rank_scale.study((widths[-1], samples[-1]), (1, 5), (-2.0, -1.0), 3))
    assert plan.groups[0].shape == (samples[-1], 4, widths[-1])


def test_bounds_are_of_the_seeds_own_data():
    bounds = rank_scale.bounds((5, 4), 6, 0)
    assert set(bounds) <= set(range(6))
    assert len(set(bounds.values())) == len(bounds) >= 4
    assert max(bounds.values()) < -1e3
    assert rank_scale.bounds((5, 4), 6, 1) != bounds


def test_bad_input_is_named(tmp_path):
    with pytest.raises(ValueError, match="Argument `name` must be one of"):
        answer("rank", tmp_path)
    with pytest.raises(ValueError, match="Argument `seed` must be from 0"):
        answer("rank-angle", tmp_path, seed=-1)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rank-angle", "rank-scale"])
def test_quick_form(name, tmp_path, capsys):
    found = answer(name, tmp_path, quick=True, quiet=True, cache=False)
    said = capsys.readouterr().out
    folder = tmp_path / name
    assert found.paragraph in " ".join(said.split())
    assert (folder / "found.txt").read_text().strip() == found.paragraph
    table = pd.read_csv(folder / "table.csv")
    assert {"low", "high", "runs", "left_out"} <= set(table.columns)
    assert (folder / "figure.png").stat().st_size > 20_000
    again = answer(name, tmp_path, quick=True, quiet=True, cache=False)
    assert again.rows == found.rows


def test_the_command_names_every_question():
    known = [each.name for each in QUESTIONS]
    assert list(get_args(get_type_hints(question)["name"])) == known
    assert all(name in (question.__doc__ or "") for name in known)

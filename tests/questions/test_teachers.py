"""The question about several teachers, from studies made up so that the answer is known."""

import json
import math

import jax
import numpy as np
import pytest
import xarray as xr
from scipy import stats

from relu_flow.data.teachers import several_neurons
from relu_flow.experiment.experiment import run_experiments
from relu_flow.model.network import TwoLayerReLU
from relu_flow.observe.rank import effective_rank
from relu_flow.questions.teachers import study as teachers
from relu_flow.study.declare.families import draw_problem
from relu_flow.study.declare.plan import Plan

SEEDS = 20
LOG_SCALES = np.log([1e-8, 1e-4])
STUCK = 6  # seeds of three graded teachers of one sign, at the smaller scale
GROWTH = 5.0  # of the time to a hundredth with ln(1/scale)


def tree(coords, stuck, ratio=1.0):
    """Return a collected study.

    Args:
        coords: Of the grid, seeds last.
        stuck: For each run whether it stays at a plateau, with a loss of 0.02.
        ratio: The squared norm over that of one direction a teacher.
    """
    dims = list(coords)
    shape = [len(values) for values in coords.values()]
    stuck = np.broadcast_to(stuck, shape)
    slow = np.zeros(shape)
    if "log_scale" in coords:
        slow = slow - LOG_SCALES.reshape([2 if d == "log_scale" else 1 for d in dims])
    slow = slow + np.linspace(0, 1, shape[-1])
    all_of_them = [2 * slow, *(np.where(stuck, np.inf, x * slow) for x in (GROWTH, 3 * GROWTH))]
    own = np.full(shape, math.nan)
    if "teacher_norms" in coords:
        sums = [2 * sum(json.loads(text)) for text in coords["teacher_norms"]]
        own = np.broadcast_to(np.array(sums)[None, :, None, None], shape)
    ends = {
        "loss": np.where(stuck, 0.02, 1e-5),
        "effective_rank": np.full(shape, 2.5),
        "squared_parameter_norm": ratio * own,
    }
    runs = {"result": np.zeros(shape, int), "end_time": np.where(stuck, teachers.END, 1e3)}
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(coords=coords),
            "/runs": xr.Dataset({name: (dims, each) for name, each in runs.items()}),
            "/end": xr.Dataset({name: (dims, each) for name, each in ends.items()}),
            "/milestones": xr.Dataset(
                {"milestone_time": ([*dims, "milestone"], np.stack(all_of_them, axis=-1))},
                coords={"milestone": list(teachers.LEVELS)},
            ),
        }
    )


def made_up(stuck=STUCK, ratio=1.0):
    """Return studies in which some seeds miss the smallest of three graded teachers."""
    trees = {}
    for count in (2, 3):
        norms = [teachers.equal(count), teachers.graded(count)]
        signs = [[1.0] * count, teachers.alternating(count)]
        coords = {
            "log_scale": LOG_SCALES,
            "teacher_norms": [json.dumps(x) for x in norms],
            "outer": [json.dumps(x) for x in signs],
            "seed": np.arange(SEEDS),
        }
        held = np.zeros((2, 2, 2, SEEDS), bool)
        held[0, 1, 0, : stuck if count == 3 else 0] = True
        trees[f"{count} teachers"] = tree(coords, held, ratio)
    wide = {"width": [10, 40], "seed": np.arange(SEEDS)}
    trees["widths"] = tree(wide, np.array([np.arange(SEEDS) < 10, np.arange(SEEDS) < 1]))
    return trees


@pytest.fixture(scope="module")
def found():
    return teachers.findings(made_up())


def test_shares_losses_and_growth(found):
    rows = {row.quantity: row for row in found.rows}
    at = "teachers 3, norms graded, signs one sign, scale 1e-08"
    share = rows[f"seeds that come to zero loss: {at}"]
    exact = stats.binomtest(SEEDS - STUCK, SEEDS).proportion_ci(method="wilson")
    assert share.measured == (SEEDS - STUCK) / SEEDS
    np.testing.assert_allclose((share.low, share.high), exact, rtol=1e-9)
    # The mean square of 1, 2, 3 is 14/3: the smallest has a norm of sqrt(3/14), of three.
    left = rows[f"their loss over that without the smallest teacher, median: {at}"]
    assert left.measured == pytest.approx(0.02 / (3 / 14 / 6))
    assert (left.runs, left.left_out) == (STUCK, SEEDS - STUCK)
    growth = rows[
        "growth of that time with ln(1/scale), median: teachers 2, norms graded, signs one sign"
    ]
    assert growth.measured == pytest.approx(GROWTH)
    assert growth.bound == pytest.approx(2 / math.sqrt(2 / 5))  # 1 and 2: a mean square of 5/2


def test_times_of_seeds_that_stay_are_beyond_all_others(found):
    rows = {row.quantity: row for row in found.rows}
    at = "teachers 3, norms graded, signs one sign"
    time = rows[f"time to a hundredth of the loss, median: {at}, scale 1e-08"]
    # The first six seeds, the quickest, never come there: the median is the tenth of the rest.
    reached = GROWTH * (-LOG_SCALES[0] + np.linspace(0, 1, SEEDS))[STUCK:]
    assert time.measured == pytest.approx(reached[9])
    assert time.high == math.inf
    growth = rows[f"growth of that time with ln(1/scale), median: {at}"]
    assert growth.measured == pytest.approx(GROWTH)
    assert (growth.high, growth.runs) == (math.inf, SEEDS)


def test_wording_follows_the_numbers(found):
    assert "7 of 8 settings; fewest, 70%" in found.paragraph
    assert "with 3 (graded norms, one sign; 100% at scale 0.0001)" in found.paragraph
    assert "Up to 30% in a setting stayed at a plateau, a median loss of" in found.paragraph
    assert f"{0.02 / (3 / 14 / 6):.2f} times that without the smallest" in found.paragraph
    assert "nearly the same in all" in found.paragraph
    assert "50% [30%, 70%] with 10 and 95%" in found.paragraph
    assert 80 <= len(found.paragraph.split()) <= 160
    other = teachers.findings(made_up(stuck=0, ratio=1.1)).paragraph
    assert "every seed came to zero loss" in other
    assert "None stayed at a plateau" in other
    assert "medians of 1.10, within 2% of 1 in as few as 0%" in other


def test_what_is_compared_with_is_the_teachers_own():
    """Rank, and the loss without the smallest, of the very teachers and inputs of a study."""
    count, norms = 3, teachers.graded(3)
    key = jax.random.key(5)
    settings = {
        "features": 4,
        "samples": teachers.SAMPLES,
        "teacher_norms": norms,
        "max_angle": 0.01,
    }
    _, certificate = several_neurons(key, **settings)
    problem = draw_problem("several_neurons", key, settings, None, None, None)
    rows = np.asarray(certificate.teachers)
    sizes = np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(np.mean(sizes**2), 1)
    network = TwoLayerReLU(rows / np.sqrt(sizes)[:, None], np.sqrt(sizes), 0.0)
    assert float(problem.loss_value(network)) < 1e-20
    own = teachers._own_rank(np.asarray(norms))
    np.testing.assert_allclose(float(effective_rank(problem, network)), own, rtol=1e-6)
    fewer = TwoLayerReLU(network.inner_weight[1:], network.outer_weight[1:], 0.0)
    missed = norms[0] ** 2 / (2 * count)
    loss = float(problem.loss_value(fewer))
    assert missed * math.cos(0.01) ** 2 <= loss <= missed


@pytest.mark.parametrize("quick", [True, False])
def test_the_studies_can_be_planned_in_one_shape(quick):
    studies = teachers.studies(quick, 3)
    shapes = set()
    for name, study in studies.items():
        assert study.root == 3
        if name != "widths":
            shapes |= {group.shape for group in Plan.of(study).groups}
    assert shapes == {(12, 4, 20)}
    assert Plan.of(studies["widths"]).size == (24 if quick else 200)


@pytest.mark.slow
def test_the_quick_form_runs(tmp_path):
    question = teachers.QUESTION
    run_experiments("questions", (question,), tmp_path, quick=True, quiet=True)
    folder = tmp_path / "teachers"
    assert {"found.txt", "table.csv", "figure.png"} <= {path.name for path in folder.iterdir()}

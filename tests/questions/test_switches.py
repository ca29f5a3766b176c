"""The question on switches: its counts, fractions, bounds and words."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from relu_flow.experiment.experiment import run_experiments
from relu_flow.questions.switches import study as switches
from relu_flow.questions.switches.figure import switches_figure
from relu_flow.study.declare.plan import Plan

SEEDS = 10
SLIDING = 6  # of the seeds
GRIDS = {
    "separable": {"mu": np.array([-0.8, -0.2, 0.3])},
    "clusters": {"angle": np.radians([30.0, 95.0, 150.0]), "jitter": np.array([0.0, 0.1])},
    "teacher": {"max_angle": np.radians([30.0, 60.0, 80.0])},
    "teachers": {
        "max_angle": np.radians([30.0, 80.0]),
        "outer": np.array([json.dumps(switches.OPPOSITE), json.dumps(switches.ALIKE)]),
    },
}


def _tree(name: str, slides) -> xr.DataTree:
    """A made-up study; `slides` says from the grid where the first seeds slide, 10 times each."""
    axes = {**GRIDS[name], "seed": np.arange(SEEDS)}
    dims, shape = list(axes), [len(values) for values in axes.values()]
    seed = np.broadcast_to(np.arange(SEEDS), shape)
    grid = xr.Dataset(coords=axes)
    whole = xr.DataArray(np.ones(shape, bool), axes, dims)
    where = (slides(grid) & whole).transpose(*dims).to_numpy()
    count = np.where(where & (seed < SLIDING), 10, 0)
    zero = np.zeros(shape, int)
    codes = zero.copy()
    codes[(0,) * (len(shape) - 1) + (-1,)] = 1
    runs = {"result": codes, "slides": count, "switches": 40 + 2 * count, "ties": count}
    runs |= {"repels": zero if name in ("separable", "clusters") else zero + 1, "grazes": zero}
    dead = {"dead_count": ([*dims, "time"], np.full((*shape, 1), 2.0))}
    nodes = {
        "/": grid,
        "/runs": xr.Dataset({key: (dims, values) for key, values in runs.items()}),
        "/milestones": xr.Dataset(
            {"milestone_time": ([*dims, "milestone"], np.ones((*shape, 1)))},
            coords={"milestone": ["converged"]},
        ),
        "/end": xr.Dataset({"dead_count": (dims, np.full(shape, 5.0))}),
        "/times": xr.Dataset(dead, coords={"time": [0.0]}),
    }
    return xr.DataTree.from_dict(nodes)


def _found(separable=lambda grid: grid["mu"] < -0.5):
    trees = {
        "separable": _tree("separable", separable),
        "clusters": _tree("clusters", lambda grid: grid["angle"] < 1.0),
        "teacher": _tree("teacher", lambda grid: grid["max_angle"] > 1.2),
        "teachers": _tree("teachers", lambda grid: grid["outer"] != GRIDS["teachers"]["outer"][0]),
    }
    counts = {}
    for name, tree in trees.items():
        found = tree["runs/slides"].to_numpy()
        counts[name] = {"most": found - 4, "again": found // 5}
    return switches.findings(trees, counts)


@pytest.fixture(scope="module")
def kept():
    return _found()


def _row(found, text: str):
    return next(row for row in found.rows if row.quantity.startswith(text))


def test_fractions_have_wilson_intervals_and_failed_runs_are_left_out(kept):
    row = _row(kept, "separable data, fraction of runs with a slide: mu -0.8")
    assert row.measured == pytest.approx(6 / 9)
    # Wilson's interval of 6 of 9, by statsmodels' published formula evaluated by hand.
    z = 1.959963984540054
    middle, half = 6 + z**2 / 2, z * math.sqrt(6 * 3 / 9 + z**2 / 4)
    assert (row.low, row.high) == pytest.approx(
        ((middle - half) / (9 + z**2), (middle + half) / (9 + z**2))
    )
    assert (row.runs, row.left_out) == (9, 1)
    assert row.bound is not None
    assert math.isnan(row.bound)
    assert _row(kept, "separable data, fraction of runs with a slide: mu 0.3").bound == 0.0


def test_counts_are_for_each_neuron(kept):
    row = _row(kept, "separable data, switches a neuron, median of runs: mu -0.8")
    assert row.measured == 60 / switches.WIDTH
    row = _row(kept, "separable data, switches a neuron, median of runs: mu 0.3")
    assert (row.measured, row.bound) == (40 / switches.WIDTH, switches.SAMPLES)
    row = _row(kept, "one teacher, slides a neuron, 0.9-quantile of runs: angle 80°")
    assert row.measured == 10 / switches.WIDTH
    row = _row(kept, "two teachers, fraction of neurons that die, median of runs: angle 30°")
    assert row.measured == 3 / switches.WIDTH


def test_theory_speaks_of_acute_angles_and_of_a_narrow_teacher(kept):
    said = {
        angle: _row(kept, f"two clusters, fraction of runs with a slide: angle {angle}").bound
        for angle in ("30°, jitter 0°", "95°, jitter 0°", "95°, jitter 5.73°", "150°, jitter 5.73°")
    }
    assert [not math.isnan(bound) for bound in said.values()] == [False, True, False, True]
    row = _row(kept, "one teacher, fraction of runs with a slide: angle 30°")
    assert (row.bound, row.note) == (0.0, "theory: none")
    assert _row(kept, "one teacher, fraction of runs with a slide: angle 60°").note == ""
    assert _row(kept, "two teachers, fraction of runs with a slide").bound is None


def test_what_theory_covers_is_checked_in_every_run(kept):
    checked = {row.quantity: row for row in kept.rows if "that theory covers" in row.quantity}
    runs = {row.quantity: row.runs for row in checked.values()}
    assert all(row.measured == 0 and row.bound == 0 for row in checked.values())
    assert runs["separable data, runs that theory covers with a slide"] == SEEDS
    assert runs["two clusters, runs that theory covers with a slide"] == 3 * SEEDS
    assert runs["one teacher, runs that theory covers with a slide"] == SEEDS - 1
    broken = _found(lambda grid: grid["mu"] > 0)
    row = _row(broken, "separable data, runs that theory covers with a slide")
    assert (row.measured, row.runs) == (SLIDING, SEEDS)
    row = _row(broken, "separable data, runs that theory covers with a pair that switches again")
    assert row.measured == SLIDING
    # Of a neuron 6 switches at most: that is not more than 8.
    assert _row(broken, "separable data, runs that theory covers with a neuron").measured == 0
    assert f"what theory says was broken {2 * SLIDING} times" in broken.paragraph


def test_the_paragraph_goes_by_its_numbers(kept):
    text = kept.paragraph
    assert "theory, which covers 49 runs, held in each" in text
    assert "slides begin at mu = -0.8 (67% [35%, 88%] of runs)" in text
    assert "switches 2.0 to 2.0 times (medians; at most 8 by theory)" in text
    assert "slides in 60% to 67% below 90 degrees, 0% beyond" in text
    assert "slides begin at 80 degrees" in text
    assert "0% with opposite signs, 60% with one sign" in text
    assert "repels only with the square loss" in text
    assert 80 <= len(text.split()) <= 160
    never = _found(lambda grid: grid["mu"] > 2).paragraph
    assert "No neuron slid, down to mu = -0.8" in never


def test_pairs_and_neurons_are_counted_from_the_table_of_switches():
    plan = Plan.of(switches._study("teacher", {"family": "single_neuron"}, 1e-3, 3, 0))
    table = pd.DataFrame(
        [(0, 4, 1), (0, 4, 1), (0, 4, 2), (0, 5, 1), (2, 0, 0), (2, 1, 0)],
        columns=["run", "neuron", "sample"],
    )
    found = switches.pair_counts(plan, table)
    np.testing.assert_array_equal(found["most"], [3, 0, 1])
    np.testing.assert_array_equal(found["again"], [1, 0, 0])


@pytest.mark.parametrize("quick", [True, False])
def test_the_studies_can_be_run_and_have_one_shape(quick):
    plans = [Plan.of(study) for study in switches.studies(quick, 0).values()]
    shapes = {group.shape for plan in plans for group in plan.groups}
    assert shapes == {(switches.SAMPLES, 4, switches.WIDTH)}


def test_the_figure_is_drawn(kept, tmp_path):
    switches_figure(kept.data, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_quick_form_keeps_the_theory(tmp_path):
    found = run_experiments("x", (switches.QUESTION,), tmp_path, quick=True, quiet=True)["switches"]
    checked = [row for row in found.rows if "that theory covers" in row.quantity]
    assert len(checked) == 7
    assert all(row.measured == 0 for row in checked)
    assert _row(found, "two clusters, fraction of runs with a slide: angle 45°").measured == 1.0
    row = _row(found, "separable data, fraction of runs with a slide: mu -0.9")
    assert row.low is not None
    assert row.low > 0.5

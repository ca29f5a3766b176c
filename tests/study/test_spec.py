"""Studies as declarations: what is accepted, what is refused, and which runs come of it."""

import math

import jax
import numpy as np
import pytest

import relu_flow as rf
from relu_flow.study.declare.families import FAMILIES
from relu_flow.study.declare.plan import Plan, describe

TOML = """
seeds = [3, 5]
widths = [5, 7]
scales = [1e-2, 1e-3, 1e-4]
t1 = 4
batch = 4

[data]
family = "orthogonally_separable"
samples = 4
features = [3, 6]
mu = 0.5

[[milestones]]
observable = "loss"
level = 2.0
direction = -1
"""
GOOD = {
    "data": {"family": "orthogonally_separable", "samples": 4, "features": 3, "mu": 0.5},
    "seeds": 2,
    "widths": 5,
    "log_scales": -5.0,
    "t1": 4.0,
}


def changed(**parts):
    given = {**GOOD, **parts}
    return {key: value for key, value in given.items() if value is not None}


def test_toml_python_and_json_give_the_same_study(tmp_path):
    (tmp_path / "spec.toml").write_text(TOML)
    from_file = rf.Study.from_toml(tmp_path / "spec.toml")
    from_python = rf.Study(
        data={"family": "orthogonally_separable", "features": (3, 6), "mu": [0.5], "samples": 4},
        seeds=[3, 5],
        widths=(5, 7),
        log_scales=[math.log(1e-2), math.log(1e-3), math.log(1e-4)],
        t1=4.0,
        batch=4,
        milestones=[{"observable": "loss", "level": 2, "direction": -1, "name": "loss"}],
    )
    assert from_file == from_python
    assert from_file.hash == from_python.hash
    assert rf.Study.from_json(from_file.canonical()) == from_file


@pytest.mark.parametrize(
    "part",
    [
        {"t1": 5.0},
        {"seeds": 3},
        {"rtol": 1e-9},
        {"root": 1},
        {"record": {"end": ["accuracy"]}},
        {"data": {**GOOD["data"], "mu": 0.5000000000000001}},
    ],
)
def test_the_hash_tells_studies_apart(part):
    assert rf.Study(**changed(**part)).hash != rf.Study(**GOOD).hash


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"width": 5}, "`width` must be left out"),
        ({"t1": None}, "`t1` must be given"),
        ({"log_scales": None}, r"`log_scales` must be given \(or `scales`\)"),
        ({"scales": [1e-3]}, "`scales` must be left out"),
        ({"log_scales": None, "scales": [0.0]}, "`scales` must be positive"),
        ({"t1": -1.0}, "`t1` must be greater than 0"),
        ({"t1": "soon"}, "`t1` must be a valid number"),
        ({"seeds": 0}, "`seeds` must"),
        ({"seeds": [1, 1]}, "`seeds` must be distinct"),
        ({"seeds": [-1]}, "`seeds` must be from 0"),
        ({"widths": []}, "`widths` must"),
        ({"widths": [0]}, "`widths` must be from 1"),
        ({"rtol": 0.5}, "`rtol` must be less than or equal to 0.1"),
        ({"combine": "all"}, "`combine` must be 'grid' or 'paired'"),
        ({"widths": [5, 6], "log_scales": [-1.0, -2.0, -3.0], "combine": "paired"}, "`combine`"),
        ({"data": {"family": "moons"}}, "`data.family` must be one of"),
        ({"data": {**GOOD["data"], "gap": 1}}, "`data.gap` must be left out"),
        ({"data": {"family": "orthogonally_separable"}}, "`data.samples` must be given"),
        ({"data": {**GOOD["data"], "mu": []}}, "`data.mu` must have at least one value"),
        ({"data": {**GOOD["data"], "mu": "big"}}, "`data.mu` must be a finite number"),
        ({"data": {**GOOD["data"], "samples": 4.5}}, "`data.samples` must be an integer"),
        ({"data": {**GOOD["data"], "norms": [1.0]}}, "`data.norms` must be two numbers"),
        ({"data": {**GOOD["data"], "mu": [0.5, 0.5]}}, "`mu` must have distinct values"),
        ({"initialiser": "zeros"}, "`initialiser.name` must be one of"),
        ({"initialiser": "unbalanced"}, "`initialiser.balancedness` must be given"),
        (
            {"initialiser": {"name": "multi_phase", "log_outer_scale": 0.0}},
            "`train` must be 'inner'",
        ),
        ({"data": {"family": "single_neuron", "features": 3}, "loss": "logistic"}, "`loss` must"),
        ({"milestones": [{"observable": "los", "level": 1.0}]}, "`observable` must be one of"),
        ({"milestones": [{"observable": "loss"}]}, "`milestones.0.level` must be given"),
        ({"milestones": [{"observable": "loss", "level": 1.0}] * 2}, "distinct names"),
        ({"until": "later"}, "`until` must be the name of a milestone"),
        ({"record": {"end": ["lost"]}}, "`record` must be one of"),
        ({"record": {"times": [2.0, 1.0]}}, "`record.times` must ascend"),
        ({"record": {"times": [9.0]}}, "`record.times` must ascend"),
        ({"record": {"at_times": ["loss"]}}, "`record.at_times` must be left out without times"),
        ({"record": {"everything": True}}, "`record.everything` must be left out"),
    ],
)
def test_bad_input_is_refused_by_name(part, message):
    with pytest.raises(ValueError, match="^Argument .*" + message):
        rf.Study(**changed(**part))


def test_a_parameter_out_of_its_familys_range_is_refused_before_anything_runs():
    study = rf.Study(**changed(data={**GOOD["data"], "mu": [0.5, 1.5]}))
    with pytest.raises(ValueError, match="Argument `mu` must be greater than -1 and at most 1"):
        Plan.of(study)


def test_files_that_are_no_studies(tmp_path):
    (tmp_path / "spec.toml").write_text("seeds = ")
    with pytest.raises(ValueError, match="Argument `spec` must be a TOML file"):
        rf.Study.from_toml(tmp_path / "spec.toml")
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ValueError, match="Argument `spec` must be a file that can be read"):
            rf.Study.from_toml(path)
    with pytest.raises(ValueError, match=r"study\.zarr"):
        rf.open_study(tmp_path)


def test_a_grid_is_every_combination_and_each_run_in_one_chunk(tmp_path):
    (tmp_path / "spec.toml").write_text(TOML)
    plan = Plan.of(rf.Study.from_toml(tmp_path / "spec.toml"))
    assert plan.size == 2 * 3 * 2 * 2
    points = {(c.width, round(math.exp(c.log_scale), 9), c.data["features"]) for c in plan.cases}
    assert points == {(w, s, d) for w in (5, 7) for s in (1e-2, 1e-3, 1e-4) for d in (3, 6)}
    assert {group.shape for group in plan.groups} == {(4, d, w) for d in (3, 6) for w in (5, 7)}
    runs = np.concatenate([plan.runs(chunk) for chunk in plan.chunks])
    assert sorted(runs) == list(range(plan.size))
    assert all(plan.runs(chunk).size <= 4 for chunk in plan.chunks)
    for chunk in plan.chunks:
        cases = {plan.cases[run // 2].width for run in plan.runs(chunk)}
        assert cases == {plan.groups[chunk.group].width}
    said = describe(plan, 2)
    assert "runs     24" in said
    assert "chunks   8" in said
    assert "shapes   4" in said


def test_pairs_go_together():
    plan = Plan.of(
        rf.Study(**changed(widths=[5, 6], log_scales=[-1.0, -2.0], combine="paired", seeds=3))
    )
    assert [(case.width, case.log_scale) for case in plan.cases] == [(5, -1.0), (6, -2.0)]
    assert plan.dims == {"case": (0, 1), "seed": (0, 1, 2)}


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        ({"family": "orthogonal", "samples": 3, "features": 5, "rotate": True}, (3, 5)),
        ({"family": "two_clusters", "positives": 3, "negatives": 2, "angle": 1.0}, (5, 2)),
        ({"family": "single_neuron", "features": 4, "max_angle": 0.3}, (4, 4)),
        ({"family": "several_neurons", "features": 4, "teacher_norms": [1.0, 2.0]}, (8, 4)),
        ({"family": "three_points", "eta": 0.1}, (3, 2)),
        ({"family": "digits", "samples": 6, "classes": [0, 1]}, (6, 784)),
    ],
)
def test_every_family_can_be_planned(data, shape):
    (group,) = Plan.of(rf.Study(**changed(data=data))).groups
    assert (group.samples, group.features) == shape
    family = FAMILIES[data["family"]]
    fixed = lambda value: tuple(value) if isinstance(value, list) else value
    settings = {name: fixed(value) for name, value in data.items() if name != "family"}
    assert family.draw(jax.random.key(0), **settings).train == family.train


def test_memory_of_a_large_plan_is_estimated_from_what_is_kept():
    plan = Plan.of(rf.Study(**changed(seeds=100_000, batch=1000)))
    # Result, 12 counts and 5 kinds of four bytes; two times and the loss of eight.
    kept = 100_000 * (4 * 18 + 8 * 3)
    assert 0 < plan.memory(2) - 600e6 - kept < 1e6
    assert len(plan.study.canonical()) < 1000


@pytest.mark.parametrize(
    ("given", "seeds"),
    [(3, (0, 1, 2)), ({"start": 4, "stop": 6}, (4, 5)), ([7, 3], (7, 3)), ([0, 1], (0, 1))],
)
def test_seeds_are_a_number_a_range_or_a_list(given, seeds):
    study = rf.Study(**changed(seeds=given))
    assert study.seeds == seeds
    assert rf.Study.from_json(study.canonical()).seeds == seeds

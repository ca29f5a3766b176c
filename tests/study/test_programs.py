"""A study's programs: each field of a study is in the key they are kept by, or an argument."""

import numpy as np
import pytest

import relu_flow as rf
from relu_flow.study.declare.plan import Plan
from relu_flow.study.declare.spec import MilestoneSpec, RecordSpec
from relu_flow.study.run.batch import Programs

LOSS = {"observable": "loss", "level": 0.5, "direction": -1, "name": "half"}
BASE = {
    "data": {"family": "orthogonally_separable", "samples": 4, "features": 3, "mu": [0.3, 0.5]},
    "seeds": 3,
    "widths": [5],
    "log_scales": [-3.0, -4.0],
    "t1": 4.0,
    "milestones": [LOSS],
    "record": {"end": ["loss"], "times": [1.0], "at_times": ["loss"], "at_milestones": []},
}
CHANGED = {
    "data": {"data": {**BASE["data"], "mu": [0.3, 0.6]}},
    "seeds": {"seeds": [0, 1, 5]},
    "widths": {"widths": [6]},
    "log_scales": {"log_scales": [-3.0, -5.0]},
    "t1": {"t1": 5.0},
    "combine": {"combine": "paired"},
    "root": {"root": 1},
    "vary": {"vary": "network"},
    "initialiser": {"initialiser": "gaussian"},
    "loss": {"loss": "logistic"},
    "reduction": {"reduction": "mean"},
    "train": {"train": "inner"},
    "rtol": {"rtol": 1e-10},
    "milestones": {"milestones": []},
    "until": {"until": "half"},
    "record": {"record": {"end": ["loss", "accuracy"]}},
    "max_steps": {"max_steps": 100},
    "max_switches": {"max_switches": 100},
    "max_slides": {"max_slides": 2},
    "batch": {"batch": 8},
    "name": {"name": "another"},
}
CHANGED_RECORD = {
    "end": ["accuracy"],
    "times": [2.0],
    "at_times": ["accuracy"],
    "at_milestones": ["loss"],
    "switches": True,
}
CHANGED_MILESTONE = {"observable": "accuracy", "level": 0.4, "direction": 0, "name": "other"}


def key(study):
    """Return what the programs of a study are kept by."""
    programs = Programs(Plan.of(study))
    groups = [(g.fixed, g.real, g.width, g.shape) for g in programs.plan.groups]
    return programs._text, groups


def arguments(study):
    """Return what the programs of a study are called with, in the order of its chunks."""
    from relu_flow.study.run.batch import _numbers

    programs = Programs(Plan.of(study))
    inputs = [programs._inputs(chunk) for chunk in programs.plan.chunks]
    flat = [np.asarray(leaf).tolist() for one in inputs for leaf in _leaves(one)]
    return flat, {name: value.tolist() for name, value in _numbers(study).items()}


def _leaves(tree):
    for value in tree.values():
        yield from _leaves(value) if isinstance(value, dict) else [value]


def test_every_field_is_looked_at():
    assert set(CHANGED) == set(rf.Study.model_fields)
    assert set(CHANGED_RECORD) == set(RecordSpec.model_fields)
    assert set(CHANGED_MILESTONE) == set(MilestoneSpec.model_fields)


@pytest.mark.parametrize("field", [name for name in CHANGED if name != "name"])
def test_a_field_is_in_the_key_or_an_argument(field):
    base, other = rf.Study(**BASE), rf.Study(**{**BASE, **CHANGED[field]})
    assert (key(base), arguments(base)) != (key(other), arguments(other))


@pytest.mark.parametrize("field", CHANGED_RECORD)
def test_what_is_recorded_is_in_the_key_or_an_argument(field):
    changed = {**BASE["record"], field: CHANGED_RECORD[field]}
    base, other = rf.Study(**BASE), rf.Study(**{**BASE, "record": changed})
    assert (key(base), arguments(base)) != (key(other), arguments(other))


@pytest.mark.parametrize("field", CHANGED_MILESTONE)
def test_a_milestone_is_in_the_key_or_an_argument(field):
    changed = [{**LOSS, field: CHANGED_MILESTONE[field]}]
    base, other = rf.Study(**BASE), rf.Study(**{**BASE, "milestones": changed})
    assert (key(base), arguments(base)) != (key(other), arguments(other))


@pytest.mark.parametrize("field", ["seeds", "log_scales", "t1", "rtol", "data", "name"])
def test_what_is_an_argument_alone_shares_programs(field):
    assert key(rf.Study(**BASE)) == key(rf.Study(**{**BASE, **CHANGED[field]}))

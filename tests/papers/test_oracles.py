"""Theory is what the flow is checked against: where its tests use the flow, somebody has said why.

A run may be the evidence that a claim is checked on. It may not be where the expected number of
a theorem comes from, unless that is said here.
"""

import ast
from pathlib import Path

import pytest

import relu_flow as rf

HERE = Path(__file__).parent
ROOMS = ("flow", "reduced", "discrete", "analysis")
EVIDENCE = "a run that claims are checked on"
FALSE = "a record that is false, for claims to refute"
SAID = {
    "early_alignment/test_theory.py": {
        ("Tale", "SwitchLog"): FALSE,
        ("Tale", "Trajectory"): FALSE,
        ("six", "solve"): EVIDENCE,
        ("three", "solve"): EVIDENCE,
        ("test_the_theorem_holds_for_the_mean_logistic_loss", "solve"): EVIDENCE,
    },
    "multi_phase/test_theory.py": {
        ("solved", "solve"): EVIDENCE,
        ("test_weights_do_not_depend_on_which_layers_are_trained", "solve"): EVIDENCE,
        ("test_closed_forms_solve_the_planar_model", "planar"): (
            "an oracle: the planar equations solved by Diffrax, which no closed form has a part "
            "in; tests/reduced/test_planar.py has its own, SciPy's"
        ),
        ("test_the_run_is_the_planar_model", "planar"): "compares two flows, no theory",
    },
    "single_neuron/test_norm_rank.py": {("Still", "SwitchLog"): "a made-up run that rests"},
    "single_neuron/test_theory.py": {
        ("literal", "solve"): EVIDENCE,
        ("moderate", "solve"): EVIDENCE,
        ("test_an_unbalanced_run_is_told_apart", "solve"): EVIDENCE,
        ("test_angle_of_the_limit_is_proportional_to_the_scale", "solve"): (
            "the number expected is the exponent of a theorem"
        ),
        ("test_switches_are_those_of_yardsticks_up_to_the_square_of_the_scale", "solve"): (
            "the number expected is an exponent; yardsticks have SciPy in test_yardsticks.py"
        ),
    },
}


def _room(module: str) -> str:
    return module.split(".")[1] if module.startswith("relu_flow.") else ""


def _from_flow(tree: ast.Module) -> set[tuple[str, str]]:
    """Return which functions at a module's top level name something of these rooms, and what."""
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and _room(node.module or "") in ROOMS
        for alias in node.names
    }
    found = set()
    for top in tree.body:
        if isinstance(top, ast.Import | ast.ImportFrom):
            continue
        where = getattr(top, "name", "")
        for node in ast.walk(top):
            if isinstance(node, ast.Name) and node.id in imported:
                found.add((where, node.id))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                thing = getattr(rf, node.attr, None) if node.value.id == "rf" else None
                if _room(getattr(thing, "__module__", "") or "") in ROOMS:
                    found.add((where, node.attr))
    return found


FILES = sorted(
    path for path in HERE.glob("*/*.py") if path.name not in ("__init__.py", "test_experiments.py")
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_comes_from_the_flow_is_said(path):
    said = SAID.get(f"{path.parent.name}/{path.name}", {})
    assert _from_flow(ast.parse(path.read_text())) == set(said)


@pytest.mark.parametrize(
    "code",
    [
        "def f():\n    return rf.limit_flow(1)",
        "from relu_flow.reduced.planar import planar as model\ndef f():\n    return model()",
        "class f:\n    x = rf.descent",
    ],
)
def test_it_would_be_seen(code):
    assert len(_from_flow(ast.parse(code))) == 1

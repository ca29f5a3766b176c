"""What is shown is run: the examples in docstrings say what they say, the README's Python works."""

import doctest
import importlib.util
import inspect
import json
import re
from pathlib import Path

import pytest

import relu_flow as rf

TOP = Path(__file__).parent.parent
README = (TOP / "README.md").read_text()

# `open_study` is in the example of `run_study`.
NAMES = [
    "Milestone", "Problem", "Study", "TwoLayerReLU", "balanced_init", "compare", "descent",
    "digits", "find_threshold", "gaussian_init", "limit_flow", "orthogonal",
    "orthogonally_separable", "outlook", "planar", "run_study", "separability_check",
    "single_neuron", "solve", "time_phases", "two_clusters", "with_bias",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_example_says_what_it_says(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    text = inspect.getdoc(getattr(rf, name)) or ""
    example = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    assert len(example.examples) >= 2, f"{name} has no example"
    said = []
    found = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(
        example, out=said.append
    )
    assert found.failed == 0, "".join(said)


def test_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    """Run the blocks from top to bottom, as a reader does who pastes them into one session."""
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL):
        exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "run.png").stat().st_size > 20_000
    assert (tmp_path / "run.nc").exists()
    said = capsys.readouterr().out
    assert "half" in said
    assert all(name in said for name in ("holds", "Theorem 1(1)", "steps"))


def test_costs_in_the_readme_are_those_measured():
    """Compare the README with the tables that `benchmarks/readme.py` makes of the figures kept."""
    spec = importlib.util.spec_from_file_location("readme", TOP / "benchmarks" / "readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.with_tables(README) == README
    for file, table in module.TABLES.values():
        figures = json.loads((TOP / "benchmarks" / file).read_text())
        assert len(table(figures).splitlines()) == 2 + len(figures["runs"]) + 2

"""The examples in the docstrings of what a user meets first: each is run, and says what it says."""

import doctest
import inspect

import pytest

import relu_flow as rf

# `open_study` is in the example of `run_study`.
NAMES = [
    "Milestone", "Problem", "Study", "TwoLayerReLU", "balanced_init", "compare", "descent",
    "digits", "find_threshold", "gaussian_init", "limit_flow", "orthogonal",
    "orthogonally_separable", "planar", "run_study", "separability_check", "single_neuron",
    "solve", "time_phases", "two_clusters", "with_bias",
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

"""The notebooks: each runs from top to bottom, and is stored with its figures."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def pictures(notebook):
    """Return how many pictures the notebook's outputs hold."""
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    return sum("image/png" in out.get("data", {}) for out in outputs)


def test_there_is_one_a_paper_and_a_tour():
    """Assert that no notebook is missing, and that each is stored as it was run."""
    assert NOTEBOOKS == ["early_alignment", "multi_phase", "single_neuron", "tour"]
    for name in NOTEBOOKS:
        notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        counts = [cell.execution_count for cell in code]
        assert counts == list(range(1, len(code) + 1)), f"{name} was not run from the top"
        assert pictures(notebook) > 0


# They take a minute each, most of it for programs of their own: what they call the papers' tests
# call too, and those of the README's examples.
@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs(name, tmp_path):
    """Assert that a notebook runs without an error and draws as many pictures as stored."""
    path = FOLDER / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    expected = pictures(notebook)
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute(env={**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"})
    assert pictures(notebook) == expected

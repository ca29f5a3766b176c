"""The workspace of experiments: what is kept is what was computed under that name."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from relu_flow.experiment.experiment import Experiment, Findings, Row, Workspace, run_experiments


@pytest.mark.parametrize("names", [("4^2", "4^-2"), ("M < 0", "M > 0"), ("a b", "a-b")])
def test_pieces_of_other_names_are_kept_apart(tmp_path, names):
    """Assert that names which differ in signs alone do not share a file, and are kept."""
    workspace = Workspace(tmp_path, quick=True, seed=0, quiet=True, stamp="s")
    for value, name in enumerate(names):
        assert workspace.piece(name, lambda value=value: {"x": value})["x"] == value

    def never():
        raise AssertionError("a piece that is there was computed again")

    for value, name in enumerate(names):
        np.testing.assert_array_equal(workspace.piece(name, never)["x"], value)


def experiment(calls, rows, paragraph=""):
    """An experiment that finds these rows, and notes that it was run and drawn."""

    def run(workspace):
        calls.append("run")
        return Findings(rows, xr.Dataset({"x": ("k", [1.0, 2.0])}), paragraph)

    def draw(data, path):
        calls.append(float(data["x"].sum()))
        path.write_bytes(b"figure")

    return Experiment("trial", "a trial", run, draw)


def test_findings_with_intervals_are_kept_with_their_paragraph(tmp_path, capsys):
    interval = Row("share", 0.5, bound=1.0, low=0.25, high=np.inf, runs=8, left_out=2)
    rows, calls = (interval, Row("plain", "yes", note="n")), []
    tried = experiment(calls, rows, "Half of them [inf, inf] did.")
    found = run_experiments("x", [tried], tmp_path, quiet=True)["trial"]
    said = capsys.readouterr().out
    assert "0.5 [0.25, inf]" in said
    assert "Half of them [inf, inf] did." in said
    table = pd.read_csv(tmp_path / "trial" / "table.csv")
    assert list(table.columns[-4:]) == ["low", "high", "runs", "left_out"]
    assert table.loc[0, ["low", "runs", "left_out"]].tolist() == [0.25, 8, 2]
    again = run_experiments("x", [tried], tmp_path, quiet=True)["trial"]
    assert calls == ["run", 3.0, 3.0]
    assert again.rows == found.rows
    assert again.paragraph == found.paragraph == "Half of them [inf, inf] did."
    assert "kept from before" in " ".join(capsys.readouterr().out.split())
    run_experiments("x", [tried], tmp_path, quiet=True, seed=1)
    assert calls.count("run") == 2


def test_tables_of_papers_have_no_columns_of_intervals(tmp_path, capsys):
    rows = (Row("time", 2.0, published="1 to 3", bound=4.0),)
    run_experiments("x", [experiment([], rows)], tmp_path, quiet=True)
    table = pd.read_csv(tmp_path / "trial" / "table.csv")
    assert list(table.columns) == ["quantity", "measured", "published", "bound", "note"]
    assert not (tmp_path / "trial" / "found.txt").exists()
    assert "1 to 3" in capsys.readouterr().out

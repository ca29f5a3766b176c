"""The bench of experiments: what is kept is what was computed under that name."""

import numpy as np
import pytest

from relu_flow.experiment import Bench


@pytest.mark.parametrize("names", [("4^2", "4^-2"), ("M < 0", "M > 0"), ("a b", "a-b")])
def test_pieces_of_other_names_are_kept_apart(tmp_path, names):
    """Assert that names which differ in signs alone do not share a file, and are kept."""
    bench = Bench(tmp_path, quick=True, seed=0, quiet=True, stamp="s")
    for value, name in enumerate(names):
        assert bench.piece(name, lambda value=value: {"x": value})["x"] == value

    def never():
        raise AssertionError("a piece that is there was computed again")

    for value, name in enumerate(names):
        np.testing.assert_array_equal(bench.piece(name, never)["x"], value)

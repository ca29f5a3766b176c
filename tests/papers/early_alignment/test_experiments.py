"""The early-alignment experiments: published losses, kept results, proportional departure."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from relu_flow.experiment.experiment import Workspace, run_experiments
from relu_flow.papers.early_alignment.experiments import EXPERIMENTS, plane as planar

# Figure 7 of the paper, read off its captions: losses at iterations 7000 and 21000.
PUBLISHED = {"7000": 9.93e-1, "21000": 7.49e-3}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Run figure 7 in its quick form."""
    out = tmp_path_factory.mktemp("out")
    found = run_experiments(
        "early-alignment", EXPERIMENTS, out, only=("figure-7",), quick=True, quiet=True
    )
    return out / "figure-7", found["figure-7"]


def only(rows, start):
    """Return the one row whose quantity starts like this."""
    (row,) = [row for row in rows if row.quantity.startswith(start)]
    return row


def test_published_losses_lie_among_seeds(done):
    """Assert that the paper's losses, of a seed unknown, are within the range over seeds."""
    for iteration, published in PUBLISHED.items():
        row = only(done[1].rows, f"loss at iteration {iteration}")
        low, high = map(float, row.measured.split(" to "))
        assert low < published < high, row
        assert float(row.published) == published


def test_descent_is_as_plain_numpy_has_it(done):
    """Assert losses at rate 0.002 by a loop in numpy, from the same initial weights."""
    data = done[1].data
    network = planar.start(Workspace(done[0], True, 0, True, ""), 0)
    inner = np.asarray(network.inner_weight) * 1e-6
    outer = np.asarray(network.outer_weight) * 1e-6
    inputs = np.array([[1.0, 0.0], [np.sin(0.1), np.cos(0.1)]])
    for _ in range(8000):
        hidden = np.maximum(inputs @ inner.T, 0)
        pull = np.exp(-hidden @ outer) / 2
        drive = ((hidden > 0) * pull[:, None]).T @ inputs
        inner, outer = inner + 2e-3 * outer[:, None] * drive, outer + 2e-3 * pull @ hidden
    loss = np.mean(np.exp(-np.maximum(inputs @ inner.T, 0) @ outer))
    index = int(np.argmin(np.abs(data["time"].to_numpy() - 16.0)))
    np.testing.assert_allclose(data["descent_loss"][0, index], loss, rtol=1e-8)


def test_departure_is_proportional_to_the_rate(done):
    """Assert ratios of 2 and 4, as a method of first order has them."""
    apart = done[1].data["departure"].to_numpy()
    np.testing.assert_allclose(apart[1:] / apart[0], [2.0, 4.0], rtol=0.02)


def test_neurons_turn_before_they_grow(done):
    """Assert that the change in direction is over when the change in norm is largest."""
    data = done[1].data
    largest = int(np.argmax(data["norm_rate"].to_numpy()))
    turning = data["direction_rate"].to_numpy()
    assert int(np.argmax(turning)) < largest
    assert turning[largest] < 0.01 * turning.max()


def test_results_are_written_and_kept(done):
    """Assert a figure, a table, and that a second call computes nothing."""
    folder, found = done
    assert (folder / "figure.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (folder / "figure.png").stat().st_size > 20_000
    assert json.loads((folder / "table.json").read_text())[0][0] == found.rows[0].quantity
    before = (folder / "data.nc").stat().st_mtime_ns
    for piece in folder.glob("*.npz"):
        piece.unlink()
    again = run_experiments(
        "early-alignment", EXPERIMENTS, folder.parent, only=("figure-7",), quick=True, quiet=True
    )
    assert (folder / "data.nc").stat().st_mtime_ns == before
    assert not list(folder.glob("*.npz"))
    assert again["figure-7"].rows == found.rows


def test_wrong_name_is_refused(tmp_path):
    """Assert the message about an experiment that does not exist."""
    with pytest.raises(ValueError, match="Argument `only` must name experiments"):
        run_experiments("early-alignment", EXPERIMENTS, tmp_path, only=("figure-4",))


def test_figures_5_to_13_are_all_there():
    """Assert the names of the experiments."""
    assert [e.name for e in EXPERIMENTS] == [f"figure-{k}" for k in range(5, 14)]


def test_the_backend_of_the_user_is_left_alone(done):
    """Assert that neither importing the experiments nor drawing a figure chooses a backend."""
    code = (
        "import pathlib, matplotlib, xarray; import relu_flow.papers.catalogue; "
        "from relu_flow.papers.early_alignment.figures import draw_planar; "
        "draw_planar(xarray.open_dataset('data.nc', engine='h5netcdf'), pathlib.Path('a.png')); "
        "print(matplotlib.get_backend())"
    )
    environment = {**os.environ, "MPLBACKEND": "pdf"}
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=done[0], env=environment, check=True, capture_output=True
    )
    assert said.stdout.decode().strip() == "pdf"
    assert (done[0] / "a.png").stat().st_size > 20_000

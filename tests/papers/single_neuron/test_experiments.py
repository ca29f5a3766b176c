"""The experiments on a single teacher neuron: the small forms, and what is kept of them."""

import json
import math

import jax
import numpy as np
import pytest
import xarray as xr

import relu_flow as rf
from relu_flow.data.teacher import single_neuron
from relu_flow.experiment.experiment import Workspace, run_experiments
from relu_flow.papers.single_neuron.experiments import EXPERIMENTS, runs
from relu_flow.papers.single_neuron.experiments.course import _crossings


@pytest.fixture(scope="module")
def cohesion(tmp_path_factory):
    """Return the findings of one experiment in its quick form, and its folder."""
    out = tmp_path_factory.mktemp("single-neuron")
    found = run_experiments(
        "single-neuron", EXPERIMENTS, out, only=("cohesion",), quick=True, quiet=True
    )
    return found["cohesion"], out


# The experiment compiles programs of its own, for a minute; that results are kept is also tested on
# an experiment of the first paper.
@pytest.mark.slow
def test_angles_of_the_limit_fall_by_four_a_step(cohesion):
    """Assert the published factor of 4.00, from angles over seven orders of magnitude."""
    findings, _ = cohesion
    final = findings.data["final"].sel(exponent=[-4, -7, -13]).to_numpy()
    np.testing.assert_allclose((final[0] / final[1]) ** (1 / 3), 4.0, atol=0.01)
    np.testing.assert_allclose((final[1] / final[2]) ** (1 / 6), 4.0, atol=0.01)
    row = next(row for row in findings.rows if "factor" in row.quantity)
    assert row.measured == pytest.approx(4.0, abs=0.01)
    assert row.published == "4.00 in its tables"


@pytest.mark.slow  # as above
def test_results_are_kept(cohesion, capsys):
    """Assert that later calls compute nothing, and give the same table and data.

    Not even if only the pieces of an experiment that was stopped are there.
    """
    findings, out = cohesion
    folder = out / "cohesion"
    made = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npz")}
    assert len(made) == findings.data.sizes["exponent"]
    for said in ("kept from before", "written"):
        again = run_experiments(
            "single-neuron", EXPERIMENTS, out, only=("cohesion",), quick=True, quiet=True
        )["cohesion"]
        assert f"({said})" in capsys.readouterr().out.replace("\n", " ")
        assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npz")} == made
        assert again.rows == findings.rows
        assert again.data.equals(findings.data)
        spec = json.loads((folder / "done.json").read_text())
        assert spec["quick"]
        (folder / "done.json").unlink()
    assert (folder / "figure.png").stat().st_size > 10_000


def test_names_of_pieces_keep_the_sign_of_a_scale():
    names = {runs.scale_name(exponent) for exponent in (2, -2, 0.5, -0.5, 0)}
    assert len(names) == 5
    letters = {"".join(c for c in name if c.isalnum()) for name in names}
    assert len(letters) == 5


def test_guess_of_the_end_is_when_the_reduced_equation_ends():
    """Assert it against Euler's method for the bundle from half the teacher on."""
    problem, found = single_neuron(jax.random.key(3), 4)
    teacher, inputs = np.asarray(found.teacher), np.asarray(problem.inputs)
    scatter = inputs.T @ inputs / 4
    bundle, t, step = 0.5 * teacher, 0.0, 0.02
    while 0.5 * (teacher - bundle) @ scatter @ (teacher - bundle) > 1e-9:
        size = np.linalg.norm(bundle)
        force = scatter @ (teacher - bundle)
        bundle = bundle + step * (size * force + bundle * (bundle @ force) / size)
        t += step
    guess = runs._guessed_end(problem, -10.0, 1e-9)
    start = 10 / np.linalg.norm(np.asarray(found.gamma))
    assert 1.0 < (guess - start) / t < 1.6


def test_bound_of_cohesion_by_hand():
    # 4^-8 to the power 1/4 is 1/16; 1 - 4/16 = 3/4.
    assert runs.cohesion_bound(-8) == pytest.approx(math.degrees(math.acos(0.75)), abs=1e-12)
    assert runs.cohesion_bound(0) == 180


def test_start_has_the_published_law(tmp_path):
    """Assert that squares of all inner weights sum to the square of the scale, in the mean."""
    workspace = Workspace(tmp_path, True, 0, True, "x")
    problem, _, key = runs.draw(workspace, 4, "capped", 0)
    network = runs.start(key, problem, 20_000, -7)
    total = 2 * float(jax.nn.logsumexp(2 * network.log_norm()) / 2)
    assert total == pytest.approx(-14 * math.log(4), abs=0.03)
    assert isinstance(network, rf.TwoLayerReLU)


def test_crossings_are_interpolated():
    times = np.array([1.0, 2.0, 4.0])
    gap = np.array([[1.0, 1.0, -1.0], [-1.0, 0.5, -2.0], [-2.0, 0.25, -3.0]])
    found = _crossings(times, gap)
    assert found[0] == 1.5
    assert np.isnan(found[1:]).all()


def test_per_step_reads_a_power_law():
    exponents = np.array([-2.0, -5.0, -9.0])
    assert runs.per_step(7 * 16.0**exponents, exponents) == pytest.approx(16.0, rel=1e-12)


def test_what_angles_have_yet_to_change():
    """Assert by Euler's method for two nearly aligned neurons that learn a teacher."""
    teacher = np.array([1.0, 0.0, 0.0])
    inputs = np.array([[1.0, 0.5, 0.0], [1.0, -0.3, 0.5], [1.0, -0.2, -0.5]])
    scatter = inputs.T @ inputs / 3
    inner = 0.45 * np.array([[0.95, 0.25, 0.1], [0.95, 0.2501, 0.1]])
    outer = np.linalg.norm(inner, axis=1)

    def angle_and_square_norm():
        a, b = inner / np.linalg.norm(inner, axis=1, keepdims=True)
        return np.linalg.norm(np.cross(a, b)), np.sum(inner**2) + np.sum(outer**2)

    before, square_norm = angle_and_square_norm()
    for _ in range(20_000):
        force = scatter @ (teacher - outer @ inner)
        inner, outer = inner + 1e-2 * outer[:, None] * force, outer + 1e-2 * inner @ force
    after, last = angle_and_square_norm()
    assert last == pytest.approx(2.0, abs=1e-6)
    assert runs.unfinished(square_norm) == pytest.approx(1 - after / before, rel=1e-2)
    assert runs.unfinished(last) < 1e-6


def test_second_tolerances_are_counted():
    """Assert that runs that were not made are not counted."""
    row = runs.second_row(xr.DataArray([0.0, 1.0, np.nan, 1.0]))
    assert row.measured == 2
    assert row.note.startswith("of 3:")

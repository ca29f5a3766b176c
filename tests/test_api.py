"""The public face: names, lightness, the command line and its files."""

import inspect
import os
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import relu_flow as rf

NAMES = [
    "AbstractLoss", "Crossing", "Departure", "DescentTrajectory", "ExponentialLoss",
    "FlowField", "Frame", "Frozen", "Latest", "LimitTrajectory", "LogisticLoss", "Milestone",
    "Outlook", "Phase", "PhaseTimes", "PlanarRun", "Problem", "Progress", "RESULTS", "Scheme",
    "SquareLoss", "Study", "SwitchEvent", "SwitchKind", "SwitchLog", "Taylor", "Trajectory",
    "TwoLayerReLU", "balanced_init", "clusters_check", "compare", "descent", "digits",
    "dual_basis_check", "early_alignment_init", "find_threshold", "gaussian_init", "limit_flow",
    "multi_phase_init", "norm_agrees_with_rank", "norm_disagrees_with_rank", "open_study",
    "orthogonal", "orthogonality_check", "orthogonally_separable", "outlook", "planar",
    "run_study", "separability_check", "several_neurons", "single_neuron", "single_neuron_init",
    "solve", "teacher_check", "teachers_check", "three_points", "three_points_check",
    "three_points_experiment", "time_phases", "two_clusters", "unbalanced_init",
    "with_bias",
]  # fmt: skip
LOADED = "{'jax', 'equinox', 'numpy', 'relu_flow.flow'} & set(sys.modules)"


def test_public_names():
    """Assert that adding or losing a public name is a visible change, and each can be had."""
    # Modules are names too, once anything has imported them.
    is_module = lambda name: inspect.ismodule(vars(rf).get(name))
    found = [name for name in dir(rf) if not name.startswith("_") and not is_module(name)]
    assert found == NAMES
    assert rf.__all__ == NAMES
    for name in NAMES:
        assert getattr(rf, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'solves'"):
        _ = rf.solves


def run(*arguments, cwd=None, env=None):
    """Run a Python process and return it."""
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=cwd, env=env
    )


def test_importing_is_light():
    """Assert that the library needs no plotting or tables, and the command's help no JAX."""
    code = (
        "import sys, relu_flow; relu_flow.solve; "
        "print({'matplotlib', 'pandas', 'xarray'} & set(sys.modules))"
    )
    assert run("-c", code).stdout.strip() == "set()"
    code = (
        "import sys, relu_flow; relu_flow.find_threshold; "
        "print({'xarray', 'pandas', 'scipy.stats'} & set(sys.modules))"
    )
    assert run("-c", code).stdout.strip() == "set()"
    ask = "import sys\nsys.argv = ['relu-flow', '--help']\n"
    for use in ("import relu_flow.app.cli", ask + "from relu_flow.app.cli import main\nmain()"):
        done = run("-c", f"import atexit, sys\natexit.register(lambda: print({LOADED}))\n{use}")
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "set()"
    assert "digits" in done.stdout


def test_names_are_had_in_every_way():
    """Assert what came before from importing everything: names, all of them, and modules."""
    code = (
        "import relu_flow\nfrom relu_flow import *\nfrom relu_flow import Problem as P\n"
        "print(solve is relu_flow.solve is relu_flow.flow.solve.solve, P is Problem, "
        "relu_flow.observe.milestones.Milestone is Milestone, 'Study' in globals())"
    )
    done = run("-c", code)
    assert done.stdout.split() == ["True"] * 4, done.stderr


def test_library_never_touches_global_configuration():
    """Assert that importing leaves JAX in float32 and adds no cache."""
    code = (
        "import jax, relu_flow; "
        "print(jax.config.jax_enable_x64, jax.config.jax_compilation_cache_dir)"
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    assert run("-c", code, env=plain).stdout.strip() == "False None"


def test_digits_command_writes_what_it_says(tmp_path):
    """Assert that a small run reports, draws, and writes a file that xarray opens."""
    done = run(
        "-m", "relu_flow.app.cli", "digits", "--images", "20", "--width", "6", "--end", "30",
        "--times", "20", "--scale", "1e-3", "--out", "run", "--no-cache", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for phrase in ("theorem's sign", "stable rank", "slide enter", "wall time", "loss 0.5"):
        assert phrase in done.stdout
    assert (tmp_path / "run" / "run.png").stat().st_size > 20_000
    with xr.open_dataset(tmp_path / "run" / "run.nc", engine="h5netcdf") as data:
        assert data.sizes["neuron"] == 6
        assert float(data["loss"][0]) == pytest.approx(1.0, abs=1e-3)
        assert float(data["loss"][-1]) < 0.2
        assert np.all(np.diff(data["loss"]) <= 1e-9)
        assert data.attrs["images"] == 20
        assert data.attrs["result"] == "successful"
        assert data.sizes["switch"] > 10
    assert not (tmp_path / "run" / "checkpoint").exists()


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [("--width", "0", "width"), ("--images", "5000", "images"), ("--classes", "3", "classes")],
)
def test_digits_command_refuses_bad_input(tmp_path, option, value, word):
    """Assert that a wrong option is named in one line, without a traceback."""
    done = run("-m", "relu_flow.app.cli", "digits", option, value, "--no-cache", cwd=tmp_path)
    assert done.returncode != 0
    assert word in (done.stderr + done.stdout).lower()
    assert "Traceback" not in done.stderr


def test_the_command_says_what_it_needs():
    """Assert that who installed the library alone is told what to install, without a traceback."""
    done = run("-c", "import sys; sys.modules['cyclopts'] = None; import relu_flow.app.cli")
    assert done.returncode == 1
    assert done.stderr.strip() == (
        'The command `relu-flow` needs cyclopts: pip install "relu-flow[app]"'
    )

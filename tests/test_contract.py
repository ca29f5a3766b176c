"""What users hold in their hands stays: commands and options, modules of theory, studies kept."""

import importlib
import inspect
import shutil
from pathlib import Path

import numpy as np
import pytest

import relu_flow as rf
from relu_flow.study.run.collect import collect
from relu_flow.study.run.store import Store

from .test_api import run

KEPT = Path(__file__).parent / "study" / "kept_store"
COMMANDS = {
    "digits": "classes images width scale seed loss end rtol times max-slides out no-cache quiet",
    "reproduce": "only quick seed out no-cache quiet paper",
    "question": "quick seed out workers no-cache quiet name",
    "study validate": "workers spec",
    "study run": "out dask workers no-cache quiet spec",
    "study worker": "out shard workers no-cache quiet spec",
    "study collect": "netcdf partial folder",
    "report": "out run no-fan no-cache folder",
}
THEORY = {
    "early_alignment": "Claim Constants Evidence Verdict claims constants examine restated",
    "single_neuron": "Claim Constants Verdict claims constants examine theorem_8 yardstick",
    "multi_phase": "Claim Constants Course Outputs TwoPoints Verdict claims constants "
    "deactivation_time_small_angle escape_time_small_angle examine living_fractions side_rates "
    "slide_weights survival_angle survives",
    "norm_rank": "ConeQuantity better_interpolator cone_quantity setting theorem_8",
    "verdict": "Claim Comparison Evidence Flow Hypothesis Outcome Switching Verdict table",
    "yardstick": "Stage Yardstick yardstick",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_keep_their_options(command):
    code = f"import sys\nsys.argv = ['relu-flow', *{command.split()}, '--help']\n"
    done = run("-c", code + "from importlib.metadata import entry_points\n"
               "entry_points(group='console_scripts')['relu-flow'].load()()")  # fmt: skip
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    for option in COMMANDS[command].split():
        assert f"--{option}" in words, option


@pytest.mark.parametrize("paper", THEORY)
def test_theory_keeps_its_modules(paper):
    module = importlib.import_module(f"relu_flow.theory.{paper}")
    for name in THEORY[paper].split():
        assert hasattr(module, name), name
    assert getattr(importlib.import_module("relu_flow.theory"), paper) is module


@pytest.mark.parametrize("folder", ["statistics", "threshold"])
def test_names_of_a_folder_can_be_had(folder):
    module = importlib.import_module(f"relu_flow.study.{folder}")
    assert len(module.__all__) >= 3
    for name in module.__all__:
        assert getattr(module, name).__name__ == name


def test_modules_that_the_readme_names_stay():
    from relu_flow.observe import angle, kernel, margin, observables, rank, schemes
    from relu_flow.report.dataset import save, to_dataset

    for thing in (angle, kernel, margin, observables, rank, schemes):
        assert inspect.ismodule(thing)
    assert callable(save)
    assert callable(to_dataset)


def test_a_study_kept_by_an_earlier_version_is_read(tmp_path):
    """The store was written at commit b5d6341; its numbers are copied from what it printed."""
    shutil.copytree(KEPT, tmp_path / "study")
    study = Store.open(tmp_path / "study").study
    assert study.hash == "0492999eadd655eae8bbf5d2c8acb8dec22d9580b0e790adf95997a6e5ab6184"
    progress = rf.run_study(study, tmp_path / "study")
    assert (progress.done, progress.fresh) == (2, 0), "what is kept is not done again"
    collect(tmp_path / "study")
    tree = rf.open_study(tmp_path / "study")
    np.testing.assert_allclose(
        tree["milestones"]["milestone_time"].to_numpy().ravel(), [3.88651001, np.inf], rtol=1e-8
    )
    np.testing.assert_allclose(
        tree["end"]["loss"].to_numpy().ravel(), [0.44887316, 2.17060992], rtol=1e-8
    )
    assert list(tree["runs"]["switches"].to_numpy().ravel()) == [12, 14]

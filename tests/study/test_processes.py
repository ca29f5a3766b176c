"""Studies in processes of their own: killed, on two devices, by the command line, by Dask."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from relu_flow.study.run.store import Store

TOML = """
seeds = 12
widths = 5
scales = 1e-2
t1 = 1.0
batch = 2
[data]
family = "orthogonally_separable"
samples = 4
features = 3
mu = 0.5
"""
TWO_DEVICES = """
import os, sys
os.environ["PJRT_NPROC"] = "1"
os.environ["JAX_CPU_ENABLE_ASYNC_DISPATCH"] = "false"
import jax
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", 2)
import relu_flow as rf
from relu_flow.experiment.jax_settings import use_cache
from relu_flow.study.run import runner
use_cache()
used = set()
original = runner.do_chunk
def noted(programs, store, chunk, device):
    used.add(device.id)
    return original(programs, store, chunk, device)
runner.do_chunk = noted
rf.run_study(rf.Study.from_toml(sys.argv[1]), sys.argv[2])
print(sorted(used))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a spec, and with compiled programs once they have been compiled."""
    path = tmp_path_factory.mktemp("studies")
    (path / "spec.toml").write_text(TOML)
    return path


@pytest.fixture(scope="module")
def environment(place):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "PJRT_"))}
    return {**kept, "XDG_CACHE_HOME": str(place / "cache")}


@pytest.fixture(scope="module")
def two_devices(place, environment):
    """A study that ran on two devices; it fills the cache of compiled programs."""
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES, "spec.toml", "devices"],
        cwd=place, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def whole(place, environment, two_devices):
    """The data of a study that ran undisturbed on one device."""
    done = command(place, environment, "run", "spec.toml", "--out", "whole", "--quiet")
    assert done.returncode == 0, done.stderr
    assert "12 of 12 runs: 12 successful" in done.stdout
    return data(place / "whole")


def data(path):
    return {p.parent.name: p.read_bytes() for p in (path / "chunks").glob("*/data.npz")}


def started(place, environment, *arguments):
    line = [sys.executable, "-m", "relu_flow.app.cli", "study", *arguments]
    return subprocess.Popen(line, cwd=place, env=environment, stderr=subprocess.DEVNULL)


def command(place, environment, *arguments):
    line = [sys.executable, "-m", "relu_flow.app.cli", "study", *arguments]
    return subprocess.run(
        line, cwd=place, env=environment, capture_output=True, text=True, check=False
    )


def test_killed_and_resumed(place, environment, whole):
    chosen, path = random.Random(0), place / "killed"
    for killed in range(2):
        process = started(place, environment, "run", "spec.toml", "--out", "killed")
        patience = time.monotonic() + 120
        while len(data(path)) <= killed and process.poll() is None:
            assert time.monotonic() < patience
            time.sleep(0.002)
        time.sleep(0.02 * chosen.random())
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(data(path)) >= 1
    done = command(place, environment, "run", "spec.toml", "--out", "killed")
    assert done.returncode == 0, done.stderr
    assert "12/12 runs" in done.stderr
    assert data(path) == whole
    assert not list((path / "chunks").glob(".*"))


def test_two_devices(place, two_devices, whole):
    assert two_devices.split("\n")[-2] == "[0, 1]"
    assert data(place / "devices") == whole


@pytest.mark.slow
def test_ctrl_c_leaves_a_store_that_can_be_resumed(place, environment, whole):
    process = subprocess.Popen(
        [sys.executable, "-m", "relu_flow.app.cli", "study", "run", "spec.toml", "--out", "ctrl"],
        cwd=place, env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not data(place / "ctrl"):
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    if process.returncode != 0:
        assert process.returncode == 130
        assert "the same command goes on from ctrl" in said
    assert command(place, environment, "run", "spec.toml", "--out", "ctrl").returncode == 0
    assert data(place / "ctrl") == whole


@pytest.mark.slow
def test_shards_of_the_command_line(place, environment, whole):
    for shard in ("0/2", "1/2"):
        done = command(
            place, environment, "worker", "spec.toml", "--out", "shards", "--shard", shard
        )
        assert done.returncode == 0, done.stderr
    assert data(place / "shards") == whole
    done = command(place, environment, "collect", "shards", "--netcdf")
    assert done.returncode == 0, done.stderr
    assert (place / "shards" / "study.nc").exists()
    done = command(place, environment, "worker", "spec.toml", "--out", "shards", "--shard", "2/2")
    assert done.returncode == 2
    assert "`shard` must be i/n" in done.stderr


@pytest.mark.slow
def test_dask(place, environment, whole):
    done = command(place, environment, "run", "spec.toml", "--out", "dask", "--dask", "local:2")
    assert done.returncode == 0, done.stderr
    assert data(place / "dask") == whole


@pytest.mark.slow
def test_a_scheduler_that_is_not_there(place, environment):
    done = command(
        place, environment, "run", "spec.toml", "--out", "none", "--dask", "tcp://127.0.0.1:1"
    )
    assert done.returncode == 2
    assert "No scheduler answers at tcp://127.0.0.1:1" in done.stderr
    assert Store.open(place / "none").failures() == {}
    shutil.rmtree(place / "none")

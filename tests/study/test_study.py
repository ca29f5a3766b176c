"""Studies that are run: numbers against direct solves, resuming, damage, shards, collecting."""

import errno
import json
import math
import os
import shutil

import jax
import numpy as np
import pandas as pd
import pytest

import relu_flow as rf
from relu_flow.flow.loop import result
from relu_flow.observe import observables
from relu_flow.report.page.data import Collected
from relu_flow.study.declare.plan import Plan
from relu_flow.study.declare.record import COUNTS, RESULT_NAMES
from relu_flow.study.run import batch, runner, store as stores
from relu_flow.study.run.collect import collect
from relu_flow.study.run.store import Store, StoreError

SEEDS, SCALES, MUS, END = (0, 1, 5), (1e-2, 1e-3), (0.5, 0.7), 8.0
SPEC = {
    "data": {"family": "orthogonally_separable", "samples": 4, "features": 3, "mu": MUS},
    "seeds": SEEDS,
    "widths": 5,
    "scales": SCALES,
    "t1": END,
    "batch": 5,
    "max_steps": 55,  # seed 1 needs 60 to 64, the others 42 to 50
    "milestones": [{"observable": "loss", "level": 2.0, "direction": -1, "name": "half"}],
    "record": {
        "end": ["loss", "stable_rank"],
        "times": [1.0],
        "at_times": ["loss"],
        "at_milestones": ["loss"],
        "switches": True,
    },
}


@pytest.fixture(scope="module")
def study():
    return rf.Study(**SPEC)


@pytest.fixture(scope="module")
def folder(study, tmp_path_factory):
    """A study that ran undisturbed in one thread."""
    path = tmp_path_factory.mktemp("whole")
    state = rf.run_study(study, path, workers=1)
    assert (state.done, state.total, state.fresh, state.broken) == (12, 12, 12, {})
    assert state.results == {"successful": 8, "max_steps_reached": 4}
    assert state.failures == 4
    collect(path)
    return path


@pytest.fixture
def copy(folder, tmp_path):
    """A copy of it that may be spoilt."""
    shutil.copytree(folder / "chunks", tmp_path / "study" / "chunks")
    shutil.copy(folder / "spec.json", tmp_path / "study")
    return tmp_path / "study"


def same_files(one, other):
    """Assert that two folders' collected files are equal byte for byte."""
    names = sorted(p.relative_to(one) for p in (one / "study.zarr").rglob("*") if p.is_file())
    assert names
    there = sorted(p.relative_to(other) for p in (other / "study.zarr").rglob("*") if p.is_file())
    assert names == there
    for name in [*names, "runs.parquet", "switches.parquet"]:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def chunk_times(path):
    return {p: p.stat().st_mtime_ns for p in sorted((path / "chunks").glob("*/data.npz"))}


def test_runs_are_what_solve_gives(folder):
    tree = rf.open_study(folder)
    half = rf.Milestone(observables.loss, 2.0, -1, "half")
    table = pd.read_parquet(folder / "switches.parquet")
    runs = pd.read_parquet(folder / "runs.parquet")
    for seed, scale, mu in ((0, 1e-2, 0.7), (5, 1e-3, 0.5)):
        key = jax.random.fold_in(jax.random.key(0), seed)
        problem, _ = rf.orthogonally_separable(jax.random.fold_in(key, 0), 4, 3, mu)
        network = rf.balanced_init(jax.random.fold_in(key, 1), 5, 3, math.log(scale))
        direct = rf.solve(problem, network, END, ts=[1.0, END], milestones=[half])
        at = {"seed": seed, "log_scale": math.log(scale), "mu": mu}
        read = lambda name, at=at: tree[name].sel(at, method="nearest").to_numpy()
        assert read("runs/result") == 0
        np.testing.assert_allclose(
            read("milestones/milestone_time"), [direct.milestones["half"].time], rtol=1e-9
        )
        np.testing.assert_allclose(
            read("end/loss"), observables.loss(problem, direct.network), rtol=1e-9
        )
        first = jax.tree.map(lambda leaf: leaf[0], direct.networks)
        np.testing.assert_allclose(
            read("times/loss"), [observables.loss(problem, first)], rtol=1e-9
        )
        assert read("runs/switches") == direct.stats["switches"] >= 3
        row = runs[
            (runs.seed == seed) & (runs.mu == mu) & np.isclose(np.exp(runs.log_scale), scale)
        ]
        mine = table[table.run == row.run.item()].reset_index(drop=True)
        wanted = direct.switches.to_pandas()
        np.testing.assert_allclose(mine.time, wanted.time, rtol=1e-9)
        for name in ("neuron", "sample", "kind"):
            assert mine[name].astype(str).tolist() == wanted[name].astype(str).tolist()


def test_observables_at_a_milestone_are_taken_then(folder):
    milestones = rf.open_study(folder)["milestones"].to_dataset()
    reached = np.isfinite(milestones["milestone_time"].to_numpy())
    assert reached.sum() >= 8
    loss = milestones["loss"].to_numpy()
    np.testing.assert_allclose(loss[reached], 2.0, rtol=1e-9)
    assert np.all(np.isnan(loss[~reached]))


def test_numbers_are_not_compiled_in(folder, tmp_path):
    """Assert that a study of other numbers, which shares the programs, has its own results."""
    milestone = {**SPEC["milestones"][0], "level": 1.5}
    data = {**SPEC["data"], "mu": 0.6}
    record = {**SPEC["record"], "times": [2.0]}
    changed = {"milestones": [milestone], "data": data, "record": record, "seeds": 2}
    known = len(batch._COMPILED._known)
    rf.run_study(rf.Study(**{**SPEC, **changed, "t1": 6.0, "scales": 1e-2}), tmp_path, workers=1)
    assert len(batch._COMPILED._known) == known
    collect(tmp_path)
    one, other = rf.open_study(tmp_path), rf.open_study(folder)
    np.testing.assert_allclose(one["milestones/loss"].to_numpy(), 1.5, rtol=1e-9)
    assert np.all(one["runs/end_time"] == 6.0)
    assert np.all(one["times/loss"].to_numpy()[:, 0] < other["times/loss"].to_numpy()[0, 0, :2, 0])


def test_runs_end_at_the_milestone_until(folder, tmp_path):
    milestones = [*SPEC["milestones"], {"observable": "loss", "level": 0.5, "name": "low"}]
    study = rf.Study(**{**SPEC, "scales": 1e-2, "milestones": milestones, "until": "half"})
    rf.run_study(study, tmp_path, workers=1)
    collect(tmp_path)
    tree, whole = rf.open_study(tmp_path), rf.open_study(folder)
    good = tree["runs/result"] == 0
    assert good.all()
    times = tree["milestones/milestone_time"]
    np.testing.assert_array_equal(tree["runs/end_time"], times.sel(milestone="half"))
    assert np.isinf(times.sel(milestone="low")).all()
    np.testing.assert_allclose(tree["end/loss"].to_numpy(), 2.0, rtol=1e-9)
    here, there = (
        times.sel(milestone="half"),
        whole["milestones/milestone_time"].to_numpy()[0, ..., 0],
    )
    known = np.isfinite(there)
    assert known.sum() >= 4
    np.testing.assert_allclose(here.to_numpy()[known], there[known], rtol=1e-9)
    page = Collected(tmp_path)
    assert page.end == here.max()
    half, low = page.quantities[:2]
    np.testing.assert_allclose(
        page.medians(half)[0].estimate, np.median(here.to_numpy()[0]), rtol=1e-12
    )
    assert np.isinf(page.medians(low)[0].estimate)


@pytest.mark.parametrize(
    "part",
    [
        {"until": "half"},
        {"max_steps": 54},
        {"max_switches": 99},
        {"max_slides": 3},
        {"batch": 6},
        {"root": 1},
        {"vary": "data"},
        {"initialiser": "gaussian"},
        {"loss": "logistic"},
        {"reduction": "mean"},
        {"train": "inner"},
        {"milestones": [{**SPEC["milestones"][0], "direction": 1}]},
        {"record": {**SPEC["record"], "end": ["loss"]}},
        {"record": {**SPEC["record"], "times": [1.0, 2.0]}},
    ],
)
def test_what_is_compiled_in_parts_programs(study, part):
    assert batch._compiled_in(rf.Study(**{**SPEC, **part})) != batch._compiled_in(study)


def test_lanes_that_fail_have_a_code_and_nan(folder):
    tree = rf.open_study(folder)
    meanings = tree["runs/result"].attrs["flag_meanings"].split()
    for seed in SEEDS:
        point = {"seed": seed}
        runs = tree["runs"].to_dataset().sel(point)
        ends = {meanings[code] for code in runs["result"].to_numpy().ravel()}
        loss = tree["end/loss"].sel(point)
        if seed == 1:
            assert ends == {"max_steps_reached"}
            assert np.all(runs["steps"] == 55)
            assert np.all(np.isnan(loss))
            assert np.all((runs["end_time"] > 0) & (runs["end_time"] < END))
            times = tree["milestones/milestone_time"].sel(point).to_numpy()
            assert not np.any(np.isinf(times))  # not reached is not known
        else:
            assert ends == {"successful"}
            assert np.all(np.isfinite(loss))
            assert np.all(runs["end_time"] == END)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("successful", "successful"),
        ("step_underflow", "step_underflow"),
        ("nonfinite", "nonfinite"),
        ("dt_min_reached", "other"),
    ],
)
def test_a_code_is_kept_by_its_name(name, kept):
    assert RESULT_NAMES[int(batch._code(getattr(rf.RESULTS, name)))] == kept


def test_attributes_tell_what_was_run(folder, study):
    tree = rf.open_study(folder)
    assert rf.Study.from_json(tree.attrs["spec"]) == study
    assert tree.attrs["spec_hash"] == study.hash
    assert json.loads(tree.attrs["versions"])["jax"] == jax.__version__
    assert "gradient-flow time" in tree["runs/end_time"].attrs["units"]
    assert tree["runs/result"].attrs["flag_meanings"].split()[0] == "successful"
    assert tree["runs/switches"].dims == ("log_scale", "mu", "seed")


def test_workers_do_not_matter(folder, study, tmp_path):
    rf.run_study(study, tmp_path, workers=3)
    collect(tmp_path)
    same_files(folder, tmp_path)


def test_shards_make_one_study(folder, study, tmp_path):
    for part in (1, 0):
        state = rf.run_study(study, tmp_path, workers=1, shard=(part, 2))
        assert state.done == state.total < 12
    collect(tmp_path)
    same_files(folder, tmp_path)


def test_resuming_does_only_what_is_missing(folder, copy, study):
    missing = sorted((copy / "chunks").iterdir())[1]
    shutil.rmtree(missing)
    before = chunk_times(copy)
    state = rf.run_study(study, copy)
    assert state.fresh == 5
    after = chunk_times(copy)
    assert {path: after[path] for path in before} == before
    assert len(after) == len(before) + 1
    collect(copy)
    same_files(folder, copy)


def test_a_damaged_chunk_is_moved_aside_and_done_again(folder, copy, study):
    data = sorted((copy / "chunks").glob("*/data.npz"))[0]
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="1 of 3 chunks"):
        collect(copy)
    state = rf.run_study(study, copy)
    assert state.damaged == [0]
    assert state.fresh == 5
    assert len(list((copy / "damaged").iterdir())) == 1
    collect(copy)
    same_files(folder, copy)


def test_a_store_of_another_study_is_refused(copy):
    before = chunk_times(copy)
    other = rf.Study(**{**SPEC, "rtol": 1e-9, "seeds": 2})
    with pytest.raises(ValueError, match=r"is of another: `rtol` is 1e-12 there, .*`seeds`"):
        rf.run_study(other, copy)
    assert chunk_times(copy) == before


def test_a_spec_changed_by_hand_is_refused(copy, study):
    text = (copy / "spec.json").read_text()
    (copy / "spec.json").write_text(text.replace('"t1": 8.0', '"t1": 9.0'))
    with pytest.raises(ValueError, match="changed by hand"):
        rf.run_study(study, copy)


def test_a_chunk_that_raises_is_noted_and_the_rest_goes_on(folder, study, tmp_path, monkeypatch):
    original = runner.do_chunk

    def poisoned(programs, store, chunk, device):
        if chunk.index == 1:
            raise RuntimeError("poison")
        return original(programs, store, chunk, device)

    monkeypatch.setattr(runner, "do_chunk", poisoned)
    state = rf.run_study(study, tmp_path)
    assert state.broken == {1: "RuntimeError: poison"}
    assert state.done == 7
    assert Store.open(tmp_path).failures() == {1: "RuntimeError: poison"}
    with pytest.raises(ValueError, match=r"1 of 3 chunks.* \(1 raised\)"):
        collect(tmp_path)
    collect(tmp_path, partial=True)
    part = pd.read_parquet(tmp_path / "runs.parquet")
    assert part.result.isna().sum() == 5
    assert set(part.run[part.end_loss.isna()]) == {*range(5, 10), 1, 4, 10}  # seed 1 fails
    monkeypatch.undo()
    assert rf.run_study(study, tmp_path).broken == {}
    assert Store.open(tmp_path).failures() == {}
    collect(tmp_path)
    same_files(folder, tmp_path)


@pytest.mark.parametrize(
    ("code", "message"), [(errno.ENOSPC, "disk .* is full"), (errno.EACCES, "no permission")]
)
def test_a_disk_that_refuses_ends_the_run_and_leaves_what_is_done(
    folder, study, tmp_path, monkeypatch, code, message
):
    done = 0
    original = os.rename

    def refusing(source, target):
        nonlocal done
        if "chunks" in str(target):
            done += 1
            if done == 2:
                raise OSError(code, os.strerror(code))
        original(source, target)

    monkeypatch.setattr(stores.os, "rename", refusing)
    with pytest.raises(StoreError, match=message):
        rf.run_study(study, tmp_path, workers=1)
    monkeypatch.undo()
    assert len(chunk_times(tmp_path)) >= 1
    assert not list((tmp_path / "chunks").glob(".*"))
    assert rf.run_study(study, tmp_path).done == 12
    collect(tmp_path)
    same_files(folder, tmp_path)


def test_a_file_in_the_way(study, tmp_path):
    (tmp_path / "study").write_text("")
    with pytest.raises(StoreError, match="a file is in the way"):
        rf.run_study(study, tmp_path / "study")


def test_what_a_dead_writer_left_is_removed(copy, study):
    name = f".{stores.socket.gethostname()}-4194305-abcdef"  # above the largest process id
    (copy / "chunks" / name).mkdir()
    alive = f".{stores.socket.gethostname()}-1-abcdef"
    (copy / "chunks" / alive).mkdir()
    Store.create(copy, study).sweep(range(3))
    assert [p.name for p in (copy / "chunks").glob(".*")] == [alive]


def test_float32_is_refused(study, tmp_path):
    with jax.enable_x64(False), pytest.raises(ValueError, match="float64"):
        rf.run_study(study, tmp_path)


def _turns(lanes):
    """Return the turns of each run: its iterations, counted as evaluations here."""
    return lanes["counts"][:, COUNTS.index("evaluations")]


def _waiting(turns, lanes):
    """Return the share of turns that lanes wait if each takes the next run when it is free."""
    free = [0] * lanes
    for number in turns:
        free[int(np.argmin(free))] += number
    return 1 - sum(turns) / (lanes * max(free))


def test_lanes_side_by_side_give_the_same(folder, study, tmp_path, monkeypatch):
    """What a GPU would do: to rounding, for the programs are not the same."""
    monkeypatch.setattr(batch, "batch_form", lambda device: "vmap")
    monkeypatch.setattr(batch, "_RUNS_A_LANE", 2)  # two lanes for five runs
    statistics = result._statistics
    # Sweeps of collocation steps are evaluations as well, but no turns.
    turns_alone = lambda context, state, switches: {
        **statistics(context, state, switches), "evaluations": state.steps.iterations
    }  # fmt: skip
    monkeypatch.setattr(result, "_statistics", turns_alone)
    rf.run_study(study, tmp_path, workers=1)
    collect(tmp_path)
    store = Store.open(tmp_path)
    for chunk in Plan.of(study).chunks:
        receipt, turns = store.receipt(chunk.index), _turns(store.get(chunk.index))
        assert receipt is not None
        assert receipt["waited"] == pytest.approx(_waiting(turns, lanes=2), abs=1e-12)
    for node, name in (("end", "loss"), ("milestones", "milestone_time"), ("runs", "result")):
        mine, other = (rf.open_study(path)[node][name].to_numpy() for path in (tmp_path, folder))
        np.testing.assert_allclose(mine, other, rtol=1e-9)

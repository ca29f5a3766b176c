"""The solve function: transformations, records, dense output, checkpoints, result codes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import relu_flow as rf
from relu_flow.flow.loop.dense import DenseOutput
from relu_flow.observe import observables

from .. import problems

END = 12.0
KEPT = jnp.array([0.0, 0.4, 0.4, 3.0, END])


@pytest.fixture(scope="module")
def base():
    """Return a problem and a network (crossings, slides, deaths)."""
    inputs, targets, network = problems.mixed()
    return rf.Problem(inputs, targets), network


@pytest.fixture(scope="module")
def kept(base):
    """Return the run on them with dense output, and with states at five times."""
    problem, network = base
    return rf.solve(problem, network, END, ts=KEPT, dense=True, max_steps=400)


def test_second_solve_of_one_shape_compiles_nothing(base):
    """Assert that other numbers in the same shapes reuse the compiled program."""
    problem, network = base
    rf.solve(problem, network, END)
    compiled = []

    def listen(event: str, duration_secs: float, **kwargs: str | int):
        del duration_secs, kwargs
        if "backend_compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    inputs, targets, other = problems.mixed(seed=4)
    rf.solve(rf.Problem(inputs, targets), other, 0.5 * END, rtol=1e-10)
    jax.monitoring.clear_event_listeners()
    assert compiled == []


def test_times_cost_no_steps(base):
    """Assert that many times are read off the steps there are anyway, among switches too."""
    problem, network = base
    times = np.unique(np.append(np.geomspace(1e-3, END, 1000), [0.0, 1.0, END]))
    few = np.array([0.0, 1.0, END])
    many, cut, plain = (rf.solve(problem, network, END, ts=ts) for ts in (times, few, None))
    assert int(many.switches.num) > 10
    for name in ("steps", "truncated_steps", "switches"):
        assert int(many.stats[name]) == int(plain.stats[name])
    assert (
        int(plain.stats["evaluations"])
        <= int(many.stats["evaluations"])
        <= 80 + 2 * int(plain.stats["evaluations"])
    )
    np.testing.assert_array_equal(many.ts, times)
    rows = np.searchsorted(times, few)
    for ours, theirs in zip(
        jax.tree.leaves(many.networks), jax.tree.leaves(cut.networks), strict=True
    ):
        np.testing.assert_allclose(ours[rows], theirs, rtol=1e-10, atol=1e-11)
    # A run that ends at one of the times is there too.
    for k in (200, 500, 800):
        alone = rf.solve(problem, network, times[k]).network
        for ours, theirs in zip(
            jax.tree.leaves(many.networks), jax.tree.leaves(alone), strict=True
        ):
            np.testing.assert_allclose(ours[k], theirs, rtol=1e-10, atol=1e-11)


def test_many_times_and_a_milestone_in_the_same_steps(base):
    """Assert that looks at times and searches for a milestone leave each other alone."""
    problem, network = base
    times = np.linspace(0.0, END, 900)  # as many as above, to the next size that is compiled for
    level = 4.0
    half = rf.Milestone(observables.loss, level, name="half")
    run = rf.solve(problem, network, END, ts=times, milestones=half, until="half")
    found = float(run.milestones["half"].time)
    assert float(run.stats["time"]) == found
    there = times <= found
    np.testing.assert_array_equal(run.ts, np.where(there, times, np.inf))
    losses = jax.vmap(lambda n: observables.loss(problem, n))(run.networks)[there]
    assert 150 < len(losses) < 750
    assert losses[-1] > level > losses[-1] - 2 * (losses[-2] - losses[-1])
    whole = rf.solve(problem, network, END, ts=times)
    for ours, theirs in zip(
        jax.tree.leaves(run.networks), jax.tree.leaves(whole.networks), strict=True
    ):
        np.testing.assert_allclose(ours[there], theirs[there], rtol=1e-10, atol=1e-11)


def test_jit_and_vmap_give_the_same_numbers(base):
    """Assert that a batch of seeds agrees with single runs, switches included."""
    problem, _ = base
    stacked = [problems.mixed(seed)[2] for seed in (3, 4, 5)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *stacked)
    many = jax.jit(jax.vmap(lambda n: rf.solve(problem, n, END)))(batch)
    assert many.switches.time.shape[0] == 3
    for k, network in enumerate(stacked):
        one = rf.solve(problem, network, END)
        num = int(one.switches.num)
        assert int(many.switches.num[k]) == num
        np.testing.assert_allclose(many.switches.time[k, :num], one.switches.time[:num], rtol=1e-11)
        np.testing.assert_array_equal(many.switches.neuron[k, :num], one.switches.neuron[:num])


def test_states_at_ts_dense_output_and_chunks_agree(base, kept, monkeypatch):
    """Assert that states on request, dense output and a watched run are one flow."""
    problem, network = base
    trajectory, seen = kept, []
    np.testing.assert_array_equal(trajectory.ts, KEPT)
    for k, t in enumerate(KEPT):
        saved = jax.tree.map(lambda leaf, k=k: leaf[k], trajectory.networks)
        np.testing.assert_allclose(
            trajectory.network_at(t).directions(), saved.directions(), atol=1e-12
        )
    whole = rf.solve(problem, network, END)
    middle = trajectory.network_at(1.7)
    split = rf.solve(problem, network, 1.7).network
    np.testing.assert_allclose(middle.directions(), split.directions(), atol=1e-11)
    for outside in (-1e-3, END + 1e-3, np.nan):
        with pytest.raises(ValueError, match="Argument `t` must lie"):
            trajectory.network_at(outside)
    # What is put in place of a network, not the network: that would be one program more.
    monkeypatch.setattr(DenseOutput, "_at", lambda self, t: middle)
    many = jax.vmap(trajectory.network_at)(jnp.array([-1e-3, 0.0, 1.7, END, END + 1e-3, np.nan]))
    for leaf, one in zip(jax.tree.leaves(many), jax.tree.leaves(middle), strict=True):
        assert np.all(np.isinf(leaf[jnp.array([0, 4, 5])]))
        np.testing.assert_array_equal(leaf[1:4], jnp.stack([one] * 3))
    watched = rf.solve(problem, network, END, progress=seen.append)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, whole, watched))
    assert [p.t for p in seen] == sorted(p.t for p in seen)
    assert seen[-1].t == END


@pytest.mark.usefixtures("unchecked")
def test_dense_output_is_asked_for_one_time(base):
    """Assert that several times are refused with what to do."""
    with pytest.raises(ValueError, match=r"jax\.vmap"):
        rf.solve(*base, t1=0.1, dense=True).network_at(jnp.array([0.0, 0.1]))


def test_without_dense_output_network_at_says_so(base):
    """Assert that dense output must be asked for."""
    with pytest.raises(ValueError, match="dense output"):
        rf.solve(*base, t1=END).network_at(1.0)


class Interrupt(Exception):
    """Stands for Ctrl-C."""


def test_interrupted_run_goes_on_to_the_same_numbers(base, tmp_path):
    """Assert that a run from a checkpoint is bitwise that of an undisturbed run."""
    problem, network = base
    file = tmp_path / "run.checkpoint"

    def interrupt(progress):
        if progress.steps > 20:
            raise Interrupt

    with pytest.raises(Interrupt):
        rf.solve(problem, network, END, progress=interrupt, checkpoint=file)
    assert file.exists()
    with pytest.raises(ValueError, match="Argument `checkpoint`"):
        rf.solve(problem, network, 2 * END, checkpoint=file)
    steps = []
    resumed = rf.solve(
        problem, network, END, progress=lambda p: steps.append(p.steps), checkpoint=file
    )
    assert steps[0] > 20
    assert not file.exists()
    undisturbed = rf.solve(problem, network, END)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, undisturbed, resumed))


def test_damaged_checkpoint_is_refused(base, tmp_path):
    """Assert that a file that is no checkpoint is named, not read."""
    file = tmp_path / "run.checkpoint"
    file.write_bytes(b"\x00\x01nothing")
    with pytest.raises(ValueError, match="Argument `checkpoint`"):
        rf.solve(*base, t1=END, checkpoint=file)


def test_milestones_are_roots_of_their_observable(base, kept):
    """Assert that levels are met to rounding, in order, and not reached is not a number."""
    problem, network = base
    start = float(problem.loss_value(network))
    milestones = [
        rf.Milestone(observables.loss, start * 0.9, -1, name="fall"),
        rf.Milestone(observables.loss, start * 0.3, name="either"),
        rf.Milestone(observables.loss, start * 0.5, +1, name="rise"),
        rf.Milestone(observables.loss, 1e-9, -1, name="too low"),
        rf.Milestone(observables.accuracy, 0.99, +1, name="fit"),
        rf.Milestone(observables.accuracy, 1.0, +1, name="rest"),
    ]
    trajectory = rf.solve(problem, network, END, milestones=milestones)
    times = {name: float(found.time) for name, found in trajectory.milestones.items()}
    assert times["fall"] < times["either"] < END
    assert times["rise"] == times["too low"] == np.inf
    assert not bool(trajectory.milestones["rise"].reached)
    for name, level in (("fall", 0.9), ("either", 0.3)):
        loss = float(problem.loss_value(kept.network_at(times[name])))
        np.testing.assert_allclose(loss, level * start, rtol=1e-13)
    before, after = (
        float(observables.accuracy(problem, kept.network_at(times["fit"] + gap)))
        for gap in (-1e-9, 1e-9)
    )
    assert before < 0.99 <= after
    # It jumps onto its level here and rests there, and crosses the one below at that time.
    np.testing.assert_allclose(times["rest"], times["fit"], rtol=1e-14)


def test_until_ends_a_run_at_its_milestone(base, kept):
    """Assert that a run that ends at a milestone is the same run, cut off there."""
    (problem, network), whole = base, kept
    times = np.asarray(whole.switches.time)[: int(whole.switches.num)]
    size = observables.squared_parameter_norm
    solve = jax.jit(
        lambda level, other: rf.solve(
            problem, network, END, ts=[END / 2, END], until="size",
            milestones=[rf.Milestone(size, other, 1, "other"),
                        rf.Milestone(size, level, 1, "size")],
        )
    )  # fmt: skip
    # Levels that are crossed just before a switch, just after one, and between two.
    for moment in (*times[[3, 9, 14]] - 1e-7, times[9] + 1e-7, *times[[20, 30]] + 1e-3):
        level = size(problem, whole.network_at(moment))
        for factor in (0.999, 1.001):
            run = solve(level, factor * level)
            assert run.result == rf.RESULTS.successful
            end = float(run.milestones["size"].time)
            np.testing.assert_allclose(end, moment, rtol=1e-9)
            num = int(run.switches.num)
            assert num == np.sum(times < moment)
            np.testing.assert_allclose(run.switches.time[:num], times[:num], rtol=1e-10)
            assert np.all(np.isinf(run.switches.time[num:]))
            assert np.all(np.asarray(run.switches.kind[num:]) == -1)
            there = whole.network_at(moment)
            np.testing.assert_allclose(run.network.directions(), there.directions(), atol=1e-8)
            np.testing.assert_allclose(size(problem, run.network), level, rtol=1e-11)
            assert bool(jnp.isfinite(run.milestones["other"].time)) == (factor < 1)
            np.testing.assert_array_equal(jnp.isfinite(run.ts), [moment >= END / 2, False])
    # As arrays: for Python's numbers it would be compiled again.
    never = solve(*jnp.asarray([1e9, 1e9]))
    assert np.isinf(float(never.milestones["size"].time))
    assert float(never.ts[-1]) == END


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"max_steps": 10}, rf.RESULTS.max_steps_reached),
        ({"max_switches": 5}, rf.RESULTS.max_switches_reached),
        ({"max_slides": 0}, rf.RESULTS.max_slides_reached),
    ],
    ids=["steps", "switches", "slides"],
)
def test_too_small_a_buffer_is_a_result_code(base, options, code):
    """Assert that nothing is cut silently: a code without `throw`, an error with it."""
    trajectory = rf.solve(*base, t1=END, throw=False, **options)
    assert trajectory.result == code
    with pytest.raises(RuntimeError, match="ended early"):
        rf.solve(*base, t1=END, **options)


def test_early_end_pads_what_it_did_not_reach(base):
    """Assert that unreached times are inf and hold the last state, and logs are padded."""
    trajectory = rf.solve(*base, t1=END, ts=[1e-3, END], max_steps=10, throw=False)
    assert float(trajectory.ts[0]) == 1e-3
    assert float(trajectory.ts[1]) == np.inf
    assert np.all(np.isfinite(trajectory.networks.inner_weight))
    reached = float(trajectory.stats["time"])
    assert 1e-3 < reached < END
    with pytest.raises(RuntimeError, match=f"last time {reached:g}"):
        rf.solve(*base, t1=END, ts=[1e-3, END], max_steps=10)
    num = int(trajectory.switches.num)
    assert np.all(np.isinf(trajectory.switches.time[num:]))
    for name in ("neuron", "sample", "kind"):
        assert np.all(np.asarray(getattr(trajectory.switches, name))[num:] == -1)
    assert np.all(np.diff(np.asarray(trajectory.switches.time[:num], float)) >= 0)


def test_vanishing_neuron_rests_and_is_counted():
    """Assert that a neuron whose w reaches zero while it slides stays there, and is told.

    With v = -2 it slides along the hyperplane of x_1 (held there by x_2), and both push it
    down: |w| reaches zero in finite time, while v^2 - |w|^2 = 3.9 leaves v at its root.
    """
    problem = rf.Problem(np.array([[1.0, 0.0], [-0.5, 1.0]]), np.array([1.0, 1.0]))
    network = rf.TwoLayerReLU(np.array([[0.1, 0.3]]), np.array([-2.0]))
    trajectory = rf.solve(problem, network, 5.0)
    assert int(trajectory.stats["vanished"]) == 1
    final = trajectory.network
    np.testing.assert_array_equal(final.inner_weight, 0.0)
    outer = float(np.exp(final.log_scale[0]) * final.outer_weight[0])
    np.testing.assert_allclose(outer, -np.sqrt(4.0 - 0.1), rtol=1e-13)
    table = trajectory.switches.to_pandas()
    kinds = {sample: list(group["kind"]) for sample, group in table.groupby("sample")}
    assert kinds == {0: ["slide_enter", "slide_exit_inactive"], 1: ["deactivate"]}


def test_square_loss_at_rounding_level_is_left_alone():
    """Assert that after convergence no switch is made of noise, and the time is told."""
    inputs, _, network = problems.mixed()
    targets = np.array([0.5, 0.7, 0.2])
    problem = rf.Problem(inputs[:3], targets, rf.SquareLoss())
    trajectory = rf.solve(problem, network, 4000.0)
    settled = float(trajectory.stats["settled"])
    assert settled < 4000.0
    # The third sample has lost all its neurons; the others are fitted to rounding.
    assert np.max(np.abs(problem.predictions(trajectory.network) - targets)[:2]) < 1e-14
    assert float(trajectory.switches.time[int(trajectory.switches.num) - 1]) <= settled


@pytest.mark.parametrize(("log_scale", "most"), [(-20.0, 1.1), (np.log(1e-4), 1.5)])
def test_steps_do_not_grow_with_the_number_of_switches(log_scale, most):
    """Turn all neurons ever further from where they are driven, in one problem of one shape.

    In their cones from the start they have next to no switch, at random hundreds: steps follow
    the growth of the network, which is the same, and switches matter as outputs do. That is so
    of power series; when a tail is first tried, which saves steps, is a matter of chance.
    """
    inputs, targets, network = problems.separable(width=50, log_scale=log_scale)
    problem = rf.Problem(inputs, targets)
    norms = np.abs(np.asarray(network.outer_weight))[:, None]
    signs = np.sign(np.asarray(network.outer_weight))[:, None]
    # A neuron of sign s is driven to the mean of its class, s y_i > 0.
    aim = signs * (targets[:, None] * inputs)[None].mean(1)
    aim = aim / np.linalg.norm(aim, axis=1, keepdims=True)
    start = np.asarray(network.inner_weight) / norms
    counts = []
    for share in (0.0, 0.5, 1.0):
        inner = (1 - share) * aim + share * start
        inner = norms * inner / np.linalg.norm(inner, axis=1, keepdims=True)
        turned = rf.TwoLayerReLU(inner, network.outer_weight, network.log_scale)
        stats = rf.solve(problem, turned, 4.0, solver=rf.Taylor(stiff=False)).stats
        counts.append((int(stats["switches"]), int(stats["steps"])))
        fewer = rf.solve(problem, turned, 4.0).stats
        assert int(fewer["steps"]) <= counts[-1][1]
    switches, steps = zip(*counts, strict=True)
    assert switches[0] < 10
    assert switches[-1] > 500
    assert max(steps) <= most * min(steps), counts

"""Random problems at vanishing scales: steps in closed form find the switches of the series."""

import numpy as np
import pytest

import relu_flow as rf

from . import compare

SHAPE = (8, 8, 8)  # most neurons, samples, features: one bucket, one program a loss and solver
LOSSES = (rf.SquareLoss(), rf.LogisticLoss(), rf.ExponentialLoss())


def draw(seed, loss):
    """Return a problem at a scale between e^-20 and e^-155, a network, and an end."""
    random = np.random.default_rng(seed)
    width, samples, features = (int(random.integers(2, most + 1)) for most in SHAPE)
    inputs = random.normal(size=(samples, features))
    kind = ("generic", "orthogonal", "biased", "grid")[seed % 4]
    if kind == "orthogonal":
        inputs = np.eye(8)[:samples]
    elif kind == "biased":
        inputs[:, 0] = 1.0
    elif kind == "grid":
        inputs = np.round(2 * inputs) / 2
        inputs[~np.any(inputs, axis=1), 0] = 1.0
    targets = random.choice([-1.0, 1.0], samples)
    if isinstance(loss, rf.SquareLoss) and seed % 3:
        targets = random.normal(size=samples)
    inner = random.normal(size=(width, inputs.shape[1]))
    outer = np.linalg.norm(inner, axis=1) * random.choice([-1.0, 1.0], width)
    if seed % 5 == 0:
        outer = outer * random.uniform(0.3, 3.0, width)
    log_scale = -random.choice([25.0, 40.0, 80.0, 150.0])
    network = rf.TwoLayerReLU(inner, outer, log_scale + (seed % 2) * random.uniform(-5, 5, width))
    return rf.Problem(inputs, targets, loss=loss), network, -log_scale * random.uniform(0.5, 3.0)


def paths(run):
    """Return for each pair its switches: times, and sides from then on."""
    switches, count = run.switches, int(run.switches.num)
    kinds = [rf.SwitchKind(int(kind)).name.lower() for kind in switches.kind[:count]]
    pairs = (np.asarray(array)[:count].tolist() for array in (switches.neuron, switches.sample))
    events = list(zip(np.asarray(switches.time)[:count].tolist(), *pairs, kinds, strict=True))
    return compare.paths(events, np.asarray(run.initial_sides))


def shifts(run, other):
    """Return for each pair by how much its switches differ, relative to their times."""
    one, two = paths(run), paths(other)

    def shift(path, another):
        if [side for _, side in path] != [side for _, side in another]:
            return np.inf
        times, others = (np.asarray([time for time, _ in p]) for p in (path, another))
        return np.max(np.abs(times - others) / np.maximum(others, 1e-3))

    return {pair: shift(one.get(pair, []), two.get(pair, [])) for pair in {*one, *two}}


def examine(seed, loss):
    """Return whether there were quiet steps, and for which pairs these matter.

    How well a switch is determined, runs without them at other tolerances tell.
    """
    problem, network, end = draw(seed, loss)
    solve = lambda quiet, rtol: rf.solve(
        problem, network, end, rtol=rtol, solver=rf.Taylor(quiet=quiet), throw=False
    )
    mixed, series = solve(True, 1e-12), solve(False, 1e-12)
    assert mixed.result == series.result, rf.RESULTS[mixed.result]
    moved = {pair: shift for pair, shift in shifts(mixed, series).items() if shift > 1e-10}
    if moved:
        spread = [shifts(series, solve(False, rtol)) for rtol in (1e-11, 1e-13)]
        known = lambda pair: max(shift.get(pair, 0.0) for shift in spread)
        moved = {pair: shift for pair, shift in moved.items() if shift > 1e-10 + 10 * known(pair)}
    return int(mixed.stats["quiet_steps"]) > 0, moved


def test_quiet_steps_change_no_switch():
    found = [examine(seed, LOSSES[0]) for seed in range(16)]
    assert not any(different for _, different in found)
    assert sum(quiet for quiet, _ in found) > 10


def test_what_outputs_change_of_pulls_that_cancel_is_known():
    """Assert that tolerances agree on switches whose times once were 1 % apart."""
    problem, network, end = draw(59, LOSSES[1])
    runs = [rf.solve(problem, network, end, rtol=rtol) for rtol in (1e-10, 1e-12)]
    moved = shifts(*runs)
    assert {(2, 5), (4, 5)} <= set(moved)
    assert max(moved.values()) < 1e-9


@pytest.mark.fuzz
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_quiet_steps_change_no_switch_of_many(loss):
    found = [examine(seed, loss) for seed in range(16, 400)]
    assert not {seed: pairs for seed, (_, pairs) in enumerate(found, 16) if pairs}
    assert sum(quiet for quiet, _ in found) > 200

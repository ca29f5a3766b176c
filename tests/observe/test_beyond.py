"""What is known beyond the end: bounds against closed forms, and what came later."""

import equinox as eqx
import jax
import numpy as np
import pytest

import relu_flow as rf
from relu_flow.observe.observables import loss

TIMES = np.array([0.5, 2.0, 8.0, 32.0, 128.0, 512.0, 3000.0])


def at(trajectory, k):
    """Return a trajectory as if it had ended at time `k` of those asked for."""
    first = jax.tree.map(lambda leaf: leaf[: k + 1], (trajectory.ts, trajectory.networks))
    return eqx.tree_at(lambda t: (t.ts, t.networks), trajectory, first)


def weights(network):
    """Return true weights, a row a neuron."""
    inner = np.exp(network.log_scale)[:, None] * network.inner_weight
    outer = np.exp(network.outer_log_scale) * network.outer_weight
    return np.concatenate([inner, outer[:, None]], axis=1)


def later(trajectory, k):
    """Return who switches after time `k` of those asked for."""
    log, num = trajectory.switches, int(trajectory.switches.num)
    return np.unique(log.neuron[:num][log.time[:num] > trajectory.ts[k]])


def moved(problem, trajectory, k):
    """Return by which share of its size a neuron moves from then to the end, at most."""
    now, end = weights(at(trajectory, k).network), weights(trajectory.network)
    size = np.linalg.norm(now, axis=1) if problem.train == "both" else np.abs(now[:, -1])
    way = np.linalg.norm(end - now, axis=1)
    return np.max(way[size > 0] / size[size > 0])


def draw(seed, train):
    """Return a random problem and network of eight neurons on five samples."""
    random = np.random.default_rng(seed)
    inputs, targets = random.normal(size=(5, 3)), random.normal(size=5)
    inner, outer = random.normal(size=(8, 3)), random.normal(size=8)
    if train == "both" and seed % 3:
        outer = np.sign(outer) * np.linalg.norm(inner, axis=1)
    problem = rf.Problem(inputs, targets, rf.SquareLoss(), train=train)
    return problem, rf.TwoLayerReLU(inner, outer)


@pytest.mark.parametrize("train", ["both", "inner"])
def test_later_runs_keep_to_what_was_said(train):
    """Assert that who is final never switches, that bounds hold, and that they are not idle."""
    ended, bounded, tight = 0, 0, []
    for seed in range(12):
        problem, network = draw(seed, train)
        run = rf.solve(problem, network, 3000.0, ts=TIMES)
        for k in range(len(TIMES)):
            known = rf.outlook(problem, at(run, k))
            assert not np.any(known.final[later(run, k)])
            if np.all(known.final):
                assert known.since <= run.ts[k]
            if np.isfinite(known.distance) and k + 1 < len(TIMES):
                way = moved(problem, run, k)
                assert way <= known.distance
                tight += [known.distance / way] if way > 1e-12 else []
                left = float(loss(problem, at(run, k).network)) - known.limit_loss
                assert left > -1e-14
        last = rf.outlook(problem, run)
        ended += bool(np.all(last.final))
        bounded += bool(np.isfinite(last.distance))
        if last.distance < 1e-9:
            np.testing.assert_allclose(last.limit_loss, loss(problem, run.network), atol=1e-14)
    assert ended >= 2
    assert bounded >= 7
    assert np.median(tight) < 30


def test_one_fitted_sample_with_a_fixed_outer_weight():
    """Assert the distance to the limit: with `w' = -v x r` and `r' = -v^2 x^2 r`, `r / (v x)`."""
    problem = rf.Problem([[0.0, 2.0]], [3.0], rf.SquareLoss(), train="inner")
    network = rf.TwoLayerReLU([[0.3, 0.1]], [1.5])
    for t1 in (0.5, 1.0):
        residual = (2 * 1.5 * 0.1 - 3.0) * np.exp(-(1.5**2) * 4 * t1)
        share = abs(residual) / (1.5 * 2.0) / 1.5
        known = rf.outlook(problem, rf.solve(problem, network, t1))
        np.testing.assert_allclose(known.distance, np.expm1(share), rtol=1e-9)
        assert known.final[0]
        assert known.since == -np.inf
        assert known.limit_loss < 1e-28


def test_balanced_neurons_on_orthogonal_samples():
    """Assert the bound where each neuron grows until `w v` is its target, `v^2 - w^2` staying."""
    targets = np.array([1.0, 2.0])
    problem = rf.Problem(np.eye(2), targets, rf.SquareLoss())
    network = rf.TwoLayerReLU([[0.5, -0.1], [-0.1, 0.5]], [0.26**0.5] * 2)
    square = (-0.01 + np.sqrt(0.01**2 + 4 * targets**2)) / 2
    limit = np.stack([np.sqrt(square), np.sqrt(square + 0.01)], axis=1)
    for t1 in (6.0, 9.0):
        run = rf.solve(problem, network, t1)
        now = weights(run.network)
        way = np.linalg.norm(limit - np.stack([np.diag(now), now[:, -1]], axis=1), axis=1)
        share = np.max(way / np.linalg.norm(now, axis=1))
        known = rf.outlook(problem, run)
        assert 1e-12 < share < known.distance < 6 * share
        assert np.all(known.final)


def test_a_slide_that_is_held_for_ever():
    """Assert that a slide is final where the pulls that hold it do not vanish, and only there.

    The neuron slides along (1, 0) at the hyperplane of the last sample, whose target it cannot
    reach. It fits the mean of the other two: their pulls stay, or vanish if their targets agree.
    """
    inputs = [[1.0, 0.5], [1.0, 0.7], [0.0, 1.0]]
    network = rf.TwoLayerReLU([[1.0, 1e-2]], [1.0])
    held = rf.Problem(inputs, [1.0, 2.0, -1.0], rf.SquareLoss())
    run = rf.solve(held, network, 40.0)
    assert int(run.stats["slides"]) == 1
    known = rf.outlook(held, run)
    assert known.final[0]
    assert known.since == run.switches.time[0]
    np.testing.assert_allclose(known.limit_loss, 0.5 * (0.25 + 0.25 + 1.0), rtol=1e-12)
    fitted = rf.Problem(inputs, [1.5, 1.5, -1.0], rf.SquareLoss())
    known = rf.outlook(fitted, rf.solve(fitted, network, 40.0))
    assert not known.final[0]


def test_signs_decide_on_separable_data():
    """Assert that after the last switch all are final, though the loss falls for ever."""
    problem, _ = rf.orthogonally_separable(jax.random.key(0), samples=6, features=4, mu=0.5)
    network = rf.early_alignment_init(jax.random.key(1), width=8, features=4, log_scale=-3.0)
    run = rf.solve(problem, network, 4.0)
    last = float(run.switches.time[int(run.switches.num) - 1])
    before = rf.outlook(problem, rf.solve(problem, network, 0.99 * last))
    after = rf.outlook(problem, rf.solve(problem, network, 1.01 * last))
    assert not np.all(before.final)
    assert before.since == np.inf
    assert np.all(after.final)
    np.testing.assert_allclose(after.since, last, rtol=1e-12)
    assert after.distance == np.inf
    assert np.isnan(after.limit_loss)


def test_what_is_not_known_is_not_said():
    """Assert that near a saddle, and in the plane of a hyperplane, nothing is promised."""
    problem = rf.Problem(np.eye(2), [1.0, 2.0], rf.SquareLoss())
    # The second sample is fitted; the first neuron has hardly begun to grow.
    network = rf.TwoLayerReLU([[1e-6, -1e-8], [0.0, 2.0**0.5]], [1e-6, 2.0**0.5])
    known = rf.outlook(problem, rf.solve(problem, network, 1.0))
    assert known.distance == np.inf
    # On its short way to the first target the neuron meets the other sample, and takes that up.
    taken = rf.Problem([[1.0, 0.0], [1.0, -1.0]], [1.04, 3.0], rf.SquareLoss(), train="inner")
    network = rf.TwoLayerReLU([[1.0, 1.01]], [1.0])
    known = rf.outlook(taken, rf.solve(taken, network, 0.01))
    assert known.distance == np.inf
    assert int(rf.solve(taken, network, 20.0).switches.num) == 1
    # Weights at zero may leave it.
    inner = rf.Problem([[1.0, 0.0], [-1.0, 0.0]], [0.0, 0.0], rf.SquareLoss(), train="inner")
    asleep = rf.solve(inner, rf.TwoLayerReLU([[0.0, 0.0]], [1.0]), 1.0)
    assert not rf.outlook(inner, asleep).final[0]


@pytest.mark.usefixtures("unchecked")
def test_printed_and_refused():
    problem, network = draw(4, "both")
    run = rf.solve(problem, network, 3000.0, ts=TIMES)
    said = str(rf.outlook(problem, run))
    assert "8 of 8 neurons never switch again" in said
    assert "tends to" in said
    with pytest.raises(ValueError, match="Argument `trajectory` must be one run"):
        rf.outlook(problem, jax.tree.map(lambda leaf: leaf[None], run))
    with pytest.raises(ValueError, match="Argument `trajectory` must be what `solve` returns"):
        rf.outlook(problem, network)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="Argument `problem` must be a `Problem`"):
        rf.outlook(network, run)  # pyright: ignore[reportArgumentType]
    other = rf.Problem(np.eye(3), [1.0, 0.0, 1.0], rf.SquareLoss())
    with pytest.raises(ValueError, match="must be of the problem's 3 samples"):
        rf.outlook(other, run)

"""Shapes in buckets: what is filled up does nothing, and cannot be seen."""

import itertools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import relu_flow as rf
from relu_flow.flow.padding import bucket

TIMES = np.linspace(0.5, 6.0, 5)


def draw(seed, samples, features, width, spread=None, **options):
    """Return a problem and a network; `spread` puts the inputs into a space of its dimension."""
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(samples, features))
    if spread is not None:
        inputs = inputs @ random.normal(size=(features, spread))
    targets = random.normal(size=samples)
    network = rf.TwoLayerReLU(
        random.normal(size=(width, inputs.shape[1])), random.choice([-1.0, 1.0], width), -2.0
    )
    return rf.Problem(inputs, targets, rf.SquareLoss(), **options), network


def exact(problem, network, **options):
    """Solve in the shapes that there are, as a transformed solve does."""
    return jax.jit(lambda: rf.solve(problem, network, 6.0, **options))()


def close(a, b):
    """Assert that two trajectories have the same switches, and the same states to rounding."""
    num = int(a.switches.num)
    assert num == int(b.switches.num) > 0
    for name in ("neuron", "sample", "kind"):
        np.testing.assert_array_equal(
            getattr(a.switches, name)[:num], getattr(b.switches, name)[:num]
        )
    np.testing.assert_allclose(a.switches.time[:num], b.switches.time[:num], rtol=1e-11)
    np.testing.assert_array_equal(a.initial_sides, b.initial_sides)
    np.testing.assert_array_equal(a.ts, b.ts)
    for ours, theirs in zip(jax.tree.leaves(a.networks), jax.tree.leaves(b.networks), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)
    for name in ("slides", "repels", "vanished", "ties"):
        assert int(a.stats[name]) == int(b.stats[name])


@pytest.mark.parametrize("train", ["both", "inner"])
def test_what_is_filled_up_does_nothing(train):
    """Assert that a padded run is that in exact shapes: states, switches, sides and counts."""
    problem, network = draw(0, 5, 3, 6, train=train, reduction="mean")
    close(rf.solve(problem, network, 6.0, ts=TIMES), exact(problem, network, ts=TIMES))


def test_inputs_in_a_plane_of_many_dimensions():
    """Assert the same where the flow is solved in the span of the inputs."""
    problem, network = draw(1, 5, 2, 6, spread=7)
    assert problem.basis is not None
    close(rf.solve(problem, network, 6.0), exact(problem, network))


def test_dense_output_is_cut_to_size():
    """Assert that the state between steps has the network's own shape."""
    problem, network = draw(0, 5, 3, 6)
    trajectory = rf.solve(problem, network, 6.0, ts=TIMES, dense=True)
    for k in (1, 3):
        there = trajectory.network_at(TIMES[k])
        for leaf, rows in zip(
            jax.tree.leaves(there), jax.tree.leaves(trajectory.networks), strict=True
        ):
            np.testing.assert_allclose(leaf, rows[k], rtol=1e-9, atol=1e-10)
    many = jax.vmap(trajectory.network_at)(jnp.asarray(TIMES))
    assert many.inner_weight.shape == (5, 6, 3)


def test_sizes_of_a_bucket_share_a_program():
    """Assert that no size up to the next bucket is compiled again, nor a mean after a sum."""
    compiled = Counter()

    def count(event: str, duration_secs: float, **kwargs: str | int):
        del duration_secs
        compiled[event] += "solve_whole" in str(kwargs.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(count)
    name = "/jax/core/compile/backend_compile_duration"
    try:
        rf.solve(*draw(0, 5, 3, 6), 6.0, ts=TIMES)
        before = compiled[name]
        for samples, features, width in itertools.product((6, 8), (2, 4), (5, 8)):
            rf.solve(*draw(2, samples, features, width), 6.0, ts=TIMES[1:])
        rf.solve(*draw(0, 7, 3, 6, reduction="mean"), 6.0, ts=TIMES)
        # Nor is another limit: a run that was too short is started again at once.
        rf.solve(*draw(0, 5, 3, 6), 6.0, ts=TIMES, max_steps=10, throw=False)
        assert compiled[name] == before
        rf.solve(*draw(0, 9, 3, 6), 6.0, ts=TIMES)
        assert compiled[name] == before + 1
    finally:
        jax.monitoring.unregister_event_duration_listener(count)


def test_buckets_are_few_and_near():
    """Assert that a bucket holds its size, is its own, and soon at most a quarter too large."""
    sizes = np.arange(1, 3000)
    buckets = np.array([bucket(int(size)) for size in sizes])
    assert np.all(buckets >= sizes)
    assert np.all(np.diff(buckets) >= 0)
    assert [bucket(int(size)) for size in set(buckets)] == list(set(buckets))
    assert np.all(buckets[32:] < 1.25 * sizes[32:])
    assert len(set(buckets)) <= 40

"""The search for milestones within a step: on functions whose crossings are known."""

import math

import jax
import jax.numpy as jnp
import numpy as np

import relu_flow as rf
from relu_flow.flow.loop.milestones import (
    Records,
    StepInterval,
    begin_search,
    go_on_searching,
)
from relu_flow.flow.method.clock import Clock
from relu_flow.observe import observables

START, UNIT, LENGTH = 3.0, 0.5, 0.8
OBSERVED = {
    "exponential": (lambda s: jnp.exp(-3 * s) - 0.4, math.log(2.5) / 3),
    "steep": (lambda s: jnp.tanh(400 * (s - 0.3)), 0.3),
    "flat": (lambda s: (s - 0.6) ** 3, 0.6),
    "kinked": (lambda s: jnp.where(s < 0.25, 4 * s, 1 + 0.1 * (s - 0.25)) - 0.99, 0.2475),
    "jump": (lambda s: jnp.where(s < 0.1234, -1.0, 2.0), 0.1234),
    "at the end": (lambda s: s - LENGTH, LENGTH),
    "tiny": (lambda s: s - 1e-9, 1e-9),
    "rests on its level": (lambda s: jnp.where(s < 0.5, 1.0, 0.0), 0.5),
}
ROUNDS = {"exponential": 4, "steep": 5, "kinked": 5, "tiny": 4, "at the end": 2}


def step(start, unit, length, warp=0.0):
    """Return a step's interval."""
    return StepInterval(Clock(*map(jnp.asarray, (start, unit, warp))), jnp.asarray(length))


def records(values):
    """Return the records before a step."""
    never = jnp.full(values.shape, jnp.inf)
    return Records((), jnp.zeros((), jnp.int32), values, never)  # pyright: ignore[reportArgumentType]


def search_for(observed, interval):
    """Return when some functions are found to cross zero in a step, after how many rounds."""
    value = lambda s: jnp.stack([f(s) for f, _ in observed])
    before, any_way = records(value(jnp.array(0.0))), jnp.zeros(len(observed), int)
    search = begin_search(before, interval, value(interval.length), any_way, jnp.array(True))
    rounds = np.zeros(len(observed), int)
    while bool(search.under_way):
        rounds += np.asarray(search.open)
        looks = search.trials()
        seen = jnp.stack([f(at) for (f, _), at in zip(observed, looks, strict=True)])
        search, before = go_on_searching(search, before, interval, seen, until=None)
    return before.time, rounds


def test_crossings_are_found_to_rounding(unchecked):
    """Assert times to the rounding of the run's, of all at once, and in few rounds."""
    interval = step(START, UNIT, LENGTH)
    times, rounds = search_for(list(OBSERVED.values()), interval)
    exact = START + UNIT * np.array([root for _, root in OBSERVED.values()])
    np.testing.assert_allclose(times, exact, rtol=4e-15)
    for name, taken in zip(OBSERVED, rounds, strict=True):
        # An observable that jumps leaves a fifth of the bracket in each round, of 2e-15 of it.
        assert taken <= ROUNDS.get(name, 23), name


def test_crossings_in_a_tail_are_found_to_rounding(unchecked):
    """Assert the time of a crossing where time runs as e^(2s), far from evenly."""
    interval = step(0.0, 1.0, 3.0, warp=2.0)
    times, _ = search_for([(lambda s: s - 1.7, 1.7)], interval)
    np.testing.assert_allclose(times, np.expm1(3.4) / 2, rtol=4e-15)


def test_the_first_of_several_crossings_is_found(unchecked):
    """Assert which of three is found, where looks have seen all."""
    interval = step(0.0, 1.0, 1.0)
    roots = 0.23, 0.52, 0.81
    wave = lambda s: (s - roots[0]) * (s - roots[1]) * (s - roots[2])
    times, _ = search_for([(wave, roots[0])], interval)
    np.testing.assert_allclose(times, roots[0], rtol=4e-15)


def test_derivative_of_a_crossing_is_that_of_its_closed_form(unchecked):
    """Assert d/da of the root log(a)/a of exp(-a s) - 1/a."""

    def time(a):
        interval = step(0.0, 1.0, 1.0)
        observed = [(lambda s: jnp.exp(-a * s) - 1 / a, None)]
        value = lambda s: jnp.stack([f(s) for f, _ in observed])
        before = records(value(jnp.array(0.0)))
        search = begin_search(
            before, interval, value(interval.length), jnp.zeros(1, int), jnp.array(True)
        )
        for _ in range(5):
            seen = observed[0][0](search.trials())
            search, before = go_on_searching(search, before, interval, seen, until=None)
        return before.time[0]

    a = 2.7
    found, slope = jax.jvp(time, (a,), (1.0,))
    np.testing.assert_allclose(found, math.log(a) / a, rtol=4e-15)
    np.testing.assert_allclose(slope, (1 - math.log(a)) / a**2, rtol=1e-12)


def test_a_milestone_costs_few_evaluations_however_many_there_are():
    """Assert the evaluations that eight milestones take beyond those of one that is not reached."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(8, 4))
    problem = rf.Problem(inputs, np.sign(inputs[:, 0]), rf.LogisticLoss())
    network = rf.TwoLayerReLU(random.normal(size=(16, 4)), np.tile([4.0, -4.0], 8), log_scale=-4.0)
    levels = 0.68, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15

    def run(levels):
        milestones = [rf.Milestone(observables.loss, level, -1, f"{level}") for level in levels]
        return rf.solve(problem, network, 60.0, milestones=milestones)

    some, none = run(levels), run([-1.0 - level for level in levels])
    assert all(bool(found.reached) for found in some.milestones.values())
    assert int(some.stats["steps"]) == int(none.stats["steps"])
    # It was about twelve each before all were looked for at once.
    assert int(some.stats["evaluations"]) <= int(none.stats["evaluations"]) + 4 * len(levels)

"""Fingerprints of runs: what changes numbers changes them, and nothing else does."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import relu_flow as rf
from relu_flow.flow.arguments import check_arguments
from relu_flow.flow.pieces import fingerprint as module
from relu_flow.flow.pieces.solve_in_pieces import _fingerprint
from relu_flow.flow.solve import make_options
from relu_flow.observe.observables import loss

X, Y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1.0, -1.0])
NETWORK = rf.TwoLayerReLU(np.array([[1.0, 0.5]]), np.array([1.0]))


class Scaled(eqx.Module):
    """An observable with a number in it."""

    factor: float = eqx.field(static=True)

    def __call__(self, problem, network):
        return self.factor * loss(problem, network)


class Steeper(rf.SquareLoss):
    """Prints like any other; what it computes is in `value`."""

    def value(self, prediction, target):
        return STEEPNESS * (prediction - target) ** 2


STEEPNESS = 0.5


def helper(network):
    return jnp.sum(network.outer_weight)


def of(observable=loss, *, level=0.5, direction=0, problem_loss=None, rtol=1e-9, **options):
    """Return the fingerprint of a solve that watches an observable."""
    problem = rf.Problem(X, Y, problem_loss)
    milestone = rf.Milestone(observable, level, direction, name="it")
    arguments = check_arguments(problem, NETWORK, 0.0, 1.0, None, rtol)
    return _fingerprint(arguments, make_options(problem, NETWORK, milestone, **options))


def captured(value):
    """Return an observable with a value in its closure."""
    return lambda problem, network: jnp.sum(value * network.outer_weight)


def inner_program(value):
    """Return an observable with a value in the closure of a compiled function."""
    return lambda problem, network: jax.jit(lambda w: jnp.sum(value * w))(network.outer_weight)


def times(problem, network, factor):
    return factor * loss(problem, network)


THIRD = 1 / 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (captured(THIRD), captured(THIRD + 1e-15)),
        (captured(np.float64(THIRD)), captured(np.float64(THIRD + 1e-15))),
        (captured(jnp.array([THIRD])), captured(jnp.array([THIRD + 1e-15]))),
        (inner_program(jnp.array([THIRD])), inner_program(jnp.array([THIRD + 1e-15]))),
        (functools.partial(times, factor=1.0), functools.partial(times, factor=2.0)),
        (Scaled(1.0), Scaled(2.0)),
    ],
)
def test_what_an_observable_has_captured(one, other):
    """Assert that observables of one source are told apart by the last digit of their values."""
    assert of(one) == of(one)
    assert of(one) != of(other)


def test_what_an_observable_calls(monkeypatch):
    """Assert that a changed helper is seen, and a function of another name is the same."""
    before = of(lambda problem, network: helper(network))
    assert of(lambda problem, net: helper(net)) == before
    monkeypatch.setitem(globals(), "helper", lambda network: jnp.max(network.outer_weight))
    assert of(lambda problem, network: helper(network)) != before


def test_what_else_numbers_depend_on(monkeypatch):
    """Assert direction, level, tolerance, options, what a loss computes, and the version."""
    steeper = of(problem_loss=Steeper())
    found = [
        of(), of(direction=-1), of(direction=1), of(level=0.6), of(rtol=1e-10), of(dense=True),
        of(max_steps=99), of(until="it"), of(problem_loss=rf.SquareLoss()), steeper,
    ]  # fmt: skip
    monkeypatch.setitem(globals(), "STEEPNESS", 0.7)
    found.append(of(problem_loss=Steeper()))
    monkeypatch.setattr(module, "version", lambda name: "0.0.0")
    found.append(of())
    assert len(set(found)) == len(found)

"""Bad input: each gets an error that names the argument."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import relu_flow as rf
from relu_flow.flow.arguments import check_asked
from relu_flow.flow.solve import make_options
from relu_flow.observe.observables import loss as LOSS

X = np.array([[1.0, 0.0], [0.0, 1.0]])
Y = np.array([1.0, -1.0])
W = np.array([[1.0, 0.5]])
V = np.array([1.0])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"inputs": X[0]}, "inputs"),
        ({"inputs": X[:0]}, "inputs"),
        ({"inputs": np.array([[1.0, 0.0], [0.0, 0.0]])}, "inputs"),
        ({"inputs": np.array([[1.0, np.nan], [0.0, 1.0]])}, "inputs"),
        ({"inputs": np.array([[1.0, np.inf], [0.0, 1.0]])}, "inputs"),
        ({"targets": Y[:1]}, "targets"),
        ({"targets": np.array([1.0, 0.0])}, "targets"),
        ({"targets": np.array([1.0, np.nan])}, "targets"),
        ({"loss": "exponential"}, "loss"),
        ({"reduction": "average"}, "reduction"),
        ({"reduction": Y}, "reduction"),
        ({"train": jnp.ones(2)}, "train"),
        ({"train": "outer"}, "train"),
    ],
)
def test_bad_problem(arguments, name):
    """Assert that a problem that makes no sense is refused."""
    with pytest.raises(ValueError, match=f"Argument `{name}` must"):
        rf.Problem(**{"inputs": X, "targets": Y, **arguments})


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ({"targets": Y[:, None]}, "`targets.ravel()`"),
        ({"targets": Y[None]}, "`targets.ravel()`"),
        ({"targets": np.array([1.0, 0.0])}, "`2 * targets - 1`"),
        ({"targets": np.array([True, False])}, "`2 * targets - 1`"),
        ({"inputs": X[0]}, "`inputs[:, None]`"),
        ({"inputs": np.ones((2, 2, 3))}, "`inputs.reshape(len(inputs), -1)`"),
        ({"inputs": np.ones((3, 2))}, "`inputs.T`"),
        ({"inputs": np.diag([1.0, 0.0])}, "`rf.with_bias(inputs)`"),
    ],
)
def test_bad_problem_is_told_what_to_do(arguments, advice):
    """Assert that shapes and labels of other libraries come with the call that mends them."""
    with pytest.raises(ValueError, match=re.escape(advice)):
        rf.Problem(**{"inputs": X, "targets": Y, **arguments})


def test_advice_is_given_only_where_it_helps():
    """Assert that labels which are not 0 and 1 are not said to be."""
    with pytest.raises(ValueError, match="contains 0") as caught:
        rf.Problem(X, np.array([0.0, 3.0]))
    assert "2 * targets" not in str(caught.value)


def test_square_loss_takes_any_target():
    """Assert that labels are only checked where the loss needs them."""
    problem = rf.Problem(X, np.array([0.3, -7.0]), rf.SquareLoss())
    np.testing.assert_array_equal(problem.targets, [0.3, -7.0])


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"inner_weight": W[0]}, "inner_weight"),
        ({"inner_weight": np.zeros((0, 2)), "outer_weight": np.zeros(0)}, "inner_weight"),
        ({"inner_weight": np.array([[np.nan, 0.0]])}, "inner_weight"),
        ({"outer_weight": np.ones(2)}, "outer_weight"),
        ({"outer_weight": np.array([np.inf])}, "outer_weight"),
        ({"log_scale": np.ones(2)}, "log_scale"),
        ({"log_scale": -np.inf}, "log_scale"),
    ],
)
def test_bad_network(arguments, name):
    """Assert that a network that makes no sense is refused."""
    with pytest.raises(ValueError, match=f"Argument `{name}` must"):
        rf.TwoLayerReLU(**{"inner_weight": W, "outer_weight": V, **arguments})


@pytest.mark.parametrize(
    ("inner", "outer", "advice"),
    [
        (np.ones((3, 2)), np.ones((1, 3)), "`outer_weight.ravel()`"),
        (np.ones((3, 2)), np.ones((3, 1)), "`outer_weight.ravel()`"),
        (np.ones((2, 3)), np.ones(3), "`inner_weight.T`"),
        (np.ones(2), np.ones(1), "`inner_weight[None, :]`"),
    ],
)
def test_bad_network_is_told_what_to_do(inner, outer, advice):
    """Assert that weights of PyTorch's shapes, and transposed ones, are told how to be passed."""
    with pytest.raises(ValueError, match=re.escape(advice)):
        rf.TwoLayerReLU(inner, outer)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"t1": 0.0}, "t1"),
        ({"t1": -1.0}, "t1"),
        ({"t1": np.inf}, "t1"),
        ({"rtol": 1e-16}, "rtol"),
        ({"rtol": 0.5}, "rtol"),
        ({"rtol": np.nan}, "rtol"),
        ({"ts": [0.5, 0.1]}, "ts"),
        ({"ts": [0.5, 2.0]}, "ts"),
        ({"ts": [-0.5]}, "ts"),
        ({"ts": [[0.5]]}, "ts"),
        ({"ts": [0.1, 0.2, 0.3], "max_steps": 3}, "ts"),
        ({"milestones": [LOSS, 0.5]}, "milestones"),
        ({"milestones": 0.5}, "milestones"),
        ({"milestones": "loss"}, "milestones"),
        ({"max_steps": 0}, "max_steps"),
        ({"max_switches": 0}, "max_switches"),
        ({"max_slides": -1}, "max_slides"),
        ({"problem": X}, "problem"),
        ({"network": W}, "network"),
        ({"network": rf.TwoLayerReLU(np.ones((1, 3)), V)}, "network"),
        ({"network": rf.TwoLayerReLU(W, V, 0.0, -1e4)}, "network"),
        ({"network": rf.TwoLayerReLU(W, V, 500.0)}, "network"),
    ],
)
def test_bad_solve(arguments, name):
    """Assert that a solve that makes no sense is refused before anything is compiled."""
    base = {"problem": rf.Problem(X, Y), "network": rf.TwoLayerReLU(W, V), "t1": 1.0}
    with pytest.raises(ValueError, match=f"Argument `{name}` must"):
        rf.solve(**{**base, **arguments})


def test_transposed_weights_are_told():
    """Assert that a network whose inner weights are the transpose of its own is seen."""
    network = rf.TwoLayerReLU(np.ones((2, 5)), np.ones(2))
    with pytest.raises(ValueError, match=r"`inner_weight\.T`"):
        rf.solve(rf.Problem(X, Y), network, 1.0)


def test_steps_must_be_enough_for_the_times():
    """Assert that equal times, and one at the start, end no step of their own."""
    ts = jnp.array([0.0, 0.5, 0.5, 1.0])
    check_asked(ts, 0.0, 1.0, 2)
    with pytest.raises(ValueError, match=r"Argument `ts` must .* 3 steps .* `max_steps` is 2"):
        check_asked(ts, 0.0, 2.0, 2)


@pytest.mark.parametrize(
    ("observable", "found"),
    [
        (lambda problem, network: network.outer_weight, r"shape \(1,\)"),
        (lambda problem, network: problem.predictions(network), r"shape \(2,\)"),
        (lambda problem, network: (1.0, 2.0), "a tuple"),
        (lambda problem, network: None, "a NoneType"),
    ],
)
def test_observables_must_be_scalars(observable, found):
    """Assert that an observable that returns anything else is named with what it returns."""
    milestone = rf.Milestone(observable, 0.5, name="wide")
    for run in (
        lambda: rf.solve(rf.Problem(X, Y), rf.TwoLayerReLU(W, V), 1.0, milestones=milestone),
        lambda: rf.descent(rf.Problem(X, Y), rf.TwoLayerReLU(W, V), 9, 0.1, milestones=milestone),
    ):
        with pytest.raises(
            ValueError, match=f"Argument `milestones` must .*'wide' returns .*{found}"
        ):
            run()


def test_a_single_milestone_is_one_of_one():
    """Assert that a milestone need not be in a list, and numbers of Python are scalars."""
    constant = rf.Milestone(lambda problem, network: 1.0, 0.5, name="constant")
    problem, network = rf.Problem(X, Y), rf.TwoLayerReLU(W, V)
    for milestone in (rf.Milestone(LOSS, 0.5, name="loss"), constant):
        options = make_options(problem, network, milestone, until=milestone.name)
        assert options.milestones == (milestone,)
        assert options.until == 0


@pytest.mark.usefixtures("unchecked")
def test_levels_must_be_scalars():
    """Assert that a level of any other shape is refused."""
    levels: Any = np.ones(2)
    with pytest.raises(ValueError, match=r"Argument `milestones` must .*'loss' has shape \(2,\)"):
        make_options(
            rf.Problem(X, Y), rf.TwoLayerReLU(W, V), rf.Milestone(LOSS, levels, name="loss")
        )


def test_until_is_a_milestone():
    """Assert that a run can only end at a milestone that is watched."""
    milestone = rf.Milestone(lambda problem, network: problem.loss_value(network), 0.1, name="low")
    with pytest.raises(ValueError, match=r"Argument `until` must be .*'low'.*'high'"):
        rf.solve(rf.Problem(X, Y), rf.TwoLayerReLU(W, V), 1.0, milestones=[milestone], until="high")


def test_milestones_need_distinct_names():
    """Assert that two milestones of one name are refused."""
    loss = lambda problem, network: problem.loss_value(network)
    twice = [rf.Milestone(loss, 0.5, name="a"), rf.Milestone(loss, 0.4, name="a")]
    with pytest.raises(ValueError, match="Argument `milestones`"):
        rf.solve(rf.Problem(X, Y), rf.TwoLayerReLU(W, V), 1.0, milestones=twice)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "name"),
    [({"observable": 3, "level": 1.0}, "observable"), ({"direction": 2}, "direction")],
)
def test_bad_milestone(arguments, name):
    """Assert that a milestone that makes no sense is refused."""
    base = {"observable": lambda problem, network: 0.0, "level": 1.0}
    with pytest.raises(ValueError, match=f"Argument `{name}` must"):
        rf.Milestone(**{**base, **arguments})


@pytest.mark.parametrize("width", [0, -3])
def test_bad_width(width):
    """Assert that a network without neurons cannot be drawn."""
    with pytest.raises(ValueError, match="Argument `width` must"):
        rf.balanced_init(jax.random.key(0), width, 2)


def test_bad_digits():
    """Assert that classes and numbers of images are checked."""
    with pytest.raises(ValueError, match="Argument `classes` must"):
        rf.digits((1, 1))
    with pytest.raises(ValueError, match="Argument `samples` must"):
        rf.digits((0, 1), 1001)


def test_float32_warns_and_checks_the_tolerance():
    """Assert that float32 is told, and that it cannot do the default tolerance."""
    problem = rf.Problem(X.astype(np.float32), Y.astype(np.float32))
    network = rf.TwoLayerReLU(W.astype(np.float32), V.astype(np.float32))
    assert problem.inputs.dtype == jnp.float32
    assert network.inner_weight.dtype == jnp.float32
    with (
        pytest.warns(UserWarning, match="float32"),
        pytest.raises(ValueError, match="Argument `rtol`"),
    ):
        rf.solve(problem, network, 1.0)
    with pytest.warns(UserWarning, match="float32"):
        trajectory = rf.solve(problem, network, 1.0, rtol=1e-5)
    exact = rf.solve(rf.Problem(X, Y), rf.TwoLayerReLU(W, V), 1.0)
    assert trajectory.network.inner_weight.dtype == jnp.float32
    x, single = jnp.array(X[0]), jnp.array(X[0], jnp.float32)
    np.testing.assert_allclose(trajectory.network(single), exact.network(x), rtol=1e-4)


def test_zero_neurons_are_handled():
    """Assert that a neuron without weights rests for ever, alone or beside others."""
    network = rf.TwoLayerReLU(np.array([[0.0, 0.0], [1.0, 0.5]]), np.array([0.0, 1.0]))
    trajectory = rf.solve(rf.Problem(X, Y), network, 1.0)
    np.testing.assert_array_equal(trajectory.network.inner_weight[0], 0.0)
    assert np.all(np.asarray(trajectory.switches.neuron) != 0)


def test_repeated_inputs_are_handled():
    """Assert that a repeated input is the same as one that counts twice (sum of losses)."""
    inputs = np.array([[1.0, 0.2], [1.0, 0.2], [0.1, 1.0]])
    targets = np.array([1.0, 1.0, -1.0])
    network = rf.TwoLayerReLU(np.array([[1.0, 0.5], [0.3, 0.9]]), np.array([1.0, -1.0]), -5.0)
    log = rf.solve(rf.Problem(inputs, targets), network, 5.0).switches
    first = np.asarray(log.time)[np.asarray(log.sample) == 0]
    again = np.asarray(log.time)[np.asarray(log.sample) == 1]
    np.testing.assert_array_equal(first, again)

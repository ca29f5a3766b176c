"""Solvers: Taylor in Diffrax's own hands, Runge-Kutta in ours, and orders through kinks."""

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import relu_flow as rf

from .. import problems
from . import reference

END = 12.0
LEVELS = (1e-4, 1e-6, 1e-8)


@pytest.fixture(scope="module")
def truth():
    """Return a problem with slides, its network, and outputs at the end to 1e-12."""
    inputs, targets, network = problems.mixed()
    problem = rf.Problem(inputs, targets)
    trajectory = rf.solve(problem, network, END)
    assert int(trajectory.stats["slides"]) > 5
    return problem, network, np.asarray(problem.predictions(trajectory.network))


def slope(costs, errors):
    """Return the slope of log error against log cost."""
    return np.polyfit(np.log(costs), np.log(errors), 1)[0]


def test_runge_kutta_keeps_its_order_through_switches_and_slides(truth):
    """Assert that Tsit5's error falls as its tolerance, and with its order in the work."""
    problem, network, exact = truth
    errors, evaluations = [], []
    for rtol in LEVELS:
        trajectory = rf.solve(problem, network, END, solver=dfx.Tsit5(), rtol=rtol)
        errors.append(np.max(np.abs(problem.predictions(trajectory.network) - exact)))
        evaluations.append(int(trajectory.stats["evaluations"]))
    assert 0.75 < slope(LEVELS, errors) < 1.35
    assert slope(evaluations, errors) < -3.5


def test_ignoring_the_kinks_loses_the_order(truth):
    """Assert the negative control: the same method on the live field has order about one."""
    problem, network, _ = truth
    scale = jnp.exp(network.log_scale)

    def field(t, weights, args):
        inner, outer = weights
        active = (inner @ problem.inputs.T > 0).astype(inner.dtype)
        outputs = outer @ (active * (inner @ problem.inputs.T))
        drive = (active * problem.loss.pull(outputs, problem.targets)[None]) @ problem.inputs
        return outer[:, None] * drive, jnp.sum(inner * drive, axis=1)

    start = (network.inner_weight * scale[:, None], network.outer_weight * scale)
    errors, evaluations = [], []
    exact = rf.solve(problem, network, 4.0).network
    exact = np.asarray(problem.predictions(exact))
    for rtol in (1e-3, 1e-4, 1e-5):
        solution = dfx.diffeqsolve(
            dfx.ODETerm(field), dfx.Tsit5(), 0.0, 4.0, 1e-3, start, max_steps=2**21,
            stepsize_controller=dfx.PIDController(rtol=rtol, atol=1e-4 * rtol),
        )  # fmt: skip
        inner, outer = (leaf[-1] for leaf in jax.tree.leaves(solution.ys))
        outputs = outer @ jnp.maximum(inner @ problem.inputs.T, 0.0)
        errors.append(np.max(np.abs(outputs - exact)))
        evaluations.append(6 * int(solution.stats["num_steps"]))
    assert slope(evaluations, errors) > -2.5


@pytest.mark.parametrize("solver", [dfx.Tsit5(), dfx.Dopri8()], ids=["Tsit5", "Dopri8"])
def test_runge_kutta_finds_the_reference_switches(solver):
    """Assert that every switch of a sliding reference case is found in its order."""
    case = reference.load("acute_exp_D3")
    problem, network = reference.build(case)
    trajectory = rf.solve(problem, network, case["t_end"], solver=solver, rtol=1e-8)
    assert reference.worst_time_error(case, trajectory) < 1e-5


def frozen_flow():
    """Return terms, state and arguments of a frozen-pattern flow for Diffrax."""
    inputs, targets, network = problems.mixed()
    problem = rf.Problem(inputs, targets, rf.LogisticLoss())
    frame = rf.Frame.of(problem)
    ones = jnp.ones(network.width)
    args = rf.Frozen(
        active=network.pattern(problem.inputs).astype(float),
        slides=jnp.full((network.width, 0), problem.samples),
        dual=jnp.zeros((network.width, 0, problem.features)),
        amplitude=ones,
        inner_rate=ones,
        outer_rate=ones,
    )
    state = (network.inner_weight, network.outer_weight)
    return dfx.ODETerm(rf.FlowField(frame)), state, args


def test_outputs_move_no_faster_than_bounded():
    """Assert that pulls move the outputs by the tangent kernel at most, and by it if it may be.

    The kernel's entries are those of the network's own Jacobian; the bound is reached where
    nothing cancels, and exceeds the kernel's absolute values only by Cauchy and Schwarz.
    """
    terms, state, args = frozen_flow()
    field, (width, features) = terms.vector_field, state[0].shape
    assert isinstance(field, rf.FlowField)
    outputs = lambda flat: field.outputs((flat[:-width].reshape(width, features), flat[-width:]),
                                         args)  # fmt: skip
    jacobian = jax.jacfwd(outputs)(jnp.concatenate([leaf.ravel() for leaf in state]))
    kernel = jnp.abs(jacobian @ jacobian.T)
    samples = kernel.shape[0]
    one = jnp.eye(samples)
    bound = jax.vmap(lambda pull: field.moved_by(state, args, pull))(one)
    assert bool(jnp.all(bound >= kernel * (1 - 1e-12)))
    np.testing.assert_allclose(jnp.diag(bound), jnp.diag(kernel), rtol=1e-12)
    pull = jnp.linspace(1.0, 2.0, samples)
    np.testing.assert_allclose(field.moved_by(state, args, pull), pull @ bound, rtol=1e-12)


def test_taylor_works_in_plain_diffeqsolve():
    """Assert that Taylor agrees with Dopri8 under Diffrax's loop, dense output included."""
    terms, state, args = frozen_flow()

    def run(solver, end, ts):
        solution = dfx.diffeqsolve(
            terms, solver, 0.0, end, 0.05, state, args,
            stepsize_controller=dfx.PIDController(rtol=1e-12, atol=1e-14),
            saveat=dfx.SaveAt(ts=ts),
        )  # fmt: skip
        return jax.tree.leaves(solution.ys)

    ours = run(rf.Taylor(), 1.0, [0.3, 1.0])
    for k, end in enumerate((0.3, 1.0)):
        theirs = run(dfx.Dopri8(), end, [end])
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a[k], b[0], rtol=1e-11, atol=1e-12)


def test_taylor_has_the_order_it_says():
    """Assert that halving the step of a fourth-order series divides the error by sixteen."""
    terms, state, args = frozen_flow()

    def run(order, steps):
        solution = dfx.diffeqsolve(
            terms, rf.Taylor(order), 0.0, 1.0, 1.0 / steps, state, args,
            stepsize_controller=dfx.ConstantStepSize(),
        )  # fmt: skip
        return jax.tree.leaves(solution.ys)[0][-1]

    exact = run(16, 32)
    errors = [float(jnp.max(jnp.abs(run(4, steps) - exact))) for steps in (32, 64, 128)]
    np.testing.assert_allclose(np.diff(np.log2(errors)), -4, atol=0.1)


def test_other_fields_have_no_series():
    """Assert that Taylor refuses a field that is not the flow's."""
    with pytest.raises(ValueError, match="terms"):
        dfx.diffeqsolve(dfx.ODETerm(lambda t, y, a: -y), rf.Taylor(), 0.0, 1.0, 0.1, jnp.ones(2))


def test_implicit_solvers_are_refused(truth):
    """Assert that a solver without polynomial steps is named in the error."""
    problem, network, _ = truth
    with pytest.raises(ValueError, match="Argument `solver`"):
        rf.solve(problem, network, 1.0, solver=dfx.Kvaerno5())
    assert jax.config.read("jax_enable_x64")

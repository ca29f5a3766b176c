"""Observables against closed forms, numpy, scipy, exact arithmetic and automatic derivatives."""

from decimal import Decimal, localcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import lsq_linear, nnls

import relu_flow as rf
from relu_flow._least_squares import bounded_least_squares
from relu_flow.observe import angle, bundle, kernel, margin, motion, observables, pattern, rank

# Lists of numbers will do, which the annotations do not say.
Problem: Any = rf.Problem
Network: Any = rf.TwoLayerReLU

WIDTH, SAMPLES, FEATURES = 7, 6, 4
TINY = -10_000.0
# Of a logarithm near -10000 the unit of rounding is 2e-12, and so is that of ratios of scales.
RATIO = 1e-11


def generic(train="both", reduction="mean", seed=0):
    """Return a random problem and network, on no hyperplane, each neuron of its own scale."""
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(SAMPLES, FEATURES))
    targets = np.where(np.arange(SAMPLES) % 2 == 0, 1.0, -1.0)
    problem = Problem(inputs, targets, reduction=reduction, train=train)
    scale = random.normal(size=WIDTH)
    network = Network(
        random.normal(size=(WIDTH, FEATURES)), random.normal(size=WIDTH), scale, scale + 0.3
    )
    return problem, network


def shifted(network, by):
    """Return the network with both layers' scales multiplied by exp(by)."""
    return Network(
        network.inner_weight,
        network.outer_weight,
        network.log_scale + by,
        network.outer_log_scale + by,
    )


def true_weights(network):
    """Return the weights with their scales multiplied in, by numpy."""
    inner = np.asarray(network.inner_weight) * np.exp(np.asarray(network.log_scale))[:, None]
    return inner, np.asarray(network.outer_weight) * np.exp(np.asarray(network.outer_log_scale))


def descent(problem, network):
    """Return minus the gradient of the loss by the true weights, by automatic derivatives."""

    def loss(weights):
        inner, outer = weights
        outputs = jax.nn.relu(problem.inputs @ inner.T) @ outer
        return problem.sample_weight * jnp.sum(jnp.exp(-problem.targets * outputs))

    weights = tuple(jnp.asarray(w) for w in true_weights(network))
    inner, outer = jax.grad(loss)(weights)
    return -np.asarray(inner), -np.asarray(outer)


# ---------------------------------------------------------------- angles


def exact_angle(u, v):
    """Return the angle of two vectors of floats with 60 digits, for acute or obtuse ones."""
    with localcontext() as context:
        context.prec = 60
        u, v = ([Decimal(float(x)) for x in w] for w in (u, v))
        dot = lambda a, b: sum((x * y for x, y in zip(a, b, strict=True)), Decimal(0))
        sine = ((dot(u, u) * dot(v, v) - dot(u, v) ** 2) / (dot(u, u) * dot(v, v))).sqrt()
        # The arcsine's series, enough for |sine| < 0.1.
        series = sine * (1 + sine**2 / 6 + 3 * sine**4 / 40 + 15 * sine**6 / 336)
        return float(series), dot(u, v) > 0


@pytest.mark.parametrize("size", [1e-4, 1e-8, 1e-10, 1e-12, 1e-15])
@pytest.mark.parametrize("stretch", [1.0, -1.0, 3.7])
def test_small_and_nearly_straight_angles_are_exact(size, stretch):
    """Assert angles near 0 and pi against 60-digit arithmetic on the same floats."""
    random = np.random.default_rng(5)
    first, across = random.normal(size=(2, FEATURES))
    across -= first * (across @ first) / (first @ first)
    across *= np.linalg.norm(first) / np.linalg.norm(across)
    second = stretch * (first + size * across)
    network = Network(np.stack([first, second]), np.ones(2), [0.0, TINY])
    found = float(angle.angles(network)[0, 1])
    expected, acute = exact_angle(first, second)
    assert acute == (stretch > 0)
    # The floats that store the vectors are rounded: at 1e-15 the angle is not what was meant.
    np.testing.assert_allclose(expected, size, rtol=1e-3, atol=1e-15)
    if acute:
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        np.testing.assert_allclose(angle.angles(network)[1, 0], expected, rtol=1e-12)
    else:
        assert abs(found - (np.pi - expected)) <= 2 * np.spacing(np.pi)


@pytest.mark.parametrize("size", [1e-10, 1e-12])
def test_small_angles_need_no_fused_arithmetic(size):
    """Assert the same operation by operation, where products are rounded before a sum."""
    random = np.random.default_rng(6)
    first, across = random.normal(size=(2, FEATURES))
    second = 3.7 * (first + size * across)
    with jax.disable_jit():
        found = float(angle._angle(jnp.asarray(first), jnp.asarray(second)))
    np.testing.assert_allclose(found, exact_angle(first, second)[0], rtol=1e-9)


def test_largest_and_mean_angle_are_over_living_neurons():
    """Assert a hand-made case: three living neurons at 0, 0.1 and 0.3, a dead one opposite."""
    problem = Problem([[1.0, 0.0]], [1.0])
    at = np.array([0.0, 0.1, 0.3, np.pi])
    network = Network(np.stack([np.cos(at), np.sin(at)], 1), [1.0, 1.0, -1.0, 1.0], TINY)
    np.testing.assert_allclose(angle.largest_angle(problem, network), 0.3, rtol=1e-14)
    np.testing.assert_allclose(angle.mean_angle(problem, network), 0.2, rtol=1e-14)
    np.testing.assert_allclose(angle.positive_angle(problem, network), 0.1, rtol=1e-14)
    assert float(angle.negative_angle(problem, network)) == 0.0


# ---------------------------------------------------------------- ranks and norms


def test_ranks_and_norms_agree_with_numpy():
    """Assert all quantities of singular values at scale one."""
    problem, network = generic()
    inner, outer = true_weights(network)
    singular = np.linalg.svd(inner, compute_uv=False)
    share = singular / singular.sum()
    effective = np.exp(-np.sum(share * np.log(share)))
    np.testing.assert_allclose(rank.effective_rank(problem, network), effective, rtol=1e-13)
    np.testing.assert_allclose(rank.nuclear_norm(problem, network), singular.sum(), rtol=1e-13)
    np.testing.assert_allclose(
        rank.log_singular_values(problem, network), np.log(singular), atol=1e-13
    )
    total = np.sum(inner**2) + np.sum(outer**2)
    np.testing.assert_allclose(
        observables.squared_parameter_norm(problem, network), total, rtol=1e-13
    )


def test_ranks_of_exact_cases():
    """Assert that equal singular values give the rank, and that a repeated row adds none."""
    problem, _ = generic()
    rows = np.eye(FEATURES)[[0, 1, 2, 0]] * np.sqrt([0.5, 1, 1, 0.5])[:, None]
    network = Network(rows, np.ones(4), TINY)
    np.testing.assert_allclose(rank.effective_rank(problem, network), 3.0, rtol=1e-14)
    assert int(rank.numerical_rank(problem, network)) == 3
    uneven = Network(np.diag([1e3, 1.0, 1e-3, 0.0]), np.ones(4), TINY)
    assert [int(rank.numerical_rank(problem, uneven, r)) for r in (1e-2, 1e-4, 1e-9)] == [1, 2, 3]
    np.testing.assert_allclose(rank.log_nuclear_norm(problem, network), np.log(3) + TINY)
    assert float(rank.nuclear_norm(problem, network)) == 0.0


# ---------------------------------------------------------------- patterns


def square_case():
    """Return two inputs along the axes and five neurons: two alike, one on a hyperplane, dead."""
    problem = Problem([[1.0, 0.0], [0.0, 2.0]], [1.0, -1.0])
    inner = [[1.0, 1.0], [2.0, 0.5], [1.0, 1e-14], [-1.0, -1.0], [-1.0, 3.0]]
    return problem, Network(inner, np.ones(5), TINY)


def test_counts_of_a_hand_made_case():
    """Assert living, dead, on a hyperplane, and different patterns."""
    problem, network = square_case()
    assert int(pattern.living_count(problem, network)) == 4
    assert int(pattern.dead_count(problem, network)) == 1
    assert int(pattern.on_hyperplane_count(problem, network)) == 1
    assert int(pattern.pattern_count(problem, network)) == 3
    assert np.asarray(pattern.pattern(problem, network)).astype(int).tolist() == [
        [1, 1], [1, 1], [1, 0], [0, 0], [0, 1],
    ]  # fmt: skip


def test_pattern_distance_counts_entries():
    """Assert the Hamming distance after two neurons change three entries."""
    problem, network = square_case()
    moved = network.inner_weight.at[0].set([-1.0, -1.0]).at[2].set([1.0, 1.0])
    other = Network(moved, np.ones(5), 3.0)
    assert int(pattern.pattern_distance(problem, network, other)) == 3
    assert int(pattern.distance_from(other)(problem, network)) == 3
    assert int(pattern.distance_from(network)(problem, network)) == 0


# ---------------------------------------------------------------- alignment and outputs


def test_alignment_with_a_direction():
    """Assert cosines by numpy, at any scale of weights and of the direction."""
    problem, network = generic()
    direction = np.random.default_rng(1).normal(size=FEATURES)
    inner, _ = true_weights(network)
    cosine = inner @ direction / np.linalg.norm(inner, axis=1) / np.linalg.norm(direction)
    for by, factor in ((0.0, 1.0), (TINY, 1e-300)):
        found = observables.alignment(factor * direction)(problem, shifted(network, by))
        np.testing.assert_allclose(found, cosine, rtol=1e-12)
    with pytest.raises(ValueError, match="must not be zero"):
        observables.alignment(np.zeros(2))
    with pytest.raises(ValueError, match="must have one axis"):
        observables.alignment(np.ones((1, 1)))


def test_outputs_of_classes():
    """Assert class means and extremes of outputs by numpy."""
    problem, network = generic()
    inner, outer = true_weights(network)
    outputs = np.maximum(np.asarray(problem.inputs) @ inner.T, 0) @ outer
    positive = np.asarray(problem.targets) > 0
    pairs = [
        (observables.positive_output, outputs[positive].mean()),
        (observables.negative_output, outputs[~positive].mean()),
        (observables.largest_positive_output, np.abs(outputs[positive]).max()),
        (observables.largest_negative_output, np.abs(outputs[~positive]).max()),
    ]
    for observable, expected in pairs:
        np.testing.assert_allclose(observable(problem, network), expected, rtol=1e-12)


# ---------------------------------------------------------------- motion


@pytest.mark.parametrize("train", ["both", "inner"])
def test_rates_are_those_of_the_gradient(train):
    """Assert velocities and rates against automatic derivatives of the true loss."""
    problem, network = generic(train)
    inner, outer = true_weights(network)
    inner_speed, outer_speed = descent(problem, network)
    outer_speed = outer_speed * (train == "both")
    found_inner, found_outer = motion.velocity(problem, network)
    np.testing.assert_allclose(
        found_inner * np.exp(network.log_scale)[:, None], inner_speed, rtol=1e-11, atol=1e-14
    )
    np.testing.assert_allclose(
        found_outer * np.exp(network.outer_log_scale), outer_speed, rtol=1e-11, atol=1e-14
    )
    unit = lambda w: w / jnp.linalg.norm(w, axis=-1, keepdims=True)
    turning = jax.jvp(unit, (jnp.asarray(inner),), (jnp.asarray(inner_speed),))[1]
    expected = np.sum(np.linalg.norm(turning, axis=1))
    np.testing.assert_allclose(motion.direction_rate(problem, network), expected, rtol=1e-11)
    growth = 2 * np.sum(inner * inner_speed)
    np.testing.assert_allclose(motion.norm_rate(problem, network), growth, rtol=1e-11)
    np.testing.assert_allclose(motion.log_norm_rate(problem, network), np.log(abs(growth)))
    np.testing.assert_allclose(motion.norm_lead(problem, network), growth - expected, rtol=1e-11)
    slope = -np.sum(inner_speed**2) - np.sum(outer_speed**2)
    np.testing.assert_allclose(motion.loss_rate(problem, network), slope, rtol=1e-11)
    weights, speed = inner.ravel(), inner_speed.ravel()
    if train == "both":
        weights, speed = np.append(weights, outer), np.append(speed, outer_speed)
    turning = jax.jvp(unit, (jnp.asarray(weights),), (jnp.asarray(speed),))[1]
    np.testing.assert_allclose(
        motion.parameter_direction_rate(problem, network), np.linalg.norm(turning), rtol=1e-11
    )


def test_rates_of_a_vanishing_network():
    """Assert that below a scale where outputs vanish only the norm's rate knows the scale."""
    problem, network = generic()
    small, tiny = shifted(network, -50.0), shifted(network, TINY)
    for rate in (motion.direction_rate, motion.parameter_direction_rate):
        np.testing.assert_allclose(rate(problem, tiny), rate(problem, small), rtol=RATIO)
    np.testing.assert_allclose(
        motion.log_norm_rate(problem, tiny) - 2 * TINY,
        motion.log_norm_rate(problem, small) + 100.0,
        atol=RATIO,
    )
    inner_speed, _ = descent(problem, small)
    inner_small, _ = true_weights(small)
    direct = np.log(abs(2 * np.sum(inner_small * inner_speed)))
    np.testing.assert_allclose(motion.log_norm_rate(problem, small), direct, rtol=1e-12)


def test_slide_weights_on_one_hyperplane_shared_by_repeated_inputs():
    """Assert cos(angle)/4 for each of four copies: a pull of 1 balanced by a pull of 4.

    A negative neuron on the hyperplane of x_+ is pulled off it by four samples of label +1 and
    back by one of label -1, at angle 0.3, all pulls of equal size.
    """
    cosine, sine = np.cos(0.3), np.sin(0.3)
    problem = Problem([[1.0, 0.0]] * 4 + [[cosine, sine]], [1.0] * 4 + [-1.0])
    network = Network([[0.0, 1.0], [1.0, 0.0], [0.0, -1.0]], [-1.0, 1.0, 1.0], TINY)
    found = np.asarray(motion.activations(problem, network))
    np.testing.assert_allclose(found[0], [cosine / 4] * 4 + [1.0], rtol=1e-12)
    np.testing.assert_array_equal(found[1], np.ones(5))
    np.testing.assert_array_equal(found[2], np.zeros(5))  # dead, resting on the hyperplane
    inner, _ = motion.velocity(problem, network)
    # Along the hyperplane: the pull of x_- alone, projected.
    np.testing.assert_allclose(inner[0], [0.0, sine], atol=1e-15)


def test_slide_weights_on_two_hyperplanes_solve_a_linear_system():
    """Assert two weights of a slide on two hyperplanes against a 2 x 2 solve."""
    random = np.random.default_rng(3)
    inputs = np.vstack([np.eye(3)[:2] + 0.1 * random.normal(size=(2, 3)), [[0.3, 0.25, 1.0]]])
    problem = Problem(inputs, [1.0, 1.0, -1.0])
    normal = np.cross(inputs[0], inputs[1])
    network = Network([normal * np.sign(normal @ inputs[2])], [-1.0], TINY)
    gram = inputs[:2] @ inputs[:2].T
    weights = np.linalg.solve(gram, inputs[:2] @ inputs[2])
    assert np.all((weights > 0) & (weights < 1))
    found = motion.activations(problem, network)
    np.testing.assert_allclose(found[0], [*weights, 1.0], rtol=1e-11)


# ---------------------------------------------------------------- bundle


def test_bundle_and_teacher_coordinates():
    """Assert coordinates of teacher minus bundle by numpy, and what is learnt of the first."""
    random = np.random.default_rng(2)
    teacher = np.array([0.6, 0.0, 0.8])
    inputs = teacher + 0.2 * random.normal(size=(5, 3))
    problem = Problem(inputs, inputs @ teacher, rf.SquareLoss(), "mean")
    inner = np.vstack([teacher + 0.1 * random.normal(size=(2, 3)), -teacher, teacher])
    outer = np.array([0.5, 0.25, 1.0, -1.0])
    network = Network(inner, outer, -0.5)
    expected = np.exp(-1.0) * (0.5 * inner[0] + 0.25 * inner[1])  # the third is dead
    np.testing.assert_allclose(bundle.bundle(problem, network), expected, rtol=1e-13)
    _, singular, right = np.linalg.svd(inputs)
    right = right * np.sign(right @ teacher)[:, None]
    np.testing.assert_allclose(
        bundle.teacher_gap(teacher)(problem, network), right @ (teacher - expected), atol=1e-13
    )
    values, _ = bundle.data_eigenbasis(problem)
    np.testing.assert_allclose(values, singular**2 / 5, rtol=1e-12)
    learnt = (right[0] @ expected) / (right[0] @ teacher)
    np.testing.assert_allclose(bundle.first_mode(problem, network), learnt, rtol=1e-12)


# ---------------------------------------------------------------- margin


def test_a_solution_of_the_margin_problem_has_no_residual():
    """Assert zero residuals and unit multipliers for one balanced neuron a class."""
    problem = Problem([[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0])
    for scale in (0.0, TINY):
        network = Network([[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0], scale)
        found = margin.margin_conditions(problem, network)
        assert float(found.stationarity) < 1e-14
        assert abs(float(found.complementarity)) < 1e-14
        np.testing.assert_allclose(found.multipliers, 0.25, rtol=RATIO)
        np.testing.assert_allclose(margin.normalised_margin(problem, network), 0.25, rtol=RATIO)


def test_margin_of_an_unbalanced_neuron_in_closed_form():
    """Assert sqrt(1 - 4/S^2), S = a^2 + a^-2, for w = a, v = 1/a; zero with v fixed."""
    a = 1.7
    total = a**2 + a**-2
    network = Network([[a]], [1 / a], TINY)
    both = Problem([[1.0]], [1.0])
    expected = np.sqrt(1 - 4 / total**2)
    np.testing.assert_allclose(margin.margin_stationarity(both, network), expected, rtol=RATIO)
    np.testing.assert_allclose(margin.normalised_margin(both, network), 1 / total, rtol=RATIO)
    inner = Problem([[1.0]], [1.0], train="inner")
    assert float(margin.margin_stationarity(inner, network)) < 1e-14
    np.testing.assert_allclose(margin.normalised_margin(inner, network), 1.0, rtol=RATIO)


def test_margin_residuals_agree_with_another_non_negative_least_squares():
    """Assert residuals of a generic separating network against scipy on explicit gradients."""
    random = np.random.default_rng(8)
    axis = np.eye(FEATURES)[0]
    inputs = 0.5 * random.normal(size=(SAMPLES, FEATURES))
    targets = np.where(np.arange(SAMPLES) % 2 == 0, 1.0, -1.0)
    inputs[:, 0] = targets * (1 + random.random(SAMPLES))
    inner = np.outer([2.0, 1.5, -2.0, -1.0], axis) + 0.3 * random.normal(size=(4, FEATURES))
    outer = np.array([1.0, 2.0, -1.5, -1.0])
    problem = Problem(inputs, targets)
    flat = np.append(inner.ravel(), outer)

    def constraints(theta):
        w, v = theta[:-4].reshape(4, FEATURES), theta[-4:]
        return problem.targets * (jax.nn.relu(problem.inputs @ w.T) @ v)

    values = np.asarray(constraints(jnp.asarray(flat)))
    assert values.min() > 0
    flat = flat / np.sqrt(values.min())
    values = np.asarray(constraints(jnp.asarray(flat)))
    gradients = np.asarray(jax.jacrev(constraints)(jnp.asarray(flat)))
    multipliers, residual = nnls(gradients.T, flat)
    assert 1 <= np.sum(multipliers > 0) < SAMPLES
    norm = np.linalg.norm(flat)
    for scale in (0.0, TINY):
        found = margin.margin_conditions(problem, Network(inner, outer, scale))
        np.testing.assert_allclose(found.stationarity, residual / norm, rtol=1e-10)
        np.testing.assert_allclose(found.multipliers, multipliers / norm**2, atol=1e-12)
        np.testing.assert_allclose(
            found.complementarity, 2 * multipliers @ (values - 1) / norm**2, rtol=1e-10
        )


def test_margin_problem_is_infeasible_where_a_sample_is_wrong():
    """Assert infinite residuals and a negative margin."""
    problem = Problem([[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0])
    network = Network([[1.0, 1.0]], [1.0])
    assert float(margin.margin_stationarity(problem, network)) == np.inf
    assert float(margin.margin_complementarity(problem, network)) == np.inf
    np.testing.assert_allclose(margin.normalised_margin(problem, network), -1 / 3, rtol=1e-13)


@pytest.mark.parametrize("seed", range(12))
def test_bounded_least_squares_agrees_with_scipy(seed):
    """Assert residuals for tall, wide, repeated, zero and badly scaled columns."""
    random = np.random.default_rng(seed)
    rows, columns = ((8, 5), (5, 8))[seed % 2]
    matrix = random.normal(size=(rows, columns)) + (seed % 3)
    if seed % 4 == 0:
        matrix[:, 1] = matrix[:, 2] = matrix[:, 0]
        matrix[:, 3] = 0
    if seed % 4 == 1:
        matrix = matrix * 10.0 ** random.integers(-8, 8, size=columns)
    target = random.normal(size=rows)
    found = np.asarray(bounded_least_squares(matrix, target, np.inf))
    assert found.min() >= 0
    residual = np.linalg.norm(matrix @ found - target)
    np.testing.assert_allclose(residual, nnls(matrix, target)[1], rtol=1e-11, atol=1e-13)
    bounded = np.asarray(bounded_least_squares(matrix, target, 0.3))
    assert bounded.min() >= 0
    assert bounded.max() <= 0.3 * (1 + 1e-15)
    other = np.sqrt(2 * lsq_linear(matrix, target, (0, 0.3), method="bvls").cost)
    residual = np.linalg.norm(matrix @ bounded - target)
    np.testing.assert_allclose(residual, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("seed", "shift"), [(6, 0), (10, 0), (1, 1), (16, 1), (25, 2)])
def test_bounded_least_squares_leaves_an_upper_bound_again(seed, shift):
    """Assert residuals in cases where an entry that was at its upper bound ends below it."""
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(8, 8)) + shift
    target = random.normal(size=8) + 3 * shift
    found = np.asarray(bounded_least_squares(matrix, target, 0.3))
    other = np.sqrt(2 * lsq_linear(matrix, target, (0, 0.3), method="bvls").cost)
    np.testing.assert_allclose(np.linalg.norm(matrix @ found - target), other, rtol=1e-11)


# ---------------------------------------------------------------- kernel


@pytest.mark.parametrize("train", ["both", "inner"])
def test_tangent_kernel_is_that_of_the_jacobian(train):
    """Assert kernel and spectrum against reverse-mode derivatives of the outputs."""
    problem, network = generic(train)
    inner, outer = (jnp.asarray(w) for w in true_weights(network))
    outputs = lambda w, v: jax.nn.relu(problem.inputs @ w.T) @ v
    by_inner, by_outer = jax.jacrev(outputs, argnums=(0, 1))(inner, outer)
    by_inner = by_inner.reshape(SAMPLES, -1)
    expected = by_inner @ by_inner.T
    if train == "both":
        expected = expected + by_outer @ by_outer.T
    found = kernel.tangent_kernel(problem, network)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)
    values = np.linalg.eigvalsh(expected)[::-1]
    for by in (0.0, TINY):
        spectrum = kernel.log_tangent_spectrum(problem, shifted(network, by))
        np.testing.assert_allclose(spectrum - 2 * by, np.log(values), atol=1e-8)
    assert float(jnp.max(kernel.tangent_kernel(problem, shifted(network, TINY)))) == 0.0


def test_tangent_distance_is_one_minus_the_alignment():
    """Assert the distance by numpy, its independence of scale, and small ones in full."""
    problem, network = generic()
    _, other = generic(seed=4)
    first, second = (np.asarray(kernel.tangent_kernel(problem, n)) for n in (network, other))
    expected = 1 - np.sum(first * second) / np.linalg.norm(first) / np.linalg.norm(second)
    for by in (0.0, TINY):
        found = kernel.tangent_distance(problem, shifted(network, by), shifted(other, -by / 2e4))
        np.testing.assert_allclose(found, expected, rtol=1e-11)
    assert float(kernel.tangent_distance_from(network)(problem, network)) == 0.0
    # Orthogonal kernels: one neuron for each of two orthogonal samples, and one for both.
    square = Problem([[1.0, 0.0], [0.0, 1.0]], [1.0, 1.0], train="inner")
    one = Network([[1.0, -1.0], [-1.0, 1.0]], [1.0, 1e-7], TINY)
    two = Network([[1.0, -1.0], [-1.0, 1.0]], [1.0, 0.0], 5.0)
    three = Network([[1.0, -1.0], [-1.0, 1.0]], [0.0, 1.0], 5.0)
    assert float(kernel.tangent_distance(square, two, three)) == 1.0
    # diag(1, e^2) and diag(1, 0): half the squared distance is e^4/2 to leading order.
    np.testing.assert_allclose(kernel.tangent_distance(square, one, two), 0.5e-28, rtol=1e-6)


# ---------------------------------------------------------------- scale


SCALE_FREE = [
    angle.largest_angle, angle.mean_angle, rank.effective_rank, rank.numerical_rank,
    pattern.pattern_count, pattern.living_count, observables.stable_rank,
    observables.balancedness_error, margin.normalised_margin,
]  # fmt: skip


@pytest.mark.parametrize("observable", SCALE_FREE, ids=lambda f: f.__name__)
def test_scale_free_observables_do_not_see_the_scale(observable):
    """Assert that exp(-10000) gives the numbers of scale one, also compiled."""
    problem, network = generic()
    expected = observable(problem, network)
    found = jax.jit(observable)(problem, shifted(network, TINY))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert np.isfinite(float(expected))
    assert float(expected) != 0.0

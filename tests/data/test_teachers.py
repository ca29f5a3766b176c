"""Families of teacher data: what was asked for is attained, broken data are found out."""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import relu_flow as rf
from relu_flow.data.norm_rank import (
    dual_basis_check,
    norm_agrees_with_rank,
    norm_disagrees_with_rank,
)
from relu_flow.data.teacher import single_neuron, teacher_check
from relu_flow.data.teachers import several_neurons, teachers_check
from relu_flow.data.trapped import three_points, three_points_check, three_points_experiment

from .oracles import changed, cosine, worst_pair

KEY = jax.random.key(5)
SQUARE = rf.SquareLoss()


# ---- teacher


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("max_angle", [1e-3, 0.5, math.pi / 4 - 1e-6, 1.5])
def test_capped_inputs_reach_the_angle_asked_for(max_angle, seed):
    """Assert angles, norms and targets, and that the theory's angle decides."""
    problem, certificate = single_neuron(
        jax.random.key(seed), 4, max_angle=max_angle, norms=(0.7, 1.4)
    )
    inputs, teacher = np.asarray(problem.inputs), np.asarray(certificate.teacher)
    np.testing.assert_allclose(np.linalg.norm(teacher), 1, rtol=1e-15)
    norms = np.linalg.norm(inputs, axis=1)
    aside = inputs - np.outer(inputs @ teacher, teacher)
    angles = np.arctan2(np.linalg.norm(aside, axis=1), inputs @ teacher)
    np.testing.assert_allclose(angles.max(), max_angle, rtol=1e-12)
    assert np.argmax(angles) == 0
    np.testing.assert_allclose(certificate.angles, angles, rtol=1e-12)
    np.testing.assert_allclose(certificate.norms, norms, rtol=1e-14)
    np.testing.assert_allclose([norms.min(), norms.max()], [0.7, 1.4], rtol=1e-14)
    np.testing.assert_allclose(
        problem.targets, [max(sum(x * teacher), 0) for x in inputs], rtol=1e-14
    )
    np.testing.assert_allclose(
        certificate.margins["angles below pi/4"], math.pi / 4 - max_angle, atol=1e-14
    )
    assert bool(certificate.holds) == (max_angle < math.pi / 4)
    assert isinstance(problem.loss, rf.SquareLoss)
    assert problem.reduction == "mean"


@pytest.mark.parametrize("variant", ["capped", "centred", "uncentred"])
def test_spectrum_and_constants_of_the_teacher(variant):
    """Assert eigen-pairs, coefficients, gamma, delta and Delta against numpy's own."""
    problem, c = single_neuron(KEY, 4, 9, variant=variant)
    inputs, targets = np.asarray(problem.inputs), np.asarray(problem.targets)
    teacher = np.asarray(c.teacher)
    assert np.all(inputs @ teacher > 0)
    second_moment = sum(np.outer(x, x) for x in inputs) / 9
    eigenvalues = np.linalg.eigvalsh(second_moment)[::-1]
    np.testing.assert_allclose(c.eigenvalues, eigenvalues, rtol=1e-11)
    for eta, u in zip(eigenvalues, np.asarray(c.eigenvectors), strict=True):
        np.testing.assert_allclose(second_moment @ u, eta * u, atol=1e-13)
    np.testing.assert_allclose(c.eigenvectors @ c.eigenvectors.T, np.eye(4), atol=1e-14)
    assert np.all(np.asarray(c.coefficients) > 0)
    np.testing.assert_allclose(c.coefficients @ c.eigenvectors, teacher, atol=1e-14)
    gamma = sum(y * x for x, y in zip(inputs, targets, strict=True)) / 9
    np.testing.assert_allclose(c.gamma, gamma, rtol=1e-13)
    np.testing.assert_allclose(c.gamma, second_moment @ teacher, rtol=1e-12)
    norms = np.linalg.norm(inputs, axis=1)
    np.testing.assert_allclose(c.min_cosine, worst_pair(inputs), rtol=1e-13)
    roots = np.sqrt(eigenvalues)
    gap = min(3 * (roots[k] - roots[k + 1]) for k in range(3))
    share = 2 * min(np.asarray(c.coefficients))
    delta = min(norms.min(), worst_pair(inputs), gap, roots[-1], share)
    np.testing.assert_allclose(c.delta, delta, rtol=1e-9)
    np.testing.assert_allclose(c.big_delta, max(norms.max(), 1.0), rtol=1e-14)
    closest = min(
        np.linalg.norm(inputs[i] / norms[i] - inputs[k] / norms[k])
        for i in range(9)
        for k in range(i)
    )
    np.testing.assert_allclose(c.margins["distinct directions"], closest, rtol=1e-11)
    np.testing.assert_allclose(c.margins["distinct eigenvalues"], gap / roots[0], rtol=1e-9)
    np.testing.assert_allclose(c.margins["spanning inputs"], roots[-1] / roots[0], rtol=1e-9)
    np.testing.assert_allclose(c.margins["teacher in no eigenspace"], share, rtol=1e-9)


@pytest.mark.parametrize("variant", ["centred", "uncentred"])
def test_published_inputs_have_the_law_of_redrawing(variant):
    """Assert moments against draws that are rejected until they are met, over many keys."""
    draw = eqx.filter_jit(eqx.filter_vmap(lambda key: single_neuron(key, 4, variant=variant)))
    problems, certificates = draw(jax.random.split(KEY, 1500))
    along = np.einsum("kif,kf->ki", problems.inputs, certificates.teacher).ravel()
    lengths = np.sum(np.asarray(problems.inputs) ** 2, axis=2).ravel()
    random = np.random.default_rng(1)
    rho = 1.0 if variant == "centred" else math.sqrt(2) - 1
    wanted_along, wanted_lengths = [], []
    for _ in range(1500):
        center = random.normal(size=4)
        center /= np.linalg.norm(center)
        teacher = center
        if variant == "uncentred":
            teacher = center + math.sqrt(rho / 4) * random.normal(size=4)
            teacher /= np.linalg.norm(teacher)
        kept = 0
        while kept < 4:
            x = center + math.sqrt(rho / 4) * random.normal(size=4)
            if x @ teacher > 0:
                kept += 1
                wanted_along.append(x @ teacher)
                wanted_lengths.append(x @ x)
    for found, wanted in ((along, wanted_along), (lengths, wanted_lengths)):
        error = np.std(wanted) * math.sqrt(2 / 6000)
        assert abs(np.mean(found) - np.mean(wanted)) < 4 * error
        deciles = np.linspace(0.1, 0.9, 9)
        np.testing.assert_allclose(
            [np.mean(found < level) for level in np.quantile(wanted, deciles)], deciles, atol=0.04
        )
    assert np.all(along > 0)


def test_teacher_data_are_paired_and_nested():
    """Assert what is shared by other angles, norms and numbers of samples."""
    wide, c = single_neuron(KEY, 4, 9, max_angle=1.2)
    narrow, d = single_neuron(KEY, 4, 9, max_angle=0.3, norms=(2.0, 2.0))
    np.testing.assert_array_equal(c.teacher, d.teacher)
    np.testing.assert_allclose(c.angles, 4 * d.angles, rtol=1e-12)
    aside = [
        np.asarray(p.inputs) - np.outer(p.inputs @ c.teacher, c.teacher) for p in (wide, narrow)
    ]
    for i in range(9):
        np.testing.assert_allclose(cosine(aside[0][i], aside[1][i]), 1, rtol=1e-12)
    for variant in ("capped", "centred", "uncentred"):
        large, _ = single_neuron(KEY, 4, 9, variant=variant)
        small, _ = single_neuron(KEY, 4, variant=variant)
        np.testing.assert_allclose(small.inputs, large.inputs[:4], rtol=1e-12, atol=1e-14)


def test_broken_teacher_data_are_found_out():
    """Assert which margin is negative after each kind of damage."""
    problem, certificate = single_neuron(KEY, 4, max_angle=0.6)
    teacher = np.asarray(certificate.teacher)
    assert certificate.holds
    off = changed(problem, 1, label=float(problem.targets[1]) + 1e-6)
    assert teacher_check(off, teacher).unmet == ("teacher's targets",)
    assert set(teacher_check(problem, 1.01 * teacher).unmet) == {
        "teacher's targets",
        "unit teacher",
    }
    assert teacher_check(changed(problem, train="inner"), teacher).unmet == ("both layers",)
    absolute = changed(problem, loss=Absolute())
    assert teacher_check(absolute, teacher).unmet == ("square loss",)
    # A point turned to the other side, its target with it.
    far = np.asarray(problem.inputs[1]) - 1.9 * (problem.inputs[1] @ teacher) * teacher
    turned = changed(problem, 1, inputs=far, label=max(float(far @ teacher), 0.0))
    broken = teacher_check(turned, teacher)
    np.testing.assert_allclose(
        broken.margins["angles below pi/4"],
        math.pi / 4 - math.acos(cosine(far, teacher)),
        rtol=1e-9,
    )
    assert broken.unmet == ("angles below pi/4",)
    twice = 2 * np.asarray(problem.inputs[0])
    repeated = changed(problem, 1, inputs=twice, label=2 * float(problem.targets[0]))
    assert set(teacher_check(repeated, teacher).unmet) >= {"distinct directions", "spanning inputs"}


def test_too_few_inputs_do_not_span():
    """Assert zero eigenvalues beyond the samples, and that the certificate says so."""
    _, certificate = single_neuron(KEY, 4, 2)
    np.testing.assert_array_equal(certificate.eigenvalues[2:], 0.0)
    assert set(certificate.unmet) >= {"spanning inputs", "distinct eigenvalues"}


def test_equal_eigenvalues_are_found_out():
    """Assert that a teacher along an eigenvector of a degenerate spectrum is refused."""
    problem, certificate = norm_agrees_with_rank(3)
    found = teacher_check(problem, certificate.teacher)
    assert {"distinct eigenvalues", "teacher in no eigenspace"} <= set(found.unmet)


class Absolute(rf.AbstractLoss):
    """Another loss for real targets; only its type matters here."""

    binary: ClassVar[bool] = False

    def value(self, prediction, target):
        return jnp.abs(prediction - target)

    def pull(self, prediction, target):
        return jnp.sign(target - prediction)

    def curvature(self, prediction, target):
        return jnp.zeros_like(prediction - target)

    def pull_term(self, m, prediction, pull, memory, target):
        return jnp.zeros_like(target), memory

    def first_memory(self, pull, target):
        return jnp.zeros_like(pull)


# ---- several teachers


def test_two_opposite_teachers():
    """Assert opposite directions, norms 1 and 3, and inputs about one of them each."""
    problem, certificate = several_neurons(KEY, 16)
    assert problem.inputs.shape == (32, 16)
    first, second = np.asarray(certificate.teachers)
    np.testing.assert_allclose(second, -3 * first, rtol=1e-13)
    np.testing.assert_allclose(np.linalg.norm(first), 1, rtol=1e-14)
    for i, (x, y) in enumerate(zip(problem.inputs, problem.targets, strict=True)):
        own = (first, second)[i % 2]
        np.testing.assert_allclose(y, sum(np.asarray(x) * own), rtol=1e-12)
        assert cosine(x, own) > math.cos(math.pi / 4) - 1e-12
        assert certificate.owner[i] == i % 2
    np.testing.assert_allclose(certificate.angles[0], math.pi / 4, rtol=1e-13)
    np.testing.assert_allclose(
        certificate.margins["one teacher an input"], math.sqrt(0.5), rtol=1e-12
    )
    assert certificate.holds


def test_three_teachers_with_signs():
    """Assert 120 degrees, the signed sum, the widest caps, and damage."""
    widest = math.asin(1 / 2)
    problem, certificate = several_neurons(
        KEY, 2, 30, teacher_norms=(1, 2, 3), outer=(1, -1, 2), max_angle=widest - 1e-9
    )
    teachers = np.asarray(certificate.teachers)
    for i in range(3):
        np.testing.assert_allclose(cosine(teachers[i], teachers[i - 1]), -0.5, rtol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(teachers, axis=1), [1, 2, 3], rtol=1e-14)
    for i, (x, y) in enumerate(zip(problem.inputs, problem.targets, strict=True)):
        wanted = sum(a * max(v @ x, 0) for a, v in zip((1, -1, 2), teachers, strict=True))
        np.testing.assert_allclose(y, wanted, rtol=1e-13)
        assert sum(float(v @ x) > 0 for v in teachers) == 1
        assert teachers[i % 3] @ x > 0
    assert certificate.holds
    assert teachers_check(problem, teachers).unmet == ("teachers' targets",)
    between = changed(problem, 0, inputs=teachers[0] + teachers[1])
    assert "one teacher an input" in teachers_check(between, teachers, (1, -1, 2)).unmet


# ---- norm and rank


@pytest.mark.parametrize(("features", "xi"), [(3, 0.64359), (3, 0.1), (4, None), (2, None)])
def test_norm_agrees_with_rank(features, xi):
    """Assert the dual basis in closed form, and that its angles are obtuse."""
    problem, certificate = norm_agrees_with_rank(features, xi)
    if xi is None:
        xi = min(math.sqrt(2 * (math.sqrt(2) - 1) / (features - 1)), 1) / 2
    share = (1 - xi) / features
    inputs = np.full((features, features), share)
    np.fill_diagonal(inputs, 1 - (features - 1) / features * (1 - xi))
    np.testing.assert_allclose(problem.inputs, inputs, rtol=1e-14)
    chi = (np.eye(features) - share) / xi
    np.testing.assert_allclose(certificate.chi, chi, rtol=1e-11)
    np.testing.assert_allclose(certificate.max_cosine, cosine(chi[0], chi[1]), rtol=1e-11)
    teacher = np.ones(features) / math.sqrt(features)
    np.testing.assert_allclose(
        certificate.angles, math.acos(cosine(inputs[0], teacher)), rtol=1e-12
    )
    np.testing.assert_allclose(problem.targets, inputs @ teacher, rtol=1e-14)
    assert certificate.holds
    assert certificate.pair_bound < 0
    assert not dual_basis_check(problem, teacher, "disagree").holds


@pytest.mark.parametrize(("features", "b"), [(3, 11.0), (5, 20.0)])
def test_norm_disagrees_with_rank(features, b):
    """Assert the dual basis, the published angles, and the bound of M in closed form."""
    problem, certificate = norm_disagrees_with_rank(features, b)
    chi = np.zeros((2, features))
    chi[:, 1], chi[:, 2] = np.array([-1, 1]) / (2 * math.sqrt(b)), 0.5
    np.testing.assert_allclose(certificate.chi[1:3], chi, atol=1e-14)
    bound = (b - 1) / (b + 1) - math.sqrt(1 - 9 / 25 * b / (b + 1))
    np.testing.assert_allclose(certificate.pair_bound, bound, rtol=1e-11)
    assert certificate.holds
    assert dual_basis_check(problem, certificate.teacher, "agree").unmet == ("obtuse duals",)
    if features == 3:
        np.testing.assert_allclose(bound, 0.014798, atol=5e-7)
        degrees = np.degrees(np.asarray(certificate.angles))
        np.testing.assert_allclose(degrees, [36.87, 35.40, 35.40], atol=5e-3)


def test_broken_norm_and_rank_data_are_found_out():
    """Assert negative margins for parallel inputs and wrong targets."""
    problem, certificate = norm_agrees_with_rank(3)
    wrong = dual_basis_check(changed(problem, 0, label=0.1), certificate.teacher, "agree")
    assert wrong.unmet == ("teacher's targets",)
    twice = changed(problem, 0, inputs=problem.inputs[1], label=problem.targets[1])
    assert "independent inputs" in dual_basis_check(twice, certificate.teacher, "agree").unmet


# ---- trapped


def test_the_published_three_points():
    """Assert the numbers by hand: like the theorem's data, but outside its ranges."""
    problem, certificate = three_points_experiment()
    np.testing.assert_array_equal(problem.inputs, [[-0.75, 1], [-0.5, 1], [0.125, 1]])
    np.testing.assert_array_equal(problem.targets, [1.1, 0.1, 0.8])
    assert certificate.eta == 0.875
    assert certificate.unmet == ("eta below 1/6", "y_3")
    np.testing.assert_allclose(certificate.margins["y_3"], -0.2, rtol=1e-12)
    np.testing.assert_allclose(certificate.min_inner, 1 - 0.75 * 0.125)
    line = np.polyval(np.polyfit([-0.75, -0.5, 0.125], [1.1, 0.1, 0.8], 1), -0.5)
    np.testing.assert_allclose(certificate.dip, line - 0.1, rtol=1e-12)
    assert certificate.alike > 0
    shuffled = rf.Problem(
        np.asarray(problem.inputs)[[2, 0, 1]],
        np.asarray(problem.targets)[[2, 0, 1]],
        SQUARE,
        "mean",
    )
    np.testing.assert_allclose(three_points_check(shuffled).dip, certificate.dip, rtol=1e-12)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("eta", [1e-3, 0.1, 0.1666])
def test_three_points_are_in_the_ranges(eta, seed):
    """Assert every range of the assumption, and that no smaller eta would do."""
    problem, certificate = three_points(jax.random.key(seed), eta)
    (a, b, c), (y_1, y_2, y_3) = np.asarray(problem.inputs), np.asarray(problem.targets)
    slack = eta * (1 + 1e-12)
    assert -1 < a[0] <= -1 + slack
    assert 1 <= a[1] <= 1 + slack
    assert 1 <= y_1 <= 1 + slack
    assert abs(b[0]) <= slack
    assert 1 - slack <= b[1] <= 1 + slack
    assert 0 < y_2 <= slack
    assert 1 - slack <= c[0] < 1
    assert 1 <= c[1] <= 1 + slack
    assert 1 <= y_3 <= 1 + slack
    np.testing.assert_allclose(certificate.eta, eta, rtol=1e-12)
    assert certificate.holds
    assert certificate.alike > 0


def test_broken_three_points_are_found_out():
    """Assert a negative margin for a raised middle point and a turned one."""
    problem, _ = three_points(KEY, 0.1)
    assert three_points_check(changed(problem, 1, label=1.0)).unmet == ("eta below 1/6",)
    assert three_points_check(changed(problem, 1, label=-0.01)).unmet == ("y_2 positive",)
    turned = three_points_check(changed(problem, 0, inputs=[-1.05, 1.02]))
    assert turned.unmet == ("x_1 right of -1",)
    np.testing.assert_allclose(turned.margins["x_1 right of -1"], -0.05, rtol=1e-12)

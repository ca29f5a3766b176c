"""Families for classification, and errors: what was asked for is attained, damage shows."""

import math

import equinox as eqx
import jax
import numpy as np
import pytest

import relu_flow as rf
from relu_flow.data.clusters import clusters_check, two_clusters
from relu_flow.data.norm_rank import (
    dual_basis_check,
    norm_agrees_with_rank,
    norm_disagrees_with_rank,
)
from relu_flow.data.orthogonal import orthogonal, orthogonality_check
from relu_flow.data.separable import orthogonally_separable, separability_check
from relu_flow.data.teacher import single_neuron, teacher_check
from relu_flow.data.teachers import several_neurons, teachers_check
from relu_flow.data.trapped import three_points, three_points_check

from .oracles import changed, cosine, signed, worst_pair

KEY = jax.random.key(5)
SQUARE = rf.SquareLoss()


# ---- orthogonally separable


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("mu", [1e-6, 0.3, 0.9, 1 - 1e-9, -0.2])
def test_separability_is_attained(mu, seed):
    """Assert that the worst pair has the cosine asked for, and all norms are in range."""
    problem, certificate = orthogonally_separable(jax.random.key(seed), 9, 4, mu, norms=(0.5, 2.0))
    np.testing.assert_allclose(worst_pair(signed(problem)), mu, rtol=0, atol=1e-15)
    np.testing.assert_allclose(certificate.mu, mu, rtol=0, atol=1e-15)
    norms = np.linalg.norm(problem.inputs, axis=1)
    np.testing.assert_allclose([norms.min(), norms.max()], [0.5, 2.0], rtol=1e-14)
    np.testing.assert_allclose([certificate.x_min, certificate.x_max], [0.5, 2.0], rtol=1e-14)
    assert len(np.unique(norms)) == 9
    assert bool(certificate.holds) == (mu > 0)
    assert certificate.unmet == (() if mu > 0 else ("separability",))
    assert problem.reduction == "sum"


@pytest.mark.parametrize(
    ("samples", "features", "mu"),
    [(2, 2, 0.5), (5, 2, 0.01), (3, 3, 1.0), (4, 1, 1.0), (1, 3, 1.0), (1, 1, 1.0)],
)
def test_separability_at_the_edges(samples, features, mu):
    """Assert the same where there is hardly room."""
    problem, certificate = orthogonally_separable(KEY, samples, features, mu)
    vectors = signed(problem)
    worst = worst_pair(vectors) if samples > 1 else cosine(vectors[0], vectors[0])
    np.testing.assert_allclose([worst, float(certificate.mu)], mu, rtol=0, atol=1e-15)
    assert certificate.holds


@pytest.mark.parametrize("positives", [0, 2, 8, 9])
def test_separable_classes_have_the_sizes_asked_for(positives):
    """Assert class sizes and sums, also where a class is empty."""
    problem, certificate = orthogonally_separable(KEY, 9, 4, 0.4, positives=positives)
    inputs, targets = np.asarray(problem.inputs), np.asarray(problem.targets)
    assert [int(certificate.n_plus), int(certificate.n_minus)] == [positives, 9 - positives]
    assert sum(y == 1 for y in targets) == positives
    total = {sign: np.zeros(4) for sign in (1, -1)}
    for x, y in zip(inputs, targets, strict=True):
        total[int(y)] = total[int(y)] + x
    np.testing.assert_allclose(certificate.x_plus, total[1], atol=1e-14)
    np.testing.assert_allclose(certificate.x_minus, total[-1], atol=1e-14)
    squares = [cosine(total[s], x) ** 2 for s in (1, -1) if total[s].any() for x in inputs]
    np.testing.assert_allclose(certificate.zeta_1, min(squares), rtol=1e-13)
    assert 0.4**2 <= float(certificate.zeta_1) < 1
    assert certificate.holds


@pytest.mark.parametrize(("seed", "mu"), [(0, 0.2), (3, 0.8), (4, 0.5)])
def test_zeta_and_xi_are_the_best_constants(seed, mu):
    """Assert both against their definitions, over all directions of the plane."""
    problem, certificate = orthogonally_separable(jax.random.key(seed), 5, 2, mu)
    inputs, positive = np.asarray(problem.inputs), np.asarray(problem.targets) > 0
    turn = np.linspace(0, 2 * np.pi, 40_001)[:-1]
    directions = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    active = directions @ inputs.T > 0
    in_plus = np.all(active == positive, axis=1)
    in_minus = np.all(active == ~positive, axis=1)

    def nearest_outside(center, inside):
        center = center / np.linalg.norm(center)
        return np.max(directions[~inside] @ center)

    plus, minus = inputs[positive].sum(axis=0), inputs[~positive].sum(axis=0)
    reach = max(nearest_outside(plus, in_plus), nearest_outside(minus, in_minus))
    np.testing.assert_allclose(1 - certificate.zeta_1, reach**2, atol=1e-3)
    # In the plane the cone of the y_i x_i is between the two outermost of them.
    vectors = signed(problem)
    along = vectors.sum(axis=0)
    side = lambda v: np.arctan2(v @ np.array([-along[1], along[0]]), v @ along)
    between = (side(directions) >= side(vectors).min()) & (side(directions) <= side(vectors).max())
    cone = directions[between]
    outside = directions[~in_plus & ~in_minus][::20]
    np.testing.assert_allclose(1 - certificate.xi, np.max(np.abs(cone @ outside.T)) ** 2, atol=5e-3)


def test_separable_data_are_paired_and_nested():
    """Assert what is shared by other separabilities, norms and numbers of samples."""
    base, _ = orthogonally_separable(KEY, 9, 4, 0.3)
    longer, _ = orthogonally_separable(KEY, 9, 4, 0.3, norms=(2.0, 2.0))
    np.testing.assert_allclose(longer.inputs, 2 * base.inputs, rtol=1e-14)
    smaller, _ = orthogonally_separable(KEY, 5, 4, 0.3)
    np.testing.assert_allclose(smaller.inputs, base.inputs[:5], rtol=1e-13, atol=1e-15)
    np.testing.assert_array_equal(smaller.targets, base.targets[:5])
    wider, _ = orthogonally_separable(KEY, 9, 4, -0.6)
    # The rim's two points show the axis; azimuths are what is left without it.
    axis = np.sum(signed(base)[:2], axis=0)
    np.testing.assert_allclose(cosine(axis, np.sum(signed(wider)[:2], axis=0)), 1, rtol=1e-14)
    axis /= np.linalg.norm(axis)
    aside = [v - np.outer(v @ axis, axis) for v in (signed(base), signed(wider))]
    for i in range(9):
        np.testing.assert_allclose(cosine(aside[0][i], aside[1][i]), 1, rtol=1e-13)
        polar = [math.acos(cosine(v[i], axis)) for v in (signed(base), signed(wider))]
        ratio = math.acos(0.3) / math.acos(-0.6)
        np.testing.assert_allclose(polar[0] / polar[1], ratio, rtol=1e-10)


def test_broken_separable_data_are_found_out():
    """Assert a negative margin after one flipped label, one turned point, other settings."""
    problem, certificate = orthogonally_separable(KEY, 9, 4, 0.3)
    assert certificate.holds
    flipped = changed(problem, 4, label=-problem.targets[4])
    assert separability_check(flipped).margins["separability"] < -0.3 + 1e-12
    turned = changed(problem, 4, inputs=-np.asarray(problem.inputs[4]))
    broken = separability_check(turned)
    np.testing.assert_allclose(broken.mu, worst_pair(signed(turned)), rtol=1e-13)
    assert not broken.holds
    assert broken.zeta_1 < 0
    assert broken.xi == 0
    regression = changed(problem, 4, label=2.0 * problem.targets[4], loss=SQUARE)
    assert separability_check(regression).unmet == ("classification loss", "labels")
    assert separability_check(changed(problem, train="inner")).unmet == ("both layers",)
    assert separability_check(changed(problem, loss=rf.LogisticLoss())).holds


# ---- orthogonal


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("loss", [rf.LogisticLoss(), SQUARE])
def test_orthogonal_inputs_are_orthogonal(rotate, loss):
    """Assert inner products, norms, labels and the pulls of both classes."""
    problem, certificate = orthogonal(KEY, 5, 7, norms=(0.5, 3.0), rotate=rotate, loss=loss)
    inputs, targets = np.asarray(problem.inputs), np.asarray(problem.targets)
    largest = max(abs(cosine(inputs[i], inputs[k])) for i in range(5) for k in range(i))
    assert largest == 0.0 if not rotate else largest < 1e-15
    assert np.count_nonzero(inputs) == (35 if rotate else 5)
    np.testing.assert_allclose(certificate.max_cosine, largest, atol=1e-15)
    norms = np.linalg.norm(inputs, axis=1)
    np.testing.assert_allclose([norms.min(), norms.max()], [0.5, 3.0], rtol=1e-14)
    np.testing.assert_array_equal(np.sign(targets), [1, -1, 1, -1, 1])
    sizes = [1, 2] if loss is SQUARE else [1, 1]
    np.testing.assert_allclose([np.abs(targets).min(), np.abs(targets).max()], sizes, rtol=1e-15)
    for pull, sign in ((certificate.plus, 1), (certificate.minus, -1)):
        squares = [(y * n) ** 2 for y, n in zip(targets, norms, strict=True) if y * sign > 0]
        np.testing.assert_allclose(pull, math.sqrt(sum(squares)), rtol=1e-13)
    assert certificate.holds


def test_orthogonal_data_at_the_edges():
    """Assert one sample, given targets, an empty class, and nesting."""
    assert orthogonal(KEY, 1, 1)[1].holds
    problem, certificate = orthogonal(KEY, 5, 7, targets=[3.0, -1.0, 2.0, 0.5, -4.0], loss=SQUARE)
    np.testing.assert_array_equal(problem.targets, [3.0, -1.0, 2.0, 0.5, -4.0])
    np.testing.assert_allclose(certificate.margins["non-zero targets"], 0.5)
    problem, certificate = orthogonal(KEY, 5, 7, positives=0)
    np.testing.assert_array_equal(problem.targets, -np.ones(5))
    assert certificate.plus == 0
    wide, _ = orthogonal(KEY, 5, 7, norms=(0.5, 3.0), rotate=True)
    few, _ = orthogonal(KEY, 3, 7, norms=(0.5, 3.0), rotate=True)
    np.testing.assert_allclose(few.inputs, wide.inputs[:3], rtol=1e-12, atol=1e-15)


def test_broken_orthogonal_data_are_found_out():
    """Assert a negative margin for a point turned by 1e-9 and for a zero target."""
    problem, _ = orthogonal(KEY, 5, 7, loss=SQUARE)
    turned = np.asarray(problem.inputs[0]) + 1e-9 * np.asarray(problem.inputs[1])
    broken = orthogonality_check(changed(problem, 0, inputs=turned))
    np.testing.assert_allclose(broken.margins["orthogonal inputs"], -1e-9, rtol=1e-4)
    assert orthogonality_check(changed(problem, 2, label=0.0)).unmet == ("non-zero targets",)


# ---- two clusters


def test_two_clusters_by_hand():
    """Assert p = 4 at the angle 0.3 in the plane, from its definition."""
    problem, certificate = two_clusters(4, 1, 0.3)
    x_plus, x_minus = [math.cos(0.15), math.sin(0.15)], [math.cos(0.15), -math.sin(0.15)]
    np.testing.assert_allclose(problem.inputs, [x_plus] * 4 + [x_minus], rtol=1e-15)
    np.testing.assert_array_equal(problem.targets, [1, 1, 1, 1, -1])
    assert (problem.reduction, problem.train) == ("mean", "inner")
    np.testing.assert_allclose([certificate.p, certificate.angle], [4, 0.3], rtol=1e-14)
    np.testing.assert_allclose(
        certificate.margins["heavy class"], 4 * math.cos(0.3) - 1, rtol=1e-14
    )
    assert certificate.holds


@pytest.mark.parametrize("angle", [1e-7, 0.3, 3.0])
def test_turned_clusters_keep_the_angle(angle):
    """Assert exact copies of unit norm in any plane, and an angle right to its last digits."""
    problem, certificate = two_clusters(3, 2, angle, features=5, key=KEY)
    inputs = np.asarray(problem.inputs)
    assert len(np.unique(inputs, axis=0)) == 2
    np.testing.assert_allclose(np.linalg.norm(inputs, axis=1), 1, rtol=1e-14)
    chord = np.linalg.norm(inputs[0] - inputs[-1])
    np.testing.assert_allclose(
        2 * math.asin(chord / 2), angle, rtol=2e-9 if angle < 1e-3 else 1e-14
    )
    np.testing.assert_allclose(certificate.angle, angle, rtol=2e-9 if angle < 1e-3 else 1e-14)
    assert bool(certificate.holds) == (angle < 2)
    other, _ = two_clusters(3, 2, 0.3, features=5, key=KEY)
    axis = np.asarray(other.inputs[0] + other.inputs[-1])
    np.testing.assert_allclose(cosine(axis, inputs[0] + inputs[-1]), 1, rtol=1e-12)


def test_broken_clusters_are_found_out():
    """Assert which margin is negative after each kind of damage."""
    jittered, certificate = two_clusters(3, 2, 0.3, features=5, key=KEY, jitter=0.05)
    copies, _ = two_clusters(3, 2, 0.3, features=5, key=KEY)
    for moved, centre in zip(jittered.inputs, copies.inputs, strict=True):
        assert 0 < math.acos(cosine(moved, centre)) < 0.05
    assert certificate.unmet == ("copies",)
    assert 0 < float(certificate.spread) < 0.1
    assert two_clusters(1, 1, 0.3)[1].unmet == ("heavy class",)
    problem, _ = two_clusters(4, 1, 0.3)
    assert "copies" in clusters_check(changed(problem, 0, label=-1.0)).unmet
    assert set(clusters_check(changed(problem, 4, label=1.0)).unmet) >= {"labels", "copies"}
    longer = clusters_check(changed(problem, 0, inputs=1.1 * np.asarray(problem.inputs[0])))
    assert longer.unmet == ("unit norms",)
    np.testing.assert_allclose(longer.margins["unit norms"], -0.1, rtol=1e-12)
    other = clusters_check(changed(problem, loss=rf.LogisticLoss(), reduction="sum", train="both"))
    assert other.unmet == ("exponential loss", "mean of losses", "outer layer fixed")


# ---- transformations, errors


def test_families_can_be_drawn_over_keys():
    """Assert that a batch of keys gives what the keys give one by one."""
    keys = jax.random.split(KEY, 3)
    draw = lambda key: orthogonally_separable(key, 9, 4, 0.3)
    problems, certificates = eqx.filter_vmap(draw)(keys)
    assert certificates.holds.shape == ()
    for i, key in enumerate(keys):
        problem, certificate = draw(key)
        np.testing.assert_allclose(problems.inputs[i], problem.inputs, rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(certificates.zeta_1[i], certificate.zeta_1, rtol=1e-12)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: orthogonally_separable(KEY, 0, 4, 0.3), "samples"),
        (lambda: orthogonally_separable(KEY, 9, 4.0, 0.3), "features"),  # pyright: ignore[reportArgumentType]
        (lambda: orthogonally_separable(KEY, 9, 4, 1.1), "mu"),
        (lambda: orthogonally_separable(KEY, 9, 4, -1.0), "mu"),
        (lambda: orthogonally_separable(KEY, 9, 4, math.nan), "mu"),
        (lambda: orthogonally_separable(KEY, 9, 1, 0.3), "mu"),
        (lambda: orthogonally_separable(KEY, 1, 4, 0.3), "mu"),
        (lambda: orthogonally_separable(KEY, 9, 4, 0.3, positives=10), "positives"),
        (lambda: orthogonally_separable(KEY, 9, 4, 0.3, norms=(2.0, 1.0)), "norms"),
        (lambda: orthogonally_separable(KEY, 9, 4, 0.3, norms=1.0), "norms"),  # pyright: ignore[reportArgumentType]
        (lambda: orthogonally_separable(KEY, 9, 4, 0.3, loss="exponential"), "loss"),  # pyright: ignore[reportArgumentType]
        (lambda: orthogonally_separable(KEY, 9, 4, 0.3, reduction="max"), "reduction"),  # pyright: ignore[reportArgumentType]
        (lambda: orthogonal(KEY, 5, 4), "features"),
        (lambda: orthogonal(KEY, 5, 7, norms=(0.0, 1.0)), "norms"),
        (lambda: orthogonal(KEY, 5, 7, positives=-1), "positives"),
        (lambda: orthogonal(KEY, 5, 7, targets=np.ones(5), positives=2), "positives"),
        (lambda: orthogonal(KEY, 5, 7, targets=np.ones(4)), "targets"),
        (lambda: orthogonal(KEY, 5, 7, loss="square"), "loss"),  # pyright: ignore[reportArgumentType]
        (lambda: single_neuron(KEY, 1), "features"),
        (lambda: single_neuron(KEY, 4, 0), "samples"),
        (lambda: single_neuron(KEY, 4, variant="central"), "variant"),  # pyright: ignore[reportArgumentType]
        (lambda: single_neuron(KEY, 4, max_angle=0.0), "max_angle"),
        (lambda: single_neuron(KEY, 4, max_angle=math.pi / 2), "max_angle"),
        (lambda: single_neuron(KEY, 4, norms=(1.0, math.inf)), "norms"),
        (lambda: single_neuron(KEY, 4, variant="centred", max_angle=0.3), "max_angle"),
        (lambda: single_neuron(KEY, 4, variant="uncentred", norms=(1.0, 1.0)), "norms"),
        (lambda: teacher_check(single_neuron(KEY, 4)[0], np.ones(3)), "teacher"),
        (lambda: teacher_check(single_neuron(KEY, 4)[0], np.zeros(4)), "teacher"),
        (lambda: several_neurons(KEY, 16, teacher_norms=(1.0,)), "teacher_norms"),
        (lambda: several_neurons(KEY, 16, teacher_norms=(1.0, -3.0)), "teacher_norms"),
        (lambda: several_neurons(KEY, 16, outer=(1.0, 0.0)), "outer"),
        (lambda: several_neurons(KEY, 2, teacher_norms=(1.0,) * 4), "features"),
        (lambda: several_neurons(KEY, 16, max_angle=math.pi / 2), "max_angle"),
        (lambda: several_neurons(KEY, 4, teacher_norms=(1, 1, 1), max_angle=0.6), "max_angle"),
        (lambda: teachers_check(several_neurons(KEY, 16)[0], np.ones(16)), "teachers"),
        (lambda: teachers_check(several_neurons(KEY, 16)[0], np.ones((2, 16)), [1.0]), "outer"),
        (lambda: two_clusters(0, 1, 0.3), "positives"),
        (lambda: two_clusters(4, 0, 0.3), "negatives"),
        (lambda: two_clusters(4, 1, 0.0), "angle"),
        (lambda: two_clusters(4, 1, 4.0), "angle"),
        (lambda: two_clusters(4, 1, 0.3, features=1), "features"),
        (lambda: two_clusters(4, 1, 0.3, jitter=0.1), "key"),
        (lambda: two_clusters(4, 1, 0.3, key=KEY, jitter=-0.1), "jitter"),
        (lambda: two_clusters(4, 1, 0.3, train="outer"), "train"),  # pyright: ignore[reportArgumentType]
        (lambda: norm_agrees_with_rank(1), "features"),
        (lambda: norm_agrees_with_rank(3, 0.6437), "xi"),
        (lambda: norm_agrees_with_rank(3, 0.0), "xi"),
        (lambda: norm_disagrees_with_rank(2), "features"),
        (lambda: norm_disagrees_with_rank(3, 10.9), "b"),
        (lambda: dual_basis_check(two_clusters(4, 1, 0.3)[0], np.ones(2), "agree"), "problem"),
        (lambda: dual_basis_check(norm_agrees_with_rank(3)[0], np.ones(3), "less"), "claim"),  # pyright: ignore[reportArgumentType]
        (lambda: three_points(KEY, 1 / 6), "eta"),
        (lambda: three_points(KEY, 0.0), "eta"),
        (lambda: three_points_check(two_clusters(4, 1, 0.3)[0]), "problem"),
    ],
)
def test_bad_arguments(call, name):
    """Assert that what makes no sense is refused by the argument's name."""
    with pytest.raises(ValueError, match=f"Argument `{name}` must"):
        call()

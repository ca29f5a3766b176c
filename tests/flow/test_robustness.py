"""Trajectories on which rounding once decided wrongly, beside a method that knows no switches."""

import jax
import numpy as np
import pytest

import relu_flow as rf

WIDTH, SAMPLES, FEATURES, END = 10, 8, 4, 6.0


def draw(seed):
    """Return data of unit norm for a square loss, signs of targets mixed or all positive."""
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(SAMPLES, FEATURES))
    inputs /= np.linalg.norm(inputs, axis=1)[:, None]
    targets = random.normal(size=SAMPLES)
    targets = np.abs(targets) if seed % 2 else targets
    inner = random.normal(size=(WIDTH, FEATURES))
    outer = np.linalg.norm(inner, axis=1) * np.where(random.random(WIDTH) < 0.5, 1, -1)
    return inputs, targets, inner, outer


def draw_orthogonal(seed):
    """Return orthonormal inputs, each twice, positive targets and neurons of both signs."""
    inputs, targets, inner, outer = draw(seed)
    axes = np.linalg.qr(inputs[:FEATURES])[0]
    half = 1 + np.abs(targets[:FEATURES])
    return np.tile(axes, (2, 1)), np.tile(half, 2), inner, outer


def euler(inputs, targets, inner, outer, scale, end, step):
    """Return the outputs after steps of gradient descent on the sum of squares over two."""
    inner, outer = scale * inner, scale * outer
    for _ in range(round(end / step)):
        pre = inner @ inputs.T
        active = pre > 0
        pull = targets - outer @ (active * pre)
        drive = (active * pull) @ inputs
        inner, outer = (
            inner + step * outer[:, None] * drive,
            outer + step * np.sum(inner * drive, 1),
        )
    return outer @ np.maximum(inner @ inputs.T, 0)


def check(inputs, targets, inner, outer, scale, end, rtol):
    problem = rf.Problem(inputs, targets, rf.SquareLoss())
    network = rf.TwoLayerReLU(inner, outer, np.log(scale))
    final = rf.solve(problem, network, end, rtol=rtol).network
    found = np.asarray(jax.vmap(final)(problem.inputs))
    coarse, fine = (euler(inputs, targets, inner, outer, scale, end, h) for h in (2e-3, 1e-3))
    # Descent is off by a multiple of its step: what halving it changes says how much.
    allowed = 1e-4 + 2 * np.max(np.abs(coarse - fine))
    np.testing.assert_allclose(found, fine, rtol=0, atol=allowed)


@pytest.mark.parametrize("seed", [10, 75, 122, 129, 135, 141, 247, 304, 397])
def test_a_drive_through_zero_ends_several_slides_at_once(seed):
    """Assert that runs go on where the one active pull of a sliding neuron changes sign.

    All its slides end at that instant, and what follows is told by second derivatives.
    """
    for rtol in (1e-10, 1e-12):
        check(*draw(seed), 0.01, END, rtol)


@pytest.mark.parametrize("seed", [4, 20, 27, 31, 32])
def test_neurons_that_shrink_stay_on_the_hyperplanes_they_rest_on(seed):
    """Assert that a distance that is rounding is no crossing once the neuron is small.

    Draws whose inputs all have a positive neuron: descent does not keep the balance, so that
    it revives a negative neuron that shrinks (draw 13), and is no oracle there.
    """
    check(*draw_orthogonal(seed), 1e-12, 14.0, 1e-10)

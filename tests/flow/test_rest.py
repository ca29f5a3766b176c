"""States of rest: where runs come to an end by themselves, however long they go on.

Inputs of few values and targets that repeat or are zero (`xor` of `fuzz/draws.py`) leave what a
generic problem does not: outer weights and preactivations that decay for ever, slides whose pulls
vanish, pulls that cancel exactly. What is at rest must be a stationary point, by an oracle of the
test's own: zero is in each neuron's Clarke set.
"""

import numpy as np
import pytest
import scipy.optimize

import relu_flow as rf

from ..fuzz import draws, product

# Long beyond the last of them.
END = 1e6
# Preactivations that decay are this near to their hyperplane when pulls are noise.
NEAR = 1e-10


def solve_to_rest(seed, train):
    """Solve a problem of `xor` until long after it has come to rest."""
    numbers = draws.draw("xor", seed, "square", train, "mean")
    problem, network = product.build(numbers)
    return numbers, rf.solve(problem, network, END, throw=False)


def least_drive(inputs, pull, preactivation, size):
    """Return the norm of the smallest drive in a neuron's Clarke set: inputs it is on may act."""
    near = np.abs(preactivation) <= NEAR * size * np.linalg.norm(inputs, axis=1)
    terms = pull[:, None] * inputs
    fixed = terms[(preactivation > 0) & ~near].sum(axis=0)
    if not near.any():
        return np.linalg.norm(fixed)
    found = scipy.optimize.lsq_linear(
        terms[near].T, -fixed, bounds=(0.0, 1.0), method="bvls", tol=1e-15
    )
    return np.linalg.norm(fixed + terms[near].T @ found.x)


def check_rest(numbers, run):
    """Assert that a run ended without a code, at rest, at a stationary point."""
    assert run.result == rf.RESULTS.successful
    assert float(run.stats["settled"]) < END
    inputs, targets = numbers["X"], numbers["y"]
    inner, outer = np.asarray(run.network.inner_weight), np.asarray(run.network.outer_weight)
    size = np.exp(np.asarray(run.network.log_scale))
    inner, outer = size[:, None] * inner, np.exp(np.asarray(run.network.outer_log_scale)) * outer
    outputs = outer @ np.maximum(inner @ inputs.T, 0.0)
    pull = (targets - outputs) / len(targets)
    for w, v in zip(inner, outer, strict=True):
        # A neuron that has decayed is at zero, where no drive moves its outputs.
        if np.abs(v) * np.linalg.norm(w) > 1e-9:
            assert least_drive(inputs, pull, inputs @ w, np.linalg.norm(w)) < 1e-11


@pytest.mark.parametrize(
    ("train", "seed"),
    [
        # An outer weight beside inner weights that stay decays for ever: its digits are those of
        # its neuron's size, and a long step that took it through zero left the saddle.
        ("both", 50),
        # The same with targets that are all zero: nothing tells when outputs are none.
        ("both", 72),
        ("both", 332),
        # Pulls of a fit, one ulp to and fro, and inner weights that decay beside the outer one.
        ("both", 223),
        # Pulls at the edge of noise: some are felt, and yet nobody is driven.
        ("both", 259),
        # A slide that nothing drives any more, at rest, where no error adds up.
        ("inner", 14),
        # Inner weights that decay beside a fixed outer weight, towards the smallest numbers.
        ("inner", 118),
    ],
)
def test_what_decays_for_ever_comes_to_rest(train, seed):
    """Assert that a run ends at a stationary point, and that outer weights keep their signs."""
    numbers, run = solve_to_rest(seed, train)
    check_rest(numbers, run)
    kept = np.sign(np.asarray(run.network.outer_weight)) == np.sign(numbers["v0"])
    # One with |v| below |w| may pass zero; of these none does.
    assert kept.all()


@pytest.mark.fuzz
@pytest.mark.parametrize("train", ["both", "inner"])
def test_all_come_to_rest(train):
    """Assert it of 500 problems."""
    wrong = []
    for seed in range(500):
        try:
            check_rest(*solve_to_rest(seed, train))
        except AssertionError as error:
            wrong.append((seed, str(error)))
    assert not wrong

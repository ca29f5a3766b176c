"""Plain arithmetic that the tests of data families compare with, and damage to problems."""

import math

import numpy as np

import relu_flow as rf


def cosine(a, b):
    """Return the cosine of two vectors, one product after another."""
    dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(math.fsum(x * x for x in a) * math.fsum(x * x for x in b))


def signed(problem):
    """Return all y_i x_i."""
    return np.asarray(problem.targets)[:, None] * np.asarray(problem.inputs)


def worst_pair(vectors):
    """Return the least cosine of two different vectors."""
    n = len(vectors)
    return min(cosine(vectors[i], vectors[k]) for i in range(n) for k in range(i))


def changed(problem, row=None, inputs=None, label=None, **options):
    """Return the problem with one input or target replaced, or another option."""
    x, y = np.array(problem.inputs), np.array(problem.targets)
    if inputs is not None:
        x[row] = inputs
    if label is not None:
        y[row] = label
    kept = {"loss": problem.loss, "reduction": problem.reduction, "train": problem.train}
    return rf.Problem(x, y, **{**kept, **options})

"""Problems with a teacher neuron, and what is asked of the claims about them."""

import math

import numpy as np

import relu_flow as rf
from relu_flow.claims.verdict import Evidence
from relu_flow.papers.single_neuron import theory

# Rows of a Hadamard matrix times these: the inputs' second moment is diagonal, known by hand.
ROOTS = np.array([1.0, 0.4, 0.3, 0.2])
SIGNS = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])


def spectral(log_scale=-40.0):
    """Return four inputs in four dimensions, and twelve neurons, six of them growing."""
    inputs = SIGNS * ROOTS
    teacher = np.array([1.0, 0.2, 0.2, 0.2]) / math.sqrt(1.12)
    rng = np.random.default_rng(13)
    inner = rng.normal(size=(12, 4))
    sign = np.where(rng.random(12) < 0.6, 1, -1)
    problem = rf.Problem(inputs, inputs @ teacher, rf.SquareLoss(), reduction="mean")
    return problem, rf.TwoLayerReLU(inner, sign * np.linalg.norm(inner, axis=1), log_scale)


def planar(log_scale=-2300.0, teacher=(1.0, 0.0)):
    """Return two inputs in the plane with delta near one half: Assumption 2 can be met."""
    inputs = np.array([[1.02, -0.86], [0.825, 0.3]])
    angle = np.array([-1.745, -0.17, 1.396, 0.3, -1.745, 0.26, 1.396, 0.26])
    norm = np.array([1.0, 0.9, 1.1, 0.6, 1.0, 0.8, 0.7, 1.2])
    sign = np.array([1, 1, 1, 1, -1, -1, -1, -1])
    inner = norm[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    targets = np.maximum(inputs @ np.array(teacher), 0)
    problem = rf.Problem(inputs, targets, rf.SquareLoss(), reduction="mean")
    return problem, rf.TwoLayerReLU(inner, sign * norm, log_scale)


def by_name(verdicts):
    return {verdict.claim.name: verdict for verdict in verdicts}


def checked(problem, network, flow, *names, **options):
    """Return the verdicts on some claims by their names."""
    evidence = Evidence(problem, network, flow)
    made = {claim.name: claim for claim in theory.claims(**options)}
    return {name: made[name].check(evidence) for name in names}


def refuted(verdicts):
    """Return the names of claims of which some comparison was reached and failed."""
    return {
        verdict.claim.name
        for verdict in verdicts
        if any(c.reached and not c.holds for c in verdict.comparisons)
    }


def data_of(problem):
    return np.asarray(problem.inputs), np.asarray(problem.targets)

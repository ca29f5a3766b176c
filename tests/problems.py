"""Problems of the tests. Shapes are the cost of the suite: keep to these few."""

import numpy as np

import relu_flow as rf


def separable(seed=0, samples=20, features=10, width=50, log_scale=-9.210340371976182, spread=0.75):
    """Return orthogonally separable data of unit norm and a balanced Gaussian network.

    All y_i x_i lie in a cone about one direction; the reference problem of the benchmarks.
    """
    random = np.random.default_rng(seed)
    axis = random.normal(size=features)
    axis /= np.linalg.norm(axis)
    across = random.normal(size=(samples, features))
    across -= np.outer(across @ axis, axis)
    across /= np.linalg.norm(across, axis=1)[:, None]
    targets = np.where(np.arange(samples) % 2 == 0, 1.0, -1.0)
    inputs = targets[:, None] * (axis + spread * across)
    inputs /= np.linalg.norm(inputs, axis=1)[:, None]
    inner = random.normal(size=(width, features)) / np.sqrt(features)
    outer = np.linalg.norm(inner, axis=1) * np.where(random.random(width) < 0.5, 1, -1)
    return inputs, targets, rf.TwoLayerReLU(inner, outer, log_scale)


def mixed(seed=3, samples=8, features=4, width=10, log_scale=-4.605170185988091):
    """Return random data with random labels: crossings, slides and deaths."""
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(samples, features))
    inputs /= np.linalg.norm(inputs, axis=1)[:, None]
    targets = np.where(random.random(samples) < 0.5, 1.0, -1.0)
    inner = random.normal(size=(width, features)) / np.sqrt(features)
    outer = np.linalg.norm(inner, axis=1) * np.where(random.random(width) < 0.5, 1, -1)
    return inputs, targets, rf.TwoLayerReLU(inner, outer, log_scale)

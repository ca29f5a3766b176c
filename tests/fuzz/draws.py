"""Random problems of every kind, degenerate ones included. A kind and a seed are one problem.

All have the same numbers of samples, neurons and features, so that few programs are compiled:
what has fewer features has columns of zeros, and a neuron too many rests with weights zero.
"""

import numpy as np

SAMPLES, WIDTH, FEATURES = 6, 5, 3
LOSSES = ("exp", "logistic", "square")
TRAINS = ("both", "inner")


def _dyadic(array, bits=5):
    """Round to multiples of a power of two: sums of few products are exact then."""
    return np.round(np.asarray(array, float) * 2**bits) / 2**bits


def _generic(random, features):
    inputs = random.normal(size=(SAMPLES, features)) * 0.6
    inputs[:, 0] += random.choice([0.0, 0.4, 0.9])
    return _dyadic(inputs)


def _repeated(random, inputs, w):
    a, b, c, d = random.permutation(SAMPLES)[:4]
    inputs[a], inputs[c] = inputs[b], 2 * inputs[d]
    return inputs, w


def _opposite(random, inputs, w):
    a, b, c, d = random.permutation(SAMPLES)[:4]
    inputs[a], inputs[c] = -inputs[b], -0.5 * inputs[d]
    return inputs, w


def _grid(random, inputs, w):
    return random.integers(-1, 2, size=inputs.shape).astype(float), w


def _axes(random, inputs, w):
    features = inputs.shape[1]
    which = random.permutation(np.arange(SAMPLES) % features)
    return np.eye(features)[which] * random.choice([0.5, 1.0, 2.0], size=(SAMPLES, 1)), w


def _coplanar(random, inputs, w):
    inputs[2:] = random.integers(-2, 3, size=(SAMPLES - 2, 2)) @ inputs[:2] / 2
    return inputs, w


def _clusters(random, inputs, w):
    centres = _dyadic(random.normal(size=(2, inputs.shape[1])))
    near = _dyadic(0.06 * random.normal(size=inputs.shape), 6)
    return centres[np.arange(SAMPLES) % 2] + near, w


def _mirrored(random, inputs, w):
    half, turn = SAMPLES // 2, np.where(np.arange(inputs.shape[1]) == 0, -1.0, 1.0)
    inputs[half:] = inputs[:half] * turn
    w[2:4] = w[:2] * turn
    return inputs, w


def _ulp(random, inputs, w):
    """Samples and neurons that are each other's duplicates up to one unit of rounding."""
    a, b = random.permutation(SAMPLES)[:2]
    inputs[a] = np.nextafter(inputs[b], inputs[b] + random.choice([-1, 1], size=inputs.shape[1]))
    w[1] = np.nextafter(w[0], w[0] + random.choice([-1, 1], size=w.shape[1]))
    return inputs, w


def _start_on(random, inputs, w):
    """Neurons that start exactly on a hyperplane."""
    for j in range(0, WIDTH, 2):
        x = inputs[random.integers(SAMPLES)]
        turned = np.zeros_like(x)
        turned[:2] = (-x[1], x[0]) if np.any(x[:2]) else (1.0, 0.0)
        w[j] = turned * random.choice([-1.0, 1.0])
    return inputs, w


def _twins(random, inputs, w):
    """Neurons that are equal, or equal but for their size."""
    w[1], w[3] = w[0], 2 * w[2]
    return inputs, w


def _xor(random, inputs, w):
    """Corners of a cube, small round weights, two neurons."""
    corners = np.array([-1.0, 1.0] if random.random() < 0.5 else [-1.0, 0.0, 1.0])
    inputs = random.choice(corners, size=inputs.shape)
    w = np.round(random.normal(size=w.shape) * 0.5, 1)
    return inputs, w


SHAPERS = {
    "generic": lambda random, inputs, w: (inputs, w),
    "repeated": _repeated,
    "opposite": _opposite,
    "grid": _grid,
    "axes": _axes,
    "coplanar": _coplanar,
    "clusters": _clusters,
    "mirrored": _mirrored,
    "zero_targets": lambda random, inputs, w: (inputs, w),
    "unbalanced": lambda random, inputs, w: (inputs, w),
    "tiny": lambda random, inputs, w: (inputs, w),
    "xor": _xor,
    "start_on": _start_on,
    "twins": _twins,
    "ulp": _ulp,
    "ratio": lambda random, inputs, w: (inputs, w),
}
KINDS = tuple(SHAPERS)


def draw(kind, seed, loss, train, reduction="sum"):
    """Return a problem as a dictionary: X, y, w0, v0, log_scale, loss, reduction, train, t_end."""
    key = [KINDS.index(kind), seed, LOSSES.index(loss), TRAINS.index(train)]
    random = np.random.default_rng([*key, reduction == "mean"])
    features = 2 if random.random() < 0.35 else FEATURES
    inputs, w = _generic(random, features), _dyadic(random.normal(size=(WIDTH, features)))
    inputs, w = SHAPERS[kind](random, inputs, w)
    inputs[np.all(inputs == 0, axis=1)] = np.eye(features)[0]
    w[np.all(w == 0, axis=1)] = np.eye(features)[-1]
    v = np.linalg.norm(w, axis=1) * random.choice([-1, 1], size=WIDTH)
    if kind == "unbalanced":
        v = _dyadic(v * np.exp(random.normal(size=WIDTH)), 8)
    if kind == "xor":
        v = np.ones(WIDTH)
        w[2:], v[2:] = 0.0, 0.0
    problem = {
        "loss": loss,
        "reduction": reduction,
        "train": train,
        "y": _targets(random, kind, loss),
    }
    problem |= _scaled(random, kind, train, w, v)
    problem["X"] = _padded(inputs)
    problem["w0"] = _padded(problem["w0"])
    if reduction == "mean":
        problem["t_end"] *= SAMPLES
    return problem


def _targets(random, kind, loss):
    if loss != "square":
        return random.choice([-1.0, 1.0], size=SAMPLES)
    if kind == "xor" or kind == "zero_targets":
        return random.choice([0.0, 1.0], size=SAMPLES)
    return _dyadic(random.normal(size=SAMPLES), 4)


def _scaled(random, kind, train, w, v):
    """Return weights, scale and end: small networks need longer."""
    if train == "inner":
        w = w * 2.0 ** -random.integers(0, 20)
        v = np.sign(v)
        if kind == "ratio":
            v = v * 2.0 ** random.integers(-6, 3, size=WIDTH)
        return {"w0": w, "v0": v, "log_scale": 0.0, "t_end": 12.0}
    if kind == "ratio":
        v = v * 2.0 ** random.integers(-8, 9, size=WIDTH)
    log_scale = -230.0 if kind == "tiny" else float(random.choice([-1.0, -3.0, -7.0, -18.0]))
    if kind == "xor":
        log_scale = 0.0
    return {"w0": w, "v0": v, "log_scale": log_scale, "t_end": 10.0 - log_scale}


def _padded(rows):
    return np.pad(rows, ((0, 0), (0, FEATURES - rows.shape[1])))

"""What polynomials of degree 6 leave of a kink: the constants of the bounds, by quadrature."""

import numpy as np
from numpy.polynomial import legendre

from relu_flow.flow.tolerances import LEFT, PEAK

DEGREE = 6


def test_what_is_left_of_a_kink():
    """Assert that the bounds hold for kinks all over a step, and are not far above them."""
    t = np.linspace(0.0, 1.0, 20001)
    basis = np.array([legendre.legval(2 * t - 1, np.eye(DEGREE + 1)[k]) for k in range(DEGREE + 1)])
    integrated, at_once = [], []
    for start in np.concatenate([np.linspace(0.002, 0.98, 200), 1 - np.logspace(-2, -3, 10)]):
        kink = np.maximum(t - start, 0.0)
        moments = (2 * np.arange(DEGREE + 1) + 1) * np.trapezoid(kink * basis, t, axis=1)
        rest = kink - moments @ basis
        steps = 0.5 * (rest[1:] + rest[:-1]) * (t[1] - t[0])
        highest = np.sum(np.abs(moments[-2:]))
        integrated.append(np.max(np.abs(np.cumsum(steps))) / highest)
        at_once.append(np.max(np.abs(rest)) / np.sqrt(LEFT * highest))
    assert 0.9 * LEFT < max(integrated) < LEFT
    assert 0.9 * PEAK < max(at_once) < PEAK

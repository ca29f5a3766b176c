"""What a step's switches do to the outputs, as polynomials that its pulls can be told.

What the switching neurons put out beyond their frozen pattern is projected onto Legendre
polynomials of low degree over the step. The remainder of a kink is orthogonal to low
polynomials, so that little is left of it once it is integrated.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._series import legendre_powers, powers

# Highest degree. Of a kink of slope one in a step of length one the projection leaves, integrated
# up to any time, at most `REMAINDER` (found on a grid of kinks): 1.5e-3 for degree 4, 4.3e-4 for 8.
# It falls as the square of the degree, and steps grow as its root: twice the degree would make
# them 1.9 times as long.
_DEGREE = 6
REMAINDER = 7.3e-4
# Gauss's rule on the segment behind each switch is exact up to degree 23: for the projection times
# as much of the neuron's series as matters there.
_NODES = 12


def no_correction(samples: int, dtype) -> Float[Array, "degrees samples"]:
    """Return the correction of outputs that are as the frozen pattern says."""
    return jnp.zeros((_DEGREE + 1, samples), dtype)


def projected_beyond(
    clock: Float[Array, " taken"],
    length: Float[Array, ""],
    difference,
) -> Float[Array, "degrees samples"]:
    """Project what neurons put out from their own switches on, onto Legendre polynomials.

    Args:
        clock: When each neuron switched, in the step's unit.
        length: End of the step.
        difference: Given offsets from `clock`, one row a neuron, returns the outputs with
            the new pattern minus those with the old, for each offset and sample.

    Returns:
        Coefficients on the interval [0, length]; they add up over neurons and switches.
    """
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    node = jnp.asarray(0.5 * (node + 1), clock.dtype)
    weight = jnp.asarray(0.5 * weight, clock.dtype)
    left = jnp.maximum(length - clock, 0.0)[:, None]
    offset = left * node[None]
    share = jnp.where(length > 0, left / jnp.where(length > 0, length, 1.0), 0.0) * weight[None]
    x = (clock[:, None] + offset) / jnp.where(length > 0, length, 1.0)
    basis = (
        jnp.asarray(legendre_powers(_DEGREE + 1), clock.dtype) @ powers(x, _DEGREE + 1)[..., None]
    )
    degree = jnp.arange(_DEGREE + 1, dtype=clock.dtype)
    basis = basis[..., 0] * share[..., None] * (2 * degree + 1)[None, None]
    return jnp.einsum("kgm,kgn->mn", basis, difference(offset))


def correction_series(
    correction: Float[Array, "degrees samples"], length: Float[Array, ""], order: int
) -> Float[Array, "order samples"]:
    """Return projected outputs as a power series in the step's unit of time."""
    series = jnp.asarray(legendre_powers(_DEGREE + 1).T, correction.dtype) @ correction
    safe = jnp.where(length > 0, length, 1.0)
    series = series / powers(safe, _DEGREE + 1)[:, None]
    missing = order + 1 - series.shape[0]
    return jnp.pad(series, ((0, max(missing, 0)), (0, 0)))[: order + 1]

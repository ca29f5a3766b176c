"""Arithmetic of truncated power series; the leading axis counts the powers."""

import math

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int


def product_term(
    a: Float[Array, "order ..."], b: Float[Array, "order ..."], m: Int[Array, ""] | int
) -> Float[Array, "..."]:
    r"""Return $\sum_{l\le m} a_l b_{m-l}$, given that `a` and `b` are zero beyond `m`."""
    reversed_b = jnp.roll(jnp.flip(b, 0), m + 1, axis=0)
    return jnp.sum(a * reversed_b, axis=0)


def put(
    series: Float[Array, "order ..."], m: Int[Array, ""] | int, coefficient: Float[Array, "..."]
) -> Float[Array, "order ..."]:
    """Return the series with coefficient `m`, which it must have, replaced.

    In place in a loop: `series.at[m].set` would look whether there is an `m`, and copy.
    """
    return lax.dynamic_update_index_in_dim(series, coefficient, m, 0)


def evaluate(
    series: Float[Array, "order ..."], t: Float[Array, "..."] | Float[Array, ""]
) -> Float[Array, "..."]:
    """Evaluate by Horner's rule; `t` broadcasts against one coefficient."""
    last, *lower = (lax.index_in_dim(series, m, keepdims=False) for m in _falling(series))
    value = last
    for coefficient in lower:
        value = value * t + coefficient
    return value


def _falling(series: Float[Array, "order ..."]) -> range:
    return range(series.shape[0] - 1, -1, -1)


def powers(t: Float[Array, " *batch"], order: int) -> Float[Array, "*batch order"]:
    """Return `1, t, ..., t**(order - 1)` along a new last axis."""
    exponent = jnp.arange(order, dtype=t.dtype)
    return t[..., None] ** lax.broadcast_to_rank(exponent, t.ndim + 1)


def shift_matrix(t: Float[Array, " *batch"], order: int) -> Float[Array, "*batch order order"]:
    r"""Return the matrix that re-expands a series: $c'_m = \sum_l \binom lm t^{l-m} c_l$."""
    rows, columns = np.indices((order, order))
    binomial = np.array(
        [[math.comb(column, row) for column in range(order)] for row in range(order)], float
    )
    exponent = np.maximum(columns - rows, 0)
    factor = lax.broadcast_to_rank(jnp.asarray(binomial, t.dtype), t.ndim + 2)
    return powers(t, order)[..., exponent] * factor


def legendre_powers(count: int) -> np.ndarray:
    """Return the powers of t in the Legendre polynomials of 2t - 1, one a row: integers."""
    rows = np.zeros((count, count))
    for degree in range(count):
        legendre = np.polynomial.Legendre.basis(degree).convert(kind=np.polynomial.Polynomial)
        coefficients = legendre(np.polynomial.Polynomial([-1.0, 2.0])).coef
        rows[degree, : coefficients.size] = np.rint(coefficients)
    return rows

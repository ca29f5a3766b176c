"""Radau's nodes, and polynomials on a step by what they are there.

The nodes are those of Radau IIA (Hairer and Wanner, *Solving Ordinary Differential Equations II*,
IV.5 and IV.8); the last is the step's end.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._series import legendre_powers, powers
from .clock import pace

# With 10, 12, 14 and 16 nodes a teacher problem at rtol 1e-12 takes 159, 106, 85 and 83 steps, of
# 375, 285, 237 and 226 evaluations. Nor are there more powers in a series of the usual order.
_NODES = 16


class Table:
    """The nodes on (0, 1] and what follows from them, each matrix applied to values there.

    Attributes:
        nodes: Radau's nodes, the last one 1.
        quadrature: Integrals from 0 to each node.
        legendre: Legendre coefficients of the polynomial through 0 at 0 and through values.
        pull_legendre: Legendre coefficients of the polynomial through values at the nodes.
        judged: The same and, last, its value at 0.
    """

    def __init__(self, count: int):
        legendre = np.polynomial.legendre
        difference = np.zeros(count + 1)
        difference[-2:] = -1.0, 1.0
        x = np.sort(legendre.legroots(difference).real)
        slope = legendre.legder(difference)
        for _ in range(3):
            x = x - legendre.legval(x, difference) / legendre.legval(x, slope)
        x[-1] = 1.0
        self.nodes = 0.5 * (x + 1.0)
        at_nodes = legendre.legvander(x, count - 1)
        integrals = [
            0.5 * legendre.legval(x, legendre.legint(row, lbnd=-1.0)) for row in np.eye(count)
        ]
        self.pull_legendre = np.linalg.inv(at_nodes)
        self.quadrature = np.stack(integrals, axis=1) @ self.pull_legendre
        at_start = legendre.legvander(np.array([-1.0]), count - 1)
        self.judged = np.concatenate([self.pull_legendre, at_start @ self.pull_legendre])
        with_start = legendre.legvander(np.concatenate([[-1.0], x]), count)
        self.legendre = np.linalg.inv(with_start)[:, 1:]


@functools.cache
def table_of(count: int) -> Table:
    """Return the table of so many nodes."""
    return Table(count)


def num_nodes(order: int) -> int:
    """Return how many nodes a step has whose polynomials are of a degree at most."""
    return min(order, _NODES)


def product_on_step(
    a: Float[Array, "order width"],
    b: Float[Array, "order width samples"],
    length: Float[Array, ""],
    warp: Float[Array, ""],
    nodes: int,
) -> Float[Array, "order width samples"]:
    """Multiply polynomials on a step, and how time runs on it: at nodes, as the flow itself does.

    Their product as series would have twice the degree; what is cut off there comes to 3e-13 of a
    neuron on the longest step allowed at rtol 1e-12, more than its tolerance.
    """
    table, order = table_of(nodes), b.shape[0]
    scale = powers(length, order)
    at_nodes = jnp.asarray(table.nodes[:, None] ** np.arange(order), b.dtype) * scale[None]
    runs = pace(warp, length * jnp.asarray(table.nodes, b.dtype))
    values = (runs[:, None] * (at_nodes @ a))[..., None] * jnp.tensordot(at_nodes, b, axes=1)
    fitted = through(table.pull_legendre, values)
    fitted = jnp.pad(fitted, ((0, order - nodes), (0, 0), (0, 0))) / scale[:, None, None]
    # What starts as a power of time still does.
    first = jnp.argmax(b != 0, axis=0)
    index = jnp.arange(order)[:, None, None]
    return jnp.where((index >= first[None]) & jnp.any(b != 0, axis=0)[None], fitted, 0.0)


def through(legendre: np.ndarray, values: Float[Array, "nodes ..."]):
    """Return the powers of the polynomial through values, by way of its Legendre coefficients.

    Of these the higher ones are small: taken at once, powers would be differences of numbers a
    hundred million times the values.
    """
    to_powers = jnp.asarray(legendre_powers(legendre.shape[0]).T, values.dtype)
    coefficients = jnp.tensordot(jnp.asarray(legendre, values.dtype), values, axes=1)
    return jnp.tensordot(to_powers, coefficients, axes=1)


def passed_on(
    error: Float[Array, " samples"], length: Float[Array, ""], order: int, count: int
) -> Float[Array, "count samples"]:
    """Return what errors of the pulls at the nodes do to their first coefficients, `count` of them.

    `length` is that of the step, `order` the highest power of its series.
    """
    legendre = table_of(num_nodes(order)).pull_legendre
    rows = np.sum(np.abs(legendre_powers(legendre.shape[0]).T @ legendre), axis=1)[:count]
    per_power = jnp.asarray(rows, error.dtype) / powers(length, count)
    return per_power[:, None] * error[None]

"""The axis names of the jaxtyping annotations, and the scalar aliases.

| axis | meaning |
| --- | --- |
| `samples` | inputs of the data set |
| `features` | coordinates of an input |
| `width` | neurons of the hidden layer |
| `order` | coefficients of a power series, lowest power first |
| `slides` | slots for the hyperplanes on which one neuron slides |
| `switches` | slots of a switch log |
| `times` | times at which a state was asked for |
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

FloatScalarLike = float | int | Float[Array, ""]
# What becomes an array of floats at a public boundary.
FloatArrayLike = ArrayLike | Sequence[ArrayLike] | Sequence[Sequence[ArrayLike]]
IntScalarLike = int | Int[Array, ""]


def is_traced(*arrays: object) -> bool:
    """Return whether any value is unknown, that is inside a JAX transformation."""
    return any(isinstance(array, Tracer) for array in arrays)


def float_type(*arrays: Array):
    """Return the floats that arrays have in common; integers and booleans become any."""
    floats = [array for array in arrays if jnp.issubdtype(array.dtype, jnp.inexact)]
    return jnp.result_type(*floats, float)

"""Biases: the networks have none, but a constant feature is one."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._types import FloatArrayLike, FloatScalarLike, float_type


def with_bias(
    inputs: FloatArrayLike, value: FloatScalarLike = 1.0
) -> Float[Array, "*samples features"]:
    r"""Return inputs with a constant appended to each: the neurons' biases.

    The last inner weight of a neuron, times `value`, is then its bias: $\mathrm{relu}(\langle w,
    x\rangle + b)$. It is trained like any other weight, and initialisers draw it like one.

        problem = rf.Problem(rf.with_bias(inputs), targets)
        network(rf.with_bias(x))

    Args:
        inputs: One input a row, or one input.
        value: The constant. Biases learn at a rate that is proportional to its square.

    Raises:
        ValueError: If `inputs` has neither one axis nor two.

    Example:
        >>> import relu_flow as rf
        >>> rf.with_bias([[1.0, 2.0], [3.0, 4.0]]).tolist()
        [[1.0, 2.0, 1.0], [3.0, 4.0, 1.0]]
    """
    inputs = jnp.asarray(inputs)
    if inputs.ndim not in (1, 2):
        raise ValueError(
            "Argument `inputs` must have shape (samples, features), or (features,) for one input, "
            f"but it has shape {inputs.shape}."
        )
    inputs = inputs.astype(float_type(inputs))
    constant = jnp.broadcast_to(jnp.asarray(value, inputs.dtype), (*inputs.shape[:-1], 1))
    return jnp.concatenate([inputs, constant], axis=-1)

"""What of a run can be differentiated: forwards everything, backwards nothing."""

from typing import TypeVar

import equinox as eqx
import equinox.internal as eqxi
import jax.numpy as jnp
from jaxtyping import PyTree

Result = TypeVar("Result", bound=PyTree)


def forward_only(result: Result, name: str) -> Result:
    """Return a result as it is; reverse-mode differentiation through it says what to do.

    To be put around what comes out of a run: a transposition meets that first, and otherwise
    ends in a message about loops. Diffrax refuses with the same identity of Equinox's.
    """
    real, rest = eqx.partition(result, lambda leaf: eqx.is_array(leaf) and _is_real(leaf))
    message = (
        f"`{name}` cannot be differentiated in reverse mode (`jax.grad`, `jax.vjp`, `jax.jacrev`): "
        "the number of its steps is not known beforehand. Forward mode works, through switches "
        "too: `jax.jvp` for one direction, `jax.jacfwd` for all."
    )
    return eqx.combine(eqxi.nondifferentiable_backward(real, msg=message), rest)


def _is_real(leaf) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)

"""Draws row by row, so that a larger data set begins with a smaller one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array, Float, Key

from .._types import FloatScalarLike, is_traced


@eqx.filter_jit
def gaussians(key: Key[Array, ""], rows: int, columns: int) -> Float[Array, "rows columns"]:
    """Return independent standard Gaussian numbers, each row from a key of its own.

    One call for all that a data set needs: compiling random bits costs the most.
    """
    keys = jax.vmap(lambda i: jr.fold_in(key, i))(jnp.arange(rows))
    return jax.vmap(lambda k: jr.normal(k, (columns,)))(keys)


def uniform(gaussian: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Return the uniform numbers in (0, 1) that rise with Gaussian ones."""
    return ndtr(gaussian)


def signs(samples: int, positives: int | None) -> Float[Array, " samples"]:
    """Return labels +1, -1, +1, ... until one class is complete, then the rest of the other.

    Half of the samples are positive, or one more, unless `positives` says how many.
    """
    if positives is None:
        positives = (samples + 1) // 2
    elif not _is_integer(positives) or not 0 <= positives <= samples:
        raise ValueError(
            f"Argument `positives` must be an integer from 0 to {samples}, the number of "
            f"samples, but it is {positives!r}."
        )
    paired = 2 * min(positives, samples - positives)
    labels = np.where(np.arange(samples) % 2 == 0, 1.0, -1.0)
    labels[paired:] = 1.0 if 2 * positives > samples else -1.0
    return jnp.asarray(labels)


def between(
    gaussian: Float[Array, " samples"], ends: Float[Array, " 2"]
) -> Float[Array, " samples"]:
    """Return sizes between two ends: the smaller, the larger, then log-uniform ones."""
    low, high = ends
    sizes = jnp.clip(low * (high / low) ** uniform(gaussian), low, high)
    return jnp.concatenate([ends[: sizes.shape[0]], sizes[2:]])


def check_size(name: str, value: object, least: int = 1, why: str = "") -> None:
    """Raise `ValueError` unless the value is an integer, at least `least`."""
    if not _is_integer(value) or value < least:  # type: ignore[operator]
        because = f" ({why})" if why else ""
        raise ValueError(
            f"Argument `{name}` must be an integer, at least {least}{because}, but it is {value!r}."
        )


def check_ends(name: str, ends: tuple[float, float]) -> None:
    """Raise `ValueError` unless the ends are two positive finite numbers in order."""
    try:
        low, high = (float(end) for end in ends)
    except (TypeError, ValueError):
        low, high = np.nan, np.nan
    if not 0 < low <= high < np.inf:
        raise ValueError(
            f"Argument `{name}` must be a pair (smallest, largest) of positive numbers, "
            f"but it is {ends!r}."
        )


def check_interval(name: str, value: FloatScalarLike, low: float, high: float, text: str) -> None:
    """Raise `ValueError` unless a concrete value lies in the open interval."""
    if is_traced(value):
        return
    if not low < float(value) < high:
        raise ValueError(f"Argument `{name}` must be {text}, but it is {value}.")


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)

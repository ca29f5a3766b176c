"""The network: one hidden layer of ReLUs, no biases, weights in units of a scale."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._types import FloatArrayLike, is_traced


class TwoLayerReLU(eqx.Module):
    r"""A bias-free network $f(x) = \sum_j V_j\,\mathrm{relu}(\langle W_j, x\rangle)$.

    The weights are kept in units of each neuron's own scale, $W_j = e^{\rho_j} w_j$ and
    $V_j = e^{\sigma_j} v_j$, so that a scale such as $e^{-10000}$ is an ordinary number.

    Attributes:
        inner_weight: $w$, one row a neuron.
        outer_weight: $v$.
        log_scale: $\rho$, natural logarithm of the scale of the inner weights; a scalar
            is repeated for every neuron.
        outer_log_scale: $\sigma$, the same for the outer weights; equal to `log_scale`
            unless given. Only a problem with `train="inner"` may have the two apart.

    Raises:
        ValueError: If the shapes do not fit, the width is zero, or a concrete weight or
            scale is not finite.
    """

    inner_weight: Float[Array, "width features"]
    outer_weight: Float[Array, " width"]
    log_scale: Float[Array, " width"]
    outer_log_scale: Float[Array, " width"]

    def __init__(
        self,
        inner_weight: FloatArrayLike,
        outer_weight: FloatArrayLike,
        log_scale: FloatArrayLike = 0.0,
        outer_log_scale: FloatArrayLike | None = None,
    ):
        inner_weight, outer_weight = jnp.asarray(inner_weight), jnp.asarray(outer_weight)
        if inner_weight.ndim != 2 or 0 in inner_weight.shape:
            raise ValueError(
                "Argument `inner_weight` must have shape (width, features) with both "
                f"positive, but it has shape {inner_weight.shape}."
            )
        if outer_weight.shape != inner_weight.shape[:1]:
            raise ValueError(
                f"Argument `outer_weight` must have shape {inner_weight.shape[:1]}, one "
                f"entry for each row of `inner_weight`, but it has {outer_weight.shape}."
            )
        dtype = jnp.result_type(inner_weight, outer_weight, float)
        self.inner_weight = inner_weight.astype(dtype)
        self.outer_weight = outer_weight.astype(dtype)
        self.log_scale = _per_neuron("log_scale", log_scale, self.outer_weight)
        self.outer_log_scale = (
            self.log_scale
            if outer_log_scale is None
            else _per_neuron("outer_log_scale", outer_log_scale, self.outer_weight)
        )
        for name in ("inner_weight", "outer_weight", "log_scale", "outer_log_scale"):
            require_finite(name, getattr(self, name))

    @property
    def width(self) -> int:
        """Number of neurons."""
        return self.inner_weight.shape[-2]

    @property
    def features(self) -> int:
        """Number of coordinates of an input."""
        return self.inner_weight.shape[-1]

    def __call__(self, x: Float[Array, " features"]) -> Float[Array, ""]:
        """Return the output at one input; `jax.vmap` it over a data set."""
        amplitude = jnp.exp(self.log_scale + self.outer_log_scale) * self.outer_weight
        return jnp.sum(amplitude * jax.nn.relu(self.inner_weight @ x))

    def preactivations(
        self, inputs: Float[Array, "samples features"]
    ) -> Float[Array, "width samples"]:
        r"""Return $\langle w_j, x_i\rangle$, in units of each neuron's scale."""
        return self.inner_weight @ inputs.T

    def pattern(self, inputs: Float[Array, "samples features"]) -> Bool[Array, "width samples"]:
        """Return which neuron is active on which input (`False` on a hyperplane)."""
        return self.preactivations(inputs) > 0

    def log_norm(self) -> Float[Array, " width"]:
        r"""Return $\log\|W_j\|$, the natural logarithm of the true norm of the inner weights.

        `-inf` for a neuron whose inner weights are zero.
        """
        return jnp.log(jnp.linalg.norm(self.inner_weight, axis=-1)) + self.log_scale

    def directions(self) -> Float[Array, "width features"]:
        r"""Return $w_j/\|w_j\|$; zero for a neuron whose inner weights are zero."""
        norm = jnp.linalg.norm(self.inner_weight, axis=-1, keepdims=True)
        return self.inner_weight / jnp.where(norm > 0, norm, 1.0)


def require_finite(name: str, array: Array) -> None:
    """Raise `ValueError` if a concrete `array` has a NaN or an infinity in it."""
    if is_traced(array):
        return
    bad = int(np.sum(~np.isfinite(np.asarray(array))))
    if bad:
        raise ValueError(
            f"Argument `{name}` must be finite, but {bad} of its {array.size} entries "
            "are NaN or infinite."
        )


def _per_neuron(name: str, value, like: Float[Array, " width"]):
    value = jnp.asarray(value, like.dtype)
    if value.shape not in ((), like.shape):
        raise ValueError(
            f"Argument `{name}` must be a scalar or have shape {like.shape}, but it has "
            f"shape {value.shape}."
        )
    return jnp.broadcast_to(value, like.shape)

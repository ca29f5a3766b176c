"""The network: one hidden layer of ReLUs, no biases, weights in units of a scale."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._norm import norm
from .._types import FloatArrayLike, float_type, is_traced


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

    Example:
        >>> import relu_flow as rf
        >>> network = rf.TwoLayerReLU([[1.0, 0.0], [0.5, 0.5]], [1.0, -1.0], log_scale=-3.0)
        >>> network.width
        2
        >>> round(float(network([1.0, 0.0])), 8)
        0.00123938
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
        _check_weights(inner_weight, outer_weight)
        dtype = float_type(inner_weight, outer_weight)
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

    def __call__(self, x: FloatArrayLike) -> Float[Array, "*samples"]:
        """Return the output at one input, or the outputs at one input a row.

        Raises:
            ValueError: If `x` has any other shape, or the network is a stack of networks.
        """
        x = jnp.asarray(x)
        self._check_input(x)
        amplitude = jnp.exp(self.log_scale + self.outer_log_scale) * self.outer_weight
        amplitude = jax.lax.broadcast_to_rank(amplitude, x.ndim)
        return jnp.sum(amplitude * jax.nn.relu(x @ self.inner_weight.T), axis=-1)

    def _check_input(self, x: Array) -> None:
        if self.inner_weight.ndim != 2:
            raise ValueError(
                "A stack of networks, such as `Trajectory.networks`, must be called one by one: "
                "`jax.vmap(lambda network: network(x))(networks)`."
            )
        features = self.features
        if x.ndim in (1, 2) and x.shape[-1] == features:
            return
        advice = ""
        if features == 1 and x.ndim < 2:
            advice = " For inputs of one feature pass `x.reshape(-1, 1)`."
        elif x.shape == (features, 1):
            advice = " For one input given as a column pass `x.ravel()`."
        elif x.ndim == 2 and x.shape[0] == features:
            advice = " For inputs given as columns pass `x.T`."
        raise ValueError(
            f"Argument `x` must have shape ({features},), one input, or (samples, {features}), one "
            f"input a row, but it has shape {x.shape}.{advice}"
        )

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
        return jnp.log(norm(self.inner_weight)) + self.log_scale

    def directions(self) -> Float[Array, "width features"]:
        r"""Return $w_j/\|w_j\|$; zero for a neuron whose inner weights are zero."""
        length = norm(self.inner_weight)[..., None]
        return self.inner_weight / jnp.where(length > 0, length, 1.0)


def _check_weights(inner_weight: Array, outer_weight: Array) -> None:
    """Check the shapes of the two layers; other libraries have others."""
    inner, outer = inner_weight.shape, outer_weight.shape
    if len(inner) != 2 or 0 in inner:
        advice = " For one neuron pass `inner_weight[None, :]`." if len(inner) == 1 else ""
        raise ValueError(
            "Argument `inner_weight` must have shape (width, features) with both "
            f"positive, but it has shape {inner}.{advice}"
        )
    if outer != inner[:1]:
        advice = ""
        if outer in ((1, inner[0]), (inner[0], 1)):
            advice = " Pass `outer_weight.ravel()`."
        elif outer_weight.size == inner[1]:
            advice = " If `inner_weight` has one column a neuron, pass `inner_weight.T`."
        raise ValueError(
            f"Argument `outer_weight` must have shape {inner[:1]}, one "
            f"entry for each row of `inner_weight`, but it has shape {outer}.{advice}"
        )


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

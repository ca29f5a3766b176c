"""The problem: a data set, a loss, how it is reduced over samples, and what is trained."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._types import FloatArrayLike, float_type, is_traced
from .loss import AbstractLoss, ExponentialLoss
from .network import TwoLayerReLU, require_finite


class Problem(eqx.Module):
    r"""What a network is trained on: minimise $c \sum_i \ell(y_i, f(x_i))$ by gradient flow.

    $c = 1$ for `reduction="sum"` and $1/n$ for `"mean"`; the mean stretches time by $n$.

    Attributes:
        inputs: $x_i$, one row a sample; no row may be zero.
        targets: $y_i$; $\pm1$ for a classification loss, any real for the square loss.
        loss: The loss of one sample.
        reduction: `"sum"` or `"mean"`.
        train: `"both"` layers, or `"inner"`: the outer weights stay as they are.
        basis: Orthonormal columns spanning the inputs, where that span is so small that
            the flow is solved in it (the rest of a neuron never moves); else `None`.
            Rank is decided in rounding error when the inputs are concrete; under a
            transformation only `samples < features` is used.
        rank: Dimension of that span, known likewise.

    Raises:
        ValueError: If shapes do not fit, an entry is not finite, an input is zero, a
            label does not suit the loss, or an option is unknown. Values are checked
            where they are concrete, that is outside `jax.jit` and `jax.vmap`.

    Example:
        >>> import relu_flow as rf
        >>> problem = rf.Problem([[1.0, 0.0], [0.0, 2.0]], [1.0, -1.0], rf.LogisticLoss())
        >>> problem.samples, problem.features
        (2, 2)
    """

    inputs: Float[Array, "samples features"]
    targets: Float[Array, " samples"]
    loss: AbstractLoss
    reduction: Literal["sum", "mean"] = eqx.field(static=True)
    train: Literal["both", "inner"] = eqx.field(static=True)
    basis: Float[Array, "features rank"] | None
    rank: Int[Array, ""]

    def __init__(
        self,
        inputs: FloatArrayLike,
        targets: FloatArrayLike,
        loss: AbstractLoss | None = None,
        reduction: Literal["sum", "mean"] = "sum",
        train: Literal["both", "inner"] = "both",
    ):
        # Before anything is kept: an array is no static field.
        for name, value, options in (
            ("reduction", reduction, ("sum", "mean")),
            ("train", train, ("both", "inner")),
        ):
            if not isinstance(value, str) or value not in options:
                raise ValueError(
                    f"Argument `{name}` must be one of {options}, but it is {value!r}."
                )
        inputs, targets = jnp.asarray(inputs), jnp.asarray(targets)
        dtype = float_type(inputs, targets)
        self.inputs, self.targets = inputs.astype(dtype), targets.astype(dtype)
        self.loss = ExponentialLoss() if loss is None else loss
        self.reduction, self.train = reduction, train
        self._check()
        self.basis, self.rank = _span(self.inputs)

    def _check(self) -> None:
        _check_shapes(self.inputs.shape, self.targets.shape)
        if not isinstance(self.loss, AbstractLoss):
            raise ValueError(
                "Argument `loss` must be an instance of a loss such as "
                f"`ExponentialLoss()`, but it is {self.loss!r}."
            )
        require_finite("inputs", self.inputs)
        require_finite("targets", self.targets)
        if not is_traced(self.inputs):
            zero = np.flatnonzero(~np.any(np.asarray(self.inputs), axis=1))
            if zero.size:
                raise ValueError(
                    "Argument `inputs` must have no zero row (a neuron without a bias is never "
                    f"active on it), but row {zero[0]} is zero ({zero.size} in all). Give the "
                    "neurons biases, `rf.with_bias(inputs)`, or leave the row out."
                )
        if self.loss.binary and not is_traced(self.targets):
            _check_labels(np.asarray(self.targets), type(self.loss).__name__)

    @property
    def samples(self) -> int:
        """Number of inputs."""
        return self.inputs.shape[-2]

    @property
    def features(self) -> int:
        """Number of coordinates of an input."""
        return self.inputs.shape[-1]

    @property
    def sample_weight(self) -> float:
        """The constant $c$ before each sample's loss."""
        return 1.0 if self.reduction == "sum" else 1.0 / self.samples

    def predictions(self, network: TwoLayerReLU) -> Float[Array, " samples"]:
        """Return the network's outputs at the inputs."""
        return network(self.inputs)

    def loss_value(self, network: TwoLayerReLU) -> Float[Array, ""]:
        """Return the reduced loss."""
        losses = self.loss.value(self.predictions(network), self.targets)
        return self.sample_weight * jnp.sum(losses)


def _check_shapes(inputs: tuple[int, ...], targets: tuple[int, ...]) -> None:
    if len(inputs) != 2 or 0 in inputs:
        advice = ""
        if len(inputs) == 1:
            advice = " For inputs of one feature pass `inputs[:, None]`."
        elif len(inputs) > 2:
            advice = " For images or the like pass `inputs.reshape(len(inputs), -1)`."
        raise ValueError(
            "Argument `inputs` must have shape (samples, features) with both "
            f"positive, but it has shape {inputs}.{advice}"
        )
    if targets != inputs[:1]:
        advice = ""
        if targets in ((inputs[0], 1), (1, inputs[0])):
            advice = " Pass `targets.ravel()`."
        elif targets == inputs[1:]:
            advice = " If `inputs` has one column a sample, pass `inputs.T`."
        raise ValueError(
            f"Argument `targets` must have shape {inputs[:1]}, one entry "
            f"for each row of `inputs`, but it has shape {targets}.{advice}"
        )


def _check_labels(targets: np.ndarray, loss: str) -> None:
    wrong = targets[np.abs(targets) != 1]
    if wrong.size:
        zero_one = bool(np.all((targets == 0) | (targets == 1)))
        advice = " For labels 0 and 1 pass `2 * targets - 1`." if zero_one else ""
        raise ValueError(
            f"Argument `targets` must be +1 or -1 for {loss}, but it contains {wrong[0]}.{advice}"
        )


def _span(
    inputs: Float[Array, "samples features"],
) -> tuple[Float[Array, "features rank"] | None, Int[Array, ""]]:
    """Return the rank of the rows, and a basis of their span if it saves two dimensions.

    One is lost again to the coordinate that carries what is orthogonal to the span.
    """
    samples, features = inputs.shape
    if is_traced(inputs):
        most = jnp.asarray(min(samples, features), jnp.int32)
        if samples + 1 >= features:
            return None, most
        return jnp.linalg.qr(inputs.T)[0], most
    _, singular, right = np.linalg.svd(np.asarray(inputs), full_matrices=False)
    resolution = np.finfo(singular.dtype).eps * max(samples, features)
    rank = int(np.sum(singular > resolution * singular[0]))
    basis = None if rank + 1 >= features else jnp.asarray(right[:rank].T)
    return basis, jnp.asarray(rank, jnp.int32)


def parallel_groups(
    inputs: Float[Array, "samples features"],
) -> tuple[Int[Array, " samples"], Float[Array, " samples"]]:
    r"""Find the inputs that share a hyperplane through the origin.

    Returns:
        For each sample the lowest-numbered sample parallel to it (itself if none is), and
        the factor $c$ with $x_i = c\,x_{\text{representative}}$, negative for opposite inputs.
        Parallel means: to a few units of rounding in every coordinate.
    """
    magnitude = jnp.abs(inputs)
    pivot = jnp.argmax(magnitude, axis=1)
    tolerance = 8 * jnp.finfo(inputs.dtype).eps

    def representative(row):
        x, k = row
        factor = x[k] / jnp.where(inputs[:, k] == 0, jnp.inf, inputs[:, k])
        gap = jnp.max(jnp.abs(x[None] - factor[:, None] * inputs), axis=1)
        parallel = (gap <= tolerance * jnp.abs(x[k])) & (factor != 0)
        first = jnp.argmax(parallel)
        return first, factor[first]

    index, factor = jax.lax.map(representative, (inputs, pivot))
    own = index == jnp.arange(inputs.shape[0])
    return index, jnp.where(own, 1.0, factor)

"""Random initial networks: each neuron from a key of its own, the scale kept apart.

Neuron `j` is drawn from `jax.random.fold_in(key, j)`, so the first neurons of a wider
network are those of a narrower one; and the scale multiplies the draw through `log_scale`,
so that runs at different scales start in the same directions (widths enter some scales,
never the draw).
"""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Key

from .._types import FloatScalarLike
from .network import TwoLayerReLU


def balanced_init(
    key: Key[Array, ""], width: int, features: int, log_scale: FloatScalarLike = 0.0
) -> TwoLayerReLU:
    r"""Draw a balanced network: $w_j \sim N(0, I/D)$, $v_j = \pm\|w_j\|$ with fair signs.

    Args:
        key: From `jax.random.key`.
        width: Number of neurons.
        features: Number of coordinates $D$ of an input.
        log_scale: Natural logarithm of the scale that multiplies both layers.

    Raises:
        ValueError: If `width` or `features` is not a positive integer.

    Example:
        >>> import jax, relu_flow as rf
        >>> network = rf.balanced_init(jax.random.key(0), width=5, features=3, log_scale=-1000.0)
        >>> network.inner_weight.shape
        (5, 3)
        >>> norms = jax.numpy.linalg.norm(network.inner_weight, axis=1)
        >>> bool(jax.numpy.allclose(abs(network.outer_weight), norms))
        True
    """
    return unbalanced_init(key, width, features, 0.0, log_scale)


def unbalanced_init(
    key: Key[Array, ""],
    width: int,
    features: int,
    balancedness: FloatScalarLike,
    log_scale: FloatScalarLike = 0.0,
) -> TwoLayerReLU:
    r"""Draw a network with $v_j^2 - \|w_j\|^2$ the same for all neurons.

    $w_j \sim N(0, I/D)$. Where $\|w_j\|^2$ plus the balancedness is negative, $w_j$ is
    lengthened to make it zero: then $v_j = 0$.

    Args:
        key: From `jax.random.key`.
        width: Number of neurons.
        features: Number of coordinates $D$ of an input.
        balancedness: $v_j^2 - \|w_j\|^2$ in units of the squared scale.
        log_scale: Natural logarithm of the scale that multiplies both layers.
    """
    inner, sign = _inner_and_sign(key, width, features)
    inner = inner / jnp.sqrt(jnp.asarray(features, inner.dtype))
    square = jnp.sum(inner**2, axis=1)
    lengthened = jnp.maximum(square, -jnp.asarray(balancedness, inner.dtype))
    inner = inner * jnp.sqrt(lengthened / square)[:, None]
    outer = sign * jnp.where(
        jnp.asarray(balancedness) == 0,
        jnp.linalg.norm(inner, axis=1),
        jnp.sqrt(jnp.maximum(lengthened + balancedness, 0.0)),
    )
    return TwoLayerReLU(inner, outer, log_scale)


def gaussian_init(
    key: Key[Array, ""], width: int, features: int, log_scale: FloatScalarLike = 0.0
) -> TwoLayerReLU:
    r"""Draw all weights of both layers from $N(0, 1)$, times the scale; not balanced.

    Source:
        The experiments of Min, Mallada, Vidal, "Early Neuron Alignment in Two-layer ReLU
        Networks with Small Initialization" (2024), with scale $10^{-6}$ and width 50.

    Example:
        >>> import jax, relu_flow as rf
        >>> network = rf.gaussian_init(jax.random.key(0), width=5, features=3, log_scale=-2.0)
        >>> network.inner_weight.shape, network.outer_weight.shape
        ((5, 3), (5,))
    """
    inner, _ = _inner_and_sign(key, width, features)
    outer = _each_neuron(key, width, lambda k: jr.normal(jr.fold_in(k, 2)))
    return TwoLayerReLU(inner, outer, log_scale)


def early_alignment_init(
    key: Key[Array, ""], width: int, features: int, log_scale: FloatScalarLike
) -> TwoLayerReLU:
    r"""Draw $W(0) = \epsilon W_0$, $[W_0]_{ij} \sim N(0, 1/D)$, $v_j = \pm\|w_j\|$.

    Source:
        Min, Mallada, Vidal (2024), eq. (3) and the remark on Gaussian $W_0$; $\epsilon$ is
        the exponential of `log_scale`.
    """
    return balanced_init(key, width, features, log_scale)


def single_neuron_init(
    key: Key[Array, ""], width: int, features: int, log_scale: FloatScalarLike
) -> TwoLayerReLU:
    r"""Draw $w_j = \lambda z_j$, $z_j \sim N(0, I/(dm))$, $a_j = s_j\|w_j\|$, $s_j = \pm1$.

    Source:
        Chistikov, Englert, Lazić, "Learning a Neuron by a Shallow ReLU Network: Dynamics
        and Implicit Bias for Correlated Inputs" (2023), section 2 and the experiments;
        $\lambda$ is the exponential of `log_scale`.
    """
    shrink = -0.5 * jnp.log(jnp.asarray(_checked("width", width), float))
    return balanced_init(key, width, features, log_scale + shrink)


def multi_phase_init(
    key: Key[Array, ""],
    width: int,
    features: int,
    log_inner_scale: FloatScalarLike,
    log_outer_scale: FloatScalarLike,
) -> TwoLayerReLU:
    r"""Draw $b_k \sim (\kappa_1/\sqrt m)\,\mathrm{Unif}(S^{d-1})$, $a_k = \pm\kappa_2/\sqrt m$.

    For problems with `train="inner"`: the layers keep scales of their own, whose natural
    logarithms are $\log\kappa_1$ and $\log\kappa_2$ as given.

    Source:
        After Wang, Ma, "Understanding Multi-phase Optimization Dynamics and Rich Nonlinear
        Behaviors of ReLU Networks" (2023); the setting is recalled, not quoted.
    """
    inner, sign = _inner_and_sign(key, width, features)
    inner = inner / jnp.linalg.norm(inner, axis=1, keepdims=True)
    shrink = -0.5 * jnp.log(jnp.asarray(width, inner.dtype))
    return TwoLayerReLU(inner, sign, log_inner_scale + shrink, log_outer_scale + shrink)


def _inner_and_sign(key, width: int, features: int):
    _checked("width", width)
    _checked("features", features)
    inner = _each_neuron(key, width, lambda k: jr.normal(jr.fold_in(k, 0), (features,)))
    return inner, _each_neuron(key, width, lambda k: jr.rademacher(jr.fold_in(k, 1), dtype=float))


def _each_neuron(key, width: int, draw):
    keys = jax.vmap(lambda j: jr.fold_in(key, j))(jnp.arange(width))
    return jax.vmap(draw)(keys)


def _checked(name: str, size: int) -> int:
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"Argument `{name}` must be a positive integer, but it is {size!r}.")
    return size

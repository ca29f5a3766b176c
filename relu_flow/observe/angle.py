"""Angles between neurons, right however small they are.

With p = v - s u and s = <u, v>/|u|^2 the angle of u and v is atan2(|p|, s|u|). Written like
this the angle of two nearly parallel neurons is as exact as their weights, provided that p is:
the product s u is split so that nothing is lost where it cancels against v.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from .observables import living


def largest_angle(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Return the largest angle between two living neurons, in radians; 0 if there is no pair.

    Source:
        The experiments of Chistikov, Englert, Lazić, "Learning a Neuron by a Shallow ReLU
        Network" (2023), where living neurons are called active (and degrees are used).
    """
    return largest_angle_among(network, living(problem, network))


def mean_angle(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Return the mean angle over pairs of living neurons, in radians; 0 if there is no pair.

    Source:
        As for `largest_angle`.
    """
    alive = living(problem, network)
    pairs = jnp.sum(alive) * (jnp.sum(alive) - 1)
    total = jnp.sum(_angles_among(network, alive))
    return total / jnp.maximum(pairs, 1).astype(total.dtype)


def positive_angle(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Return the largest angle between living neurons of positive output weight."""
    return largest_angle_among(network, living(problem, network) & (network.outer_weight > 0))


def negative_angle(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Return the largest angle between living neurons of negative output weight."""
    return largest_angle_among(network, living(problem, network) & (network.outer_weight < 0))


def largest_angle_among(network: TwoLayerReLU, chosen: Bool[Array, " width"]) -> Float[Array, ""]:
    """Return the largest angle between two of the chosen neurons, in radians; 0 if no pair."""
    return jnp.max(_angles_among(network, chosen))


@eqx.filter_jit
def angles(network: TwoLayerReLU) -> Float[Array, "width width"]:
    """Return the angle of every two neurons, in radians; their scales do not matter.

    Relative error of a few units of rounding for the weights as stored; of course weights
    that were themselves rounded make an angle uncertain by a unit of rounding.
    """
    _, exponent = jnp.frexp(jnp.max(jnp.abs(network.inner_weight), axis=1, keepdims=True))
    weights = jnp.ldexp(network.inner_weight, -exponent)  # exact; squares do not underflow
    return lax.map(lambda row: jax.vmap(lambda other: _angle(row, other))(weights), weights)


def _angles_among(network: TwoLayerReLU, chosen: Bool[Array, " width"]):
    """Return the angles of pairs of chosen neurons, zero elsewhere."""
    pairs = chosen[:, None] & chosen[None] & ~jnp.eye(chosen.shape[0], dtype=bool)
    return jnp.where(pairs, angles(network), 0.0)


def _angle(u: Float[Array, " features"], v: Float[Array, " features"]) -> Float[Array, ""]:
    square = u @ u
    square = jnp.where(square > 0, square, 1.0)
    factor = (u @ v) / square
    across = _minus_multiple(v, factor, u)
    # The factor is rounded, which leaves a part along u: of second order in the angle's
    # own size, but not in that of an angle near rounding.
    across = across - ((u @ across) / square) * u
    return jnp.arctan2(jnp.linalg.norm(across), factor * jnp.linalg.norm(u))


def _minus_multiple(v, factor, u):
    """Return v - factor u, the product split in parts that are exact until they cancel."""
    factor_high, u_high = _upper_half(factor), _upper_half(u)
    # The products of upper halves are exact, with or without fused multiply-add.
    rest = (v - factor_high * u_high) - factor_high * (u - u_high)
    return rest - (factor - factor_high) * u


def _upper_half(x):
    bits = jnp.finfo(x.dtype)
    return lax.reduce_precision(x, exponent_bits=bits.nexp, mantissa_bits=bits.nmant // 2 - 1)

"""A point of the flow: neurons and their modes at one time."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ..method.frame import Frame, Neurons
from ..step.travellers import Arrival
from ..surface.modes import Modes, reconciled
from ..surface.slides import onto_slides


class Point(eqx.Module):
    """The neurons and their modes at one time."""

    neurons: Neurons
    modes: Modes


def point_at(frame: Frame, arrival: Arrival, neurons: Neurons) -> Point:
    """Return where neurons have been taken to, without what rounding did to them on the way.

    `neurons` are those at the start of the step, for the units that weights are in.
    """
    return settled(frame, arrival.modes, neurons, *arrival.weights)


def settled(frame: Frame, modes: Modes, neurons: Neurons, inner, outer) -> Point:
    """Return the point at which neurons have other weights, and heights, in their units."""
    before = neurons.exponent
    neurons = _with_weights(frame, neurons, onto_slides(frame, modes, inner), outer)
    height = jnp.ldexp(modes.height, (before - neurons.exponent)[:, None])
    height = reconciled(frame, modes, height, neurons.inner)
    return Point(neurons, eqx.tree_at(lambda m: m.height, modes, height))


def seen_neurons(frame: Frame, arrival: Arrival, point: Point) -> Neurons:
    """Return the neurons as they were seen on the way from a point, along a first axis.

    Those that slid all the way are without what rounding did to them.
    """
    slid = jnp.all(arrival.modes.side == point.modes.side, axis=1)

    def one(weights):
        inner, outer = weights
        inner = jnp.where(slid[:, None], onto_slides(frame, point.modes, inner), inner)
        return _with_weights(frame, point.neurons, inner, outer)

    return jax.vmap(one)(arrival.seen)


def _with_weights(frame: Frame, neurons: Neurons, inner, outer) -> Neurons:
    """Return the neurons with other weights in their units, in units of their own."""
    neurons = eqx.tree_at(lambda n: (n.inner, n.outer), neurons, (inner, outer))
    if frame.train_outer:
        neurons = neurons.rebalance()
    return neurons.renormalise(frame.train_outer)

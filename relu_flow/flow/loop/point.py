"""A point of the flow: neurons and their modes at one time."""

import equinox as eqx
import jax.numpy as jnp

from ..method.frame import Frame, Neurons
from ..surface.modes import Modes, reconciled
from ..surface.neurons import Arrival
from ..surface.slides import onto_slides


class Point(eqx.Module):
    """The neurons and their modes at one time."""

    neurons: Neurons
    modes: Modes


def point_at(frame: Frame, arrival: Arrival, neurons: Neurons) -> Point:
    """Return where neurons have been taken to, without what rounding did to them on the way.

    `neurons` are those at the start of the step, for the units that weights are in.
    """
    inner, outer = arrival.weights
    inner = onto_slides(frame, arrival.modes, inner)
    exponent = neurons.exponent
    neurons = eqx.tree_at(lambda n: (n.inner, n.outer), neurons, (inner, outer))
    if frame.train_outer:
        neurons = neurons.rebalance()
    neurons = neurons.renormalise(frame.train_outer)
    height = jnp.ldexp(arrival.modes.height, (exponent - neurons.exponent)[:, None])
    height = reconciled(frame, arrival.modes, height, neurons.inner)
    return Point(neurons, eqx.tree_at(lambda m: m.height, arrival.modes, height))

"""Neurons on their way through a step, what they are taken through, and where they arrive."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..method.field import Weights
from ..surface.modes import Modes
from ..trajectory import SwitchLog
from .influence import Influence
from .step import Step


class Travellers(eqx.Module):
    """Neurons on their way through a step; the axis `width` counts them.

    `clock` is the time since the step's start about which the series are expanded, `trusted`
    how far they are, `logged` the modes whose changes have been written down, `tries` how often
    a neuron has been decided about at this very instant.
    """

    clock: Float[Array, " width"]
    trusted: Float[Array, " width"]
    inner: Float[Array, "order width features"]
    outer: Float[Array, "order width"]
    limits: Float[Array, "width constraints order"]
    modes: Modes
    logged: Int[Array, "width samples"]
    tries: Int[Array, " width"]

    def take(self, chosen: Int[Array, " taken"]) -> "Travellers":
        """Return some of the neurons."""
        rows = lambda array: jnp.take(array, chosen, axis=0, mode="clip")
        columns = lambda array: jnp.take(array, chosen, axis=1, mode="clip")
        return Travellers(
            rows(self.clock), rows(self.trusted), columns(self.inner), columns(self.outer),
            rows(self.limits), jax.tree.map(rows, self.modes), rows(self.logged), rows(self.tries),
        )  # fmt: skip

    def put(self, chosen: Int[Array, " taken"], some: "Travellers") -> "Travellers":
        """Return all neurons, some of them replaced; an index of `width` puts nothing."""
        rows = lambda array, new: array.at[chosen].set(new, mode="drop")
        columns = lambda array, new: array.at[:, chosen].set(new, mode="drop")
        return Travellers(
            rows(self.clock, some.clock), rows(self.trusted, some.trusted),
            columns(self.inner, some.inner), columns(self.outer, some.outer),
            rows(self.limits, some.limits), jax.tree.map(rows, self.modes, some.modes),
            rows(self.logged, some.logged), rows(self.tries, some.tries),
        )  # fmt: skip

    def limit(self, index: Int[Array, " width"]) -> Float[Array, "order width"]:
        """Return one constraint of each."""
        return jnp.take_along_axis(self.limits, index[:, None, None], axis=1)[:, 0].T


class Counts(eqx.Module):
    """What happened so far, counted.

    Attributes:
        rounds: Rounds of local work.
        grazes: Hyperplanes touched, or met at a normal speed below 1e-6 of the largest.
        overflow: Whether a neuron needed more slots for slides than there are.
        stuck: Whether some neuron's modes found no consistent assignment.
        vanished: Neurons whose inner weights reached zero.
    """

    rounds: Int[Array, ""]
    grazes: Int[Array, ""]
    overflow: Bool[Array, ""]
    stuck: Bool[Array, ""]
    vanished: Int[Array, ""]

    @classmethod
    def zero(cls) -> "Counts":
        """Return the counts before anything happened."""
        zero, no = jnp.zeros((), jnp.int32), jnp.array(False)
        return cls(zero, zero, no, no, zero)


class ConstrainedStep(eqx.Module):
    """A step with the constraints of its neurons: what they are taken through.

    Attributes:
        step: The step.
        limits: Its constraints, `step_limits(frame, step)`.
        influence: What neurons that switch do to its pulls.
        corrects: Whether what neurons put out beyond their frozen pattern is collected.
    """

    step: Step
    limits: Float[Array, "width constraints order"]
    influence: Influence
    corrects: Bool[Array, ""]


class Arrival(eqx.Module):
    """Where neurons have been taken to, and what happened on the way.

    Attributes:
        weights: Inner and outer weights.
        seen: The same at the times that were looked at, along a first axis.
        modes: Modes.
        speed: How fast preactivations move.
        slack: How far weights of slides are from their two ends.
        log: The switches.
        counts: The counts.
        correction: What the neurons put out beyond the step's frozen pattern, projected.
        first_switch: When the first neuron switches; `inf` if none does.
        decide_by: Before when the step has to end for a switch that its pulls do not decide;
            `inf` if there is none.
    """

    weights: Weights
    seen: tuple[Float[Array, "looks width features"], Float[Array, "looks width"]]
    modes: Modes
    speed: Float[Array, "width samples"]
    slack: Float[Array, "width ends"]
    log: SwitchLog
    counts: Counts
    correction: Float[Array, "degrees samples"]
    first_switch: Float[Array, ""]
    decide_by: Float[Array, ""]

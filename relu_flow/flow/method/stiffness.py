"""Which kind of step comes next: a power series, or a collocation step through stiffness or a tail.

A collocation step costs about ten expansions and goes as far as accuracy lets it. It is tried
once neurons and pulls hardly move within a step of the series, kept to while it is much longer,
and after a failure tried again only after twice as many steps as after the last. A step that
fails costs its sweeps; the series is taken instead, or after a tail a shorter one.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._trees import choose
from .clock import offset_of

# How much longer than the series' a collocation step must be, its cost over that of a series; and
# how long the first is made.
_WORTH, _FIRST = 6.0, 8.0
# Most steps between two tries.
_PATIENCE = 16


class Pace(eqx.Module):
    """What was learnt from the steps so far.

    Attributes:
        stiff: Whether the last was a collocation step: the unit is how long the next may be.
        tail: Whether it was one through a tail.
        wait: Steps to take before one is tried.
        patience: Steps to take after the next that fails.
    """

    stiff: Bool[Array, ""]
    tail: Bool[Array, ""]
    wait: Int[Array, ""]
    patience: Int[Array, ""]

    @classmethod
    def start(cls) -> "Pace":
        """Return what is known before the first step."""
        no = jnp.array(False)
        return cls(no, no, jnp.zeros((), jnp.int32), jnp.ones((), jnp.int32))

    def after(
        self, stiff: Bool[Array, ""], tail: Bool[Array, ""], tried: Bool[Array, ""]
    ) -> "Pace":
        """Return what is known after a step."""
        failed = tried & ~stiff
        wait = jnp.where(failed, self.patience, jnp.maximum(self.wait - 1, 0))
        longer = jnp.minimum(2 * self.patience, _PATIENCE)
        patience = jnp.where(failed, longer, jnp.where(stiff, 1, self.patience))
        return Pace(stiff, tail, wait, patience)

    def after_quiet(self, tried: Bool[Array, ""]) -> "Pace":
        """Return what is known after a step in closed form, taken where another may have failed."""
        waiting = eqx.tree_at(lambda p: p.wait, self, jnp.maximum(self.wait - 1, 0))
        no = jnp.zeros_like(self.stiff)
        return choose(tried, self.after(no, no, tried), waiting)


class StiffTrial(eqx.Module):
    """What is planned for one step.

    Attributes:
        decided: Whether its kind is decided: it has been expanded before.
        length: The length of the collocation step that it is, 0 if it is none, once decided.
        warp: How time runs on it, likewise.
        suggested: How long the next collocation step may be, 0 if the last step was none.
        ready: Whether one may be tried.
        tail: Whether the last step was one through a tail.
        left: How far the step may go at most.
    """

    decided: Bool[Array, ""]
    length: Float[Array, ""]
    warp: Float[Array, ""]
    suggested: Float[Array, ""]
    ready: Bool[Array, ""]
    tail: Bool[Array, ""]
    left: Float[Array, ""]

    @classmethod
    def of(cls, pace: Pace, left: Float[Array, ""], decided, failed, length, warp) -> "StiffTrial":
        """Return the plan for a step in whose unit as much time is left."""
        suggested = jnp.where(pace.stiff, jnp.ones_like(left), 0.0)
        return cls(decided, length, warp, suggested, (pace.wait == 0) & ~failed, pace.tail, left)

    @classmethod
    def again(cls, length: Float[Array, ""], warp: Float[Array, ""]) -> "StiffTrial":
        """Return the plan for a step that is taken again."""
        no = jnp.array(False)
        return cls(~no, length, warp, jnp.zeros_like(length), no, no, length)

    def stiff_length(
        self, lazy: Bool[Array, ""], explicit: Float[Array, ""], warp: Float[Array, ""]
    ) -> Float[Array, ""]:
        """Return how long a collocation step is to be tried; 0 for none.

        Args:
            lazy: Whether hardly anything moves within a step of the series.
            explicit: How far the series reaches.
            warp: How time is to run on the step.
        """
        length = jnp.where(self.suggested > 0, self.suggested, _FIRST * explicit)
        length = jnp.minimum(length, offset_of(warp, self.left))
        tried = self.ready & (lazy | (self.suggested > 0)) & (length > _WORTH * explicit)
        return jnp.where(self.decided, self.length, jnp.where(tried, length, 0.0))

"""Dense output: each step of a run can be taken again, up to any time within it."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._types import FloatScalarLike, is_traced
from ...model.network import TwoLayerReLU
from ..forward import forward_only
from ..method.frame import Frame
from ..method.stiffness import StiffTrial
from ..step.influence import Influence
from ..step.neurons import pass_through
from ..step.step import Step, may_switch, step_limits
from ..step.travellers import Arrival, ConstrainedStep, Counts
from ..trajectory import SwitchLog
from .context import Context
from .expansion import expand_step
from .point import point_at
from .quiet import Quiet, quiet_point
from .state import History


class DenseOutput(eqx.Module):
    """The flow at any time of a run: the step that holds it is taken again up to there."""

    context: Context
    history: History
    t0: Float[Array, ""]
    end: Float[Array, ""]

    def __call__(self, t: FloatScalarLike) -> TwoLayerReLU:
        """Return the network at `t`; `inf` in its place if that is unknown and outside the run."""
        t = jnp.asarray(t, self.end.dtype)
        outside = self._outside(t)
        if not is_traced(outside) and bool(outside):
            raise ValueError(
                f"Argument `t` must lie within the run, [{self.t0}, {self.end}], but it is {t}."
            )
        network = self._at(jnp.clip(t, self.t0, self.end))
        network = jax.tree.map(lambda leaf: jnp.where(outside, jnp.inf, leaf), network)
        return forward_only(network, "Trajectory.network_at")

    def _outside(self, t: Float[Array, ""]) -> Bool[Array, ""]:
        """Return whether a time is off the run by more than the rounding of grids of times."""
        slack = 64 * jnp.finfo(t.dtype).eps * jnp.maximum(jnp.abs(self.t0), jnp.abs(self.end))
        return ~((t >= self.t0 - slack) & (t <= self.end + slack))

    @eqx.filter_jit
    def _at(self, t: Float[Array, ""]) -> TwoLayerReLU:
        context, history, frame = self.context, self.history, self.context.frame
        slot = jnp.maximum(jnp.searchsorted(history.t, t, side="right") - 1, 0)
        point = history.point_at(slot, frame)
        start, unit, length = history.t[slot], history.unit[slot], history.length[slot]
        again = StiffTrial.again(history.stiff[slot], history.warp[slot])
        step = expand_step(
            context, point, start, unit, history.correction[slot], length, length, again
        )
        offset = jnp.clip(step.clock.offset_at(t), 0.0, length)

        def series():
            return point_at(frame, _arrival(frame, step, offset), point.neurons)

        def quietly():
            quiet = Quiet.of(frame, step, point.neurons, context.rtol)
            return quiet_point(frame, point, quiet, offset)

        if not context.can_be_quiet:
            return context.network(series().neurons)
        return context.network(jax.lax.cond(history.quiet[slot], quietly, series).neurons)


def _arrival(frame: Frame, step: Step, offset: Float[Array, ""]) -> Arrival:
    """Return where neurons get within a step."""
    limits, no = step_limits(frame, step), jnp.array(False)
    influence = Influence.none(frame.inputs.shape[0], offset.dtype)
    return pass_through(
        frame,
        ConstrainedStep(step, limits, influence, corrects=no),
        may_switch(limits, offset),
        offset,
        SwitchLog.empty(1, offset.dtype),
        Counts.zero(),
        record=no,
        looks=jnp.zeros(0, offset.dtype),
    )

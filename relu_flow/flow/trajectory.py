"""What a solve returns: switches, states, milestones, counts, and why it ended."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._types import FloatScalarLike
from ..model.network import TwoLayerReLU
from ..model.switch import SwitchKind
from . import summary
from .results import RESULTS
from .surface.modes import mode_after, switch_kind

if TYPE_CHECKING:
    import pandas as pd


class SwitchLog(eqx.Module):
    """The changes of the activation pattern.

    Attributes:
        time: When, in units of gradient-flow time; ascending, `inf` beyond `num`.
        neuron: Which neuron; -1 beyond `num`.
        sample: On which sample's hyperplane; -1 beyond `num`.
        kind: Code of `SwitchKind`; -1 beyond `num`.
        num: Number of switches.
    """

    time: Float[Array, " switches"]
    neuron: Int[Array, " switches"]
    sample: Int[Array, " switches"]
    kind: Int[Array, " switches"]
    num: Int[Array, ""]

    @classmethod
    def empty(cls, size: int, dtype) -> "SwitchLog":
        """Return an empty log with `size` slots."""
        return cls(
            jnp.full(size, jnp.inf, dtype),
            jnp.full(size, -1, jnp.int32),
            jnp.full(size, -1, jnp.int32),
            jnp.full(size, -1, jnp.int8),
            jnp.zeros((), jnp.int32),
        )

    def append(
        self,
        time: Float[Array, " taken"],
        neuron: Int[Array, " taken"],
        old: Int[Array, "taken samples"],
        new: Int[Array, "taken samples"],
        kept: Bool[Array, "#taken #samples"],
    ) -> "SwitchLog":
        """Write every entry of `kept` in which the modes `old` and `new` differ.

        `num` counts on beyond the size of the log, so that an overflow can be told.
        """
        changed = (old != new) & kept
        flat = changed.reshape(-1)
        slot = jnp.where(flat, self.num + jnp.cumsum(flat, dtype=jnp.int32) - 1, self.time.shape[0])

        def put(array, values):
            values = jnp.broadcast_to(values, changed.shape).reshape(-1)
            return array.at[slot].set(values.astype(array.dtype), mode="drop")

        return SwitchLog(
            put(self.time, time[:, None]),
            put(self.neuron, neuron[:, None]),
            put(self.sample, jnp.arange(changed.shape[1])),
            put(self.kind, switch_kind(old, new)),
            self.num + jnp.sum(changed, dtype=jnp.int32),
        )

    def sorted(self) -> "SwitchLog":
        """Return the log in order of time, what is beyond `num` padded again."""
        valid = jnp.arange(self.time.shape[0], dtype=jnp.int32) < self.num
        time = jnp.where(valid, self.time, jnp.inf)
        order = jnp.lexsort((self.sample, self.neuron, time))

        def pad(array):
            return jnp.where(valid, array[order], jnp.asarray(-1, array.dtype))

        return SwitchLog(time[order], pad(self.neuron), pad(self.sample), pad(self.kind), self.num)

    def until(self, end: Float[Array, ""]) -> "SwitchLog":
        """Return a sorted log without what is later than `end`; an overflow can still be told."""
        late = self.time > end
        num = self.num - jnp.sum(late & jnp.isfinite(self.time), dtype=jnp.int32)
        pad = lambda array: jnp.where(late, jnp.asarray(-1, array.dtype), array)
        time = jnp.where(late, jnp.inf, self.time)
        return SwitchLog(time, pad(self.neuron), pad(self.sample), pad(self.kind), num)

    def after(
        self, start: Float[Array, ""], sides: Int[Array, "width samples"]
    ) -> tuple["SwitchLog", Int[Array, "width samples"]]:
        """Return a sorted log without what is at the start, and the modes that this leads to.

        A network that starts on a hyperplane finds out there which of its modes are right.
        """
        early = (self.time <= start) & (self.kind >= 0)
        slot = jnp.arange(self.time.shape[0], dtype=jnp.int32)
        last = jnp.full(sides.shape, -1, jnp.int32)
        row = jnp.where(early, self.neuron, sides.shape[0])
        last = last.at[row, self.sample].max(slot, mode="drop")
        found = mode_after(self.kind[jnp.maximum(last, 0)])
        sides = jnp.where(last >= 0, found, sides).astype(sides.dtype)
        count = jnp.sum(early, dtype=jnp.int32)
        index = jnp.minimum(slot + count, slot.shape[0] - 1)
        beyond = slot + count >= slot.shape[0]
        move = lambda array, fill: jnp.where(beyond, jnp.asarray(fill, array.dtype), array[index])
        log = SwitchLog(
            move(self.time, jnp.inf), move(self.neuron, -1), move(self.sample, -1),
            move(self.kind, -1), self.num - count,
        )  # fmt: skip
        return log, sides

    def once(self, sides: Int[Array, "width samples"]) -> "SwitchLog":
        """Return a sorted log in which a pair switches at most once at an instant.

        A neuron that passes zero, or leaves it, looks for its way among modes that last for no
        time: what counts is what came of it.

        Args:
            sides: The modes before the first entry.
        """
        index = jnp.arange(self.time.shape[0], dtype=jnp.int32)
        order = jnp.lexsort((index, self.time, self.sample, self.neuron))
        time, neuron, sample, kind = (
            array[order] for array in (self.time, self.neuron, self.sample, self.kind)
        )
        pair = (neuron == jnp.roll(neuron, 1)) & (sample == jnp.roll(sample, 1)) & (index > 0)
        again = pair & (time == jnp.roll(time, 1))
        start = jax.lax.cummax(jnp.where(again, 0, index))
        after = mode_after(kind)
        before = jnp.where(pair, jnp.roll(after, 1), sides[neuron, sample])[start]
        valid = kind >= 0
        keep = valid & ~jnp.roll(again, -1).at[-1].set(False) & (before != after)
        kind = jnp.where(start == index, kind, switch_kind(before, after))
        slot = jnp.where(keep, jnp.cumsum(keep, dtype=jnp.int32) - 1, index.shape[0])
        empty = SwitchLog.empty(index.shape[0], self.time.dtype)
        put = lambda rows, values: rows.at[slot].set(values, mode="drop")
        gone = jnp.sum(valid & ~keep, dtype=jnp.int32)
        return SwitchLog(
            put(empty.time, time), put(empty.neuron, neuron), put(empty.sample, sample),
            put(empty.kind, kind), self.num - gone,
        ).sorted()  # fmt: skip

    def to_pandas(self) -> "pd.DataFrame":
        """Return the switches as a table: time, neuron, sample, and the kind's name."""
        import pandas as pd

        num = int(self.num)
        names = [SwitchKind(int(code)).name.lower() for code in np.asarray(self.kind)[:num]]
        return pd.DataFrame(
            {
                "time": np.asarray(self.time[:num]),
                "neuron": np.asarray(self.neuron[:num]),
                "sample": np.asarray(self.sample[:num]),
                "kind": pd.Categorical(names, [kind.name.lower() for kind in SwitchKind]),
            }
        )


class Crossing(eqx.Module):
    """When an observable first crossed the level of a milestone.

    Attributes:
        time: The time, root-found on the flow itself; `inf` if it was not reached.
    """

    time: Float[Array, ""]

    @property
    def reached(self) -> Bool[Array, ""]:
        """Whether the level was crossed before the end."""
        return jnp.isfinite(self.time)


class Trajectory(summary.Summarised):
    """The solution of a gradient flow. Under `jax.vmap` every array gets the batch axes.

    Attributes:
        ts: Times of `networks`: those asked for, or the end alone. `inf` where the run
            ended early.
        networks: The network at each of `ts`, stacked along a first axis; scales are kept
            apart (`log_scale`), so nothing underflows. Beyond an early end they hold the
            last state.
        switches: Every change of the activation pattern.
        initial_sides: Mode of each pair at `t0`: 0 inactive, 1 active, 2 sliding.
        milestones: For each name when the level was crossed.
        result: A member of `RESULTS`.
        stats: Counts: `steps`, `stiff_steps` (those by collocation, through stiffness or a tail),
            `quiet_steps` (those in closed form), `truncated_steps` (shorter than
            their series reach: at a switch that matters to others, or that they do not decide),
            `rejected_steps`,
            `unsettled_steps` (taken although what their switches do to the outputs had not
            settled to the tolerance, or did not decide one: hardly ever), `rounds` (of
            work local to neurons), `evaluations` (expansions of the whole network and
            sweeps of collocation steps, or evaluations of its vector field),
            `switches`, `slides`, `ties` (switches simultaneous with the one before),
            `repels` (neurons found on a repelling hyperplane),
            `vanished` (neurons whose inner weights reached zero), `grazes`
            (hyperplanes met at hardly any speed: the run is ill-conditioned there); and two
            times: `settled`, from which nothing was driven any more, to rounding, and the
            network was left alone (`inf` if never), and `time`, up to which the run came.
        method: Name of the solver.

    Printed, a trajectory is a summary of all that.
    """

    ts: Float[Array, " times"]
    networks: TwoLayerReLU
    switches: SwitchLog
    initial_sides: Int[Array, "width samples"]
    milestones: dict[str, Crossing]
    result: RESULTS
    stats: dict[str, Array]
    method: str = eqx.field(static=True, default="")
    _dense: Callable[[FloatScalarLike], TwoLayerReLU] | None = None

    def _rows(self) -> list[tuple[str, str]]:
        stats = self.stats
        said = lambda *names: ", ".join(f"{summary.span(stats[n])} {w}" for n, w in names)
        return [
            ("method", self.method),
            ("time", f"up to {summary.span(stats['time'])}"),
            ("kept", summary.times(self.ts) + (", dense output" if self._dense else "")),
            ("steps", said(("steps", "steps"), ("stiff_steps", "by collocation"),
                           ("quiet_steps", "in closed form"),
                           ("truncated_steps", "cut short at a switch"),
                           ("evaluations", "evaluations"))),
            ("switches", summary.switches(
                self.switches, stats, ("ties", "repels", "vanished", "grazes"))),
            ("milestones", summary.milestones(self.milestones)),
            ("settled", summary.settled(stats["settled"])),
        ]  # fmt: skip

    @property
    def network(self) -> TwoLayerReLU:
        """The network at the last of `ts`."""
        import jax

        return jax.tree.map(lambda leaf: leaf[-1], self.networks)

    def network_at(self, t: FloatScalarLike) -> TwoLayerReLU:
        """Return the network at any time of the run, to the accuracy of the run.

        Args:
            t: A time between `t0` and the end of the run; `jax.vmap` over it for many. Under a
                transformation, where a time outside cannot be refused, all weights and scales
                are `inf` there, the padding of times that were not reached.

        Raises:
            ValueError: If the run was not asked for `dense=True`, `t` is no scalar, or a
                concrete `t` lies outside the run.
        """
        if self._dense is None:
            raise ValueError(
                "Method `network_at` needs dense output, but `solve` was called with `dense=False`."
            )
        # As an array: a Python number would be compiled in, anew for every time.
        t = jnp.asarray(t)
        if t.shape != ():
            raise ValueError(
                f"Argument `t` must be a scalar, but its shape is {t.shape}. For many times use "
                "`jax.vmap(trajectory.network_at)(times)`."
            )
        return self._dense(t)

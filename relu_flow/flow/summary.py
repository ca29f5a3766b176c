"""Results in a few lines that a person can read."""

import abc
from collections.abc import Iterable, Mapping
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PyTree

from .._text import rows
from .._types import is_traced
from ..model.network import TwoLayerReLU
from ..model.switch import SwitchKind
from .results import RESULTS

# What runs end with here, of all the codes that Diffrax has.
_CODES = (
    "successful", "max_steps_reached", "max_switches_reached", "max_slides_reached",
    "inconsistent_modes", "step_underflow", "nonfinite",
)  # fmt: skip


class Summarised(eqx.Module):
    """A result that prints a summary; of many runs ranges, under a transformation shapes."""

    ts: eqx.AbstractVar[Array]
    networks: eqx.AbstractVar[TwoLayerReLU]
    switches: eqx.AbstractVar[Any]
    initial_sides: eqx.AbstractVar[Array]
    result: eqx.AbstractVar[RESULTS]
    stats: eqx.AbstractVar[dict[str, Array]]

    @abc.abstractmethod
    def _rows(self) -> list[tuple[str, str]]:
        """Return what there is to say between the network and the memory."""

    def __str__(self) -> str:
        if not self._known:
            return super().__repr__()
        network = ("network", shapes(self.networks, self.initial_sides.shape[-1]))
        lines = [network, *self._rows(), ("memory", memory(self))]
        return rows(f"{type(self).__name__}: {outcome(self.result)}", lines)

    def __repr__(self) -> str:
        if not self._known:
            return super().__repr__()
        runs, width, _ = _shape(self.networks)
        many, switches = f"{runs} runs of " if runs > 1 else "", span(self.switches.num)
        said = f"{switches} switch{'' if switches == '1' else 'es'}"
        return f"{type(self).__name__}({outcome(self.result)}; {many}{width} neurons, {said})"

    @property
    def _known(self) -> bool:
        """Whether numbers are there to be read: not so under a transformation."""
        arrays = (self.ts, *self.stats.values())
        there = all(isinstance(array, jax.Array | np.ndarray) for array in arrays)
        return there and not is_traced(*arrays)


def shapes(networks: TwoLayerReLU, samples: int) -> str:
    """Return what was trained, on how many samples."""
    runs, width, features = _shape(networks)
    many = f"{runs} runs, each " if runs > 1 else ""
    kind = networks.inner_weight.dtype.name
    return f"{many}{width} neurons, {features} features, {samples} samples, {kind}"


def times(ts: Any) -> str:
    """Return at which times networks are there."""
    known = np.asarray(ts)
    known = known[np.isfinite(known)]
    if not known.size:
        return "none was reached"
    count = np.shape(ts)[-1]
    if count == 1:
        return f"1 network, at {span(known)}"
    return f"{count} networks, {known.min():.6g} to {known.max():.6g}"


def switches(log: Any, stats: Mapping[str, Any], also: Iterable[str] = ()) -> str:
    """Return how many switches there were, by kind, and what else was counted."""
    codes = np.asarray(log.kind).ravel()
    counts = [(kind.name.lower(), int(np.sum(codes == int(kind)))) for kind in SwitchKind]
    parts = [f"{count} {name.replace('_', ' ')}" for name, count in counts if count]
    parts += [f"{span(stats[name])} {name}" for name in also if np.any(np.asarray(stats[name]))]
    many = np.ndim(log.num) > 0
    said = f": {', '.join(parts)}{' in all' if many else ''}" if parts else ""
    return f"{span(log.num)}{' a run' if many else ''}{said}"


def milestones(reached: Mapping[str, Any]) -> str:
    """Return when milestones were reached."""
    return ", ".join(f"{name} {_time(crossing.time)}" for name, crossing in reached.items())


def settled(since: Any) -> str:
    """Return since when nothing moves; nothing if that did not come in every run."""
    since = np.asarray(since)
    return f"from {span(since)} on" if np.all(since < np.inf) else ""


def memory(result: PyTree) -> str:
    """Return how much memory a result's arrays take."""
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(result) if hasattr(leaf, "nbytes"))
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} B"


def outcome(result: RESULTS) -> str:
    """Return the name of a result code; of many, how many runs ended with each."""
    counts = {name: np.asarray(result == getattr(RESULTS, name)) for name in _CODES}
    found = {name: int(np.sum(ended)) for name, ended in counts.items() if np.any(ended)}
    if sum(found.values()) == 1 and len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{count} {name}" for name, count in found.items())


def _time(time: Any) -> str:
    values = np.asarray(time).ravel()
    reached = values[np.isfinite(values)]
    if not reached.size:
        return "not reached"
    left = f" ({values.size - reached.size} not reached)" if reached.size < values.size else ""
    return f"at {span(reached)}{left}"


def span(values: Any) -> str:
    """Return a number, or from where to where many numbers lie."""
    values = np.asarray(values)
    low, high = values.min(), values.max()
    said = (lambda v: f"{v:.6g}") if values.dtype.kind == "f" else str
    return said(low) if low == high else f"{said(low)} to {said(high)}"


def _shape(networks: TwoLayerReLU) -> tuple[int, int, int]:
    """Return how many runs, neurons and features there are in stacked networks."""
    *batch, _, width, features = networks.inner_weight.shape
    return int(np.prod(batch)), width, features

"""Results in a few lines that a person can read."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from .._types import is_traced
from ..model.network import TwoLayerReLU
from ..model.switch import SwitchKind

_WIDTH = 11  # of the column of names
# What runs end with here, of all the codes that Diffrax has.
_CODES = (
    "successful", "max_steps_reached", "max_switches_reached", "max_slides_reached",
    "inconsistent_modes", "step_underflow", "nonfinite",
)  # fmt: skip


def is_known(*arrays: Any) -> bool:
    """Return whether numbers are there to be read: not so under a transformation."""
    there = all(isinstance(array, jax.Array | np.ndarray) for array in arrays)
    return there and not is_traced(*arrays)


def rows(title: str, lines: Iterable[tuple[str, str]]) -> str:
    """Return a title and one row for each name, without those that say nothing."""
    return "\n".join([title, *(f"  {name:<{_WIDTH}}{said}" for name, said in lines if said)])


def short(kind: str, result: str, networks: TwoLayerReLU, switches: Any) -> str:
    """Return one line for a notebook."""
    runs, width, _ = _shape(networks)
    many = f"{runs} runs of " if runs > 1 else ""
    said = span(switches.num)
    return f"{kind}({result}; {many}{width} neurons, {said} switch{'' if said == '1' else 'es'})"


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


def memory(result: PyTree) -> str:
    """Return how much memory a result's arrays take."""
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(result) if hasattr(leaf, "nbytes"))
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} B"


def outcome(result: Any, codes: Any) -> str:
    """Return the name of a result code; of many, how many runs ended with each."""
    counts = {name: np.asarray(result == getattr(codes, name)) for name in _CODES}
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

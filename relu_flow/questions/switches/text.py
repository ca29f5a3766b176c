"""The paragraph of the question on switches, from its numbers."""

import math
from collections.abc import Iterable

import numpy as np
import xarray as xr


def paragraph(found: dict[str, dict[str, xr.Dataset]], broken: dict[str, tuple[int, int]]) -> str:
    """Say in which geometries neurons slide, how often, and whether theory was broken.

    Args:
        found: Statistics by family and event.
        broken: How many runs broke what theory says, of how many.
    """
    used = min(int(one["any slides"]["used"].min()) for one in found.values())
    bad = sum(count for count, _ in broken.values())
    total = sum(count for said, (_, count) in broken.items() if said.endswith("a slide"))
    kept = (
        f"and theory, which covers {total} runs, held in each: no slide there"
        if bad == 0
        else f"but what theory says was broken {bad} times"
    )
    return (
        f"At least {used} runs a point, {kept}. "
        + _separable(found["separable"])
        + _clusters(found["clusters"])
        + _teacher(found["teacher"])
        + _teachers(found["teachers"])
        + _rare(found)
        + "All with 8 inputs in 4 dimensions, 20 neurons, both layers trained and scale 1e-4; "
        "nothing is counted after the small loss at which runs end."
    )


def _percent(one: xr.Dataset) -> str:
    return f"{float(one['estimate']):.0%} [{float(one['low']):.0%}, {float(one['high']):.0%}]"


def _first(one: xr.Dataset, along: str, descending: bool = False) -> float | None:
    """Return where the fraction first is not zero, from one end of the axis."""
    line = one["estimate"].sortby(along, ascending=not descending)
    where = np.flatnonzero(line.to_numpy() > 0)
    return float(line[along][where[0]]) if where.size else None


def _separable(found: dict[str, xr.Dataset]) -> str:
    share = found["any slides"].sortby("mu")
    lowest = float(share["mu"][0])
    first = _first(found["any slides"], "mu", descending=True)
    switches = found["switches"]["estimate"]
    number = switches.where(switches["mu"] > 0)
    often = (
        f"With mu > 0 a neuron of separable data switches {float(number.min()):.1f} to "
        f"{float(number.max()):.1f} times (medians; at most 8 by theory). "
    )
    if first is None:
        return often + f"No neuron slid, down to mu = {lowest:g}. "
    slides = found["slides"].sel(mu=lowest)["estimate"]
    return often + (
        f"Going down, slides begin at mu = {first:g} "
        f"({_percent(share.sel(mu=first))} of runs) and come to {_percent(share.sel(mu=lowest))} "
        f"at {lowest:g}, with {float(slides):.2g} a neuron. "
    )


def _clusters(found: dict[str, xr.Dataset]) -> str:
    share = found["any slides"]["estimate"]
    narrow, wide = share["angle"] < math.pi / 2, share["angle"] > math.pi / 2
    said = []
    for name, where in (("below", narrow), ("beyond", wide)):
        if bool(where.any()):
            part = share.where(where)
            said.append(f"{_span(part)} {name} 90 degrees")
    return f"Two clusters: slides in {', '.join(said)}. "


def _span(values: xr.DataArray) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.0%}" if low == high else f"{low:.0%} to {high:.0%}"


def _teacher(found: dict[str, xr.Dataset]) -> str:
    share = found["any slides"].sortby("max_angle")
    first = _first(share, "max_angle")
    if first is None:
        return "Around one teacher nothing slid. "
    last = share.isel(max_angle=-1)
    return (
        f"Around one teacher slides begin at {math.degrees(first):.0f} degrees and come to "
        f"{_percent(last)} of runs at {math.degrees(float(last['max_angle'])):.0f}. "
    )


def _teachers(found: dict[str, xr.Dataset]) -> str:
    share = found["any slides"]["estimate"]
    parts = []
    for value in share["outer"].to_numpy():
        one = share.sel(outer=value)
        name = "opposite signs" if "-" in str(value) else "one sign"
        parts.append(f"{_span(one)} with {name}")
    return f"Two opposite teachers: {', '.join(parts)}. "


def _rare(found: dict[str, dict[str, xr.Dataset]]) -> str:
    def most(event: str, names: Iterable[str] = tuple(found)) -> float:
        return max(float(found[name][f"any {event}"]["estimate"].max()) for name in names)

    square = ("teacher", "teachers")
    only = most("repels", set(found) - set(square)) == 0 < most("repels", square)
    return (
        f"At a point, ties occur in up to {most('ties'):.0%} of runs, grazes in "
        f"{most('grazes'):.0%}, repels in {most('repels'):.0%}"
        + (": repels only with the square loss, whose pulls can turn. " if only else ". ")
    )

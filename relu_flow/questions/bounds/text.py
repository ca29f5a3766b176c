"""The paragraph of the question on bounds, from its numbers."""

import numpy as np
import xarray as xr


def paragraph(
    time: xr.Dataset,
    loose: dict[str, xr.Dataset],
    laws: list[tuple],
    found: xr.Dataset,
    scale_laws: list[tuple],
    own: dict[str, xr.DataArray],
    held: dict[str, xr.Dataset],
) -> str:
    """Say how the time and the scale go with n and mu, and how their bounds do.

    Args:
        time: Medians of the time over `samples` and `mu`.
        loose: Medians of each bound over the time.
        laws: Slopes along each line of the grid.
        found: Medians of the largest log scale.
        scale_laws: Slopes of ln(-ln epsilon), of it and of eq. (28).
        own: The bounds of every run, `scale` and `lemma_3` among them.
        held: Fraction of seeds in place by each bound.
    """
    used = int(time["used"].min())
    numbers, mus = time["samples"].to_numpy(), time["mu"].to_numpy()
    fewest = min(float(one["estimate"].min()) for one in held.values())
    kept = (
        "every run kept every bound"
        if fewest == 1
        else f"a bound was broken: somewhere only {fewest:.0%} of the seeds kept it"
    )
    t_1, worst = loose["t_1"]["estimate"], loose["worst"]["estimate"]
    return (
        f"From at least {used} seeds a point, {kept}. "
        + _in_n(laws, int(numbers[0]), int(numbers[-1]))
        + _in_mu(laws, mus)
        + f"So t_1 is {_plain(t_1.min())} to {_plain(t_1.max())} times the measured one, the "
        f"sharper path {_plain(worst.min())} to {_plain(worst.max())} times. "
        + _scale(found, scale_laws, own)
        + "The summed loss pulls harder with more samples. These are random points of a cap in 4 "
        "dimensions and 10 neurons: the worst data, or the last neuron of many, may take longer."
    )


def _plain(value: xr.DataArray) -> str:
    """Write a number with two digits."""
    return f"{float(f'{float(value):.2g}'):,g}"


def _range(slopes: list) -> str:
    """Write slopes, with their intervals, as the smallest to the largest."""
    ends = [slopes[0], slopes[-1]] if len(slopes) > 1 else slopes
    ends = sorted(ends, key=lambda s: s.estimate)
    return " to ".join(f"{s.estimate:.2f} [{s.low:.2f}, {s.high:.2f}]" for s in ends)


def _slopes(laws: list[tuple], along: str, name: str) -> list:
    found = [fitted[name].slope for axis, _, _, fitted in laws if axis == along]
    return sorted(found, key=lambda slope: slope.estimate)


def _in_n(laws: list[tuple], fewest: int, most: int) -> str:
    slopes, bound = _slopes(laws, "samples", "time"), _slopes(laws, "samples", "t_1")
    if slopes[-1].high < 0 < bound[0].estimate:
        what = "the time falls with n while t_1 rises"
    elif slopes[0].low > bound[-1].estimate:
        what = "the time rises faster than t_1"
    else:
        what = "time and t_1 go with n"
    return (
        f"Between n = {fewest} and {most} {what}: exponents {_range(slopes)} against "
        f"{_ends(bound)}. "
    )


def _in_mu(laws: list[tuple], mus: np.ndarray) -> str:
    slopes, bound = _slopes(laws, "mu", "time"), _slopes(laws, "mu", "t_1")
    weak = max(abs(s.estimate) for s in slopes) < 0.5 * min(abs(s.estimate) for s in bound)
    return (
        f"In mu, from {mus[0]:g} to {mus[-1]:g}, its exponents are {_range(slopes)}, those of t_1 "
        f"{bound[0].estimate:.2f} to {bound[-1].estimate:.2f}"
        + (": the time hardly feels mu. " if weak else ". ")
    )


def _scale(found: xr.Dataset, laws: list[tuple], own: dict[str, xr.DataArray]) -> str:
    middle = found["estimate"]
    at = {name: middle[name] for name in ("samples", "mu")}
    bound, third = (own[name].sel(at).median("seed") for name in ("scale", "lemma_3"))
    measured, promised = (_slopes(laws, "samples", name) for name in ("found", "bound"))
    return (
        "Neurons are in place before outputs exceed 1/4 up to ln epsilon = "
        f"{float(middle.min()):.1f} to {float(middle.max()):.1f} (medians); Lemma 3 asks for "
        f"{float(third.min()):.1f}, eq. (28) for {_plain(bound.max())} to {_plain(bound.min())}. "
        f"In n, -ln epsilon has exponents {_ends(measured)} against {_ends(promised)}. "
    )


def _ends(slopes: list) -> str:
    return f"{slopes[0].estimate:+.2f} to {slopes[-1].estimate:+.2f}"

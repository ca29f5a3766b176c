"""An axis on which something is looked for: linear, logarithmic, or of integers."""

from typing import Literal

import equinox as eqx
import numpy as np
from jaxtyping import Float, Real

AxisKind = Literal["linear", "log", "integer"]


class Axis(eqx.Module):
    """A range of values, with a coordinate in which equal steps are equal.

    Attributes:
        low: Smallest value.
        high: Largest value.
        kind: "linear"; "log" for positive values; or "integer".
        tolerance: How far apart two values may be that count as one: a difference or, on a log
            axis, a ratio less one.

    Raises:
        ValueError: If `kind` is none of these, the ends are not finite and in order (positive on
            a log axis, whole on an integer one), or `tolerance` is not positive.
    """

    low: float
    high: float
    kind: AxisKind
    tolerance: float

    def __check_init__(self):
        if self.kind not in ("linear", "log", "integer"):
            raise ValueError(
                f'Argument `axis` must be "linear", "log" or "integer", but it is {self.kind!r}.'
            )
        if not -np.inf < self.low < self.high < np.inf:
            raise ValueError(
                "Argument `low` must be less than `high`, both finite, but they are "
                f"{self.low} and {self.high}."
            )
        if self.kind == "log" and self.low <= 0:
            raise ValueError(
                f"Argument `low` must be positive on a log axis, but it is {self.low}. For values "
                "that underflow take their logarithms on a linear axis."
            )
        for name, end in (("low", self.low), ("high", self.high)):
            if self.kind == "integer" and end != round(end):
                raise ValueError(f"Argument `{name}` must be an integer, but it is {end}.")
        if not 0 < self.tolerance < np.inf:
            raise ValueError(
                f"Argument `tolerance` must be positive and finite, but it is {self.tolerance}."
            )

    def coordinate(self, values: Real[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch"]:
        """Return coordinates of values."""
        return np.log(values) if self.kind == "log" else np.asarray(values, float)

    def value(self, coordinates: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch"]:
        """Return values at coordinates, never beyond the ends; on an integer axis rounded."""
        if self.kind == "integer":
            found = np.round(coordinates)
        else:
            found = np.exp(coordinates) if self.kind == "log" else coordinates
        return np.clip(found, self.low, self.high)

    def close(self, first: float, second: float) -> bool:
        """Whether two values count as one, or none is between them."""
        if self.kind == "integer":
            return bool(abs(first - second) <= max(1.0, self.tolerance))
        if self.kind == "log":
            return bool(abs(np.log(first / second)) <= np.log1p(self.tolerance))
        return bool(abs(first - second) <= self.tolerance)

    def spread(self, first: float, second: float, number: int) -> Float[np.ndarray, " points"]:
        """Return up to `number` new values strictly between two, evenly spaced and distinct."""
        ends = self.coordinate(np.array([first, second]))
        between = np.linspace(ends[0], ends[1], number + 2)[1:-1]
        values = np.unique(self.value(between))
        low, high = min(first, second), max(first, second)
        return values[(values > low) & (values < high)]

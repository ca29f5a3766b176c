"""Which runs a statistic is of: those that succeeded; the others are counted by code."""

from collections import Counter

import equinox as eqx
import numpy as np
from jaxtyping import Bool
from numpy.typing import ArrayLike

SUCCESS = "successful"
NOT_A_NUMBER = "not a number"


class Tally(eqx.Module):
    """How many runs a statistic is of, and what became of the others.

    Attributes:
        used: Runs that entered the statistic, censored ones included.
        censored: Those of them of which only a bound is known.
        failures: For each result code that is no success how many runs were left out; runs
            that succeeded with a value that is not a number are under `not a number`.
    """

    used: int
    censored: int
    failures: dict[str, int]

    @property
    def failed(self) -> int:
        """Number of runs left out."""
        return sum(self.failures.values())

    def __str__(self) -> str:
        text = f"{self.used} used"
        if self.censored:
            text += f", {self.censored} of them censored"
        return "; ".join([text, *(f"{n} left out: {code}" for code, n in self.failures.items())])


class Interval(eqx.Module):
    """An estimate with a confidence interval.

    Attributes:
        estimate: The estimate; NaN if no run could be used.
        low: Lower end; `-inf` if there are too few runs to bound it.
        high: Upper end; `inf` likewise.
        level: Confidence level, in (0, 1).
        tally: How many runs it is of.
        method: How the interval was made.
    """

    estimate: float
    low: float
    high: float
    level: float
    tally: Tally
    method: str

    def __str__(self) -> str:
        return (
            f"{self.estimate:.4g} [{self.low:.4g}, {self.high:.4g}] "
            f"({self.level:.3g}, {self.method}; {self.tally})"
        )


def usable(
    values: ArrayLike, codes: ArrayLike | None
) -> tuple[Bool[np.ndarray, "*batch"], dict[str, int]]:
    """Return which values are of runs that succeeded, and the others counted by code.

    Args:
        values: Numbers; may be infinite.
        codes: Result codes of the values' shape: integers, where 0 is success, or strings,
            where "successful" is. All runs succeeded unless given.

    Raises:
        ValueError: If `codes` has another shape, or is neither integers nor strings.
    """
    numbers = np.asarray(values, float)
    good = np.ones(numbers.shape, bool)
    failures: Counter[str] = Counter()
    if codes is not None:
        given = np.asarray(codes)
        if given.shape != numbers.shape:
            raise ValueError(
                "Argument `codes` must have one code for each value, but there are codes of "
                f"shape {given.shape} for values of shape {numbers.shape}."
            )
        # Booleans are refused: as a mask True is success, as a number it is code 1.
        if given.dtype.kind in "iu":
            good = given == 0
        elif given.dtype.kind in "UT" or all(isinstance(code, str) for code in given.flat):
            good = given == SUCCESS
        else:
            raise ValueError(
                "Argument `codes` must be integers (0 is success) or strings, but they are "
                f"of type {given.dtype}. For a mask give `np.where(mask, 0, 1)`."
            )
        failures.update(str(code) for code in given[~good])
    lost = int(np.sum(good & np.isnan(numbers)))
    if lost:
        failures[NOT_A_NUMBER] += lost
    return good & ~np.isnan(numbers), dict(failures)


def check_level(level: float) -> None:
    """Raise `ValueError` unless a confidence level is between 0 and 1."""
    if not 0 < level < 1:
        raise ValueError(f"Argument `level` must be between 0 and 1, but it is {level}.")


def check_fraction(fraction: float) -> None:
    """Raise `ValueError` unless a fraction is between 0 and 1."""
    if not 0 < fraction < 1:
        raise ValueError(f"Argument `fraction` must be between 0 and 1, but it is {fraction}.")


def check_count(name: str, value: object, least: int) -> None:
    """Raise `ValueError` unless the value is an integer, at least `least`."""
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_integer or value < least:  # type: ignore[operator]
        raise ValueError(
            f"Argument `{name}` must be an integer, at least {least}, but it is {value!r}."
        )

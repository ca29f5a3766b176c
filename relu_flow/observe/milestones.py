"""Milestones: named levels of observables, whose times `solve` locates by root finding."""

from collections.abc import Callable

import equinox as eqx

from .._types import FloatScalarLike
from ..model.network import TwoLayerReLU
from ..model.problem import Problem

Observable = Callable[[Problem, TwoLayerReLU], FloatScalarLike]


class Milestone(eqx.Module):
    """The first time at which an observable crosses a level.

    Attributes:
        observable: A function of problem and network that returns a scalar; traceable.
        level: The level. An observable that starts beyond it has not crossed it.
        direction: +1 if it must rise to the level, -1 if it must fall, 0 for either.
        name: Under which name the time is found; the observable's own if not given.

    Raises:
        ValueError: If `observable` is not callable, or `direction` is none of -1, 0, 1.

    Example:
        >>> import relu_flow as rf
        >>> from relu_flow.observe import loss
        >>> problem = rf.Problem([[1.0, 0.0], [0.0, 2.0]], [1.0, -1.0])
        >>> network = rf.TwoLayerReLU([[1.0, 0.0], [0.5, 0.5]], [1.0, -1.0], log_scale=-3.0)
        >>> run = rf.solve(problem, network, 20.0, milestones=rf.Milestone(loss, 1.0, name="fell"))
        >>> round(float(run.milestones["fell"].time), 6)
        2.318196
    """

    observable: Observable = eqx.field(static=True)
    level: FloatScalarLike
    direction: int = eqx.field(static=True)
    name: str = eqx.field(static=True)

    def __init__(
        self,
        observable: Observable,
        level: FloatScalarLike,
        direction: int = 0,
        name: str | None = None,
    ):
        if not callable(observable):
            raise ValueError(f"Argument `observable` must be callable, but it is {observable!r}.")
        if direction not in (-1, 0, 1):
            raise ValueError(f"Argument `direction` must be -1, 0 or 1, but it is {direction}.")
        self.observable = observable
        self.level = level
        self.direction = direction
        own_name = getattr(observable, "__name__", type(observable).__name__)
        self.name = own_name if name is None else name

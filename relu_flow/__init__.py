"""Gradient flow of two-layer ReLU networks, exact through every change of pattern."""

from .flow.solve import Progress as Progress, solve as solve
from .flow.switching import SwitchKind as SwitchKind
from .flow.taylor import Taylor as Taylor
from .flow.trajectory import (
    RESULTS as RESULTS,
    Crossing as Crossing,
    SwitchLog as SwitchLog,
    Trajectory as Trajectory,
)
from .model.loss import (
    AbstractLoss as AbstractLoss,
    ExponentialLoss as ExponentialLoss,
    LogisticLoss as LogisticLoss,
    SquareLoss as SquareLoss,
)
from .model.network import TwoLayerReLU as TwoLayerReLU
from .model.problem import Problem as Problem
from .observe.milestones import Milestone as Milestone

"""Gradient flow of two-layer ReLU networks, exact through every change of pattern."""

from .data.digits import digits as digits
from .flow.field import FlowField as FlowField, Frozen as Frozen
from .flow.frame import Frame as Frame
from .flow.solve import solve as solve
from .flow.switching import SwitchKind as SwitchKind
from .flow.taylor import Taylor as Taylor
from .flow.trajectory import (
    RESULTS as RESULTS,
    Crossing as Crossing,
    SwitchLog as SwitchLog,
    Trajectory as Trajectory,
)
from .flow.watch import Progress as Progress
from .model.initialisers import (
    balanced_init as balanced_init,
    early_alignment_init as early_alignment_init,
    gaussian_init as gaussian_init,
    multi_phase_init as multi_phase_init,
    single_neuron_init as single_neuron_init,
    unbalanced_init as unbalanced_init,
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

"""Gradient flow of two-layer ReLU networks, exact through every change of pattern."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from ._lazy import attach as _attach

# Read by type checkers, and by `_attach`: each name is imported when it is first used, so that
# the command line answers before JAX is there, and studies need their packages only then.
if _TYPE_CHECKING:
    from .analysis.compare import Departure as Departure, compare as compare
    from .analysis.timing import PhaseTimes as PhaseTimes, time_phases as time_phases
    from .data.bias import with_bias as with_bias
    from .data.clusters import clusters_check as clusters_check, two_clusters as two_clusters
    from .data.digits import digits as digits
    from .data.norm_rank import (
        dual_basis_check as dual_basis_check,
        norm_agrees_with_rank as norm_agrees_with_rank,
        norm_disagrees_with_rank as norm_disagrees_with_rank,
    )
    from .data.orthogonal import (
        orthogonal as orthogonal,
        orthogonality_check as orthogonality_check,
    )
    from .data.separable import (
        orthogonally_separable as orthogonally_separable,
        separability_check as separability_check,
    )
    from .data.teacher import single_neuron as single_neuron, teacher_check as teacher_check
    from .data.teachers import several_neurons as several_neurons, teachers_check as teachers_check
    from .data.trapped import (
        three_points as three_points,
        three_points_check as three_points_check,
        three_points_experiment as three_points_experiment,
    )
    from .discrete.descend import DescentTrajectory as DescentTrajectory
    from .discrete.descent import descent as descent
    from .flow.method.field import FlowField as FlowField, Frozen as Frozen
    from .flow.method.frame import Frame as Frame
    from .flow.method.taylor import Taylor as Taylor
    from .flow.pieces.host_loop import Progress as Progress
    from .flow.results import RESULTS as RESULTS
    from .flow.solve import solve as solve
    from .flow.trajectory import (
        Crossing as Crossing,
        SwitchLog as SwitchLog,
        Trajectory as Trajectory,
    )
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
    from .model.switch import SwitchKind as SwitchKind
    from .observe.beyond import Outlook as Outlook, outlook as outlook
    from .observe.milestones import Milestone as Milestone
    from .observe.phases import (
        Latest as Latest,
        Phase as Phase,
        Scheme as Scheme,
        SwitchEvent as SwitchEvent,
    )
    from .reduced.limit import LimitTrajectory as LimitTrajectory, limit_flow as limit_flow
    from .reduced.planar import PlanarRun as PlanarRun, planar as planar
    from .study.declare.spec import Study as Study
    from .study.run.collect import open_study as open_study
    from .study.run.runner import run_study as run_study
    from .study.threshold.search import find_threshold as find_threshold
else:
    __getattr__, __dir__ = _attach(__name__, optional="study")

"""The papers' own phases, and rival definitions of two phases.

Each function returns a `Scheme`. All observables used are functions of this package, not made
anew, so that schemes of another problem of the same shape need no new compilation.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._types import FloatScalarLike
from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from ..model.switch import SwitchKind
from . import observables
from .angle import positive_angle
from .bundle import first_mode
from .milestones import Milestone
from .motion import norm_lead, output_rates, parameter_direction_rate
from .pattern import pattern
from .phases import Latest, Scheme, SwitchEvent

SADDLE_OUTPUT = 0.05  # a mean |f(x_i)| below: the flow is still at the saddle it started from


def early_alignment(output: FloatScalarLike = 0.25) -> Scheme:
    r"""Return alignment, fitting and convergence for orthogonally separable classes.

    Alignment ends at $t_1$, when all living neurons are in their cones; fitting at $t_2$, when
    some output of each class exceeds a quarter in absolute value.

    Args:
        output: That quarter.

    Source:
        Min, Mallada, Vidal, "Early Neuron Alignment in Two-layer ReLU Networks with Small
        Initialization" (2024), Theorem 1 and the definition of $t_2$. Theirs is a bound on the
        time by which neurons are in their cones; this is when they are.
    """
    level = f"{float(output):g}"
    positive = Milestone(
        observables.largest_positive_output, output, +1, f"|f| > {level} on positive class"
    )
    negative = Milestone(
        observables.largest_negative_output, output, +1, f"|f| > {level} on negative class"
    )
    fitted = Latest(f"|f| > {level} on both classes", (positive, negative))
    ends = [("alignment", _in_cones()), ("fitting", fitted), ("convergence", None)]
    source = "Min, Mallada, Vidal (2024), Theorem 1"
    return Scheme.chain("early alignment", ends, source)


def single_neuron(level: FloatScalarLike = 1e-9) -> Scheme:
    r"""Return alignment, growth and convergence for a teacher of one neuron.

    Alignment ends when every living neuron is active on every sample (so that those with
    negative output weight are dead); growth at $T_2$, when the leading coordinate of the bundle
    is half the teacher's; convergence when the loss is below a level.

    Args:
        level: The loss at the end.

    Source:
        Chistikov, Englert, Lazić, "Learning a Neuron by a Shallow ReLU Network" (2023): $T_2$
        as in Theorem 6, the level of the loss as in the experiments. The end of alignment is
        when the conclusion of their first phase holds, not their $T_1$, which is a formula.
    """
    growth = Milestone(first_mode, 0.5, +1, "leading coordinate half learnt")
    done = Milestone(observables.loss, level, -1, f"loss < {float(level):g}")
    ends = [("alignment", _in_cones()), ("growth", growth), ("convergence", done)]
    source = "Chistikov, Englert, Lazić (2023), Theorem 6; alignment as observed"
    return Scheme.chain("single neuron", ends, source)


def multi_phase(angle: FloatScalarLike = 0.01, rate: FloatScalarLike = 1e-5) -> Scheme:
    r"""Return the phases of two classes at a small angle, the positive one being heavier.

    Condensation, till the living positive neurons are aligned pairwise; saddle to plateau, till
    the negative class's output stops rising; plateau, till it has fallen to zero and the class
    is told right; escape, till a positive neuron begins to slide on a negative sample's
    hyperplane (deactivation); deactivated, till a negative neuron leaves the hyperplane of a
    positive sample on which it slid (reactivation); directional convergence, till all weights'
    direction changes slower than a rate, after that. Before the mean absolute output has reached
    0.05 the flow counts as at the saddle, and outputs' signs there say nothing.

    Args:
        angle: Largest angle of condensed neurons, in radians.
        rate: Change of direction at the end, per unit of time; less than it is at reactivation,
            after which it first grows.

    Source:
        After Wang, Ma, "Understanding Multi-phase Optimization Dynamics and Rich Nonlinear
        Behaviors of ReLU Networks" (2023), re-derived: the phases are those of the two-point
        model with a fixed output layer, where the output of the negative class first follows
        the positive one, so that it rises, turns on reaching the plateau (on which the ratio of
        the classes' pulls stays what makes both outputs stationary to first order in the
        angle), and falls from there.
    """
    condensed = Milestone(positive_angle, angle, -1, f"positive angle < {float(angle):g}")
    plateau = Milestone(_negative_slope, 0.0, -1, "negative output turns")
    escape = Milestone(_negative_output, 0.0, -1, "negative output falls to zero")
    deactivated = SwitchEvent(
        "positive neurons slide on negative samples",
        (SwitchKind.SLIDE_ENTER,), positive_neurons, negative_samples, after=escape,
    )  # fmt: skip
    reactivated = SwitchEvent(
        "negative neurons leave positive samples' hyperplanes",
        (SwitchKind.SLIDE_EXIT_ACTIVE,), negative_neurons, positive_samples, after=deactivated,
    )  # fmt: skip
    settled = Milestone(_settling_rate, rate, -1, f"direction changes by < {float(rate):g}")
    ends = [
        ("condensation", condensed),
        ("saddle to plateau", plateau),
        ("plateau", escape),
        ("escape", deactivated),
        ("deactivated", reactivated),
        ("directional convergence", settled),
    ]
    return Scheme.chain("multi-phase", ends, "after Wang, Ma (2023), re-derived")


def accuracy_steps(problem: Problem) -> Scheme:
    """Return saddle, plateau and the rest, told by accuracy.

    The saddle ends when as many samples are right as are positive, the plateau when all are; see
    `multi_phase` for what counts as the saddle.

    Args:
        problem: The problem, for the share of the positive class.

    Source:
        After Wang, Ma (2023), re-derived: on the plateau the accuracy is p/(1 + p), p being the
        ratio of the classes' sizes.
    """
    share = jnp.mean(problem.targets > 0, dtype=problem.targets.dtype)
    half = 0.5 / problem.samples
    ends = [
        ("saddle", Milestone(_late_accuracy, share - half, +1, "positive class right")),
        ("plateau", Milestone(_late_accuracy, 1 - half, +1, "all samples right")),
        ("all right", None),
    ]
    return Scheme.chain("accuracy", ends, "after Wang, Ma (2023), re-derived")


def loss_drop(problem: Problem, fraction: float = 0.01) -> Scheme:
    """Return two phases parted by when the loss has fallen by a fraction of that of f = 0.

    Args:
        problem: The problem, for the loss at zero output: that of a vanishing network.
        fraction: The fraction, between 0 and 1.

    Raises:
        ValueError: If `fraction` is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"Argument `fraction` must lie between 0 and 1, but it is {fraction}.")
    nothing = problem.loss.value(jnp.zeros_like(problem.targets), problem.targets)
    level = (1 - fraction) * problem.sample_weight * jnp.sum(nothing)
    fallen = Milestone(observables.loss, level, -1, f"loss fallen by {fraction:.3g}")
    ends = [("before", fallen), ("after", None)]
    return Scheme.chain(f"loss falls by {fraction:.3g}", ends, "a definition by the loss alone")


def norms_overtake() -> Scheme:
    """Return two phases parted by when norms begin to change faster than directions.

    That is when the total rate of change of the squared norms exceeds that of the directions
    (`norm_rate`, `direction_rate`), which are in different units: a rough definition.

    Source:
        After the plots of both rates in the experiments of Min, Mallada, Vidal (2024).
    """
    overtaken = Milestone(norm_lead, 0.0, +1, "norms change faster than directions")
    ends = [("directions", overtaken), ("norms", None)]
    return Scheme.chain("norms overtake", ends, "after Min, Mallada, Vidal (2024), figure 12")


def last_switch() -> Scheme:
    """Return two phases parted by the last switch of the run, of whatever kind."""
    last = SwitchEvent("last switch of the run", which="last")
    ends = [("switching", last), ("fixed pattern", None)]
    return Scheme.chain("last switch", ends, "a definition by the pattern alone")


def positive_neurons(problem: Problem, network: TwoLayerReLU) -> Bool[Array, " width"]:
    """Return which neurons have positive output weight."""
    del problem
    return network.outer_weight > 0


def negative_neurons(problem: Problem, network: TwoLayerReLU) -> Bool[Array, " width"]:
    """Return which neurons have negative output weight."""
    del problem
    return network.outer_weight < 0


def positive_samples(problem: Problem, network: TwoLayerReLU) -> Bool[Array, " samples"]:
    """Return which samples have positive target."""
    del network
    return problem.targets > 0


def negative_samples(problem: Problem, network: TwoLayerReLU) -> Bool[Array, " samples"]:
    """Return which samples have negative target."""
    del network
    return problem.targets < 0


def _in_cones() -> Milestone:
    # A level just below one: at one itself a search would end wherever all are in their cones.
    level = 1 - 1e-6
    return Milestone(observables.fraction_in_cone, level, +1, "all living neurons in their cones")


def _past_saddle(problem: Problem, network: TwoLayerReLU) -> Bool[Array, ""]:
    return jnp.mean(jnp.abs(problem.predictions(network))) > SADDLE_OUTPUT


def _negative_output(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """The negative class's output, held at one while at the saddle."""
    output = observables.negative_output(problem, network)
    return jnp.where(_past_saddle(problem, network), output, 1.0)


def _negative_slope(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """Its rate of change, held at one while at the saddle."""
    negative = problem.targets < 0
    slope = jnp.sum(jnp.where(negative, output_rates(problem, network), 0.0))
    return jnp.where(_past_saddle(problem, network), slope, 1.0)


def _late_accuracy(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """The accuracy, held at zero while at the saddle."""
    return jnp.where(_past_saddle(problem, network), observables.accuracy(problem, network), 0.0)


def _settling_rate(problem: Problem, network: TwoLayerReLU) -> Float[Array, ""]:
    """The rate of change of all weights' direction, held high until after the reactivation.

    Then all samples are right, and a negative neuron is active on a positive sample.
    """
    right = jnp.all(problem.predictions(network) * problem.targets > 0)
    across = (network.outer_weight < 0)[:, None] & (problem.targets > 0)[None]
    reactivated = right & jnp.any(pattern(problem, network) & across)
    rate = parameter_direction_rate(problem, network)
    return jnp.where(reactivated, rate, jnp.finfo(rate.dtype).max)

"""What a study can draw: data families, losses, initialisers and observables, by name.

Names and not functions, so that a study is a text: it can be hashed, kept beside its
results, and sent to another machine.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
from jaxtyping import Array, Key

from ...data.clusters import two_clusters
from ...data.digits import digits
from ...data.orthogonal import orthogonal
from ...data.separable import orthogonally_separable
from ...data.teacher import single_neuron
from ...data.teachers import several_neurons
from ...data.trapped import three_points
from ...model import initialisers
from ...model.loss import LOSSES
from ...model.network import TwoLayerReLU
from ...model.problem import Problem
from ...observe import angle, kernel, margin, observables, pattern, rank
from ...observe.milestones import Observable

Kind = Literal["size", "real", "flag", "word", "pair", "reals"]


@dataclass(frozen=True)
class Family:
    """A family of data sets.

    Attributes:
        draw: From a key, its parameters, and `loss` unless it is for regression, to a problem.
        parameters: Its parameters and what each is. Only `"real"` ones may differ between
            runs of one compiled program.
        required: The parameters that have no default.
        regression: Whether targets are real numbers, so that the loss is the square loss.
        train: Which layers are trained where a study does not say.
    """

    draw: Callable[..., Problem]
    parameters: Mapping[str, Kind]
    required: tuple[str, ...] = ()
    regression: bool = False
    train: Literal["both", "inner"] = "both"


FAMILIES: dict[str, Family] = {
    "orthogonally_separable": Family(
        lambda key, **settings: orthogonally_separable(key, **settings)[0],
        {"samples": "size", "features": "size", "mu": "real", "positives": "size", "norms": "pair"},
        ("samples", "features", "mu"),
    ),
    "orthogonal": Family(
        lambda key, **settings: orthogonal(key, **settings)[0],
        {
            "samples": "size",
            "features": "size",
            "positives": "size",
            "norms": "pair",
            "rotate": "flag",
        },
        ("samples", "features"),
    ),
    "two_clusters": Family(
        lambda key, **settings: two_clusters(key=key, **settings)[0],
        {
            "positives": "size",
            "negatives": "size",
            "angle": "real",
            "features": "size",
            "jitter": "real",
        },
        ("positives", "negatives", "angle"),
        train="inner",
    ),
    "single_neuron": Family(
        lambda key, **settings: single_neuron(key, **settings)[0],
        {
            "features": "size",
            "samples": "size",
            "variant": "word",
            "max_angle": "real",
            "norms": "pair",
        },
        ("features",),
        regression=True,
    ),
    "several_neurons": Family(
        lambda key, **settings: several_neurons(key, **settings)[0],
        {
            "features": "size",
            "samples": "size",
            "teacher_norms": "reals",
            "outer": "reals",
            "max_angle": "real",
            "norms": "pair",
        },
        ("features",),
        regression=True,
    ),
    "three_points": Family(
        lambda key, **settings: three_points(key, **settings)[0],
        {"eta": "real"},
        regression=True,
    ),
    "digits": Family(
        lambda key, **settings: digits(**settings),
        {"classes": "pair", "samples": "size"},
    ),
}

# Each from a key, width, features, the log scale, and parameters of its own.
INITIALISERS: dict[str, tuple[Callable[..., TwoLayerReLU], tuple[str, ...]]] = {
    "balanced": (initialisers.balanced_init, ()),
    "gaussian": (initialisers.gaussian_init, ()),
    "early_alignment": (initialisers.early_alignment_init, ()),
    "single_neuron": (initialisers.single_neuron_init, ()),
    "unbalanced": (
        lambda key, width, features, log_scale, balancedness: initialisers.unbalanced_init(
            key, width, features, balancedness, log_scale
        ),
        ("balancedness",),
    ),
    "multi_phase": (
        lambda key, width, features, log_scale, log_outer_scale: initialisers.multi_phase_init(
            key, width, features, log_scale, log_outer_scale
        ),
        ("log_outer_scale",),
    ),
}

OBSERVABLES: dict[str, Observable] = {
    function.__name__: function
    for function in (
        observables.loss,
        observables.accuracy,
        observables.positive_output,
        observables.negative_output,
        observables.largest_positive_output,
        observables.largest_negative_output,
        observables.cone_margin,
        observables.fraction_in_cone,
        observables.stable_rank,
        observables.balancedness_error,
        observables.squared_parameter_norm,
        observables.log_parameter_norm,
        angle.largest_angle,
        angle.mean_angle,
        angle.positive_angle,
        angle.negative_angle,
        rank.numerical_rank,
        rank.effective_rank,
        rank.nuclear_norm,
        rank.log_nuclear_norm,
        margin.normalised_margin,
        margin.margin_stationarity,
        margin.margin_complementarity,
        pattern.living_count,
        pattern.dead_count,
        pattern.on_hyperplane_count,
        pattern.pattern_count,
    )
}


def log_largest_tangent_eigenvalue(problem: Problem, network: TwoLayerReLU):
    """Return the natural logarithm of the tangent kernel's largest eigenvalue."""
    return kernel.log_tangent_spectrum(problem, network)[0]


OBSERVABLES["log_largest_tangent_eigenvalue"] = log_largest_tangent_eigenvalue


def draw_problem(
    family: str,
    key: Key[Array, ""],
    settings: Mapping[str, Any],
    loss: str | None,
    reduction: Literal["sum", "mean"] | None,
    train: Literal["both", "inner"] | None,
) -> Problem:
    """Draw a problem; what is `None` is as the family has it."""
    chosen = FAMILIES[family]
    own = {} if loss is None or chosen.regression else {"loss": LOSSES[loss]}
    problem = chosen.draw(key, **settings, **own)
    return Problem(
        problem.inputs,
        problem.targets,
        problem.loss,
        problem.reduction if reduction is None else reduction,
        problem.train if train is None else train,
    )


def shapes(family: str, settings: Mapping[str, Any], loss: str | None) -> Problem:
    """Return a problem of shapes alone; raises `ValueError` if a setting is out of range.

    Nothing is computed or compiled: the key is unknown, the settings are not.
    """
    return jax.eval_shape(
        lambda key: draw_problem(family, key, settings, loss, None, None), jax.random.key(0)
    )

"""What `solve` checks before it starts; every message names the argument."""

import warnings
from collections.abc import Iterable, Sequence

import diffrax as dfx
import jax
import jax.numpy as jnp
import numpy as np

from .._types import is_traced
from ..model.network import TwoLayerReLU
from ..model.problem import Problem
from ..observe.milestones import Milestone
from .method.taylor import Taylor

_COARSEST = 0.1
_FINEST = 4  # units of rounding


def check_arguments(problem: Problem, network: TwoLayerReLU, t0, t1, ts, rtol):
    """Check the arguments that are arrays and return them in the dtype of the solve."""
    if not isinstance(problem, Problem):
        raise ValueError(f"Argument `problem` must be a Problem, but it is {problem!r}.")
    if not isinstance(network, TwoLayerReLU):
        raise ValueError(f"Argument `network` must be a TwoLayerReLU, but it is {network!r}.")
    if network.features != problem.features:
        advice = ""
        if network.width == problem.features:
            advice = " If `inner_weight` has one column a neuron, make it of `inner_weight.T`."
        raise ValueError(
            f"Argument `network` must have {problem.features} features as the problem's "
            f"inputs have, but it has {network.features}.{advice}"
        )
    dtype = jnp.result_type(problem.inputs, network.inner_weight)
    if dtype != jnp.float64:
        warnings.warn(
            "Solving in float32: times of switches closer than about 1e-6 cannot be told "
            'apart. Call jax.config.update("jax_enable_x64", True) first.',
            stacklevel=3,
        )
    problem, network = jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x,
        (problem, network),
    )
    t0, t1, rtol = (jnp.asarray(x, dtype) for x in (t0, t1, rtol))
    _check_scales(network)
    _check_times(t0, t1)
    _check_tolerance(rtol)
    return problem, network, t0, t1, _check_ts(ts, t0, t1), rtol


def _check_times(t0, t1) -> None:
    for name, t in (("t0", t0), ("t1", t1)):
        if t.shape != ():
            raise ValueError(f"Argument `{name}` must be a scalar, but its shape is {t.shape}.")
        if not is_traced(t) and not np.isfinite(t):
            raise ValueError(f"Argument `{name}` must be finite, but it is {t}.")
    if not is_traced(t0, t1) and not float(t1) > float(t0):
        raise ValueError(f"Argument `t1` must be greater than `t0` = {t0}, but it is {t1}.")


def _check_tolerance(rtol) -> None:
    finest = _FINEST * float(jnp.finfo(rtol.dtype).eps)
    if rtol.shape != () or (not is_traced(rtol) and not finest <= float(rtol) <= _COARSEST):
        raise ValueError(
            f"Argument `rtol` must be between {finest:.1e} (a few units of rounding of "
            f"{rtol.dtype}) and {_COARSEST}, but it is {rtol}."
        )


def _check_ts(ts, t0, t1):
    ts = jnp.asarray([] if ts is None else ts, t0.dtype)
    if ts.ndim != 1:
        raise ValueError(f"Argument `ts` must have one axis, but its shape is {ts.shape}.")
    if ts.size and not is_traced(ts, t0, t1):
        known = np.asarray(ts)
        if not np.all(known[1:] >= known[:-1]) or np.any(np.isnan(known)):
            raise ValueError("Argument `ts` must be ascending, but it is not.")
        if known[0] < float(t0) or known[-1] > float(t1):
            raise ValueError(
                f"Argument `ts` must lie in [t0, t1] = [{t0}, {t1}], but it runs from "
                f"{known[0]} to {known[-1]}."
            )
    return ts


def _check_scales(network: TwoLayerReLU) -> None:
    if is_traced(network.log_scale, network.outer_log_scale):
        return
    inner, outer = np.asarray(network.log_scale), np.asarray(network.outer_log_scale)
    gap = float(np.max(np.abs(inner - outer)))
    largest = 0.9 * float(np.log(np.finfo(inner.dtype).max))
    if gap > largest:
        raise ValueError(
            "Argument `network` must have scales of its two layers that differ by less than "
            f"{largest:.0f} in the logarithm, but they differ by {gap:.0f}."
        )
    if 2 * float(np.max(np.maximum(inner, outer))) > largest:
        raise ValueError(
            "Argument `network` must have outputs that can be represented, but a "
            f"`log_scale` is {float(np.max(np.maximum(inner, outer))):.0f}."
        )


def check_solver(solver: dfx.AbstractSolver) -> dfx.AbstractSolver:
    """Check that there is a way to read a polynomial off the solver's steps."""
    explicit = isinstance(solver, dfx.AbstractERK)
    if not (isinstance(solver, Taylor) or explicit):
        raise ValueError(
            "Argument `solver` must be Taylor() or an explicit Runge-Kutta method of "
            f"Diffrax with dense output, but it is {solver!r}."
        )
    return solver


def check_asked(ts, t0, t1, max_steps: int) -> None:
    """Check that there are steps enough to end one at each of the times, where they end one."""
    if is_traced(ts, t0, t1):
        return
    stops = np.unique(np.append(np.asarray(ts), float(t1)))
    needed = int(np.sum(stops > float(t0)))
    if needed > max_steps:
        raise ValueError(
            f"Argument `ts` must ask for no more times than there are steps, but {needed} steps "
            f"have to end at one (the end is one too), and `max_steps` is {max_steps}. Pass a "
            "larger `max_steps`, or fewer times and `dense=True` for what lies between."
        )


def check_milestones(
    milestones: Milestone | Sequence[Milestone], problem: Problem, network: TwoLayerReLU
) -> tuple[Milestone, ...]:
    """Check that the milestones are some, and that their names tell them apart.

    A single one counts as one of one.
    """
    if not isinstance(milestones, Iterable):
        milestones = (milestones,)
    milestones = tuple(milestones)
    for milestone in milestones:
        if not isinstance(milestone, Milestone):
            raise ValueError(
                "Argument `milestones` must contain milestones such as `Milestone(loss, 0.5)`, "
                f"but one of them is {milestone!r}."
            )
        _check_observable(milestone, problem, network)
    names = [milestone.name for milestone in milestones]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise ValueError(
            f"Argument `milestones` must have distinct names, but {sorted(repeated)} are "
            "given more than once."
        )
    return milestones


def _check_observable(milestone: Milestone, problem: Problem, network: TwoLayerReLU) -> None:
    """Check that an observable, and its level, are scalars; nothing is computed."""
    level = np.shape(milestone.level)
    if level != ():
        raise ValueError(
            f"Argument `milestones` must have scalar levels, but that of {milestone.name!r} has "
            f"shape {level}."
        )
    value = jax.eval_shape(milestone.observable, problem, network)
    shape = getattr(value, "shape", np.shape(value) if np.isscalar(value) else None)
    if shape != ():
        found = f"a {type(value).__name__}" if shape is None else f"an array of shape {shape}"
        raise ValueError(
            "Argument `milestones` must have observables that return a scalar, but that of "
            f"{milestone.name!r} returns {found}. Reduce it, such as with `jnp.max`, or watch one "
            "entry a milestone."
        )


def check_until(until: str | None, milestones: Sequence[Milestone]) -> int | None:
    """Return which milestone ends the run; `None` if none does."""
    names = [milestone.name for milestone in milestones]
    if until is None:
        return None
    if until not in names:
        raise ValueError(
            f"Argument `until` must be the name of one of `milestones`, {names}, but it is "
            f"{until!r}."
        )
    return names.index(until)


def switch_slots(max_switches: int | None, width: int, samples: int) -> int:
    """Return how many switches there is room for; unless given each pair's twice, and some."""
    if max_switches is None:
        return 2 * width * samples + 1024
    return positive("max_switches", max_switches)


def positive(name: str, value: int) -> int:
    """Check that an option is a positive integer."""
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"Argument `{name}` must be a positive integer, but it is {value!r}.")
    return value


def slide_slots(problem: Problem, max_slides: int | None) -> int:
    """Return how many hyperplanes a neuron may slide on at once."""
    rank = problem.features if problem.basis is None else problem.basis.shape[-1]
    most = min(rank, problem.samples)
    if max_slides is None:
        return min(most, 8)
    if not isinstance(max_slides, int) or max_slides < 0:
        raise ValueError(
            f"Argument `max_slides` must be an integer of at least 0, but it is {max_slides!r}."
        )
    return min(most, max_slides)

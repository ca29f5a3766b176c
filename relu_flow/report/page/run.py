"""One run of a study, done again with its weights at many times: a study keeps no weights."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from ...flow.results import RESULTS
from ...flow.solve import solve
from ...flow.trajectory import Trajectory
from ...model.problem import Problem
from ...observe.milestones import Milestone
from ...observe.observables import loss
from ...study.declare.families import OBSERVABLES
from ...study.run.batch import initial_states
from ...study.statistics.outcomes import SUCCESS
from .data import Collected

TIMES = 60


@dataclass(frozen=True)
class Rerun:
    """A run at `TIMES` times: zero, then logarithmically spaced ones up to the end.

    Attributes:
        number: Which run of the study.
        problem: What was solved.
        times: The times that the run got to.
        directions: Of the inner weights, of unit length; zero where they are zero.
        log_norms: Natural logarithms of the norms of the inner weights.
        signs: Of the outer weights.
        losses: At the times.
        switches: Time, neuron, sample and kind of every switch.
        milestones: When each was reached; `inf` if it was not.
        ended: Empty, or why the run ended early.
    """

    number: int
    problem: Problem
    times: Float[np.ndarray, " times"]
    directions: Float[np.ndarray, "times width features"]
    log_norms: Float[np.ndarray, "times width"]
    signs: Float[np.ndarray, "times width"]
    losses: Float[np.ndarray, " times"]
    switches: pd.DataFrame
    milestones: dict[str, float]
    ended: str

    @property
    def live(self) -> Bool[np.ndarray, "times width"]:
        """Where inner weights are not zero."""
        return np.isfinite(self.log_norms)


def choose_run(data: Collected, run: int | None) -> int | None:
    """Return the run that is shown: the one asked for, or the first that succeeded.

    Raises:
        ValueError: If there is no such run.
    """
    if run is None:
        good = np.flatnonzero(data.codes.ravel() == SUCCESS)
        return int(good[0]) if good.size else None
    if not 0 <= run < data.plan.size:
        raise ValueError(
            f"Argument `run` must be from 0 to {data.plan.size - 1}, the runs of this study, but "
            f"it is {run}."
        )
    return run


def run_again(data: Collected, number: int) -> Rerun:
    """Do a run again, from the same data and initial weights and to the same tolerance."""
    study, plan = data.plan.study, data.plan
    chunk = next(chunk for chunk in plan.chunks if number in plan.runs(chunk))
    problem, network = next(
        (problem, network)
        for run, problem, network in initial_states(plan, [chunk])
        if run == number
    )
    milestones = [
        Milestone(OBSERVABLES[m.observable], m.level, m.direction, m.name) for m in study.milestones
    ]

    # A run that stopped at a milestone is done again up to there.
    stored = float(data.ends.ravel()[number])
    end = stored if data.codes.ravel()[number] == SUCCESS else study.t1

    def go(start: float) -> Trajectory:
        return solve(
            problem, network, end, ts=jnp.asarray(_spaced(start, end)), rtol=study.rtol,
            milestones=milestones, max_steps=study.max_steps, max_switches=study.max_switches,
            max_slides=study.max_slides, throw=False,
        )  # fmt: skip

    # When anything happens is known after a first look; the same program is used again.
    trajectory = go(end * 1e-3)
    start = _first(trajectory, end)
    if abs(np.log(start / (end * 1e-3))) > 1:
        trajectory = go(start)
    return _seen(number, problem, trajectory)


def _spaced(start: float, end: float) -> Float[np.ndarray, " times"]:
    times = np.geomspace(start, end, TIMES - 1)
    times[-1] = end
    return np.concatenate([[0.0], times])


def _first(trajectory: Trajectory, end: float) -> float:
    """Return a time a little before anything is seen to happen."""
    known = np.concatenate(
        [np.asarray(trajectory.switches.time)]
        + [np.atleast_1d(np.asarray(m.time)) for m in trajectory.milestones.values()]
    )
    known = known[np.isfinite(known) & (known > 0)]
    earliest = float(known.min()) if known.size else end / 10
    return float(np.clip(earliest / 2, end * 1e-9, end / 10))


def _seen(number: int, problem: Problem, trajectory: Trajectory) -> Rerun:
    got = np.isfinite(np.asarray(trajectory.ts))
    networks = trajectory.networks
    losses = jax.vmap(lambda network: loss(problem, network))(networks)
    look = lambda array: np.asarray(array)[got]
    return Rerun(
        number,
        problem,
        look(trajectory.ts),
        look(jax.vmap(lambda n: n.directions())(networks)),
        look(jax.vmap(lambda n: n.log_norm())(networks)),
        np.sign(look(networks.outer_weight)),
        look(losses),
        trajectory.switches.to_pandas(),
        {name: float(m.time) for name, m in trajectory.milestones.items()},
        RESULTS[trajectory.result],
    )

"""The compiled part: a chunk's problems and networks, and their runs, cut down to what is kept.

A lane is a run of a chunk. On a CPU lanes go one after another within a program and one program
runs on each core: none ever waits for a slower one, and a lane's numbers depend on no other
lane. On a GPU or TPU a quarter of a chunk's lanes go side by side, and one that has finished takes
the next run of the chunk: a chunk should have many more runs there (`batch`) than here. Empty
lanes, which fill up the last chunk of a group, cost nothing.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from ..._compile import COMPILER_OPTIONS
from ...flow.lanes import solve_in_lanes
from ...flow.results import RESULTS
from ...flow.solve import solve
from ...flow.trajectory import Trajectory
from ...model.network import TwoLayerReLU
from ...model.problem import Problem
from ...model.switch import SwitchKind
from ...observe.milestones import Milestone
from ..declare.families import INITIALISERS, OBSERVABLES, draw_problem
from ..declare.plan import Chunk, Group, Plan
from ..declare.record import COUNTS, RESULT_NAMES, SWITCH_COLUMNS, lane_schema
from ..declare.spec import Study

_RUNS_A_LANE = 4  # of a chunk, where lanes go side by side

Lanes = dict[str, np.ndarray]
InitialState = tuple[int, Problem, TwoLayerReLU]
Device = Any  # jax.Device, which is no type to type checkers


def batch_form(device: Device) -> str:
    """Return how lanes are batched on a device: `"map"`, one after another, or `"vmap"`."""
    return "map" if device.platform == "cpu" else "vmap"


def draw(study: Study, group: Group, seed, log_scale, data, initial):
    """Draw the problem and the initial network of a run; its key depends on the seed alone.

    Args:
        study: The study.
        group: What the run has in common with others.
        seed: The run's seed.
        log_scale: Natural logarithm of the initial scale.
        data: The real parameters of the data.
        initial: Further parameters of the initialiser.
    """
    root = jr.key(study.root)
    own, shared = jr.fold_in(root, seed), jr.fold_in(root, 0)
    data_key = jr.fold_in(shared if study.vary == "network" else own, 0)
    network_key = jr.fold_in(shared if study.vary == "data" else own, 1)
    settings = {**dict(group.fixed), **data}
    problem = draw_problem(
        study.data["family"], data_key, settings, study.loss, study.reduction, study.train
    )
    initialise, _ = INITIALISERS[study.initialiser["name"]]
    network = initialise(network_key, group.width, group.features, log_scale, **initial)
    return problem, network


def run_lane(study: Study, problem: Problem, network: TwoLayerReLU, numbers) -> dict[str, Any]:
    """Run one lane and keep what the study asks for (see `lane_schema`).

    `numbers` are `t1`, `rtol`, times and levels: what need not be compiled in.
    """
    t1, dense = numbers["t1"], bool(study.record.at_milestones)
    options = _options(study, numbers)
    trajectory = solve(problem, network, t1, dense=dense, throw=False, **options)
    return _kept(study, problem, trajectory, t1)


def run_lanes(
    study: Study, problems: Problem, networks: TwoLayerReLU, count, numbers
) -> dict[str, Any]:
    """Run the first `count` of stacked lanes side by side; as `run_lane`, and `waited`.

    Some of them at a time, so that a lane which has finished takes the next run.
    """
    t1, dense = numbers["t1"], bool(study.record.at_milestones)
    keep = lambda problem, trajectory: _kept(study, problem, trajectory, t1)
    kept, waited = solve_in_lanes(
        problems, networks, count, keep, lanes=max(1, study.batch // _RUNS_A_LANE), t1=t1,
        dense=dense, **_options(study, numbers),
    )  # fmt: skip
    return {**kept, "waited": waited}


def _options(study: Study, numbers) -> dict[str, Any]:
    """Return the options of `solve`."""
    milestones = tuple(
        Milestone(OBSERVABLES[m.observable], numbers["levels"][k], m.direction, m.name)
        for k, m in enumerate(study.milestones)
    )
    return {
        "ts": jnp.append(numbers["times"], numbers["t1"]) if study.record.times else None,
        "rtol": numbers["rtol"],
        "milestones": milestones,
        "until": study.until,
        "max_steps": study.max_steps,
        "max_switches": study.max_switches,
        "max_slides": study.max_slides,
    }


def _kept(study: Study, problem: Problem, trajectory: Trajectory, t1) -> dict[str, Any]:
    record, log, stats = study.record, trajectory.switches, trajectory.stats
    success = trajectory.result == RESULTS.successful
    crossed = jnp.zeros(0, t1.dtype)
    if study.milestones:
        crossed = jnp.stack([trajectory.milestones[m.name].time for m in study.milestones])
    end = t1
    if study.until is not None:
        end = jnp.minimum(t1, trajectory.milestones[study.until].time)
    known = jnp.concatenate([trajectory.ts, log.time, crossed])
    last = jnp.max(jnp.where(jnp.isfinite(known), known, -jnp.inf), initial=0.0)
    look = lambda names, network: jnp.stack(
        [jnp.asarray(OBSERVABLES[name](problem, network), t1.dtype) for name in names]
    )
    kept: dict[str, Any] = {
        "result": _code(trajectory.result),
        "end_time": jnp.where(success, end, last),
        "settled": stats["settled"],
        "counts": jnp.stack([stats[name].astype(jnp.int32) for name in COUNTS]),
        "kinds": jnp.stack([jnp.sum(log.kind == kind, dtype=jnp.int32) for kind in SwitchKind]),
        "milestone_time": jnp.where(success | jnp.isfinite(crossed), crossed, jnp.nan),
        "end": jnp.zeros(0, t1.dtype),
        "at_times": jnp.zeros((0, len(record.times)), t1.dtype),
        "at_milestones": jnp.zeros((0, len(study.milestones)), t1.dtype),
    }
    if record.end:
        kept["end"] = jnp.where(success, look(record.end, trajectory.network), jnp.nan)
    if record.at_times:
        asked = len(record.times)
        networks = jax.tree.map(lambda x: x[:asked], trajectory.networks)
        rows = jax.lax.map(lambda n: look(record.at_times, n), networks)
        kept["at_times"] = jnp.where(jnp.isfinite(trajectory.ts[:asked]), rows.T, jnp.nan)
    if record.at_milestones:
        at = lambda t: look(record.at_milestones, trajectory.network_at(t))
        reached = jnp.isfinite(crossed)
        rows = jax.lax.map(at, jnp.where(reached, crossed, 0.0))
        kept["at_milestones"] = jnp.where(reached, rows.T, jnp.nan)
    if record.switches:
        kept |= {name: getattr(log, name.removeprefix("switch_")) for name in SWITCH_COLUMNS}
    return kept


def _code(result: RESULTS):
    code = jnp.asarray(RESULT_NAMES.index("other"), jnp.int32)
    for number, name in enumerate(RESULT_NAMES):
        if name != "other":
            code = jnp.where(result == getattr(RESULTS, name), jnp.int32(number), code)
    return code


class _Compiled:
    """The programs of this process, the latest ones; each is compiled once, by whoever needs it."""

    def __init__(self, most: int):
        self._most, self._lock = most, threading.Lock()
        self._locks: dict[tuple, threading.Lock] = {}
        self._known: OrderedDict[tuple, Callable] = OrderedDict()

    def get(self, key: tuple, make: Callable[[], Callable]) -> Callable:
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            found = self._known.get(key)
            program = make() if found is None else found
        with self._lock:
            self._known[key] = program
            self._known.move_to_end(key)
            while len(self._known) > self._most:
                dropped, _ = self._known.popitem(last=False)
                self._locks.pop(dropped, None)
        return program


_COMPILED = _Compiled(most=64)


def _compiled_in(study: Study) -> str:
    """Return as text what of a study, beside a group's own, is part of its programs.

    Seeds, scales, times, levels and tolerances are arguments: studies that differ in these
    alone share their programs, as those of a search for a threshold do.
    """
    record = study.record.model_dump(mode="json")
    record["times"] = len(study.record.times)
    milestones = [(m.observable, m.direction, m.name) for m in study.milestones]
    names = ("root", "vary", "until", "loss", "reduction", "train", "max_steps", "max_switches",
             "max_slides", "batch")  # fmt: skip
    rest = study.model_dump(mode="json", include=set(names))
    initialiser = study.initialiser["name"]
    family = study.data["family"]
    return json.dumps([family, initialiser, milestones, record, rest], sort_keys=True)


class Programs:
    """The compiled programs of a study.

    Attributes:
        plan: The study's plan.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        self._text = _compiled_in(plan.study)

    def run(self, chunk: Chunk, device: Device) -> tuple[Lanes, float]:
        """Run a chunk on a device.

        Returns:
            Its lanes, empty ones cut off, switches of all lanes joined with `switch_run` telling
            the lane each belongs to; and the share of turns in which lanes waited for others.
        """
        group = self.plan.groups[chunk.group]
        drawing, running = self._programs(group, device)
        lanes = jax.device_put(self._inputs(chunk), device)
        numbers = jax.device_put(_numbers(self.plan.study), device)
        problems, networks = drawing(lanes)
        kept = jax.device_get(running(problems, networks, lanes["valid"], numbers))
        count, waited = chunk.stop - chunk.start, float(kept.pop("waited"))
        return _joined({name: np.asarray(array)[:count] for name, array in kept.items()}), waited

    def draw(self, chunk: Chunk, device: Device) -> tuple[Problem, TwoLayerReLU]:
        """Draw a chunk's problems and initial networks, stacked over its lanes."""
        drawing = self._drawing(self.plan.groups[chunk.group], device)
        return drawing(jax.device_put(self._inputs(chunk), device))

    def _programs(self, group: Group, device: Device) -> tuple[Callable, Callable]:
        """Return the two programs of a group; they are compiled side by side."""
        drawing = threading.Thread(target=self._drawing, args=(group, device), daemon=True)
        drawing.start()
        running = self._running(group, device)
        drawing.join()
        return self._drawing(group, device), running

    def _drawing(self, group: Group, device: Device) -> Callable:
        study = self.plan.study

        def lane(one):
            return draw(study, group, one["seed"], one["log_scale"], one["data"], one["initial"])

        return self._once(
            ("draw", group.fixed, group.real, group.width, device),
            lambda lanes: _each(lane, lanes, batch_form(device)),
            lambda: (jax.eval_shape(lambda: self._example(group)),),
            device,
        )

    def _running(self, group: Group, device: Device) -> Callable:
        study = self.plan.study
        schema = lane_schema(study, group.samples, group.width)

        def lane(problem, network, valid, numbers):
            work = lambda: run_lane(study, problem, network, numbers)
            empty = lambda: {k: jnp.zeros(shape, dtype) for k, (shape, dtype) in schema.items()}
            return jax.lax.cond(valid, work, empty)

        def all_lanes(problems, networks, valid, numbers):
            if batch_form(device) == "vmap":
                count = jnp.sum(valid, dtype=jnp.int32)
                return run_lanes(study, problems, networks, count, numbers)
            one = lambda x: lane(x[0], x[1], x[2], numbers)
            kept = jax.lax.map(one, (problems, networks, valid))
            return {**kept, "waited": jnp.zeros(())}

        def example():
            inputs = self._example(group)
            form = batch_form(device)
            drawn = _each(
                lambda one: draw(
                    study, group, one["seed"], one["log_scale"], one["data"], one["initial"]
                ),
                inputs,
                form,
            )
            return (*drawn, inputs["valid"], _numbers(study))

        return self._once(
            ("run", group.shape, device), all_lanes, lambda: jax.eval_shape(example), device
        )

    def _once(self, key: tuple, function: Callable, example: Callable, device) -> Callable:
        def make() -> Callable:
            there = jax.sharding.SingleDeviceSharding(device)
            arguments = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=there), example()
            )
            return jax.jit(function).lower(*arguments).compile(COMPILER_OPTIONS)

        return _COMPILED.get((self._text, batch_form(device), *key), make)

    def _example(self, group: Group):
        cases = np.full(self.plan.study.batch, group.cases[0])
        return self._arrays(group, cases, np.zeros_like(cases), np.zeros(cases.shape, bool))

    def _inputs(self, chunk: Chunk):
        group, study = self.plan.groups[chunk.group], self.plan.study
        runs = self.plan.runs(chunk)
        padded = np.append(runs, np.full(study.batch - runs.size, runs[0]))
        valid = np.arange(study.batch) < runs.size
        return self._arrays(group, padded // len(study.seeds), padded % len(study.seeds), valid)

    def _arrays(self, group: Group, cases: np.ndarray, seeds: np.ndarray, valid: np.ndarray):
        chosen = [self.plan.cases[case] for case in cases]
        real = lambda values: np.asarray(list(values), np.float64)
        return {
            "seed": np.asarray(self.plan.study.seeds, np.uint32)[seeds],
            "log_scale": real(case.log_scale for case in chosen),
            "data": {name: real(case.data[name] for case in chosen) for name in group.real},
            "initial": {
                name: real(case.initial[name] for case in chosen) for name in chosen[0].initial
            },
            "valid": valid,
        }


def initial_states(plan: Plan, chunks: Iterable[Chunk] | None = None) -> Iterator[InitialState]:
    """Yield number, problem and initial network of runs, as the study draws them.

    Args:
        plan: The study's plan.
        chunks: Of which chunks; of all unless given.
    """
    programs, device = Programs(plan), jax.local_devices()[0]
    for chunk in plan.chunks if chunks is None else chunks:
        drawn = programs.draw(chunk, device)
        for lane, run in enumerate(plan.runs(chunk).tolist()):
            problem, network = jax.tree.map(lambda x, lane=lane: x[lane], drawn)
            yield run, problem, network


def _numbers(study: Study):
    return {
        "t1": np.float64(study.t1),
        "rtol": np.float64(study.rtol),
        "times": np.asarray(study.record.times, np.float64),
        "levels": np.asarray([m.level for m in study.milestones], np.float64),
    }


def _each(function: Callable, lanes, form: str):
    return jax.lax.map(function, lanes) if form == "map" else jax.vmap(function)(lanes)


def _joined(lanes: Lanes) -> Lanes:
    """Return the lanes with their switch logs cut to what is in them and put in one."""
    if "switch_time" not in lanes:
        return lanes
    filled = lanes["switch_kind"] >= 0
    joined = {name: lanes[name][filled] for name in SWITCH_COLUMNS}
    rest = {name: array for name, array in lanes.items() if name not in SWITCH_COLUMNS}
    return {**rest, **joined, "switch_run": np.nonzero(filled)[0].astype(np.int32)}

"""What is kept of a run, and in which arrays."""

import numpy as np

from ...flow.arguments import switch_slots
from ...model.switch import SwitchKind
from .spec import Study

# The codes of a store: an index into these names of `relu_flow.RESULTS`, whose own numbers differ
# between versions of Diffrax. A name keeps its place for ever; `other` is any that is not named.
RESULT_NAMES = (
    "successful",
    "max_steps_reached",
    "max_switches_reached",
    "max_slides_reached",
    "inconsistent_modes",
    "step_underflow",
    "other",
    "nonfinite",
)
COUNTS = (
    "steps",
    "truncated_steps",
    "rejected_steps",
    "unsettled_steps",
    "rounds",
    "evaluations",
    "switches",
    "slides",
    "ties",
    "repels",
    "vanished",
    "grazes",
)
SWITCH_COLUMNS = {
    "switch_time": np.dtype(np.float64),
    "switch_neuron": np.dtype(np.int32),
    "switch_sample": np.dtype(np.int32),
    "switch_kind": np.dtype(np.int8),
}


def slots(study: Study, samples: int, width: int) -> int:
    """Return how many switches of a run there is room for."""
    return switch_slots(study.max_switches, width, samples)


def lane_schema(
    study: Study, samples: int, width: int
) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Return shape and type of each array that is kept of a run.

    `result`: an index into `RESULT_NAMES`. `end_time`: until when the run is known, its end
    unless it failed. `settled`: since when nothing moved, `inf` if never. `counts`: those of
    `COUNTS`. `kinds`: how many switches of each kind. `milestone_time`: `inf` if not reached,
    NaN if the run ended early before. `end`, `at_times`, `at_milestones`: observables, NaN
    where the run did not get to. Every switch, if asked for, in `switch_...`.
    """
    record, real, whole = study.record, np.dtype(np.float64), np.dtype(np.int32)
    milestones = len(study.milestones)
    schema: dict[str, tuple[tuple[int, ...], np.dtype]] = {
        "result": ((), whole),
        "end_time": ((), real),
        "settled": ((), real),
        "counts": ((len(COUNTS),), whole),
        "kinds": ((len(SwitchKind),), whole),
        "milestone_time": ((milestones,), real),
        "end": ((len(record.end),), real),
        "at_times": ((len(record.at_times), len(record.times)), real),
        "at_milestones": ((len(record.at_milestones), milestones), real),
    }
    if record.switches:
        room = slots(study, samples, width)
        schema |= {name: ((room,), dtype) for name, dtype in SWITCH_COLUMNS.items()}
    return schema

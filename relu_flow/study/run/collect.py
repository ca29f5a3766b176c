"""From a store's chunks to one labelled data set, and tables of runs and of switches.

The collected files hold nothing that depends on when, how often or by how many workers the study
was run, so that they are equal byte for byte whatever happened on the way.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr

from ...model.switch import SwitchKind
from ..declare.plan import Plan
from ..declare.record import COUNTS, RESULT_NAMES, lane_schema
from .store import Store, explained, scratch

_TIME = "units of gradient-flow time of the reduced loss"
_KINDS = [kind.name.lower() for kind in SwitchKind]
_MISSING = -1  # of an integer, where a run has not been done
_ROWS = 1 << 16


def collect(path: str | Path, *, netcdf: bool = False, partial: bool = False) -> Path:
    """Collect a study: `study.zarr` (or `study.nc` beside it), `runs.parquet`, `switches.parquet`.

    Args:
        path: The study's folder.
        netcdf: Whether to write a netCDF file too.
        partial: Whether runs may be missing: they have the result -1, and NaN.

    Returns:
        The Zarr folder.

    Raises:
        ValueError: If a chunk is missing or damaged, or the folder is no study's.
        StoreError: If the folder cannot be written.
    """
    store = Store.open(path)
    plan = Plan.of(store.study)
    receipts = {c.index: r for c in plan.chunks if (r := store.receipt(c.index)) is not None}
    missing = len(plan.chunks) - len(receipts)
    if missing and not partial:
        raise ValueError(
            f"Argument `path` must be a finished study, but {missing} of {len(plan.chunks)} "
            f"chunks of {store.path} are missing or damaged ({len(store.failures())} raised). Run "
            "it again, or collect what there is with `partial`."
        )
    with explained(store.path):
        store.clear()
        aside = scratch(store.path)
        try:
            arrays = _gathered(plan, store, sorted(receipts), aside)
            tree = _tree(plan, arrays, _provenance(plan, list(receipts.values())))
            # Format 2: fixed strings and consolidated metadata are no part of format 3 yet.
            tree.to_zarr(aside / "study.zarr", zarr_format=2, consolidated=True)
            if netcdf:
                tree.to_netcdf(aside / "study.nc", engine="h5netcdf")
            _write_runs(plan, arrays, aside / "runs.parquet")
            for made in sorted(aside.iterdir()):
                _replace(made, store.path / made.name)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return store.path / "study.zarr"


def open_study(path: str | Path) -> xr.DataTree:
    """Open a collected study; arrays are read when they are looked at.

    Nodes: `/runs` (result, end time, counts), `/milestones`, `/end`, `/times`, over the axes of
    the grid and `seed`; attributes say what was run, with which versions and tolerances.

    Args:
        path: The study's folder.

    Raises:
        ValueError: If it has not been collected.
    """
    path = Path(path)
    if not (path / "study.zarr").exists():
        raise ValueError(
            f"Argument `path` must be a collected study, but {path} has no study.zarr. Collect it "
            f"first: relu-flow study collect {path}"
        )
    return xr.open_datatree(path / "study.zarr", engine="zarr", chunks=None, consolidated=True)


def _gathered(plan: Plan, store: Store, chunks: list[int], aside: Path) -> dict[str, np.ndarray]:
    """Read all chunks into arrays whose first axis is the run; write switches as they come."""
    arrays = {}
    for name, (shape, dtype) in lane_schema(plan.study, 1, 1).items():
        if not name.startswith("switch_"):
            fill = np.nan if dtype.kind == "f" else _MISSING
            arrays[name] = np.full((plan.size, *shape), fill, dtype)
    switches = _SwitchTable(aside / "switches.parquet") if plan.study.record.switches else None
    for index in chunks:
        lanes = store.get(index)
        for name, array in arrays.items():
            array[lanes["run"]] = lanes[name]
        if switches is not None:
            switches.add(lanes)
    if switches is not None:
        switches.close()
    return arrays


class _SwitchTable:
    """The table of switches, written a chunk at a time."""

    def __init__(self, path: Path):
        names = pa.dictionary(pa.int8(), pa.string())
        self._schema = pa.schema(
            [
                ("run", pa.int64()),
                ("time", pa.float64()),
                ("neuron", pa.int32()),
                ("sample", pa.int32()),
                ("kind", names),
            ]
        )
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def add(self, lanes: dict[str, np.ndarray]) -> None:
        kinds = pa.DictionaryArray.from_arrays(lanes["switch_kind"], pa.array(_KINDS))
        columns = [
            pa.array(lanes["run"][lanes["switch_run"]]),
            *(pa.array(lanes[f"switch_{name}"]) for name in ("time", "neuron", "sample")),
            kinds,
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def _tree(plan: Plan, arrays: dict[str, np.ndarray], attributes: dict[str, Any]) -> xr.DataTree:
    study, dims = plan.study, list(plan.dims)
    grid = tuple(len(values) for values in plan.dims.values())
    shaped = {name: array.reshape(*grid, *array.shape[1:]) for name, array in arrays.items()}
    runs = {
        "result": (dims, shaped["result"], _result_attributes()),
        "end_time": (dims, shaped["end_time"], {"units": _TIME, **_said("end_time")}),
        "settled": (dims, shaped["settled"], {"units": _TIME, **_said("settled")}),
    }
    for k, name in enumerate(COUNTS):
        runs[name] = (dims, shaped["counts"][..., k], {"_FillValue": _MISSING})
    runs["switches_by_kind"] = ([*dims, "kind"], shaped["kinds"], {"_FillValue": _MISSING})
    nodes = {
        "/": xr.Dataset(coords=_coordinates(plan), attrs=attributes),
        "/runs": xr.Dataset(runs, coords={"kind": _KINDS}),
        "/end": xr.Dataset(
            {name: (dims, shaped["end"][..., k]) for k, name in enumerate(study.record.end)}
        ),
    }
    milestone = {"milestone": [m.name for m in study.milestones]}
    if study.milestones:
        time = ([*dims, "milestone"], shaped["milestone_time"])
        seen = {
            name: ([*dims, "milestone"], shaped["at_milestones"][..., k, :])
            for k, name in enumerate(study.record.at_milestones)
        }
        nodes["/milestones"] = xr.Dataset(
            {"milestone_time": (*time, {"units": _TIME, **_said("milestone_time")}), **seen},
            coords={
                **milestone,
                "observable": ("milestone", [m.observable for m in study.milestones]),
                "level": ("milestone", [m.level for m in study.milestones]),
                "direction": ("milestone", [m.direction for m in study.milestones]),
            },
        )
    if study.record.at_times:
        nodes["/times"] = xr.Dataset(
            {
                name: ([*dims, "time"], shaped["at_times"][..., k, :])
                for k, name in enumerate(study.record.at_times)
            },
            coords={"time": ("time", list(study.record.times), {"units": _TIME})},
        )
    return xr.DataTree.from_dict({k: _encoded(v) for k, v in nodes.items()})


def _encoded(data: xr.Dataset) -> xr.Dataset:
    """Return the data with fill values that no run can have, and a fixed size of Zarr's chunks."""
    for variable in data.data_vars.values():
        variable.attrs.pop("_FillValue", None)
        # NaN, and not Zarr's zero, is what has not been done; integers have -1 written out.
        variable.encoding["_FillValue"] = np.nan if variable.dtype.kind == "f" else None
    return data


def _coordinates(plan: Plan) -> dict[str, Any]:
    study = plan.study
    if study.combine == "paired":
        lists = {k: v for k, v in study.lists().items() if len(v) > 1}
        found: dict[str, Any] = {n: ("case", _coordinate(v)) for n, v in lists.items()}
        found["case"] = ("case", np.arange(len(plan.cases)))
    else:
        found = {n: (n, _coordinate(v)) for n, v in plan.dims.items() if n != "seed"}
    found["seed"] = ("seed", np.asarray(study.seeds, np.int64))
    if "log_scale" in found:
        dim, values = found["log_scale"]
        found["log_scale"] = (dim, values, {"long_name": "natural logarithm of the init scale"})
        found["scale"] = (dim, np.exp(values))
    return found


def _coordinate(values: tuple) -> np.ndarray:
    """Return the values of a parameter; pairs and words as text."""
    plain = all(isinstance(value, int | float) for value in values)
    return np.asarray(values) if plain else np.asarray([json.dumps(value) for value in values])


def _provenance(plan: Plan, receipts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the attributes: what was run, and by what."""
    study = plan.study
    several = lambda key: sorted({json.dumps(r[key], sort_keys=True) for r in receipts})
    single = {k: v[0] for k, v in study.lists().items() if len(v) == 1}
    return {
        "title": study.name or study.data["family"],
        "spec": study.canonical(),
        "spec_hash": study.hash,
        "settings": json.dumps({**single, "t1": study.t1, "root": study.root}),
        "rtol": study.rtol,
        "versions": " ".join(several("versions")),
        "device": " ".join(several("device")),
        "machine": " ".join(several("machine")),
        "batch_form": " ".join(several("form")),
        "batch": study.batch,
        "results": json.dumps(_endings(receipts), sort_keys=True),
        "conventions": (
            "Times are in units of gradient-flow time of the reduced loss. Logarithms are natural. "
            "True weights are exp(log_scale) times the drawn ones. inf: not reached before the end "
            "of a run that got to its end. NaN: not known, as the run failed; never averaged in."
        ),
    }


def _endings(receipts: list[dict[str, Any]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for receipt in receipts:
        for name, count in receipt["results"].items():
            total[name] = total.get(name, 0) + count
    return total


def _result_attributes() -> dict[str, Any]:
    return {
        "long_name": "how the run ended; -1 if it has not been done",
        "flag_values": list(range(len(RESULT_NAMES))),
        "flag_meanings": " ".join(RESULT_NAMES),
    }


def _said(name: str) -> dict[str, str]:
    return {
        "long_name": {
            "end_time": "until when the run is known; t1 or the time of `until` unless it failed",
            "settled": "since when nothing moved any more; inf if never",
            "milestone_time": "first crossing of the level; inf if not reached by the run's end",
        }[name]
    }


def _write_runs(plan: Plan, arrays: dict[str, np.ndarray], path: Path) -> None:
    """Write the table of runs, one row a run, some rows at a time."""
    writer = None
    for start in range(0, plan.size, _ROWS):
        rows = slice(start, min(start + _ROWS, plan.size))
        table = pa.table(dict(_columns(plan, arrays, rows)))
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _columns(plan: Plan, arrays: dict[str, np.ndarray], rows: slice) -> Iterator[tuple[str, Any]]:
    study, seeds = plan.study, len(plan.study.seeds)
    run = np.arange(rows.start, rows.stop)
    yield "run", run
    yield "seed", np.asarray(study.seeds, np.int64)[run % seeds]
    case = run // seeds
    for name in study.lists():
        values = [_parameter(one, name) for one in plan.cases]
        yield name, _coordinate(tuple(values))[case]
    names = pa.array(RESULT_NAMES)
    codes = arrays["result"][rows]
    yield "result", pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), names)
    yield "end_time", arrays["end_time"][rows]
    yield "settled", arrays["settled"][rows]
    for prefix, key, labels in (
        ("", "counts", COUNTS),
        ("switches_", "kinds", _KINDS),
        ("time_", "milestone_time", [m.name for m in study.milestones]),
        ("end_", "end", study.record.end),
    ):
        for k, label in enumerate(labels):
            yield prefix + label, arrays[key][rows, k]


def _parameter(case: Any, name: str) -> Any:
    own = {"width": case.width, "log_scale": case.log_scale}
    return {**own, **case.data, **case.initial}[name]


def _replace(made: Path, final: Path) -> None:
    """Put a file or folder in its place; a folder that was there goes first."""
    if final.is_dir():
        old = made.with_name(made.name + ".old")
        os.rename(final, old)
        os.rename(made, final)
        shutil.rmtree(old)
    else:
        os.replace(made, final)

"""A trajectory as a labelled xarray data set, and in a netCDF file."""

import json
from importlib import metadata
from pathlib import Path

import jax
import numpy as np
import xarray as xr

from ..flow.results import RESULTS
from ..flow.trajectory import Trajectory
from ..model.problem import Problem
from ..model.switch import SwitchKind
from ..observe import observables

_OBSERVABLES = (
    observables.loss,
    observables.accuracy,
    observables.stable_rank,
    observables.balancedness_error,
    observables.fraction_in_cone,
    observables.log_parameter_norm,
)


def to_dataset(problem: Problem, trajectory: Trajectory, **attributes: object) -> xr.Dataset:
    """Return a trajectory as an xarray data set.

    Args:
        problem: What was solved; a classification problem.
        trajectory: The solution.
        attributes: Further attributes, such as the options of a command; what is no
            number or string is stored as JSON.

    Returns:
        Variables over `time` (observables), over `time` and `neuron` (`alignment` with
        the centre of the class that a neuron's output favours, `log_norm`), over `time`,
        `neuron` and `feature` (`direction`, of unit length), over `switch` (time, neuron,
        sample, kind), and over `milestone` (`milestone_time`, `inf` if not reached).
        Times are in units of gradient-flow time; logarithms are natural.
    """
    reached = np.isfinite(np.asarray(trajectory.ts))
    networks = trajectory.networks
    per_time = {
        observable.__name__: (
            "time",
            np.asarray(jax.vmap(lambda n, f=observable: f(problem, n))(networks))[reached],
        )
        for observable in _OBSERVABLES
    }
    alignment = jax.vmap(lambda n: observables.class_alignment(problem, n))(networks)
    per_neuron = {
        "alignment": (("time", "neuron"), np.asarray(alignment)[reached]),
        "log_norm": (
            ("time", "neuron"),
            np.asarray(jax.vmap(lambda n: n.log_norm())(networks))[reached],
        ),
        "outer_sign": ("neuron", np.sign(np.asarray(networks.outer_weight[0])).astype(int)),
        "direction": (
            ("time", "neuron", "feature"),
            np.asarray(jax.vmap(lambda n: n.directions())(networks))[reached],
        ),
    }
    table = trajectory.switches.to_pandas()
    switches = {
        f"switch_{name}": ("switch", table[name].to_numpy(copy=True))
        for name in ("time", "neuron", "sample")
    }
    switches["switch_kind"] = ("switch", np.asarray(table["kind"].cat.codes, dtype=np.int8))
    milestones = trajectory.milestones
    data = xr.Dataset(
        {**per_time, **per_neuron, **switches}
        | {"milestone_time": ("milestone", [float(m.time) for m in milestones.values()])},
        coords={
            "time": np.asarray(trajectory.ts)[reached],
            "milestone": list(milestones),
            "target": ("sample", np.asarray(problem.targets)),
        },
        attrs={name: _storable(value) for name, value in attributes.items()},
    )
    kinds = [kind.name.lower() for kind in SwitchKind]
    data["switch_kind"].attrs = {
        "flag_values": list(range(len(kinds))),
        "flag_meanings": " ".join(kinds),
    }
    for name in ("time", "switch_time", "milestone_time"):
        data[name].attrs["units"] = "gradient-flow time"
    data["log_norm"].attrs["long_name"] = "natural logarithm of the norm of the inner weights"
    data.attrs["result"] = RESULTS[trajectory.result] or "successful"
    data.attrs["stats"] = json.dumps({k: float(v) for k, v in trajectory.stats.items()})
    data.attrs["versions"] = json.dumps(
        {name: metadata.version(name) for name in ("relu-flow", "jax", "diffrax", "equinox")}
    )
    return data


def save(data: xr.Dataset, path: Path) -> None:
    """Write a data set to a netCDF file, whole or not at all."""
    aside = path.with_name(path.name + ".part")
    compressed = {
        name: {"zlib": True} for name, variable in data.data_vars.items() if variable.size > 1000
    }
    data.to_netcdf(aside, engine="h5netcdf", encoding=compressed)
    aside.replace(path)


def _storable(value: object) -> object:
    return value if isinstance(value, (int, float, str)) else json.dumps(value)

"""The work on one chunk: run it, store it, say what came out."""

import platform
import time
from collections import Counter
from functools import lru_cache
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp

from ..declare.plan import Chunk, Plan
from ..declare.record import RESULT_NAMES
from ..declare.spec import Study
from .batch import Device, Programs, batch_form
from .store import Store

_PACKAGES = ("relu-flow", "jax", "jaxlib", "diffrax", "equinox", "numpy")


def do_chunk(programs: Programs, store: Store, chunk: Chunk, device: Device) -> dict[str, Any]:
    """Run a chunk, write it, and return its receipt: counts, versions, device, seconds."""
    start = time.perf_counter()
    lanes, waited = programs.run(chunk, device)
    results = Counter(RESULT_NAMES[code] for code in lanes["result"].tolist())
    receipt = {
        "runs": chunk.stop - chunk.start,
        "results": dict(results),
        "switches": int(lanes["kinds"].sum()),
        "seconds": time.perf_counter() - start,
        "device": device.device_kind,
        "machine": platform.machine(),
        "form": batch_form(device),
        "waited": waited,
        "batch": programs.plan.study.batch,
        "versions": versions(),
    }
    return store.put(chunk, programs.plan.runs(chunk), lanes, receipt)


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Return the versions of what the numbers depend on."""
    return {name: metadata.version(name) for name in _PACKAGES}


def require_float64() -> None:
    """Raise `ValueError` unless JAX computes in float64."""
    if jnp.result_type(float) != jnp.float64:
        raise ValueError(
            "Argument `study` must be run in float64, but JAX is in float32. Call "
            'jax.config.update("jax_enable_x64", True) first.'
        )


@lru_cache(maxsize=4)
def _opened(spec: str, path: str) -> tuple[Programs, Store]:
    study = Study.from_json(spec)
    return Programs(Plan.of(study)), Store.create(path, study)


def do_remotely(spec: str, path: str, chunk: int) -> dict[str, Any]:
    """Do a chunk in a worker process; what was compiled for the one before is used again.

    A worker is a program of its own, so that it may choose JAX's precision.
    """
    jax.config.update("jax_enable_x64", True)
    programs, store = _opened(spec, path)
    known = store.receipt(chunk)
    if known is not None:
        return known
    return do_chunk(programs, store, programs.plan.chunks[chunk], jax.local_devices()[0])

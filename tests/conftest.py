"""Settings of the tests: float64, quick compilation, no more programs in memory than needed."""

import os
from importlib.metadata import version

# As `relu_flow._compile` says, but for every program, and in the processes that tests start.
if tuple(int(part) for part in version("jax").split(".")[:2]) < (0, 11):
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_use_fusion_emitters=false".strip()

import jax
import pytest

jax.config.update("jax_enable_x64", True)


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs():
    """Drop a module's programs: hundreds of them exhaust a process's memory maps."""
    yield
    jax.clear_caches()

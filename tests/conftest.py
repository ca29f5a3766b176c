"""Settings of the tests: float64, and no more compiled programs in memory than needed."""

import jax
import pytest

jax.config.update("jax_enable_x64", True)


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs():
    """Drop a module's programs: hundreds of them exhaust a process's memory maps."""
    yield
    jax.clear_caches()

"""Settings of the tests: float64, nothing promoted unasked, quick compilation, little memory."""

import os
import tempfile
from importlib.metadata import version

# Compiling is two thirds of what the tests take: a fifth less of all without what makes loops long.
# Of the sums that programs do nothing changes. Runs take two fifths longer, which most do not feel.
flags = os.environ.get("XLA_FLAGS", "")
if "xla_backend_extra_options" not in flags:
    short = "disable_loop_unrolling", "disable_slp_vectorizer", "optimize_for_size"
    flags += " --xla_backend_extra_options=" + ",".join(f"xla_cpu_{option}" for option in short)
# As `relu_flow._compile` says, but for every program, and in the processes that tests start.
if tuple(int(part) for part in version("jax").split(".")[:2]) < (0, 11):
    flags += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = flags.strip()

# What one module, worker, notebook or command of this run of the tests has compiled, the others
# find. Workers have the folder from who started them; nothing is kept for the next run.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="relu_flow")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"

import jax
import jaxtyping
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


# Files of a minute and more, longest first. Two workers finish together if these do not come last,
# as those with few tests otherwise do.
_LONG = (
    "flow/test_solve.py", "study/test_study.py", "flow/test_reference_cases.py",
    "fuzz/test_fuzz.py", "flow/test_padding.py", "flow/test_quiet.py", "tests/test_examples.py",
    "reduced/test_limit.py", "flow/test_hyperplanes.py",
    "flow/test_collocation.py", "study/test_processes.py", "early_alignment/test_theory.py",
)  # fmt: skip


def pytest_configure(config):
    """Let workers take files in the order that they are collected in, not by numbers of tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """Put the files that take long first, the others as they come."""

    def rank(item):
        name = item.path.as_posix()
        return next((k for k, end in enumerate(_LONG) if name.endswith(end)), len(_LONG))

    items.sort(key=rank)


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs():
    """Drop a module's programs: hundreds of them exhaust a process's memory maps."""
    yield
    jax.clear_caches()


@pytest.fixture
def unchecked():
    """Turn the check of annotations off: arguments of a wrong type reach the package's errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)

"""How the programs of this package are compiled."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax

# XLA's newer emitters of fused kernels take a third of the time that compiling a solve takes
# on a CPU, and its many small kernels run no faster for it. Later versions cannot do without.
# A call of YNNPACK takes several times as long as the small sums and products of matrices here.
COMPILER_OPTIONS: dict[str, str | bool] = (
    {"xla_cpu_use_fusion_emitters": False, "xla_cpu_experimental_ynn_fusion_type": ""}
    if jax.__version_info__ < (0, 11)
    else {}
)


def compiled(function: Callable) -> Any:
    """Return `equinox.filter_jit` of a function, with these options.

    Not for functions that are called while another is traced: JAX takes options at the top only.
    """
    jit: Any = eqx.filter_jit
    return jit(function, compiler_options=COMPILER_OPTIONS)

"""How the programs of this package are compiled."""

import jax

# XLA's newer emitters of fused kernels take a third of the time that compiling a solve takes
# on a CPU, and its many small kernels run no faster for it. Later versions cannot do without.
COMPILER_OPTIONS = {"xla_cpu_use_fusion_emitters": False} if jax.__version_info__ < (0, 11) else {}

"""Settings of the tests: float64, and JAX's strictest promotion rules."""

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "standard")

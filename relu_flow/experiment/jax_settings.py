"""What the commands set of JAX before they compute (the library sets nothing)."""

import os
from pathlib import Path

import jax


def prepare(cache: bool) -> None:
    """Compute in float64, and keep compiled programs if that is wanted."""
    jax.config.update("jax_enable_x64", True)
    if cache:
        use_cache()


def use_cache() -> None:
    """Keep compiled programs in a private folder of the user's."""
    root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = root / "relu_flow" / "jax"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

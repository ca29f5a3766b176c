"""The user's cache of compiled programs, for the command line (the library sets nothing)."""

import os
from pathlib import Path

import jax


def use_cache() -> None:
    """Keep compiled programs in a private folder of the user's."""
    root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = root / "relu_flow" / "jax"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

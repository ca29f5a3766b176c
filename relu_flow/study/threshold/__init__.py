"""Where along an axis a property stops holding: of one thing, of every seed, of a fraction."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from ..._lazy import attach as _attach

if _TYPE_CHECKING:
    from .by_seed import find_seed_thresholds as find_seed_thresholds
    from .fraction import find_random_threshold as find_random_threshold
    from .search import find_threshold as find_threshold
else:
    __getattr__, __dir__ = _attach(__name__)

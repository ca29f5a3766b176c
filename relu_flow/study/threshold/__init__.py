"""Where along an axis a property stops holding: of one thing, of every seed, of a fraction."""

from .by_seed import find_seed_thresholds as find_seed_thresholds
from .fraction import find_random_threshold as find_random_threshold
from .search import find_threshold as find_threshold

"""Statistics over seeds, with their intervals."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from ..._lazy import attach as _attach

# Imported when first used: a search for a threshold needs no tables, and no survival curves.
if _TYPE_CHECKING:
    from .curves import Survival as Survival, log_rank as log_rank, survival as survival
    from .exponents import Exponent as Exponent, fit_exponent as fit_exponent
    from .fractions import fraction_interval as fraction_interval
    from .intervals import mean_interval as mean_interval, quantile_interval as quantile_interval
    from .outcomes import Interval as Interval
    from .summary import over_seeds as over_seeds
else:
    __getattr__, __dir__ = _attach(__name__)

"""Statistics over seeds, with their intervals."""

from .exponents import Exponent as Exponent, fit_exponent as fit_exponent
from .fractions import fraction_interval as fraction_interval
from .intervals import mean_interval as mean_interval, quantile_interval as quantile_interval
from .outcomes import Interval as Interval
from .summary import over_seeds as over_seeds
from .survival import Survival as Survival, log_rank as log_rank, survival as survival

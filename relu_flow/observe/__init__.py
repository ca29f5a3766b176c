"""Numbers read off a network or a trajectory: an observable is a function of problem and network.

Any function of that kind will do for a milestone; the ones here keep their digits at scales as
small as `e^-10000`.
"""

from .angle import (
    angles as angles,
    largest_angle as largest_angle,
    largest_angle_among as largest_angle_among,
    mean_angle as mean_angle,
    negative_angle as negative_angle,
    positive_angle as positive_angle,
)
from .beyond import Outlook as Outlook, outlook as outlook
from .bundle import (
    data_eigenbasis as data_eigenbasis,
    first_mode as first_mode,
    teacher_gap as teacher_gap,
)
from .kernel import (
    log_tangent_spectrum as log_tangent_spectrum,
    tangent_distance as tangent_distance,
    tangent_distance_from as tangent_distance_from,
    tangent_kernel as tangent_kernel,
)
from .margin import (
    MarginConditions as MarginConditions,
    margin_complementarity as margin_complementarity,
    margin_conditions as margin_conditions,
    margin_stationarity as margin_stationarity,
    normalised_margin as normalised_margin,
)
from .milestones import Milestone as Milestone
from .motion import (
    activations as activations,
    direction_rate as direction_rate,
    log_norm_rate as log_norm_rate,
    loss_rate as loss_rate,
    norm_lead as norm_lead,
    norm_rate as norm_rate,
    output_rates as output_rates,
    parameter_direction_rate as parameter_direction_rate,
    velocity as velocity,
)
from .observables import (
    accuracy as accuracy,
    alignment as alignment,
    balancedness_error as balancedness_error,
    class_alignment as class_alignment,
    class_centers as class_centers,
    cone_margin as cone_margin,
    cosines as cosines,
    fraction_in_cone as fraction_in_cone,
    largest_negative_output as largest_negative_output,
    largest_positive_output as largest_positive_output,
    living as living,
    log_parameter_norm as log_parameter_norm,
    loss as loss,
    negative_output as negative_output,
    positive_output as positive_output,
    relative_inner as relative_inner,
    squared_parameter_norm as squared_parameter_norm,
    stable_rank as stable_rank,
)
from .pattern import (
    dead_count as dead_count,
    distance_from as distance_from,
    living_count as living_count,
    on_hyperplane as on_hyperplane,
    on_hyperplane_count as on_hyperplane_count,
    pattern_count as pattern_count,
    pattern_distance as pattern_distance,
    sides_at as sides_at,
    sliding_count as sliding_count,
)
from .phases import Latest as Latest, Phase as Phase, Scheme as Scheme, SwitchEvent as SwitchEvent
from .rank import (
    effective_rank as effective_rank,
    log_nuclear_norm as log_nuclear_norm,
    log_singular_values as log_singular_values,
    nuclear_norm as nuclear_norm,
    numerical_rank as numerical_rank,
)

"""The papers' theory under short names: `relu_flow.theory.early_alignment` and its like.

The modules themselves are in `relu_flow.papers`, one folder a paper, and in `relu_flow.claims`.
"""

import sys

from .claims import verdict
from .papers.early_alignment import theory as early_alignment
from .papers.multi_phase import theory as multi_phase
from .papers.single_neuron import theory as single_neuron
from .papers.single_neuron.theory import norm_rank, yardsticks as yardstick

# `from relu_flow.theory.early_alignment import examine` asks for a module of that very name.
_SHORT = {
    "early_alignment": early_alignment,
    "multi_phase": multi_phase,
    "norm_rank": norm_rank,
    "single_neuron": single_neuron,
    "verdict": verdict,
    "yardstick": yardstick,
}
sys.modules.update({f"{__name__}.{name}": module for name, module in _SHORT.items()})

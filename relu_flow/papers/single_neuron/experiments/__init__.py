"""Learning a single neuron: the paper's figures and tables, and six checks beyond them.

Source:
    Chistikov, Englert, Lazić, "Learning a Neuron by a Shallow ReLU Network: Dynamics and
    Implicit Bias for Correlated Inputs" (2023), the experiments. Its seeds are not given:
    draws are of our own, and what can be compared is how angles go with the scale.
"""

from ....experiment.experiment import Experiment
from . import angles, checks, course, phases

# Those that take minutes come first, the long tables of angles last.
EXPERIMENTS: tuple[Experiment, ...] = (
    *phases.EXPERIMENTS,
    *checks.EXPERIMENTS,
    *course.EXPERIMENTS,
    *reversed(angles.EXPERIMENTS),
)

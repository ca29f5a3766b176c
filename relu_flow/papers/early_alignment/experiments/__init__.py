"""Figures 5 to 13 of the early-alignment paper, under the exact flow and under descent.

Source:
    Min, Mallada, Vidal, "Early Neuron Alignment in Two-layer ReLU Networks with Small
    Initialization" (2024).
"""

from ....experiment.experiment import Experiment
from .. import figures as report
from . import digits as on_digits, plane as on_plane

EXPERIMENTS: tuple[Experiment, ...] = (
    Experiment("figure-5", "digits 0 and 1", on_digits.pair_of_digits((0, 1)), report.draw_digits),
    Experiment("figure-6", "two classes in the plane", on_plane.figure_6, report.draw_planar),
    Experiment("figure-7", "two inputs, cosine sin 0.1", on_plane.figure_7, report.draw_planar),
    Experiment("figure-8", "two inputs, cosine sin 0.001", on_plane.figure_8, report.draw_planar),
    Experiment("figure-9", "two orthogonal inputs", on_plane.figure_9, report.draw_planar),
    Experiment("figure-10", "digits 3 and 8", on_digits.pair_of_digits((3, 8)), report.draw_digits),
    Experiment("figure-11", "digits 1 and 7", on_digits.pair_of_digits((1, 7)), report.draw_digits),
    Experiment("figure-12", "digits 0 and 1, batches", on_digits.figure_12, report.draw_batches),
    Experiment("figure-13", "digits 0 and 1, inner layer", on_digits.figure_13, report.draw_inner),
)

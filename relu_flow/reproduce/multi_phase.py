"""Experiments of the paper; filled in by the commits that follow."""

from .experiment import Experiment

EXPERIMENTS: tuple[Experiment, ...] = ()

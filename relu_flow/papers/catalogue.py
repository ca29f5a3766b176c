"""The papers whose experiments are here."""

from pathlib import Path

from ..experiment.experiment import Experiment, Findings, run_experiments
from ..experiment.jax_settings import prepare
from .early_alignment.experiments import EXPERIMENTS as EARLY_ALIGNMENT
from .multi_phase.experiments import EXPERIMENTS as MULTI_PHASE
from .single_neuron.experiments import EXPERIMENTS as SINGLE_NEURON

PAPERS: dict[str, tuple[Experiment, ...]] = {
    "early-alignment": EARLY_ALIGNMENT,
    "single-neuron": SINGLE_NEURON,
    "multi-phase": MULTI_PHASE,
}


def reproduce_paper(
    paper: str,
    out: Path,
    *,
    only: tuple[str, ...] = (),
    quick: bool = False,
    seed: int = 0,
    cache: bool = True,
    quiet: bool = False,
) -> dict[str, Findings]:
    """Run a paper's experiments in float64; see `run_experiments`."""
    if seed < 0:
        raise ValueError(f"Argument `seed` must not be negative, but it is {seed}.")
    prepare(cache)
    return run_experiments(
        paper, PAPERS[paper], out / paper, only=only, quick=quick, seed=seed, quiet=quiet
    )

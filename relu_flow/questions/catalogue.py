"""The questions that are answered here."""

from pathlib import Path

from ..experiment.experiment import Experiment, Findings, run_experiments
from ..experiment.jax_settings import prepare
from .bounds import study as bounds
from .correlation import study as correlation
from .rank_angle import study as rank_angle
from .rank_scale import study as rank_scale
from .switches import study as switches
from .teachers import study as teachers

QUESTIONS: tuple[Experiment, ...] = (
    rank_angle.QUESTION,
    rank_scale.QUESTION,
    correlation.QUESTION,
    teachers.QUESTION,
    bounds.QUESTION,
    switches.QUESTION,
)


def answer(
    name: str,
    out: Path,
    *,
    quick: bool = False,
    seed: int = 0,
    workers: int | None = None,
    cache: bool = True,
    quiet: bool = False,
) -> Findings:
    """Answer a question in float64; see `run_experiments`.

    Raises:
        ValueError: If there is no such question, or `seed` is out of range.
    """
    known = [question.name for question in QUESTIONS]
    if name not in known:
        raise ValueError(f"Argument `name` must be one of {known}, but it is {name!r}.")
    if not 0 <= seed < 2**32:
        raise ValueError(f"Argument `seed` must be from 0 to 2**32 - 1, but it is {seed}.")
    prepare(cache)
    found = run_experiments(
        "the questions", QUESTIONS, out, only=(name,), quick=quick, seed=seed, quiet=quiet,
        workers=workers,
    )  # fmt: skip
    return found[name]

"""Each seed's own threshold of the initial scale, by bisection with studies."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import xarray as xr

from ..study.declare.spec import Study
from ..study.threshold.by_seed import SeedThresholds, find_seed_thresholds

Seeds = tuple[int, ...]
Scales = tuple[float, ...]


def scale_thresholds(
    study: Callable[[Seeds, Scales], Study],
    run: Callable[[Study], xr.DataTree],
    holds: Callable[[xr.DataTree], xr.DataArray],
    seeds: Sequence[int],
    low: float,
    high: float,
    *,
    tolerance: float,
    batch: int = 8,
) -> SeedThresholds:
    """Find for each seed the log scale at which a property stops holding.

    In each round seeds that are asked for the same scales are one study; studies that differ
    in seeds and scales alone share their compiled programs.

    Args:
        study: From seeds and log scales to a study.
        run: Runs and collects it.
        holds: From a collected study to yes or no over `log_scale` (if there are several)
            and `seed`: booleans, or 0, 1 and NaN where it is not known.
        seeds: The seeds.
        low: Smallest log scale, where the property is expected to hold.
        high: Largest.
        tolerance: How close log scales may be at which it holds and fails.
        batch: How many scales at a time for each seed.
    """

    def property(scales: np.ndarray, who: np.ndarray) -> np.ndarray:
        answers = np.full(scales.size, np.nan)
        for chosen, asked in _blocks(scales, who):
            known = holds(run(study(chosen, asked))).astype(float)
            if "log_scale" not in known.dims:
                known = known.expand_dims(log_scale=list(asked))
            table = known.transpose("log_scale", "seed").to_numpy()
            row = {scale: k for k, scale in enumerate(asked)}
            column = {seed: k for k, seed in enumerate(chosen)}
            for i in np.flatnonzero(np.isin(scales, asked) & np.isin(who, chosen)):
                answers[i] = table[row[float(scales[i])], column[int(who[i])]]
        return answers

    return find_seed_thresholds(
        property, list(seeds), low, high, tolerance=tolerance, batch=batch, side="below"
    )


def _blocks(scales: np.ndarray, who: np.ndarray) -> Iterator[tuple[Seeds, Scales]]:
    """Yield seeds and all the scales that each of them is asked for."""
    asked: dict[int, list[float]] = {}
    for seed, scale in zip(who.tolist(), scales.tolist(), strict=True):
        asked.setdefault(seed, []).append(scale)
    together: dict[Scales, list[int]] = {}
    for seed, of in sorted(asked.items()):
        together.setdefault(tuple(sorted(of)), []).append(seed)
    for of, chosen in together.items():
        yield tuple(chosen), of

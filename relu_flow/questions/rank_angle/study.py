r"""Rank bias against the teacher's angle: what happens between $\pi/4$ and $\pi/2$?

Chistikov, Englert and Lazić (2023) prove that the flow ends with rank one, as the scale
vanishes, if all inputs are within $\pi/4$ of the teacher, and leave larger angles open.
"""

import math

import numpy as np
import xarray as xr

from ...experiment.experiment import Experiment, Findings
from ...report.page.data import scale_text
from ...study.declare.spec import Study
from .. import summary
from .figure import angle_figure

RANK_ONE = 1.05  # effective ranks below: at the smallest scale they are near 1, or beyond 1.1
LOSS = 1e-6  # of a run's end
_STILL = 0.02  # a change of the fraction that counts as none


def study(quick: bool, root: int) -> Study:
    """Return the study: angles and scales, to a small loss."""
    angles = (15, 30, 45, 55, 65, 75, 85) if quick else tuple(range(5, 90, 5))
    return Study(
        name="rank against the teacher's angle",
        data={
            "family": "single_neuron",
            "features": 4,
            "max_angle": [math.radians(a) for a in angles],
        },
        seeds=16 if quick else 100,
        widths=20,
        scales=[1e-4, 1e-8] if quick else [1e-4, 1e-8, 1e-16],
        t1=1e7,
        rtol=1e-8,
        root=root,
        milestones=[{"observable": "loss", "level": LOSS, "direction": -1, "name": "converged"}],
        until="converged",
        record={"end": ["effective_rank", "largest_angle", "squared_parameter_norm"]},
        max_steps=65536,
    )


def findings(tree: xr.DataTree) -> Findings:
    """Return what the collected study says about the rank."""
    times = tree["milestones"].to_dataset()["milestone_time"]
    converged = times.sel(milestone="converged", drop=True) < np.inf
    rank = tree["end"].to_dataset()["effective_rank"].where(converged)
    share = summary.shares(tree, (rank < RANK_ONE).where(converged))
    done = summary.shares(tree, converged)
    texts = {"max_angle": summary.degrees("angle")}
    rows = (
        *summary.rows("fraction with rank one", share, note=_promised, texts=texts),
        *summary.rows(f"fraction that came to a loss of {LOSS:g}", done, texts=texts),
    )
    data = summary.for_figure(share=share).assign(rank=rank)
    return Findings(rows, data, _paragraph(share, rank))


def _promised(at: dict) -> str:
    return "promised as the scale vanishes" if at["max_angle"] < math.pi / 4 else ""


def _paragraph(share: xr.Dataset, rank: xr.DataArray) -> str:
    """Say up to which angle all seeds end with rank one, and what a smaller scale changes."""
    scales = np.sort(share["log_scale"].to_numpy())
    small = share.sel(log_scale=scales[0])
    degrees = np.degrees(share["max_angle"].to_numpy())
    holds = small["estimate"].to_numpy() == 1.0
    all_to = degrees[np.cumprod(holds).astype(bool)]
    last = small.isel(max_angle=-1)
    used = int(small["used"].min())
    beyond = rank.sel(log_scale=scales[0]).to_numpy()
    beyond = beyond[beyond >= RANK_ONE]
    first = (
        f"every seed ended with rank one up to {all_to[-1]:.0f} degrees"
        if all_to.size
        else f"already at {degrees[0]:.0f} degrees not every seed ended with rank one"
    )
    failing = (
        f" At {degrees[-1]:.0f} degrees {float(last['estimate']):.0%} "
        f"[{float(last['low']):.0%}, {float(last['high']):.0%}] did; where rank one was missed the "
        f"median effective rank was {np.median(beyond):.2f}."
        if beyond.size
        else " No seed missed it at any angle."
    )
    return (
        f"At scale {scale_text(scales[0])}, of at least {used} seeds an angle that converged, "
        f"{first}; theory covers angles below 45.{failing} {_with_scale(share)}"
        "These are 4 inputs in 4 dimensions with 20 neurons, one input on the rim of its cap; "
        "runs end at a loss of 1e-6, so that a neuron still turning then is counted as it is."
    )


def _with_scale(share: xr.Dataset) -> str:
    """Say how the fraction goes with the scale, in all and in the last step towards zero."""
    scales = np.sort(share["log_scale"].to_numpy())
    first, middle, last = (
        share["estimate"].sel(log_scale=scale) for scale in (scales[-1], scales[1], scales[0])
    )
    whole, rest = (last - first).to_numpy(), (last - middle).to_numpy()
    said = (
        f"From scale {scale_text(scales[-1])} to {scale_text(scales[0])} the fraction changes by "
        f"{whole.min():+.0%} to {whole.max():+.0%}"
    )
    if len(scales) > 2:
        said += (
            f", of that from {scale_text(scales[1])} on by {rest.min():+.0%} to {rest.max():+.0%}"
        )
    said += ": "
    if np.abs(rest).max() <= _STILL:
        return said + "what is lost does not come back with the scale. "
    return said + (
        "it still moves with the scale, and these runs do not tell what is left as it vanishes. "
    )


QUESTION = Experiment(
    "rank-angle",
    "rank bias against the teacher's angle, from 0 to pi/2",
    lambda workspace: findings(workspace.study("angles", study(workspace.quick, workspace.seed))),
    angle_figure,
)

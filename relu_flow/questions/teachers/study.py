r"""Several teacher neurons: does the network end with one direction for each, and zero loss?

Chistikov, Englert and Lazić (2023) prove that one teacher is learnt by neurons of one direction
as the scale vanishes (Theorem 7), and show runs with two opposite teachers; what happens with
several teachers they leave open.

Derived here, to compare with. The teachers $a_k\,\mathrm{relu}(\langle v_k, x\rangle)$ point to
the vertices of a simplex, and $n/K$ of $n$ inputs of norm 1 lie about each, on the inactive
side of the others. A balanced network with one direction for each teacher has
$\|\theta\|^2 = 2\sum_k|a_k|\|v_k\|$. A network that knows nothing of teacher k has a loss of at
most, and for narrow caps of nearly, $a_k^2\|v_k\|^2/(2K)$. A small neuron that is active about
teacher k alone grows at a rate of at most $|a_k|\|v_k\|/K$, so that by neurons of its own the
teacher is learnt in a time that grows by at least $K/(|a_k|\|v_k\|)$ with $\ln(1/\mathrm{scale})$.
"""

import json
import math
from collections.abc import Mapping

import numpy as np
import xarray as xr

from ...experiment.experiment import Experiment, Findings, Row
from ...report.page.data import scale_text
from ...study.declare.spec import Study
from ...study.statistics.curves import survival
from ...study.statistics.summary import over_seeds
from .. import summary
from .figure import teachers_figure

SAMPLES = 12  # divisible by every number of teachers: one shape, and caps of equal weight
LEVELS = {"half": 0.25, "hundredth": 0.005, "learnt": 1e-5}  # of a loss of about one half at first
END = 3e4  # of runs that do not come to zero loss
SAME = 0.02  # of the teachers' norm: as close to it as runs are to their limits
WIDTHS = "widths"


def studies(quick: bool, root: int) -> dict[str, Study]:
    """Return a study for each number of teachers, and one of widths where teachers are missed."""
    counts = (2, 3) if quick else (2, 3, 4)
    asked = {
        f"{count} teachers": _study(
            quick, root, 20, [1e-4, 1e-8] if quick else [1e-2, 1e-4, 1e-8],
            [equal(count), graded(count)], [[1.0] * count, alternating(count)],
        )
        for count in counts
    }  # fmt: skip
    widths = [10, 20] if quick else [10, 20, 40, 80]
    return {**asked, WIDTHS: _study(quick, root, widths, 1e-8, [graded(3)], [[1.0] * 3])}


def equal(count: int) -> list[float]:
    """Return norms of teachers that are all 1."""
    return [1.0] * count


def graded(count: int) -> list[float]:
    """Return norms of teachers as 1 to 2 to 3..., with a mean square of 1."""
    sizes = np.arange(1.0, count + 1)
    return [round(float(x), 12) for x in sizes / np.sqrt(np.mean(sizes**2))]


def alternating(count: int) -> list[float]:
    """Return signs +1, -1, +1, ..."""
    return [(-1.0) ** k for k in range(count)]


def _study(quick: bool, root: int, widths, scales, norms: list, outer: list) -> Study:
    return Study(
        name=f"{len(norms[0])} teachers",
        data={
            "family": "several_neurons",
            "features": 4,
            "samples": SAMPLES,
            "max_angle": math.radians(15),
            "teacher_norms": norms,
            "outer": outer,
        },
        seeds=12 if quick else 50,
        widths=widths,
        scales=scales,
        t1=END,
        rtol=1e-8,
        root=root,
        milestones=[
            {"observable": "loss", "level": level, "direction": -1, "name": name}
            for name, level in LEVELS.items()
        ],
        until="learnt",
        record={"end": ["loss", "effective_rank", "squared_parameter_norm"]},
        max_steps=32768,
        # At a plateau neurons that are not needed enter and leave slides until the end.
        max_switches=16384,
        max_slides=8192,
    )


def findings(trees: Mapping[str, xr.DataTree]) -> Findings:
    """Return what the collected studies say.

    Args:
        trees: Studies by name: `2 teachers` and so on, and `widths`.
    """
    seen = xr.concat(
        [_seen(tree) for name, tree in trees.items() if name != WIDTHS], "teachers", join="exact"
    ).transpose("teachers", "norms", "signs", "log_scale", "seed")
    runs = xr.DataTree.from_dict({"/runs": seen[["result"]]})
    learnt = seen["learnt"] < np.inf
    known = seen["learnt"].notnull()
    small = seen.sel(log_scale=[seen["log_scale"].min()])
    at = xr.DataTree.from_dict({"/runs": small[["result"]]})
    worst = xr.DataTree.from_dict({"/runs": seen[["result"]].max("log_scale")})
    done, stuck = small["learnt"] < np.inf, small["hundredth"] == np.inf
    found = {
        "learnt": summary.shares(runs, learnt.where(known)),
        "ratio": summary.medians(at, (small["norm"] / small["own_norm"]).where(done)),
        "alike": summary.shares(
            at, (abs(small["norm"] / small["own_norm"] - 1) < SAME).where(done)
        ),
        "rank": summary.medians(at, small["rank"].where(done)),
        "plateau": summary.shares(at, stuck.where(small["hundredth"].notnull())),
        "stuck": summary.medians(at, (small["loss"] / _missed(small)).where(stuck)),
        "half": _times(seen, "half"),
        "all": _times(seen, "hundredth"),
        "slope": summary.medians(worst, _slopes(seen)),
    }
    wide = _wide(trees[WIDTHS])
    rows = (*_rows(found, seen), *summary.rows(
        "seeds that learn all of 3 graded teachers of one sign", wide))  # fmt: skip
    return Findings(rows, _figure_data(found, wide, seen), _paragraph(found, wide, seen))


def _seen(tree: xr.DataTree) -> xr.Dataset:
    """Return what was recorded of a number of teachers, its grid by words, and what to expect."""
    times = tree["milestones"].to_dataset()["milestone_time"]
    end, runs = tree["end"].to_dataset(), tree["runs"].to_dataset()
    data = xr.Dataset(
        {
            **{name: times.sel(milestone=name, drop=True) for name in LEVELS},
            "loss": end["loss"],
            "rank": end["effective_rank"],
            "norm": end["squared_parameter_norm"],
            "until": runs["end_time"],
            "result": runs["result"],
        }
    ).drop_vars(["milestone", "kind", "scale"], errors="ignore")
    norms = [json.loads(text) for text in data["teacher_norms"].to_numpy()]
    signs = [json.loads(text) for text in data["outer"].to_numpy()]
    data = data.rename(teacher_norms="norms", outer="signs").assign_coords(
        norms=["equal" if len(set(each)) == 1 else "graded" for each in norms],
        signs=["one sign" if min(each) > 0 else "alternating" for each in signs],
    )
    sizes = [np.abs(each) for each in norms]
    data["own_norm"] = ("norms", [2 * float(np.sum(each)) for each in sizes])
    data["own_rank"] = ("norms", [_own_rank(each) for each in sizes])
    data["least"] = ("norms", [float(np.min(each)) for each in sizes])
    return data.expand_dims(teachers=[len(norms[0])])


def _own_rank(sizes: np.ndarray) -> float:
    """Return the effective rank of one balanced neuron for each teacher of the simplex."""
    count = len(sizes)
    cosines = np.where(np.eye(count, dtype=bool), 1.0, -1 / (count - 1))
    roots = np.sqrt(sizes)
    singular = np.sqrt(np.maximum(np.linalg.eigvalsh(roots[:, None] * cosines * roots), 0.0))
    share = singular[singular > 1e-6] / np.sum(singular)
    return float(np.exp(-np.sum(share * np.log(share))))


def _times(seen: xr.Dataset, name: str) -> xr.Dataset:
    def median(times, ends, codes):
        return survival(times, ends, codes=codes).quantile()

    return over_seeds(median, seen[name], seen["until"], codes=seen["result"])


def _wide(tree: xr.DataTree) -> xr.Dataset:
    time = tree["milestones"].to_dataset()["milestone_time"].sel(milestone="learnt", drop=True)
    return summary.shares(tree, (time < np.inf).where(time.notnull()))


def _slopes(seen: xr.Dataset) -> xr.DataArray:
    """Return by how much each seed's time to a hundredth grows with ln(1/scale).

    Between the largest and the smallest scale; `inf` if it comes there at the former alone.
    """
    scales = np.sort(seen["log_scale"].to_numpy())
    first, last = (seen["hundredth"].sel(log_scale=scale, drop=True) for scale in scales[[-1, 0]])
    # Never at both scales is no slope.
    with np.errstate(invalid="ignore"):
        return (last - first) / (scales[-1] - scales[0])


def _rows(found: dict, seen: xr.Dataset) -> list[Row]:
    rows = list(summary.rows("seeds that come to zero loss", found["learnt"]))
    rows += summary.rows("seeds that stay above a hundredth of the loss", found["plateau"])
    rows += summary.rows(
        "their loss over that without the smallest teacher, median", found["stuck"],
        note="at most 1, nearly 1 for narrow caps, if that one alone is not learnt",
    )  # fmt: skip
    rows += summary.rows(
        "squared norm over that of one direction a teacher, median", found["ratio"]
    )
    rows += summary.rows(f"seeds where it is within {SAME:.0%} of 1", found["alike"])
    rows += summary.rows("effective rank, median", found["rank"], _own(seen, "own_rank"),
                         note="bound: for comparison, of one direction a teacher")  # fmt: skip
    rows += summary.rows("time to half the loss, median", found["half"])
    rows += summary.rows("time to a hundredth of the loss, median", found["all"])
    rows += summary.rows(
        "growth of that time with ln(1/scale), median", found["slope"], _own_rate(seen),
        note="bound: the least if the smallest teacher is learnt by neurons of its own",
    )  # fmt: skip
    return [row for row in rows if row.runs]


def _missed(seen: xr.Dataset) -> xr.DataArray:
    """Return the loss, at most, of a network that knows all teachers but the smallest."""
    return seen["least"] ** 2 / (2 * seen["teachers"])


def _own_rate(seen: xr.Dataset) -> xr.DataArray:
    """Return the growth with ln(1/scale) of the time to learn the smallest teacher by its own."""
    return (seen["teachers"] / seen["least"]).transpose("teachers", "norms")


def _own(seen: xr.Dataset, name: str) -> xr.DataArray:
    return seen[name].transpose("teachers", "norms")


def _figure_data(found: dict, wide: xr.Dataset, seen: xr.Dataset) -> xr.Dataset:
    drop = {name: one.drop_vars("code") for name, one in found.items()}
    small = {name: drop[name].squeeze("log_scale", drop=True) for name in ("ratio", "rank")}
    parts = {**{name: drop[name] for name in ("learnt", "half", "all")}, **small}
    data = summary.for_figure(**parts, wide=wide.drop_vars("code"))
    data = data.assign(own_rank=_own(seen, "own_rank"), least=_own(seen, "least"))
    return data.drop_vars(["scale", "case"], errors="ignore")


def _paragraph(found: dict, wide: xr.Dataset, seen: xr.Dataset) -> str:
    """Say whether all teachers are learnt, by how many directions, and how long it takes."""
    return (
        _learnt(found["learnt"])
        + _stuck(found) + _directions(found) + _plateau(found, seen)
        + f"Of networks for 3 graded teachers of one sign, {_wide_text(wide)} neurons learnt all. "
        f"Caps of 15 degrees; runs end at a loss of 1e-5 or time {END:g}."
    )  # fmt: skip


def _learnt(shares: xr.Dataset) -> str:
    """Name the setting in which fewest seeds learn all at the smallest scale."""
    share, large = (shares.sel(log_scale=end) for end in (shares["log_scale"].min(),
                                                          shares["log_scale"].max()))  # fmt: skip
    points = share[["estimate", "low", "high"]].stack(point=("teachers", "norms", "signs"))
    missed = points.isel(point=points["estimate"].to_numpy() < 1).sortby("estimate")
    counts = ", ".join(str(int(count)) for count in share["teachers"])
    head = f"With {counts} teachers at scale {scale_text(float(share['log_scale']))} "
    if not missed.sizes["point"]:
        return head + "every seed came to zero loss. "
    one = missed.isel(point=0)
    other = large["estimate"].sel({n: one[n].item() for n in ("teachers", "norms", "signs")})
    return (
        f"{head}all seeds came to zero loss in {points.sizes['point'] - missed.sizes['point']} of "
        f"{points.sizes['point']} settings; fewest, {float(one['estimate']):.0%} "
        f"[{float(one['low']):.0%}, {float(one['high']):.0%}], with {int(one['teachers'])} "
        f"({one['norms'].item()} norms, {one['signs'].item()}; {float(other):.0%} at scale "
        f"{scale_text(float(large['log_scale']))}). "
    )


def _stuck(found: dict) -> str:
    share = found["plateau"]["estimate"]
    ratio = found["stuck"]["estimate"].to_numpy()
    if not np.isfinite(ratio).any():
        return "None stayed at a plateau. "
    return (
        f"Up to {float(share.max()):.0%} in a setting stayed at a plateau, a median loss of "
        f"{_range(ratio)} times that without the smallest teacher; any others are slow. "
    )


def _directions(found: dict) -> str:
    ratio = found["ratio"]["estimate"].to_numpy()
    few = float(found["alike"]["estimate"].min())
    return (
        "The squared norm over that of one direction a teacher has medians of "
        f"{_range(ratio)}"
        + (
            ", nearly the same in all networks. "
            if few >= 0.9
            else f", within {SAME:.0%} of 1 in as few as {few:.0%} of networks: others have "
            "not one direction a teacher. "
        )
    )


def _plateau(found: dict, seen: xr.Dataset) -> str:
    over = (found["slope"]["estimate"] / _own_rate(seen)).sel(norms="graded").to_numpy()
    if not np.isfinite(over).any():
        return "With graded norms most seeds stay at a plateau as the scale falls. "
    return (
        "With graded norms the median time to 1% of the loss grows with ln(1/scale) at "
        f"{_range(over)} times the rate of a smallest teacher learnt by its own neurons. "
    )


def _range(values: np.ndarray) -> str:
    low, high = f"{np.nanmin(values):.2f}", f"{np.nanmax(values):.2f}"
    return low if low == high else f"{low} to {high}"


def _wide_text(wide: xr.Dataset) -> str:
    first, last = wide.isel(width=0), wide.isel(width=-1)
    return " and ".join(
        f"{float(one['estimate']):.0%} [{float(one['low']):.0%}, {float(one['high']):.0%}] with "
        f"{int(one['width'])}"
        for one in (first, last)
    )


QUESTION = Experiment(
    "teachers",
    "several teachers: zero loss, number of directions and plateaus",
    lambda workspace: findings(
        {
            name: workspace.study(name, study)
            for name, study in studies(workspace.quick, workspace.seed).items()
        }
    ),
    teachers_figure,
)

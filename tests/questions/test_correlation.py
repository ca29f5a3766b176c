"""The question about correlated inputs, from studies made up so that the answer is known."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import relu_flow as rf
from relu_flow.experiment.experiment import run_experiments
from relu_flow.questions.correlation import study as correlation
from relu_flow.study.declare.plan import Plan

SEEDS = 20
LOG_SCALES = np.log([1e-3, 1e-6, 1e-12])
MUS = np.array([0.0, *10.0 ** (np.arange(-20, 0) / 2), 0.9])
SHIFTS = np.tile([-0.5, 0.5], SEEDS // 2)  # decades, of the seeds' thresholds
LEAST = np.array([-0.5, 0.0, 0.5])
RATE = 1.25  # of the time to align


def tree(inside, time, **axes):
    """Return a collected study from the fraction in cones and the time to align."""
    coords = {"log_scale": LOG_SCALES, **axes, "seed": np.arange(SEEDS)}
    dims = list(coords)
    inside, time = (np.broadcast_to(x, [len(v) for v in coords.values()]) for x in (inside, time))
    whole = np.ones_like(inside)
    times = np.stack([20 * whole, 30 * whole, time], axis=-1)
    ends = {"fraction_in_cone": inside, "effective_rank": 3 - 2 * inside, "stable_rank": whole}
    runs = {"result": whole.astype(int) * 0, "end_time": 30 * whole, "switches": 7 * whole}
    return xr.DataTree.from_dict(
        {
            "/": xr.Dataset(coords=coords),
            "/runs": xr.Dataset({name: (dims, each) for name, each in runs.items()}),
            "/end": xr.Dataset({name: (dims, each) for name, each in ends.items()}),
            "/milestones": xr.Dataset(
                {"milestone_time": ([*dims, "milestone"], times)},
                coords={"milestone": ["drop", "learnt", "aligned"]},
            ),
        }
    )


def over_seeds(values):
    return xr.DataArray(values, {"seed": np.arange(SEEDS)}, "seed")


def made_up(power, straight=0.25):
    """Return studies in which pairs align from `scale**power`, half a decade up or down."""
    logs = power * LOG_SCALES[:, None] / math.log(10) + SHIFTS  # scale, seed
    aligned = np.log10(np.maximum(MUS, 1e-300))[:, None] >= logs[:, None, :] - 1e-9
    offsets = np.linspace(0, 1, SEEDS)
    with np.errstate(divide="ignore"):
        time = np.where(aligned, offsets - RATE * np.log(MUS)[:, None], np.inf)
    sets = np.where(LEAST >= 0, 1.0, 0.5)[:, None]
    trees = {
        "pairs": tree(np.where(aligned, 1.0, 0.25), time, mu=MUS),
        "orthogonal pairs": tree(np.linspace(straight - 0.1, straight + 0.1, SEEDS), np.inf),
        "classes": tree(sets, np.where(sets == 1, 2.0, np.inf), mu=LEAST),
        "orthogonal classes": tree(0.4, np.inf),
    }
    theory = {
        "pairs": xr.DataArray(1e3 / MUS[1:], {"mu": MUS[1:]}, "mu"),
        "orthogonal pairs": over_seeds(np.where(np.arange(SEEDS) % 2, 0.2, 0.4)),
        "classes": xr.DataArray([17.0], {"mu": [0.5]}, "mu"),
        "orthogonal classes": over_seeds(np.full(SEEDS, 0.5)),
        "shared": over_seeds(np.arange(SEEDS) < SEEDS),
    }
    return trees, theory


@pytest.fixture(scope="module")
def halved():
    return correlation.findings(*made_up(0.5))


def test_power_of_the_threshold_and_slope_of_the_time(halved):
    rows = {row.quantity: row for row in halved.rows}
    power = rows["power of the scale that this cosine goes with"]
    np.testing.assert_allclose(power.measured, 0.5, atol=1e-9)
    np.testing.assert_allclose(power.bound, 1 / math.sqrt(2))
    slope = rows["growth of the time to align with ln(cosine)"]
    np.testing.assert_allclose(slope.measured, -RATE, atol=1e-6)
    # Thresholds of the seeds at 1e-6 are 10**-3.5 and 10**-2.5, half each.
    least = next(r for q, r in rows.items() if q.startswith("smallest cosine") and "1e-06" in q)
    np.testing.assert_allclose(least.measured, (10**-3.5 + 10**-2.5) / 2)
    np.testing.assert_allclose((least.low, least.high), (10**-3.5, 10**-2.5))


def test_shares_ranks_and_censored_times(halved):
    rows = {row.quantity: row for row in halved.rows}
    share = "pairs: seeds with all neurons in cones at the end: scale 1e-06, mu"
    assert [rows[f"{share} {mu}"].measured for mu in ("0.000316228", "0.001")] == [0.5, 0.5]
    assert rows[f"{share} 0.01"].measured == 1.0
    time = rows["pairs: median time to align: scale 1e-12, mu 0.1"]
    np.testing.assert_allclose(time.measured, 9 / 19 + RATE * math.log(10))
    np.testing.assert_allclose(time.bound, 1e4)
    assert rows["pairs: median time to align: scale 1e-12, mu 1e-10"].measured == math.inf
    straight = rows[
        "orthogonal pairs: fraction of living neurons in cones at the end, mean over seeds: "
        "scale 1e-12"
    ]
    np.testing.assert_allclose((straight.measured, straight.bound), (0.25, 0.3))
    assert rows["classes: median effective rank: scale 1e-12, mu -0.5"].measured == 2.0


def test_a_power_that_is_derived_is_told_from_another(halved):
    assert "to the power 0.500" in halved.paragraph
    assert "0.207 off the 0.707" in halved.paragraph
    assert "every seed aligned from a smallest cosine of 0 up" in halved.paragraph
    assert "which agrees" in halved.paragraph
    trees, theory = made_up(correlation.POWER, straight=0.6)
    theory["shared"] = over_seeds(np.arange(SEEDS) < 15)  # the others have no say
    close = correlation.findings(trees, theory)
    assert "which differs" in close.paragraph
    least = correlation.thresholds(correlation._seen(trees["pairs"])).isel(seed=slice(15))
    x = np.broadcast_to(LOG_SCALES[:, None], (3, 15)).ravel()
    y = np.log(least.transpose("log_scale", "seed").to_numpy()).ravel()
    fitted = np.polyfit(x, y, 1)[0]
    row = next(row for row in close.rows if row.quantity.startswith("power of the scale"))
    assert row.measured == pytest.approx(fitted, rel=1e-9)
    assert 80 <= len(halved.paragraph.split()) <= 180


def test_a_threshold_is_above_every_cosine_that_fails():
    mus, runs = [0.0, 1e-3, 1e-2, 1e-1], np.array([[1, 1, 0, 1], [1, 1, 1, 1], [0, 1, 1, 0]])
    seen = xr.Dataset({"all": (("seed", "mu"), runs.astype(float))}, {"mu": mus})
    np.testing.assert_array_equal(correlation.thresholds(seen), [1e-1, 1e-3, np.inf])


def test_nothing_reached_is_said():
    trees, theory = made_up(0.5)
    trees["pairs"] = tree(0.25, np.inf, mu=MUS)
    trees["classes"] = tree(0.25, np.inf, mu=LEAST)
    found = correlation.findings(trees, theory)
    assert "at fewer than two scales" in found.paragraph
    assert "not every seed aligned even at the largest" in found.paragraph
    rows = {row.quantity: row for row in found.rows}
    assert rows["power of the scale that this cosine goes with"].measured is None


def test_who_can_be_in_a_cone_with_orthogonal_inputs():
    problem = rf.Problem(jnp.eye(3), jnp.array([1.0, 1.0, -1.0]), rf.ExponentialLoss())
    inner = jnp.array(
        [[1.0, 1, 1], [1, -1, 1], [-1, -1, 1], [1, 1, -1], [1, 1, 1], [1, 1, -1], [-1, -1, -1]]
    )
    outer = jnp.array([1.0, 1, 1, 1, -1, -1, -1])
    # Of one sign: all of its class, half, none, all. Of the other: all, none, none.
    assert correlation._could(problem, rf.TwoLayerReLU(inner, outer, 0.0)) == 3 / 4


@pytest.mark.parametrize("quick", [True, False])
def test_the_studies_can_be_planned(quick):
    for name, study in correlation.studies(quick, 3).items():
        plan = Plan.of(study)
        assert plan.size == len(plan.cases) * (12 if quick else 50), name
        assert study.root == 3


@pytest.mark.slow
def test_the_quick_form_runs(tmp_path):
    question = correlation.QUESTION
    run_experiments("questions", (question,), tmp_path, quick=True, quiet=True)
    folder = tmp_path / "correlation"
    assert {"found.txt", "table.csv", "figure.png"} <= {path.name for path in folder.iterdir()}

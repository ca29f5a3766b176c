"""The four phases as an experiment: run once in its quick form, kept, and read back."""

import json

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from relu_flow.experiment.experiment import run_experiments
from relu_flow.papers.multi_phase.experiments import EXPERIMENTS
from relu_flow.papers.multi_phase.experiments.setting import fixed_output

HEAVY, ANGLE, POSITIVE, NEGATIVE = 4, 0.3, 19 / 60, 4 / 60


def planar(heavy=HEAVY, angle=ANGLE):
    """Integrate the planar ODE by scipy.

    Returns when f_- turns, f_- = 0, z = 0 and A/B = cos; and the state as a function of time up
    to z = 0, whence cos B/A, the weight of a negative neuron's slide.
    """
    share, cosine, sine2 = heavy / (1 + heavy), np.cos(angle), np.sin(angle) ** 2
    pulls = lambda y: (share * np.exp(-y[0]), (1 - share) * np.exp(y[1]))

    def approach(t, y):
        a, b = pulls(y)
        lean = POSITIVE * (a * cosine - b)
        return [POSITIVE * (a - b * cosine), lean - NEGATIVE * b * sine2, lean]

    def both_slide(t, y):
        a, b = pulls(y)
        return [POSITIVE * a * sine2, -NEGATIVE * b * sine2]

    turn = lambda t, y: approach(t, y)[1]
    fitted = lambda t, y: y[1] if t > 1 else 1.0
    slide = lambda t, y: y[2] if t > 1 else 1.0
    slide.terminal = True  # pyright: ignore[reportFunctionMemberAccess]
    leave = lambda t, y: pulls(y)[0] / pulls(y)[1] - cosine
    solve = lambda field, t0, y, events: solve_ivp(
        field, (t0, 2000), y, events=events, dense_output=True, rtol=1e-11, atol=1e-13
    )
    first = solve(approach, 0, [0, 0, 0], [turn, fitted, slide])
    start, state = first.t_events[2][0], first.y_events[2][0]
    second = solve(both_slide, start, state[:2], [leave])
    times = [first.t_events[0][0], first.t_events[1][0], start, second.t_events[0][0]]

    def weight(t):
        a, b = pulls(first.sol(t))
        return cosine * b / a

    return times, weight


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Return what the lightest experiment finds, how to run it again, and where it is written."""
    out = tmp_path_factory.mktemp("multi-phase")
    run = lambda: run_experiments(
        "multi-phase", EXPERIMENTS, out, only=("angles",), quick=True, quiet=True
    )["angles"]
    return run(), run, out / "angles"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Return what the quick form of the four phases finds."""
    out = tmp_path_factory.mktemp("multi-phase")
    only = ("fixed-output",)
    return run_experiments("multi-phase", EXPERIMENTS, out, only=only, quick=True, quiet=True)[
        "fixed-output"
    ]


def test_neurons_that_live_are_as_many_as_asked_for():
    """Assert numbers and order, by a step of the flow's own rule of who is pushed where."""
    network = fixed_output(3, positives=2, negatives=3, width=9).network
    assert network.width == 9
    assert list(np.asarray(network.outer_weight)[:5]) == [1, 1, -1, -1, -1]
    # Descent with tiny steps at f = 0: who is active on nothing in the end is dead.
    inputs = np.array([[np.cos(ANGLE / 2), s * np.sin(ANGLE / 2)] for s in (1, -1)])
    pulls = np.array([HEAVY, -1.0])
    weights = np.array(network.inner_weight)
    for _ in range(20000):
        drive = ((weights @ inputs.T > 0) * pulls) @ inputs
        weights = weights + 1e-3 * np.asarray(network.outer_weight)[:, None] * drive
    alive = np.any(weights @ inputs.T > 1e-2, axis=1)
    assert list(alive) == [True] * 5 + [False] * 4


# The experiment compiles programs of its own, for a minute; that results are kept is also tested on
# an experiment of the first paper.
@pytest.mark.slow
def test_times_at_several_angles_are_those_of_the_planar_model(kept):
    """Assert escape and t_3 of the flow against an integration of the planar ODE by scipy."""
    for heavy, angle, *times in kept[0].data["flow"].to_numpy():
        np.testing.assert_allclose(times, planar(heavy, angle)[0][1:3], rtol=1e-4)


@pytest.mark.slow  # as above
def test_second_run_keeps_what_is_there(kept, capsys):
    """Assert that nothing is solved again: the same numbers, data file untouched."""
    first, run, folder = kept
    stamp = (folder / "data.nc").stat().st_mtime_ns
    assert json.loads((folder / "done.json").read_text())["quick"] is True
    again = run()
    assert "kept from before" in capsys.readouterr().out
    assert (folder / "data.nc").stat().st_mtime_ns == stamp
    assert again.rows == first.rows
    np.testing.assert_array_equal(again.data["flow"], first.data["flow"])
    assert (folder / "figure.png").stat().st_size > 20_000
    assert not list(folder.glob("*.checkpoint"))


@pytest.mark.slow
def test_times_are_those_of_the_planar_model(found):
    """Assert the ends of four phases against an integration of the planar ODE by scipy."""
    data = found.data
    times = dict(zip(data["boundary"].to_numpy(), data["boundary_time"].to_numpy(), strict=True))
    names = ("saddle to plateau", "plateau", "escape", "deactivated")
    measured = [times[f"end of {name}"] for name in names]
    np.testing.assert_allclose(measured, planar()[0], rtol=1e-4)
    errors = data["boundary_error"].to_numpy()[:5]
    assert np.all(errors < 1e-9 * np.asarray([times["end of condensation"], *measured]))
    assert np.isinf(times["end of directional convergence"])


@pytest.mark.slow
def test_table_has_derived_numbers_and_no_violation(found):
    """Assert rows known from other computations, and that no claim is violated."""
    rows = {row.quantity: row for row in found.rows}
    np.testing.assert_allclose(
        rows["slope of exp(f+) while both slide"].measured, 0.022124, rtol=1e-4
    )
    np.testing.assert_allclose(
        rows["slope of exp(-f-) while both slide"].measured, 0.0011644, rtol=1e-4
    )
    np.testing.assert_allclose(rows["A/B, t = 500"].measured, 0.8288, atol=1e-4)
    weight = planar()[1]
    shares = [rows[f"weight of x+ for negatives, t = {t}"].measured for t in (20, 100)]
    np.testing.assert_allclose(shares, [weight(20.0), weight(100.0)], rtol=1e-5)
    duty = 0.9465  # of descent with small steps at t = 100, seen apart from this program
    np.testing.assert_allclose(shares[1], duty, atol=1e-4)
    assert sum("holds" in row.note for row in rows.values()) > 20
    assert not any("VIOLATED" in row.note for row in rows.values())

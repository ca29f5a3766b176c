"""The four phases as an experiment: run once in its quick form, kept, and read back."""

import json

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from relu_flow.reproduce.experiment import run_experiments
from relu_flow.reproduce.multi_phase import EXPERIMENTS
from relu_flow.reproduce.multi_phase_setting import fixed_output

HEAVY, ANGLE, POSITIVE, NEGATIVE = 4, 0.3, 19 / 60, 4 / 60
COSINE = np.cos(ANGLE)


def planar_times():
    """Return when f_- turns, f_- = 0, z = 0 and A/B = cos, of the planar ODE by scipy."""
    share = HEAVY / (1 + HEAVY)
    pulls = lambda y: (share * np.exp(-y[0]), (1 - share) * np.exp(y[1]))

    def approach(t, y):
        a, b = pulls(y)
        lean = POSITIVE * (a * COSINE - b)
        return [POSITIVE * (a - b * COSINE), lean - NEGATIVE * b * np.sin(ANGLE) ** 2, lean]

    def both_slide(t, y):
        a, b = pulls(y)
        speed = np.sin(ANGLE) ** 2
        return [POSITIVE * a * speed, -NEGATIVE * b * speed]

    turn = lambda t, y: approach(t, y)[1]
    fitted = lambda t, y: y[1] if t > 1 else 1.0
    slide = lambda t, y: y[2] if t > 1 else 1.0
    slide.terminal = True
    leave = lambda t, y: pulls(y)[0] / pulls(y)[1] - COSINE
    tight = {"rtol": 1e-11, "atol": 1e-13}
    first = solve_ivp(approach, (0, 400), [0, 0, 0], events=[turn, fitted, slide], **tight)
    start, state = first.t_events[2][0], first.y_events[2][0]
    second = solve_ivp(both_slide, (start, 400), state[:2], events=[leave], **tight)
    return [first.t_events[0][0], first.t_events[1][0], start, second.t_events[0][0]]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Return what the quick form of the first experiment finds, and where it is written."""
    out = tmp_path_factory.mktemp("multi-phase")
    run = lambda: run_experiments(
        "multi-phase", EXPERIMENTS, out, only=("fixed-output",), quick=True, quiet=True
    )["fixed-output"]
    return run(), run, out / "fixed-output"


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


def test_times_are_those_of_the_planar_model(found):
    """Assert the ends of four phases against an integration of the planar ODE by scipy."""
    data = found[0].data
    times = dict(zip(data["boundary"].to_numpy(), data["boundary_time"].to_numpy(), strict=True))
    names = ("saddle to plateau", "plateau", "escape", "deactivated")
    measured = [times[f"end of {name}"] for name in names]
    np.testing.assert_allclose(measured, planar_times(), rtol=1e-4)
    errors = data["boundary_error"].to_numpy()[:5]
    assert np.all(errors < 1e-9 * np.asarray([times["end of condensation"], *measured]))
    assert np.isinf(times["end of directional convergence"])


def test_table_has_derived_numbers_and_no_violation(found):
    """Assert rows known from other computations, and that no claim is violated."""
    rows = {row.quantity: row for row in found[0].rows}
    np.testing.assert_allclose(
        rows["slope of exp(f+) while both slide"].measured, 0.022124, rtol=1e-4
    )
    np.testing.assert_allclose(
        rows["slope of exp(-f-) while both slide"].measured, 0.0011644, rtol=1e-4
    )
    np.testing.assert_allclose(rows["A/B, t = 500"].measured, 0.8288, atol=1e-4)
    # Duty cycles of descent with small steps.
    for t, duty in ((20, 0.937), (100, 0.9465)):
        np.testing.assert_allclose(
            rows[f"weight of x+ for negatives, t = {t}"].measured, duty, atol=3e-4
        )
    assert sum("holds" in row.note for row in rows.values()) > 20
    assert not any("VIOLATED" in row.note for row in rows.values())


def test_second_run_keeps_what_is_there(found, capsys):
    """Assert that nothing is solved again: the same numbers, data file untouched."""
    first, run, folder = found
    stamp = (folder / "data.nc").stat().st_mtime_ns
    assert json.loads((folder / "done.json").read_text())["quick"] is True
    again = run()
    assert "kept from before" in capsys.readouterr().out
    assert (folder / "data.nc").stat().st_mtime_ns == stamp
    assert again.rows == first.rows
    np.testing.assert_array_equal(again.data["plus"], first.data["plus"])
    assert (folder / "figure.png").stat().st_size > 50_000
    assert not list(folder.glob("*.checkpoint"))

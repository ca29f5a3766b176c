"""The solver against trajectories of an independent program with 40 or 50 digits."""

import pytest

import relu_flow as rf

from . import reference


@pytest.mark.parametrize("name", reference.NAMES)
def test_reference_case(name):
    """Assert that switches, their times and the states are those of the reference."""
    case = reference.load(name)
    problem, network = reference.build(case)
    trajectory = rf.solve(
        problem, network, case["t_end"], ts=reference.sample_times(case), rtol=1e-12
    )
    error = reference.worst_time_error(case, trajectory)
    assert error <= reference.tolerance(case, "event_time", 1e-12)
    for quantity, error in reference.state_errors(case, trajectory, problem).items():
        assert error <= reference.tolerance(case, quantity, 1e-10), quantity

"""What is printed of a result: made by hand, so that every number is known."""

import jax
import jax.numpy as jnp
import pytest

import relu_flow as rf
from relu_flow.flow.trajectory import Crossing

# Bytes: 16 times, 192 networks, 72 switches, 8 sides, 16 milestones, 44 counts, 4 result.
ONE = """Trajectory: successful
  network    2 neurons, 3 features, 4 samples, float64
  method     Taylor
  time       up to 8
  kept       2 networks, 1 to 8
  steps      5 steps, 2 by collocation, 1 in closed form, 1 cut short at a switch, 7 evaluations
  switches   3: 1 activate, 1 deactivate, 1 slide enter, 2 grazes
  milestones half at 2.5, tenth not reached
  settled    from 6 on
  memory     360 B"""
TWO = """Trajectory: 1 successful, 1 max_steps_reached
  network    2 runs, each 2 neurons, 3 features, 4 samples, float64
  method     Taylor
  time       up to 4 to 8
  kept       2 networks, 1 to 8
  steps      5 steps, 2 by collocation, 1 in closed form, 1 cut short at a switch, 7 evaluations
  switches   3 a run: 2 activate, 2 deactivate, 2 slide enter, 2 grazes in all
  milestones half at 2.5 (1 not reached), tenth not reached
  memory     720 B"""


def trajectory(half=2.5, settled=6.0, time=8.0, code="successful"):
    counts = {"steps": 5, "stiff_steps": 2, "quiet_steps": 1, "truncated_steps": 1}
    counts |= {"evaluations": 7, "grazes": 2}
    counts |= dict.fromkeys(("ties", "repels", "vanished"), 0)
    stats = {name: jnp.asarray(count, jnp.int32) for name, count in counts.items()}
    stats |= {"settled": jnp.asarray(settled), "time": jnp.asarray(time)}
    network = rf.TwoLayerReLU(jnp.ones((2, 3)), jnp.ones(2), 0.0)
    return rf.Trajectory(
        ts=jnp.array([1.0, 8.0]),
        networks=jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), network),
        switches=rf.SwitchLog(
            jnp.array([0.5, 1.0, 2.0, jnp.inf]),
            jnp.array([0, 1, 1, -1], jnp.int32),
            jnp.array([0, 2, 3, -1], jnp.int32),
            jnp.array([0, 1, 2, -1], jnp.int8),
            jnp.asarray(3, jnp.int32),
        ),
        initial_sides=jnp.zeros((2, 4), jnp.int8),
        milestones={
            "half": Crossing(jnp.asarray(half)),
            "tenth": Crossing(jnp.asarray(jnp.inf)),
        },
        result=getattr(rf.RESULTS, code),
        stats=stats,
        method="Taylor",
    )


def stacked():
    other = trajectory(jnp.inf, jnp.inf, 4.0, "max_steps_reached")
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), trajectory(), other)


def test_a_trajectory_prints_a_summary():
    assert str(trajectory()) == ONE
    assert repr(trajectory()) == "Trajectory(successful; 2 neurons, 3 switches)"


def test_many_runs_print_their_ranges():
    assert str(stacked()) == TWO
    ended = "1 successful, 1 max_steps_reached"
    assert repr(stacked()) == f"Trajectory({ended}; 2 runs of 2 neurons, 3 switches)"


def test_under_a_transformation_shapes_are_printed():
    seen = []

    @jax.jit
    def inside(run):
        seen.append((str(run), repr(run)))
        return run.ts

    inside(trajectory())
    assert all("ts=f64[2]" in text for text in seen[0])


@pytest.mark.parametrize("combine", ["grid", "paired"])
def test_a_study_prints_what_it_is(combine):
    study = rf.Study(
        data={"family": "orthogonally_separable", "samples": 4, "features": 3, "mu": [0.3, 0.5]},
        seeds=7, widths=[5, 8], scales=[0.1], t1=4.0, combine=combine, name="mine",
        milestones=[{"observable": "loss", "level": 0.5}], until="loss",
    )  # fmt: skip
    text = str(study)
    runs = {"grid": 28, "paired": 14}[combine]
    assert text.startswith(f"Study mine ({study.hash[:12]})\n  runs       {runs}: 7 seed x ")
    assert "t1 4, or when loss is reached" in text
    assert "samples 4" in text
    assert repr(study) == f"Study('mine', {study.hash[:12]})"

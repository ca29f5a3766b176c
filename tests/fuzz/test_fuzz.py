"""Random problems against an independent event solver: switches, their times, states, codes."""

import functools

import numpy as np
import pytest

from . import campaign, compare, draws, invariants, product

SEEDS = 2
OTHER_WORDS = (("generic", 100), ("zero_targets", 101), ("unbalanced", 102), ("twins", 103))


def describe(lines):
    """Return what is wrong, a line a problem."""
    wrong = [line for line in lines if line["word"] == "wrong"]
    return "\n".join(f"{line['case']}: {line['differences']} {line['code']}" for line in wrong)


@pytest.mark.parametrize("kind", draws.KINDS)
@pytest.mark.parametrize("loss", draws.LOSSES)
@pytest.mark.parametrize("train", draws.TRAINS)
def test_random_problems(train, loss, kind):
    """Assert that runs are those of the independent solver, as far as it can tell."""
    lines = [campaign.examine((kind, seed, loss, train, "sum")) for seed in range(SEEDS)]
    assert not describe(lines)


@pytest.mark.parametrize(
    "case",
    [
        ("coplanar", 2, "square", "inner", "sum"),
        ("generic", 1, "logistic", "inner", "mean"),
        ("opposite", 6, "square", "inner", "sum"),
        ("repeated", 5, "exp", "inner", "mean"),
        ("twins", 3, "logistic", "inner", "sum"),
    ],
)
def test_zero_that_must_be_left(case):
    """Assert that neurons that came to zero leave it when it leaves their Clarke set."""
    line = campaign.examine(case)
    assert (line["word"], line["reason"]) == ("right", ""), line


@pytest.mark.parametrize(
    ("case", "word"),
    [
        # The end of a slide bends the outputs of all samples of its hyperplane: a bound that knew
        # of the representative's alone let the correction move the end by 1.5e-8.
        (("coplanar", 12, "square", "inner", "sum"), "right"),
        # Who leaves zero along a hyperplane of opposite inputs starts on one side of each.
        (("opposite", 40, "exp", "inner", "sum"), "refused"),
        # Pulls of equal inputs cancel in a drive, so that their rounding drives: what came of it in
        # the pulls' derivatives was taken for more, and for a switch.
        (("ulp", 37, "exp", "inner", "mean"), "right"),
        # Slides that another neuron's switch ends: at once where their weight was 1e-16, and not
        # 4e-7 later where the step ended; not at all where a correction had spread the kink.
        (("zero_targets", 36, "square", "both", "mean"), "right"),
        (("grid", 34, "exp", "both", "mean"), "refused"),
        # A neuron that hardly moves crosses hyperplanes, wakes, and grows ten thousandfold within
        # one step: what it put out was not in the pulls, for its kinks were negligible.
        (("opposite", 81, "square", "both", "sum"), "right"),
        # Four hyperplanes of rank two meet in a line: mended in their order, modes went round.
        (("grid", 112, "logistic", "inner", "mean"), "right"),
        # The comparison: inner weights that decay beside an outer one, to less than it resolves.
        (("xor", 108, "exp", "both", "mean"), "refused"),
        (("xor", 29, "square", "inner", "mean"), "right"),
        # The independent solver: a neuron that is at zero twice, and one that is on a third
        # hyperplane where two others meet.
        (("grid", 61, "square", "inner", "mean"), "right"),
        (("xor", 63, "exp", "inner", "sum"), "refused"),
    ],
)
def test_once_wrong(case, word):
    """Assert that problems that campaigns found wrong are right, and laws hold to their ends."""
    line = campaign.examine(case)
    assert line["word"] == word, line


def test_most_problems_are_decided():
    """Assert that the comparison is not empty: few problems are refused, hardly any early."""
    refused = 0
    for kind in draws.KINDS:
        problem = draws.draw(kind, 0, "exp", "both")
        refused += compare.solve(problem).valid < 0.5 * problem["t_end"]
    assert refused <= 4


@functools.cache
def known(kind, seed, loss, train):
    """Return a problem, its times and the independent solver's solution."""
    problem = draws.draw(kind, seed, loss, train)
    ts = campaign.times(problem)
    return problem, ts, compare.solve(problem, ts)


CHANGES = {
    "neurons and samples permuted": lambda p, ts, random: invariants.permuted(p, ts, random),
    "axes permuted, some turned round": lambda p, ts, random: invariants.turned(
        p, ts, invariants.signed_permutation(random, draws.FEATURES)
    ),
    "rotated": lambda p, ts, random: invariants.turned(
        p, ts, invariants.rotation(random, draws.FEATURES)
    ),
    "inputs scaled": lambda p, ts, random: invariants.scaled(p, ts),
    "in two runs": lambda p, ts, random: invariants.split(p, ts),
    "rtol 1e-13": lambda p, ts, random: product.run(p, ts, 1e-13),
    "rtol 1e-11": lambda p, ts, random: product.run(p, ts, 1e-11),
    "rtol 1e-10": lambda p, ts, random: product.run(p, ts, 1e-10),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("train", draws.TRAINS)
def test_the_same_solution_in_other_words(train, change):
    """Assert that a changed problem's run, put back, is still the independent solver's."""
    found = []
    for kind, seed in OTHER_WORDS:
        for loss in draws.LOSSES:
            problem, ts, solution = known(kind, seed, loss, train)
            run = CHANGES[change](problem, ts, np.random.default_rng(seed))
            verdict = compare.judge(problem, run, ts, solution) if run is not None else None
            if verdict is not None and verdict.word == "wrong":
                found.append((kind, seed, loss, verdict.differences[:3]))
    assert not found


def test_without_times():
    """Assert that a run that is asked for its end alone is the same: its steps are others."""
    found = []
    for seed in range(12):
        problem = draws.draw("generic", 200 + seed, "square", "inner")
        end = np.array([problem["t_end"]])
        verdict = compare.judge(problem, product.run(problem, None), end)
        if verdict.word == "wrong":
            found.append((seed, verdict.differences[:3]))
    assert not found


@pytest.mark.parametrize(
    "case",
    [
        # Constant pulls make series of fixed outer weights all but end: they reach 1e19 times as
        # far as anything happens in, and in such a unit the next step was not a number.
        ("repeated", 2, "square", "inner", "sum"),
        # Driven onto a hyperplane beyond which pulls cancel exactly, a neuron comes to rest there.
        ("coplanar", 0, "exp", "both", "sum"),
    ],
)
def test_at_a_vanishing_scale(case):
    """Assert that runs are right where outputs are far below the rounding of targets."""
    problem = {**draws.draw(*case), "log_scale": -50.0, "t_end": 6.0}
    ts = campaign.times(problem)
    run = product.run(problem, ts)
    verdict = compare.judge(problem, run, ts)
    assert not run.code
    assert verdict.word != "wrong", verdict
    assert not list(invariants.violations(problem, run, ts))


@pytest.mark.parametrize("loss", draws.LOSSES)
@pytest.mark.parametrize("train", draws.TRAINS)
def test_velocities_are_the_smallest_and_the_loss_falls_by_their_square(train, loss):
    found = []
    for seed in range(6):
        problem = draws.draw("generic", 300 + seed, loss, train)
        middle = problem["t_end"] * np.array([0.05, 0.3, 0.6])
        ts = np.stack([middle, middle * (1 + 1e-5)], axis=1).reshape(-1)
        run = product.run(problem, ts)
        if not run.code:
            found += [(seed, line) for line in invariants.dissipation(problem, run, ts)]
    assert not found


@pytest.mark.fuzz
def test_thousands_of_random_problems(tmp_path):
    """Assert the same of ten seeds of everything, both reductions included."""
    count = 10 * len(draws.KINDS) * len(draws.LOSSES) * len(draws.TRAINS) * 2
    path = tmp_path / "fuzz.jsonl"
    campaign.run(campaign.cases(count, reductions=("sum", "mean")), path)
    lines = campaign.read(path)
    assert len(lines) == count
    assert not describe(lines)

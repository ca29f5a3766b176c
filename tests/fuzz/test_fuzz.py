"""Random problems against an independent event solver: switches, their times, states, codes."""

import pytest

from . import campaign, draws

SEEDS = 4


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


def test_most_problems_are_decided():
    """Assert that the comparison is not empty: few problems are refused, hardly any early."""
    refused = 0
    for kind in draws.KINDS:
        problem = draws.draw(kind, 0, "exp", "both")
        refused += campaign.compare.solve(problem).valid < 0.5 * problem["t_end"]
    assert refused <= 4


@pytest.mark.fuzz
def test_thousands_of_random_problems(tmp_path):
    """Assert the same of ten seeds of everything, both reductions included."""
    count = 10 * len(draws.KINDS) * len(draws.LOSSES) * len(draws.TRAINS) * 2
    path = tmp_path / "fuzz.jsonl"
    campaign.run(campaign.cases(count, reductions=("sum", "mean")), path)
    lines = campaign.read(path)
    assert len(lines) == count
    assert not describe(lines)

"""How far a study has come, from the receipts of its chunks."""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class StudyProgress:
    """Counts of a study on its way; updated after every chunk.

    Attributes:
        total: Runs of the study, or of this shard.
        done: Runs done, those of earlier sessions included.
        fresh: Runs done in this session.
        switches: Switches of the runs done.
        results: Runs by how they ended.
        broken: Chunks that raised in this session, and why.
        damaged: Chunks that were found damaged and are done again.
    """

    total: int
    done: int = 0
    fresh: int = 0
    switches: int = 0
    results: Counter[str] = field(default_factory=Counter)
    broken: dict[int, str] = field(default_factory=dict)
    damaged: list[int] = field(default_factory=list)
    _start: float = field(default_factory=time.monotonic)

    def add(self, receipt: dict[str, Any], *, fresh: bool = True) -> None:
        """Count a chunk."""
        self.done += receipt["runs"]
        self.fresh += receipt["runs"] if fresh else 0
        self.switches += receipt["switches"]
        self.results.update(receipt["results"])

    @property
    def failures(self) -> int:
        """Runs that ended early."""
        return sum(count for name, count in self.results.items() if name != "successful")

    @property
    def seconds(self) -> float:
        """Seconds since the session began."""
        return time.monotonic() - self._start

    @property
    def rate(self) -> float:
        """Runs a second in this session."""
        return self.fresh / max(self.seconds, 1e-9)

    @property
    def left(self) -> float:
        """Seconds until all is done at this rate; `inf` if nothing is known."""
        return (self.total - self.done) / self.rate if self.fresh else float("inf")

    def line(self) -> str:
        """Return one line for people."""
        left = f"{self.left:.0f} s left" if self.fresh else "compiling"
        return (
            f"{self.done}/{self.total} runs, {self.rate:.1f} a second, {left}, "
            f"{self.failures} failures, {self.switches} switches"
        )

    def endings(self) -> str:
        """Return how the runs ended."""
        return ", ".join(f"{count} {name}" for name, count in sorted(self.results.items()))

"""Progress of a long run or of a study: a bar or line on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..flow.pieces.host_loop import Progress as FlowProgress
from ..study.run.progress import StudyProgress

_PAUSE = 10.0  # seconds between a study's lines where the output is no terminal


class Watcher:
    """Shows how far a run has come. To be entered, and passed to `solve` as `progress`.

    Args:
        end: The end of the run, in gradient-flow time.
        quiet: Show nothing.
        name: What is run, before every line.
    """

    def __init__(self, end: float, quiet: bool, name: str = ""):
        self._console = console = Console(stderr=True)
        self.compile_seconds = 0.0
        self._plain = not quiet and not console.is_terminal
        self._said = 0.0
        self._name = f"{name}: " if name else ""
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("t = {task.completed:.3g}"),
            TimeElapsedColumn(), TimeRemainingColumn(), console=console,
            disable=quiet or self._plain,
        )  # fmt: skip
        self._task = self._bar.add_task(f"{self._name}compiling", total=end)

    def __enter__(self) -> "Watcher":
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def __call__(self, now: FlowProgress) -> None:
        """Show the present state; lines come every five seconds."""
        self.compile_seconds = now.compile_seconds
        text = f"{self._name}{now.steps} steps, {now.switches} switches, loss {now.loss:.4g}"
        self._bar.update(self._task, completed=now.t, description=text)
        if self._plain and (time.monotonic() - self._said > 5 or now.t >= now.t1):
            self._said = time.monotonic()
            self._console.print(f"{text}, t = {now.t:.4g} of {now.t1:g}", highlight=False)


class Meter:
    """Progress on a terminal: one line that changes; elsewhere a plain line now and then.

    Attributes:
        stream: Where to.
        name: What is run, before every line.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic, name: str = ""):
        self.stream, self._clock, self._next = stream, clock, 0.0
        self.name = name

    def __call__(self, state: StudyProgress) -> None:
        """Show how far it is."""
        line = f"{self.name}: {state.line()}" if self.name else state.line()
        if self.stream.isatty():
            self.stream.write("\r\x1b[K" + line)
            self.stream.flush()
        elif self._clock() >= self._next or state.done == state.total:
            self._next = self._clock() + _PAUSE
            self.stream.write(line + "\n")
            self.stream.flush()

    def end(self) -> None:
        """Leave the last line where it is."""
        if self.stream.isatty():
            self.stream.write("\n")

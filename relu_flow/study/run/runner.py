"""Running a study on this machine: threads that share compiled programs, and its devices.

JAX lets go of Python's lock while a program runs, and runs programs on threads of its own, by
default one a core: so that as many threads here keep all cores busy with one copy of each program.
(With `PJRT_NPROC=1` all programs would wait for one thread.) Chunks go to devices in turn.
"""

import abc
import os
import queue
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import jax

from ..declare.plan import Chunk, Plan
from ..declare.spec import Study
from .batch import Device, Programs
from .progress import StudyProgress
from .store import Store, StoreError
from .work import do_chunk, require_float64

Report = Callable[[StudyProgress], None]
Outcome = tuple[Chunk, dict | BaseException]


class AbstractExecutor(abc.ABC):
    """Does chunks, in any order, and yields what came of each: a receipt or an error."""

    @abc.abstractmethod
    def __call__(self, plan: Plan, store: Store, chunks: list[Chunk]) -> Iterable[Outcome]:
        """Do chunks."""


class Threads(AbstractExecutor):
    """Threads of this process.

    Attributes:
        workers: How many; a core each unless given, or one for each device if that is more.
    """

    def __init__(self, workers: int | None = None):
        if workers is not None and (not isinstance(workers, int) or workers < 1):
            raise ValueError(
                f"Argument `workers` must be a positive integer, but it is {workers!r}."
            )
        self.workers = workers

    def __call__(self, plan: Plan, store: Store, chunks: list[Chunk]) -> Iterable[Outcome]:
        """Do chunks; when the caller stops listening, no further one is begun."""
        require_float64()
        devices = jax.local_devices()
        workers = self.workers or max(_cores(), len(devices))
        programs, stop = Programs(plan), threading.Event()
        waiting: queue.SimpleQueue[Chunk] = queue.SimpleQueue()
        for chunk in chunks:
            waiting.put(chunk)
        outcomes: queue.Queue[Outcome] = queue.Queue()

        def work(device: Device) -> None:
            while not stop.is_set():
                try:
                    chunk = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    outcomes.put((chunk, do_chunk(programs, store, chunk, device)))
                except BaseException as error:
                    outcomes.put((chunk, error))

        threads = [
            threading.Thread(target=work, args=(devices[k % len(devices)],), daemon=True)
            for k in range(min(workers, len(chunks)))
        ]
        try:
            for thread in threads:
                thread.start()
            for _ in chunks:
                yield outcomes.get()
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def run_study(
    study: Study,
    out: str | Path,
    *,
    workers: int | None = None,
    executor: AbstractExecutor | None = None,
    shard: tuple[int, int] = (0, 1),
    progress: Report | None = None,
) -> StudyProgress:
    """Run what is missing of a study; give the same call again after any interruption.

    A run's numbers do not depend on the number of workers, on devices of one kind, nor on what
    was done before. A chunk that raises is noted in the store and the rest goes on; the next
    call tries it again.

    Args:
        study: The study.
        out: Its folder.
        workers: Threads of this process; a core each unless given.
        executor: Who does the work instead, such as `relu_flow.study.run.cluster.Dask`.
        shard: `(i, n)`: do only every n-th chunk, from chunk i.
        progress: Called after every chunk.

    Returns:
        What was done: counts, failures by code, and the chunks that raised.

    Raises:
        ValueError: If an argument is out of range, or the folder is another study's.
        StoreError: If the folder cannot be written.

    Example:
        >>> import tempfile, relu_flow as rf
        >>> from relu_flow.study.run.collect import collect
        >>> data = {"family": "orthogonal", "samples": 2, "features": 2}
        >>> study = rf.Study(data=data, seeds=3, widths=2, scales=1e-2, t1=5.0, batch=4)
        >>> folder = tempfile.mkdtemp()
        >>> rf.run_study(study, folder).endings()
        '3 successful'
        >>> _ = collect(folder)
        >>> rf.open_study(folder)["end"]["loss"].sizes["seed"]
        3
    """
    part, parts = shard
    if not 0 <= part < parts:
        raise ValueError(f"Argument `shard` must be (i, n) with 0 <= i < n, but it is {shard}.")
    plan = Plan.of(study)
    chunks = [chunk for chunk in plan.chunks if chunk.index % parts == part]
    store = Store.create(out, study)
    executor = Threads(workers) if executor is None else executor
    state = StudyProgress(sum(chunk.stop - chunk.start for chunk in chunks))
    done, state.damaged = store.sweep([chunk.index for chunk in chunks])
    for receipt in done.values():
        state.add(receipt, fresh=False)
    missing = [chunk for chunk in chunks if chunk.index not in done]
    if progress is not None:
        progress(state)
    for chunk, outcome in executor(plan, store, missing):
        if isinstance(outcome, StoreError | KeyboardInterrupt | SystemExit):
            raise outcome
        if isinstance(outcome, BaseException):
            store.fail(chunk.index, outcome)
            state.broken[chunk.index] = f"{type(outcome).__name__}: {outcome}"
        else:
            state.add(outcome)
        if progress is not None:
            progress(state)
    return state


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

"""Beyond one machine: Dask's workers, of this machine, of a scheduler, or of SLURM.

Workers get the study as text, write their chunks themselves and return receipts. They see the
store through a common file system.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..declare.plan import Chunk, Plan
from .runner import AbstractExecutor, Outcome
from .store import Store, StoreError
from .work import do_remotely

if TYPE_CHECKING:
    from distributed import Client, Future, as_completed

_PAUSE, _LOOK = 0.05, 1.0  # seconds between looks at what has finished, and at the workers

# Set before JAX starts in a worker, which runs one program at a time: on one thread.
_ENVIRONMENT = {
    "JAX_ENABLE_X64": "1",
    "PJRT_NPROC": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class Dask(AbstractExecutor):
    """Workers of dask.distributed, each a process of one thread.

    Attributes:
        where: `local:N` for N processes of this machine, the address of a scheduler such as
            `tcp://host:8786`, or `slurm`: jobs as dask-jobqueue's configuration describes them.
        workers: How many jobs to ask SLURM for.
        timeout: Seconds to wait for a scheduler, for its first worker, and for another one when
            all have died; for SLURM's queue there is no end of waiting.
    """

    def __init__(self, where: str, *, workers: int | None = None, timeout: float = 30.0):
        kind, _, count = where.partition(":")
        if kind == "local" and not (count.isdigit() and int(count) > 0):
            raise ValueError(
                f"Argument `dask` must be local:N with a positive N, but it is {where!r}."
            )
        if kind not in ("local", "slurm") and "://" not in where:
            raise ValueError(
                "Argument `dask` must be local:N, slurm, or the address of a scheduler such as "
                f"tcp://host:8786, but it is {where!r}."
            )
        self.where, self.workers, self.timeout = where, workers, timeout

    def __call__(self, plan: Plan, store: Store, chunks: list[Chunk]) -> Iterable[Outcome]:
        """Do chunks; a chunk that kills two workers in turn counts as one that raises."""
        if not chunks:
            return
        from dask import config
        from distributed import as_completed

        spec, path = plan.study.canonical(), str(Path(store.path).resolve())
        # One more attempt after a worker has died: a second death is the chunk's own doing.
        with (
            config.set({"distributed.scheduler.allowed-failures": 1}),
            self._client() as client,
        ):
            self._await_worker(client)
            futures = {
                client.submit(do_remotely, spec, path, chunk.index, pure=False): chunk
                for chunk in chunks
            }
            completed = as_completed(list(futures))
            try:
                for future in self._finished(client, completed):
                    yield futures[future], self._outcome(store, futures[future], future)
                    future.release()
            finally:
                client.cancel(list(futures), force=True)

    def _finished(self, client: "Client", completed: "as_completed") -> "Iterator[Future]":
        """Yield what has finished; see to it meanwhile that there are workers."""
        alive = looked = time.monotonic()
        while not completed.is_empty():
            if completed.has_ready():
                yield from completed.next_batch(block=False)
                continue
            time.sleep(_PAUSE)
            now = time.monotonic()
            if now - looked < _LOOK:
                continue
            looked, number = now, len(_threads(client))
            alive = now if number else alive
            if now - alive > self.timeout and self.where != "slurm":
                raise StoreError(
                    f"All workers of {self.where} have been gone for {self.timeout:g} s. What is "
                    "done is kept; the same command goes on."
                )
            if self._local is not None and number < self._local:
                self._replace(client.cluster, self._local)

    def _replace(self, cluster: Any, wanted: int) -> None:
        """Start workers of this machine anew that died, be it before they had begun."""
        from distributed.core import Status

        def correct() -> None:
            for name, worker in list(cluster.workers.items()):
                if worker.status in (Status.closed, Status.failed):
                    del cluster.workers[name]
            cluster.scale(wanted)

        cluster.loop.add_callback(correct)

    def _outcome(self, store: Store, chunk: Chunk, future: "Future") -> dict | BaseException:
        """Return the receipt, from the store: what a worker returned may have died with it."""
        until = time.monotonic() + (0.0 if self._local else self.timeout)
        while (receipt := store.receipt(chunk.index)) is None and future.status == "finished":
            if time.monotonic() > until:
                return StoreError(
                    f"A worker of {self.where} says that it wrote chunk {chunk.index}, but it is "
                    f"not in {store.path}. Do all workers see this folder?"
                )
            time.sleep(_PAUSE)
        if receipt is not None:
            return receipt
        error: Any = future.exception() if future.status == "error" else None
        return error or RuntimeError(f"Chunk {chunk.index} was lost with its worker.")

    @property
    def _local(self) -> int | None:
        kind, _, count = self.where.partition(":")
        return int(count) if kind == "local" else None

    @contextmanager
    def _client(self) -> "Iterator[Client]":
        from distributed import Client, LocalCluster

        if self._local is not None:
            options = {"processes": True, "threads_per_worker": 1, "dashboard_address": None}
            with (
                LocalCluster(n_workers=self._local, env=_ENVIRONMENT, **options) as cluster,
                Client(cluster) as client,
            ):
                yield client
        elif self.where == "slurm":
            with self._slurm() as cluster, Client(cluster) as client:
                yield client
        else:
            try:
                client = Client(self.where, timeout=self.timeout)
            except (OSError, TimeoutError) as error:
                raise StoreError(
                    f"No scheduler answers at {self.where} within {self.timeout:g} s ({error}). "
                    "Start one with `dask scheduler`, or use local:N."
                ) from error
            with client:
                yield client

    def _slurm(self):
        try:
            from dask_jobqueue.slurm import SLURMCluster  # pyright: ignore[reportMissingImports]
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                "Jobs of SLURM need dask-jobqueue: pip install dask-jobqueue"
            ) from None
        from dask import config

        own = config.get("jobqueue.slurm.job-script-prologue", None) or []
        exports = [f"export {name}={value}" for name, value in _ENVIRONMENT.items()]
        cluster = SLURMCluster(cores=1, processes=1, job_script_prologue=[*own, *exports])
        # Adaptive, so that a job whose time is up is followed by another.
        jobs = self.workers or 1
        cluster.adapt(minimum_jobs=jobs, maximum_jobs=jobs)
        return cluster

    def _await_worker(self, client: "Client") -> None:
        try:
            queued = self.where == "slurm"
            client.wait_for_workers(1, timeout=None if queued else self.timeout)
        except TimeoutError as error:
            raise StoreError(
                f"No worker joined {self.where} within {self.timeout:g} s. Start one with "
                "`dask worker ADDRESS --nthreads 1`."
            ) from error


def _threads(client: Any) -> dict[str, int]:
    """Return the threads of each worker that is alive."""
    return client.nthreads()

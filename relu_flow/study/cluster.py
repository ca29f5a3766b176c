"""Beyond one machine: Dask's workers, of this machine, of a scheduler, or of SLURM.

Workers get the study as text, write their chunks themselves and return receipts. They see the
store through a common file system.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .plan import Chunk, Plan
from .runner import AbstractExecutor, Outcome
from .store import Store, StoreError
from .work import do_remotely

if TYPE_CHECKING:
    from distributed import Client

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
        timeout: Seconds to wait for a scheduler, and for its first worker; for SLURM's queue
            there is no end of waiting.
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
            try:
                for future in as_completed(list(futures)):
                    error = future.exception()
                    yield futures[future], future.result() if error is None else error
                    future.release()
            finally:
                client.cancel(list(futures), force=True)

    @contextmanager
    def _client(self) -> "Iterator[Client]":
        from distributed import Client, LocalCluster

        kind, _, count = self.where.partition(":")
        if kind == "local":
            options = {"processes": True, "threads_per_worker": 1, "dashboard_address": None}
            with (
                LocalCluster(n_workers=int(count), env=_ENVIRONMENT, **options) as cluster,
                Client(cluster) as client,
            ):
                yield client
        elif kind == "slurm":
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
        exports = [f"export {name}={value}" for name, value in _ENVIRONMENT.items()]
        cluster = SLURMCluster(cores=1, processes=1, job_script_prologue=exports)
        cluster.scale(jobs=self.workers or 1)
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

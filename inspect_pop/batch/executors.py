"""Where boards are worked on: in this process, in several that may die, or on a Dask cluster.

Each executor takes jobs and one function and yields `(job, future)` as they end, in whatever order; it holds only a
bounded number of them at a time. An exception that the function raised is in the future, for the caller to judge.

On a cluster, workers that die, leave or join are the scheduler's business. All its workers see the batch, the model and the
output folder under the same paths, and have this version installed. It needs the extra `cluster`.
"""

import faulthandler
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import wait as wait_for_connection
from multiprocessing.context import BaseContext
from typing import Any, TypeVar

from inspect_pop.batch.jobs import BoardJob
from inspect_pop.core.errors import UsageFault

__all__ = [
    "FinishedJob",
    "Result",
    "Work",
    "preload_workers",
    "run_in_process",
    "run_in_processes",
    "run_on_cluster",
    "time_limit",
]

Result = TypeVar("Result")
Work = Callable[[BoardJob], Result]
FinishedJob = tuple[BoardJob, Future[Result]]

CONNECT_TIMEOUT_S = 10
JOBS_AHEAD_PER_THREAD = 3  # boards that wait at each thread of a cluster, so that none runs dry while a result travels
_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def run_in_process(work: Work[Result], jobs: Iterable[BoardJob]) -> Iterator[FinishedJob[Result]]:
    """Work on one board after the other, without another process."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        yield from _drain(pool, work, deque(jobs), window=1, lost=[])


def run_in_processes(work: Work[Result], jobs: Iterable[BoardJob], processes: int) -> Iterator[FinishedJob[Result]]:
    """Work on many boards at a time, one per process. A process that dies costs no board: its boards are repeated, alone.

    A board whose process dies a second time, alone, ends with `BrokenProcessPool` in its future.
    """
    waiting, lost = deque(jobs), deque[BoardJob]()
    while waiting:
        with _open_pool(processes) as pool:
            yield from _drain(pool, work, waiting, window=2 * processes, lost=lost)
    for job in lost:
        with _open_pool(1) as pool:
            future = pool.submit(work, job)
            wait([future])
        yield job, future


def _drain(
    pool: Executor, work: Work[Result], waiting: "deque[BoardJob]", window: int, lost: "deque[BoardJob] | list[BoardJob]"
) -> Iterator[FinishedJob[Result]]:
    """Work on what waits until all is done or the pool breaks. Jobs that a broken pool held go to `lost`."""
    running: dict[Future[Result], BoardJob] = {}
    broken = False
    try:
        while running or (waiting and not broken):
            while waiting and not broken and len(running) < window:
                try:
                    future = pool.submit(work, waiting[0])
                except BrokenProcessPool:
                    broken = True
                else:
                    running[future] = waiting.popleft()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    broken = True
                    lost.append(job)
                else:
                    yield job, future
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def preload_workers() -> None:
    """Start the process that workers are forked from, where there is one, so that it loads what they need meanwhile."""
    _worker_context()
    if _METHOD == "forkserver":
        forkserver.ensure_running()


@contextmanager
def time_limit(limit_s: float) -> Iterator[None]:
    """End this worker process, its stack on standard error, when the block takes longer, even inside native code.

    In a process without a parent (not a worker) nothing is limited.
    """
    if multiprocessing.parent_process() is None:
        yield
        return
    faulthandler.dump_traceback_later(limit_s, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _open_pool(processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(processes, mp_context=_worker_context(), initializer=_start_worker)


def _worker_context() -> BaseContext:
    # Each process works on one board with one thread: more would fight over the same cores. Libraries read this at import.
    for name in _THREAD_LIMITS:
        os.environ.setdefault(name, "1")
    context = multiprocessing.get_context(_METHOD)
    if _METHOD == "forkserver":
        context.set_forkserver_preload(["inspect_pop.batch.worker"])
    return context


def _start_worker() -> None:
    """Leave interrupts to the parent, and end when the parent ends, however it ends: a killed parent tells no worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def exit_with_parent() -> None:
        wait_for_connection([sentinel])
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()


def run_on_cluster(work: Work[Result], jobs: Sequence[BoardJob], address: str) -> Iterator[FinishedJob[Result]]:
    """Work on the cluster whose scheduler listens at `address`, such as `tcp://10.0.0.5:8786`.

    A board whose worker dies again and again (Dask's `allowed-failures`) ends with `KilledWorker` in its future. Raises
    `UsageFault` where no scheduler answers or the extra is not installed.
    """
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        remedy = "pip install 'inspect_pop[cluster]'"
        raise UsageFault("--cluster", expected="the extra `cluster`", found=str(error), remedy=remedy) from error
    try:
        client = Client(address, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise UsageFault(f"--cluster {address}", expected="a Dask scheduler", found=str(error) or "no answer") from error
    with client:
        waiting, running = deque(jobs), as_completed(loop=client.loop)
        job_by_key: dict[Any, BoardJob] = {}
        _submit_more(client, work, waiting, running, job_by_key)
        for future in running:
            local = Future[Any]()  # the same result or error, independent of the cluster
            failure = future.exception()
            if failure is None:
                local.set_result(future.result())
            else:
                local.set_exception(failure)
            yield job_by_key.pop(future.key), local
            future.release()
            _submit_more(client, work, waiting, running, job_by_key)


def _submit_more(client: Any, work: Work[Any], waiting: "deque[BoardJob]", running: Any, job_by_key: dict[Any, BoardJob]) -> None:
    """Submit as many boards as the cluster has room for now; it may have grown or shrunk since the last call."""
    threads = sum(client.nthreads().values()) or 1
    while waiting and len(job_by_key) < JOBS_AHEAD_PER_THREAD * threads:
        job = waiting.popleft()
        future = client.submit(work, job, pure=False)
        job_by_key[future.key] = job
        running.add(future)

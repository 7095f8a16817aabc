"""Where boards are worked on: in this process, or in several that may die.

Each executor takes jobs and one function and yields `(job, future)` as they end, in whatever order; it holds only a
bounded number of them at a time. An exception that the function raised stands in the future and is the caller's to judge.

The same work on a Dask cluster: workers that die, leave or join are the scheduler's business, not this program's.

All workers see the batch, the model and the output folder under the same paths, and have this version installed.
Needs the extra `cluster`.
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

from inspect_pop.batch.jobs import Job
from inspect_pop.core.errors import UsageFault

__all__ = ["Ended", "Result", "Work", "in_process", "in_processes", "load_ahead", "no_longer_than", "on_cluster"]

# ---- batch/executors
Result = TypeVar("Result")
Work = Callable[[Job], Result]
Ended = tuple[Job, Future[Result]]

_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def in_process(work: Work[Result], jobs: Iterable[Job]) -> Iterator[Ended[Result]]:
    """One board after the other, without another process."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        yield from _drain(pool, work, deque(jobs), window=1, lost=[])


def in_processes(work: Work[Result], jobs: Iterable[Job], processes: int) -> Iterator[Ended[Result]]:
    """Many at a time, one a process. A process that dies costs no board: those it may have held are done again, alone.

    A board whose process dies a second time, alone, ends with `BrokenProcessPool` in its future.
    """
    waiting, lost = deque(jobs), deque[Job]()
    while waiting:
        with _pool(processes) as pool:
            yield from _drain(pool, work, waiting, window=2 * processes, lost=lost)
    for job in lost:
        with _pool(1) as pool:
            future = pool.submit(work, job)
            wait([future])
        yield job, future


def _drain(
    pool: Executor, work: Work[Result], waiting: "deque[Job]", window: int, lost: "deque[Job] | list[Job]"
) -> Iterator[Ended[Result]]:
    """Work on what waits until all is done or the pool breaks; jobs that a broken pool held go to `lost`."""
    running: dict[Future[Result], Job] = {}
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


def load_ahead() -> None:
    """Start the process that workers are forked from, where there is such: it loads what they need while this one goes on."""
    _context()
    if _METHOD == "forkserver":
        forkserver.ensure_running()


@contextmanager
def no_longer_than(limit_s: float) -> Iterator[None]:
    """End this process, its stack on standard error, when the block takes longer: in native code too. Workers only."""
    if multiprocessing.parent_process() is None:
        yield
        return
    faulthandler.dump_traceback_later(limit_s, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _pool(processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(processes, mp_context=_context(), initializer=_start_worker)


def _context() -> BaseContext:
    # Each process works on one board with one thread: more would fight over the same cores. Libraries read this at import.
    for name in _THREAD_LIMITS:
        os.environ.setdefault(name, "1")
    context = multiprocessing.get_context(_METHOD)
    if _METHOD == "forkserver":
        context.set_forkserver_preload(["inspect_pop.batch.worker"])
    return context


def _start_worker() -> None:
    """Leave an interrupt to the parent, and end with the parent however it ends: nobody else would tell this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait_for_connection([sentinel])
    os._exit(1)


# ---- batch/cluster
CONNECT_S = 10
AHEAD = 3  # boards that wait at each thread, so that none runs dry while a result travels


def on_cluster(work: Work[Result], jobs: Sequence[Job], address: str) -> Iterator[Ended[Result]]:
    """Work on the cluster whose scheduler listens at `address`, such as `tcp://10.0.0.5:8786`.

    A board whose worker dies again and again (Dask's `allowed-failures`) ends with `KilledWorker` in its future. Raises
    `UsageFault` where nobody answers or the extra is not installed.
    """
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise UsageFault(
            "--cluster", expected="the extra `cluster`", found=str(error), remedy="pip install 'inspect_pop[cluster]'"
        ) from error
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise UsageFault(f"--cluster {address}", expected="a Dask scheduler", found=str(error) or "no answer") from error
    with client:
        waiting, running = deque(jobs), as_completed(loop=client.loop)
        held: dict[Any, Job] = {}
        _fill(client, work, waiting, running, held)
        for future in running:
            yield held.pop(future.key), _taken_home(future)
            future.release()
            _fill(client, work, waiting, running, held)


def _taken_home(future: Any) -> "Future[Any]":
    """The same result or error, independent of the cluster."""
    home = Future[Any]()
    error = future.exception()
    if error is None:
        home.set_result(future.result())
    else:
        home.set_exception(error)
    return home


def _fill(client: Any, work: Work[Any], waiting: "deque[Job]", running: Any, held: dict[Any, Job]) -> None:
    """Keep as many boards on their way as the cluster has room for now; it may have grown or shrunk since."""
    threads = sum(client.nthreads().values()) or 1
    while waiting and len(held) < AHEAD * threads:
        job = waiting.popleft()
        future = client.submit(work, job, pure=False)
        held[future.key] = job
        running.add(future)

"""The same work on a Dask cluster: workers that die, leave or join are the scheduler's business, not this program's.

All workers see the batch, the model and the output folder under the same paths, and have this version installed.
Needs the extra `cluster`.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from inspect_pop.batch.executors import Ended, Result, Work
from inspect_pop.batch.values import Job
from inspect_pop.errors import UsageFault

__all__ = ["on_cluster"]

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

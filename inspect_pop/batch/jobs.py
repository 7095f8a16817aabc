"""What a run passes around, and where its boards are worked on."""

import ctypes
import faulthandler
import gc
import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from multiprocessing import forkserver
from multiprocessing.connection import wait as wait_for_connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import cv2

from inspect_pop.core.errors import UsageFault
from inspect_pop.core.limits import Limits
from inspect_pop.core.text import pluralize

if TYPE_CHECKING:
    from inspect_pop.classify.model import OperatingPoint
    from inspect_pop.report.write import ResultsTarget

__all__ = [
    "BatchSettings",
    "BoardJob",
    "FinishedJob",
    "JobOutcome",
    "QualifiedMachine",
    "Result",
    "RunSummary",
    "Work",
    "choose_limits",
    "preload_workers",
    "release_between_boards",
    "release_memory",
    "run_in_process",
    "run_in_processes",
    "run_on_cluster",
    "summarize_run",
    "time_limit",
    "tune_process",
]

QualifiedMachine = tuple[str, str, str]  # machine, digest of the model, digest of the limits: as the store names them


@dataclass(frozen=True)
class BoardJob:
    """One board to inspect: its place in the order of the batch, its folder, and the root that its files must lie inside."""

    order: int
    path: Path
    root: Path


@dataclass(frozen=True)
class BatchSettings:
    """What all boards of a run have in common.

    Attributes:
        out: The run's output folder.
        store_url: The store of records, as a path or a URL.
        model_dir: The model; None means the current model.
        limits: The limits that decide.
        run_id: The run's identifier in the store; drawn where it is empty.
        resume: Whether boards that an earlier start of the run finished are taken from its checkpoints.
        device: Where the network runs, `cpu` or `cuda`.
        pages: Which boards get a page: `all`, `suspect` (those that did not pass) or `none`.
        time_limit_s: A worker process that takes longer over one board is ended.
        operating_point: The thresholds; None means the model's.
        follow_machines: Whether the thresholds move with each machine (`machine_thresholds`).
        machine_points: The thresholds that were found so, by machine.
        time_zone: The plant's time zone, for days in the store; None: that of the store.
        verify_sample: How many joints that passed a person looks at on each board; None: as many as the store says.
        results: Where result files go, and the templates that write them.
        qualified: The machines that are qualified (`choose_limits`); a run takes them from its store.
    """

    out: Path
    store_url: str
    model_dir: Path | None
    limits: Limits
    run_id: str = ""
    resume: bool = True
    device: str = "cpu"
    pages: str = "all"
    time_limit_s: float = 300.0
    operating_point: "OperatingPoint | None" = None
    follow_machines: bool = False
    machine_points: "tuple[tuple[str, OperatingPoint], ...]" = ()
    time_zone: str | None = None
    verify_sample: int | None = None
    results: "tuple[ResultsTarget, ...]" = ()
    qualified: tuple[QualifiedMachine, ...] = ()

    @property
    def work_dir(self) -> Path:
        """The folder of checkpoints, from which a run resumes."""
        return self.out / ".work"


def choose_limits(limits: Limits, qualified: Collection[QualifiedMachine], machine: str, model_digest: str) -> Limits:
    """Return the limits that decide on a machine's boards: where it is qualified, an unlike picture forbids nothing."""
    is_qualified = bool(qualified) and (machine, model_digest, limits.digest) in qualified
    return replace(limits, unlike_forbids=0.0) if is_qualified else limits


@dataclass(frozen=True)
class JobOutcome:
    """What became of one board: a verdict with its checkpoint, or the reason why it is in quarantine."""

    order: int
    path: Path
    serial: str = ""
    verdict: str = ""
    checkpoint: Path | None = None
    n_joints: int = 0
    reason: str = ""
    resumed: bool = False

    @property
    def quarantined(self) -> bool:
        """Whether the board could not be decided and needs a person."""
        return self.checkpoint is None


@dataclass(frozen=True)
class RunSummary:
    """A whole run, counted.

    `boards` counts the folders that were found, `repeated` those whose export is a copy of an earlier one in the batch,
    `resumed` those that an earlier start of the run had finished. `verdicts` and `joints` count each record once.
    """

    out: Path
    store_url: str
    boards: int
    verdicts: dict[str, int] = field(default_factory=dict)
    quarantined: tuple[JobOutcome, ...] = ()
    repeated: int = 0
    resumed: int = 0
    joints: int = 0
    seconds: float = 0.0

    @property
    def exit_status(self) -> int:
        """0 when every board was decided, 1 when some are in quarantine."""
        return 1 if self.quarantined else 0

    @property
    def report(self) -> Path:
        """The page to open."""
        return self.out / "report" / "index.html"

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as plain values that JSON can carry."""
        return {
            "boards": self.boards,
            "verdicts": self.verdicts,
            "quarantined": [{"path": str(o.path), "reason": o.reason} for o in self.quarantined],
            "repeated": self.repeated,
            "resumed": self.resumed,
            "joints": self.joints,
            "seconds": round(self.seconds, 3),
            "out": str(self.out),
            "report": str(self.report),
        }

    def __str__(self) -> str:
        counts = ", ".join(f"{n} {verdict}" for verdict, n in sorted(self.verdicts.items()))
        return f"{pluralize(self.boards, 'board')}: {counts or 'none decided'}; {len(self.quarantined)} in quarantine"


def summarize_run(outcomes: Iterable[JobOutcome], out: Path, store_url: str, seconds: float) -> RunSummary:
    """Count the outcomes of a run. Its quarantine is in the order of the batch."""
    ordered = sorted(outcomes, key=lambda o: o.order)
    records = list({o.checkpoint: o for o in reversed(ordered) if not o.quarantined}.values())
    quarantined = tuple(o for o in ordered if o.quarantined)
    return RunSummary(
        out,
        store_url,
        boards=len(ordered),
        verdicts=dict(Counter(o.verdict for o in records)),
        quarantined=quarantined,
        repeated=len(ordered) - len(quarantined) - len(records),
        resumed=sum(o.resumed for o in records),
        joints=sum(o.n_joints for o in records),
        seconds=seconds,
    )


# Memory and threads of a process that inspects one board after the other.
#
# Arrays of some megabytes come and go with every board. glibc gives such memory back to the system at once and requests it
# again, and the system clears it each time. With glibc's thresholds raised it stays with the process, in one arena, whichever
# thread works. Measured over 36 inspections of boards of 820 joints in one process: 38.9 s of processor time (0.7 s of it in the
# system), 469 MiB at most; without, 42.5 to 43.8 s (3.0 to 3.6 s in the system), 440 to 460 MiB. On boards of 88 joints both take
# the same (7.7 s, 273 MiB).
#
# The environment variables MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_ and MALLOC_ARENA_MAX do as well (38.6 s, 464 MiB), but
# only if they are set before a process starts. `mallopt` (by ctypes) also reaches `run --jobs 1`, a cluster's workers and
# programs that call the package, which start without them.


# Parameters of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_NEVER = 1 << 30
_RELEASE_EVERY = 32  # boards: requesting the memory again costs one board 20 ms
_GROWTH_BYTES = 40 << 20  # more than boards of one kind differ by
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_STATM = Path("/proc/self/statm")
_boards = count(1)


def tune_process() -> None:
    """Keep freed memory in the process and OpenCV in one thread. Call it once per process, before its first board.

    Does nothing to memory where the C library is not glibc.
    """
    cv2.setNumThreads(1)
    if _has_glibc():
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in ((_MMAP_THRESHOLD, _NEVER), (_TRIM_THRESHOLD, _NEVER), (_ARENA_MAX, 1)):
            mallopt(parameter, value)


def release_between_boards() -> None:
    """Release memory after the first board, after every 32nd, and where the process has grown by a leap. Call it after each.

    A board's largest arrays may find no gap among those that earlier boards left, and the memory grows by as much.
    """
    board = next(_boards)
    if board == 1 or board % _RELEASE_EVERY == 0 or _peak.has_grown(_resident_bytes()):
        release_memory()
    if board == 1:
        gc.freeze()  # libraries and model stay: collecting through them takes 60 ms each time


def release_memory() -> None:
    """Collect unreachable objects and give free memory back to the system.

    What a board leaves behind lies scattered over the retained memory, which grows around it, and Python by itself collects
    unreachable objects only after some hundred boards: 20 MB. Where the C library is not glibc, this only collects.
    """
    gc.collect()
    if _has_glibc():
        ctypes.CDLL(None).malloc_trim(0)


class _PeakMemory:
    """The most memory that the process has held after a board so far."""

    def __init__(self) -> None:
        self.peak: int | None = None

    def has_grown(self, resident: int) -> bool:
        """Whether the process holds much more memory (bytes) after this board than after any before."""
        before = resident if self.peak is None else self.peak
        self.peak = max(before, resident)
        return resident > before + _GROWTH_BYTES


_peak = _PeakMemory()


def _resident_bytes() -> int:
    """Return the bytes of memory that the process holds now; 0 where the system does not say."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def _has_glibc() -> bool:
    return "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", ())


# Where boards are worked on: in this process, in several that may die, or on a Dask cluster.
#
# Each executor takes jobs and one function and yields `(job, future)` as they end, in whatever order; it holds only a
# bounded number of them at a time. An exception that the function raised is in the future, for the caller to judge.
#
# On a cluster, workers that die, leave or join are the scheduler's business. All its workers see the batch, the model and the
# output folder under the same paths, and have this version installed. It needs the extra `cluster`.


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

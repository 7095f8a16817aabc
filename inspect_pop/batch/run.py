"""Run a batch: find the boards, inspect them wherever there is room, and write the results in the order of the batch.

The modules that read, inspect and store boards are imported inside functions: worker processes start first, and load the same
modules while this process does.
"""

import os
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from inspect_pop import __version__
from inspect_pop.batch.jobs import (
    BatchSettings,
    BoardJob,
    FinishedJob,
    JobOutcome,
    Result,
    RunSummary,
    Work,
    preload_workers,
    run_in_process,
    run_in_processes,
    summarize_run,
    time_limit,
)
from inspect_pop.core.errors import InputFault, PopError, StoreFault, describe_error
from inspect_pop.core.system import utc_now

if TYPE_CHECKING:
    from inspect_pop.store import Store

__all__ = [
    "Executor",
    "Progress",
    "cluster_executor",
    "count_cores",
    "inspect_in_worker",
    "local_executor",
    "run_batch",
    "run_jobs",
    "write_results",
]

_DIED = (
    "its process ended twice, the second time alone: expected an inspection that comes to its end, found a process that was "
    "killed or took too long. Check whether memory runs short (a worker takes up to 600 MB); report the board if it does not."
)
Progress = Callable[[JobOutcome, int], None]  # called with each board that ended, and the number of boards in the run


class Executor(Protocol):
    """Where work is done: takes work and jobs, yields each job with its future as it ends."""

    def __call__(self, work: Work[Result], jobs: Sequence[BoardJob], /) -> Iterator[FinishedJob[Result]]:
        """Do the work on all jobs; see `executors`."""
        ...


def local_executor(processes: int = 0) -> Executor:
    """Return an executor on this machine: in this process for 1, else in that many processes; 0 means one per core."""
    processes = processes or count_cores()
    if processes > 1:
        preload_workers()
    return run_in_process if processes == 1 else partial(run_in_processes, processes=processes)


def cluster_executor(address: str) -> Executor:
    """Return an executor on a Dask cluster, by the address of its scheduler, such as `tcp://10.0.0.5:8786`."""
    from inspect_pop.batch.jobs import run_on_cluster

    return partial(run_on_cluster, address=address)


def count_cores() -> int:
    """Return the number of cores that this process may use: fewer than the machine has in a container or under taskset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_batch(
    exports: Sequence[Path],
    settings: BatchSettings,
    *,
    root: Path | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    work: Work[JobOutcome] | None = None,
) -> RunSummary:
    """Inspect all boards in and under `exports` and leave the run's files in `settings.out`.

    The result does not depend on where or in which order the boards are inspected. An interrupted run resumes when it is
    called again with the same settings: a board whose record is written is not inspected again.

    Parameters
    ----------
    root
        Folder that recipes must lie inside; by default the batch itself.
    executor
        Where the work is done; by default in one process per core of this machine.
    progress
        Called with each board that ended, and the number of boards.
    work
        What is done with one board; by default it is inspected.

    Raises
    ------
    UsageFault
        A path does not exist, or holds no board.
    ModelFault, StoreFault
        The model cannot be used, or the output or the store cannot be written. The run ends, and can be resumed.
    """
    executor = executor or local_executor()
    from inspect_pop.ingest import find_exports
    from inspect_pop.store import RunRecord, open_store

    boards = find_exports(exports)
    jobs = [BoardJob(order, board, root or batch) for order, (board, batch) in enumerate(boards)]
    settings = replace(settings, run_id=settings.run_id or uuid.uuid4().hex)
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
        if not os.access(settings.out, os.W_OK):
            raise PermissionError(f"{settings.out} cannot be written")
    except OSError as error:
        remedy = "Choose another --out."
        raise StoreFault(
            str(settings.out), expected="a folder to write to", found=describe_error(error), remedy=remedy
        ) from error
    arguments = {
        "exports": [str(p) for p in exports],
        "out": str(settings.out),
        "model": str(settings.model_dir or "released"),
    }
    with open_store(settings.store_url, time_zone=settings.time_zone, verify_sample=settings.verify_sample) as store:
        store.begin_run(RunRecord(settings.run_id, "run", __version__, utc_now(), arguments))
        settings = replace(settings, qualified=tuple(store.list_qualified()))
        if settings.follow_machines:
            from inspect_pop.batch.worker import find_machine_points

            settings = replace(settings, machine_points=find_machine_points(jobs, settings, executor))
        work = work or partial(inspect_in_worker, settings)
        summary, outcomes = run_jobs(jobs, settings, executor, work, progress)
        write_results(outcomes, settings, store)
        store.end_run(settings.run_id, finished_at=utc_now(), outcome=str(summary))
    return summary


def inspect_in_worker(settings: BatchSettings, job: BoardJob) -> JobOutcome:
    """Inspect one board within the time limit. Only the process that calls it loads what an inspection needs."""
    from inspect_pop.batch.worker import inspect_job

    with time_limit(settings.time_limit_s):
        return inspect_job(settings, job)


def run_jobs(
    jobs: Sequence[BoardJob],
    settings: BatchSettings,
    executor: Executor,
    work: Work[JobOutcome],
    progress: Progress | None = None,
) -> tuple[RunSummary, list[JobOutcome]]:
    """Work on all jobs; return the summary, and the outcomes in the order of the batch.

    A fault of the input, and any unexpected error, puts its board into quarantine and the rest goes on. Any other `PopError`
    (the store, the model) would befall every board, so it ends the run; the same call then resumes it.
    """
    started = time.monotonic()
    outcomes = []
    for job, future in executor(work, jobs):
        error = future.exception()
        if error is None:
            outcome = future.result()
        elif isinstance(error, InputFault):
            outcome = JobOutcome(job.order, job.path, reason=str(error))
        elif isinstance(error, BrokenProcessPool):
            outcome = JobOutcome(job.order, job.path, reason=_DIED)
        elif isinstance(error, PopError) or not isinstance(error, Exception):
            raise error
        else:
            log = settings.out / "errors.log"
            with suppress(OSError), log.open("a", encoding="utf-8") as file:  # the quarantine list has the reason in any case
                file.write(f"{job.path}\n{''.join(traceback.format_exception(error))}\n")
            reason = f"unexpected {type(error).__name__}: {error}. The traceback is in {log.name}"
            outcome = JobOutcome(job.order, job.path, reason=reason)
        outcomes.append(outcome)
        if progress:
            progress(outcome, len(jobs))
    outcomes.sort(key=lambda o: o.order)
    return summarize_run(outcomes, settings.out, settings.store_url, time.monotonic() - started), outcomes


def write_results(outcomes: Sequence[JobOutcome], settings: BatchSettings, store: "Store") -> None:
    """Write the run's tables, quarantine list and page from outcomes in the order of the batch. Raises `StoreFault`.

    Two folders that hold the same export are one record, and appear once.
    """
    from inspect_pop.batch.worker import read_checkpoint
    from inspect_pop.ingest import identify_board
    from inspect_pop.report.board_page import count_joints
    from inspect_pop.report.write import CountedBoard, write_run_report
    from inspect_pop.store import QuarantinedExport
    from inspect_pop.store.run_files import RunFiles

    boards: list[CountedBoard] = []
    quarantined = [(str(o.path), o.reason) for o in outcomes if o.quarantined]
    with RunFiles(settings.out, store.find_sequences) as files:
        for checkpoint in dict.fromkeys(o.checkpoint for o in outcomes if o.checkpoint is not None):
            inspection = read_checkpoint(checkpoint)
            if inspection is None:
                remedy = "Repeat the same command: this board is then inspected again."
                raise StoreFault(str(checkpoint), expected="a board's checkpoint", found="no readable file", remedy=remedy)
            files.add(inspection)
            boards.append((inspection.board, count_joints(inspection.joints)))
        for path, reason in quarantined:
            files.add_quarantine(path, reason)
    now = utc_now()
    for path, reason in quarantined:
        serial, content = identify_board(Path(path))
        store.quarantine(QuarantinedExport(path, reason, now, settings.run_id, serial, content))
    write_run_report(settings.out / "report", boards, quarantined)

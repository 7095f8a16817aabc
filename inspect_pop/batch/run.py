"""A whole batch: find the boards, work on all of them wherever there is room, put the result together in order.

Put a run together from its fragments: the tables in the order of the batch, the page, and what the store keeps of it.
"""

import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from inspect_pop.batch.checkpoint import read_fragment
from inspect_pop.batch.executors import Ended, Result, Work, in_process, in_processes, load_ahead
from inspect_pop.batch.jobs import Job, Outcome, RunSummary, Settings, summarise
from inspect_pop.core.errors import InputFault, PopError, StoreFault
from inspect_pop.core.inspection import BoardRecord, Inspection
from inspect_pop.report.write import write_run_report
from inspect_pop.store import Quarantined, Store
from inspect_pop.store.run_files import RunFiles

__all__ = ["Executor", "Progress", "assemble", "cores", "local_executor", "run_jobs"]

# ---- batch/run
_DIED = (
    "its process ended twice, the second time alone: expected an inspection that comes to its end, found a process that was "
    "killed or took too long. Look whether memory runs short (a worker takes up to 600 MB), and report the board if not."
)
Progress = Callable[[Outcome, int], None]  # told of each board that ended, and of how many there are


class Executor(Protocol):
    """Where work is done: takes work and jobs, yields each job with its future as it ends."""

    def __call__(self, work: Work[Result], jobs: Sequence[Job], /) -> Iterator[Ended[Result]]:
        """See `executors`."""
        ...


def local_executor(processes: int = 0) -> Executor:
    """This machine: in this process for 1, else that many processes; 0 means one for each core it may use."""
    processes = processes or cores()
    if processes > 1:
        load_ahead()
    return in_process if processes == 1 else partial(in_processes, processes=processes)


def run_jobs(
    jobs: Sequence[Job], settings: Settings, executor: Executor, work: Work[Outcome], progress: Progress | None = None
) -> tuple[RunSummary, list[Outcome]]:
    """Work on all jobs; the summary, and the outcomes in the order of the batch.

    A fault of the input, and any error that nobody foresaw, puts its board into quarantine; the rest goes on. Any other
    `PopError` (the store, the model) would befall every board, so it ends the run; the same call then goes on from there.
    """
    started = time.monotonic()
    outcomes = []
    for job, future in executor(work, jobs):
        error = future.exception()
        outcome = future.result() if error is None else _quarantine(job, error, settings.out)
        outcomes.append(outcome)
        if progress:
            progress(outcome, len(jobs))
    outcomes.sort(key=lambda o: o.order)
    return summarise(outcomes, settings.out, settings.store_url, time.monotonic() - started), outcomes


def _quarantine(job: Job, error: BaseException, out: Path) -> Outcome:
    """What becomes of a board whose work ended in an error; raises what concerns the whole run."""
    if isinstance(error, InputFault):
        return Outcome(job.order, job.path, reason=str(error))
    if isinstance(error, BrokenProcessPool):
        return Outcome(job.order, job.path, reason=_DIED)
    if isinstance(error, PopError) or not isinstance(error, Exception):
        raise error
    log = out / "errors.log"
    with suppress(OSError), log.open("a", encoding="utf-8") as file:  # the reason stands in the list of quarantine anyway
        file.write(f"{job.path}\n{''.join(traceback.format_exception(error))}\n")
    return Outcome(job.order, job.path, reason=f"unexpected {type(error).__name__}: {error}. The traceback is in {log.name}")


def cores() -> int:
    """Cores that this process may use: fewer than the machine has, in a container or under taskset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# ---- batch/assemble
def assemble(outcomes: Sequence[Outcome], settings: Settings, store: Store) -> None:
    """Write the run's tables, quarantine list and page from outcomes in the order of the batch. Raises `StoreFault`.

    Two folders that hold the same export are one record, and appear once.
    """
    boards: list[BoardRecord] = []
    quarantined = [(str(o.path), o.reason) for o in outcomes if o.quarantined]
    with RunFiles(settings.out, store.standing) as files:
        for inspection in _inspections(outcomes):
            files.add(inspection)
            boards.append(inspection.board)
        for path, reason in quarantined:
            files.add_quarantine(path, reason)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    for path, reason in quarantined:
        store.quarantine(Quarantined(path, reason, now, settings.run_id))
    write_run_report(settings.out / "report", boards, quarantined)


def _inspections(outcomes: Sequence[Outcome]) -> Iterator[Inspection]:
    for fragment in dict.fromkeys(o.fragment for o in outcomes if o.fragment is not None):
        inspection = read_fragment(fragment)
        if inspection is None:
            remedy = "Give the same command again: this board is then inspected again."
            raise StoreFault(
                str(fragment), expected="the board that was left there", found="none that can be read", remedy=remedy
            )
        yield inspection

"""Many boards: processes that may die, a run that goes on where it was stopped, quarantine for what cannot be used."""

import os
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from inspect_pop import __version__
from inspect_pop.batch.executors import Work, no_longer_than
from inspect_pop.batch.jobs import Job, Outcome, RunSummary, Settings
from inspect_pop.batch.run import Executor, Progress, local_executor, run_jobs
from inspect_pop.core.errors import StoreFault

__all__ = ["Job", "Outcome", "RunSummary", "Settings", "cluster_executor", "local_executor", "run_batch"]


def run_batch(
    exports: Sequence[Path],
    settings: Settings,
    *,
    root: Path | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    work: Work[Outcome] | None = None,
) -> RunSummary:
    """Inspect all boards in and under `exports` and leave the run's files in `settings.out`.

    The result does not depend on where or in which order the boards are worked on. A run that was stopped, however, goes
    on when it is called again with the same settings: a board whose record is written is not inspected again.

    Parameters
    ----------
    root
        Folder that recipes must lie inside, where it is not the batch itself.
    executor
        Where the work is done; by default in as many processes of this machine as it has cores.
    progress
        Told of each board that ended, and of how many there are.
    work
        What is done with one board; by default it is inspected.

    Raises
    ------
    UsageFault
        A path is not there, or holds no board.
    ModelFault, StoreFault
        The model cannot be used, or the output or the store cannot be written: the run ends, and can go on later.
    """
    executor = executor or local_executor()
    from inspect_pop.batch.run import assemble  # while the workers load what they need: this takes as long
    from inspect_pop.ingest import find_exports
    from inspect_pop.store import Run, open_store

    found = find_exports(exports)
    jobs = [Job(order, board, root or batch) for order, (board, batch) in enumerate(found)]
    settings = replace(settings, run_id=settings.run_id or uuid.uuid4().hex)
    _prepare(settings.out)
    with open_store(settings.store_url) as store:
        store.begin_run(Run(settings.run_id, "run", __version__, _now(), _arguments(settings, exports)))
        if settings.follow_machines:
            from inspect_pop.batch.machine_thresholds import machine_points

            settings = replace(settings, points=machine_points(jobs, settings, executor))
        summary, outcomes = run_jobs(jobs, settings, executor, work or _inspection(settings), progress)
        assemble(outcomes, settings, store)
        store.end_run(settings.run_id, finished_at=_now(), outcome=_said(summary))
    return summary


def cluster_executor(address: str) -> Executor:
    """A Dask cluster, by the address of its scheduler."""
    from inspect_pop.batch.executors import on_cluster

    return partial(on_cluster, address=address)


def _inspection(settings: Settings) -> Work[Outcome]:
    """The work, by name: this process itself need not load what its workers do."""
    return partial(_inspect_there, settings)


def _inspect_there(settings: Settings, job: Job) -> Outcome:
    from inspect_pop.batch.worker import inspect_job

    with no_longer_than(settings.time_limit_s):
        return inspect_job(settings, job)


def _prepare(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK):
            raise PermissionError(f"{out} cannot be written")
    except OSError as error:
        raise StoreFault(str(out), expected="a folder to write to", found=str(error), remedy="Choose another --out.") from error


def _arguments(settings: Settings, exports: Sequence[Path]) -> dict[str, str | list[str]]:
    return {"exports": [str(p) for p in exports], "out": str(settings.out), "model": str(settings.model_dir or "released")}


def _said(summary: RunSummary) -> str:
    counts = ", ".join(f"{n} {verdict}" for verdict, n in sorted(summary.verdicts.items()))
    return f"{summary.boards} boards: {counts or 'none decided'}; {len(summary.quarantined)} in quarantine"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")

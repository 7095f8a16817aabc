"""Work that stands in for an inspection; in a module of its own, so that worker processes can import it."""

import os
import signal
import time
from pathlib import Path

from inspect_pop.batch.jobs import BatchSettings, BoardJob, JobOutcome, time_limit
from inspect_pop.batch.worker import checkpoint_path, write_checkpoint
from inspect_pop.core.errors import ManifestFault, StoreFault
from inspect_pop.store import open_store
from tests.factories import make_inspection


def good(job: BoardJob) -> JobOutcome:
    return JobOutcome(job.order, job.path, serial=job.path.name, verdict="pass", checkpoint=job.path / "f", n_joints=3)


def by_name(job: BoardJob) -> JobOutcome:
    """Named for what shall happen: `fault…`, `surprise…`, `store…`, `hangs…`, `dies…` always, `dies-once…` the first time."""
    name = job.path.name
    if name.startswith("hangs"):
        with time_limit(0.2):
            time.sleep(60)
    if name.startswith("fault"):
        raise ManifestFault("export.json", expected="sense", found="none")
    if name.startswith("surprise"):
        raise KeyError("nobody thought of this")
    if name.startswith("store"):
        raise StoreFault("records.db", found="gone")
    if name.startswith("dies-once"):
        _die_unless(job.root / f"{name}.died")
    elif name.startswith("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    return good(job)


def _die_unless(mark: Path) -> None:
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def made_by_hand(settings: BatchSettings, job: BoardJob) -> JobOutcome:
    """Leaves what an inspection would leave; a board whose name starts with `fault` cannot be used."""
    if job.path.name.startswith("fault"):
        raise ManifestFault("export.json", expected="sense", found="none")
    serial = job.path.name.partition("~")[0]
    inspection = make_inspection(serial, defects={"U1.lower.A1": "open"} if "open" in serial else {})
    checkpoint = checkpoint_path(settings.work_dir, inspection.board.record)
    write_checkpoint(checkpoint, inspection)
    with open_store(settings.store_url) as store:
        store.write(inspection)
    return JobOutcome(job.order, job.path, serial, inspection.board.verdict, checkpoint, inspection.board.n_joints)

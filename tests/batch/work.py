"""Work that stands in for an inspection; in a module of its own, so that worker processes can import it."""

import os
import signal
from pathlib import Path

from inspect_pop.batch.values import Job, Outcome
from inspect_pop.errors import ManifestFault, StoreFault


def good(job: Job) -> Outcome:
    return Outcome(job.order, job.path, serial=job.path.name, verdict="pass", fragment=job.path / "f", n_joints=3)


def by_name(job: Job) -> Outcome:
    """Named for what shall happen: `fault…`, `surprise…`, `store…`, `dies…` always, `dies-once…` the first time only."""
    name = job.path.name
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

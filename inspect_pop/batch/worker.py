"""One board of a batch: opened, inspected, its page written, its fragment left, its record stored. In that order.

Whatever moment it is stopped at, doing it again ends in the same place: the fragment comes before the record, so that a
board whose record is written is never inspected a second time.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import cv2

from inspect_pop.batch.journal import fragment_path, read_fragment, write_fragment
from inspect_pop.batch.values import Job, Outcome, Settings
from inspect_pop.classify.model import load
from inspect_pop.classify.session import Classifier
from inspect_pop.ingest import BoardExport, open_export
from inspect_pop.inspection import Inspection
from inspect_pop.limits import Limits
from inspect_pop.pipeline import inspect_board
from inspect_pop.report.write import write_board_report
from inspect_pop.store import Store, open_store
from inspect_pop.yield_record import record_id

__all__ = ["inspect_job", "inspect_path"]


def inspect_path(path: Path, root: Path, classifier: Classifier, limits: Limits) -> Inspection:
    """Inspect the board in one folder, now. Raises `InputFault` for what is wrong with it."""
    return _inspect(open_export(path, root), classifier, limits)


def inspect_job(settings: Settings, job: Job) -> Outcome:
    """Inspect one board of a run, unless an earlier start of the run has done so. Raises `PopError`."""
    tools = _tools(settings)
    export = open_export(job.path, job.root)
    record = record_id(export, tools.classifier.digest, settings.limits.digest, tools.classifier.point)
    fragment = fragment_path(settings.work_dir, record)
    known = read_fragment(fragment) if settings.resume else None
    inspection = known or _inspect(export, tools.classifier, settings.limits)
    if known is None:
        write_board_report(settings.out / "report", inspection, export.recipe)
        write_fragment(fragment, inspection)
    tools.store.write(inspection, run=settings.run_id)
    board = inspection.board
    return Outcome(job.order, job.path, board.serial, board.verdict, fragment, board.n_joints, resumed=known is not None)


@dataclass(frozen=True)
class _Tools:
    """What a process opens once and uses for all of its boards."""

    classifier: Classifier
    store: Store


@lru_cache(maxsize=1)
def _tools(settings: Settings) -> _Tools:
    cv2.setNumThreads(1)
    classifier = Classifier(load(settings.model_dir), device=settings.device)
    return _Tools(classifier, open_store(settings.store_url))


def _inspect(export: BoardExport, classifier: Classifier, limits: Limits) -> Inspection:
    return inspect_board(export, classifier, limits, started_at=datetime.now(UTC).isoformat(timespec="milliseconds"))

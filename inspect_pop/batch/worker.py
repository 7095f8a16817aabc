"""One board of a batch: opened, inspected, its page written, its fragment left, its record stored. In that order.

Whatever moment it is stopped at, doing it again ends in the same place: the fragment comes before the record, so that a
board whose record is written is never inspected a second time.
"""

from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from inspect_pop.batch.jobs import Job, Outcome, Settings
from inspect_pop.batch.process_tuning import between_boards, settle_on_one_core
from inspect_pop.classify.model import OperatingPoint, load
from inspect_pop.classify.session import Classifier
from inspect_pop.core.inspection import Inspection
from inspect_pop.core.joint_table import JointTable
from inspect_pop.core.limits import Limits
from inspect_pop.core.recipe import Recipe
from inspect_pop.ingest import BoardExport, open_export
from inspect_pop.pipeline.board import inspect_board
from inspect_pop.pipeline.record import record_id

if TYPE_CHECKING:
    from inspect_pop.store import Store

__all__ = ["inspect_job", "inspect_path", "look"]


def inspect_path(path: Path, root: Path, classifier: Classifier, limits: Limits) -> Inspection:
    """Inspect the board in one folder, now. Raises `InputFault` for what is wrong with it."""
    return _inspect(open_export(path, root), classifier, limits)


def inspect_job(settings: Settings, job: Job) -> Outcome:
    """Inspect one board of a run, unless an earlier start of the run has done so. Raises `PopError`."""
    export = open_export(job.path, job.root)
    classifier = _classifier_of(settings, export)
    record = record_id(export, classifier.digest, settings.limits.digest, classifier.point)
    known = _finished(settings, record)
    inspection = known or _inspect(export, classifier, settings.limits)
    fragment = _keep(settings, inspection, export.recipe, new=known is None)
    between_boards()
    board = inspection.board
    return Outcome(job.order, job.path, board.serial, board.verdict, fragment, board.n_joints, resumed=known is not None)


# What is needed only once a board is inspected is loaded then: the first board begins the sooner.


def _finished(settings: Settings, record: str) -> Inspection | None:
    if not settings.resume or not settings.work_dir.exists():
        return None
    from inspect_pop.batch.checkpoint import fragment_path, read_fragment

    return read_fragment(fragment_path(settings.work_dir, record))


def _keep(settings: Settings, inspection: Inspection, recipe: Recipe, *, new: bool) -> Path:
    """Page, fragment, record: in this order. Returns where the fragment lies."""
    from inspect_pop.batch.checkpoint import fragment_path, write_fragment
    from inspect_pop.report.write import write_board_report

    fragment = fragment_path(settings.work_dir, inspection.board.record)
    if new and (settings.pages == "all" or (settings.pages == "suspect" and inspection.board.verdict != "pass")):
        write_board_report(settings.out / "report", inspection, recipe)
    if new:
        write_fragment(fragment, inspection)
    _store(settings.store_url).write(inspection, run=settings.run_id)
    return fragment


def look(settings: Settings, job: Job) -> tuple[BoardExport, JointTable]:
    """Inspect a board and keep nothing: for a survey of its machine."""
    export = open_export(job.path, job.root)
    classifier = _classifier(settings.model_dir, settings.device, settings.point)
    joints = _inspect(export, classifier, settings.limits).joints
    between_boards()
    return export, joints


def _classifier_of(settings: Settings, export: BoardExport) -> Classifier:
    """What decides on this machine's boards: its own network where the model has one, else with thresholds that follow it."""
    classifier = _classifier(settings.model_dir, settings.device, settings.point).of_machine(export.machine)
    point = dict(settings.points).get(export.machine)
    return classifier if point is None else classifier.deciding_at(point)


@lru_cache(maxsize=1)
def _classifier(model_dir: Path | None, device: str, point: OperatingPoint | None) -> Classifier:
    settle_on_one_core()
    return Classifier(load(model_dir), device=device, point=point)


@lru_cache(maxsize=1)
def _store(url: str) -> "Store":
    from inspect_pop.store import open_store

    return open_store(url)


def _inspect(export: BoardExport, classifier: Classifier, limits: Limits) -> Inspection:
    return inspect_board(export, classifier, limits, started_at=datetime.now(UTC).isoformat(timespec="milliseconds"))

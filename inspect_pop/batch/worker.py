"""One board of a batch: open the export, inspect it, write its page, windows and checkpoint, store its record. In that order.

Stopped at any moment and repeated, this ends in the same place: the checkpoint comes before the record, so that a board whose
record is written is never inspected a second time.
"""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from inspect_pop.batch.jobs import BatchSettings, BoardJob, JobOutcome, choose_limits
from inspect_pop.batch.process_tuning import release_between_boards, tune_process
from inspect_pop.classify.model import OperatingPoint, load
from inspect_pop.classify.session import Classifier
from inspect_pop.core.clock import utc_now
from inspect_pop.core.inspection import Inspection
from inspect_pop.core.joint_table import JointTable
from inspect_pop.core.limits import Limits
from inspect_pop.ingest import BoardExport, open_export
from inspect_pop.pipeline.board import inspect_board
from inspect_pop.pipeline.record import compute_record_id

if TYPE_CHECKING:
    from inspect_pop.store import Store

__all__ = ["inspect_job", "inspect_only", "inspect_path"]


def inspect_path(path: Path, root: Path, classifier: Classifier, limits: Limits) -> Inspection:
    """Inspect the board in one folder, now. Raises `InputFault` for what is wrong with it."""
    return _inspect(open_export(path, root), classifier, limits)


def inspect_job(settings: BatchSettings, job: BoardJob) -> JobOutcome:
    """Inspect one board of a run and store its record, unless an earlier start of the run has done so. Raises `PopError`."""
    export = open_export(job.path, job.root)
    # A machine that the model was trained on has a network in the model; others have thresholds that follow them.
    classifier = _load_classifier(settings.model_dir, settings.device, settings.operating_point).for_machine(export.machine)
    point = dict(settings.machine_points).get(export.machine)
    if point is not None:
        classifier = classifier.with_operating_point(point)
    limits = choose_limits(settings.limits, settings.qualified, export.machine, classifier.digest)
    record = compute_record_id(export, classifier.digest, limits.digest, classifier.point)

    earlier = None
    if settings.resume and settings.work_dir.exists():
        from inspect_pop.batch.checkpoint import checkpoint_path, read_checkpoint

        earlier = read_checkpoint(checkpoint_path(settings.work_dir, record))
    inspection = earlier or _inspect(export, classifier, limits, keep_stacks=True)
    board = inspection.board

    # What is needed only once a board is inspected is imported here: the first board begins the sooner.
    from inspect_pop.batch.checkpoint import checkpoint_path, write_checkpoint
    from inspect_pop.report.write import write_board_report

    checkpoint = checkpoint_path(settings.work_dir, board.record)
    if earlier is None:
        if settings.pages == "all" or (settings.pages == "suspect" and board.verdict != "pass"):
            write_board_report(settings.out / "report", inspection, export.recipe)
        _keep_windows(_open_store(settings.store_url), inspection, export, job)
        write_checkpoint(checkpoint, inspection)
    store = _open_store(settings.store_url)
    store.write(inspection, run=settings.run_id)
    stored = store.record(board.record) if settings.results else None
    if stored is not None:
        for target in settings.results:
            target.write(stored)
    release_between_boards()
    return JobOutcome(job.order, job.path, board.serial, board.verdict, checkpoint, board.n_joints, resumed=earlier is not None)


def inspect_only(settings: BatchSettings, job: BoardJob) -> tuple[BoardExport, JointTable]:
    """Inspect a board with the model's thresholds and record nothing; return the export and its joints."""
    export = open_export(job.path, job.root)
    classifier = _load_classifier(settings.model_dir, settings.device, settings.operating_point)
    joints = _inspect(export, classifier, settings.limits).joints
    release_between_boards()
    return export, joints


@lru_cache(maxsize=1)
def _load_classifier(model_dir: Path | None, device: str, point: OperatingPoint | None) -> Classifier:
    tune_process()
    return Classifier(load(model_dir), device=device, point=point)


@lru_cache(maxsize=1)
def _open_store(url: str) -> "Store":
    from inspect_pop.store import open_store

    return open_store(url)


def _keep_windows(store: "Store", inspection: Inspection, export: BoardExport, job: BoardJob) -> None:
    from inspect_pop.verify.windows import ExportPlace, cut_windows
    from inspect_pop.verify.windows_file import keep_windows

    place = ExportPlace(str(job.path.resolve()), str(job.root.resolve()), export.digest)
    keep_windows(store, cut_windows(inspection, export.recipe, place, sample_size=store.verify_sample))


def _inspect(export: BoardExport, classifier: Classifier, limits: Limits, *, keep_stacks: bool = False) -> Inspection:
    return inspect_board(export, classifier, limits, started_at=utc_now(), keep_stacks=keep_stacks)

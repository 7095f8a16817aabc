"""Work on one board of a batch: its inspection, its checkpoint, and the thresholds that follow a machine's first boards.

A checkpoint is an Arrow file of the board's joints (a fifth of the time that Parquet takes to write and read, half as large
again) with the board and package records as JSON in its metadata, and a digest of all that at its end. It is written under
another name and then renamed, so that it is whole or absent; one that a crash of the machine damaged counts as absent.
It is named for its record, whose identity holds all that the result depends on: a checkpoint of another model, recipe, limit
or software is never taken for this one.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from inspect_pop.batch.jobs import BatchSettings, BoardJob, JobOutcome, choose_limits, release_between_boards, tune_process
from inspect_pop.batch.run import Executor
from inspect_pop.classify.model import OperatingPoint, load
from inspect_pop.classify.operating_points import choose_machine_point
from inspect_pop.classify.session import Classifier
from inspect_pop.core.columns import JointTable
from inspect_pop.core.errors import InputFault, PopError, StoreFault, describe_error
from inspect_pop.core.inspection import BoardRecord, Inspection, PackageRecord
from inspect_pop.core.limits import Limits
from inspect_pop.core.system import utc_now, write_bytes, write_text
from inspect_pop.ingest import BoardExport, open_export
from inspect_pop.pipeline.board import inspect_board
from inspect_pop.pipeline.record import compute_record_id
from inspect_pop.store.joint_files import from_arrow, to_arrow

if TYPE_CHECKING:
    from inspect_pop.store import Store

__all__ = [
    "JOINTS_PER_MACHINE",
    "checkpoint_path",
    "defect_log_odds",
    "find_first_boards",
    "find_machine_points",
    "inspect_job",
    "inspect_only",
    "inspect_path",
    "read_checkpoint",
    "write_checkpoint",
]

_META = b"inspection"
_DIGEST_BYTES = hashlib.sha256().digest_size
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


def checkpoint_path(work_dir: Path, record: str) -> Path:
    """Return the path of this record's checkpoint, whether it exists or not."""
    return work_dir / record[:2] / f"{record}.arrow"


def write_checkpoint(path: Path, inspection: Inspection) -> None:
    """Write the inspection, without its pictures, to `path`: whole or not at all. Raises `StoreFault`."""
    meta = {
        "board": _nan_to_null(asdict(inspection.board)),
        "packages": [_nan_to_null(asdict(p)) for p in inspection.packages],
        "timings_ms": inspection.timings_ms,
    }
    table = to_arrow(inspection.joints).replace_schema_metadata({_META: json.dumps(meta).encode()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=_OPTIONS) as writer:
        writer.write_table(table)
    body = sink.getvalue().to_pybytes()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, body + hashlib.sha256(body).digest())
    except OSError as error:
        remedy = "Make room or choose another --out, then repeat the same command to resume."
        raise StoreFault(str(path.parent), expected="a folder to write to", found=describe_error(error), remedy=remedy) from error


def read_checkpoint(path: Path) -> Inspection | None:
    """Read the inspection at `path`, without its pictures; None where there is none, or where the file is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        return None
    table = pa.ipc.open_file(body).read_all()
    meta = json.loads(table.schema.metadata[_META])
    board = _null_to_nan(BoardRecord, meta["board"]) | {"missing": tuple(meta["board"]["missing"])}
    packages = tuple(PackageRecord(**_null_to_nan(PackageRecord, p)) for p in meta["packages"])
    return Inspection(BoardRecord(**board), packages, from_arrow(table), timings_ms=meta["timings_ms"])


def _nan_to_null(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace NaN, which JSON does not have, by null."""
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}


def _null_to_nan(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    floats = {f.name for f in fields(kind) if f.type in {"float", float}}
    return {k: math.nan if v is None and k in floats else v for k, v in values.items()}


# One board of a batch: open the export, inspect it, write its page, windows and checkpoint, store its record. In that order.
#
# Stopped at any moment and repeated, this ends in the same place: the checkpoint comes before the record, so that a board whose
# record is written is never inspected a second time.


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
        earlier = read_checkpoint(checkpoint_path(settings.work_dir, record))
    inspection = earlier or _inspect(export, classifier, limits, keep_stacks=True)
    board = inspection.board

    # What is needed only once a board is inspected is imported here: the first board begins the sooner.
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


# Thresholds that follow the machine: its first boards are inspected once more, then all its boards are decided by what they say.
#
# The thresholds are stored with the run (`.work/machines-….json`), so that a resumed run decides as it began.


JOINTS_PER_MACHINE = 3000  # by then a machine's scale is known (`classify.machine`), and inspecting them twice costs little
BOARDS_SEARCHED = 400  # boards that are opened in search of machines: a batch is the work of a few
_TINY = 1e-30  # stands for a probability that float32 has rounded to 0


def defect_log_odds(joints: JointTable) -> tuple[float, ...]:
    """Return the log-odds of "defective" of every joint that has probabilities."""
    p = joints.probabilities().astype(np.float64)
    odds = np.log(np.maximum(p[:, 1:].sum(axis=1), _TINY)) - np.log(np.maximum(p[:, 0], _TINY))
    return tuple(odds[np.isfinite(p[:, 0])].tolist())


def find_machine_points(
    jobs: Sequence[BoardJob], settings: BatchSettings, executor: Executor
) -> tuple[tuple[str, OperatingPoint], ...]:
    """Find each machine's operating point from the first boards of the batch that it took.

    A machine keeps the model's operating point where its boards say too little, where it first appears late in a large batch,
    or where the model was trained on it and has thresholds from labels. Raises `ModelFault`, `StoreFault`.
    """
    card = load(settings.model_dir).card
    point = settings.operating_point.model_dump_json() if settings.operating_point else ""
    # another model, other limits or thresholds: another file
    key = hashlib.sha256("\n".join((card.model_dump_json(), settings.limits.digest, point)).encode()).hexdigest()[:16]
    path = settings.work_dir / f"machines-{key}.json"
    if settings.resume:
        earlier = _read_points(path)
        if earlier is not None:
            return earlier
    odds: dict[str, list[float]] = {}
    for _, future in executor(partial(measure_machine, settings), find_first_boards(jobs)):
        error = future.exception()
        if error is None:
            machine, board_odds = future.result()
            odds.setdefault(machine, []).extend(board_odds)
        elif isinstance(error, PopError) and not isinstance(error, InputFault):
            raise error  # of the model or the store; what is wrong with a board is reported when it is inspected
    reference = settings.operating_point or card.operating_point
    followed = sorted(odds.keys() - card.machines.keys())
    points = tuple((m, choose_machine_point(np.sort(odds[m]), card.good_scores, reference).point) for m in followed)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({machine: point.model_dump() for machine, point in points}, indent=1))
    except OSError as error:
        remedy = "Make room or choose another --out, then repeat the same command."
        raise StoreFault(str(path), expected="a file that can be written", found=describe_error(error), remedy=remedy) from error
    return points


def measure_machine(settings: BatchSettings, job: BoardJob) -> tuple[str, tuple[float, ...]]:
    """Inspect a board without recording it; return its machine and the log-odds of its joints. Runs in a worker."""
    export, joints = inspect_only(settings, job)
    return export.machine, defect_log_odds(joints)


def find_first_boards(jobs: Iterable[BoardJob]) -> list[BoardJob]:
    """Return the first boards of each machine, in the order of the batch, until they have `JOINTS_PER_MACHINE` joints."""
    chosen, joints = [], Counter[str]()
    for job in list(jobs)[:BOARDS_SEARCHED]:
        try:
            export = open_export(job.path, job.root)
        except InputFault:
            continue
        machine = export.machine
        if joints[machine] < JOINTS_PER_MACHINE:
            joints[machine] += export.recipe.n_joints
            chosen.append(job)
    return chosen


def _read_points(path: Path) -> tuple[tuple[str, OperatingPoint], ...] | None:
    try:
        points = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return tuple((machine, OperatingPoint.model_validate(point)) for machine, point in points.items())

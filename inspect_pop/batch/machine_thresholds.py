"""Thresholds that follow the machine: its first boards are inspected once more, then all its boards are decided by what they say.

The thresholds are stored with the run (`.work/machines-….json`), so that a resumed run decides as it began.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from inspect_pop.batch.jobs import BatchSettings, BoardJob
from inspect_pop.batch.run import Executor
from inspect_pop.batch.worker import inspect_only
from inspect_pop.classify.model import OperatingPoint, load
from inspect_pop.classify.operating_points import choose_machine_point
from inspect_pop.core.atomic import write_text
from inspect_pop.core.errors import InputFault, PopError, StoreFault, describe_error
from inspect_pop.core.joint_table import JointTable
from inspect_pop.ingest import open_export

__all__ = ["JOINTS_PER_MACHINE", "defect_log_odds", "find_first_boards", "find_machine_points"]

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

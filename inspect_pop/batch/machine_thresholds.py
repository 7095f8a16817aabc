"""Thresholds that follow the machine: its first boards are looked at once more, then all of its boards are decided by its own.

What was found is kept with the run (`.work/machines-….json`), so that a run that goes on decides as it began.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from inspect_pop.batch.jobs import Job, Settings
from inspect_pop.batch.run import Executor
from inspect_pop.batch.worker import look
from inspect_pop.classify.model import OperatingPoint, load
from inspect_pop.classify.operating_points import machine_point
from inspect_pop.core.errors import InputFault, PopError, StoreFault
from inspect_pop.core.joint_table import JointTable
from inspect_pop.ingest import open_export

__all__ = ["machine_points", "odds_of"]

JOINTS = 3000  # of one machine: by then its scale is known (`classify.machine`), and looking at them twice costs little
LOOKED_THROUGH = 400  # boards that are opened in search of machines: a batch is the work of a few
_TINY = 1e-30  # what float32 has rounded to nothing

Seen = tuple[str, tuple[float, ...]]  # a machine, and the log-odds of one board's joints


def odds_of(joints: JointTable) -> tuple[float, ...]:
    """Log-odds of 'defective' of every joint about which something was decided, from its probabilities."""
    p = joints.probabilities().astype(np.float64)
    odds = np.log(np.maximum(p[:, 1:].sum(axis=1), _TINY)) - np.log(np.maximum(p[:, 0], _TINY))
    return tuple(odds[np.isfinite(p[:, 0])].tolist())


def machine_points(jobs: Sequence[Job], settings: Settings, executor: Executor) -> tuple[tuple[str, OperatingPoint], ...]:
    """Each machine's own operating point, from the first boards of the batch that it took.

    A machine whose boards say too little, or that first appears late in a large batch, keeps the model's. Raises
    `ModelFault`, `StoreFault`.
    """
    card = load(settings.model_dir).card
    kept = _kept_at(settings, card.model_dump_json())
    known = _read(kept) if settings.resume else None
    if known is not None:
        return known
    odds: dict[str, list[float]] = {}
    for _, future in executor(partial(_look, settings), _first_of_each(jobs)):
        error = future.exception()
        if error is None:
            machine, found = future.result()
            odds.setdefault(machine, []).extend(found)
        elif isinstance(error, PopError) and not isinstance(error, InputFault):
            raise error  # of the model or the store; what is wrong with a board is told when it is inspected
    reference = settings.point or card.operating_point
    followed = sorted(odds.keys() - card.machines.keys())  # a machine that the model was taught on has thresholds from labels
    points = tuple((m, machine_point(np.sort(odds[m]), card.good_scores, reference).point) for m in followed)
    _write(kept, points)
    return points


def _look(settings: Settings, job: Job) -> Seen:
    export, joints = look(settings, job)
    return export.machine, odds_of(joints)


def _first_of_each(jobs: Iterable[Job]) -> list[Job]:
    """The first boards of each machine, in the order of the batch, until they have joints enough."""
    chosen, joints = [], Counter[str]()
    for job in list(jobs)[:LOOKED_THROUGH]:
        try:
            export = open_export(job.path, job.root)
        except InputFault:
            continue
        machine = export.machine
        if joints[machine] < JOINTS:
            joints[machine] += export.recipe.n_joints
            chosen.append(job)
    return chosen


def _kept_at(settings: Settings, model: str) -> Path:
    """Another model, other limits or thresholds: another survey."""
    point = settings.point.model_dump_json() if settings.point else ""
    name = hashlib.sha256("\n".join((model, settings.limits.digest, point)).encode()).hexdigest()[:16]
    return settings.work_dir / f"machines-{name}.json"


def _read(path: Path) -> tuple[tuple[str, OperatingPoint], ...] | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return tuple((machine, OperatingPoint.model_validate(point)) for machine, point in kept.items())


def _write(path: Path, points: Iterable[tuple[str, OperatingPoint]]) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({machine: point.model_dump() for machine, point in points}, indent=1), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        remedy = "Make room or choose another --out, and give the same command again."
        raise StoreFault(str(path), expected="a file that can be written", found=str(error), remedy=remedy) from error

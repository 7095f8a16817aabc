"""`inspect_board`: the steps in order, timed, nothing else."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop import flags
from inspect_pop.causes import Cause, PackageState, find_bulge, suspect
from inspect_pop.classify.session import Classifier, Scores
from inspect_pop.decide import Decisions, board_verdict, decide_joints, undecided
from inspect_pop.ingest.contract import BoardExport
from inspect_pop.inspection import Inspection, PackageRecord
from inspect_pop.joints import CLASSES, COLUMNS, JointTable, concat
from inspect_pop.limits import Limits
from inspect_pop.pictures import suspect_crops
from inspect_pop.prepare import PreparedBoard, PreparedInterface, PreparedPackage, Steps, prepare_board
from inspect_pop.yield_record import board_record, counts_by_interface

__all__ = ["inspect_board", "inspect_prepared"]

# The image that tells where a package sits: the joints to the board first, for they carry it.
_WHERE = ("lower", "upper", "post_reflow", "pre_stack")


def utc_now() -> str:
    """Now, ISO 8601 with offset, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def inspect_board(
    export: BoardExport,
    classifier: Classifier,
    limits: Limits,
    *,
    started_at: str,
    ahead: bool = False,
    now: Callable[[], str] = utc_now,
) -> Inspection:
    """Inspect one board: every joint that its recipe expects gets a row, a verdict and a reason.

    `ahead` as in `prepare_board`. Raises `InputFault` where the export cannot be used: the board goes to quarantine, no pass.
    """
    return inspect_prepared(prepare_board(export, limits, ahead=ahead), classifier, limits, started_at=started_at, now=now)


def inspect_prepared(
    prepared: PreparedBoard, classifier: Classifier, limits: Limits, *, started_at: str, now: Callable[[], str] = utc_now
) -> Inspection:
    """The steps after measuring: classify, decide, find the cause, make the record."""
    steps, export = Steps(), prepared.export
    classifier = classifier.of_machine(export.machine)
    tables = []
    for package in prepared.packages:
        for part in package.interfaces:
            with steps.step("classify"):
                scores = classifier.classify(part.inputs) if part.inputs is not None else None
            with steps.step("decide"):
                tables.append(_table(export, package, part, scores, classifier))
    joints = concat(tables)
    with steps.step("causes"):
        causes = [suspect(joints, p.package, _state(p), limits) for p in prepared.packages]
        packages = tuple(_package_record(export.serial, p, joints, c) for p, c in zip(prepared.packages, causes, strict=True))
    with steps.step("pictures"):
        crops = suspect_crops(joints, [part for p in prepared.packages for part in p.interfaces])
    record = board_record(
        export,
        joints,
        packages,
        verdict=board_verdict(joints["verdict"]),
        causes=causes,
        missing=prepared.missing,
        model_digest=classifier.digest,
        limits_digest=limits.digest,
        operating_point=classifier.point,
        started_at=started_at,
        finished_at=now(),
    )
    return Inspection(
        board=record,
        packages=packages,
        joints=joints,
        crops=crops,
        heights=tuple(heights for p in prepared.packages for heights in p.heights.values()),
        placements={f"{p.package.refdes}/{name}": where for p in prepared.packages for name, where in p.placements.items()},
        timings_ms=prepared.timings_ms | steps.times_ms,
    )


def _table(
    export: BoardExport, package: PreparedPackage, part: PreparedInterface, scores: Scores | None, classifier: Classifier
) -> JointTable:
    """All rows of one interface, in the recipe's order."""
    n, columns = len(part.interface.ball), dict(part.columns)
    if scores is None:
        decided = undecided(n, flags.meaning("no_slices"))
        p = np.full((n, len(CLASSES)), np.nan, dtype=np.float32)
    else:
        columns["flags"] = columns["flags"] | np.where(scores.unfamiliar > 1, flags.bit("unfamiliar"), 0)
        decided = _decide(part, columns["flags"], scores, classifier)
        p = scores.probabilities
    text = {"serial": export.serial, "refdes": package.package.refdes, "interface": part.interface.name}
    text |= {"model": classifier.digest, "recipe": export.recipe.digest}
    values: dict[str, Any] = {name: np.full(n, value, dtype=object) for name, value in text.items()}
    values |= {"ball": list(part.interface.ball), "label": decided.label, "verdict": decided.verdict, "reason": decided.reason}
    values |= {f"p_{c}": p[:, k] for k, c in enumerate(CLASSES)}
    values |= columns
    values |= {c.name: np.full(n, np.nan, np.float32) for c in COLUMNS if c.kind == "float32" and c.name not in values}
    return JointTable(values)


def _decide(part: PreparedInterface, bits: NDArray[np.int64], scores: Scores, classifier: Classifier) -> Decisions:
    interface = part.interface
    return decide_joints(scores, bits, classifier.point, x_um=interface.x_um, y_um=interface.y_um, pitch_um=interface.pitch_um)


def _state(prepared: PreparedPackage) -> PackageState:
    """What the height maps told, for the search for a cause.

    Where the memory sits against the bottom package stays unknown: every image has an offset of its own.
    """
    if prepared.after is None:
        return PackageState()
    bulge = find_bulge(prepared.heights["post_reflow"], prepared.placements["post_reflow"], prepared.package)
    return PackageState(prepared.after.warpage_um, prepared.after.height_um, bulge)


def _package_record(serial: str, prepared: PreparedPackage, joints: JointTable, cause: Cause) -> PackageRecord:
    package, after = prepared.package, prepared.after
    where = next((prepared.placements[k] for k in _WHERE if k in prepared.placements), None)
    return PackageRecord(
        serial=serial,
        refdes=package.refdes,
        part=package.part,
        construction=package.construction,
        offset_x_um=where.offset_x_um if where else math.nan,
        offset_y_um=where.offset_y_um if where else math.nan,
        rotation_deg=where.rotation_deg if where else math.nan,
        warpage_um=after.warpage_um if after else math.nan,
        stack_height_um=after.height_um if after else math.nan,
        cause=cause.name,
        cause_evidence=cause.evidence,
        counts=counts_by_interface(joints, package.refdes, [i.name for i in package.interfaces]),
        warpage_limit_um=package.warpage_limit_um,
    )

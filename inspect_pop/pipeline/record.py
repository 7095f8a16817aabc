"""From decided joints to the records of packages and board: counts, first-pass yield, DPMO, cause, disposition, identity."""

import hashlib
from collections.abc import Sequence

from inspect_pop import __version__
from inspect_pop.classify.model import OperatingPoint
from inspect_pop.core.inspection import BoardRecord, PackageRecord
from inspect_pop.core.joint_table import CLASSES, JointTable
from inspect_pop.diagnose import Cause
from inspect_pop.diagnose.cause import disposition
from inspect_pop.ingest.contract import BoardExport

__all__ = ["OPPORTUNITIES_A_PACKAGE", "board_record", "counts_by_interface", "record_id"]

# ---- yield_record
# IPC-7912 and IPC-9261 count terminations, placements and components apart: beside its joints, a PoP site has two
# placements and two components.
OPPORTUNITIES_A_PACKAGE = 4


def counts_by_interface(joints: JointTable, refdes: str, interfaces: Sequence[str]) -> dict[str, dict[str, int]]:
    """`counts[interface][label]` of one package; `none` counts joints without a label, `review` those a person must see."""
    counts = {}
    for name in interfaces:
        rows = joints.take((joints["refdes"] == refdes) & (joints["interface"] == name))
        labels = list(rows["label"])
        counts[name] = {c: labels.count(c) for c in CLASSES}
        counts[name] |= {"none": labels.count(None), "review": list(rows["verdict"]).count("review")}
    return counts


def record_id(export: BoardExport, model_digest: str, limits_digest: str, point: OperatingPoint) -> str:
    """Identity of a record: the same export by the same recipe, model, limits and operating point is the same record."""
    thresholds = f"{point.pass_below:.6g} {point.fail_above:.6g}"
    parts = (export.digest, export.recipe.digest, model_digest, limits_digest, thresholds, __version__)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def board_record(
    export: BoardExport,
    joints: JointTable,
    packages: Sequence[PackageRecord],
    *,
    verdict: str,
    causes: Sequence[Cause],
    missing: Sequence[str],
    model_digest: str,
    limits_digest: str,
    operating_point: OperatingPoint,
    started_at: str,
    finished_at: str,
) -> BoardRecord:
    """The yield record of one board; `causes` one a package, of which the strongest speaks for the board."""
    labels = list(joints["label"])
    count = {c: labels.count(c) for c in CLASSES}
    defects = sum(count[c] for c in CLASSES[1:])
    opportunities = len(joints) + OPPORTUNITIES_A_PACKAGE * len(packages)
    cause = max(causes, key=lambda c: c.strength, default=Cause("none", "no package"))
    return BoardRecord(
        record=record_id(export, model_digest, limits_digest, operating_point),
        serial=export.serial,
        panel=export.panel,
        position=export.position,
        product=export.product,
        lot=export.lot,
        work_order=export.work_order,
        line=export.line,
        station=export.station,
        operator=export.operator,
        recipe=export.recipe.name,
        recipe_revision=export.recipe.revision,
        recipe_digest=export.recipe.digest,
        inspected_at=export.inspected_at,
        started_at=started_at,
        finished_at=finished_at,
        verdict=verdict,
        n_joints=len(joints),
        **{f"n_{c}": count[c] for c in CLASSES},
        n_undecided=labels.count(None),
        n_review=list(joints["verdict"]).count("review"),
        fpy=float(verdict == "pass"),
        dpmo=1e6 * defects / opportunities if opportunities else 0.0,
        cause=cause.name,
        cause_evidence=cause.evidence,
        disposition=_worst_disposition(export, joints, verdict),
        missing=tuple(missing),
        export_digest=export.digest,
        model_digest=model_digest,
        limits_digest=limits_digest,
        software=__version__,
        operating_point=_in_words(operating_point),
    )


def _in_words(point: OperatingPoint) -> str:
    return f"pass below {point.pass_below:.2f}, fail from {point.fail_above:.2f} (log-odds of a defect): {point.source}"


def _worst_disposition(export: BoardExport, joints: JointTable, verdict: str) -> str:
    """The largest rework that any package of the board needs."""
    order = ("ship", "review", "rework_memory", "rework_stack")
    found = []
    for package in export.recipe.packages:
        failed = joints.take((joints["refdes"] == package.refdes) & (joints["verdict"] == "fail"))
        labels = {
            i.name: [x for x, n in zip(failed["label"], failed["interface"], strict=True) if n == i.name]
            for i in package.interfaces
        }
        found.append(disposition(labels, verdict, package.underfill))
    return max(found, key=order.index, default="review")

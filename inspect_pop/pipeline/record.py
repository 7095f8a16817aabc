"""The record of a board: counts, first-pass yield, DPMO, cause, disposition, identity, and the crops that go with it."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from inspect_pop import __version__
from inspect_pop.classify.model import OperatingPoint
from inspect_pop.core.classes import CLASSES, DEFECTS, GOOD
from inspect_pop.core.columns import JointTable
from inspect_pop.core.geometry import Placement
from inspect_pop.core.inspection import BoardRecord, Crops, PackageRecord
from inspect_pop.core.recipe import DISPOSITION_ORDER, Interface, Package, describe_construction
from inspect_pop.core.system import LARGEST_AHEAD_S
from inspect_pop.diagnose import Cause, choose_disposition
from inspect_pop.ingest.contract import BoardExport
from inspect_pop.measure import TopShape
from inspect_pop.segment.windows import Windows

__all__ = [
    "MOST_SUSPECTS",
    "build_board_record",
    "build_package_record",
    "collect_crops",
    "compute_record_id",
    "describe_clock",
    "find_passing_neighbour",
    "find_rejected",
    "scale_grey",
]

# With more suspect joints than this, people do not look at a page joint by joint, and a tablet displays it slowly.
MOST_SUSPECTS = 120
# Normalised grey from -0.15 to 1.35 fills a byte: dark halos and voids below 0, cores of large joints above 1.
_LOW, _HIGH = -0.15, 1.35
# The image that gives the package's offset: the lower joints first, since they carry the package.
_OFFSET_FROM = ("lower", "upper", "post_reflow", "pre_stack")


def compute_record_id(export: BoardExport, model_digest: str, limits_digest: str, point: OperatingPoint) -> str:
    """Return the identity of a record, 32 hexadecimal digits.

    The same export inspected with the same recipe, model, limits, operating point and software gives the same record.
    """
    thresholds = f"{point.pass_below:.6g} {point.fail_above:.6g}"
    parts = (export.digest, export.recipe.digest, model_digest, limits_digest, thresholds, __version__)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def build_package_record(
    serial: str, package: Package, placements: Mapping[str, Placement], after: TopShape | None, joints: JointTable, cause: Cause
) -> PackageRecord:
    """Build the record of one package.

    `placements` are those of its images, by interface or stage; `after` is its top after reflow, None without a map.
    `counts[interface][label]` also counts `none`, the joints without a label, `review`, those in review, and `rejected`, the good
    ones that fail by an acceptance criterion.
    """
    counts: dict[str, dict[str, int]] = {}
    for interface in package.interfaces:
        rows = joints.take((joints["refdes"] == package.refdes) & (joints["interface"] == interface.name))
        labels = list(rows["label"])
        counts[interface.name] = {c: labels.count(c) for c in CLASSES}
        counts[interface.name] |= {"none": labels.count(None), "review": list(rows["verdict"]).count("review")}
        counts[interface.name]["rejected"] = int(find_rejected(rows).sum())
    placement = next((placements[k] for k in _OFFSET_FROM if k in placements), None)
    return PackageRecord(
        serial=serial,
        refdes=package.refdes,
        part=package.part,
        construction=package.construction,
        offset_x_um=placement.offset_x_um if placement else math.nan,
        offset_y_um=placement.offset_y_um if placement else math.nan,
        rotation_deg=placement.rotation_deg if placement else math.nan,
        warpage_um=after.warpage_um if after else math.nan,
        stack_height_um=after.height_um if after else math.nan,
        cause=cause.name,
        cause_evidence=cause.evidence,
        counts=counts,
        warpage_limit_um=package.warpage_limit_um,
    )


def build_board_record(
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
    profile: str,
    stray_solder: Sequence[str],
    unlike: Sequence[str] = (),
    pictures: Mapping[str, Mapping[str, float | None]] | None = None,
    started_at: str,
    finished_at: str,
) -> BoardRecord:
    """Build the yield record of one board. `causes` holds one per package; the strongest becomes the board's."""
    labels = list(joints["label"])
    count = {c: labels.count(c) for c in CLASSES}
    rejected = int(find_rejected(joints).sum())
    defects = sum(count[c] for c in DEFECTS) + rejected
    opportunities = len(joints) + sum(describe_construction(p.construction).opportunities for p in packages)
    cause = max(causes, key=lambda c: c.strength, default=Cause("none", "no package"))
    point = operating_point
    return BoardRecord(
        record=compute_record_id(export, model_digest, limits_digest, point),
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
        n_rejected=rejected,
        fpy=float(verdict == "pass"),
        dpmo=1e6 * defects / opportunities if opportunities else 0.0,
        cause=cause.name,
        cause_evidence=cause.evidence,
        disposition=_find_disposition(export, joints, verdict),
        missing=tuple(missing),
        export_digest=export.digest,
        model_digest=model_digest,
        limits_digest=limits_digest,
        software=__version__,
        operating_point=(
            f"pass below {point.pass_below:.2f}, fail from {point.fail_above:.2f} (log-odds of a defect): {point.source}"
        ),
        profile=profile,
        stray_solder="; ".join(stray_solder),
        unlike="; ".join(unlike),
        pictures=json.dumps(pictures or {}),
        note=describe_clock(export.inspected_at, started_at),
        assumed="; ".join(export.assumed),
    )


def describe_clock(inspected_at: str, started_at: str) -> str:
    """Return a note if the machine inspected the board long after this computer says that it is now; empty otherwise."""
    ahead_s = (datetime.fromisoformat(inspected_at) - datetime.fromisoformat(started_at)).total_seconds()
    if ahead_s <= LARGEST_AHEAD_S:
        return ""
    return f"inspected_at is {ahead_s / 86400:.1f} days in the future: check the clock of the machine, or of this computer"


def _find_disposition(export: BoardExport, joints: JointTable, verdict: str) -> str:
    """Return the largest rework that any package of the board needs; `review` for a board without a package."""
    found = []
    for package in export.recipe.packages:
        failed = joints.take((joints["refdes"] == package.refdes) & (joints["verdict"] == "fail"))
        found.append(choose_disposition(set(failed["interface"]), verdict, package.underfill))
    return max(found, key=DISPOSITION_ORDER.index, default="review")


def find_rejected(joints: JointTable) -> NDArray[np.bool_]:
    """Return which joints are good and fail all the same, by an acceptance criterion: defects that have no class."""
    return np.asarray((joints["label"] == GOOD) & (joints["verdict"] == "fail"))


def find_passing_neighbour(interface: Interface, verdicts: NDArray[np.object_], joint: int) -> int | None:
    """Return the nearest joint of the interface that passed, to compare `joint` with; None where none did.

    `verdicts` (n,) are those of the interface's joints, in its order.
    """
    passed = np.flatnonzero(verdicts == "pass")
    passed = passed[passed != joint]
    if len(passed) == 0:
        return None
    distance_um = np.hypot(interface.x_um[passed] - interface.x_um[joint], interface.y_um[passed] - interface.y_um[joint])
    return int(passed[np.argmin(distance_um)])


def scale_grey(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Convert normalised grey (`segment.windows`) to bytes, from dark halos below 0 to bright cores above 1."""
    return np.asarray(np.clip((values - _LOW) / (_HIGH - _LOW) * 255, 0, 255), dtype=np.uint8)


def collect_crops(joints: JointTable, parts: Sequence[tuple[Interface, Windows | None]]) -> Crops | None:
    """Collect the pictures of the suspect joints, each with its nearest passing neighbour of the same interface.

    Joints that failed come before those in review, at most `MOST_SUSPECTS` in all. `parts` are the interfaces with their
    windows (None without slices), in the order of the table. Returns None where there is nothing to show.
    """
    first = np.cumsum([0, *(len(interface.ball) for interface, _ in parts)])
    suspects: list[int] = []
    references: list[int] = []
    slices: dict[int, NDArray[np.float32]] = {}
    for row in np.concatenate([np.flatnonzero(joints["verdict"] == verdict) for verdict in ("fail", "review")]).tolist():
        part = int(np.searchsorted(first, row, side="right")) - 1
        (interface, windows), start = parts[part], int(first[part])
        if windows is None or len(suspects) == MOST_SUSPECTS:
            continue
        nearest = find_passing_neighbour(interface, joints["verdict"][start : start + len(interface.ball)], row - start)
        suspects.append(row)
        references.append(-1 if nearest is None else start + nearest)
        slices[row] = windows.values[row - start]
        if nearest is not None:
            slices[start + nearest] = windows.values[nearest]
    if not suspects:
        return None
    rows = suspects + [r for r in dict.fromkeys(references) if r >= 0]
    n_slices = max(len(windows.z_um) for _, windows in parts if windows is not None)
    pixels = []
    for values in (slices[row] for row in rows):  # an interface with fewer slices repeats its last one
        index = np.minimum(np.arange(n_slices), len(values) - 1)
        pixels.append(scale_grey(values[index]))
    none = [-1] * (len(rows) - len(suspects))
    return Crops(np.asarray(rows, dtype=np.int64), np.stack(pixels), np.asarray(references + none, dtype=np.int64))

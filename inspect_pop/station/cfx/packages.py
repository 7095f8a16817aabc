"""What the height maps show of each package, as steps of a CFX inspection."""

import math
from collections.abc import Iterable
from typing import Any
from uuid import uuid5

from inspect_pop.inspection import PackageRecord
from inspect_pop.station.cfx.identity import of_record
from inspect_pop.station.cfx.joints import Fields, measurement
from inspect_pop.station.cfx.messages import TestResult, UnitInspection, VerificationState

__all__ = ["steps"]


def steps(record: str, packages: Iterable[PackageRecord]) -> tuple[UnitInspection, ...]:
    """One step a package with its warpage (against its limit), stack height, offset and rotation.

    A warpage beyond its limit is a failed measurement; the step passes, since joints decide what becomes of a board.
    """
    return tuple(_step(record, package) for package in packages)


def _step(record: str, package: PackageRecord) -> UnitInspection:
    name = f"{package.refdes}.package"
    measured: Any = _measurements(record, name, package)
    return UnitInspection(
        UniqueIdentifier=uuid5(of_record(record), name),
        InspectionName=name,
        Result=TestResult.PASSED,
        Verification=VerificationState.NOT_VERIFIED_YET,
        Measurements=measured,
    )


def _measurements(record: str, name: str, package: PackageRecord) -> tuple[Fields, ...]:
    values = (
        ("Warpage", package.warpage_um * 1e-6, "m", _limit_m(package)),
        ("StackHeight", package.stack_height_um * 1e-6, "m", math.inf),
        ("OffsetX", package.offset_x_um * 1e-6, "m", math.inf),
        ("OffsetY", package.offset_y_um * 1e-6, "m", math.inf),
        ("Rotation", math.radians(package.rotation_deg), "rad", math.inf),
    )
    present = [v for v in values if math.isfinite(v[1])]
    return tuple(
        measurement(record, name, package.refdes, what, value, unit, i, limit=limit)
        for i, (what, value, unit, limit) in enumerate(present, 1)
    )


def _limit_m(package: PackageRecord) -> float:
    limit = package.warpage_limit_um * 1e-6
    return limit if limit > 0 else math.inf

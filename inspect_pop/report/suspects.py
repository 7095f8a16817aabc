"""The joints that did not pass: which are shown, and what their cards say."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.flags import FLAGS
from inspect_pop.joints import CLASSES, JointTable
from inspect_pop.report.page import number
from inspect_pop.report.sheet import Sheet
from inspect_pop.report.strips import Strip, strips_of

__all__ = ["Suspect", "choose", "suspects_of"]

_MOST = 160


@dataclass(frozen=True)
class Suspect:
    """One card. `pictured` says whether its slices are on the sheet; `reference` is the row of a good joint that is, or None."""

    row: int
    refdes: str
    interface: str
    ball: str
    label: str | None
    p: str
    verdict: str
    reason: str
    flags: tuple[str, ...]
    strips: tuple[Strip, ...]
    pictured: bool
    reference: int | None
    reference_ball: str


def choose(joints: JointTable, limit: int = _MOST) -> tuple[list[int], int]:
    """Rows of the joints to show, and how many more did not pass.

    The first of every class in every interface are taken first, failures before reviews, so that a cap leaves no class
    unseen; what was taken is given in the table's order, failures before reviews.
    """
    rows = [int(r) for r in np.flatnonzero(joints["verdict"] != "pass")]
    turn: dict[tuple[str, str, str | None], int] = {}
    order = []
    for row in rows:
        key = (joints["refdes"][row], joints["interface"][row], joints["label"][row])
        order.append((joints["verdict"][row] != "fail", turn.setdefault(key, 0), row))
        turn[key] += 1
    kept = sorted(order)[:limit]
    return [row for _, row in sorted((later, row) for later, _, row in kept)], len(rows) - len(kept)


def suspects_of(joints: JointTable, rows: Sequence[int], sheet: Sheet, place_um: NDArray[np.float64]) -> list[Suspect]:
    """The cards of these rows; `place_um` (n, 2) are the designed places of all joints."""
    strips = strips_of(joints, rows, place_um)
    return [_suspect(joints, row, sheet, of_row) for row, of_row in zip(rows, strips, strict=True)]


def _suspect(joints: JointTable, row: int, sheet: Sheet, strips: tuple[Strip, ...]) -> Suspect:
    label, flags = joints["label"][row], int(joints["flags"][row])
    reference = sheet.references.get(row)
    return Suspect(
        row=row,
        refdes=joints["refdes"][row],
        interface=joints["interface"][row],
        ball=joints["ball"][row],
        label=label,
        p=number(float(joints[f"p_{label}"][row]), 3) if label in CLASSES else "–",
        verdict=joints["verdict"][row],
        reason=joints["reason"][row],
        flags=tuple(flag.meaning for flag in FLAGS if flags & flag.value),
        strips=strips,
        pictured=row in sheet.places,
        reference=reference,
        reference_ball="" if reference is None else joints["ball"][reference],
    )

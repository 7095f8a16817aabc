"""The joints that did not pass: which are shown, and what their cards say.

The page of one board: verdict, ball maps, suspect joints, height map, and what made the record.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.flags import FLAGS
from inspect_pop.core.inspection import BoardRecord, Inspection, PackageRecord
from inspect_pop.core.joint_table import CLASSES, JointTable
from inspect_pop.core.recipe import Package, Recipe
from inspect_pop.report.ball_map import BallMap, ball_map, designed_um
from inspect_pop.report.height_picture import HeightPicture, height_picture
from inspect_pop.report.joint_cards import Sheet, Strip, drawn_strips, sheet_of, strips_of
from inspect_pop.report.page import number, render
from inspect_pop.report.style import MEASURES

__all__ = ["Suspect", "board_page", "choose", "suspects_of"]

# ---- report/suspects
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


# ---- report/board
@dataclass(frozen=True)
class PackageView:
    """What the page shows of one package."""

    record: PackageRecord
    package: Package
    maps: tuple[BallMap, ...]
    heights: tuple[HeightPicture, ...]


@dataclass(frozen=True)
class SliceFrame:
    """What is drawn over the slices of an interface's joints: its number on the page, and the side of a slice in um."""

    number: int
    window_um: float


def board_page(inspection: Inspection, recipe: Recipe) -> str:
    """One self-contained HTML page, under 3 MB whatever the number of failed joints."""
    joints = inspection.joints
    rows, left_out = choose(joints)
    sheet = sheet_of(inspection.crops, rows)
    return render(
        "board.html",
        board=inspection.board,
        headline=_headline(inspection.board),
        packages=_views(inspection, recipe),
        suspects=suspects_of(joints, rows, sheet, designed_um(joints, recipe)),
        drawn_strips=drawn_strips,
        left_out=left_out,
        without_pictures=sum(row not in sheet.places for row in rows),
        sheet=sheet,
        frames=_frames(recipe, sheet.size),
        timings_ms=inspection.timings_ms,
        data=_data(joints),
    )


def _headline(board: BoardRecord) -> str:
    """The counts behind the verdict, in a sentence."""
    counts = {c: getattr(board, f"n_{c}") for c in CLASSES[1:]}
    parts = [f"{n} {c.replace('_', '-') if c == 'head_in_pillow' else c}" for c, n in counts.items() if n]
    text = f"{', '.join(parts)} of {board.n_joints} joints" if parts else f"no defect among {board.n_joints} joints"
    return f"{text}; {board.n_review} for review" if board.n_review else text


def _views(inspection: Inspection, recipe: Recipe) -> list[PackageView]:
    records = {p.refdes: p for p in inspection.packages}
    views = []
    for package in recipe.packages:
        if package.refdes not in records:
            continue
        maps = tuple(ball_map(inspection.joints, package, i) for i in package.interfaces)
        pictures = (
            height_picture(h, package, inspection.placements.get(f"{package.refdes}/{h.stage}"))
            for h in sorted(inspection.heights, key=lambda h: h.stage)  # after reflow first
            if h.refdes == package.refdes
        )
        views.append(PackageView(records[package.refdes], package, maps, tuple(p for p in pictures if p is not None)))
    return views


def _frames(recipe: Recipe, size: int) -> dict[tuple[str, str], SliceFrame]:
    """By package and interface, what is drawn over slices of `size` samples."""
    from inspect_pop.segment.windows import SAMPLES_PER_PITCH

    interfaces = [(p.refdes, i) for p in recipe.packages for i in p.interfaces]
    return {(refdes, i.name): SliceFrame(k, size * i.pitch_um / SAMPLES_PER_PITCH) for k, (refdes, i) in enumerate(interfaces)}


def _data(joints: JointTable) -> dict[str, Any]:
    """What the page's script needs to colour the maps and tell of a joint: columns, null where not measured."""
    measures = [m for m in MEASURES if m.column in joints and bool(np.isfinite(joints[m.column]).any())]
    return {
        "ball": list(joints["ball"]),
        "interface": list(joints["interface"]),
        "refdes": list(joints["refdes"]),
        "label": list(joints["label"]),
        "verdict": list(joints["verdict"]),
        "reason": list(joints["reason"]),
        "measures": [
            {"key": m.column, "words": m.words, "unit": m.unit, "decimals": m.decimals, "signed": m.signed} for m in measures
        ],
        "values": {m.column: _rounded(joints[m.column], m.decimals) for m in measures},
    }


def _rounded(values: NDArray[np.float32], decimals: int) -> list[float | None]:
    rounded = np.round(values.astype(float), decimals + 1).tolist()
    return [v if known else None for v, known in zip(rounded, np.isfinite(values).tolist(), strict=True)]

"""The page of one board: verdict, ball maps, suspect joints, height map, and what made the record."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.inspection import BoardRecord, Inspection, PackageRecord
from inspect_pop.joints import CLASSES, JointTable
from inspect_pop.recipe import Package, Recipe
from inspect_pop.report.heights import HeightPicture, height_picture
from inspect_pop.report.look import MEASURES
from inspect_pop.report.maps import BallMap, ball_map, designed_um
from inspect_pop.report.page import render
from inspect_pop.report.sheet import sheet_of
from inspect_pop.report.strips import drawn_strips
from inspect_pop.report.suspects import choose, suspects_of

__all__ = ["board_page"]


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

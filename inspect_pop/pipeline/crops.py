"""The pictures that a record keeps: each suspect joint slice by slice, and a passing neighbour to compare it with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from inspect_pop.core.inspection import Crops
from inspect_pop.core.joint_table import JointTable

if TYPE_CHECKING:
    from inspect_pop.pipeline.board import PreparedInterface

__all__ = ["MOST_SUSPECTS", "suspect_crops"]

# A page with more than this many suspects is not looked through joint by joint, and grows past what a tablet likes.
MOST_SUSPECTS = 120
# Normalised grey from -0.15 to 1.35 fills a byte: dark halos and voids below 0, cores of large joints above 1.
_LOW, _HIGH = -0.15, 1.35


def suspect_crops(joints: JointTable, parts: Sequence[PreparedInterface]) -> Crops | None:
    """Crops of joints that did not pass (fails first), as many as `MOST_SUSPECTS`, each with its nearest passing neighbour.

    `parts` are the interfaces in the order in which the table holds them. None where there is nothing to show.
    """
    first = np.cumsum([0, *(len(p.interface.ball) for p in parts)])
    suspects = _suspects(joints, parts, first)
    rows: list[int] = []
    references: list[int] = []
    for row, part in suspects:
        rows.append(row)
        references.append(_neighbour(joints, parts[part], int(first[part]), row))
    shown = rows + [r for r in dict.fromkeys(references) if r >= 0]
    if not rows:
        return None
    slices = max(len(p.windows.z_um) for p in parts if p.windows is not None)
    pixels = np.stack([_picture(parts, first, row, slices) for row in shown])
    reference = np.asarray(references + [-1] * (len(shown) - len(rows)), dtype=np.int64)
    return Crops(np.asarray(shown, dtype=np.int64), pixels, reference)


def _suspects(joints: JointTable, parts: Sequence[PreparedInterface], first: np.ndarray) -> list[tuple[int, int]]:
    """(row, part) of joints with a picture that did not pass."""
    out = []
    for verdict in ("fail", "review"):
        for row in np.flatnonzero(joints["verdict"] == verdict):
            part = int(np.searchsorted(first, row, side="right")) - 1
            if parts[part].windows is not None:
                out.append((int(row), part))
    return out[:MOST_SUSPECTS]


def _neighbour(joints: JointTable, part: PreparedInterface, first: int, row: int) -> int:
    """The row of the nearest joint of the same interface that passed, or -1."""
    interface = part.interface
    passed = np.flatnonzero(joints["verdict"][first : first + len(interface.ball)] == "pass")
    if len(passed) == 0:
        return -1
    k = row - first
    away = np.hypot(interface.x_um[passed] - interface.x_um[k], interface.y_um[passed] - interface.y_um[k])
    return first + int(passed[np.argmin(away)])


def _picture(parts: Sequence[PreparedInterface], first: np.ndarray, row: int, slices: int) -> np.ndarray:
    """(slices, size, size) uint8; an interface with fewer slices repeats its last one."""
    part = int(np.searchsorted(first, row, side="right")) - 1
    windows = parts[part].windows
    if windows is None:
        raise ValueError(f"row {row} has no picture")
    values = windows.values[row - int(first[part])]
    index = np.minimum(np.arange(slices), len(values) - 1)
    return np.asarray(np.clip((values[index] - _LOW) / (_HIGH - _LOW) * 255, 0, 255), dtype=np.uint8)

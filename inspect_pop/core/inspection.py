"""What one inspection leaves behind, as plain values: joints, packages, board, and the pictures a report needs."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.geometry import HeightMap, Placement
from inspect_pop.core.joint_table import JointTable

__all__ = ["BoardRecord", "Crops", "Inspection", "PackageRecord"]


@dataclass(frozen=True)
class PackageRecord:
    """One package of a board. NaN where a value could not be measured; `counts[interface][label]` with `none` and `review`."""

    serial: str
    refdes: str
    part: str
    construction: str
    offset_x_um: float
    offset_y_um: float
    rotation_deg: float
    warpage_um: float
    stack_height_um: float
    cause: str | None
    cause_evidence: str
    counts: dict[str, dict[str, int]]
    warpage_limit_um: float


@dataclass(frozen=True)
class BoardRecord:
    """One yield record (RECORDS.md, version 1). Times are ISO 8601 with an offset, as text.

    `record` identifies it: the same export inspected by the same model, recipe, limits and software is the same record.
    """

    record: str
    serial: str
    panel: str | None
    position: int | None
    product: str
    lot: str | None
    work_order: str | None
    line: str
    station: str
    operator: str | None
    recipe: str
    recipe_revision: int
    recipe_digest: str
    inspected_at: str
    started_at: str
    finished_at: str
    verdict: str
    n_joints: int
    n_good: int
    n_bridged: int
    n_open: int
    n_starved: int
    n_head_in_pillow: int
    n_undecided: int
    n_review: int
    fpy: float
    dpmo: float
    cause: str | None
    cause_evidence: str
    disposition: str
    missing: tuple[str, ...]
    export_digest: str
    model_digest: str
    limits_digest: str
    software: str
    operating_point: str = ""  # where verdicts change and why, in words


@dataclass(frozen=True)
class Crops:
    """Normalised pictures of chosen joints: `pixels` uint8 (n, channels, size, size), `row` (n,) their rows in the table.

    `reference` gives, for each, the row of a passing neighbour of the same interface that is also in `row`, or -1.
    """

    row: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    reference: NDArray[np.int64]


@dataclass(frozen=True)
class Inspection:
    """Everything that `inspect_board` found out about one board."""

    board: BoardRecord
    packages: tuple[PackageRecord, ...]
    joints: JointTable
    crops: Crops | None = None
    heights: tuple[HeightMap, ...] = ()
    placements: dict[str, Placement] = field(default_factory=dict)  # by image: "U1/lower", "U1/post_reflow"
    timings_ms: dict[str, float] = field(default_factory=dict)

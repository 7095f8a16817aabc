"""The result of one inspection as plain values: joints, packages, board, pictures for a report, and a sample for a person."""

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.columns import JointTable
from inspect_pop.core.geometry import HeightMap, Placement, SliceStack

__all__ = ["DEFAULT_SAMPLE", "BoardRecord", "Crops", "Inspection", "PackageRecord", "choose_sample"]


@dataclass(frozen=True)
class PackageRecord:
    """One package of a board. NaN where a value could not be measured.

    `counts[interface][label]` counts joints by class; `none` are those without a label, `review` those in review.
    """

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
    """The yield record of one board. Times are ISO 8601 with an offset, as text.

    `record` identifies it: the same export inspected by the same model, recipe, limits and software gives the same record.
    `operating_point` says in words where verdicts change and why; `profile` names the acceptance profile that decided.
    `stray_solder` lists the solder that the design does not have: each spot's interface, size and place in the package frame.
    `unlike` says in what an interface's picture is unlike all that the model has learnt. `pictures` is JSON of the
    figures of each interface's picture and scores.
    `note` says what a person should know of a record that was made nevertheless, such as a time in the future.
    `assumed` lists what a converter found or guessed of the export, since the machine did not say it.
    A class of `core.classes` has its count, `n_<class>`.
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
    n_rejected: int
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
    operating_point: str = ""
    profile: str = ""
    stray_solder: str = ""
    unlike: str = ""
    pictures: str = ""
    note: str = ""
    assumed: str = ""


@dataclass(frozen=True)
class Crops:
    """Normalised slices of some joints: `pixels` (n, slices, size, size) uint8, `row` (n,) int64 their rows in the table.

    `reference` (n,) int64 is, for each, the row of a passing neighbour of the same interface that is also in `row`, or -1.
    """

    row: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    reference: NDArray[np.int64]


@dataclass(frozen=True)
class Inspection:
    """Everything that `inspect_board` found out about one board.

    `placements` are by image, such as `U1/lower` or `U1/post_reflow`; `timings_ms` are by step. `crops` is None where no
    joint is suspect. `stacks` are the slices as they were measured, where they are asked for.
    """

    board: BoardRecord
    packages: tuple[PackageRecord, ...]
    joints: JointTable
    crops: Crops | None = None
    heights: tuple[HeightMap, ...] = ()
    placements: dict[str, Placement] = field(default_factory=dict)
    timings_ms: dict[str, float] = field(default_factory=dict)
    stacks: tuple[SliceStack, ...] = ()


# Choose the joints that passed and that a person looks at all the same, so that escapes are found where nobody looks.
#
# The choice follows from the record and the joints' names alone: whoever writes the windows of joints, keeps the queue or shows
# the page chooses the same joints, and nobody can foresee them before the board is inspected.


DEFAULT_SAMPLE = 1  # joints of each board: as many as the operator has time for beside the suspects


def choose_sample(record: str, joints: JointTable, n: int = DEFAULT_SAMPLE) -> NDArray[np.int64]:
    """Choose up to `n` joints that passed: those whose name has the smallest digest with the record's.

    Parameters
    ----------
    record
        The record's identifier.
    joints
        The board's joints, with verdicts.
    n
        Number of joints; fewer are returned where fewer passed.

    Returns
    -------
    (m,) int64, the rows of the chosen joints in the table, in ascending order.
    """
    passed = np.flatnonzero(joints["verdict"] == "pass")
    names = zip(*(joints[column][passed] for column in ("refdes", "interface", "ball")), strict=True)
    digests = [hashlib.sha256(f"{record}/{refdes}.{interface}.{ball}".encode()).digest() for refdes, interface, ball in names]
    chosen = sorted(range(len(digests)), key=digests.__getitem__)[: max(n, 0)]
    return np.sort(passed[chosen]).astype(np.int64)

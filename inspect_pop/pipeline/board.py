"""From an export's pictures to measured joints and the classifier's inputs: the part that the line and training share.

`inspect_board`: the steps in order, timed, nothing else.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.align import align_height, align_slices
from inspect_pop.classify.inputs import JointInputs, joint_inputs
from inspect_pop.classify.session import Classifier, Scores
from inspect_pop.core import flags
from inspect_pop.core.errors import ImageFault
from inspect_pop.core.geometry import HeightMap, Placement, SliceStack
from inspect_pop.core.inspection import Inspection, PackageRecord
from inspect_pop.core.joint_table import CLASSES, COLUMNS, JointTable, concat
from inspect_pop.core.limits import Limits
from inspect_pop.core.recipe import Interface, Package
from inspect_pop.decide.verdict import Decisions, board_verdict, decide_joints, undecided
from inspect_pop.diagnose import Cause, PackageState, find_bulge, suspect
from inspect_pop.ingest.contract import BoardExport, ImageSource, read_in_turn
from inspect_pop.measure import Top, is_turned, measure_domes, measure_joints, measure_top, standoff_um, upright
from inspect_pop.pipeline.crops import suspect_crops
from inspect_pop.pipeline.record import board_record, counts_by_interface
from inspect_pop.segment.windows import Windows, at_found_heights, beyond_pads, cut_height, cut_slices

__all__ = ["PreparedBoard", "PreparedInterface", "PreparedPackage", "Steps", "inspect_board", "inspect_prepared", "prepare_board"]

# ---- prepare
Columns = dict[str, NDArray[Any]]
_OFF_IMAGE_BELOW, _WHOLE_FROM = 0.5, 0.98  # share of a window inside the image: less is no picture of the joint
# So many slices must be left where some are lost, measured on 34 boards with 2,126 defects (docs/promises.md): with two of
# three 3 to 13 % of the defects pass; with four of five a bridge that only the lost one showed turns from a fail to a pass,
# 1.3 % of all defects where it was the middle one; with six of seven and eight of nine no more pass than with all.
_LEAST_LEFT = 6


class Steps:
    """How long each step took, in ms; the same step's times add up."""

    def __init__(self) -> None:
        self.times_ms: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what is inside."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.times_ms[name] = self.times_ms.get(name, 0.0) + 1e3 * (time.perf_counter() - begun)


@dataclass(frozen=True, eq=False)
class PreparedInterface:
    """One interface: measured `columns` (n,) as `joints.COLUMNS` names them, with `flags`.

    `inputs` and `windows` are None where the export holds no slices of it.
    """

    interface: Interface
    columns: Columns
    inputs: JointInputs | None
    windows: Windows | None


@dataclass(frozen=True, eq=False)
class PreparedPackage:
    """One package: its interfaces, the top before and after stacking (None without a map), and where each image has it."""

    package: Package
    interfaces: tuple[PreparedInterface, ...]
    before: Top | None
    after: Top | None
    heights: dict[str, HeightMap]
    placements: dict[str, Placement]


@dataclass(frozen=True, eq=False)
class PreparedBoard:
    """One board, measured; `missing` names images that a complete export would have, such as `U1/upper slices`."""

    export: BoardExport
    packages: tuple[PreparedPackage, ...]
    missing: tuple[str, ...]
    timings_ms: dict[str, float] = field(default_factory=dict)


def prepare_board(export: BoardExport, limits: Limits, *, ahead: bool = False) -> PreparedBoard:
    """Read, align, cut and measure everything that the export holds.

    `ahead` reads each image while the one before it is worked on: a board is done a tenth sooner where a core is free for
    that, for 2 to 3 % more work.

    Raises `InputFault` where an image cannot be used or a package cannot be found in it: the board goes to quarantine.
    """
    steps = Steps()
    packages = tuple(_package(export, package, limits, steps, ahead) for package in export.recipe.packages)
    return PreparedBoard(export, packages, tuple(_missing(export)), steps.times_ms)


def _missing(export: BoardExport) -> Iterator[str]:
    there = {(i.refdes, i.interface or i.stage) for i in export.images}
    for package in export.recipe.packages:
        for interface in package.interfaces:
            if (package.refdes, interface.name) not in there:
                yield f"{package.refdes}/{interface.name} slices"
        for stage in ("pre_stack", "post_reflow"):
            if (package.refdes, stage) not in there:
                yield f"{package.refdes}/{stage} height map"


def _package(export: BoardExport, package: Package, limits: Limits, steps: Steps, ahead: bool) -> PreparedPackage:
    mine = [i for i in export.images if i.refdes == package.refdes]
    placements: dict[str, Placement] = {}
    heights, tops = {}, {}
    maps = [(i.stage, i) for i in mine if i.stage is not None]
    stacks = {i.interface: i for i in reversed(mine) if i.interface is not None}
    wanted = [stacks[i.name] for i in package.interfaces if i.name in stacks]
    images = read_in_turn([*(source for _, source in maps), *wanted], ahead=ahead)
    for stage, source in maps:
        with steps.step("read"):
            heights[stage] = _heights(source, next(images))
        with steps.step("align"):
            placements[stage] = align_height(heights[stage], package, limits)
        with steps.step("measure"):
            tops[stage] = measure_top(heights[stage], placements[stage], package)
    before, after = tops.get("pre_stack"), tops.get("post_reflow")
    interfaces = []
    for interface in package.interfaces:
        gap = standoff_um(interface, package, after, before)
        if interface.name not in stacks:
            interfaces.append(_unseen(interface, gap, heights))
            continue
        with steps.step("read"):
            stack = _slices(stacks[interface.name], next(images))
        with steps.step("align"):
            placements[interface.name] = align_slices(stack, package, limits)
        dome = None
        if interface.name == "upper" and "pre_stack" in heights:
            dome = (heights["pre_stack"], placements["pre_stack"], before)
        interfaces.append(_interface(stack, interface, placements[interface.name], gap, dome, heights, limits, steps))
    return PreparedPackage(package, _doubted_if_turned(interfaces), before, after, heights, placements)


def _doubted_if_turned(interfaces: list[PreparedInterface]) -> tuple[PreparedInterface, ...]:
    """The same; where the upper joints say that the X-ray pictures are turned, no joint with slices may pass by them.

    One machine takes the pictures of both interfaces in one go.
    """
    upper = (part for part in interfaces if part.interface.name == "upper" and part.inputs is not None)
    if not any(is_turned(part.columns, part.interface) for part in upper):
        return tuple(interfaces)
    wrong = flags.bit("wrong_crop")
    return tuple(
        part if part.inputs is None else replace(part, columns={**part.columns, "flags": part.columns["flags"] | wrong})
        for part in interfaces
    )


def _slices(source: ImageSource, image: SliceStack | HeightMap) -> SliceStack:
    if not isinstance(image, SliceStack):
        raise ImageFault(source.name, expected="X-ray slices from its reader", found=type(image).__name__)
    return image


def _heights(source: ImageSource, image: SliceStack | HeightMap) -> HeightMap:
    if not isinstance(image, HeightMap):
        raise ImageFault(source.name, expected="a height map from its reader", found=type(image).__name__)
    return image


def _interface(
    stack: SliceStack,
    interface: Interface,
    placement: Placement,
    gap_um: NDArray[np.float32],
    dome: tuple[HeightMap, Placement, Top | None] | None,
    heights: dict[str, HeightMap],
    limits: Limits,
    steps: Steps,
) -> PreparedInterface:
    with steps.step("cut"):
        stack, windows = _cut(stack, interface, placement)
        domes = cut_height(dome[0], interface, dome[1]) if dome else None
    before = dome[2] if dome else None
    with steps.step("measure"):
        columns = measure_joints(windows, interface, method=stack.method, standoff_um=gap_um)
        columns["standoff_um"] = gap_um
        columns["dome_um"] = _nan(len(gap_um)) if domes is None else measure_domes(domes, interface, before)
        columns["flags"] = _flags(columns, stack, windows, placement, heights, limits)
    with steps.step("inputs"):
        inputs = joint_inputs(
            windows,
            interface,
            pixel_um=stack.grid.pixel_um,
            method=stack.method,
            standoff_um=gap_um,
            dome_windows_um=None if domes is None else upright(domes, interface, before),
            measured=columns,
        )
    return PreparedInterface(interface, columns, inputs, windows)


def _cut(stack: SliceStack, interface: Interface, placement: Placement) -> tuple[SliceStack, Windows]:
    """Windows at the heights where they cut; a slice beyond a pad is left out, and lost as far as the joints are concerned."""
    windows = cut_slices(stack, interface, placement)
    if beyond := beyond_pads(windows, interface):
        kept = [k for k in range(len(stack.z_um)) if k not in stack.lost]
        stack = replace(stack, lost=tuple(sorted((*stack.lost, *(kept[k] for k in beyond)))))
        windows = cut_slices(stack, interface, placement)
    return stack, at_found_heights(windows, interface)


def _flags(
    columns: Columns, stack: SliceStack, windows: Windows, placement: Placement, heights: dict[str, HeightMap], limits: Limits
) -> NDArray[np.int64]:
    """All bits that follow from pictures and measurements; what the classifier adds comes later."""
    out = np.asarray(columns["flags"], dtype=np.int64) | _height_flags(heights, stack.interface)
    out = out | np.where(windows.covered < _OFF_IMAGE_BELOW, flags.bit("off_image"), 0)
    out = out | np.where((windows.covered >= _OFF_IMAGE_BELOW) & (windows.covered < _WHOLE_FROM), flags.bit("at_edge"), 0)
    out = out | np.where(windows.saturated, flags.bit("saturated"), 0)
    out = out | np.where(columns["volume_ratio"] > limits.excess_volume, flags.bit("excess_volume"), 0)
    out = out | np.where(columns["void_fraction"] > limits.void_fraction, flags.bit("void_over_limit"), 0)
    everywhere = {
        "lost_slice": bool(stack.lost),
        "lost_too_much": bool(stack.lost) and len(windows.z_um) < _LEAST_LEFT,
        "transmission": stack.method == "transmission",
        "unsure_alignment": not placement.confident,
    }
    return np.asarray(out | sum(flags.bit(name) for name, is_so in everywhere.items() if is_so), dtype=np.int64)


def _height_flags(heights: dict[str, HeightMap], interface: str) -> int:
    no_height = 0 if "post_reflow" in heights else flags.bit("no_height")
    no_dome = flags.bit("no_pre_stack") if interface == "upper" and "pre_stack" not in heights else 0
    return no_height | no_dome


def _unseen(interface: Interface, gap_um: NDArray[np.float32], heights: dict[str, HeightMap]) -> PreparedInterface:
    """An interface without slices: every joint has its row, at its designed place, and nothing measured but the stand-off."""
    n = len(interface.ball)
    bits = flags.bit("no_slices") | _height_flags(heights, interface.name)
    columns: Columns = {"standoff_um": gap_um, "flags": np.full(n, bits, dtype=np.int64)}
    return PreparedInterface(interface, columns, None, None)


def _nan(n: int) -> NDArray[np.float32]:
    return np.full(n, np.nan, dtype=np.float32)


# ---- pipeline
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

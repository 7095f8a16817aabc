"""The way of one board, top to bottom: read, align, segment, measure, classify, decide, diagnose, record.

`measure_board` goes from the export's images to measured joints and the classifier's inputs; the line and training share
it. `judge_board` goes from there to verdicts, causes and records. `inspect_board` does both. Each step is one call into
its package and is timed.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.align import align_height, align_slices
from inspect_pop.classify.inputs import JointInputs, build_inputs
from inspect_pop.classify.session import Classifier, Scores, describe_unlike
from inspect_pop.core import flags
from inspect_pop.core.classes import CLASSES
from inspect_pop.core.columns import COLUMNS, JointTable, concat
from inspect_pop.core.geometry import HeightMap, Placement, SliceStack
from inspect_pop.core.inspection import Inspection
from inspect_pop.core.limits import Limits
from inspect_pop.core.recipe import Interface, Package, describe_construction
from inspect_pop.core.system import utc_now
from inspect_pop.decide.criteria import apply_violations, doubt_starved, find_violations
from inspect_pop.decide.verdict import JointVerdicts, decide_board, decide_joints, leave_undecided
from inspect_pop.diagnose import PackageState, diagnose, find_bulge
from inspect_pop.ingest.contract import BoardExport, ImageSource, open_image_reader
from inspect_pop.measure import TopShape, is_turned, level_windows, measure_domes, measure_joints, measure_standoff, measure_top
from inspect_pop.measure.joints import measure_picture, measure_trained_clearance
from inspect_pop.pipeline.record import build_board_record, build_package_record, collect_crops
from inspect_pop.segment.joints import find_overlapped, segment_joints
from inspect_pop.segment.stray import StraySolder, find_stray_solder
from inspect_pop.segment.windows import Windows, correct_heights, cut_height, cut_slices, find_slices_beyond_pads, merge_slices

__all__ = ["MeasuredBoard", "MeasuredInterface", "MeasuredPackage", "StepTimer", "inspect_board", "judge_board", "measure_board"]

Columns = dict[str, NDArray[Any]]
_OFF_IMAGE_BELOW, _WHOLE_FROM = 0.5, 0.98  # share of a window inside the image; less does not show the joint
# Least number of slices that must be left where some are missing, measured on 34 boards with 2,126 defects
# (docs/lab/pictures.md). With two of three, 3 to 13 % of the defects pass. With four of five, a bridge that only the missing
# slice showed turns from a fail to a pass: 1.3 % of all defects where it was the middle one. With six of seven and eight of
# nine, no more pass than with all.
_LEAST_SLICES = 6
# With fewer the shape per slice is unknown (export format, version 1), and no measurement says how many defects pass.
_FEWEST_SLICES = 3


class StepTimer:
    """Time the steps of a board, in ms; the times of one step add up."""

    def __init__(self) -> None:
        self.times_ms: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time the block as part of the step `name`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.times_ms[name] = self.times_ms.get(name, 0.0) + 1e3 * (time.perf_counter() - started)


@dataclass(frozen=True, eq=False)
class MeasuredInterface:
    """One interface: measured `columns`, each (n,), named as in `core.columns`, with `flags`.

    `inputs`, `windows` and `stack` are None where the export holds no slices of the interface. `method` is how they were taken;
    `stray` lists the stray solder; `picture` holds the figures of `measure_picture`, none without slices.
    """

    interface: Interface
    columns: Columns
    inputs: JointInputs | None
    windows: Windows | None
    method: str = ""
    stray: StraySolder | None = None
    stack: SliceStack | None = None
    picture: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class MeasuredPackage:
    """One package: its interfaces, its top before and after stacking (None without a map), its maps and placements.

    `heights` holds the height maps by stage; `placements` says where each image shows the package, by interface or stage.
    """

    package: Package
    interfaces: tuple[MeasuredInterface, ...]
    before: TopShape | None
    after: TopShape | None
    heights: dict[str, HeightMap]
    placements: dict[str, Placement]


@dataclass(frozen=True, eq=False)
class MeasuredBoard:
    """One measured board; `missing` names the images that a complete export would have, such as `U1/upper slices`."""

    export: BoardExport
    packages: tuple[MeasuredPackage, ...]
    missing: tuple[str, ...]
    timings_ms: dict[str, float] = field(default_factory=dict)


def inspect_board(
    export: BoardExport,
    classifier: Classifier,
    limits: Limits,
    *,
    started_at: str,
    read_ahead: bool = False,
    keep_stacks: bool = False,
    now: Callable[[], str] = utc_now,
) -> Inspection:
    """Inspect one board: every joint that its recipe expects gets a row, a verdict and a reason.

    Args:
        export: The board, from `open_export`.
        classifier: The model that judges the joints.
        limits: Thresholds of measurements and diagnosis.
        started_at: Start of the inspection, ISO 8601 with an offset; goes into the record.
        read_ahead: As in `measure_board`.
        keep_stacks: Return the slices, too; they take 10 to 100 MB.
        now: Clock of the record's `finished_at`.

    Raises:
        InputFault: The export cannot be used. The board goes to quarantine; it does not pass.
    """
    measured = measure_board(export, limits, read_ahead=read_ahead)
    inspection = judge_board(measured, classifier, limits, started_at=started_at, now=now)
    stacks = (part.stack for package in measured.packages for part in package.interfaces) if keep_stacks else ()
    return replace(inspection, stacks=tuple(stack for stack in stacks if stack is not None))


# Read, align, segment, measure


def measure_board(export: BoardExport, limits: Limits, *, read_ahead: bool = False) -> MeasuredBoard:
    """Read, align, segment and measure everything that the export holds.

    Args:
        export: The board, from `open_export`.
        limits: Thresholds of alignment and of the flags.
        read_ahead: Decode the next image while the last one is worked on. With a free core, a board is done a tenth sooner
            for 2 to 3 % more work.

    Raises:
        InputFault: An image cannot be used, or a package cannot be found in it.
    """
    timer = StepTimer()
    packages = tuple(_measure_package(export, package, limits, timer, read_ahead) for package in export.recipe.packages)
    present = {(s.refdes, s.interface) for s in export.slices} | {(m.refdes, m.stage) for m in export.height_maps}
    missing = []
    for package in export.recipe.packages:
        wanted = [(i.name, f"{i.name} slices") for i in package.interfaces]
        wanted += [(stage, f"{stage} height map") for stage in describe_construction(package.construction).height_maps]
        missing += [f"{package.refdes}/{words}" for name, words in wanted if (package.refdes, name) not in present]
    return MeasuredBoard(export, packages, tuple(missing), timer.times_ms)


def _measure_package(
    export: BoardExport, package: Package, limits: Limits, timer: StepTimer, read_ahead: bool
) -> MeasuredPackage:
    """Height maps first, since they give the stand-off of every joint; then the interfaces in the recipe's order."""
    maps = [source for source in export.height_maps if source.refdes == package.refdes]
    slices = {source.interface: source for source in reversed(export.slices) if source.refdes == package.refdes}
    heights: dict[str, HeightMap] = {}
    placements: dict[str, Placement] = {}
    tops: dict[str, TopShape | None] = {}
    measured: list[MeasuredInterface] = []
    in_order: list[ImageSource] = [*maps, *(slices[i.name] for i in package.interfaces if i.name in slices)]
    with open_image_reader(in_order, read_ahead=read_ahead) as images:
        for source in maps:
            with timer.step("read"):
                heights[source.stage] = images.read(source)
            with timer.step("align"):
                placements[source.stage] = align_height(heights[source.stage], package, limits)
            with timer.step("measure"):
                tops[source.stage] = measure_top(heights[source.stage], placements[source.stage], package)
        before, after = tops.get("pre_stack"), tops.get("post_reflow")
        for interface in package.interfaces:
            gap_um = measure_standoff(interface, package, after, before)
            if interface.name not in slices:  # every joint keeps its row; only its stand-off is measured
                bits = np.full(len(gap_um), flags.bit("no_slices"), dtype=np.int64)
                measured.append(MeasuredInterface(interface, {"standoff_um": gap_um, "flags": bits}, None, None))
                continue
            with timer.step("read"):
                stack = merge_slices(images.read(slices[interface.name]), interface)
            with timer.step("align"):
                placement = placements[interface.name] = align_slices(stack, package, limits)
            domes_um = None
            if interface.name == "upper" and "pre_stack" in heights:
                with timer.step("cut"):
                    domes_um = cut_height(heights["pre_stack"], interface, placements["pre_stack"])
            measured.append(_measure_interface(stack, interface, package, placement, gap_um, domes_um, before, limits, timer))
    return MeasuredPackage(package, _flag_package(measured, heights), before, after, heights, placements)


def _measure_interface(
    stack: SliceStack,
    interface: Interface,
    package: Package,
    placement: Placement,
    gap_um: NDArray[np.float32],
    domes_um: NDArray[np.float32] | None,
    before: TopShape | None,
    limits: Limits,
    timer: StepTimer,
) -> MeasuredInterface:
    """Segment and measure all joints of one interface.

    `gap_um` (n,) is the stand-off, NaN where unknown. `domes_um` (n, size, size) are the heights around each joint before
    stacking, None without a map; `before` is the package's top in that map.
    """
    with timer.step("cut"):
        windows = cut_slices(stack, interface, placement)
        if beyond := find_slices_beyond_pads(windows, interface):  # such a slice shows no joint: it counts as missing
            present = [k for k in range(len(stack.z_um)) if k not in stack.lost]
            stack = replace(stack, lost=tuple(sorted((*stack.lost, *(present[k] for k in beyond)))))
            windows = cut_slices(stack, interface, placement)
        windows = correct_heights(windows, interface)
    with timer.step("segment"):
        segmented = segment_joints(windows, interface, stack.method)
        stray = find_stray_solder(stack, windows, segmented.outlines, interface, package, placement)
    with timer.step("measure"):
        columns = measure_joints(segmented, gap_um)
        unknown = np.full(len(gap_um), np.nan, dtype=np.float32)
        columns["dome_um"] = unknown if domes_um is None else measure_domes(domes_um, interface, before)
        columns["stray_um"] = stray.aside_um
        picture = measure_picture(segmented, stack)
        columns["flags"] = _flag_joints(columns, stack, windows, placement, limits)
        if stack.method == "transmission":
            columns["flags"] |= np.where(find_overlapped(interface, package), flags.bit("overlapped"), 0)
    with timer.step("inputs"):
        inputs = build_inputs(
            windows,
            interface,
            pixel_um=stack.grid.pixel_um,
            method=stack.method,
            standoff_um=columns["standoff_um"],
            dome_windows_um=None if domes_um is None else level_windows(domes_um, interface, before),
            measured=columns | {"clearance_um": measure_trained_clearance(segmented)},
        )
    return MeasuredInterface(interface, columns, inputs, windows, stack.method, stray, stack, picture)


def _flag_joints(
    columns: Columns, stack: SliceStack, windows: Windows, placement: Placement, limits: Limits
) -> NDArray[np.int64]:
    """Return the joints' flags (n,) with all bits that follow from slices and measurements. The classifier adds its own."""
    covered = windows.covered
    by_joint = {
        "off_image": covered < _OFF_IMAGE_BELOW,
        "at_edge": (covered >= _OFF_IMAGE_BELOW) & (covered < _WHOLE_FROM),
        "saturated": windows.saturated,
        "unscanned": windows.unscanned,
        "excess_volume": columns["volume_ratio"] > limits.excess_volume,
        "void_over_limit": columns["void_fraction"] > limits.void_fraction,
    }
    by_image = {
        "slice_missing": bool(stack.lost),
        "critical_slice_missing": bool(stack.lost) and len(windows.z_um) < _LEAST_SLICES,
        "transmission": stack.method == "transmission",
        "few_slices": stack.method != "transmission" and len(windows.z_um) < _FEWEST_SLICES,
        "alignment_uncertain": not placement.confident,
    }
    bits = np.asarray(columns["flags"], dtype=np.int64)
    for name, where in by_joint.items():
        bits = bits | np.where(where, flags.bit(name), 0)
    return np.asarray(bits | sum(flags.bit(name) for name, is_set in by_image.items() if is_set), dtype=np.int64)


def _flag_package(measured: list[MeasuredInterface], heights: dict[str, HeightMap]) -> tuple[MeasuredInterface, ...]:
    """Add the flags that concern whole interfaces: height maps that are missing, and X-ray images that are turned.

    Where the upper joints show that the X-ray images are turned by 180 degrees, no joint with slices may pass by them: a
    machine takes the images of both interfaces in one go.
    """
    upper = (part for part in measured if part.interface.name == "upper" and part.inputs is not None)
    turned = any(is_turned(part.columns, part.interface) for part in upper)
    flagged = []
    for part in measured:
        bits: NDArray[np.int64] | int = 0 if "post_reflow" in heights else flags.bit("no_height")
        if "post_reflow" in heights:
            bits = bits | np.where(np.isnan(part.columns["standoff_um"]), flags.bit("standoff_unknown"), 0)
        if part.interface.name == "upper" and "pre_stack" not in heights:
            bits |= flags.bit("no_pre_stack")
        if turned and part.inputs is not None:
            bits |= flags.bit("crop_mismatch")
        flagged.append(replace(part, columns={**part.columns, "flags": part.columns["flags"] | bits}))
    return tuple(flagged)


# Classify, decide, diagnose, record


def judge_board(
    measured: MeasuredBoard, classifier: Classifier, limits: Limits, *, started_at: str, now: Callable[[], str] = utc_now
) -> Inspection:
    """Classify and decide every joint of a measured board, diagnose its packages, and build its record.

    Where the model has a network of its own for the board's machine, that network classifies.
    """
    timer, export = StepTimer(), measured.export
    classifier = classifier.for_machine(export.machine)
    tables, unlike, pictures = [], [], {}
    for package in measured.packages:
        for part in package.interfaces:
            with timer.step("classify"):
                scores = classifier.classify(part.inputs) if part.inputs is not None else None
            with timer.step("decide"):
                learnt = classifier.model.card.pictures if part.picture else ()
                strange, is_forbidden = describe_unlike(part.picture, part.method, learnt)
                is_forbidden &= limits.unlike_forbids >= 1
                tables.append(_decide_interface(export, package.package, part, scores, classifier, limits, is_forbidden))
            name = f"{package.package.refdes}/{part.interface.name}"
            unlike += [f"{name}: {strange}"] if strange else []
            if scores is not None:
                pictures[name] = _describe_picture(part.picture, scores)
    joints = concat(tables)
    causes, packages = [], []
    for package in measured.packages:
        with timer.step("causes"):
            cause = diagnose(joints, package.package, _describe_package(package), limits)
            causes.append(cause)
            packages.append(
                build_package_record(export.serial, package.package, package.placements, package.after, joints, cause)
            )
    with timer.step("pictures"):
        crops = collect_crops(joints, [(part.interface, part.windows) for p in measured.packages for part in p.interfaces])
    record = build_board_record(
        export,
        joints,
        packages,
        verdict=decide_board(joints["verdict"]),
        causes=causes,
        missing=measured.missing,
        model_digest=classifier.digest,
        limits_digest=limits.digest,
        operating_point=classifier.point,
        profile=limits.profile.name,
        unlike=unlike,
        pictures=pictures,
        stray_solder=[words for package in measured.packages for words in _describe_stray_solder(package)],
        started_at=started_at,
        finished_at=now(),
    )
    return Inspection(
        board=record,
        packages=tuple(packages),
        joints=joints,
        crops=crops,
        heights=tuple(heights for p in measured.packages for heights in p.heights.values()),
        placements={f"{p.package.refdes}/{name}": where for p in measured.packages for name, where in p.placements.items()},
        timings_ms=measured.timings_ms | timer.times_ms,
    )


def _decide_interface(
    export: BoardExport,
    package: Package,
    part: MeasuredInterface,
    scores: Scores | None,
    classifier: Classifier,
    limits: Limits,
    is_forbidden: bool,
) -> JointTable:
    """Return the rows of one interface, in the recipe's order; without scores they are undecided.

    No joint passes by a picture that is forbidden, for it is unlike all that were learnt.
    """
    profile = limits.profile
    interface, columns = part.interface, dict(part.columns)
    n = len(interface.ball)
    criteria = np.full(n, "", dtype=object)
    if scores is None:
        decided: JointVerdicts = leave_undecided(n, flags.meaning("no_slices"))
        p = np.full((n, len(CLASSES)), np.nan, dtype=np.float32)
    else:
        unfamiliar = (scores.unfamiliar > 1) | is_forbidden
        columns["flags"] = columns["flags"] | np.where(unfamiliar, flags.bit("unfamiliar"), 0)
        decided = decide_joints(
            scores,
            columns["flags"],
            classifier.point,
            x_um=interface.x_um,
            y_um=interface.y_um,
            pitch_um=interface.pitch_um,
        )
        if profile.criteria:
            decided = doubt_starved(decided, columns["volume_ratio"])
        violations = find_violations(columns, interface, part.method, profile)
        decided, criteria = apply_violations(decided, violations), violations.criteria
        p = scores.probabilities
    text = {"serial": export.serial, "refdes": package.refdes, "interface": interface.name}
    text |= {"model": classifier.digest, "recipe": export.recipe.digest}
    values: dict[str, Any] = {name: np.full(n, value, dtype=object) for name, value in text.items()}
    values |= {"ball": list(interface.ball), "label": decided.label, "verdict": decided.verdict, "reason": decided.reason}
    values["criteria"] = criteria
    values |= {f"p_{c}": p[:, k] for k, c in enumerate(CLASSES)}
    values |= columns
    values |= {c.name: np.full(n, np.nan, np.float32) for c in COLUMNS if c.kind == "float32" and c.name not in values}
    return JointTable(values)


def _describe_picture(picture: Mapping[str, float], scores: Scores) -> dict[str, float | None]:
    """Return the figures of an interface's picture and of its scores, to 4 digits; None where unknown.

    `oddness`: median distance from what is known, over the limit. `log_odds_10`, `_50`, `_90`: quantiles of the scores.
    """
    known = scores.log_odds[np.isfinite(scores.log_odds)]
    low, middle, high = np.quantile(known, (0.1, 0.5, 0.9)) if len(known) else (np.nan,) * 3
    figures = {**picture, "oddness": np.median(scores.unfamiliar), "log_odds_10": low, "log_odds_50": middle, "log_odds_90": high}
    return {name: float(f"{value:.4g}") if np.isfinite(value) else None for name, value in figures.items()}


def _describe_stray_solder(measured: MeasuredPackage) -> list[str]:
    """Return each spot of stray solder of a package in words: interface, size and place."""
    found = [(part.interface.name, part.stray) for part in measured.interfaces if part.stray is not None]
    return [
        f"{measured.package.refdes}/{name}: {size:.0f} um at ({x:.0f}, {y:.0f}) um"
        for name, stray in found
        for x, y, size in zip(stray.x_um, stray.y_um, stray.size_um, strict=True)
    ]


def _describe_package(measured: MeasuredPackage) -> PackageState:
    """Return what the height map after reflow says of a package.

    Where the memory sits against the bottom package stays unknown: every image has its own offset.
    """
    if measured.after is None:
        return PackageState()
    bulge = find_bulge(measured.after, measured.package)
    return PackageState(measured.after.warpage_um, measured.after.height_um, bulge)

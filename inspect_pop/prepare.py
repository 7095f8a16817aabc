"""From an export's pictures to measured joints and the classifier's inputs: the part that the line and training share."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop import flags
from inspect_pop.align import align_height, align_slices
from inspect_pop.classify.inputs import JointInputs, joint_inputs
from inspect_pop.errors import ImageFault
from inspect_pop.geometry import HeightMap, Placement, SliceStack
from inspect_pop.ingest.ahead import read_in_turn
from inspect_pop.ingest.contract import BoardExport, ImageSource
from inspect_pop.limits import Limits
from inspect_pop.measure import Top, is_turned, measure_domes, measure_joints, measure_top, standoff_um, upright
from inspect_pop.recipe import Interface, Package
from inspect_pop.segment.slice_heights import at_found_heights, beyond_pads
from inspect_pop.segment.windows import Windows, cut_height, cut_slices

__all__ = ["PreparedBoard", "PreparedInterface", "PreparedPackage", "Steps", "prepare_board"]

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

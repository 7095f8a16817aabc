"""Cut what a person sees of a joint from the machine's own slices: 16-bit windows, and a patch of the height map.

Unlike `segment.windows`, nothing is resampled or normalised: a window holds the machine's grey values, pixel by pixel, around
the place where the joint is expected. uint8 and uint16 are kept as they are; float32 is spread over 16 bits.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.columns import JointTable
from inspect_pop.core.geometry import Grid, HeightMap, Placement, SliceStack
from inspect_pop.core.inspection import DEFAULT_SAMPLE, Inspection, choose_sample
from inspect_pop.core.recipe import Interface, Recipe

__all__ = [
    "MOST_SAMPLES",
    "ExportPlace",
    "HeightPatch",
    "JointWindow",
    "WindowSet",
    "choose_height_map",
    "cut_height_patch",
    "cut_slice_window",
    "cut_windows",
    "name_joint",
]

REACH = 0.7  # of the pitch, to each side: the rim of a neighbour's ball shows, and so where a bridge leads
LEAST_REACH = 0.55  # half way to a neighbour, and a little more
# A joint takes at most 40 kB in the file: the noisiest of our machines compresses to three quarters of two bytes a sample
# (docs/verify-station.md).
MOST_SAMPLES = 24_000
_CODES = 65_535


@dataclass(frozen=True)
class ExportPlace:
    """Where a board's export lies, and the root that its files lie inside. `digest` is that of `BoardExport`."""

    path: str
    root: str
    digest: str


@dataclass(frozen=True, eq=False)
class HeightPatch:
    """Heights around a joint: `codes` (h, w) uint16, 0 without data, else `offset_um + factor_um * (code - 1)` um.

    `stage` names the map; `centre` is the (row, col) of the joint's expected place in the patch.
    """

    codes: NDArray[np.uint16]
    stage: str
    pixel_um: float
    offset_um: float
    factor_um: float
    centre: tuple[float, float]


@dataclass(frozen=True, eq=False)
class JointWindow:
    """What a person sees of one joint.

    Attributes:
        joint: Its name, such as `U1.lower.C4`.
        role: Why it is shown: `suspect`, `sample`, `reference` or `other`.
        codes: (slices, h, w) uint16; grey is `scale[0] + scale[1] * code`.
        z_um: Height of each slice, as the machine states it.
        pixel_um: Distance of samples.
        scale: Offset and factor from codes to the machine's grey.
        none: The code of a sample without data; None if every sample has some.
        centre: (row, col) of the joint's expected place, in samples.
        inside: (top, left, bottom, right): the part of the window that lies inside the picture. The rest repeats its edge.
        lost: Numbers of the slices that show nothing.
        heights: The patch of the height map; None where there is none.
    """

    joint: str
    role: str
    codes: NDArray[np.uint16]
    z_um: tuple[float, ...]
    pixel_um: float
    scale: tuple[float, float]
    none: int | None
    centre: tuple[float, float]
    inside: tuple[int, int, int, int]
    lost: tuple[int, ...] = ()
    heights: HeightPatch | None = None


@dataclass(frozen=True, eq=False)
class WindowSet:
    """The windows that are kept with a record.

    `references` names, for each suspect or sample joint, the passing neighbour that it is compared with. `export` is None where
    the board was uploaded: its files are gone. `placements` are by image, as in `Inspection`.
    """

    record: str
    inspected_at: str
    lot: str | None
    export: ExportPlace | None
    placements: dict[str, Placement]
    windows: list[JointWindow] = field(default_factory=list)
    references: dict[str, str] = field(default_factory=dict)


def name_joint(refdes: str, interface: str, ball: str) -> str:
    """Return a joint's name, such as `U1.lower.C4`."""
    return f"{refdes}.{interface}.{ball}"


def cut_windows(
    inspection: Inspection, recipe: Recipe, export: ExportPlace | None, *, sample_size: int = DEFAULT_SAMPLE
) -> WindowSet:
    """Cut the windows of every joint that did not pass, of the sample of those that did, and of a reference for each.

    `inspection` must have its `stacks` and `heights`. An interface without slices has no windows. A reference is the nearest
    joint of the same interface that passed.
    """
    from inspect_pop.pipeline.record import find_passing_neighbour  # a second; a process that only writes windows needs no more

    board, joints = inspection.board, inspection.joints
    cut = WindowSet(board.record, board.inspected_at, board.lot, export, inspection.placements)
    sample = set(choose_sample(board.record, joints, sample_size).tolist())
    for first, stack, interface in _find_parts(joints, recipe, inspection.stacks):
        rows = range(first, first + len(interface.ball))
        verdicts = joints["verdict"][rows.start : rows.stop]
        shown = [row for row in rows if row in sample or verdicts[row - first] != "pass"]
        roles = {row - first: "sample" if row in sample else "suspect" for row in shown}
        for joint in list(roles):
            nearest = find_passing_neighbour(interface, verdicts, joint)
            if nearest is not None:
                roles.setdefault(nearest, "reference")
                names = (name_joint(stack.refdes, interface.name, interface.ball[k]) for k in (joint, nearest))
                cut.references.update([(next(names), next(names))])
        cut.windows.extend(_cut_joints(stack, interface, inspection, roles))
    return cut


def _find_parts(joints: JointTable, recipe: Recipe, stacks: Sequence[SliceStack]) -> Iterator[tuple[int, SliceStack, Interface]]:
    """Yield each interface that has slices, with its first row in the table."""
    by_name = {(stack.refdes, stack.interface): stack for stack in stacks}
    first = 0
    for package in recipe.packages:
        for interface in package.interfaces:
            stack = by_name.get((package.refdes, interface.name))
            if stack is not None:
                yield first, stack, interface
            first += len(interface.ball)
    if first != len(joints):
        raise ValueError(f"the recipe has {first} joints, the table {len(joints)}")


def _cut_joints(stack: SliceStack, interface: Interface, inspection: Inspection, roles: dict[int, str]) -> Iterator[JointWindow]:
    placement = inspection.placements[f"{stack.refdes}/{interface.name}"]
    heights = choose_height_map(inspection.heights, stack.refdes, interface.name)
    for joint, role in sorted(roles.items()):
        patch = None
        if heights is not None:
            where = inspection.placements[f"{stack.refdes}/{heights.stage}"]
            patch = cut_height_patch(heights, interface, where, joint)
        yield cut_slice_window(stack, interface, placement, joint, role=role, heights=patch)


def choose_height_map(maps: Iterable[HeightMap], refdes: str, interface: str) -> HeightMap | None:
    """Return the map that says most of an interface's joints: its domes before stacking for the upper one, else the top."""
    by_stage = {found.stage: found for found in maps if found.refdes == refdes}
    order = ("pre_stack", "post_reflow") if interface == "upper" else ("post_reflow",)
    return next((by_stage[stage] for stage in order if stage in by_stage), None)


def cut_slice_window(
    stack: SliceStack,
    interface: Interface,
    placement: Placement,
    joint: int,
    *,
    role: str = "other",
    heights: HeightPatch | None = None,
    most_samples: int | None = MOST_SAMPLES,
) -> JointWindow:
    """Cut the window of the joint at index `joint` of an interface.

    It reaches `REACH` pitches to each side; less, down to `LEAST_REACH`, where it would have more than `most_samples` samples.
    Where that is still too many, samples are averaged in squares. None keeps every pixel.
    """
    half = _reach(interface, stack.grid, REACH)
    factor = 1
    if most_samples is not None:
        largest = (int((most_samples / len(stack.z_um)) ** 0.5) - 1) // 2
        half = min(half, max(largest, _reach(interface, stack.grid, LEAST_REACH)))
        factor = -(-half // max(largest, 1))
    (rows, cols), centre, inside = _locate(stack.grid, interface, placement, joint, half)
    values = stack.values[:, rows[:, None], cols[None, :]]
    if factor > 1:  # a rest at the lower and right edge is left out
        height, width = values.shape[1] // factor, values.shape[2] // factor
        squares = values[:, : height * factor, : width * factor].reshape(len(values), height, factor, width, factor)
        mean = squares.astype(np.float32).mean(axis=(2, 4))
        values = mean if values.dtype.kind == "f" else np.rint(mean).astype(values.dtype)
        shift = (factor - 1) / 2
        centre = ((centre[0] - shift) / factor, (centre[1] - shift) / factor)
        top, left, bottom, right = (-(-edge // factor) for edge in inside)
        inside = (top, left, min(bottom, values.shape[1]), min(right, values.shape[2]))
    codes, scale, none = _encode_grey(values)
    return JointWindow(
        name_joint(stack.refdes, interface.name, interface.ball[joint]),
        role,
        codes,
        tuple(float(z) for z in stack.z_um),
        stack.grid.pixel_um * factor,
        scale,
        none,
        centre,
        inside,
        stack.lost,
        heights,
    )


def cut_height_patch(heights: HeightMap, interface: Interface, placement: Placement, joint: int) -> HeightPatch | None:
    """Cut the heights around a joint in steps of a 65,000th of their range, or of 0.01 um if that is larger.

    Returns None where the map has no data around the joint. Nothing is averaged: a map's pixels are coarse.
    """
    half = _reach(interface, heights.grid, REACH)
    (rows, cols), centre, (top, left, bottom, right) = _locate(heights.grid, interface, placement, joint, half)
    patch = np.full((len(rows), len(cols)), np.nan)
    patch[top:bottom, left:right] = heights.height_um[rows[top:bottom, None], cols[None, left:right]]
    known = np.isfinite(patch)
    if not known.any():
        return None
    low, high = float(patch[known].min()), float(patch[known].max())
    factor = max((high - low) / (_CODES - 1), 0.01)
    codes = np.where(known, np.rint((np.where(known, patch, low) - low) / factor) + 1, 0).astype(np.uint16)
    return HeightPatch(codes, heights.stage, heights.grid.pixel_um, low, factor, centre)


def _reach(interface: Interface, grid: Grid, pitches: float) -> int:
    return max(1, int(np.ceil(pitches * interface.pitch_um / grid.pixel_um)))


_Place = tuple[tuple[NDArray[np.intp], NDArray[np.intp]], tuple[float, float], tuple[int, int, int, int]]


def _locate(grid: Grid, interface: Interface, placement: Placement, joint: int, half: int) -> _Place:
    """Return the rows and columns of a window, the joint's place in it, and which part lies inside the picture."""
    x, y = placement.apply(interface.x_um[joint : joint + 1], interface.y_um[joint : joint + 1])
    places = [float(axis[0]) for axis in grid.to_pixel(x, y)]
    axes, centre, first, last = [], [], [], []
    for place, n in zip(places, grid.shape, strict=True):
        start = round(place) - half
        index = np.arange(start, start + 2 * half + 1)
        axes.append(np.clip(index, 0, n - 1))
        centre.append(place - start)
        first.append(int(np.clip(-start, 0, len(index))))
        last.append(int(np.clip(n - start, 0, len(index))))
    return (axes[0], axes[1]), (centre[0], centre[1]), (first[0], first[1], last[0], last[1])


def _encode_grey(values: NDArray[Any]) -> tuple[NDArray[np.uint16], tuple[float, float], int | None]:
    """Return grey as uint16 codes, the offset and factor back to grey, and the code of a sample without data."""
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        return values.astype(np.uint16), (0.0, 1.0), None
    if values.dtype.kind == "i" and values.dtype.itemsize <= 2:
        offset = int(np.iinfo(values.dtype).min)
        return (values.astype(np.int32) - offset).astype(np.uint16), (float(offset), 1.0), None
    known = np.isfinite(values)
    low, high = (float(values[known].min()), float(values[known].max())) if known.any() else (0.0, 0.0)
    factor = (high - low) / (_CODES - 1) or 1.0
    codes = np.where(known, np.rint((np.where(known, values, low) - low) / factor) + 1, 0).astype(np.uint16)
    return codes, (low - factor, factor), 0

"""Open a source, and make the X-ray slices of each interface from its planes."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.convert import containers, dicom, pictures, planes
from inspect_pop.convert.levels import (
    Crop,
    GhostScores,
    Level,
    center_grid,
    cut_plane,
    decide_turned,
    find_levels,
    find_stack,
    measure_pitch_px,
    nearest_pitch_um,
    refine_pixel_um,
    score_ghosts,
)
from inspect_pop.convert.map_file import ImageMap
from inspect_pop.convert.planes import Planes, RawLayout, open_raw
from inspect_pop.core.errors import FileFault, ImageFault, MapFault
from inspect_pop.core.geometry import Grid, SliceStack
from inspect_pop.core.recipe import SLICE_HEIGHTS, Interface, Package
from inspect_pop.ingest.document import MOST_SLICES

__all__ = [
    "HEADER_SUFFIXES",
    "FoundStack",
    "VolumeLook",
    "find_suffix",
    "finish_volumes",
    "look_at_volume",
    "open_planes",
    "take_pictures",
]

_HEADERS: dict[str, Callable[[Path, Path], Planes]] = {
    ".vgi": planes.open_vgi,
    ".pcr": planes.open_pcr,
    ".nhdr": containers.open_nrrd,
    ".nrrd": containers.open_nrrd,
    ".mhd": containers.open_metaimage,
    ".mha": containers.open_metaimage,
    ".nii": containers.open_nifti,
    ".hdr": containers.open_nifti,
    ".txrm": containers.open_txrm,
    ".txm": containers.open_txrm,
}
HEADER_SUFFIXES = tuple(_HEADERS)


def open_planes(files: list[Path], folder: Path, image: ImageMap) -> Planes:
    """Open the planes of one image of the map.

    Args:
        files: Its files, in natural order, at least one.
        folder: The board's folder, which a data file that a header names must lie in.
        image: What the map says of it.

    Raises:
        FileFault: A file is missing, cut short, damaged, of no known type, or its size disagrees with its header.
        ImageFault: Sizes or types are not allowed.
        PathFault: A header names a file outside the board's folder.
    """
    if image.shape is not None and image.dtype is not None:
        shape = image.shape
        dtype = np.dtype(image.dtype).newbyteorder("<" if image.byte_order == "little" else ">")
        rows, cols = shape[-2:]
        if len(files) == 1:
            count = shape[0] if len(shape) == 3 else 1
            return open_raw(files[0], RawLayout(count, (rows, cols), dtype, image.skip_bytes))
        if len(shape) == 3 and shape[0] != len(files):
            raise FileFault(str(files[0].parent), expected=f"{shape[0]} files, as shape says", found=f"{len(files)}")
        singles = [open_raw(path, RawLayout(1, (rows, cols), dtype, image.skip_bytes)) for path in files]
        name = f"{files[0].parent}: {files[0].name} to {files[-1].name}"
        return Planes(name, len(files), (rows, cols), lambda plane, part: singles[plane].read(0, part), tuple(files))
    headers = [path for path in files if find_suffix(path) in HEADER_SUFFIXES]
    if len(headers) == 1:
        return _HEADERS[find_suffix(headers[0])](headers[0], folder)
    if dicom.is_dicom(files[0]):
        return dicom.open_series(files)
    if shown := [path for path in files if pictures.is_picture(path)]:
        return pictures.open_pictures(shown)
    kinds = ", ".join([*pictures.SUFFIXES, *HEADER_SUFFIXES, ".dcm"])
    remedy = "For raw pixels without a header give shape and dtype in the map."
    raise FileFault(str(files[0]), expected=f"one header, or pictures: {kinds}", found=f"{len(files)} files", remedy=remedy)


def find_suffix(path: Path) -> str:
    """Return the suffix of a file in lower case, without that of a packed volume."""
    name = path.name.lower()
    return ".nii" if name.endswith(".nii.gz") else path.suffix.lower()


# From the planes of a source to the X-ray slices of each interface: pixel size, heights, polarity, origin, and which are taken.
#
# A few pictures are taken as they are. Of a volume, the planes nearest to where the classifier looks are taken; all interfaces
# that the map finds in one volume are found in it together. What neither map nor files say is found from the balls, and listed.


Array = NDArray[Any]
FEW_PLANES = 9  # are a stack of pictures, each of which is taken; of more, those are chosen that the classifier wants
LEAST_SLICES = 3


@dataclass(frozen=True)
class FoundStack:
    """Slices of one interface with all that the export says of them; `taken` are the numbers of its planes, from 1."""

    stack: SliceStack
    taken: tuple[int, ...]
    assumed: tuple[str, ...]


@dataclass(frozen=True)
class VolumeLook:
    """A volume whose interfaces are found, before it is known which end is up."""

    planes: Planes
    images: tuple[ImageMap, ...]
    package: Package
    pixel_um: tuple[float, float]
    step_um: float
    method: str
    levels: tuple[Level, ...]
    ghosts: GhostScores | None
    assumed: tuple[str, ...]


def is_volume(planes: Planes, image: ImageMap) -> bool:
    """Return whether planes must be chosen: there are more than a few, and the map does not give a height to each of them."""
    listed = image.z_um is not None and len(image.z_um) == planes.count <= MOST_SLICES
    return planes.count > FEW_PLANES and not listed


def make_turn(image: ImageMap) -> Callable[[Array], Array]:
    """Return the function that turns a picture as the map says: counter-clockwise, then mirrored left to right."""

    def turn(values: Array) -> Array:
        turned = np.rot90(values, image.turn_deg // 90)
        return turned[:, ::-1] if image.mirror else turned

    return turn


def mask_boxes(values: Array, image: ImageMap) -> Array:
    """Return a picture as stored in which the map's `mask_px` are NaN."""
    if not image.mask_px:
        return values
    masked = values.astype(np.float32)
    for left, top, right, bottom in image.mask_px:
        masked[top:bottom, left:right] = np.nan
    return masked


def _mask_planes(planes: Planes, image: ImageMap) -> Planes:
    """Return planes whose masked boxes are NaN in whatever rows are read."""
    if not image.mask_px:
        return planes
    everywhere = mask_boxes(np.zeros(planes.shape, dtype=np.float32), image)

    def read(plane: int, rows: range) -> Array:
        return planes.read(plane, rows) + everywhere[rows.start : rows.stop : rows.step]

    return replace(planes, read=read)


def _choose_pixel(planes: Planes, image: ImageMap) -> tuple[float, float] | None:
    pair = image.pixel_pair_um or planes.pixel_um
    if pair is not None and not all(0.1 <= p <= 1000 for p in pair):
        expect = "pixels of 0.1 to 1000 um"
        raise ImageFault(planes.name, expected=expect, found=f"{pair[0]:g} um", remedy="Give pixel_um in the map.")
    return pair


# A few pictures


def take_pictures(planes: Planes, image: ImageMap, package: Package) -> FoundStack:
    """Take all planes of a source as slices. Raises `ImageFault`, `FrameFault`, `FileFault`; `MapFault` for a contradiction."""
    interface, name = package.interface(str(image.interface)), image.name
    planes, assumed = _mask_planes(planes, image), [f"{name} {note}" for note in planes.notes]
    if image.z_um is not None and len(image.z_um) != planes.count:
        expect = f"{len(image.z_um)} slices, one for each height of z_um"
        raise ImageFault(planes.name, expected=expect, found=f"{planes.count}", remedy="Correct z_um or files in the map.")
    pixel = _choose_pixel(planes, image)
    turn, whole = make_turn(image), Crop(range(planes.shape[0]), range(planes.shape[1]))
    values = np.stack([turn(cut_plane(planes, k, whole, pixel or (1.0, 1.0))) for k in range(planes.count)])
    method, note = _choose_method(image, planes.count)
    assumed += [f"{name} {note}"] if note else []
    if method != "transmission" and planes.count < LEAST_SLICES:
        expect = f"at least {LEAST_SLICES} slices of {method}, or method = 'transmission'"
        raise ImageFault(planes.name, expected=expect, found=f"{planes.count}")
    z_um, note = _choose_heights(image, planes, interface, method)
    assumed += [f"{name} {note}"] if note else []
    order = np.argsort(z_um, kind="stable")
    values, z_um = values[order], tuple(z_um[k] for k in order)
    side = min(pixel) if pixel else nearest_pitch_um(interface) / measure_pitch_px(values[len(values) // 2], planes.name)
    grid = center_grid((values.shape[1], values.shape[2]), side)
    if image.origin_um is not None:
        grid = replace(grid, origin_um=(image.origin_um[0], image.origin_um[1]))
    polarity = image.polarity if image.polarity != "auto" else "solder_bright"
    stack = SliceStack(package.refdes, interface.name, values, z_um, grid, polarity, method)
    stack, notes = _settle(stack, package, image, pixel_known=pixel is not None)
    return FoundStack(stack, tuple(int(k) + 1 for k in order), (*assumed, *notes))


def _choose_method(image: ImageMap, count: int) -> tuple[str, str]:
    if image.method is not None:
        return image.method, ""
    method = "transmission" if count == 1 else "ct" if count > FEW_PLANES else "laminography"
    return method, f"method: {method}, by the number of pictures"


def _choose_heights(image: ImageMap, planes: Planes, interface: Interface, method: str) -> tuple[tuple[float, ...], str]:
    """Return a height for each plane in its order, and what was assumed."""
    if image.z_um is not None:
        return tuple(float(z) for z in image.z_um), ""
    if image.z_first_um is not None:
        return tuple(image.z_first_um + k * float(image.z_step_um or 0) for k in range(planes.count)), ""
    low, high = interface.pads_z_um
    sign = -1 if image.first_plane == "top" else 1
    if method == "transmission":
        return ((low + high) / 2,), ""
    step = image.z_step_um or planes.step_um
    if step is not None:
        middle, shift = (low + high) / 2, (planes.count - 1) / 2
        heights = tuple(middle + sign * (k - shift) * abs(step) for k in range(planes.count))
        return heights, f"z_um: around the middle of the pads, {abs(step):g} um apart"
    fractions = np.linspace(SLICE_HEIGHTS[0], SLICE_HEIGHTS[-1], planes.count)[::sign]
    return tuple(round(float(low + f * (high - low)), 1) for f in fractions), "z_um: evenly from the lower to the upper pad"


def _settle(stack: SliceStack, package: Package, image: ImageMap, *, pixel_known: bool) -> tuple[SliceStack, list[str]]:
    """Find what the map leaves open of polarity, origin and pixel size; return what was found in words."""
    known_polarity, known_origin = image.polarity != "auto", image.origin_um is not None
    if known_polarity and known_origin and pixel_known:
        return stack, []
    declared = stack.grid.origin_um
    found, placement = find_stack(stack, package, polarity_known=known_polarity, origin_known=known_origin)
    notes = []
    if not pixel_known:
        for _ in range(2):
            side = refine_pixel_um(found, package, placement)
            grid = center_grid(found.grid.shape, side)
            grid = replace(grid, origin_um=declared) if known_origin else grid
            found, placement = find_stack(replace(found, grid=grid), package, polarity_known=True, origin_known=known_origin)
        notes.append(f"{image.name} pixel_um: {found.grid.pixel_um:.3f}, from the pitch of the balls")
    if not known_polarity:
        notes.append(f"{image.name} polarity: {found.polarity}, from the balls")
    if not known_origin:
        moved = found.grid.origin_um != center_grid(found.grid.shape, found.grid.pixel_um).origin_um
        how = "from the balls" if moved else "the picture's middle is the package's"
        notes.append(f"{image.name} origin_um: [{found.grid.origin_um[0]:.1f}, {found.grid.origin_um[1]:.1f}], {how}")
    return found, notes


# Volumes


def look_at_volume(planes: Planes, images: list[ImageMap], package: Package) -> VolumeLook:
    """Find the interfaces of a package in a volume. Raises `ImageFault`, `FrameFault`, `FileFault` and `MapFault`."""
    first = images[0]
    for image in images[1:]:
        for key in ("pixel_um", "z_step_um", "z_first_um", "turn_deg", "mirror", "first_plane", "method", "mask_px"):
            if getattr(image, key) != getattr(first, key):
                expect = f"the same {key} for {first.name} and {image.name}, which one volume shows"
                raise MapFault(planes.name, expected=expect, found="two values")
    assumed = [f"{first.name} {note}" for note in planes.notes]
    planes = _mask_planes(planes, first)
    method, note = _choose_method(first, planes.count)
    assumed += [f"{image.name} {note}" for image in images] if note else []
    pixel = _choose_pixel(planes, first)
    if pixel is None:
        middle = planes.read_plane(planes.count // 2)
        side = nearest_pitch_um(package.interface(str(first.interface))) / measure_pitch_px(middle, planes.name)
        pixel = (side, side)
        assumed.append(f"{first.name} pixel_um: {side:.3f}, from the pitch of the balls in the middle plane")
    step = abs(first.z_step_um) if first.z_step_um else planes.step_um
    if step is None:
        step = pixel[0]
        assumed.append(f"{first.name} z_step_um: {step:g}, as the pixels")
    polarity = next((image.polarity for image in images if image.polarity != "auto"), None)
    levels = find_levels(planes, package, pixel, step, polarity, make_turn(first), method)
    wanted = {str(image.interface) for image in images}
    if missing := wanted - {level.interface for level in levels}:
        expect = f"the {' and the '.join(sorted(missing))} interface of {package.refdes} in the volume"
        raise ImageFault(planes.name, expected=expect, found=f"{', '.join(level.interface for level in levels)} alone")
    ghosts = None
    if len(levels) == 1 and first.first_plane == "auto" and first.z_first_um is None:
        low, high = package.interface(levels[0].interface).pads_z_um
        near = np.flatnonzero([low <= z <= high for z in levels[0].stack.z_um])
        if len(near) >= LEAST_SLICES:
            stack = replace(
                levels[0].stack, values=levels[0].stack.values[near], z_um=tuple(levels[0].stack.z_um[k] for k in near)
            )
            ghosts = score_ghosts(stack, package, levels[0].placement)
    return VolumeLook(planes, tuple(images), package, pixel, step, method, tuple(levels), ghosts, tuple(assumed))


def finish_volumes(looks: list[VolumeLook]) -> list[FoundStack]:
    """Decide which end of each volume of a board is up, all of them together, and take their slices.

    Raises `ImageFault` for a volume with too few planes between the pads.
    """
    with_ghosts = [look for look in looks if look.ghosts is not None]
    decided = decide_turned([look.ghosts for look in with_ghosts if look.ghosts is not None])
    by_ghosts = {id(look): turned for look, turned in zip(with_ghosts, decided, strict=True)}
    found = []
    for look in looks:
        first, turned = look.images[0], by_ghosts.get(id(look))
        sign, how = 1, ""  # 1 where plane 0 is the lowest; no words where the map says it
        if first.z_first_um is not None:
            sign = 1 if float(first.z_step_um or 0) > 0 else -1
        elif first.first_plane != "auto":
            sign = 1 if first.first_plane == "bottom" else -1
        elif len(look.levels) == 2:
            lower, upper = (next(level.middle for level in look.levels if level.interface == n) for n in ("lower", "upper"))
            sign = 1 if lower < upper else -1
            how = f"first_plane: {_name_end(sign)}, from the order of the interfaces"
        elif turned is None:
            how = "first_plane: bottom, assumed: the balls do not tell"
        else:
            sign = -1 if turned else 1
            how = f"first_plane: {_name_end(sign)}, from the other interface's ghosts"
        for image in look.images:
            level = next(level for level in look.levels if level.interface == image.interface)
            found.append(_take_planes(look, image, level, sign, how))
    return found


def _name_end(sign: int) -> str:
    return "bottom" if sign > 0 else "top"


def _take_planes(look: VolumeLook, image: ImageMap, level: Level, sign: int, how: str) -> FoundStack:
    """Take the planes of one interface nearest to where the classifier looks at it."""
    interface = look.package.interface(level.interface)
    low, high = interface.pads_z_um
    name, notes = image.name, []
    if image.z_first_um is not None:
        heights = image.z_first_um + np.arange(look.planes.count) * float(image.z_step_um or 0)
    else:
        heights = (low + high) / 2 + sign * (np.arange(look.planes.count) - level.middle) * look.step_um
        source = "from the balls, which are widest half way between the pads" if level.clear else "roughly from the balls"
        notes.append(f"{name} z_um: {source}")
    wanted = image.z_um if image.z_um is not None else [low + f * (high - low) for f in SLICE_HEIGHTS]
    taken = sorted({int(np.argmin(np.abs(heights - z))) for z in wanted}, key=lambda k: float(heights[k]))
    turn = make_turn(image)
    rows, cols = level.crop.rows, level.crop.cols
    whole = replace(level.crop, rows=range(look.planes.shape[0]), cols=range(look.planes.shape[1]))
    pages: list[Array] = []
    numbers: list[int] = []
    for plane in taken:
        page = turn(cut_plane(look.planes, plane, whole, look.pixel_um))[rows.start : rows.stop, cols.start : cols.stop]
        if not any(np.array_equal(page, other) for other in pages):  # beyond its scan a volume repeats its last plane
            pages.append(page)
            numbers.append(plane)
    if len(numbers) < LEAST_SLICES:
        expect = f"at least {LEAST_SLICES} different planes between the pads of {name}, {high - low:g} um apart"
        found = f"{len(numbers)} at steps of {look.step_um:g} um"
        raise ImageFault(look.planes.name, expected=expect, found=found, remedy="Check z_step_um and the recipe's pads_z_um.")
    grid = level.grid
    if image.origin_um is not None:
        side, (x, y) = grid.pixel_um, image.origin_um
        grid = Grid(grid.shape, side, (x + cols.start * side, y - rows.start * side))
    else:
        notes.append(f"{name} origin_um: [{grid.origin_um[0]:.1f}, {grid.origin_um[1]:.1f}], from the balls")
    if image.polarity == "auto":
        notes.append(f"{name} polarity: {level.stack.polarity}, from the balls")
    notes += [f"{name} {how}"] if how else []
    z_um = tuple(round(float(heights[k]), 1) for k in numbers)
    stack = SliceStack(look.package.refdes, interface.name, np.stack(pages), z_um, grid, level.stack.polarity, look.method)
    if math.isclose(max(look.pixel_um), min(look.pixel_um), rel_tol=1e-3) is False:
        notes.append(f"{name} pixels: resampled from {look.pixel_um[0]:g} x {look.pixel_um[1]:g} um to squares")
    return FoundStack(stack, tuple(k + 1 for k in numbers), (*look.assumed, *notes))

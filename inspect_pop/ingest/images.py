"""Images of an export: what the pages of a file mean.

Slices stay as the machine wrote them, and one that holds nothing is named, for it must not be read as 'no solder'.
Heights become um with NaN where there is no data.
"""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.errors import ImageFault
from inspect_pop.core.geometry import Grid, HeightMap, SliceStack
from inspect_pop.ingest.files import BOUNDS, Bounds
from inspect_pop.ingest.manifest import HeightEntry, SliceEntry
from inspect_pop.ingest.tiff import read_pages

__all__ = ["read_heights", "read_slices"]

SLICE_DTYPES = ("uint8", "uint16", "float32")
HEIGHT_DTYPES = ("float32", "uint16")
MOST_HEIGHT_UM = 100_000.0  # 10 cm above a board there is no package; a machine's own sign for 'none' is


def read_slices(entry: SliceEntry, path: Path, sha256: str | None = None, bounds: Bounds = BOUNDS) -> SliceStack:
    """The slices of one interface; `lost` names those of a single value, and those with values that are not finite.

    Raises `FileFault`, and `ImageFault` where the file is not as the entry says, no slice holds anything, or one slice was
    written in the place of another.
    """
    values = read_pages(path, len(entry.z_um), SLICE_DTYPES, sha256, bounds)
    lost = tuple(k for k, page in enumerate(values) if _holds_nothing(page))
    if len(lost) == len(values):
        expect, found = "a picture", "pages of one value, or with values that are not finite"
        raise ImageFault(str(path), expected=expect, found=found, remedy="Was the tube on? Export the board again.")
    for one, other in combinations([k for k in range(len(values)) if k not in lost], 2):
        if _is_copy(values[one], values[other]):
            expect, found = "a picture of its own for each height", f"pages {one + 1} and {other + 1} the same to the last pixel"
            raise ImageFault(str(path), expected=expect, found=found, remedy="Export the board again, each slice once.")
    return SliceStack(
        refdes=entry.refdes,
        interface=entry.interface,
        values=values,
        z_um=tuple(entry.z_um),
        grid=_grid(entry, values),
        polarity=entry.polarity,
        method=entry.method,
        lost=lost,
    )


def read_heights(entry: HeightEntry, path: Path, sha256: str | None = None, bounds: Bounds = BOUNDS) -> HeightMap:
    """The height map of one package and stage. Raises `FileFault`, and `ImageFault` where it is not as the entry says."""
    (page,) = read_pages(path, 1, HEIGHT_DTYPES, sha256, bounds)
    height_um = _from_float(entry, path, page) if page.dtype == np.float32 else _from_integers(entry, path, page)
    low_um, high_um = np.fmin.reduce(height_um, axis=None), np.fmax.reduce(height_um, axis=None)  # past NaN, without a copy
    if not low_um < high_um:
        found = "no data in any pixel" if np.isnan(low_um) else f"{low_um:g} um everywhere"
        raise ImageFault(str(path), expected="heights", found=found, remedy="Export the board again.")
    if max(-low_um, high_um) > MOST_HEIGHT_UM:
        expect = f"heights within {MOST_HEIGHT_UM:,.0f} um of the board"
        remedy = "Give micrometres, and NaN where there is no data."
        raise ImageFault(str(path), expected=expect, found=f"{low_um:g} to {high_um:g}", remedy=remedy)
    return HeightMap(entry.refdes, entry.stage, height_um, _grid(entry, page[np.newaxis]))


def _from_float(entry: HeightEntry, path: Path, page: NDArray[Any]) -> NDArray[np.float32]:
    """float32 heights stand in um already: a scale beside them would be applied or not, by guess."""
    if entry.scale_um not in (None, 1.0) or entry.offset_um != 0.0:
        found = (
            f"scale_um {entry.scale_um:g} and offset_um {entry.offset_um:g}"
            if entry.scale_um
            else f"offset_um {entry.offset_um:g}"
        )
        raise ImageFault(str(path), expected="float32 heights in um, with scale_um 1 and offset_um 0", found=found)
    none = ~np.isfinite(page)
    if entry.no_data is not None:
        none |= page == np.float32(entry.no_data)
    page[none] = np.nan
    return page


def _from_integers(entry: HeightEntry, path: Path, page: NDArray[Any]) -> NDArray[np.float32]:
    if entry.scale_um is None:
        raise ImageFault(str(path), expected="scale_um for heights of uint16", found="none in export.json")
    if entry.no_data is not None and not 0 <= entry.no_data <= np.iinfo(np.uint16).max:
        raise ImageFault(str(path), expected="a no_data that uint16 can hold", found=str(entry.no_data))
    height_um = page.astype(np.float32)
    height_um *= np.float32(entry.scale_um)
    height_um += np.float32(entry.offset_um)
    if entry.no_data is not None:
        height_um[page == entry.no_data] = np.nan
    return height_um


def _holds_nothing(page: NDArray[Any]) -> bool:
    low, high = page.min(), page.max()  # NaN and infinity come through
    return bool(low == high or not (np.isfinite(low) and np.isfinite(high)))


def _is_copy(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """No two exposures are alike in their noise. A few rows tell nearly always, for a fiftieth of the time."""
    return np.array_equal(one[::50], other[::50]) and np.array_equal(one, other)


def _grid(entry: SliceEntry | HeightEntry, values: NDArray[Any]) -> Grid:
    rows, cols = values.shape[1:]
    return Grid((int(rows), int(cols)), entry.pixel_um, (entry.origin_um[0], entry.origin_um[1]))

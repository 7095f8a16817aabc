"""Read the images of an export from TIFF files: X-ray slices and height maps.

Slices stay as the machine wrote them. A slice that shows nothing is listed as lost, since it must not be read as 'no
solder'. Heights become um, with NaN where there is no data.

Files are bounded before they are parsed, checked before they are decoded, and read from disk once. tifffile does the
reading. It trusts its files, so this module first checks the chain of directories and the size of each tag, then size, type
and compression of each page, then that the bytes of every strip and tile are in the file: tifffile would fill what is
missing with zeros, which look like 'no solder'.

A page is turned as its Orientation tag says, and a page that is marked as a reduced picture or a mask is left out. Pixels
that are not square are made square.
"""

import hashlib
import io
import logging
import math
import struct
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from inspect_pop.core.errors import FileFault, ImageFault
from inspect_pop.core.geometry import Grid, HeightMap, SliceStack
from inspect_pop.ingest.document import HeightEntry, SliceEntry
from inspect_pop.ingest.files import BOUNDS, Bounds, read_bytes

__all__ = [
    "DAMAGED",
    "UPRIGHT",
    "read_heights",
    "read_orientation",
    "read_pages",
    "read_slices",
    "walk_directories",
]

SLICE_DTYPES = ("uint8", "uint16", "int16", "float32")
HEIGHT_DTYPES = ("float32", "uint16", "int16")
_DTYPE_REMEDY = "Convert the pixels to float32, or to 16-bit integers."
MOST_HEIGHT_UM = 100_000.0  # no package is 10 cm high; the value that a machine writes for 'no data' often is

logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)  # the errors below say what it would log

# What tifffile and imagecodecs raise on damaged files, found by fuzzing: its own error is a ValueError, the codecs' are
# RuntimeErrors, the rest comes from tags of the wrong type, count or value.
DAMAGED = (
    ValueError,
    RuntimeError,
    TypeError,
    IndexError,
    KeyError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    struct.error,
    OSError,
)
# Lossless, and bounded by the requested size. Embedded pictures (JPEG, JPEG 2000, ...) and LZMA choose their own size.
_COMPRESSIONS = {1: "none", 5: "LZW", 8: "deflate", 32946: "deflate", 32773: "PackBits", 34926: "zstd", 50000: "zstd"}
# Width, length, rows per strip, sides of a tile, depth (TIFF 6.0), and the types that hold a whole number.
_ROWS_PER_STRIP = 278
_SIDES = {256, 257, _ROWS_PER_STRIP, 322, 323, 32997, 32998}
_WHOLE = {1: "B", 3: "H", 4: "I", 16: "Q"}
_MOST_TAGS = 4096  # tifffile refuses more
# TIFF 6.0, NewSubfileType and its predecessor SubfileType: the values that mark a reduced picture, and the first also a mask.
_SUBFILES: dict[int, Callable[[int], bool]] = {254: lambda value: bool(value & 0b101), 255: lambda value: value == 2}
_ORIENTATION = 274
# TIFF 6.0, Orientation: how a stored page (rows, cols) becomes the picture that it shows, upper row first.
UPRIGHT: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda page: page,
    2: lambda page: page[:, ::-1],
    3: lambda page: page[::-1, ::-1],
    4: lambda page: page[::-1],
    5: lambda page: page.T,
    6: lambda page: page.T[:, ::-1],
    7: lambda page: page.T[::-1, ::-1],
    8: lambda page: page.T[::-1],
}
_ON_SIDE = 5  # from this orientation on, rows and columns change places
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


def read_slices(entry: SliceEntry, path: Path, sha256: str | None = None, bounds: Bounds = BOUNDS) -> SliceStack:
    """Read the slices of one interface; `lost` lists those of a single value. Float values that are not finite become NaN.

    Raises `FileFault`. Raises `ImageFault` where the file differs from the entry, no slice shows anything, or one slice
    was written twice.
    """
    values = read_pages(path, len(entry.z_um), SLICE_DTYPES, sha256, bounds)
    _check_stretch(entry, path, values, bounds)
    lost = []
    for k, page in enumerate(values):
        if page.dtype.kind == "f":
            np.copyto(page, np.nan, where=~np.isfinite(page))  # outside the scan
        if not np.fmin.reduce(page, axis=None) < np.fmax.reduce(page, axis=None):
            lost.append(k)
    if len(lost) == len(values):
        expect, found = "a picture", "pages of one value, or without any"
        raise ImageFault(
            str(path), expected=expect, found=found, remedy="Check that the X-ray tube was on, and export the board again."
        )
    for one, other in combinations([k for k in range(len(values)) if k not in lost], 2):
        # No two exposures have the same noise. A few rows show that nearly always, in a fiftieth of the time.
        if all(np.array_equal(values[one, ::step], values[other, ::step], equal_nan=True) for step in (50, 1)):
            expect, found = "a different picture at each height", f"pages {one + 1} and {other + 1} equal in every pixel"
            raise ImageFault(str(path), expected=expect, found=found, remedy="Export the board again, each slice once.")
    values = _square_pixels(values, entry.pixel_um)
    return SliceStack(
        refdes=entry.refdes,
        interface=entry.interface,
        values=values,
        z_um=tuple(entry.z_um),
        grid=_grid(entry, values),
        polarity=entry.polarity,
        method=entry.method,
        lost=tuple(lost),
    )


def read_heights(entry: HeightEntry, path: Path, sha256: str | None = None, bounds: Bounds = BOUNDS) -> HeightMap:
    """Read the height map of one package and stage. Raises `FileFault`; `ImageFault` where it differs from the entry."""
    pages = read_pages(path, 1, HEIGHT_DTYPES, sha256, bounds)
    _check_stretch(entry, path, pages, bounds)
    (page,) = pages
    height_um = _convert_float(entry, path, page) if page.dtype == np.float32 else _convert_integers(entry, path, page)
    low_um, high_um = np.fmin.reduce(height_um, axis=None), np.fmax.reduce(height_um, axis=None)  # past NaN, without a copy
    if not low_um < high_um:
        found = "no data in any pixel" if np.isnan(low_um) else f"{low_um:g} um everywhere"
        raise ImageFault(str(path), expected="heights", found=found, remedy="Export the board again.")
    if max(-low_um, high_um) > MOST_HEIGHT_UM:
        expect = f"heights within {MOST_HEIGHT_UM:,.0f} um of the board"
        remedy = "Give micrometres, and NaN where there is no data."
        raise ImageFault(str(path), expected=expect, found=f"{low_um:g} to {high_um:g}", remedy=remedy)
    square = _square_pixels(height_um[np.newaxis], entry.pixel_um)
    return HeightMap(entry.refdes, entry.stage, square[0], _grid(entry, square))


def _convert_float(entry: HeightEntry, path: Path, page: NDArray[Any]) -> NDArray[np.float32]:
    """Return float32 heights, which are in um already: whether a scale still applies would be a guess, so that one is refused."""
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


def _convert_integers(entry: HeightEntry, path: Path, page: NDArray[Any]) -> NDArray[np.float32]:
    if entry.scale_um is None:
        raise ImageFault(str(path), expected=f"scale_um for heights of {page.dtype}", found="none in export.json")
    scale = np.iinfo(page.dtype)
    if entry.no_data is not None and not scale.min <= entry.no_data <= scale.max:
        raise ImageFault(str(path), expected=f"a no_data that {page.dtype} can hold", found=str(entry.no_data))
    height_um = page.astype(np.float32)
    height_um *= np.float32(entry.scale_um)
    height_um += np.float32(entry.offset_um)
    if entry.no_data is not None:
        height_um[page == entry.no_data] = np.nan
    return height_um


def _grid(entry: SliceEntry | HeightEntry, values: NDArray[Any]) -> Grid:
    rows, cols = values.shape[1:]
    return Grid((int(rows), int(cols)), min(entry.pixel_um), (entry.origin_um[0], entry.origin_um[1]))


def _check_stretch(entry: SliceEntry | HeightEntry, path: Path, pages: NDArray[Any], bounds: Bounds) -> None:
    """Refuse pages that are out of bounds once their pixels are square."""
    stretch = max(entry.pixel_um) / min(entry.pixel_um)
    n_pixels, side = pages.size * stretch, max(pages.shape[1:]) * stretch
    is_large = n_pixels > bounds.image_pixels or n_pixels * pages.itemsize > bounds.decoded_bytes or side > bounds.image_side_px
    if stretch > 1 and is_large:
        expect = f"at most {bounds.image_pixels:,} square pixels and {bounds.decoded_bytes:,} bytes in all"
        found = f"{n_pixels:,.0f} {pages.dtype} pixels of {min(entry.pixel_um):g} um"
        raise ImageFault(str(path), expected=expect, found=found, remedy="Check pixel_um.")


def _square_pixels(pages: NDArray[Any], pixel_um: tuple[float, float]) -> NDArray[Any]:
    """Return the pages (n, rows, cols) with square pixels as small as the shorter side of `pixel_um` (along a row, a column).

    The centre of pixel (0, 0) stays. Values between two pixels are interpolated, and none where one of the two is NaN: no
    value lies outside of the two around it, so that the ends of the grey scale stay the ends.
    """
    if pixel_um[0] == pixel_um[1]:
        return pages
    axis = 1 if pixel_um[1] > pixel_um[0] else 2
    last = pages.shape[axis] - 1
    place = np.arange(int(last * max(pixel_um) / min(pixel_um) + 1e-6) + 1) * (min(pixel_um) / max(pixel_um))
    place = place.round(9)  # so that a pixel's centre is found again exactly
    first = np.minimum(place.astype(np.intp), last - 1)
    share = (place - first).astype(np.float32)[:, None] if axis == 1 else (place - first).astype(np.float32)
    shape = (len(place), pages.shape[2]) if axis == 1 else (pages.shape[1], len(place))
    square = np.empty((len(pages), *shape), pages.dtype)
    for page, out in zip(pages, square, strict=True):
        low, high = page.take(first, axis - 1), page.take(first + 1, axis - 1)
        between = (1 - share) * low + share * high
        between = np.where(share == 0, low, np.where(share == 1, high, between))  # 0 times NaN is NaN
        out[:] = np.rint(between) if out.dtype.kind in "iu" else between
    return square


def read_pages(
    path: Path, n_pages: int, dtypes: tuple[str, ...], sha256: str | None = None, bounds: Bounds = BOUNDS
) -> NDArray[Any]:
    """Read all pages as one array (n_pages, rows, cols) of one of `dtypes`, in native byte order, upright, pixels unchanged.

    Args:
        path: The file.
        n_pages: The number of pages that it must have, reduced pictures apart.
        dtypes: Names of the dtypes that are allowed.
        sha256: The digest that its bytes must have, in hexadecimal; None for any.
        bounds: Sizes above which it is refused.

    Raises:
        FileFault: The file is missing, unreadable, truncated, damaged, not a TIFF, too large, or its digest differs.
        ImageFault: Number of pages, shape, type or compression are not allowed.
    """
    data = read_bytes(path, bounds.image_bytes)
    if sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != sha256.lower():
        raise FileFault(
            str(path), expected=f"sha256 {sha256}", found=found, remedy="The file was changed or damaged: export it again."
        )
    numbers = _find_pictures(path, data, n_pages, bounds)
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as tif:
            pages = [tif.pages.get(number, aspage=True) for number in numbers]
            dtype, shape = _check_pages(path, pages, dtypes, len(data), bounds)
            values = np.empty((n_pages, *shape), dtype)
            for page, out in zip(pages, values, strict=True):
                orientation = read_orientation(page)
                if orientation == 1:
                    page.asarray(out=out, maxworkers=1)
                else:
                    out[:] = UPRIGHT[orientation](page.asarray(maxworkers=1))
    except DAMAGED as error:
        raise FileFault(
            str(path), expected="a TIFF file", found=f"a damaged one: {error!s:.200}", remedy="Export the board again."
        ) from error
    return values


def _find_pictures(path: Path, data: bytes, n_pages: int, bounds: Bounds) -> list[int]:
    """Return the numbers of the pages that are neither reduced pictures nor masks. Raises `ImageFault` unless `n_pages` are."""
    numbers: list[int] = []
    reduced = 0
    for number, is_reduced in enumerate(walk_directories(path, lambda at, n: data[at : at + n], bounds)):
        reduced += is_reduced
        numbers += [] if is_reduced else [number]
        if len(numbers) > n_pages:
            break
    if len(numbers) != n_pages:
        more = " or more" if len(numbers) > n_pages else ""
        outside = f", and {reduced} marked as reduced pictures or masks" if reduced else ""
        expect = "one page" if n_pages == 1 else f"{n_pages} pages"
        raise ImageFault(str(path), expected=expect, found=f"{len(numbers)}{more}{outside}", remedy="Write one page per slice.")
    return numbers


def walk_directories(path: Path, read_at: Callable[[int, int], bytes], bounds: Bounds) -> Iterator[bool]:
    """Yield of each image directory whether it is a reduced picture or a mask; check the size of each tag's value before.

    `read_at` returns so many bytes from an offset on, fewer at the file's end. Raises `FileFault` and `ImageFault`.

    TIFF 6.0, section 2: a header of byte order, version and first offset; each directory a count, its tags of 12 bytes,
    and the next offset. BigTIFF (version 43) has 64-bit counts and offsets.
    """
    try:
        order, big = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}[read_at(0, 4)]
    except KeyError as error:
        raise FileFault(str(path), expected="a TIFF file", found=f"one that begins with {read_at(0, 4)!r}") from error
    n_format, tag_format, next_format, tag_bytes = ("Q", "HHQ", "Q", 20) if big else ("H", "HHI", "I", 12)
    seen: set[int] = set()
    tags_left = bounds.image_tags

    try:
        (at,) = _unpack_at(read_at, order + next_format, 8 if big else 4)
        while at:
            if at in seen:
                raise FileFault(str(path), expected="a chain of pages", found=f"a circle back to byte {at:,}")
            seen.add(at)
            (n_tags,) = _unpack_at(read_at, order + n_format, at)
            first = at + struct.calcsize(n_format)
            tags_left -= min(n_tags, _MOST_TAGS) + 1
            if tags_left < 0:
                raise FileFault(str(path), expected=f"at most {bounds.image_tags:,} tags in all pages", found="more")
            is_reduced = False
            for tag in range(min(n_tags, _MOST_TAGS)):
                code, kind, count = _unpack_at(read_at, order + tag_format, first + tag * tag_bytes)
                if count * _TYPE_BYTES.get(kind, 1) > bounds.image_tag_bytes:
                    raise FileFault(
                        str(path), expected=f"tags of at most {bounds.image_tag_bytes:,} bytes", found=f"{count:,} values in one"
                    )
                value = first + tag * tag_bytes + struct.calcsize(order + tag_format)
                if code in _SIDES:
                    _check_side(path, code, kind, count, read_at(value, 8), order, bounds)
                if code in _SUBFILES and kind in _WHOLE and count == 1:
                    is_reduced |= _SUBFILES[code](*_unpack_at(read_at, order + _WHOLE[kind], value))
            yield is_reduced
            (at,) = _unpack_at(read_at, order + next_format, first + n_tags * tag_bytes)
    except (struct.error, OverflowError, OSError) as error:  # a 64-bit offset may be beyond any index
        raise FileFault(
            str(path), expected="a TIFF file", found="one that is cut short", remedy="Export the board again."
        ) from error


def _unpack_at(read_at: Callable[[int, int], bytes], style: str, offset: int) -> tuple[int, ...]:
    return struct.unpack(style, read_at(offset, struct.calcsize(style)))


def _check_side(path: Path, code: int, kind: int, count: int, value: bytes, order: str, bounds: Bounds) -> None:
    """Refuse a size that is not a whole number or is out of bounds: tifffile builds a list of as many strips as it says."""
    number = _WHOLE.get(kind)
    found = struct.unpack_from(order + number, value)[0] if number and count == 1 else None
    if found is None or (found > bounds.image_side_px and code != _ROWS_PER_STRIP):
        expect = f"sides of at most {bounds.image_side_px:,} pixels, each a whole number"
        raise ImageFault(
            str(path), expected=expect, found=f"tag {code}: {count:,} of type {kind}" if found is None else f"{found:,}"
        )


def _check_pages(
    path: Path, pages: list[Any], dtypes: tuple[str, ...], n_bytes: int, bounds: Bounds
) -> tuple[np.dtype[Any], tuple[int, int]]:
    """Return dtype and shape of all pages, after checking that sizes are within bounds and all bytes are in the file."""
    for page in pages:
        fault = _find_page_fault(page, pages[0], dtypes, bounds)
        if fault:
            raise ImageFault(f"{path}: page {page.index + 1}", expected=fault[0], found=fault[1], remedy=fault[2])
    shape, dtype = _turn_shape(pages[0]), np.dtype(pages[0].dtype.name)
    n_pixels = len(pages) * shape[0] * shape[1]
    if n_pixels > bounds.image_pixels or n_pixels * dtype.itemsize > bounds.decoded_bytes:
        expect = f"at most {bounds.image_pixels:,} pixels and {bounds.decoded_bytes:,} bytes in all"
        raise ImageFault(str(path), expected=expect, found=f"{n_pixels:,} {dtype} pixels declared", remedy="Nothing was decoded.")
    if sum(sum(page.databytecounts) for page in pages) > n_bytes:  # strips that share bytes could demand any amount of work
        raise FileFault(str(path), expected=f"pages within the file's {n_bytes:,} bytes", found="pages that lie over one another")
    for page in pages:
        segments = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        is_complete = all(at > 0 and n > 0 and at + n <= n_bytes for at, n in segments)
        if len(segments) != math.prod(page.chunked) or not is_complete:
            found = "some are not: it is cut short or damaged"
            raise FileFault(
                f"{path}: page {page.index + 1}",
                expected="all of its bytes in the file",
                found=found,
                remedy="Export the board again.",
            )
    return dtype, shape


def _find_page_fault(page: Any, first: Any, dtypes: tuple[str, ...], bounds: Bounds) -> tuple[str, str, str] | None:
    """Return what was expected of a page, what was found and what to do, or None for a greyscale page like the first."""
    if len(page.shape) != 2 or 0 in page.shape:
        return "one grey value per pixel", f"shape {page.shape}", ""
    if page.dtype is None or page.dtype.name not in dtypes or page.bitspersample != 8 * page.dtype.itemsize:
        return f"pixels of {' or '.join(dtypes)}", f"{page.dtype or 'another type'}, {page.bitspersample} bits", _DTYPE_REMEDY
    if read_orientation(page) not in UPRIGHT:
        found = " and ".join(f"{tag.value!r:.40}" for tag in page.tags.getall(_ORIENTATION))
        return "one Orientation tag of 1 to 8", found, "Write 1, and the upper row first."
    if _turn_shape(page) != _turn_shape(first) or page.dtype != first.dtype:
        return f"{_turn_shape(first)} {first.dtype} as the first page", f"{_turn_shape(page)} {page.dtype}", ""
    if page.compression not in _COMPRESSIONS:
        return f"compression {', '.join(dict.fromkeys(_COMPRESSIONS.values()))}", str(page.compression), ""
    if min(page.shape) < bounds.image_least_px or max(page.shape) > bounds.image_side_px:
        return f"sides of {bounds.image_least_px} to {bounds.image_side_px:,} pixels", str(page.shape), ""
    if math.prod(page.chunks) > bounds.image_pixels:  # a tile may be larger than its picture
        return f"tiles of at most {bounds.image_pixels:,} pixels", str(page.chunks), ""
    return None


def read_orientation(page: Any) -> int:
    """Return the page's Orientation, 1 without the tag, 0 for one that is not a whole number or occurs twice."""
    tags = page.tags.getall(_ORIENTATION)
    if tags is None:
        return 1
    return int(tags[0].value) if len(tags) == 1 and isinstance(tags[0].value, int) else 0


def _turn_shape(page: Any) -> tuple[int, int]:
    """Return the rows and columns of the picture that the page shows when it is upright."""
    rows, cols = page.shape
    return (cols, rows) if read_orientation(page) >= _ON_SIDE else (rows, cols)

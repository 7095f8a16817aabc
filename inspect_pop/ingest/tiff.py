"""Pages of a TIFF file: bounded before anything is parsed, checked before anything is decoded, read from disk once.

tifffile does the reading. It is made for files that their owner trusts, so what it would believe is checked first: the
chain of directories and the size of each tag here, then size, type and compression of each page, then that the bytes of
every strip and tile are there (it would fill what is missing with zeros, which look like 'no solder').
"""

import hashlib
import io
import logging
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from inspect_pop.core.errors import FileFault, ImageFault
from inspect_pop.ingest.files import BOUNDS, Bounds, read_bytes

__all__ = ["read_pages"]

logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)  # what it logs about damaged files is told by the errors here

# What tifffile and imagecodecs raise on damaged files, found by fuzzing: its own error is a ValueError, the codecs' are
# RuntimeErrors, the rest comes from tags of the wrong type, count or value.
_DAMAGED = (
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
# Lossless, and bounded by the size that is asked for: pictures inside (JPEG, JPEG 2000, ...) and LZMA choose their own.
_COMPRESSIONS = {1: "none", 5: "LZW", 8: "deflate", 32946: "deflate", 32773: "PackBits", 34926: "zstd", 50000: "zstd"}
# Width, length, rows of a strip, sides of a tile, depth (TIFF 6.0), and the types that hold a whole number.
_ROWS_PER_STRIP = 278
_SIDES = {256, 257, _ROWS_PER_STRIP, 322, 323, 32997, 32998}
_WHOLE = {1: "B", 3: "H", 4: "I", 16: "Q"}
_MOST_TAGS = 4096  # tifffile refuses more
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


def read_pages(
    path: Path, n_pages: int, dtypes: tuple[str, ...], sha256: str | None = None, bounds: Bounds = BOUNDS
) -> NDArray[Any]:
    """(n_pages, rows, cols) of one of `dtypes`, in the machine's own byte order, every pixel as it was written.

    Raises `FileFault` for a file that is missing, unreadable, cut short, damaged, no TIFF, too large or not what its
    `sha256` says, and `ImageFault` for pages, shape, type or compression that are not as they must be.
    """
    data = read_bytes(path, bounds.image_bytes)
    if sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != sha256.lower():
        raise FileFault(
            str(path), expected=f"sha256 {sha256}", found=found, remedy="The file was changed or damaged: export it again."
        )
    found_pages = sum(1 for _ in _directories(path, data, n_pages, bounds))
    if found_pages != n_pages:
        more = " or more" if found_pages > n_pages else ""
        raise ImageFault(str(path), expected=_counted(n_pages), found=f"{found_pages}{more}", remedy="One page a slice.")
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as tif:
            pages = [tif.pages.get(i, aspage=True) for i in range(n_pages)]
            dtype, shape = _checked(path, pages, dtypes, len(data), bounds)
            values = np.empty((n_pages, *shape), dtype)
            for page, out in zip(pages, values, strict=True):
                page.asarray(out=out, maxworkers=1)
    except _DAMAGED as error:
        raise FileFault(
            str(path), expected="a TIFF file", found=f"a damaged one: {error!s:.200}", remedy="Export the board again."
        ) from error
    return values


def _directories(path: Path, data: bytes, n_pages: int, bounds: Bounds) -> Iterator[int]:
    """Offsets of the image directories, one more than `n_pages` at most, with the size of each tag's value checked.

    TIFF 6.0, section 2: a header of byte order, version and first offset; each directory a count, its tags of 12 bytes,
    and the next offset. BigTIFF (version 43) has 64-bit counts and offsets.
    """
    try:
        order, big = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}[data[:4]]
    except KeyError as error:
        raise FileFault(str(path), expected="a TIFF file", found=f"one that begins with {data[:4]!r}") from error
    n_format, tag_format, next_format, tag_bytes = ("Q", "HHQ", "Q", 20) if big else ("H", "HHI", "I", 12)
    seen: set[int] = set()
    try:
        (at,) = struct.unpack_from(order + next_format, data, 8 if big else 4)
        while at and len(seen) <= n_pages:
            if at in seen:
                raise FileFault(str(path), expected="a chain of pages", found=f"a circle back to byte {at:,}")
            seen.add(at)
            (n_tags,) = struct.unpack_from(order + n_format, data, at)
            first = at + struct.calcsize(n_format)
            for tag in range(min(n_tags, _MOST_TAGS)):
                code, kind, count = struct.unpack_from(order + tag_format, data, first + tag * tag_bytes)
                if count * _TYPE_BYTES.get(kind, 1) > bounds.image_tag_bytes:
                    raise FileFault(
                        str(path), expected=f"tags of at most {bounds.image_tag_bytes:,} bytes", found=f"{count:,} values in one"
                    )
                if code in _SIDES:
                    value = first + tag * tag_bytes + struct.calcsize(order + tag_format)
                    _check_side(path, code, kind, count, data[value : value + 8], order, bounds)
            yield at
            (at,) = struct.unpack_from(order + next_format, data, first + n_tags * tag_bytes)
    except (struct.error, OverflowError) as error:  # a 64-bit offset may be beyond any index
        raise FileFault(
            str(path), expected="a TIFF file", found="one that is cut short", remedy="Export the board again."
        ) from error


def _check_side(path: Path, code: int, kind: int, count: int, value: bytes, order: str, bounds: Bounds) -> None:
    """Refuse a size that is no whole number, or beyond bounds: tifffile makes a list of as many strips as it gives."""
    number = _WHOLE.get(kind)
    found = struct.unpack_from(order + number, value)[0] if number and count == 1 else None
    if found is None or (found > bounds.image_side_px and code != _ROWS_PER_STRIP):
        expect = f"sides of at most {bounds.image_side_px:,} pixels, each a whole number"
        raise ImageFault(
            str(path), expected=expect, found=f"tag {code}: {count:,} of type {kind}" if found is None else f"{found:,}"
        )


def _checked(
    path: Path, pages: list[Any], dtypes: tuple[str, ...], n_bytes: int, bounds: Bounds
) -> tuple[np.dtype[Any], tuple[int, int]]:
    """dtype and shape of all pages, whose declared size is within bounds and whose bytes are all in the file."""
    for number, page in enumerate(pages):
        wrong = _unlike(page, pages[0], dtypes) or _out_of_size(page, bounds)
        if wrong:
            raise ImageFault(f"{path}: page {number + 1}", expected=wrong[0], found=wrong[1])
    shape, dtype = pages[0].shape, np.dtype(pages[0].dtype.name)
    n_pixels = len(pages) * shape[0] * shape[1]
    if n_pixels > bounds.image_pixels or n_pixels * dtype.itemsize > bounds.decoded_bytes:
        expect = f"at most {bounds.image_pixels:,} pixels and {bounds.decoded_bytes:,} bytes in all"
        raise ImageFault(str(path), expected=expect, found=f"{n_pixels:,} {dtype} pixels declared", remedy="Nothing was decoded.")
    if sum(sum(page.databytecounts) for page in pages) > n_bytes:  # strips that share bytes could ask for any amount of work
        raise FileFault(str(path), expected=f"pages within the file's {n_bytes:,} bytes", found="pages that lie over one another")
    for number, page in enumerate(pages):
        if not _all_there(page, n_bytes):
            found = "some are not: it is cut short or damaged"
            raise FileFault(
                f"{path}: page {number + 1}",
                expected="all of its bytes in the file",
                found=found,
                remedy="Export the board again.",
            )
    return dtype, shape


def _unlike(page: Any, first: Any, dtypes: tuple[str, ...]) -> tuple[str, str] | None:
    """What was expected of a page and what was found, where it is not a picture of one grey value a pixel like the first."""
    if len(page.shape) != 2 or 0 in page.shape:
        return "one grey value a pixel", f"shape {page.shape}"
    if page.dtype is None or page.dtype.name not in dtypes or page.bitspersample != 8 * page.dtype.itemsize:
        return f"pixels of {' or '.join(dtypes)}", f"{page.dtype or 'another type'}, {page.bitspersample} bits"
    if page.shape != first.shape or page.dtype != first.dtype:
        return f"{first.shape} {first.dtype} as the first page", f"{page.shape} {page.dtype}"
    if page.compression not in _COMPRESSIONS:
        return f"compression {', '.join(dict.fromkeys(_COMPRESSIONS.values()))}", str(page.compression)
    return None


def _out_of_size(page: Any, bounds: Bounds) -> tuple[str, str] | None:
    """What was expected of a page's size and what was found, where it is out of bounds."""
    if min(page.shape) < bounds.image_least_px or max(page.shape) > bounds.image_side_px:
        return f"sides of {bounds.image_least_px} to {bounds.image_side_px:,} pixels", str(page.shape)
    if math.prod(page.chunks) > bounds.image_pixels:  # a tile may be larger than its picture
        return f"tiles of at most {bounds.image_pixels:,} pixels", str(page.chunks)
    return None


def _all_there(page: Any, n_bytes: int) -> bool:
    """Whether every strip or tile has bytes, and has them within the file."""
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    return len(segments) == math.prod(page.chunked) and all(at > 0 and n > 0 and at + n <= n_bytes for at, n in segments)


def _counted(n_pages: int) -> str:
    return "one page" if n_pages == 1 else f"{n_pages} pages"

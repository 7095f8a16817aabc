"""Read one grey picture from a file: TIFF, PNG, BMP or JPEG, bounded before it is decoded."""

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.errors import FileFault, ImageFault, UsageFault
from inspect_pop.ingest.files import BOUNDS, Bounds, read_bytes
from inspect_pop.ingest.images import SLICE_DTYPES, count_pages, read_pages

__all__ = ["read_picture"]

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NO_SIZE = {0xC4, 0xC8, 0xCC}  # JPEG markers in the range of frame headers that are none: tables (ITU T.81, table B.1)


def read_picture(path: Path, page: int | None = None, bounds: Bounds = BOUNDS) -> NDArray[Any]:
    """Return one picture (rows, cols) as it was stored, colours averaged to grey.

    Parameters
    ----------
    path
        A TIFF with pages of uint8, uint16, int16 or float32, or a PNG, BMP or JPEG of 8 or 16 bits.
    page
        Which page of a TIFF, from 1; None for the middle one.

    Raises
    ------
    FileFault, ImageFault
        The file cannot be read, or is no such picture.
    UsageFault
        It has no such page.
    """
    data = read_bytes(path, bounds.image_bytes)
    if data[:4] in _TIFF:
        pages = count_pages(path, bounds)
        if page is not None and not 1 <= page <= pages:
            raise UsageFault(f"--page {page}", expected=f"1 to {pages}, the pages of {path}")
        values: NDArray[Any] = read_pages(path, pages, SLICE_DTYPES, bounds=bounds)[(pages // 2 if page is None else page - 1)]
        return values
    if page not in (None, 1):
        raise UsageFault(f"--page {page}", expected=f"1: {path} has one page")
    size = _read_size(data)
    if size is None:
        raise FileFault(str(path), expected="a TIFF, PNG, BMP or JPEG picture", found=f"a file that begins with {data[:4]!r}")
    rows, cols = size
    if max(size) > bounds.image_side_px or rows * cols > bounds.image_pixels or min(size) < bounds.image_least_px:
        expect = f"sides of {bounds.image_least_px} to {bounds.image_side_px:,} and at most {bounds.image_pixels:,} pixels"
        raise ImageFault(str(path), expected=expect, found=f"{cols:,} x {rows:,} declared", remedy="Nothing was decoded.")
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise FileFault(str(path), expected="a complete picture", found=f"a damaged one: {error!s:.100}") from error
    if decoded is None or decoded.shape[:2] != size:
        raise FileFault(str(path), expected="a complete picture", found="a damaged one", remedy="Export it again.")
    grey: NDArray[Any] = decoded if decoded.ndim == 2 else decoded[..., :3].mean(axis=2).astype(np.float32)
    return grey


def _read_size(data: bytes) -> tuple[int, int] | None:
    """Return (rows, cols) as the header declares them; None for what is no PNG, BMP or JPEG, or cut short.

    A JPEG declares them in its first frame header (ITU T.81, B.2.2).
    """
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            cols, rows = struct.unpack_from(">II", data, 16)
            return rows, cols
        if data.startswith(b"BM"):
            cols, rows = struct.unpack_from("<ii", data, 18)
            return abs(rows), abs(cols)
        at = 2 if data.startswith(b"\xff\xd8") else len(data)
        while at + 9 <= len(data) and data[at] == 0xFF:
            marker = data[at + 1]
            if marker == 0xFF:
                at += 1
            elif 0xC0 <= marker <= 0xCF and marker not in _NO_SIZE:
                rows, cols = struct.unpack_from(">HH", data, at + 5)
                return rows, cols
            elif marker == 0x01 or 0xD0 <= marker <= 0xD7:
                at += 2
            else:
                at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    except struct.error:
        return None
    return None

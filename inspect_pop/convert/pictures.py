"""Planes from pictures: TIFF of any layout (also with JPEG inside), PNG, BMP and JPEG; one file with pages, or one file a plane.

Sizes are read from the files' heads and bounded before anything is decoded, and what was decoded must have that size. Grey that
was saved in colours is grey again; pixels in true colours are text or marks that were burnt in: they become NaN.
"""

import functools
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from inspect_pop.convert.planes import SOURCE_BOUNDS, Planes, RawLayout, check_plane, open_positions, open_raw, simplify
from inspect_pop.core.errors import FileFault, ImageFault
from inspect_pop.ingest.files import BOUNDS, read_bytes
from inspect_pop.ingest.images import DAMAGED, UPRIGHT, read_orientation, walk_directories

__all__ = ["SUFFIXES", "is_picture", "open_pictures", "read_picture"]

Array = NDArray[Any]
SUFFIXES = (".tif", ".tiff", ".png", ".bmp", ".jpg", ".jpeg")
_GREY_WITHIN = 24  # of 255: chroma that JPEG adds to grey; text and marks are of full colours
_MOST_COLOURED = 0.1  # share of a picture: above, it is a colour picture and no grey one with marks
_RIM_PX = 2  # that a mark's smoothed edge reaches over its colour
_SOF = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_APP1, _ORIENTATION = 0xE1, 274
_MOST_CHUNKS = 100_000  # of a PNG: one of the largest size has half as many
_TIFF_JPEG = 7
_TIFF_PLAIN = {1, 5, 8, 32946, 32773, 34926, 50000, 32909}  # none, LZW, deflate, PackBits, zstd
_REMEDY = "Export it again."


@dataclass(frozen=True)
class _Head:
    """What the head of a picture says: its size as it is stored, the type of its pixels, and its Orientation (TIFF 6.0)."""

    shape: tuple[int, int]
    itemsize: int
    orientation: int = 1

    @property
    def upright(self) -> tuple[int, int]:
        """Rows and columns of the picture that it shows."""
        return self.shape[::-1] if self.orientation >= 5 else self.shape


def is_picture(path: Path) -> bool:
    """Return whether a file's name is that of a picture that this module reads."""
    return path.suffix.lower() in SUFFIXES


def open_pictures(files: list[Path]) -> Planes:
    """Return the planes of some pictures, each file one plane in the order given; a single TIFF file gives its pages.

    Raises `FileFault` and `ImageFault`.
    """
    if len(files) == 1 and _is_tiff(files[0]):
        return _open_pages(files[0])
    heads: list[_Head] = []
    for path in files:
        if _is_tiff(path):
            planes = _open_pages(path)
            if planes.count != 1:
                raise ImageFault(str(path), expected="one page in each of several files", found=f"{planes.count}")
            heads.append(_Head(planes.shape, 1))
            continue
        heads.append(_parse_head(path))
    for path, head in zip(files, heads, strict=True):
        if head.upright != heads[0].upright:
            expect = f"{heads[0].upright[0]} x {heads[0].upright[1]} pixels, as {files[0].name} has"
            raise ImageFault(str(path), expected=expect, found=f"{head.upright[0]} x {head.upright[1]}")
    name = str(files[0]) if len(files) == 1 else f"{files[0].parent}: {files[0].name} to {files[-1].name}"
    check_plane(name, len(files), heads[0].upright, heads[0].itemsize)
    decode = functools.lru_cache(maxsize=1)(lambda plane: read_picture(files[plane]))
    return Planes(name, len(files), heads[0].upright, lambda plane, rows: decode(plane)[_as_slice(rows)], tuple(files))


def read_picture(path: Path) -> Array:
    """Decode a single picture as grey (rows, cols); marks in colours are NaN. Raises `FileFault` and `ImageFault`."""
    if _is_tiff(path):
        planes = _open_pages(path)
        if planes.count != 1:
            raise ImageFault(str(path), expected="one page", found=f"{planes.count}", remedy="Name one picture a plane.")
        return planes.read_plane(0)
    data = read_bytes(path, BOUNDS.image_bytes)
    head = _parse_head(path)
    check_plane(str(path), 1, head.shape, head.itemsize)
    try:
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise FileFault(str(path), expected="a picture", found=f"a damaged one: {error.err}", remedy=_REMEDY) from error
    if values is None or values.shape[:2] != head.shape:
        found = "one that cannot be decoded" if values is None else f"{values.shape[0]} x {values.shape[1]}"
        raise FileFault(str(path), expected=f"a picture of {head.shape[0]} x {head.shape[1]}", found=found, remedy=_REMEDY)
    return UPRIGHT[head.orientation](_to_grey(path, values))


def _as_slice(rows: range) -> slice:
    return slice(rows.start, rows.stop, rows.step)


def _to_grey(path: Path, values: Array) -> Array:
    """Return one grey value per pixel: colours that are grey are taken for it, others become NaN."""
    if values.ndim == 2:
        return simplify(values)
    colours = values[..., :3] if values.shape[-1] >= 3 else values[..., :1]
    spread = colours.max(axis=-1) - colours.min(axis=-1)
    within = _GREY_WITHIN * (257 if values.dtype == np.uint16 else 1)
    coloured = spread > within
    if coloured.mean() > _MOST_COLOURED:
        raise ImageFault(str(path), expected="a grey picture", found=f"colours in {coloured.mean():.0%} of its pixels")
    grey = simplify(np.median(colours, axis=-1).astype(values.dtype))  # an odd number of colours: a value that occurs
    if coloured.any():
        grey = grey.astype(np.float32)
        grey[cv2.dilate(coloured.astype(np.uint8), np.ones((2 * _RIM_PX + 1,) * 2, np.uint8)) > 0] = np.nan
    return grey


# TIFF


def _is_tiff(path: Path) -> bool:
    with open_positions(path) as read_at:
        return read_at(0, 4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _open_pages(path: Path) -> Planes:
    """Return the pages of a TIFF file; reduced pictures and masks are left out."""
    with open_positions(path) as read_at:
        pages = [k for k, reduced in enumerate(walk_directories(path, read_at, SOURCE_BOUNDS)) if not reduced]
        size = path.stat().st_size
    if not pages:
        raise ImageFault(str(path), expected="pages", found="none but reduced pictures and masks")
    try:
        with tifffile.TiffFile(path) as tif:
            first = tif.pages.get(pages[0], aspage=True)
            shape = _check_page(path, first, size)
            # Beyond 4 GB, ImageJ describes one page and writes the other planes after it.
            if len(pages) == 1 and tif.is_imagej and first.compression == 1 and len(first.shape) == 2:
                count, dtype = int((tif.imagej_metadata or {}).get("images", 1)), np.dtype(tif.byteorder + first.dtype.char)
                layout = RawLayout(count, (first.shape[0], first.shape[1]), dtype, first.dataoffsets[0])
                if count > 1 and layout.offset + count * layout.plane_bytes <= size:
                    return open_raw(path, layout, exact=False)
    except DAMAGED as error:
        raise FileFault(str(path), expected="a TIFF file", found=f"a damaged one: {error!s:.200}", remedy=_REMEDY) from error
    check_plane(str(path), len(pages), shape, first.dtype.itemsize)
    decode = functools.lru_cache(maxsize=1)(lambda plane: _decode_page(path, pages[plane], shape))
    return Planes(str(path), len(pages), shape, lambda plane, rows: decode(plane)[_as_slice(rows)], (path,))


def _check_page(path: Path, page: Any, size: int) -> tuple[int, int]:
    """Check a page before it is decoded; return the rows and columns of the upright picture."""
    name = f"{path}: page {page.index + 1}"
    samples = [n for n in page.shape if n not in (page.imagelength, page.imagewidth)]
    if page.dtype is None or len(page.shape) > 3 or any(n > 4 for n in samples):
        raise ImageFault(name, expected="one grey value or colour per pixel", found=f"shape {page.shape}, {page.dtype}")
    rows, cols = int(page.imagelength), int(page.imagewidth)
    check_plane(name, 1, (rows, cols), page.dtype.itemsize * max(1, int(page.samplesperpixel)))
    if max(page.chunks) > BOUNDS.image_side_px or np.prod(page.chunks, dtype=float) > BOUNDS.image_pixels:
        raise ImageFault(name, expected="tiles of at most the bounds of a picture", found=str(page.chunks))
    if page.compression not in {*_TIFF_PLAIN, _TIFF_JPEG}:
        expect = "no compression, LZW, deflate, PackBits, zstd or JPEG"
        raise ImageFault(name, expected=expect, found=str(page.compression), remedy="Save it in one of these.")
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if not segments or any(at <= 0 or n <= 0 or at + n > size for at, n in segments):
        raise FileFault(name, expected="all of its bytes in the file", found="some are not: it is cut short", remedy=_REMEDY)
    if page.compression == _TIFF_JPEG:
        _check_embedded(name, path, page, segments)
    if read_orientation(page) not in UPRIGHT:
        raise ImageFault(name, expected="one Orientation tag of 1 to 8", found="another")
    return (cols, rows) if read_orientation(page) >= 5 else (rows, cols)


def _check_embedded(name: str, path: Path, page: Any, segments: list[tuple[int, int]]) -> None:
    """Refuse a JPEG in a strip or tile that claims to be larger than the strip or tile: its decoder believes it."""
    length, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    length = min(int(length), int(page.imagelength)) if not page.is_tiled else int(length)
    with open_positions(path) as read_at:
        for at, n in segments:
            head = _parse_jpeg(Path(name), read_at(at, min(n, 1 << 20)))
            if head.shape[0] > length or head.shape[1] > width:
                found = f"{head.shape[0]} x {head.shape[1]}"
                raise ImageFault(name, expected=f"JPEG of at most {length} x {width}", found=found, remedy="Nothing was decoded.")


def _decode_page(path: Path, number: int, shape: tuple[int, int]) -> Array:
    try:
        with tifffile.TiffFile(path) as tif:
            page = tif.pages.get(number, aspage=True)
            found = _check_page(path, page, path.stat().st_size)
            if found != shape:
                name = f"{path}: page {number + 1}"
                raise ImageFault(name, expected=f"{shape[0]} x {shape[1]} as the first page", found=f"{found[0]} x {found[1]}")
            values = page.asarray(maxworkers=1)
            if values.ndim == 3 and values.shape[0] <= 4 < values.shape[-1]:  # colours stored one after the other
                values = np.moveaxis(values, 0, -1)
            return UPRIGHT[read_orientation(page)](_to_grey(path, values))
    except DAMAGED as error:
        raise FileFault(str(path), expected="a TIFF file", found=f"a damaged one: {error!s:.200}", remedy=_REMEDY) from error


# PNG, BMP, JPEG


def _parse_head(path: Path) -> _Head:
    """Read a picture's size from its first bytes. Raises `FileFault`."""
    with open_positions(path) as read_at:
        data = read_at(0, 1 << 20)
    with suppress(struct.error, IndexError):
        if data.startswith(b"\x89PNG"):
            return _parse_png(path)
        if data.startswith(b"BM"):
            cols, rows = struct.unpack_from("<ii", data, 18)
            (bits,) = struct.unpack_from("<H", data, 28)
            (offset,) = struct.unpack_from("<I", data, 10)
            (packed,) = struct.unpack_from("<I", data, 30)
            needed = offset + abs(rows) * ((cols * bits + 31) // 32 * 4)
            if packed == 0 and path.exists() and path.stat().st_size < needed:
                raise FileFault(str(path), expected=f"{needed:,} bytes", found="fewer: it is cut short", remedy=_REMEDY)
            return _Head((abs(rows), cols), 4)
        if data.startswith(b"\xff\xd8"):
            return _parse_jpeg(path, data)
    expect = "a picture: TIFF, PNG, BMP or JPEG"
    raise FileFault(str(path), expected=expect, found=f"a file that begins with {data[:8]!r}" if data else "an empty file")


def _parse_jpeg(path: Path, data: bytes) -> _Head:
    """Walk the segments of a JPEG up to its frame header."""
    at, orientation = 2, 1
    while True:
        if data[at] != 0xFF:
            raise FileFault(str(path), expected="a JPEG picture", found=f"a damaged one, at byte {at}", remedy=_REMEDY)
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in _SOF:
            rows, cols = struct.unpack_from(">HH", data, at + 5)
            return _Head((rows, cols), 4, orientation)
        if marker == 0xD9:
            raise FileFault(str(path), expected="a JPEG picture", found="one without a frame", remedy=_REMEDY)
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker == _APP1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _read_exif(path, data[at + 10 : at + 2 + length])
        at += 2 + length


def _parse_png(path: Path) -> _Head:
    """Walk the chunks of a PNG: size from the first, Orientation from eXIf, which lies before the pixels or after them.

    Every chunk must end within the file: the decoder makes room for as much as a chunk claims.
    """
    n_bytes, at = path.stat().st_size, 8
    shape, itemsize, orientation = (0, 0), 4, 1
    with open_positions(path) as read_at:
        for _ in range(_MOST_CHUNKS):
            length, kind = struct.unpack(">I4s", read_at(at, 8).ljust(8, b"\0"))
            if not shape[0] and kind != b"IHDR":
                raise FileFault(str(path), expected="a PNG picture", found="one without its header", remedy=_REMEDY)
            if at + 12 + length > n_bytes:
                expect = f"{n_bytes:,} bytes or fewer in its chunks"
                raise FileFault(str(path), expected=expect, found="more: it is cut short or damaged", remedy=_REMEDY)
            if kind == b"IHDR":
                cols, rows, depth = struct.unpack(">IIB", read_at(at + 8, 9))
                shape, itemsize = (rows, cols), 8 if depth == 16 else 4
            if kind == b"eXIf":
                orientation = _read_exif(path, read_at(at + 8, length))
            if kind == b"IEND":
                return _Head(shape, itemsize, orientation)
            at += 12 + length
    raise FileFault(str(path), expected=f"at most {_MOST_CHUNKS:,} chunks", found="more", remedy=_REMEDY)


def _read_exif(path: Path, data: bytes) -> int:
    """Return the Orientation in a block of Exif (a TIFF without pixels, CIPA DC-008), 1 without one. Raises `ImageFault`."""
    with suppress(struct.error):
        order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
        if order is not None:
            (at,) = struct.unpack_from(order + "I", data, 4)
            (n_tags,) = struct.unpack_from(order + "H", data, at)
            for tag in range(at + 2, at + 2 + 12 * n_tags, 12):
                code, _, count, value = struct.unpack_from(order + "HHIH", data, tag)
                if code == _ORIENTATION and count == 1 and value in UPRIGHT:
                    return int(value)
                if code == _ORIENTATION and value != 0:  # 0: a program that does not know it
                    raise ImageFault(str(path), expected="an Orientation of 1 to 8", found=str(value), remedy=_REMEDY)
    return 1

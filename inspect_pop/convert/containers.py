"""Volumes in containers: MetaImage, NIfTI, NRRD and ZEISS XRM, unpacked within bounds."""

import bz2
import gzip
import math
import os
import struct
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.convert.planes import (
    Planes,
    RawLayout,
    check_plane,
    find_data,
    open_positions,
    open_raw,
    parse_numbers,
    simplify,
    turn_upright,
)
from inspect_pop.core.errors import FileFault, ImageFault, UsageFault, describe_error
from inspect_pop.ingest.files import BOUNDS, measure_file
from inspect_pop.ingest.images import DAMAGED

__all__ = ["open_metaimage", "open_nifti", "open_nrrd", "open_packed", "open_txrm"]

MOST_UNPACKED = 4 << 30  # a volume beyond this has to be stored as it is: nothing else lets single planes be read
_BLOCK = 1 << 20


def open_packed(
    path: Path,
    layout: RawLayout,
    packing: str,
    *,
    start: int = 0,
    name: str = "",
    files: tuple[Path, ...] = (),
    pixel_um: tuple[float, float] | None = None,
    step_um: float | None = None,
) -> Planes:
    """Return the planes of a packed volume (`gzip`, `zlib` or `bzip2`), from byte `start` of its file on.

    Raises `FileFault` where it does not unpack to exactly the bytes that `layout` needs, or needs more than 4 GiB.
    """
    name = name or str(path)
    check_plane(name, layout.count, layout.shape, layout.dtype.itemsize)
    needed = layout.offset + layout.count * layout.plane_bytes
    if needed > MOST_UNPACKED:
        remedy = "Save it without compression: single planes can then be read."
        raise FileFault(name, expected=f"at most {MOST_UNPACKED:,} bytes unpacked", found=f"{needed:,}", remedy=remedy)
    handle, store = tempfile.mkstemp(prefix="inspect-pop-")
    os.unlink(store)  # noqa: PTH108 - from here on the file has no name, and goes with its handle

    def read(plane: int, rows: range) -> NDArray[Any]:
        row_bytes = layout.shape[1] * layout.dtype.itemsize
        at = layout.offset + plane * layout.plane_bytes + rows.start * row_bytes
        data = os.pread(handle, (rows.stop - rows.start) * row_bytes, at)
        values = np.frombuffer(data, layout.dtype).reshape(-1, layout.shape[1])[:: rows.step]
        if (layout.slope, layout.intercept) != (1.0, 0.0):
            return np.asarray(values.astype(np.float32) * np.float32(layout.slope) + np.float32(layout.intercept))
        return simplify(values)

    weakref.finalize(read, os.close, handle)
    unpacker: Any = bz2.BZ2Decompressor() if packing == "bzip2" else zlib.decompressobj(47)  # gzip or zlib by its head
    done, full = 0, False
    try:
        with open_positions(path) as read_at:
            while done <= needed and not unpacker.eof:
                waiting = getattr(unpacker, "unconsumed_tail", b"")
                data = waiting or (read_at(start, _BLOCK) if getattr(unpacker, "needs_input", True) else b"")
                if not waiting:
                    start += len(data)
                if not data and not full and getattr(unpacker, "needs_input", True):
                    break
                part = unpacker.decompress(data, _BLOCK)
                os.write(handle, part[: max(0, needed - done)])
                done, full = done + len(part), len(part) == _BLOCK
    except (OSError, zlib.error, EOFError) as error:
        raise FileFault(name, expected=f"{packing} data", found=f"damaged: {describe_error(error)}") from error
    if done != needed:
        found = f"more than {needed:,}" if done > needed else f"{done:,}"
        raise FileFault(name, expected=f"{needed:,} bytes unpacked, as its header says", found=found)
    return Planes(name, layout.count, layout.shape, read, files or (path,), pixel_um, step_um)


# MetaImage volumes: `.mha`, or an `.mhd` header with its data file; raw or zlib (itk.org/Wiki/MetaIO/Documentation).


_META_HEADER_BYTES = 1 << 16
_META_TYPES = {
    "MET_UCHAR": "uint8",
    "MET_CHAR": "int8",
    "MET_USHORT": "uint16",
    "MET_SHORT": "int16",
    "MET_UINT": "uint32",
    "MET_INT": "int32",
    "MET_FLOAT": "float32",
    "MET_DOUBLE": "float64",
}


def open_metaimage(path: Path, folder: Path) -> Planes:
    """Open a MetaImage volume; lengths are millimetres. Raises `FileFault`, `ImageFault` and `PathFault`."""
    fields, start = _read_meta_header(path)
    kind = _META_TYPES.get(fields.get("elementtype", "").upper())
    dimensions = int(parse_numbers(path, "NDims", fields.get("ndims"), 1)[0])
    channels = fields.get("elementnumberofchannels", "1")
    if kind is None or dimensions != 3 or channels != "1":
        found = f"{fields.get('elementtype')} in {dimensions} dimensions and {channels} channels"
        raise FileFault(str(path), expected="a volume of three dimensions and one channel", found=found)
    cols, rows, count = (int(n) for n in parse_numbers(path, "DimSize", fields.get("dimsize"), 3))
    big = fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "false")).lower() in ("true", "1")
    dtype = np.dtype(kind).newbyteorder(">" if big else "<")
    text = fields.get("elementspacing") or fields.get("elementsize")
    spacing = [abs(n) * 1e3 for n in parse_numbers(path, "ElementSpacing", text, 3)] if text else None
    if spacing and min(spacing) <= 0:
        spacing = None
    name = fields.get("elementdatafile", "")
    if name.upper().startswith("LIST") or "%" in name:
        raise FileFault(f"{path}: ElementDataFile", expected="one data file", found=name, remedy="Save it as a single file.")
    local = name.upper() == "LOCAL"
    data = path if local else find_data(path, folder, name, [".raw", ".zraw"])
    shared: dict[str, Any] = {
        "name": str(path),
        "files": tuple(dict.fromkeys((path, data))),
        "pixel_um": (spacing[0], spacing[1]) if spacing else None,
        "step_um": spacing[2] if spacing else None,
    }
    layout = RawLayout(count, (rows, cols), dtype)
    if fields.get("compresseddata", "false").lower() in ("true", "1"):
        planes = open_packed(data, layout, "zlib", start=start if local else 0, **shared)
    else:
        skip = int(parse_numbers(path, "HeaderSize", fields.get("headersize", "0"), 1)[0])
        if local:
            skip = start
        elif skip < 0:
            skip = max(0, measure_file(data) - count * layout.plane_bytes)
        planes = open_raw(data, RawLayout(count, (rows, cols), dtype, skip), **shared)
    matrix = next((fields[name] for name in ("transformmatrix", "rotation", "orientation") if name in fields), None)
    if matrix is None:
        return planes
    values = parse_numbers(path, "TransformMatrix", matrix, 9)  # the direction of each axis, one after the other
    return turn_upright(planes, [values[0:3], values[3:6], values[6:9]])


def _read_meta_header(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields up to ElementDataFile, which is the last, names in lower case, and where the bytes after it begin."""
    with open_positions(path) as read_at:
        head = read_at(0, _META_HEADER_BYTES)
    fields: dict[str, str] = {}
    at = 0
    while at < len(head):
        end = head.find(b"\n", at)
        end = len(head) if end < 0 else end
        name, equals, value = head[at:end].decode("utf-8", errors="replace").partition("=")
        at = end + 1
        if equals:
            fields[name.strip().lower()] = value.strip()
        if name.strip().lower() == "elementdatafile":
            return fields, at
    raise FileFault(str(path), expected="a MetaImage header that ends with ElementDataFile", found="none of these")


# NIfTI volumes: `.nii`, `.nii.gz`, or a `.hdr` header with its `.img` (nifti.nimh.nih.gov: nifti1.h, nifti2.h).


_NIFTI_TYPES = {2: "uint8", 4: "int16", 8: "int32", 16: "float32", 64: "float64", 256: "int8", 512: "uint16", 768: "uint32"}
_NIFTI_UM = {1: 1e6, 2: 1e3, 3: 1.0}  # of xyzt_units, its lower three bits: metre, millimetre, micrometre
_HEAD_BYTES = 544


def open_nifti(path: Path, folder: Path) -> Planes:
    """Open a NIfTI volume; without units, lengths are millimetres. Raises `FileFault`, `ImageFault` and `PathFault`."""
    packed = path.name.lower().endswith(".gz")
    measure_file(path)
    try:
        if packed:
            with gzip.open(path) as file:
                head = file.read(_HEAD_BYTES)
        else:
            with open_positions(path) as read_at:
                head = read_at(0, _HEAD_BYTES)
        order = "<" if head[:4] in (b"\x5c\x01\0\0", b"\x1c\x02\0\0") else ">"
        (size,) = struct.unpack_from(order + "i", head, 0)
        if size == 348:
            dim = struct.unpack_from(order + "8h", head, 40)
            kind = struct.unpack_from(order + "h", head, 70)[0]
            spacing = struct.unpack_from(order + "8f", head, 76)
            offset, slope, intercept = struct.unpack_from(order + "3f", head, 108)
            units, magic = head[123], head[344:348]
            placed = struct.unpack_from(order + "2h", head, 252)
            turn, rows_of_affine = struct.unpack_from(order + "3f", head, 256), struct.unpack_from(order + "12f", head, 280)
        elif size == 540:
            dim = struct.unpack_from(order + "8q", head, 16)
            kind = struct.unpack_from(order + "h", head, 12)[0]
            spacing = struct.unpack_from(order + "8d", head, 104)
            offset = struct.unpack_from(order + "q", head, 168)[0]
            slope, intercept = struct.unpack_from(order + "2d", head, 176)
            units, magic = struct.unpack_from(order + "i", head, 500)[0], head[4:8]
            placed = struct.unpack_from(order + "2i", head, 344)
            turn, rows_of_affine = struct.unpack_from(order + "3d", head, 352), struct.unpack_from(order + "12d", head, 400)
        else:
            raise FileFault(str(path), expected="a NIfTI header", found=f"a file that begins with {head[:8]!r}")
        if kind not in _NIFTI_TYPES or dim[0] not in (3, 4) or (dim[0] == 4 and dim[4] != 1):
            found = f"{dim[0]} dimensions, type {kind}"
            raise FileFault(str(path), expected="a volume of three dimensions of whole or real numbers", found=found)
        detached = magic.startswith(b"ni")
        data = find_data(path, folder, None, [".img"]) if detached else path
        scale = _NIFTI_UM.get(units & 7, 1e3)
        steps = [abs(float(step)) * scale for step in spacing[1:4]]
        known = min(steps) > 0 and all(np.isfinite(steps))
        if not (np.isfinite(slope) and slope):
            slope, intercept = 1.0, 0.0
        layout = RawLayout(
            int(dim[3]),
            (int(dim[2]), int(dim[1])),
            np.dtype(_NIFTI_TYPES[kind]).newbyteorder("<" if order == "<" else ">"),
            max(0, int(offset)),
            float(slope),
            float(intercept),
        )
        shared: dict[str, Any] = {
            "name": str(path),
            "files": tuple(dict.fromkeys((path, data))),
            "pixel_um": (steps[0], steps[1]) if known else None,
            "step_um": steps[2] if known else None,
        }
        planes = open_packed(data, layout, "gzip", **shared) if packed else open_raw(data, layout, **shared)
        return turn_upright(planes, _find_directions(placed, turn, rows_of_affine, spacing[0]))
    except (struct.error, EOFError, zlib.error, OSError, ValueError, OverflowError) as error:
        raise FileFault(str(path), expected="a NIfTI volume", found=f"a damaged one: {describe_error(error)}") from error


def _find_directions(
    placed: tuple[int, ...], turn: tuple[float, ...], affine: tuple[float, ...], handedness: float
) -> list[list[float]]:
    """Return the directions of the three axes: those of the affine matrix, or of the quaternion; plain ones where neither counts.

    Programs of the DICOM world turn x and y round in this format, others do not: where both run backwards, none is turned.
    """
    b, c, d = turn
    a = max(0.0, 1.0 - b * b - c * c - d * d) ** 0.5
    if placed[1] > 0:
        axes = np.array(affine).reshape(3, 4)[:, :3]
    elif placed[0] > 0:  # nifti1.h, method 2
        axes = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ]
        ) * [1.0, 1.0, -1.0 if handedness < 0 else 1.0]
    else:
        axes = np.eye(3)
    if axes[0, 0] < 0 and axes[1, 1] < 0:
        axes = axes * [[-1.0], [-1.0], [1.0]]
    return axes.T.tolist()  # type: ignore[no-any-return]


# NRRD volumes: `.nrrd`, or an `.nhdr` header with its data file; raw, gzip or bzip2 (teem.sourceforge.net/nrrd).


_NRRD_HEADER_BYTES = 1 << 20
_NRRD_TYPES = {
    "uint8": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "int8": ("signed char", "int8", "int8_t"),
    "int16": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "uint16": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "int32": ("int", "signed int", "int32", "int32_t"),
    "uint32": ("uint", "unsigned int", "uint32", "uint32_t"),
    "float32": ("float",),
    "float64": ("double",),
}
_NRRD_UM = {"mm": 1e3, "um": 1.0, "µm": 1.0, "microns": 1.0, "m": 1e6, "cm": 1e4, "nm": 1e-3}


def open_nrrd(path: Path, folder: Path) -> Planes:
    """Open an NRRD volume; without units, lengths are millimetres. Raises `FileFault`, `ImageFault` and `PathFault`."""
    fields, at = _read_nrrd_header(path)
    names = {alias: name for name, aliases in _NRRD_TYPES.items() for alias in aliases}
    kind = names.get(fields.get("type", "").lower())
    dimension = int(parse_numbers(path, "dimension", fields.get("dimension"), 1)[0])
    if kind is None or dimension != 3:
        found = f"{fields.get('type')} in {dimension} dimensions"
        raise FileFault(str(path), expected="a volume of three dimensions of whole or real numbers", found=found)
    cols, rows, count = (int(n) for n in parse_numbers(path, "sizes", fields.get("sizes"), 3))
    dtype = np.dtype(kind).newbyteorder(">" if fields.get("endian", "little").lower() == "big" else "<")
    lengths: list[float] = []
    directions: list[list[float]] = []
    if "space directions" in fields:
        vectors = [part for part in fields["space directions"].replace(")", "(").split("(") if part.strip()]
        directions = [parse_numbers(path, "space directions", vector, vector.count(",") + 1) for vector in vectors]
        lengths = [math.hypot(*vector) for vector in directions]
    elif "spacings" in fields and "nan" not in fields["spacings"].lower():
        lengths = [abs(n) for n in parse_numbers(path, "spacings", fields["spacings"], 3)]
    units = fields.get("space units", fields.get("units", "")).replace('"', " ").split()
    scale = _NRRD_UM.get(units[0].lower(), 1e3) if units else 1e3
    spacing = [length * scale for length in lengths] if len(lengths) == 3 and min(lengths) > 0 else None
    detached = fields.get("data file") or fields.get("datafile")
    if detached is not None and (detached.upper().startswith("LIST") or "%" in detached):
        raise FileFault(str(path), expected="one data file", found=detached, remedy="Save the volume as a single file.")
    data = find_data(path, folder, detached, []) if detached else path
    shared: dict[str, Any] = {
        "name": str(path),
        "files": tuple(dict.fromkeys((path, data))),
        "pixel_um": (spacing[0], spacing[1]) if spacing else None,
        "step_um": spacing[2] if spacing else None,
    }
    skip = int(parse_numbers(path, "byte skip", fields.get("byte skip", fields.get("byteskip", "0")), 1)[0])
    start = 0 if detached else at
    layout = RawLayout(count, (rows, cols), dtype)
    check_plane(str(path), count, (rows, cols), dtype.itemsize)
    encoding = fields.get("encoding", "").lower()
    if encoding == "raw":
        if skip < 0:  # the data lie at the file's end
            start = measure_file(data) - count * layout.plane_bytes
        offset = max(start, 0) if skip < 0 else start + skip
        planes = open_raw(data, RawLayout(count, (rows, cols), dtype, offset), **shared)
    elif encoding in ("gz", "gzip", "bz2", "bzip2"):
        packed = RawLayout(count, (rows, cols), dtype, max(skip, 0))
        planes = open_packed(data, packed, "gzip" if encoding.startswith("gz") else "bzip2", start=start, **shared)
    else:
        raise FileFault(f"{path}: encoding", expected="raw, gzip or bzip2", found=repr(encoding), remedy="Save it as raw.")
    is_placed = len(directions) == 3 and all(len(vector) == 3 for vector in directions)
    return turn_upright(planes, directions) if is_placed else planes


def _read_nrrd_header(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields of a header, names in lower case, and where the data after it begin."""
    measure_file(path)
    with open_positions(path) as read_at:
        head = read_at(0, _NRRD_HEADER_BYTES)
    if not head.startswith(b"NRRD"):
        raise FileFault(str(path), expected="an NRRD header", found=f"a file that begins with {head[:8]!r}")
    ends = [(head.index(mark), len(mark)) for mark in (b"\n\n", b"\r\n\r\n") if mark in head]
    end, mark = min(ends, default=(len(head), 0))
    if not ends and len(head) == _NRRD_HEADER_BYTES:
        raise FileFault(str(path), expected="a header of at most 1 MiB", found="no blank line that ends it")
    fields = {}
    for line in head[:end].decode("utf-8", errors="replace").splitlines()[1:]:
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#") and not value.startswith("="):
            fields[name.strip().lower()] = value.strip()
    return fields, end + mark


# ZEISS XRM volumes and projections: `.txrm` and `.txm`, an OLE container with one stream for each image.
#
# A `.txm` holds reconstructed planes. A `.txrm` with angles that differ holds projections of a tomography; each is a transmission
# picture, and no volume.


_TXRM_TYPES = {3: "uint8", 5: "uint16", 10: "float32"}  # ImageInfo/DataType


def open_txrm(path: Path, folder: Path) -> Planes:  # noqa: ARG001 - one signature for all readers
    """Open an XRM file. Raises `FileFault`, `ImageFault`; `UsageFault` where olefile is not installed."""
    measure_file(path)
    with _open_container(path) as ole:
        cols, rows, count, kind = (
            _read_number(path, ole, f"ImageInfo/{key}", "i") for key in ("ImageWidth", "ImageHeight", "NoOfImages", "DataType")
        )
        if kind not in _TXRM_TYPES:
            raise ImageFault(str(path), expected="DataType 3, 5 or 10", found=f"{kind}")
        dtype = np.dtype(_TXRM_TYPES[int(kind)]).newbyteorder("<")
        shape = (int(rows), int(cols))
        check_plane(str(path), int(count), shape, dtype.itemsize)
        pixel = float(_read_number(path, ole, "ImageInfo/PixelSize", "f")) if ole.exists("ImageInfo/PixelSize") else 0.0
        angles = ()
        if ole.exists("ImageInfo/Angles"):
            data = ole.openstream("ImageInfo/Angles").read(4 * int(count))
            angles = struct.unpack(f"<{len(data) // 4}f", data[: len(data) // 4 * 4])
    turned = len(set(angles)) > 1
    notes = ("projections at several angles: each is a transmission picture, not a plane of a volume",) if turned else ()

    def read(plane: int, part: range) -> NDArray[Any]:
        name = f"ImageData{plane // 100 + 1}/Image{plane + 1}"  # a hundred in each folder
        needed = shape[0] * shape[1] * dtype.itemsize
        with _open_container(path) as ole:
            if not ole.exists(name):
                raise FileFault(str(path), expected=f"the stream {name}", found="none: it is cut short")
            if ole.get_size(name) > BOUNDS.decoded_bytes:
                raise FileFault(f"{path}: {name}", expected=f"at most {BOUNDS.decoded_bytes:,} bytes", found="more")
            data = ole.openstream(name).read()
        if len(data) < needed:
            raise FileFault(f"{path}: {name}", expected=f"{needed:,} bytes", found=f"{len(data):,}: it is cut short")
        values = simplify(np.frombuffer(data[:needed], dtype).reshape(shape))
        return values[part.start : part.stop : part.step]

    usable = 0 < pixel < 10_000
    return Planes(
        str(path),
        int(count),
        shape,
        read,
        (path,),
        (pixel, pixel) if usable else None,
        pixel if usable and not turned else None,
        notes,
    )


@contextmanager
def _open_container(path: Path) -> Iterator[Any]:
    try:
        import olefile
    except ImportError as error:
        raise UsageFault("txrm", expected="olefile", found="none", remedy="Install inspect_pop[formats].") from error
    try:
        with olefile.OleFileIO(path) as ole:
            yield ole
    except DAMAGED as error:
        raise FileFault(str(path), expected="an XRM file", found=f"a damaged one: {error!s:.200}") from error


def _read_number(path: Path, ole: Any, name: str, style: str) -> float:
    if not ole.exists(name):
        raise FileFault(str(path), expected=f"the stream {name}", found="none", remedy="Is it a .txrm or .txm file?")
    data = ole.openstream(name).read(4)
    if len(data) < 4:
        raise FileFault(f"{path}: {name}", expected="a number", found=f"{len(data)} bytes")
    return float(struct.unpack("<" + style, data)[0])

"""NRRD volumes: `.nrrd`, or an `.nhdr` header with its data file; raw, gzip or bzip2 (teem.sourceforge.net/nrrd)."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from inspect_pop.convert.planes import Planes, RawLayout, check_plane, open_positions, open_raw, turn_upright
from inspect_pop.convert.unpacking import open_packed
from inspect_pop.convert.volume_header import find_data, parse_numbers
from inspect_pop.core.errors import FileFault
from inspect_pop.ingest.files import measure_file

__all__ = ["open_nrrd"]

_HEADER_BYTES = 1 << 20
_TYPES = {
    "uint8": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "int8": ("signed char", "int8", "int8_t"),
    "int16": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "uint16": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "int32": ("int", "signed int", "int32", "int32_t"),
    "uint32": ("uint", "unsigned int", "uint32", "uint32_t"),
    "float32": ("float",),
    "float64": ("double",),
}
_UM = {"mm": 1e3, "um": 1.0, "µm": 1.0, "microns": 1.0, "m": 1e6, "cm": 1e4, "nm": 1e-3}


def open_nrrd(path: Path, folder: Path) -> Planes:
    """Open an NRRD volume; without units, lengths are millimetres. Raises `FileFault`, `ImageFault` and `PathFault`."""
    fields, at = _read_header(path)
    names = {alias: name for name, aliases in _TYPES.items() for alias in aliases}
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
    scale = _UM.get(units[0].lower(), 1e3) if units else 1e3
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


def _read_header(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields of a header, names in lower case, and where the data after it begin."""
    measure_file(path)
    with open_positions(path) as read_at:
        head = read_at(0, _HEADER_BYTES)
    if not head.startswith(b"NRRD"):
        raise FileFault(str(path), expected="an NRRD header", found=f"a file that begins with {head[:8]!r}")
    ends = [(head.index(mark), len(mark)) for mark in (b"\n\n", b"\r\n\r\n") if mark in head]
    end, mark = min(ends, default=(len(head), 0))
    if not ends and len(head) == _HEADER_BYTES:
        raise FileFault(str(path), expected="a header of at most 1 MiB", found="no blank line that ends it")
    fields = {}
    for line in head[:end].decode("utf-8", errors="replace").splitlines()[1:]:
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#") and not value.startswith("="):
            fields[name.strip().lower()] = value.strip()
    return fields, end + mark

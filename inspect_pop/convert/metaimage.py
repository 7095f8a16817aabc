"""MetaImage volumes: `.mha`, or an `.mhd` header with its data file; raw or zlib (itk.org/Wiki/MetaIO/Documentation)."""

from pathlib import Path
from typing import Any

import numpy as np

from inspect_pop.convert.planes import Planes, RawLayout, open_positions, open_raw, turn_upright
from inspect_pop.convert.unpacking import open_packed
from inspect_pop.convert.volume_header import find_data, parse_numbers
from inspect_pop.core.errors import FileFault
from inspect_pop.ingest.files import measure_file

__all__ = ["open_metaimage"]

_HEADER_BYTES = 1 << 16
_TYPES = {
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
    fields, start = _read_header(path)
    kind = _TYPES.get(fields.get("elementtype", "").upper())
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


def _read_header(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields up to ElementDataFile, which is the last, names in lower case, and where the bytes after it begin."""
    with open_positions(path) as read_at:
        head = read_at(0, _HEADER_BYTES)
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

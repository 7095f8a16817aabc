"""Raw volumes with a text header: VGSTUDIO and Omron (`.vgi` with `.vol` or `.rec`), GE and Waygate phoenix (`.pcr`)."""

import re
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

import numpy as np

from inspect_pop.convert.planes import Planes, RawLayout, open_raw
from inspect_pop.core.errors import FileFault
from inspect_pop.ingest.files import read_bytes, resolve_inside

__all__ = ["find_data", "open_pcr", "open_vgi", "read_header_text"]

_HEADER_BYTES = 1 << 20
_LENGTHS_UM = {"mm": 1e3, "um": 1.0, "µm": 1.0, "m": 1e6, "nm": 1e-3, "cm": 1e4}
_PCR_FORMATS = {3: "uint8", 5: "uint16", 10: "float32"}  # chz31/GEVolImport


def read_header_text(path: Path) -> str:
    """Read the text of a header of at most 1 MiB, whatever its encoding. Raises `FileFault`."""
    return read_bytes(path, _HEADER_BYTES).decode("utf-8-sig", errors="replace")


def find_data(header: Path, folder: Path, name: str | None, suffixes: Sequence[str]) -> Path:
    """Return the data file of a header: the last part of the name that it gives, beside it, or its own name with a suffix.

    Machines write the path on their own disk. Raises `PathFault` for a link that leaves the folder, `FileFault` without a file.
    """
    there = {path.name.lower(): path for path in header.parent.iterdir() if path.is_file()}
    wanted = [PureWindowsPath(name).name] if name else []
    wanted += [header.stem + suffix for suffix in suffixes]
    for candidate in wanted:
        if (path := there.get(candidate.lower())) is not None:
            return resolve_inside(path.name, header.parent, folder, f"{header}: data file")
    expect = f"its data file {' or '.join(wanted[:3])} beside it"
    raise FileFault(str(header), expected=expect, found="none", remedy="Copy both files of the volume.")


def parse_numbers(path: Path, key: str, text: str | None, count: int) -> list[float]:
    """Parse so many finite numbers of a header's value, separated by blanks or commas. Raises `FileFault`."""
    try:
        numbers = [float(part) for part in re.split(r"[\s,;]+", (text or "").strip()) if part]
    except ValueError:
        numbers = []
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise FileFault(f"{path}: {key}", expected=f"{count} numbers", found=repr((text or "nothing")[:60]))
    return numbers


def _parse_pairs(text: str) -> dict[str, str]:
    """Return `key = value` lines, keys in lower case; of a key given twice the first, as the first file's section has it."""
    pairs: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            pairs.setdefault(key.strip().lower(), value.strip().strip('"'))
    return pairs


def open_vgi(path: Path, folder: Path) -> Planes:
    """Open a `.vgi` header with its `.vol` or `.rec`. Raises `FileFault`, `ImageFault` and `PathFault`."""
    pairs = _parse_pairs(read_header_text(path))
    cols, rows, count = (int(n) for n in parse_numbers(path, "size", pairs.get("size"), 3))
    data = find_data(path, folder, pairs.get("name"), [".vol", ".rec", ".raw"])
    size, voxels = data.stat().st_size, count * rows * cols
    # Omron's header has neither Datatype nor BitsPerElement: the size decides.
    bits = int(float(pairs["bitsperelement"])) if pairs.get("bitsperelement", "").replace(".", "").isdigit() else 0
    kind = pairs.get("datatype", "").lower()
    if not bits and not kind:
        bits = 8 * (size // max(voxels, 1))
    names = {8: "uint8", 16: "uint16", 32: "float32"}
    name = "float32" if "float" in kind else names.get(bits)
    if "signed" in kind and "unsigned" not in kind and bits == 16:
        name = "int16"
    if "unsigned" in kind and bits == 32:
        name = "uint32"
    if name is None:
        raise FileFault(f"{path}: BitsPerElement", expected="8, 16 or 32", found=f"{bits} bits in {size:,} bytes")
    dtype = np.dtype(name).newbyteorder("<")
    unit = _LENGTHS_UM.get(pairs.get("unit", "mm").lower(), 1e3)
    step = parse_numbers(path, "resolution", pairs["resolution"], 3) if "resolution" in pairs else None
    return open_raw(
        data,
        RawLayout(count, (rows, cols), dtype, int(float(pairs.get("skipheader", "0") or 0))),
        files=(path, data),
        name=str(path),
        pixel_um=(step[0] * unit, step[1] * unit) if step and min(step) > 0 else None,
        step_um=step[2] * unit if step and min(step) > 0 else None,
    )


def open_pcr(path: Path, folder: Path) -> Planes:
    """Open a `.pcr` header with its `.vol`. Raises `FileFault`, `ImageFault` and `PathFault`."""
    pairs = _parse_pairs(read_header_text(path))
    cols, rows, count = (
        int(parse_numbers(path, key, pairs.get(key.lower()), 1)[0]) for key in ("Volume_SizeX", "Volume_SizeY", "Volume_SizeZ")
    )
    data = find_data(path, folder, None, [".vol", ".raw"])
    voxels = max(count * rows * cols, 1)
    form = pairs.get("format") or next((value for key, value in pairs.items() if key.endswith("format")), "")
    by_size = {1: "uint8", 2: "uint16", 4: "float32"}.get(data.stat().st_size // voxels)
    name = _PCR_FORMATS.get(int(form)) if form.isdigit() else by_size
    if name is None:
        raise FileFault(f"{path}: Format", expected="3, 5 or 10", found=repr(form), remedy="Export it as unsigned 16 bit.")
    size = pairs.get("voxelsizerec")
    step_um = parse_numbers(path, "VoxelSizeRec", size, 1)[0] * 1e3 if size else None
    pixel_um = (step_um, step_um) if step_um else None
    layout = RawLayout(count, (rows, cols), np.dtype(name).newbyteorder("<"))
    return open_raw(data, layout, files=(path, data), name=str(path), pixel_um=pixel_um, step_um=step_um)

"""X-ray planes: the contract of a source, and raw volumes with or without a text header.

Pictures, pages and the planes of a volume look alike from here on. Files are read by position and never mapped: one that is cut
short while it is mapped kills the process.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.errors import FileFault, ImageFault, describe_error
from inspect_pop.ingest.files import BOUNDS, measure_file, read_bytes, resolve_inside

__all__ = [
    "SOURCE_BOUNDS",
    "Planes",
    "RawLayout",
    "check_plane",
    "find_data",
    "open_pcr",
    "open_positions",
    "open_raw",
    "open_vgi",
    "read_header_text",
    "simplify",
    "turn_upright",
]

Array = NDArray[Any]
MOST_PLANES = 20_000
_ALONG = 0.8  # cosine between an axis of the file and the one of its space along which it is taken to run: 37 degrees
_GAP_BYTES = 1 << 18  # a call of the system takes as long as copying some 50 kB, and disks read ahead by 128 kB
# A volume's file is never read as a whole; its directories are, and it may have as many pages as planes.
SOURCE_BOUNDS = replace(BOUNDS, image_tags=1 << 20)
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True)
class Planes:
    """Planes of one source, not read yet.

    `name` is what messages call it. All planes are `shape` (rows, cols). `read(plane, rows)` returns these rows of one plane,
    (len(rows), cols), of a type that `simplify` returns, and raises `FileFault` or `ImageFault`. `pixel_um` is the distance of
    pixels along a row and down a column, `step_um` that of planes; None where the files do not say it. `notes` say what was
    changed or left out.
    """

    name: str
    count: int
    shape: tuple[int, int]
    read: Callable[[int, range], Array]
    files: tuple[Path, ...]
    pixel_um: tuple[float, float] | None = None
    step_um: float | None = None
    notes: tuple[str, ...] = ()

    def read_plane(self, plane: int) -> Array:
        """Return one whole plane."""
        return self.read(plane, range(self.shape[0]))


@dataclass(frozen=True)
class RawLayout:
    """Where the voxels of a volume lie in a file: planes one after the other, rows of a plane one after the other."""

    count: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    offset: int = 0
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def plane_bytes(self) -> int:
        """Bytes of one plane."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize


def check_plane(name: str, count: int, shape: tuple[int, int], itemsize: int) -> None:
    """Refuse planes that are too many, too large or too small. Raises `ImageFault`."""
    rows, cols = shape
    if not 1 <= count <= MOST_PLANES:
        raise ImageFault(name, expected=f"1 to {MOST_PLANES:,} planes", found=f"{count:,}", remedy="Nothing was read.")
    least, most = BOUNDS.image_least_px, BOUNDS.image_side_px
    if not (least <= rows <= most and least <= cols <= most):
        raise ImageFault(name, expected=f"planes with sides of {least} to {most:,} pixels", found=f"{rows:,} x {cols:,}")
    if rows * cols > BOUNDS.image_pixels or rows * cols * itemsize > BOUNDS.decoded_bytes:
        expect = f"planes of at most {BOUNDS.image_pixels:,} pixels and {BOUNDS.decoded_bytes:,} bytes"
        raise ImageFault(name, expected=expect, found=f"{rows:,} x {cols:,}", remedy="Nothing was read.")


def simplify(values: Array) -> Array:
    """Return values in native byte order as uint8, uint16, int16 or float32: the types of the export format."""
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "b":
        return values.astype(np.uint8)
    if kind == "i" and size == 1:
        return values.astype(np.int16)
    if (kind == "u" and size <= 2) or (kind == "i" and size == 2):
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    return values.astype(np.float32)


@contextmanager
def open_positions(path: Path) -> Iterator[Callable[[int, int], bytes]]:
    """Open a regular file; yield the function that returns so many bytes from an offset on. Raises `FileFault`."""
    measure_file(path)
    try:
        handle = os.open(path, _FLAGS)
    except OSError as error:
        raise FileFault(str(path), expected="a readable file", found=describe_error(error)) from error
    try:
        yield lambda offset, n: os.pread(handle, n, offset)
    finally:
        os.close(handle)


def open_raw(
    path: Path,
    layout: RawLayout,
    *,
    files: tuple[Path, ...] = (),
    name: str = "",
    pixel_um: tuple[float, float] | None = None,
    step_um: float | None = None,
    exact: bool = True,
    notes: tuple[str, ...] = (),
) -> Planes:
    """Return the planes of a raw file whose size must agree with its layout.

    Args:
        path: The file that holds the voxels.
        layout: What the header or the map says of it.
        files: All files of the source, the header among them.
        name: What messages call it; the file's path by default.
        pixel_um: Distance of pixels, as in `Planes`.
        step_um: Distance of planes.
        exact: Whether the file ends with the last voxel; otherwise more may follow.
        notes: What was changed or left out.

    Raises:
        FileFault: The file is missing or its size disagrees with the layout.
        ImageFault: The planes are out of bounds.
    """
    name = name or str(path)
    check_plane(name, layout.count, layout.shape, layout.dtype.itemsize)
    size, needed = measure_file(path), layout.offset + layout.count * layout.plane_bytes
    if size != needed if exact else size < needed:
        rows, cols = layout.shape
        counted = f"{layout.count} planes of {rows} x {cols} {layout.dtype.name}"
        more = f" after {layout.offset:,} bytes" if layout.offset else ""
        raise FileFault(
            name,
            expected=f"{needed:,} bytes for {counted}{more}",
            found=f"{size:,}" + (f" in {path.name}" if str(path) not in name else ""),
            remedy="The file is cut short, or its header describes another volume or type.",
        )

    def read(plane: int, rows: range) -> Array:
        row_bytes = layout.shape[1] * layout.dtype.itemsize
        start = layout.offset + plane * layout.plane_bytes
        with open_positions(path) as read_at:
            if rows.step * row_bytes <= _GAP_BYTES:
                data = _read_whole(path, read_at, start + rows.start * row_bytes, (rows[-1] - rows.start + 1) * row_bytes)
            else:
                data = b"".join(_read_whole(path, read_at, start + row * row_bytes, row_bytes) for row in rows)
        values = np.frombuffer(data, dtype=layout.dtype).reshape(-1, layout.shape[1])
        values = values[:: rows.step] if len(values) > len(rows) else values
        if (layout.slope, layout.intercept) != (1.0, 0.0):
            return np.asarray(values.astype(np.float32) * np.float32(layout.slope) + np.float32(layout.intercept))
        return simplify(values)

    return Planes(name, layout.count, layout.shape, read, files or (path,), pixel_um, step_um, notes)


def _read_whole(path: Path, read_at: Callable[[int, int], bytes], offset: int, n: int) -> bytes:
    """Read exactly `n` bytes, though one call of the system returns at most 2 GB."""
    parts: list[bytes] = []
    while n:
        part = read_at(offset, n)
        if not part:
            raise FileFault(str(path), expected=f"{n:,} bytes from byte {offset:,} on", found="the end of the file")
        parts.append(part)
        offset, n = offset + len(part), n - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def turn_upright(planes: Planes, directions: Sequence[Sequence[float]]) -> Planes:
    """Return planes as they lie in the space of their file: an axis that runs against that of the space is turned round.

    Args:
        planes: The planes as they are stored.
        directions: For the way along a row, down a column and from plane to plane, its vector (x, y, z) in the file's space.

    Raises:
        ImageFault: The axes run askew and are mirrored, so that it is not known which one to turn round.
    """
    axes = np.array(directions, dtype=float)
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(axes, axis=1)
    if not np.isfinite(lengths).all() or lengths.min() == 0:
        return planes
    axes /= lengths[:, None]
    along = np.diag(axes)
    if np.abs(along).min() < _ALONG:
        if np.linalg.det(axes) < 0:
            remedy = "Save it along the axes of its space, or give its data file, shape and dtype in the map, and mirror."
            raise ImageFault(planes.name, expected="a volume along the axes of its space", found="a mirrored one", remedy=remedy)
        return planes
    is_turned = [bool(cosine < 0) for cosine in along]
    if not any(is_turned):
        return planes

    def read(plane: int, rows: range) -> Array:
        if is_turned[1]:
            rows = range(planes.shape[0] - 1 - rows[-1], planes.shape[0] - rows[0], rows.step)
        values = planes.read(planes.count - 1 - plane if is_turned[2] else plane, rows)
        return values[:: -1 if is_turned[1] else 1, :: -1 if is_turned[0] else 1]

    turned = [name for name, is_it in zip(("columns", "rows", "planes"), is_turned, strict=True) if is_it]
    return replace(planes, read=read, notes=(*planes.notes, f"{' and '.join(turned)} turned round, as the file's directions say"))


# Raw volumes with a text header: VGSTUDIO and Omron (`.vgi` with `.vol` or `.rec`), GE and Waygate phoenix (`.pcr`).


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

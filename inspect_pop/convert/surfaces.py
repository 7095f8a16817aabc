"""Height maps from a machine's own files: pictures with a scale, matrices of text, x3p, and what SurfaceTopography reads.

Every reader gives heights in a unit, and the size of its pixels where the file holds it. Rows are from the upper edge down.
"""

import io
import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
from numpy.typing import NDArray

from inspect_pop.convert import pictures
from inspect_pop.convert.levels import center_grid
from inspect_pop.convert.map_file import ImageMap
from inspect_pop.convert.planes import check_plane
from inspect_pop.convert.stacks import open_planes
from inspect_pop.core.errors import FileFault, ImageFault, describe_error
from inspect_pop.core.geometry import HeightMap
from inspect_pop.ingest.files import BOUNDS, decode_text, measure_file, read_bytes
from inspect_pop.ingest.images import DAMAGED

__all__ = ["FoundHeights", "take_heights"]

Array = NDArray[Any]
_TEXT = (".txt", ".csv", ".asc", ".dat", ".xyz")
# Formats of optical profilers, by suffix, as SurfaceTopography names them. It guesses by content, too, and would then read
# whatever claims to be a matrix of MATLAB, HDF5 or numpy.
_BY_LIBRARY = {
    ".sur": "sur",
    ".al3d": "al3d",
    ".plu": "plu",
    ".plux": "plux",
    ".dat": "metropro",
    ".opd": "opd",
    ".opdx": "opdx",
    ".vk3": "vk",
    ".vk4": "vk",
    ".vk6": "vk",
    ".vk7": "vk",
    ".tmd": "tmd",
    ".nms": "nms",
    ".lext": "lext",
    ".frt": "frt",
}
_UM = {"m": 1e6, "mm": 1e3, "um": 1.0, "µm": 1.0, "μm": 1.0, "nm": 1e-3}
_NUMBER = re.compile(r"^[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?$")
_NO_DATA = {"nan", "bad", "***", "---", "-", "", "na", "null", "inf", "-inf"}
_SENTINEL_SHARE = 0.005  # of the pixels, that one extreme value must fill to be taken for 'no data'
_SENTINEL_GAP = 0.2  # of the other values' range, that lies between it and them


@dataclass(frozen=True)
class FoundHeights:
    """A height map with all that the export says of it."""

    heights: HeightMap
    assumed: tuple[str, ...]


@dataclass(frozen=True)
class _Raw:
    """Heights as the file has them; `unit_um` and `pixel_um` where it says them."""

    values: Array
    unit_um: float | None = None
    pixel_um: tuple[float, float] | None = None


def take_heights(files: list[Path], folder: Path, image: ImageMap, refdes: str) -> FoundHeights:
    """Read a height map and convert it to um. Raises `FileFault`, `ImageFault` and `PathFault`."""
    if len(files) != 1 and image.shape is None:
        header = [path for path in files if not pictures.is_picture(path) and path.suffix.lower() not in _TEXT]
        if len(header) != 1:
            raise ImageFault(str(files[0]), expected="one file for a height map", found=f"{len(files)}")
    raw = _read(files, folder, image)
    name = image.name
    values, assumed = _convert_to_um(files[0], raw, image)
    pixel = image.pixel_pair_um or raw.pixel_um
    if pixel is None:
        raise ImageFault(str(files[0]), expected="the size of a pixel", found="none", remedy="Give pixel_um in the map.")
    side = min(pixel)
    if max(pixel) > side * 1.001:
        rows, cols = (round(n * p / side) for n, p in zip(values.shape, (pixel[1], pixel[0]), strict=True))
        values = cv2.resize(values, (cols, rows), interpolation=cv2.INTER_NEAREST)  # a mean with NaN would spread the gaps
        assumed.append(f"{name} pixels: resampled from {pixel[0]:g} x {pixel[1]:g} um to squares")
    for left, top, right, bottom in image.mask_px:
        values[top:bottom, left:right] = np.nan
    values = np.rot90(values, image.turn_deg // 90)
    values = np.ascontiguousarray(values[:, ::-1] if image.mirror else values)
    grid = center_grid((values.shape[0], values.shape[1]), side)
    if image.origin_um is not None:
        grid = type(grid)(grid.shape, side, (image.origin_um[0], image.origin_um[1]))
    else:
        assumed.append(f"{name} origin_um: the map's middle is the package's")
    return FoundHeights(HeightMap(refdes, str(image.stage), values, grid), tuple(assumed))


def _convert_to_um(path: Path, raw: _Raw, image: ImageMap) -> tuple[NDArray[np.float32], list[str]]:
    """Return heights in um, NaN where there is no data, and what was assumed of them."""
    values, note = _drop_no_data(raw.values.astype(np.float32), raw.values, image)
    assumed = [f"{image.name} {note}"] if note else []
    scale = image.value_um if image.value_um is not None else raw.unit_um
    if scale is None:
        if raw.values.dtype.kind != "f":
            remedy = "Give scale_um, the um of one grey value, and offset_um in the map."
            raise ImageFault(str(path), expected="the scale of whole numbers", found="none", remedy=remedy)
        scale = 1.0
        assumed.append(f"{image.name} unit: um")
    if scale != 1.0:
        values *= np.float32(scale)
    if image.offset_um:
        values += np.float32(image.offset_um)
    return values, assumed


def _read(files: list[Path], folder: Path, image: ImageMap) -> _Raw:
    path = files[0]
    suffix = path.suffix.lower()
    if image.shape is not None or suffix in (".vgi", ".nrrd", ".nhdr", ".mhd", ".mha"):
        planes = open_planes(files, folder, image)
        if planes.count != 1:
            raise ImageFault(str(path), expected="one plane", found=f"{planes.count}")
        return _Raw(planes.read_plane(0), None, planes.pixel_um)
    if pictures.is_picture(path):
        return _Raw(pictures.read_picture(path))
    if suffix == ".x3p":
        return _read_x3p(path)
    if suffix in _TEXT and (text := _read_matrix(path)) is not None:
        return text
    return _read_by_library(path)


def _drop_no_data(values: NDArray[np.float32], raw: Array, image: ImageMap) -> tuple[NDArray[np.float32], str]:
    """Return heights with NaN for no data: the map's `no_data`, or a value far from all others that fills part of the map."""
    if image.no_data is not None:
        return np.where(raw == np.asarray(image.no_data).astype(raw.dtype), np.float32(np.nan), values), ""
    values = np.where(np.isfinite(values), values, np.float32(np.nan))
    finite = values[np.isfinite(values)]
    if not len(finite):
        return values, ""
    for end in (float(finite.min()), float(finite.max())):
        others = finite[finite != end]
        share = 1 - len(others) / finite.size
        if len(others) and share > _SENTINEL_SHARE:
            low, high = float(others.min()), float(others.max())
            distance = low - end if end < low else end - high
            if distance > _SENTINEL_GAP * max(high - low, 1e-12):
                note = f"no_data: {end:g}, which fills {share:.1%} of the map, far from all others"
                return np.where(values == np.float32(end), np.float32(np.nan), values), note
    return values, ""


# Text


def _read_matrix(path: Path) -> _Raw | None:
    """Read rows of numbers, with any separator and decimal sign, after lines that hold something else; None without any."""
    text = read_bytes(path, BOUNDS.image_bytes).decode("utf-8-sig", errors="replace")
    lines = text.splitlines()
    separator, comma = _find_dialect(lines)
    rows: list[list[float]] = []
    head: list[str] = []
    for line in lines:
        cells = [cell.strip() for cell in (re.split(r"\s+", line.strip()) if separator is None else line.split(separator))]
        if cells and cells[-1] == "" and len(cells) > 1:  # a separator at the end of the line
            cells = cells[:-1]
        numbers = _parse_cells(cells, decimal_comma=comma)
        if numbers is None or not line.strip():
            if rows and line.strip():
                raise FileFault(str(path), expected="rows of numbers", found=repr(line[:60]))
            head.append(line)
            continue
        if rows and len(numbers) != len(rows[0]):
            found = f"{len(numbers)} in row {len(rows) + 1}: it is cut short, or its decimal sign is its separator"
            raise FileFault(str(path), expected=f"{len(rows[0])} numbers in each row", found=found)
        rows.append(numbers)
    if len(rows) < 2:
        return None
    check_plane(str(path), 1, (len(rows), len(rows[0])), 8)
    # The lines before the matrix, as Gwyddion writes them.
    note = "\n".join(head)
    number = r"([\d.,]+(?:[eE][+-]?\d+)?)\s*(nm|um|µm|μm|mm|m)\b"
    unit = re.search(r"(?:value units?|height units?|data unit)\s*[:=]\s*(nm|um|µm|μm|mm|m)\b", note, re.IGNORECASE)
    sides = []
    for words, count in ((r"(?:width|breite|largeur|x size)", len(rows[0])), (r"(?:height|höhe|hauteur|y size)", len(rows))):
        side = re.search(words + r"\s*[:=]\s*" + number, note, re.IGNORECASE)
        sides.append(float(side[1].replace(",", ".")) * _UM[side[2]] / count if side else None)
    pixel = re.search(r"pixel size\s*[:=]\s*" + number, note, re.IGNORECASE)
    if pixel:
        sides = [float(pixel[1].replace(",", ".")) * _UM[pixel[2]]] * 2
    across, down = sides
    size = (across, down) if across and down else None
    return _Raw(np.array(rows, dtype=np.float64), _UM[unit[1]] if unit else None, size)


def _find_dialect(lines: list[str]) -> tuple[str | None, bool]:
    """Return the separator of cells (None for blanks) and whether the comma is the decimal sign."""
    sample = [line for line in lines[:200] if re.match(r"^[\s\d+\-.,;eE]*$", line) and any(c.isdigit() for c in line)]
    joined = "\n".join(sample)
    if ";" in joined:
        return ";", "," in joined
    if "\t" in joined:
        return "\t", "," in joined and "." not in joined
    blanks = any(re.search(r"\d +[+\-\d]", line) for line in sample)
    if "," in joined and not blanks:
        return ",", False
    return (None, "," in joined and "." not in joined) if not re.search(r"\d,\s", joined) else (",", False)


def _parse_cells(cells: list[str], *, decimal_comma: bool) -> list[float] | None:
    numbers = []
    for cell in cells:
        if cell.lower() in _NO_DATA:
            numbers.append(float("nan"))
        elif _NUMBER.match(cell):
            numbers.append(float(cell.replace(",", ".") if decimal_comma else cell.replace(",", "")))
        else:
            return None
    return numbers if any(np.isfinite(numbers)) or len(numbers) > 1 else None


# Containers


def _read_x3p(path: Path) -> _Raw:
    """Read an x3p file (ISO 25178-72): a zip with main.xml and a binary matrix; lengths are metres."""
    data = read_bytes(path, BOUNDS.image_bytes)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            mains = [info for info in archive.infolist() if info.filename.rpartition("/")[2] == "main.xml"]
            if not mains or mains[0].file_size > BOUNDS.manifest_bytes:
                raise FileFault(str(path), expected="one main.xml of at most 4 MiB in the archive", found="none")
            xml = decode_text(path, archive.read(mains[0]), FileFault)  # before the look for entities: UTF-16 would hide them
            if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
                raise FileFault(str(path), expected="plain XML", found="a document type, which it does not need")
            root = ElementTree.fromstring(xml)  # noqa: S314 - without entities, and bounded
            cols, rows = (int(_find_text(path, root, f"MatrixDimension/Size{axis}")) for axis in "XY")
            check_plane(str(path), 1, (rows, cols), 8)
            name = _find_text(path, root, "DataLink/PointDataLink")
            kind = {"D": "<f8", "F": "<f4", "I": "<i2", "L": "<i4"}.get(_find_text(path, root, "CZ/DataType").strip(), "")
            if not kind:
                raise ImageFault(f"{path}: DataType", expected="D, F, I or L", found="another")
            steps = [float(_find_text(path, root, f"C{axis}/Increment", "1" if axis == "Z" else None)) for axis in "XYZ"]
            if not all(np.isfinite(steps)) or 0 in steps[:2]:
                raise ImageFault(f"{path}: Increment", expected="the distance of points", found=str(steps[:2]))
            offset = float(_find_text(path, root, "CZ/Offset", "0"))
            needed = rows * cols * np.dtype(kind).itemsize
            info = archive.getinfo(mains[0].filename.removesuffix("main.xml") + name.strip().lstrip("/"))
            if info.file_size != needed:
                raise FileFault(f"{path}: {name}", expected=f"{needed:,} bytes", found=f"{info.file_size:,}")
            values = np.frombuffer(archive.read(info), kind).reshape(rows, cols)
    except (zipfile.BadZipFile, ElementTree.ParseError, KeyError, ValueError, NotImplementedError, OSError, EOFError) as error:
        raise FileFault(str(path), expected="an x3p file", found=f"a damaged one: {describe_error(error):.200}") from error
    heights = values * (steps[2] if kind in ("<i2", "<i4") else 1.0) + offset
    upright = heights[:: 1 if steps[1] < 0 else -1, :: -1 if steps[0] < 0 else 1]  # y is up, unless its steps go down
    return _Raw(upright.astype(np.float64), 1e6, (abs(steps[0]) * 1e6, abs(steps[1]) * 1e6))


def _find_text(path: Path, root: Any, place: str, default: str | None = None) -> str:
    """Return the text of an element, whatever namespace its parents have."""
    parts = place.split("/")
    for element in root.iter():
        if element.tag.rpartition("}")[2] == parts[0]:
            for child in element:
                if child.tag.rpartition("}")[2] == parts[1] and child.text:
                    return str(child.text)
    if default is None:
        raise FileFault(f"{path}: {place}", expected="a value", found="nothing")
    return default


def _read_by_library(path: Path) -> _Raw:
    """Read a profiler's own format by SurfaceTopography, where it is installed; the size is bounded before heights are read."""
    kinds = ", ".join([*pictures.SUFFIXES, *_TEXT, ".x3p", *_BY_LIBRARY])
    kind = _BY_LIBRARY.get(path.suffix.lower())
    if kind is None:
        raise FileFault(str(path), expected=f"a height map: {kinds}", found=path.suffix or "no suffix")
    try:
        with warnings.catch_warnings(action="ignore", category=ImportWarning):  # it can do without MPI, and says so
            import SurfaceTopography
    except ImportError as error:
        remedy = f"Install inspect_pop[formats], which reads {path.suffix}."
        raise FileFault(str(path), expected="SurfaceTopography", found="no such package", remedy=remedy) from error
    known = vars(getattr(SurfaceTopography, "Exceptions", SurfaceTopography)).values()
    refusals = (e for e in known if isinstance(e, type) and issubclass(e, Exception))  # they have no base in common
    errors: tuple[type[Exception], ...] = (*DAMAGED, MemoryError, *refusals)
    if measure_file(path) > BOUNDS.image_bytes:
        raise FileFault(str(path), expected=f"at most {BOUNDS.image_bytes:,} bytes", found="more", remedy="Nothing was read.")
    try:
        if zipfile.is_zipfile(path):
            _check_unpacked(path)
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            channel: Any = SurfaceTopography.open_topography(str(path), format=kind).default_channel
            cols, rows = (int(n) for n in channel.nb_grid_pts)
            check_plane(str(path), 1, (rows, cols), 8)
            surface: Any = channel.topography()
            values = np.ma.filled(np.ma.asarray(surface.heights(), dtype=np.float64), np.nan)
            across, down = (float(v) for v in surface.pixel_size)
        unit = _UM.get(str(surface.unit))
    except errors as error:
        found = f"{type(error).__name__}: {' '.join(str(error).split()):.200}"
        raise FileFault(str(path), expected="a height map", found=found) from error
    pixel = (across * unit, down * unit) if unit else None
    return _Raw(values.T, unit, pixel)  # its axes are column and row from the top, as in Gwyddion, whichever a format begins with


def _check_unpacked(path: Path) -> None:
    """Refuse a zip whose members unpack to more than a height map may have."""
    with zipfile.ZipFile(path) as archive:
        n_bytes = sum(member.file_size for member in archive.infolist())
    if n_bytes > BOUNDS.decoded_bytes:
        expect = f"members of at most {BOUNDS.decoded_bytes:,} bytes"
        raise FileFault(str(path), expected=expect, found=f"{n_bytes:,}", remedy="Nothing was read.")

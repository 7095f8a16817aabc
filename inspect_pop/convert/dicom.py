"""DICOM and DICONDE series: one plane in each file, or several frames in one.

Planes are ordered by their position along the plane's normal, never by file name. Grey is stored value times slope plus
intercept. What is packed is decoded by imagecodecs, whose licence ours can take, and must have the declared size.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from inspect_pop.convert.planes import Planes, check_plane, open_positions, simplify, turn_upright
from inspect_pop.core.errors import FileFault, ImageFault, UsageFault
from inspect_pop.ingest.images import DAMAGED

__all__ = ["is_dicom", "open_series"]

Array = NDArray[Any]
_RAW = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")
_DECODERS = {
    **dict.fromkeys(("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"), imagecodecs.jpeg8_decode),
    **dict.fromkeys(("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"), imagecodecs.ljpeg_decode),
    **dict.fromkeys(("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"), imagecodecs.jpegls_decode),
    **dict.fromkeys(("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"), imagecodecs.jpeg2k_decode),
}


def is_dicom(path: Path) -> bool:
    """Return whether a file has the mark of DICOM, or its usual suffix."""
    with open_positions(path) as read_at:
        return read_at(128, 4) == b"DICM" or path.suffix.lower() == ".dcm"


def open_series(files: list[Path]) -> Planes:
    """Open a series; files that are not DICOM, such as notes beside it, are left out.

    Raises `FileFault`, `ImageFault`; `UsageFault` where pydicom is not installed.
    """
    heads = [(path, _read_dataset(path, pixels=False)) for path in files if is_dicom(path)]
    heads = [(path, head) for path, head in heads if "Rows" in head]
    if not heads:
        raise FileFault(str(files[0].parent), expected="DICOM files with pixels", found="none")
    name = str(heads[0][0]) if len(heads) == 1 else f"{heads[0][0].parent}: {len(heads)} DICOM files"
    with _name_damage(heads[0][0]):
        first = heads[0][1]
        for path, head in heads:
            if _describe(head) != _describe(first):
                expect = f"{_describe(first)} as {heads[0][0].name} has"
                raise ImageFault(str(path), expected=expect, found=_describe(head), remedy="Put one series into a folder.")
        frames = int(first.get("NumberOfFrames", 1) or 1)
        shape = (int(first.Rows), int(first.Columns))
        check_plane(name, len(heads) if len(heads) > 1 else frames, shape, int(first.BitsAllocated) // 8 or 1)
        places: list[tuple[Path, int]] = []
        distance = first.get("SpacingBetweenSlices") or first.get("SliceThickness")
        step_um = abs(float(distance)) * 1e3 if distance else None
        if len(heads) > 1:
            if frames > 1:
                raise ImageFault(name, expected="one frame in each of several files", found=f"{frames}")
            heads, measured = _order(name, heads)
            step_um = measured or step_um
            places = [(path, 0) for path, _ in heads]
        else:
            places = [(heads[0][0], k) for k in range(frames)]
        spacing = first.get("PixelSpacing") or first.get("ImagerPixelSpacing")
        pixel_um = (float(spacing[1]) * 1e3, float(spacing[0]) * 1e3) if spacing is not None and min(spacing) > 0 else None
        decode = functools.lru_cache(maxsize=1)(lambda plane: _decode(*places[plane], shape))
        paths = tuple(dict.fromkeys(path for path, _ in places))
        planes = Planes(name, len(places), shape, lambda k, r: decode(k)[r.start : r.stop : r.step], paths, pixel_um, step_um)
        across, normal = _find_directions(first)
        is_placed = len(heads) > 1 and all("ImagePositionPatient" in head for _, head in heads)
        up = normal if is_placed or normal[2] > 0 else -normal  # where no file says its place, planes are in the order given
        return turn_upright(planes, [*across, up.tolist()])


def _find_directions(head: Any) -> tuple[list[list[float]], Array]:
    """Return the directions along a row and down a column in the series' space, and the normal of both."""
    holder = head
    if "ImageOrientationPatient" not in head and head.get("SharedFunctionalGroupsSequence"):  # of several frames in one file
        holder = (head.SharedFunctionalGroupsSequence[0].get("PlaneOrientationSequence") or [head])[0]
    values = [float(v) for v in holder.get("ImageOrientationPatient") or (1, 0, 0, 0, 1, 0)]
    if len(values) != 6:
        raise ValueError(f"ImageOrientationPatient of {len(values)} values")
    with np.errstate(all="ignore"):
        return [values[:3], values[3:]], np.cross(values[:3], values[3:])


def _describe(head: Any) -> str:
    return f"{head.Rows} x {head.Columns}, {head.get('BitsAllocated')} bits, {head.get('SamplesPerPixel', 1)} sample"


@contextmanager
def _name_damage(path: Path) -> Iterator[None]:
    from pydicom.errors import BytesLengthException, InvalidDicomError

    try:
        yield
    except (*DAMAGED, BytesLengthException, InvalidDicomError) as error:
        raise FileFault(str(path), expected="a DICOM file", found=f"a damaged one: {error!s:.200}") from error


def _read_dataset(path: Path, *, pixels: bool) -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise UsageFault("DICOM", expected="pydicom", found="none", remedy="Install inspect_pop[formats].") from error
    with _name_damage(path):
        return pydicom.dcmread(path, stop_before_pixels=not pixels, force=True)


def _order(name: str, heads: list[tuple[Path, Any]]) -> tuple[list[tuple[Path, Any]], float | None]:
    """Order files by their position along the normal of their planes, or by instance number; return also the step in um."""
    with _name_damage(heads[0][0]):
        if all("ImagePositionPatient" in head for _, head in heads):
            _, normal = _find_directions(heads[0][1])
            at = [float(np.dot(normal, [float(v) for v in head.ImagePositionPatient])) for _, head in heads]
        elif all("SliceLocation" in head for _, head in heads):
            at = [float(head.SliceLocation) for _, head in heads]
        elif all("InstanceNumber" in head for _, head in heads):
            at = [float(head.InstanceNumber) for _, head in heads]
            return [heads[k] for k in np.argsort(at, kind="stable")], None
        else:
            return heads, None
    order = np.argsort(at, kind="stable")
    steps = np.diff(np.array(at)[order])
    if not len(steps) or steps.min() <= 0 or steps.max() > 1.5 * np.median(steps):
        found = f"steps of {steps.min():.4g} to {steps.max():.4g} mm"
        raise ImageFault(name, expected="planes at one distance from one another", found=found, remedy="Is a file missing?")
    return [heads[k] for k in order], float(np.median(steps)) * 1e3


def _decode(path: Path, frame: int, shape: tuple[int, int]) -> Array:
    head = _read_dataset(path, pixels=True)
    with _name_damage(path):
        if int(head.get("SamplesPerPixel", 1)) != 1:
            raise ImageFault(str(path), expected="one grey value per pixel", found=f"{head.SamplesPerPixel}")
        syntax = str(getattr(head.file_meta, "TransferSyntaxUID", _RAW[0]))
        if syntax in _RAW:
            data, bits = head.PixelData, int(head.BitsAllocated)
            if bits not in (8, 16, 32):
                raise ImageFault(str(path), expected="8, 16 or 32 bits a pixel", found=f"{bits}")
            n = shape[0] * shape[1] * bits // 8
            part = data[frame * n : (frame + 1) * n]
            if len(part) != n:
                raise FileFault(str(path), expected=f"{n:,} bytes of pixels", found=f"{len(part):,}: it is cut short")
            order: Literal["<", ">"] = "<" if head.original_encoding[1] is not False else ">"
            values = np.frombuffer(part, np.dtype(f"u{bits // 8}").newbyteorder(order)).reshape(shape)
        else:
            values = _decode_packed(path, head, frame, syntax)
        if values.shape != shape:
            raise ImageFault(str(path), expected=f"{shape[0]} x {shape[1]}, as its header says", found=str(values.shape))
        # Values are numbers of `BitsStored`, signed or not, whatever type the codestream claims.
        stored = int(head.get("BitsStored", values.dtype.itemsize * 8))
        values = values.astype(np.int64) & ((1 << stored) - 1)
        if int(head.get("PixelRepresentation", 0)) == 1:
            values = np.where(values >= 1 << (stored - 1), values - (1 << stored), values)
            values = values.astype(np.int16 if stored <= 16 else np.int32)
        else:
            values = values.astype(np.uint8 if stored <= 8 else np.uint16 if stored <= 16 else np.uint32)
        slope, intercept = float(head.get("RescaleSlope", 1) or 1), float(head.get("RescaleIntercept", 0) or 0)
    if slope == 1 and intercept == 0:
        return simplify(values)
    scaled = values.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    if slope == 1 and intercept.is_integer() and scaled.min() >= -32768 and scaled.max() <= 32767:
        return scaled.astype(np.int16)
    return scaled


def _decode_packed(path: Path, head: Any, frame: int, syntax: str) -> Array:
    from pydicom.encaps import get_frame

    decoder: Any = _DECODERS.get(syntax)
    if decoder is None:
        expect = "pixels as they are, JPEG, lossless JPEG, JPEG-LS or JPEG 2000"
        raise ImageFault(str(path), expected=expect, found=f"transfer syntax {syntax}", remedy="Export without compression.")
    data = get_frame(head.PixelData, frame, number_of_frames=int(head.get("NumberOfFrames", 1) or 1))
    # A codestream that claims another size than the header is refused: a decoder believes it.
    shape = (int(head.Rows), int(head.Columns))
    if data.startswith(b"\xff\x4f\xff\x51"):  # JPEG 2000, SIZ: capabilities, then width and height, then the origin's offset
        width, height, left, top = (int.from_bytes(data[k : k + 4], "big") for k in (8, 12, 16, 20))
        found = (height - top, width - left)
    else:
        at = next(
            (k for k in range(2, min(len(data), 1 << 16)) if data[k] == 0xFF and data[k + 1] in (0xC0, 0xC1, 0xC2, 0xC3, 0xF7)),
            None,
        )
        if at is None:
            raise FileFault(str(path), expected="a picture with its size", found="none in its first bytes")
        found = (int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big"))
    if found != shape:
        raise ImageFault(str(path), expected=f"{shape[0]} x {shape[1]}, as its header says", found=f"{found[0]} x {found[1]}")
    return np.asarray(decoder(data))

"""NIfTI volumes: `.nii`, `.nii.gz`, or a `.hdr` header with its `.img` (nifti.nimh.nih.gov: nifti1.h, nifti2.h)."""

import gzip
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from inspect_pop.convert.planes import Planes, RawLayout, open_positions, open_raw, turn_upright
from inspect_pop.convert.unpacking import open_packed
from inspect_pop.convert.volume_header import find_data
from inspect_pop.core.errors import FileFault, describe_error
from inspect_pop.ingest.files import measure_file

__all__ = ["open_nifti"]

_TYPES = {2: "uint8", 4: "int16", 8: "int32", 16: "float32", 64: "float64", 256: "int8", 512: "uint16", 768: "uint32"}
_UM = {1: 1e6, 2: 1e3, 3: 1.0}  # of xyzt_units, its lower three bits: metre, millimetre, micrometre
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
        if kind not in _TYPES or dim[0] not in (3, 4) or (dim[0] == 4 and dim[4] != 1):
            found = f"{dim[0]} dimensions, type {kind}"
            raise FileFault(str(path), expected="a volume of three dimensions of whole or real numbers", found=found)
        detached = magic.startswith(b"ni")
        data = find_data(path, folder, None, [".img"]) if detached else path
        scale = _UM.get(units & 7, 1e3)
        steps = [abs(float(step)) * scale for step in spacing[1:4]]
        known = min(steps) > 0 and all(np.isfinite(steps))
        if not (np.isfinite(slope) and slope):
            slope, intercept = 1.0, 0.0
        layout = RawLayout(
            int(dim[3]),
            (int(dim[2]), int(dim[1])),
            np.dtype(_TYPES[kind]).newbyteorder("<" if order == "<" else ">"),
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

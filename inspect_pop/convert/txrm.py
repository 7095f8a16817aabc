"""ZEISS XRM volumes and projections: `.txrm` and `.txm`, an OLE container with one stream for each image.

A `.txm` holds reconstructed planes. A `.txrm` with angles that differ holds projections of a tomography; each is a transmission
picture, and no volume.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.convert.planes import Planes, check_plane, simplify
from inspect_pop.core.errors import FileFault, ImageFault, UsageFault
from inspect_pop.ingest.files import BOUNDS, measure_file
from inspect_pop.ingest.images import DAMAGED

__all__ = ["open_txrm"]

_TYPES = {3: "uint8", 5: "uint16", 10: "float32"}  # ImageInfo/DataType


def open_txrm(path: Path, folder: Path) -> Planes:  # noqa: ARG001 - one signature for all readers
    """Open an XRM file. Raises `FileFault`, `ImageFault`; `UsageFault` where olefile is not installed."""
    measure_file(path)
    with _open_container(path) as ole:
        cols, rows, count, kind = (
            _read_number(path, ole, f"ImageInfo/{key}", "i") for key in ("ImageWidth", "ImageHeight", "NoOfImages", "DataType")
        )
        if kind not in _TYPES:
            raise ImageFault(str(path), expected="DataType 3, 5 or 10", found=f"{kind}")
        dtype = np.dtype(_TYPES[int(kind)]).newbyteorder("<")
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

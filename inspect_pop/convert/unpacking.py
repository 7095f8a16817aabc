"""Unpack compressed voxels into a file without a name, bounded by what their header declares, and read them there by position."""

import bz2
import os
import tempfile
import weakref
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.convert.planes import Planes, RawLayout, check_plane, open_positions, simplify
from inspect_pop.core.errors import FileFault, describe_error

__all__ = ["open_packed"]

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

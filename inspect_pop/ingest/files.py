"""How much of a file is read before it is refused: nothing that arrives decides by itself how much memory it gets.

A board at full size (nine slices of 3,000 x 3,000 pixels, float32) needs 324 MB decoded; these bounds let it pass. File
and decoded pixels together stay under the 1 GB that a worker may ever need for one image.

Files at arm's length: bounded, regular, inside the folder that they must stay in, read once.

Bytes are read into memory and never mapped: a file that is cut short while it is mapped kills the process, one that is
cut short while it is read is an error that can be told.
"""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from inspect_pop.core.errors import FileFault, InputFault, PathFault

__all__ = ["BOUNDS", "Bounds", "hash_file", "inside", "read_bytes", "regular_size", "text_of", "why"]

# ---- ingest/bounds
_MIB = 1 << 20


@dataclass(frozen=True)
class Bounds:
    """Sizes in bytes, pixels and counts above which an input is refused, before it is parsed or decoded."""

    manifest_bytes: int = 4 * _MIB  # 64 images need 30 KB
    recipe_bytes: int = 4 * _MIB
    table_bytes: int = 16 * _MIB  # 20 bytes a joint
    table_joints: int = 50_000  # the largest arrays in use have 1,200
    labels_bytes: int = 256 * _MIB  # 80 bytes a joint: 4,000 boards of 820
    image_bytes: int = 384 * _MIB
    image_pixels: int = 200_000_000  # all pages together
    decoded_bytes: int = 512 * _MIB  # all pages together
    image_side_px: int = 65_535  # also the limit of OpenCV's remap
    image_least_px: int = 8  # a side: less cannot show one ball
    image_tag_bytes: int = 4 * _MIB  # one TIFF tag: the offsets of 500,000 strips
    export_images: int = 256


BOUNDS = Bounds()


# ---- ingest/files
_REMEDY = "Check that it is there, and may be read."
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def inside(name: str, start: Path, folder: Path, thing: str) -> Path:
    """The resolved path of `name`, relative to the folder `start`, which must lie in `folder` after all links are followed.

    Raises `PathFault` for an absolute path, one that leaves by `..` or by a link, and one that cannot be a path.
    """
    if Path(name).is_absolute() or Path(name).drive:
        raise PathFault(
            thing, expected=f"a path relative to {start}", found=repr(name), remedy="Name the file relative to its export."
        )
    try:
        target, limit = (start / name).resolve(), folder.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a circle of links, before Python 3.13; a NUL in the name
        raise PathFault(thing, expected="a path to a file", found=f"{name!r}: {why(error)}") from error
    # What is still a link when all are followed leads in a circle: Python 3.13 no longer raises then.
    if os.path.islink(target):  # noqa: PTH114 - the method raises for a name that is too long
        raise PathFault(thing, expected="a path to a file", found=f"{name!r}: a circle of links")
    if not target.is_relative_to(limit):
        raise PathFault(
            thing, expected=f"a file inside {limit}", found=f"{name!r}, which leads to {target}", remedy="Put the file inside."
        )
    return target


def regular_size(path: Path, fault: type[InputFault] = FileFault) -> int:
    """Bytes of a regular file. Raises `fault` for what is missing, out of reach, a folder, pipe, socket or device.

    Asked before opening: opening a device can already do something.
    """
    try:
        info = path.stat()
    except (OSError, ValueError) as error:  # a ValueError where the name holds a NUL
        raise fault(str(path), expected="a readable file", found=why(error), remedy=_REMEDY) from error
    if not stat.S_ISREG(info.st_mode):
        kind = "a folder" if stat.S_ISDIR(info.st_mode) else "a pipe, socket or device"
        raise fault(str(path), expected="a file", found=kind)
    return info.st_size


def read_bytes(path: Path, limit_bytes: int, fault: type[InputFault] = FileFault) -> bytes:
    """All bytes of a regular file of at most `limit_bytes`, read once; never waits for a pipe or a device.

    Raises `fault` for what is missing, unreadable, no regular file, empty, too large, or changes its size meanwhile.
    """
    size = regular_size(path, fault)
    if size > limit_bytes:
        raise fault(str(path), expected=f"at most {limit_bytes:,} bytes", found=f"{size:,}", remedy="Nothing was read of it.")
    try:
        with os.fdopen(os.open(path, _FLAGS), "rb", buffering=0) as file:
            data = _read_at_most(file.fileno(), size + 1)
    except OSError as error:
        raise fault(str(path), expected="a readable file", found=why(error), remedy=_REMEDY) from error
    if len(data) != size:
        found = f"{len(data):,} or more" if len(data) > size else f"{len(data):,}"
        raise fault(
            str(path),
            expected=f"{size:,} bytes",
            found=found,
            remedy="It changed while it was read: try again when it is complete.",
        )
    if not data:
        raise fault(str(path), expected="content", found="an empty file", remedy="It was never finished: write it again.")
    return data


def text_of(path: Path, data: bytes, fault: type[InputFault]) -> str:
    """The bytes of the file `path` as UTF-8 text, with or without a byte order mark. Raises `fault`."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"byte 0x{data[error.start]:02x} at {error.start}"
        raise fault(str(path), expected="UTF-8 text", found=found, remedy="Save it as UTF-8.") from error


def hash_file(path: Path, limit_bytes: int) -> str:
    """sha256 of a file, in hexadecimal. Raises `FileFault` as `read_bytes` does."""
    return hashlib.sha256(read_bytes(path, limit_bytes)).hexdigest()


def why(error: Exception) -> str:
    """An exception in words, without the path that the message around it already names."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _read_at_most(descriptor: int, size: int) -> bytes:
    """Up to `size` bytes; less only at the end of the file."""
    parts: list[bytes] = []
    while size > 0 and (part := os.read(descriptor, size)):
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)

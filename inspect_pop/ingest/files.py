"""Read files of unknown origin: bounded in size, regular, inside the folder that they must stay in, each read once.

Bytes are read into memory and never mapped. A file that is truncated while it is mapped kills the process; one that is
truncated while it is read gives an error.
"""

import codecs
import hashlib
import os
import stat
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from inspect_pop.core.errors import FileFault, InputFault, PathFault, describe_error

__all__ = ["BOUNDS", "Bounds", "decode_text", "fold_name", "hash_file", "measure_file", "read_bytes", "resolve_inside"]

_MIB = 1 << 20


@dataclass(frozen=True)
class Bounds:
    """Sizes in bytes, pixels and counts above which an input is refused, before it is parsed or decoded.

    A board at full size (nine slices of 3,000 x 3,000 pixels, float32) needs 324 MB decoded, which these bounds allow. File
    and decoded pixels together stay under 1 GB, the most that a worker needs for one image.
    """

    manifest_bytes: int = 4 * _MIB  # 64 images need 30 KB
    recipe_bytes: int = 4 * _MIB
    table_bytes: int = 16 * _MIB  # 20 bytes per joint
    table_joints: int = 50_000  # the largest arrays in use have 1,200
    cad_bytes: int = 64 * _MIB  # a board of 1,000 parts in KiCad or IPC-2581 has 4 MB
    labels_bytes: int = 256 * _MIB  # 80 bytes per joint: 4,000 boards of 820
    image_bytes: int = 384 * _MIB
    image_pixels: int = 200_000_000  # all pages together
    decoded_bytes: int = 512 * _MIB  # all pages together
    image_side_px: int = 65_535  # also the limit of OpenCV's remap
    image_least_px: int = 8  # per side: less cannot show one ball
    image_tag_bytes: int = 4 * _MIB  # one TIFF tag: the offsets of 500,000 strips
    image_tags: int = 65_536  # of all pages together: 64 slices, each with seven reduced pictures, at 100 tags a page
    export_images: int = 256
    export_assumed: int = 4096  # values that a converter found or guessed, some for each image


BOUNDS = Bounds()

_REMEDY = "Check that it exists and can be read."
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def resolve_inside(name: str, start: Path, folder: Path, thing: str) -> Path:
    """Resolve `name`, relative to the folder `start`, to a path that lies in `folder` after all links are followed.

    A backslash separates folders, as on Windows, unless a file of that very name exists. A name that no file has stands for the
    one file whose name differs in case or in Unicode's form alone, as on Windows and macOS. Raises `PathFault`, which names
    `thing`, for an absolute path, of Windows too, one that leaves by `..` or by a link, and one that is no valid path.
    """
    windows = PureWindowsPath(name)
    if Path(name).is_absolute() or windows.drive or windows.root:
        raise PathFault(
            thing, expected=f"a path relative to {start}", found=repr(name), remedy="Name the file relative to its export."
        )
    if "\\" in name and not os.path.lexists(start / name.replace("\0", "")):
        name = name.replace("\\", "/")
    try:
        target, limit = (start / name).resolve(), folder.resolve()
        if target.is_relative_to(limit):
            target = _find_spelling(target, limit).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a circle of links before Python 3.13; a NUL in the name
        raise PathFault(thing, expected="a path to a file", found=f"{name!r}: {describe_error(error)}") from error
    # A target that is still a link leads in a circle, for which Python 3.13 no longer raises.
    if os.path.islink(target):  # noqa: PTH114 - the method raises for a name that is too long
        raise PathFault(thing, expected="a path to a file", found=f"{name!r}: a circle of links")
    if not target.is_relative_to(limit):
        raise PathFault(
            thing, expected=f"a file inside {limit}", found=f"{name!r}, which leads to {target}", remedy="Put the file inside."
        )
    return target


def fold_name(name: str) -> str:
    """Return what names have in common that differ in case or in Unicode's form alone."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _find_spelling(path: Path, limit: Path) -> Path:
    """Return a path in `limit` as it is spelt on the disk, where exactly one name there differs in case or form alone."""
    if os.path.lexists(path) or path == limit:
        return path
    parent = _find_spelling(path.parent, limit)
    try:
        same = [entry.name for entry in os.scandir(parent) if fold_name(entry.name) == fold_name(path.name)]
    except OSError:
        return path
    return parent / (same[0] if len(same) == 1 else path.name)


def measure_file(path: Path, fault: type[InputFault] = FileFault) -> int:
    """Return the size in bytes of a regular file, without opening it: opening a device can already have an effect.

    Raises `fault` for what is missing, out of reach, a folder, pipe, socket or device.
    """
    try:
        info = path.stat()
    except (OSError, ValueError) as error:  # a ValueError where the name holds a NUL
        raise fault(str(path), expected="a readable file", found=describe_error(error), remedy=_REMEDY) from error
    if not stat.S_ISREG(info.st_mode):
        kind = "a folder" if stat.S_ISDIR(info.st_mode) else "a pipe, socket or device"
        raise fault(str(path), expected="a file", found=kind)
    return info.st_size


def read_bytes(path: Path, limit_bytes: int, fault: type[InputFault] = FileFault) -> bytes:
    """Read a regular file of at most `limit_bytes`, once; never wait for a pipe or a device.

    Raises `fault` for what is missing, unreadable, not a regular file, empty, too large, or changes its size meanwhile.
    """
    size = measure_file(path, fault)
    if size > limit_bytes:
        raise fault(str(path), expected=f"at most {limit_bytes:,} bytes", found=f"{size:,}", remedy="Nothing was read.")
    try:
        with os.fdopen(os.open(path, _FLAGS), "rb", buffering=0) as file:
            parts: list[bytes] = []
            left = size + 1  # one byte more shows that the file grows
            while left > 0 and (part := os.read(file.fileno(), left)):
                parts.append(part)
                left -= len(part)
    except OSError as error:
        raise fault(str(path), expected="a readable file", found=describe_error(error), remedy=_REMEDY) from error
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    if len(data) != size:
        found = f"{len(data):,} or more" if len(data) > size else f"{len(data):,}"
        raise fault(
            str(path),
            expected=f"{size:,} bytes",
            found=found,
            remedy="It changed while it was read: try again when it is complete.",
        )
    if not data:
        raise fault(str(path), expected="content", found="an empty file", remedy="It was never completed: write it again.")
    return data


def decode_text(path: Path, data: bytes, fault: type[InputFault]) -> str:
    """Decode the bytes of the file `path` as UTF-8, with or without a byte order mark, or as UTF-16 with one. Raises `fault`."""
    try:
        return data.decode("utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"byte 0x{data[error.start]:02x} at {error.start}"
        raise fault(str(path), expected="UTF-8 text", found=found, remedy="Save it as UTF-8.") from error


def hash_file(path: Path, limit_bytes: int) -> str:
    """Return the sha256 of a file, in hexadecimal. Raises `FileFault` as `read_bytes` does."""
    return hashlib.sha256(read_bytes(path, limit_bytes)).hexdigest()

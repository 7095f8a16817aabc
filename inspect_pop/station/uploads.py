"""Boards that are uploaded as a zip, unpacked within limits: nothing that an archive claims about itself is trusted.

The inspecting process imports this module: it loads no web framework.
"""

import errno
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from inspect_pop.core.errors import FileFault, PathFault, StoreFault
from inspect_pop.ingest.contract import MANIFEST

__all__ = ["ArchiveLimits", "make_disk_fault", "unpack"]

CHUNK_BYTES = 1 << 20
_EXPECTED_ZIP = "a complete zip, stored or deflated, not encrypted"


@dataclass(frozen=True)
class ArchiveLimits:
    """How much an upload may unpack to. Bytes are counted as they come out, whatever the archive's directory claims.

    Attributes:
        files: Most files and folders.
        total_bytes: Most bytes in all files.
        ratio: Most unpacked bytes per packed byte, once more than `ratio_from_bytes` came out. An empty slice packs a
            thousandfold; a zip bomb does so for a gigabyte.
        depth: Most folders above a file, itself included.
        name_length: Most bytes of a name.
    """

    files: int = 1000
    total_bytes: int = 4 << 30
    ratio: float = 200.0
    ratio_from_bytes: int = 64 << 20
    depth: int = 8
    name_length: int = 200


def unpack(archive: Path, into: Path, limits: ArchiveLimits) -> Path:
    """Unpack a zip and return the folder of the one board in it.

    Args:
        archive: The zip.
        into: An existing, empty folder.
        limits: How much the archive may hold.

    Raises:
        FileFault: The archive is broken, encrypted or too large, or it holds no board or several.
        PathFault: A name leaves the folder, or is a link or device.
        StoreFault: The disk has no room.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            _extract_all(packed, into, limits)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OverflowError, RuntimeError) as error:
        raise FileFault("the upload", expected=_EXPECTED_ZIP, found=str(error)) from error
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise make_disk_fault(error) from error
        raise FileFault("the upload", expected=_EXPECTED_ZIP, found="a position outside the file") from error
    boards = sorted(path.parent for path in into.rglob(MANIFEST))
    if len(boards) != 1:
        raise FileFault("the upload", expected=f"one board, that is one {MANIFEST}", found=str(len(boards)))
    return boards[0]


def _extract_all(packed: zipfile.ZipFile, into: Path, limits: ArchiveLimits) -> None:
    members = packed.infolist()
    if len(members) > limits.files:
        raise FileFault("the upload", expected=f"at most {limits.files} files", found=str(len(members)))
    declared = sum(m.file_size for m in members)
    if declared > limits.total_bytes:
        raise FileFault("the upload", expected=f"at most {limits.total_bytes} bytes unpacked", found=f"{declared} declared")
    n_bytes = packed_bytes = 0
    for member in members:
        target = into / _check_name(member, limits)
        is_folder = member.orig_filename.endswith(("/", "\\"))
        if not is_folder and member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FileFault("the upload", expected=_EXPECTED_ZIP, found=f"compression method {member.compress_type}")
        try:
            (target if is_folder else target.parent).mkdir(parents=True, exist_ok=True)
            sink = None if is_folder else target.open("xb")
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
            found = "a name that occurs twice, or for a file and a folder"
            raise FileFault(f"the upload: {member.filename}", expected="each name once", found=found) from error
        if sink is not None:
            packed_bytes += member.compress_size
            with sink, packed.open(member) as source:
                n_bytes = _copy(source, sink, n_bytes, packed_bytes, limits)


def _check_name(member: zipfile.ZipInfo, limits: ArchiveLimits) -> PurePosixPath:
    """Return a member's name as a path that stays within the folder it is unpacked into.

    A backslash separates folders: older programs of Windows write it, which the format of zips does not allow in a name.
    """
    name = member.orig_filename.replace("\\", "/")
    path = PurePosixPath(name)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise PathFault(f"the upload: {name}", expected="files and folders", found="a link or device")
    if path.is_absolute() or ".." in path.parts or any(c in name for c in ":\0") or not path.parts:
        raise PathFault(f"the upload: {name!r}", expected="a name that stays inside the archive")
    if len(path.parts) > limits.depth or len(name.encode()) > limits.name_length:
        raise PathFault(
            f"the upload: {name[:80]!r}", expected=f"at most {limits.depth} folders deep and {limits.name_length} bytes long"
        )
    return path


def _copy(source: IO[bytes], sink: IO[bytes], n_bytes: int, packed_bytes: int, limits: ArchiveLimits) -> int:
    """Unpack one member. Takes and returns the number of bytes unpacked so far."""
    while chunk := source.read(CHUNK_BYTES):
        n_bytes += len(chunk)
        is_bomb = n_bytes > limits.ratio_from_bytes and n_bytes > limits.ratio * max(1, packed_bytes)
        if n_bytes > limits.total_bytes or is_bomb:
            raise FileFault(
                "the upload",
                expected=f"at most {limits.total_bytes} bytes and {limits.ratio:g} times the packed size",
                found="a zip bomb",
            )
        sink.write(chunk)
    return n_bytes


def make_disk_fault(error: OSError) -> StoreFault:
    """Return the fault for a temporary folder that cannot be written. It is not the sender's, who should try again."""
    remedy = "Free space in the folder for temporary files (TMPDIR), then send the board again."
    return StoreFault("the folder for uploads", expected="a folder that can be written", found=str(error), remedy=remedy)

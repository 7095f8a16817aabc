"""One board as an uploaded zip, unpacked within limits: nothing it claims is believed.

A board that comes over the wire: a zip as multipart `file`, kept in a folder of its own until it has been inspected.
"""

import asyncio
import errno
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from inspect_pop.core.errors import FileFault, PathFault, StoreFault

__all__ = ["ArchiveLimits", "Upload", "no_room", "received", "unpack"]

# ---- station/archive
CHUNK = 1 << 20
MANIFEST = "export.json"
_WHOLE = "a whole zip, stored or deflated, not encrypted"


@dataclass(frozen=True)
class ArchiveLimits:
    """How much an upload may unpack to; bytes are counted as they come out, whatever the directory claims.

    `ratio` bounds unpacked over packed size once more than `ratio_from_bytes` came out: an empty slice packs a
    thousandfold, a bomb does so for a gigabyte.
    """

    files: int = 1000
    total_bytes: int = 4 << 30
    ratio: float = 200.0
    ratio_from_bytes: int = 64 << 20
    depth: int = 8
    name_length: int = 200


def unpack(archive: Path, into: Path, limits: ArchiveLimits) -> Path:
    """Unpack a zip below `into` (which exists and is empty); returns the folder of the one board in it.

    Raises `FileFault` for a broken, encrypted or oversized archive, and for none or several boards; `PathFault` for a
    name that leaves the folder, and for links; `StoreFault` where the disk has no room.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            _unpack_all(packed, into, limits)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OverflowError, RuntimeError) as error:
        raise FileFault("the upload", expected=_WHOLE, found=str(error)) from error
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise no_room(error) from error
        raise FileFault("the upload", expected=_WHOLE, found="a position outside the file") from error
    boards = sorted(path.parent for path in into.rglob(MANIFEST))
    if len(boards) != 1:
        raise FileFault("the upload", expected=f"one board, that is one {MANIFEST}", found=str(len(boards)))
    return boards[0]


def no_room(error: OSError) -> StoreFault:
    """The place for uploads cannot be written, which is not the sender's doing: it is told to come again."""
    remedy = "Make room where temporary files lie (TMPDIR), then send the board again."
    return StoreFault("the place for uploads", expected="a folder that can be written", found=str(error), remedy=remedy)


def _unpack_all(packed: zipfile.ZipFile, into: Path, limits: ArchiveLimits) -> None:
    members = packed.infolist()
    if len(members) > limits.files:
        raise FileFault("the upload", expected=f"at most {limits.files} files", found=str(len(members)))
    declared = sum(m.file_size for m in members)
    if declared > limits.total_bytes:
        raise FileFault("the upload", expected=f"at most {limits.total_bytes} bytes unpacked", found=f"{declared} declared")
    out = packed_bytes = 0
    for member in members:
        target = into / _safe_name(member, limits)
        if member.is_dir():
            _folder(target, member.filename)
            continue
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FileFault("the upload", expected=_WHOLE, found=f"compression method {member.compress_type}")
        _folder(target.parent, member.filename)
        packed_bytes += member.compress_size
        with packed.open(member) as source, _new_file(target, member.filename) as sink:
            out = _copy(source, sink, out, packed_bytes, limits)


def _safe_name(member: zipfile.ZipInfo, limits: ArchiveLimits) -> PurePosixPath:
    name = member.orig_filename
    path = PurePosixPath(name)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise PathFault(f"the upload: {name}", expected="files and folders", found="a link or device")
    if path.is_absolute() or ".." in path.parts or any(c in name for c in "\\:\0") or not path.parts:
        raise PathFault(f"the upload: {name!r}", expected="a name that stays inside the archive")
    if len(path.parts) > limits.depth or len(name.encode()) > limits.name_length:
        raise PathFault(
            f"the upload: {name[:80]!r}", expected=f"at most {limits.depth} folders deep and {limits.name_length} bytes long"
        )
    return path


def _folder(target: Path, name: str) -> None:
    try:
        target.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise FileFault(f"the upload: {name}", expected="each name once", found="a folder with the name of a file") from error


def _new_file(target: Path, name: str) -> IO[bytes]:
    try:
        return target.open("xb")
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise FileFault(f"the upload: {name}", expected="each name once") from error


def _copy(source: IO[bytes], sink: IO[bytes], out: int, packed_bytes: int, limits: ArchiveLimits) -> int:
    while chunk := source.read(CHUNK):
        out += len(chunk)
        if out > limits.total_bytes or (out > limits.ratio_from_bytes and out > limits.ratio * max(1, packed_bytes)):
            raise FileFault(
                "the upload",
                expected=f"at most {limits.total_bytes} bytes and {limits.ratio:g} times the packed size",
                found="a zip bomb",
            )
        sink.write(chunk)
    return out


# ---- station/uploads
FIELD = "file"


class Upload:
    """Where the archive lies, what its sender called it, and the empty folder to unpack it into."""

    def __init__(self, folder: Path, name: str) -> None:
        self.archive, self.into, self.name = folder / "upload.zip", folder / "board", name


@asynccontextmanager
async def received(request: Request) -> AsyncIterator[Upload]:
    """The upload on disk; it is gone when the block ends.

    HTTPException 422 where the form is no such form, `StoreFault` where the disk has no room.
    """
    try:
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="inspect_pop-"))
    except OSError as error:
        raise no_room(error) from error
    try:
        yield await _kept(request, folder)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _kept(request: Request, folder: Path) -> Upload:
    try:
        form = await request.form(max_files=1, max_fields=0)
    except HTTPException as error:
        if error.status_code != 400:
            raise
        raise HTTPException(422, f"a multipart form with one file '{FIELD}': {error.detail}") from error
    except OSError as error:
        raise no_room(error) from error
    try:
        part = form.get(FIELD)
        if not isinstance(part, UploadFile):
            raise HTTPException(422, f"a multipart form with one file '{FIELD}'")
        upload = Upload(folder, part.filename or "unnamed")
        await asyncio.to_thread(_write, part, upload)
        return upload
    finally:
        await form.close()


def _write(part: UploadFile, upload: Upload) -> None:
    try:
        upload.into.mkdir()
        with upload.archive.open("xb") as file:
            shutil.copyfileobj(part.file, file, 1 << 20)
    except OSError as error:
        raise no_room(error) from error

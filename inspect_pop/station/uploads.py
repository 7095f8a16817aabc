"""A board that comes over the wire: a zip as multipart `file`, kept in a folder of its own until it has been inspected."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from inspect_pop.station.archive import no_room

__all__ = ["Upload", "received"]

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

"""Atomic files: written under a temporary name in the same folder, then renamed, so that they appear whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["PART_SUFFIX", "atomic_file", "sync_folder", "write_bytes", "write_text"]

PART_SUFFIX = ".part"


@contextmanager
def atomic_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a path to write to; move it to `path` when the block ends without an error, remove it otherwise.

    Args:
        path: Where the file appears. Its folder must exist. An older file there is replaced.
        durable: Whether the file and its folder are synced to disk before this returns.

    Raises:
        OSError: The file cannot be written or moved.
    """
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}{PART_SUFFIX}")
    try:
        yield part
        if durable:
            with part.open("rb") as file:
                os.fsync(file.fileno())
        part.replace(path)
        if durable:
            sync_folder(path.parent)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def write_bytes(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write a whole file atomically. Raises `OSError`."""
    with atomic_file(path, durable=durable) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Write a whole text file in UTF-8 atomically, line ends kept as they are. Raises `OSError`."""
    write_bytes(path, text.encode("utf-8"), durable=durable)


def sync_folder(folder: Path) -> None:
    """Sync a folder's entries to disk, where the system supports it."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

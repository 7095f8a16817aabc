"""What the operating system gives: the clock, the standard streams, and files that appear whole or not at all."""

import io
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

__all__ = [
    "LARGEST_AHEAD_S",
    "PART_SUFFIX",
    "atomic_file",
    "open_missing_streams",
    "sync_folder",
    "utc_now",
    "write_answer_line",
    "write_bytes",
    "write_text",
]

# A wrong time zone moves a clock by 14 hours at most, a wrong time of day by 24; what is further ahead is a wrong date.
LARGEST_AHEAD_S = 86_400.0


def utc_now(timespec: str = "milliseconds") -> str:
    """Return the time now as ISO 8601 text in UTC, such as `2026-03-02T14:05:09.120+00:00`."""
    return datetime.now(UTC).isoformat(timespec=timespec)


# The standard streams: there whatever started the program, and written in UTF-8 whatever encoding they were opened with.
#
# This module imports the standard library only: the hook process imports it.


_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))  # their descriptors are 0, 1 and 2


def open_missing_streams() -> frozenset[str]:
    """Open the null device for each standard stream that is closed, and return the names of those that were.

    Without this, the next file that the process opens takes the free descriptor, and a child process has no stream at all.
    A sign that the other streams' encoding lacks is written as an escape from now on.
    """
    missing: set[str] = set()
    for descriptor, (name, mode) in enumerate(_STREAMS):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
            os.set_inheritable(null, True)
        stream = getattr(sys, name)
        if stream is None:
            missing.add(name)
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 (open until the process ends)
        elif isinstance(stream, io.TextIOWrapper) and mode == "w":
            stream.reconfigure(errors="backslashreplace")
    return frozenset(missing)


def write_answer_line(line: str) -> None:
    """Write one line to standard output in UTF-8, at once. A lone surrogate becomes its JSON escape. Raises `OSError`."""
    left = memoryview((line + "\n").encode("utf-8", "backslashreplace"))
    while left:
        left = left[os.write(1, left) :]


# Atomic files: written under a temporary name in the same folder, then renamed, so that they appear whole or not at all.


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

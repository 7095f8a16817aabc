"""Memory and threads of a process that inspects one board after the other.

Arrays of some megabytes come and go with every board. glibc gives such memory back to the system at once and requests it
again, and the system clears it each time. With glibc's thresholds raised it stays with the process, in one arena, whichever
thread works. Measured over 36 inspections of boards of 820 joints in one process: 38.9 s of processor time (0.7 s of it in the
system), 469 MiB at most; without, 42.5 to 43.8 s (3.0 to 3.6 s in the system), 440 to 460 MiB. On boards of 88 joints both take
the same (7.7 s, 273 MiB).

The environment variables MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_ and MALLOC_ARENA_MAX do as well (38.6 s, 464 MiB), but
only if they are set before a process starts. `mallopt` (by ctypes) also reaches `run --jobs 1`, a cluster's workers and
programs that call the package, which start without them.
"""

import ctypes
import gc
import os
from itertools import count
from pathlib import Path

import cv2

__all__ = ["release_between_boards", "release_memory", "tune_process"]

# Parameters of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_NEVER = 1 << 30
_RELEASE_EVERY = 32  # boards: requesting the memory again costs one board 20 ms
_GROWTH_BYTES = 40 << 20  # more than boards of one kind differ by
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_STATM = Path("/proc/self/statm")
_boards = count(1)


def tune_process() -> None:
    """Keep freed memory in the process and OpenCV in one thread. Call it once per process, before its first board.

    Does nothing to memory where the C library is not glibc.
    """
    cv2.setNumThreads(1)
    if _has_glibc():
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in ((_MMAP_THRESHOLD, _NEVER), (_TRIM_THRESHOLD, _NEVER), (_ARENA_MAX, 1)):
            mallopt(parameter, value)


def release_between_boards() -> None:
    """Release memory after the first board, after every 32nd, and where the process has grown by a leap. Call it after each.

    A board's largest arrays may find no gap among those that earlier boards left, and the memory grows by as much.
    """
    board = next(_boards)
    if board == 1 or board % _RELEASE_EVERY == 0 or _peak.has_grown(_resident_bytes()):
        release_memory()
    if board == 1:
        gc.freeze()  # libraries and model stay: collecting through them takes 60 ms each time


def release_memory() -> None:
    """Collect unreachable objects and give free memory back to the system.

    What a board leaves behind lies scattered over the retained memory, which grows around it, and Python by itself collects
    unreachable objects only after some hundred boards: 20 MB. Where the C library is not glibc, this only collects.
    """
    gc.collect()
    if _has_glibc():
        ctypes.CDLL(None).malloc_trim(0)


class _PeakMemory:
    """The most memory that the process has held after a board so far."""

    def __init__(self) -> None:
        self.peak: int | None = None

    def has_grown(self, resident: int) -> bool:
        """Whether the process holds much more memory (bytes) after this board than after any before."""
        before = resident if self.peak is None else self.peak
        self.peak = max(before, resident)
        return resident > before + _GROWTH_BYTES


_peak = _PeakMemory()


def _resident_bytes() -> int:
    """Return the bytes of memory that the process holds now; 0 where the system does not say."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def _has_glibc() -> bool:
    return "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", ())

"""A process that inspects one board after the other keeps to one core, and keeps the memory that each of them needs."""

import ctypes
import gc
import os
from itertools import count
from pathlib import Path

import cv2

__all__ = ["between_boards", "give_back", "settle_on_one_core"]

# Parameters of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_NEVER = 1 << 30
_GIVE_BACK_EVERY = 32  # boards: asking for the memory anew costs one board 20 ms
_GROWTH = 40 << 20  # bytes: more than boards of one kind differ by
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_STATM = Path("/proc/self/statm")
_boards = count(1)


def settle_on_one_core() -> None:
    """Once a process, before its first board.

    Arrays of some megabytes come and go with every board. glibc gives such memory back to the system at once and asks for it
    anew, and the system clears it each time: a tenth of a board's time. With the thresholds raised it stays with the
    process, in one arena, whichever thread works. Does nothing where the C library is another one.
    """
    cv2.setNumThreads(1)
    if _with_glibc():
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in ((_MMAP_THRESHOLD, _NEVER), (_TRIM_THRESHOLD, _NEVER), (_ARENA_MAX, 1)):
            mallopt(parameter, value)


def between_boards() -> None:
    """After each board: now and then, and where it has grown by leaps, memory is given back.

    A board's largest arrays may find no gap among those that boards before them left, and the memory grows by as much.
    """
    board = next(_boards)
    if board == 1 or board % _GIVE_BACK_EVERY == 0 or _most.has_grown(_resident()):
        give_back()
    if board == 1:
        gc.freeze()  # libraries and model are here to stay: to look through them takes 60 ms each time


class _Most:
    """The most that the process has held after a board so far."""

    def __init__(self) -> None:
        self.held: int | None = None

    def has_grown(self, held: int) -> bool:
        """Whether it holds much more after this board, in bytes, than after any before."""
        before = held if self.held is None else self.held
        self.held = max(before, held)
        return held > before + _GROWTH


_most = _Most()


def _resident() -> int:
    """Bytes of memory that the process holds now; 0 where that is not told."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * _PAGE
    except OSError:
        return 0


def give_back() -> None:
    """Give memory that nothing lies in, or only what nobody can reach, back to the system.

    What a board leaves behind lies scattered over the memory that was kept, which grows around it, and Python looks for what
    cannot be reached only after some hundred boards: 20 MB. With another C library than glibc only that is done.
    """
    gc.collect()
    if _with_glibc():
        ctypes.CDLL(None).malloc_trim(0)


def _with_glibc() -> bool:
    return "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", ())

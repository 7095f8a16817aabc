"""A process that inspects one board after the other keeps to one core, and keeps the memory that each of them needs."""

import ctypes
import os

import cv2

__all__ = ["give_back", "settle_on_one_core"]

# Parameters of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_NEVER = 1 << 30


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


def give_back() -> None:
    """Now and then, between boards: give memory that nothing lies in back to the system.

    What a board leaves behind lies scattered over the memory that was kept, which grows around it: by 2 MB in a hundred
    boards. The next board asks for what it needs anew (`settle_on_one_core`). Does nothing where the C library is another one.
    """
    if _with_glibc():
        ctypes.CDLL(None).malloc_trim(0)


def _with_glibc() -> bool:
    return "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", ())

"""A process that inspects one board after the other keeps to one core, and keeps the memory that each of them needs."""

import ctypes
import os

import cv2

__all__ = ["settle_on_one_core"]

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
    if "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", ()):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in ((_MMAP_THRESHOLD, _NEVER), (_TRIM_THRESHOLD, _NEVER), (_ARENA_MAX, 1)):
            mallopt(parameter, value)

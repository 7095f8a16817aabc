"""The standard streams: there whatever started the program, and written in UTF-8 whatever encoding they were opened with.

This module imports the standard library only: the hook process imports it.
"""

import io
import os
import sys

__all__ = ["open_missing_streams", "write_answer_line"]

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

"""Log lines that no board waits for: a thread writes them, and lines that nobody takes in time are dropped and counted.

A pipe that nobody reads, or a disk that hangs, blocks whoever writes to it. That is the thread here, never the event loop.
"""

import asyncio
import contextlib
import logging
import os
import queue
import threading
import time

__all__ = ["LINES_WAITING", "BackgroundHandler", "log_output"]

LINES_WAITING = 10_000  # of some 300 bytes each
FLUSH_S = 1.0  # a process that ends waits so long for its last lines
_CHUNK_BYTES = 1 << 16


class BackgroundHandler(logging.Handler):
    """A log handler whose caller never waits: a daemon thread writes the lines to a file descriptor.

    Args:
        descriptor: Where the lines go, 2 for standard error.
        lines_waiting: Most lines that wait for the thread. Any more are dropped; the next line that is written has their number.
    """

    def __init__(self, descriptor: int = 2, lines_waiting: int = LINES_WAITING) -> None:
        super().__init__()
        self.n_dropped = 0
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes] = queue.Queue(lines_waiting)
        self._thread = threading.Thread(target=self._write_lines, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a record's line to the thread, or drop it."""
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except (TypeError, ValueError, RecursionError):  # a field that cannot be formatted costs its line only
            self.n_dropped += 1
            return
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.n_dropped += 1

    def flush(self) -> None:
        """Wait for the lines that wait, at most a second."""
        until = time.monotonic() + FLUSH_S
        while self._lines.unfinished_tasks and time.monotonic() < until:
            time.sleep(0.01)

    def _write_lines(self) -> None:
        n_reported = 0
        while True:
            line = self._lines.get()
            n_dropped = self.n_dropped
            if n_dropped > n_reported:
                lost = logging.makeLogRecord({"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING"})
                lost.msg, lost.__dict__["lines"] = "log lines were dropped: nobody took them in time", n_dropped - n_reported
                line = self.format(lost).encode() + b"\n" + line
            if self._write(line):
                n_reported = n_dropped
            else:
                self.n_dropped += 1
            self._lines.task_done()

    def _write(self, line: bytes) -> bool:
        """Write a whole line. Return False if its reader is gone or its disk is full."""
        view = memoryview(line)
        with contextlib.suppress(OSError):
            while view:
                view = view[os.write(self._descriptor, view) :]
            return True
        return False


async def log_output(stream: asyncio.StreamReader, log: logging.Logger) -> None:
    """Log what a process prints until its end of the pipe closes, so that it never waits for a reader of the log."""
    while chunk := await stream.read(_CHUNK_BYTES):
        log.warning(chunk.decode("utf-8", "backslashreplace").strip())

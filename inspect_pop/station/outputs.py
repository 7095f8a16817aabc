"""What an inspection leaves behind: its record with messages (the ledger), and the board's page.

Both are written either in the inspecting process or in a child that is forked from it, before it loads heavy libraries.
"""

import gc
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from inspect_pop.core.errors import InputFault, PopError, StoreFault
from inspect_pop.core.inspection import Inspection
from inspect_pop.core.recipe import Recipe
from inspect_pop.core.system import utc_now

if TYPE_CHECKING:
    from inspect_pop.verify.windows import WindowSet

__all__ = ["ForkedProcess", "InlinePages", "Ledger", "PageDrawer", "StoreLedger", "SubprocessLedger", "SubprocessPages"]

BOARDS_PER_CHECKPOINT = 8  # of 300 kB in the log; SQLite itself makes a checkpoint, within a write, at 4 MB
FAULT_PARTS = ("thing", "expected", "found", "remedy")
NICENESS = 10  # of 20 steps: inspecting processes go first
PAGE_S = 10.0  # a page takes a tenth of a second
log = logging.getLogger(__name__)


class Ledger(Protocol):
    """Records what became of a board, all or nothing. What `record` and `quarantine` wrote is durable when they return.

    Raises:
        StoreFault: The store cannot be written.
    """

    def record(self, inspection: Inspection) -> None:
        """Record an inspection with its messages."""
        ...

    def quarantine(self, name: str, fault: InputFault, serial: str | None = None, content: str | None = None) -> None:
        """Record that a board could not be inspected, with the message that says so.

        Serial and content (the manifest's digest) are None where the manifest cannot be read.
        """
        ...

    def tidy(self) -> None:
        """Do the upkeep that the next board should not wait for. Call it while no board waits."""
        ...

    def count_sample(self) -> int:
        """Return at how many joints that passed a person looks on each board."""
        ...

    def keep_windows(self, windows: "WindowSet") -> None:
        """Keep what a person sees of a record's joints. No record depends on it: call it after the answer."""
        ...


class PageDrawer(Protocol):
    """Writes the boards' pages. A page is not a record: a fault is logged and costs no verdict."""

    def draw(self, page: Path, inspection: Inspection, recipe: Recipe) -> None:
        """Write a board's page, now or soon, unless the file exists."""
        ...

    def close(self) -> None:
        """Finish the page in progress."""
        ...


class ForkedProcess:
    """A child process, forked from this one, at the other end of a pipe. It ends when the pipe closes.

    Args:
        serve: What the child runs, with its end of the pipe. Its standard output goes to standard error, so that a reader of
            this process's answers does not wait for it.
    """

    def __init__(self, serve: Callable[[Connection], None]) -> None:
        context = get_context("fork")
        self.pipe, childs_end = context.Pipe()

        def run() -> None:
            self.pipe.close()
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            os.dup2(2, 1)
            serve(childs_end)

        self.process = context.Process(target=run, daemon=True)
        self.process.start()
        childs_end.close()

    @staticmethod
    def is_supported() -> bool:
        """Return whether this system can fork."""
        return "fork" in get_all_start_methods()


class StoreLedger:
    """The ledger in a store.

    Args:
        store: Path or address of the store.
        cfx_handle: This station's name in messages.
    """

    def __init__(self, store: str, cfx_handle: str) -> None:
        # Store and messages take half a second to import: see `SubprocessLedger`.
        from inspect_pop.messages import from_fault, pending_messages
        from inspect_pop.store import QuarantinedExport, open_store

        self._store, self._cfx_handle = open_store(store), cfx_handle
        self._make_messages, self._make_fault_message, self._quarantined = pending_messages, from_fault, QuarantinedExport
        self._boards_since_checkpoint = 0

    def record(self, inspection: Inspection) -> None:
        """See `Ledger`."""
        self._store.write(inspection, messages=self._make_messages(inspection, self._cfx_handle))

    def quarantine(self, name: str, fault: InputFault, serial: str | None = None, content: str | None = None) -> None:
        """See `Ledger`."""
        at, reason = utc_now(), str(fault)
        message = self._make_fault_message(name, reason, fault.about, at, self._cfx_handle, serial=serial, content=content)
        self._store.quarantine(self._quarantined(name, reason, at, serial=serial, content=content), messages=[message])

    def checkpoint(self) -> None:
        """Move SQLite's log into the database file."""
        self._store.checkpoint()

    def tidy(self) -> None:
        """See `Ledger`. Not after every board: a checkpoint's writes delay what another process records at that moment."""
        self._boards_since_checkpoint += 1
        if self._boards_since_checkpoint >= BOARDS_PER_CHECKPOINT:
            self._boards_since_checkpoint = 0
            self._store.checkpoint()

    def count_sample(self) -> int:
        """See `Ledger`."""
        return self._store.verify_sample

    def keep_windows(self, windows: "WindowSet") -> None:
        """See `Ledger`."""
        from inspect_pop.verify.windows_file import keep_windows

        keep_windows(self._store, windows)


class SubprocessLedger:
    """The ledger in a forked child, which opens the store while this process loads the model.

    A new process for one board spends most of its time on imports, half of them the store's. On two cores the child halves
    the time to the first answer.
    """

    def __init__(self, store: str, cfx_handle: str) -> None:
        self._child = ForkedProcess(partial(_serve_ledger, store, cfx_handle))

    def record(self, inspection: Inspection) -> None:
        """See `Ledger`. Pictures are not sent: the store keeps none."""
        self._call("record", replace(inspection, crops=None, heights=(), stacks=()))

    def quarantine(self, name: str, fault: InputFault, serial: str | None = None, content: str | None = None) -> None:
        """See `Ledger`."""
        parts = {part: getattr(fault, part) for part in FAULT_PARTS}
        self._call("quarantine", name, type(fault), parts, serial, content)

    def tidy(self) -> None:
        """See `Ledger`. The child ends after one board: the store is whole then, also for those who copy its file alone."""
        self._call("tidy")

    def count_sample(self) -> int:
        """See `Ledger`."""
        return self._call("count_sample") or 0

    def keep_windows(self, windows: "WindowSet") -> None:
        """See `Ledger`."""
        self._call("keep_windows", windows)

    def _call(self, *request: Any) -> int | None:
        try:
            self._child.pipe.send(request)
            answer, fault = self._child.pipe.recv()
        except (OSError, EOFError) as error:
            raise StoreFault("the store", expected="an answer", found="its process ended") from error
        if fault is not None:
            raise StoreFault(**fault)
        return None if answer is None else int(answer)


def _serve_ledger(store: str, cfx_handle: str, pipe: Connection) -> None:
    """Answer requests of a `SubprocessLedger`: with a number or None, and None or the parts of a `StoreFault`."""
    ledger: StoreLedger | None = None
    fault: PopError | None = None
    try:
        ledger = StoreLedger(store, cfx_handle)
    except StoreFault as open_fault:
        fault = open_fault
    while True:
        try:
            action, *arguments = pipe.recv()
        except EOFError:
            return
        answer = None
        if ledger is not None:
            fault = None
            try:
                if action == "record":
                    ledger.record(*arguments)
                elif action == "tidy":
                    ledger.checkpoint()
                elif action == "count_sample":
                    answer = ledger.count_sample()
                elif action == "keep_windows":
                    ledger.keep_windows(*arguments)
                else:
                    name, kind, parts, serial, content = arguments
                    ledger.quarantine(name, kind(**parts), serial, content)
            except StoreFault as write_fault:
                fault = write_fault
        pipe.send((answer, None if fault is None else {part: getattr(fault, part) for part in FAULT_PARTS}))


class InlinePages:
    """Draws pages at once, in this process."""

    def draw(self, page: Path, inspection: Inspection, recipe: Recipe) -> None:
        """See `PageDrawer`."""
        from inspect_pop.report.board_page import render_board_page  # an answer does not need the pages' templates
        from inspect_pop.report.write import write_page

        try:
            if not page.exists():
                write_page(page, render_board_page(inspection, recipe))
        except (StoreFault, OSError) as fault:
            log.error("a page was not written", extra={"reason": str(fault)})

    def close(self) -> None:
        """See `PageDrawer`."""


class SubprocessPages:
    """Draws pages in a forked child while this process takes the next board; its memory stays free of drawing.

    At most one page is in progress, so pages do not pile up. If the child dies or hangs, its page may be missing, and later
    pages are drawn in this process.
    """

    def __init__(self) -> None:
        self._child = ForkedProcess(_serve_pages)
        self._is_drawing, self._inline = False, InlinePages()

    def draw(self, page: Path, inspection: Inspection, recipe: Recipe) -> None:
        """See `PageDrawer`. Waits for the page before."""
        if self._wait_until_free():
            try:
                self._child.pipe.send((page, inspection, recipe))
            except OSError:
                self._give_up()
            else:
                self._is_drawing = True
                return
        self._inline.draw(page, inspection, recipe)

    def close(self) -> None:
        """See `PageDrawer`."""
        self._wait_until_free()
        self._child.pipe.close()

    def _wait_until_free(self) -> bool:
        """Wait for the page in progress. Return whether the child can draw another one."""
        pipe = self._child.pipe
        if pipe.closed:
            return False
        try:
            if self._is_drawing and not pipe.poll(PAGE_S):
                self._give_up()
                return False
            if self._is_drawing:
                pipe.recv()
        except (OSError, EOFError):
            self._give_up()
            return False
        self._is_drawing = False
        return True

    def _give_up(self) -> None:
        log.error("the process that draws pages died or hangs; the inspecting process draws them from now on")
        self._child.process.kill()
        self._child.pipe.close()


def _serve_pages(pipe: Connection) -> None:
    os.nice(NICENESS)
    gc.enable()
    pages = InlinePages()
    while True:
        try:
            page, inspection, recipe = pipe.recv()
        except EOFError:
            return
        pages.draw(page, inspection, recipe)
        try:
            pipe.send(True)
        except OSError:
            return

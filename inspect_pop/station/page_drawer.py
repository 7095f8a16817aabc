"""The boards' pages, drawn by a process of its own: the inspecting one takes the next board, its memory as inspecting left it.

At most one page is on its way while the next board is inspected, so pages never pile up. A page is no record: where its
process dies or hangs the page may be missing, and later ones are drawn in the inspecting process.
"""

import gc
import logging
import os
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from inspect_pop.core.errors import StoreFault
from inspect_pop.core.inspection import Inspection
from inspect_pop.core.recipe import Recipe

__all__ = ["Apart", "Here", "Pages"]

GIVE_WAY = 10  # of 20 steps of `nice`: whoever inspects goes first
PAGE_S = 10.0  # a page takes a tenth of a second
log = logging.getLogger(__name__)


class Pages(Protocol):
    """Who draws pages."""

    def draw(self, page: Path, inspection: Inspection, recipe: Recipe) -> None:
        """Write this board's page, now or soon, if it is not there; a disk that refuses is logged and costs no verdict."""
        ...

    def close(self) -> None:
        """Finish what was begun."""
        ...


class Here:
    """Pages are drawn at once, by whoever asks."""

    def draw(self, page: Path, inspection: Inspection, recipe: Recipe) -> None:
        """See `Pages`."""
        from inspect_pop.report.board_page import board_page  # the pages' templates are not needed to answer
        from inspect_pop.report.write import write_page

        try:
            if not page.exists():
                write_page(page, board_page(inspection, recipe))
        except (StoreFault, OSError) as fault:
            log.error("a page was not written", extra={"reason": str(fault)})

    def close(self) -> None:
        """See `Pages`."""


class Apart:
    """Pages are drawn by a process that is forked here: before heavy libraries are loaded and pipes are opened."""

    def __init__(self) -> None:
        self._pipe, theirs = get_context("fork").Pipe()
        self._process = get_context("fork").Process(target=_serve, args=(theirs, self._pipe), daemon=True)
        self._process.start()
        theirs.close()
        self._at_work, self._instead = False, Here()

    @staticmethod
    def can() -> bool:
        """Whether this system can fork."""
        return "fork" in get_all_start_methods()

    def draw(self, page: Path, inspection: Inspection, recipe: Recipe) -> None:
        """See `Pages`; waits for the page before."""
        if self._is_free():
            try:
                self._pipe.send((page, inspection, recipe))
            except OSError:
                self._give_up()
            else:
                self._at_work = True
                return
        self._instead.draw(page, inspection, recipe)

    def close(self) -> None:
        """See `Pages`."""
        self._is_free()
        self._pipe.close()

    def _is_free(self) -> bool:
        """Whether the process is there and the page before is written."""
        if self._pipe.closed:
            return False
        try:
            if self._at_work and not self._pipe.poll(PAGE_S):
                self._give_up()
                return False
            if self._at_work:
                self._pipe.recv()
        except (OSError, EOFError):
            self._give_up()
            return False
        self._at_work = False
        return True

    def _give_up(self) -> None:
        log.error("the process that draws pages died or hangs; pages are drawn while the next board waits")
        self._process.kill()
        self._pipe.close()


def _serve(pipe: Connection, theirs: Connection) -> None:
    theirs.close()
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)  # whoever reads the answers must not wait for this process
    os.nice(GIVE_WAY)
    gc.enable()
    here = Here()
    while True:
        try:
            page, inspection, recipe = pipe.recv()
        except EOFError:
            return
        here.draw(page, inspection, recipe)
        try:
            pipe.send(True)
        except OSError:
            return

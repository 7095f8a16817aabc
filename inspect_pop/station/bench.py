"""One inspection for the line: inspect, record with its messages, answer; then have the board's page drawn.

An answer other than 'could not inspect' is given only after the record and its messages are in the store. What cannot be
used goes to quarantine. The page is drawn after the answer: the board on the line does not wait for it.
"""

import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inspect_pop.errors import FileFault, InputFault, PopError, StoreFault
from inspect_pop.ingest import default_root
from inspect_pop.inspection import Inspection
from inspect_pop.recipe import Recipe
from inspect_pop.station import answer
from inspect_pop.station.archive import ArchiveLimits, unpack
from inspect_pop.station.ledger import Ledger
from inspect_pop.station.pages import Here, Pages

__all__ = ["OK", "UNAVAILABLE", "UNUSABLE", "Bench", "Inspector", "Maker", "page_path"]

# (the board's folder, the root its files must lie in) -> what was found, and the recipe that its page needs; raises PopError
Inspector = Callable[[Path, Path], tuple[Inspection, Recipe | None]]
Maker = Callable[[Path | None, Path | None], tuple[Inspector, str]]  # (model, limits) -> inspector, the model's digest

OK, UNUSABLE, UNAVAILABLE = 200, 422, 503  # HTTP's words for: decided, something is wrong with the board, try again
Reply = dict[str, Any]
log = logging.getLogger(__name__)


class Bench:
    """An inspector, a ledger and a folder for pages, and the jobs that are done with them."""

    def __init__(
        self, inspector: Inspector, model: str, ledger: Ledger, *, pages: Path | None, drawer: Pages | None = None
    ) -> None:
        self._inspector, self.model, self._ledger, self._pages = inspector, model, ledger, pages
        self._drawer = drawer or Here()
        self._unwritten: tuple[Path, Inspection, Recipe] | None = None

    def do(self, job: dict[str, Any]) -> Reply:
        """One job: `inspect` (path, root) or `upload` (path, into, limits).

        The reply has an HTTP status, the answer and, for a board that was inspected, the milliseconds that its parts took.
        """
        started = time.monotonic()
        name = str(job.get("name") or job["path"])
        try:
            inspection, recipe = self._inspector(*_board(job))
            inspected_ms = _ms(started)
            self._ledger.record(inspection)
            recorded_ms = _ms(started)
        except InputFault as fault:
            return self._quarantine(name, fault, started)
        except MemoryError:
            too_large = FileFault(name, expected="a board that fits in memory", found="one that does not")
            return self._quarantine(name, too_large, started)
        except PopError as fault:
            return _refusal(UNAVAILABLE if isinstance(fault, StoreFault) else UNUSABLE, fault, started)
        said = answer.from_inspection(inspection, report=None, elapsed_ms=_ms(started))
        if self._pages is not None and recipe is not None:
            page = page_path(self._pages, inspection.board.record)
            self._unwritten = (page, inspection, recipe)
            said["report"] = str(job.get("report", page)).replace("{record}", page.stem)
        return {"status": OK, "answer": said, "ms": {"inspect": inspected_ms, "record": recorded_ms - inspected_ms}}

    def finish(self) -> None:
        """What nobody waits for: tidy the ledger, and have the page of the board that was just answered drawn.

        Neither costs a verdict where it fails.
        """
        try:
            self._ledger.tidy()
        except StoreFault as fault:
            log.warning("the store was not tidied", extra={"reason": str(fault)})
        if self._unwritten is not None:
            (page, inspection, recipe), self._unwritten = self._unwritten, None
            self._drawer.draw(page, inspection, recipe)

    def _quarantine(self, name: str, fault: InputFault, started: float) -> Reply:
        try:
            self._ledger.quarantine(name, fault)
        except StoreFault as unwritten:
            return _refusal(UNAVAILABLE, unwritten, started)
        return _refusal(UNUSABLE, fault, started)


def page_path(pages: Path, record: str) -> Path:
    """Where the page of a record lies: a record's identifier is letters and digits, and anything else becomes that."""
    name = record if record.isascii() and record.isalnum() else hashlib.sha256(record.encode()).hexdigest()
    return pages / f"{name}.html"


def _board(job: dict[str, Any]) -> tuple[Path, Path]:
    path = Path(job["path"])
    if job["kind"] == "upload":
        into = Path(job["into"])
        return unpack(path, into, ArchiveLimits(**job["limits"])), into
    return path, Path(job["root"]) if job.get("root") else default_root(path)


def _refusal(status: int, fault: PopError, started: float) -> Reply:
    return {"status": status, "answer": answer.could_not(fault, elapsed_ms=_ms(started))}


def _ms(started: float) -> float:
    return (time.monotonic() - started) * 1000

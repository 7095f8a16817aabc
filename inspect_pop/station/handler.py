"""Where a board ends up: its record with the messages that tell of it, or quarantine; all or nothing, once.

One inspection for the line: inspect, record with its messages, answer; then have the board's page drawn.

An answer other than 'could not inspect' is given only after the record and its messages are in the store. What cannot be
used goes to quarantine. The page is drawn after the answer: the board on the line does not wait for it.
"""

import hashlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from inspect_pop.core.errors import FileFault, InputFault, PopError, StoreFault
from inspect_pop.core.inspection import Inspection
from inspect_pop.core.recipe import Recipe
from inspect_pop.ingest import default_root
from inspect_pop.station import answer
from inspect_pop.station.page_drawer import Here, Pages
from inspect_pop.station.uploads import ArchiveLimits, unpack

__all__ = ["OK", "UNAVAILABLE", "UNUSABLE", "Bench", "Books", "Inspector", "Ledger", "Maker", "Scribe", "page_path"]

# ---- station/ledger
BOARDS_A_CHECKPOINT = 8  # of 300 kB in the log; SQLite itself makes one, within a write, at 4 MB
PARTS = ("thing", "expected", "found", "remedy")


class Ledger(Protocol):
    """What an inspection leaves behind goes here. Both acts are for good when they return, and raise `StoreFault`."""

    def record(self, inspection: Inspection) -> None:
        """Keep an inspection and its messages."""
        ...

    def quarantine(self, name: str, fault: InputFault) -> None:
        """Keep that a board could not be inspected, and the message that says so."""
        ...

    def tidy(self) -> None:
        """What the next board should not wait for, while nobody waits."""
        ...


class Books:
    """The ledger in the store at `where`, under this station's name in messages."""

    def __init__(self, where: str, handle: str) -> None:
        from inspect_pop import messages as cfx  # with the store, half a second of imports: see `Scribe`
        from inspect_pop.store import open_store

        self._store, self._cfx, self._handle = open_store(where), cfx, handle
        self._untidied = 0

    def record(self, inspection: Inspection) -> None:
        """See `Ledger`."""
        self._store.write(inspection, messages=self._cfx.notes(inspection, self._handle))

    def quarantine(self, name: str, fault: InputFault) -> None:
        """See `Ledger`."""
        from inspect_pop.store import Quarantined

        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        message = self._cfx.from_fault(name, str(fault), fault.about, at, self._handle)
        self._store.quarantine(Quarantined(name, str(fault), at), messages=[message])

    def tidy(self) -> None:
        """See `Ledger`. Not after every board: its writes would hold up what another process records at that moment."""
        self._untidied += 1
        if self._untidied >= BOARDS_A_CHECKPOINT:
            self._untidied = 0
            self._store.checkpoint()


class Scribe:
    """The ledger in a process of its own, which opens the store while this one loads the model.

    A fresh process for one board spends most of its time on imports, half of them the store's: on two cores this
    halves the time to the first answer.
    """

    def __init__(self, where: str, handle: str) -> None:
        self._pipe, theirs = get_context("fork").Pipe()
        process = get_context("fork").Process(target=_write, args=(theirs, self._pipe, where, handle), daemon=True)
        process.start()
        theirs.close()

    @staticmethod
    def can() -> bool:
        """Whether this system can fork."""
        return "fork" in get_all_start_methods()

    def record(self, inspection: Inspection) -> None:
        """See `Ledger`. Pictures stay here: the store keeps none."""
        self._ask("record", replace(inspection, crops=None, heights=()))

    def quarantine(self, name: str, fault: InputFault) -> None:
        """See `Ledger`."""
        self._ask("quarantine", name, type(fault), *(getattr(fault, part) for part in PARTS))

    def tidy(self) -> None:
        """See `Ledger`. The process ends after one board, and SQLite tidies up where the last one leaves."""

    def _ask(self, *what: Any) -> None:
        try:
            self._pipe.send(what)
            fault = self._pipe.recv()
        except (OSError, EOFError) as error:
            raise StoreFault("the store", expected="an answer", found="its process ended") from error
        if fault is not None:
            raise StoreFault(fault["thing"], **{part: fault[part] for part in PARTS[1:]})


def _write(pipe: Connection, theirs: Connection, where: str, handle: str) -> None:
    theirs.close()
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)  # whoever reads the answers must not wait for this process
    books: Books | None = None
    trouble: PopError | None = None
    try:
        books = Books(where, handle)
    except StoreFault as fault:
        trouble = fault
    while True:
        try:
            act, *what = pipe.recv()
        except EOFError:
            return
        pipe.send(_parts(trouble) if books is None else _done(_acts(books)[act], what))


def _acts(books: Books) -> dict[str, Callable[..., None]]:
    def quarantine(name: str, kind: type[InputFault], thing: str, expected: str, found: str, remedy: str) -> None:
        books.quarantine(name, kind(thing, expected=expected, found=found, remedy=remedy))

    return {"record": books.record, "quarantine": quarantine}


def _done(act: Callable[..., None], what: list[Any]) -> dict[str, str] | None:
    try:
        act(*what)
    except StoreFault as fault:
        return _parts(fault)
    return None


def _parts(fault: PopError | None) -> dict[str, str]:
    return {part: getattr(fault, part, "") for part in PARTS}


# ---- station/bench
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

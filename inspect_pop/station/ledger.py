"""Where a board ends up: its record with the messages that tell of it, or quarantine; all or nothing, once."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from typing import Any, Protocol

from inspect_pop.errors import InputFault, PopError, StoreFault
from inspect_pop.inspection import Inspection

__all__ = ["Books", "Ledger", "Scribe"]

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
        from inspect_pop.station import cfx  # with the store, half a second of imports: see `Scribe`
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

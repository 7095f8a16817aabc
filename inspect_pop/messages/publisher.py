"""What the outbox holds of a record's messages until they are sent: that they are due. What they say follows from the record.

The notes are written in the record's transaction, so there is no record without its messages; identifier, name and time are
final from then on. To spell a message with fifty defects out takes milliseconds and hundreds of kilobytes, for which no board
has to wait: it is done when the message is sent, as often as that is tried, with the same result each time.

From the store's outbox to the line's systems: in order, until each message is confirmed.

A message is claimed for a while, sent, and marked when the receiver has confirmed it; whoever dies in between leaves it to
be sent again, with the same identifier. After a failure nothing behind is sent either: the order stays.
"""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from inspect_pop.core.errors import PopError, StoreFault
from inspect_pop.core.inspection import Inspection
from inspect_pop.messages.cfx import Found, about, heartbeat, message, methods, parts, to_message
from inspect_pop.messages.cfx_schema import Method
from inspect_pop.store import Message, Store

__all__ = ["NotDelivered", "Postman", "Sender", "Speller", "drain", "notes"]

# ---- station/cfx/later
_DUE = '{"due":'  # so begins a note and no CFX message, which begins with its name


def notes(inspection: Inspection, handle: str) -> list[Message]:
    """A note for each message of this record, in order."""
    by, board = methods(inspection), inspection.board
    due = []
    for part in parts(by):
        unique, kind, at = about(board, part)
        text = json.dumps({"due": part, "methods": by, "handle": handle}, separators=(",", ":"))
        due.append(Message(unique, kind, text, at, record=board.record))
    return due


class Speller:
    """Spells out what is due; the messages of a record follow each other, so the last record is kept at hand."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: tuple[str, Found] | None = None

    def whole(self, waiting: Message) -> Message:
        """The message as it travels: one that is whole already stays. Raises `StoreFault` where its record is gone."""
        if not waiting.text.startswith(_DUE) or waiting.record is None:
            return waiting
        note = waiting.payload
        found = self._found(waiting.record, tuple(Method(m) for m in note["methods"]))
        return replace(waiting, text=message(found, note["due"], note["handle"]).text)

    def _found(self, record: str, by: tuple[Method, ...]) -> Found:
        if self._known is None or self._known[0] != record:
            stored = self._store.record(record)
            if stored is None:
                remedy = "Restore the record, or take its messages out of the outbox: what comes behind them waits."
                raise StoreFault(f"record {record}", expected="the record of a message", found="none", remedy=remedy)
            self._known = (record, Found(stored.board, stored.packages, stored.defects, by))
        return self._known[1]


# ---- station/cfx/outbox
CLAIM = 32  # messages at once: eight boards' worth
LEASE_S = 120.0  # longer than sending a claim may take; whoever dies holds it back for no longer
POLL_S = 0.5
LONGEST_WAIT_S = 30.0
log = logging.getLogger(__name__)


class NotDelivered(PopError):
    """A message was not confirmed; it is sent again later."""

    about = "delivery"


class Sender(Protocol):
    """A way out of the house."""

    def send(self, message: Message) -> None:
        """Return when the receiver has the message for good; raise `NotDelivered` otherwise."""
        ...

    def close(self) -> None:
        """Give back what is open."""
        ...


def drain(store: Store, sender: Sender, owner: str) -> int:
    """Send all that waits, in order; how many. Raises `NotDelivered` at the first that is not confirmed."""
    sent, speller = 0, Speller(store)
    while claimed := store.claim(CLAIM, owner=owner, now_us=time.time_ns() // 1000, lease_s=LEASE_S):
        for i, due in enumerate(claimed):
            try:
                sender.send(speller.whole(due))
            except NotDelivered as fault:
                store.failed([m.id for m in claimed[i:]], error=str(fault), retry_us=0)
                raise
            store.delivered([due.id], at=datetime.now(UTC).isoformat(timespec="milliseconds"))
            sent += 1
    return sent


class Postman:
    """A thread that drains the outbox and sends heartbeats; a receiver that is away costs waiting and nothing else."""

    def __init__(self, store: Store, connect: Callable[[], Sender], *, handle: str, heartbeat_s: float) -> None:
        self._store, self._connect, self._handle, self._heartbeat_s = store, connect, handle, heartbeat_s
        self._owner = f"{socket.gethostname()}/{os.getpid()}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="postman", daemon=True)
        self._next_heartbeat = 0.0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, limit_s: float) -> None:
        """Finish the message in hand and end; what is left is sent by whoever comes next."""
        self._stop.set()
        self._thread.join(limit_s)

    def _run(self) -> None:
        wait_s = POLL_S
        sender: Sender | None = None
        while not self._stop.wait(wait_s):
            try:
                sender = sender or self._connect()
                self._beat(sender)
                drain(self._store, sender, self._owner)
                wait_s = POLL_S
            except (NotDelivered, StoreFault) as fault:
                log.warning("messages wait", extra={"reason": str(fault)})
                wait_s = min(LONGEST_WAIT_S, wait_s * 2)
                _close(sender)
                sender = None
        _close(sender)

    def _beat(self, sender: Sender) -> None:
        if time.monotonic() >= self._next_heartbeat:
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            sender.send(to_message(heartbeat(self._handle, self._heartbeat_s, at), None, at))
            self._next_heartbeat = time.monotonic() + self._heartbeat_s


def _close(sender: Sender | None) -> None:
    if sender is not None:
        sender.close()

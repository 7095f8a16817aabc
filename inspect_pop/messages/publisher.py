"""Publish the messages in the store's outbox: in order, until the receiver confirms each of them.

What waits in the outbox for a record is short: which message is due. These notes are written in the record's transaction, so
that no record is without its messages; identifier, name and time are final from then on. The message itself follows from the
record. A message with fifty defects takes milliseconds and hundreds of kilobytes, and no board has to wait for it: it is
rendered when it is sent, as often as sending is tried, with the same result each time.

A message is claimed for a limited time, sent, and marked once the receiver has confirmed it. If the process dies in between,
another one sends the message again with the same identifier. After a failure no later message is sent: the order stays.
"""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from inspect_pop.core.clock import utc_now
from inspect_pop.core.errors import PopError, StoreFault
from inspect_pop.core.inspection import Inspection
from inspect_pop.messages.cfx import (
    RecordContent,
    build_message,
    identify_part,
    list_methods,
    list_parts,
    make_heartbeat,
    to_message,
)
from inspect_pop.messages.cfx_schema import Method
from inspect_pop.store import Message, Store

__all__ = ["MessageRenderer", "NotDelivered", "OutboxPublisher", "Sender", "drain", "pending_messages"]

CLAIM = 32  # messages at once: those of eight boards
LEASE_S = 120.0  # longer than sending a claim may take; a process that dies holds messages back no longer than this
POLL_S = 0.5
LONGEST_WAIT_S = 30.0
_NOTE_START = '{"due":'  # a note begins with this; a CFX message begins with its name
log = logging.getLogger(__name__)


class NotDelivered(PopError):
    """A message was not confirmed; it is sent again later."""

    about = "delivery"


class Sender(Protocol):
    """A connection to a receiver."""

    def send(self, message: Message) -> None:
        """Return once the receiver has the message for good; raise `NotDelivered` otherwise."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


def pending_messages(inspection: Inspection, handle: str) -> list[Message]:
    """Return a note for each message of a record, in order, for the record's transaction."""
    methods, board = list_methods(inspection), inspection.board
    notes = []
    for part in list_parts(methods):
        unique, kind, at = identify_part(board, part)
        text = json.dumps({"due": part, "methods": methods, "handle": handle}, separators=(",", ":"))
        notes.append(Message(unique, kind, text, at, record=board.record))
    return notes


class MessageRenderer:
    """Render the messages that are due. Those of one record follow each other, so the last record is cached."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last: tuple[str, RecordContent] | None = None

    def render(self, waiting: Message) -> Message:
        """Return the message as it is sent; a message that is complete is returned as it is.

        Raises:
            StoreFault: The store no longer holds the message's record.
        """
        if not waiting.text.startswith(_NOTE_START) or waiting.record is None:
            return waiting
        note = waiting.payload
        if self._last is None or self._last[0] != waiting.record:
            stored = self._store.record(waiting.record)
            if stored is None:
                remedy = "Restore the record, or remove its messages from the outbox: the messages behind them wait."
                raise StoreFault(f"record {waiting.record}", expected="the record of a message", found="none", remedy=remedy)
            methods = tuple(Method(m) for m in note["methods"])
            self._last = (waiting.record, RecordContent(stored.board, stored.packages, stored.defects, methods))
        return replace(waiting, text=build_message(self._last[1], note["due"], note["handle"]).text)


def drain(store: Store, sender: Sender, owner: str) -> int:
    """Send all waiting messages in order and return their number.

    Args:
        store: The store with the outbox.
        sender: Where the messages go.
        owner: The name under which messages are claimed; unique per process.

    Raises:
        NotDelivered: A message was not confirmed. It and all behind it wait.
        StoreFault: The store cannot be read or written, or the record of a message is missing.
    """
    sent, renderer = 0, MessageRenderer(store)
    while claimed := store.claim(CLAIM, owner=owner, now_us=time.time_ns() // 1000, lease_s=LEASE_S):
        for i, due in enumerate(claimed):
            try:
                sender.send(renderer.render(due))
            except NotDelivered as fault:
                store.mark_failed([m.id for m in claimed[i:]], error=str(fault), retry_us=0)
                raise
            store.mark_delivered([due.id], at=utc_now())
            sent += 1
    return sent


class OutboxPublisher:
    """A thread that drains the outbox and sends heartbeats. While the receiver is away, messages wait and nothing else does."""

    def __init__(self, store: Store, connect: Callable[[], Sender], *, handle: str, heartbeat_s: float) -> None:
        self._store, self._connect, self._handle, self._heartbeat_s = store, connect, handle, heartbeat_s
        self._owner = f"{socket.gethostname()}/{os.getpid()}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._publish, name="outbox-publisher", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, limit_s: float) -> None:
        """Finish the current message and end the thread; a later publisher sends the messages that remain."""
        self._stop.set()
        self._thread.join(limit_s)

    def _publish(self) -> None:
        """Drain until stopped; after a failure reconnect, waiting longer each time, up to `LONGEST_WAIT_S`."""
        wait_s, next_heartbeat = POLL_S, 0.0
        sender: Sender | None = None
        while not self._stop.wait(wait_s):
            try:
                sender = sender or self._connect()
                if time.monotonic() >= next_heartbeat:
                    at = utc_now()
                    sender.send(to_message(make_heartbeat(self._handle, self._heartbeat_s, at), None, at))
                    next_heartbeat = time.monotonic() + self._heartbeat_s
                drain(self._store, sender, self._owner)
                wait_s = POLL_S
            except (NotDelivered, StoreFault) as fault:
                log.warning("messages wait", extra={"reason": str(fault)})
                wait_s = min(LONGEST_WAIT_S, wait_s * 2)
                if sender is not None:
                    sender.close()
                sender = None
        if sender is not None:
            sender.close()

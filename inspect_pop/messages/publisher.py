"""Publish the messages in the store's outbox: in order, until the receiver confirms each of them.

What waits in the outbox for a record is short: which message is due. These notes are written in the record's transaction, so
that no record is without its messages; identifier, name and time are final from then on. The message itself follows from the
record. A message with fifty defects takes milliseconds and hundreds of kilobytes, and no board has to wait for it: it is
rendered when it is sent, as often as sending is tried, with the same result each time.

A message is claimed for a limited time, sent, and marked once the receiver has confirmed it. If the process dies in between,
another one sends the message again with the same identifier. After a failure no later message is sent: the order stays. Only a
message that the receiver refuses again and again is set aside, with the reason, and the others go on.
"""

import json
import logging
import os
import socket
import threading
import time
from collections import Counter
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

__all__ = [
    "MessageRefused",
    "MessageRenderer",
    "NotDelivered",
    "OutboxPublisher",
    "Refusals",
    "Sender",
    "drain",
    "pending_messages",
]

CLAIM = 32  # messages at once: those of eight boards
LEASE_S = 120.0  # longer than sending a claim may take; a process that dies holds messages back no longer than this
POLL_S = 0.5
LONGEST_WAIT_S = 30.0
REFUSED_WAIT_S = 1.0  # between two tries of a message that is refused, as long as it may be set aside
_NOTE_START = '{"due":'  # a note begins with this; a CFX message begins with its name
log = logging.getLogger(__name__)


class NotDelivered(PopError):
    """A message was not confirmed; it is sent again later."""

    about = "delivery"


class MessageRefused(NotDelivered):
    """The receiver answers, and does not take this message: sending it again later will most likely not help."""


class Sender(Protocol):
    """A connection to a receiver."""

    def send(self, message: Message) -> None:
        """Return once the receiver has the message for good; raise `MessageRefused` or `NotDelivered` otherwise."""
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
                remedy = "Restore the record, or set the message aside with `inspect-pop outbox set-aside`: those behind it wait."
                raise StoreFault(f"record {waiting.record}", expected="the record of a message", found="none", remedy=remedy)
            methods = tuple(Method(m) for m in note["methods"])
            self._last = (waiting.record, RecordContent(stored.board, stored.packages, stored.defects, methods))
        return replace(waiting, text=build_message(self._last[1], note["due"], note["handle"]).text)


class Refusals:
    """What a receiver refused: how often each message, and how many messages in a row were set aside for it.

    A message that was refused `TRIES` times is set aside, so that it does not hold up the others. After `MAX_CONSECUTIVE` of
    them without one that was delivered between, the fault is the receiver's: nothing more is set aside, and all wait.
    """

    TRIES = 3
    MAX_CONSECUTIVE = 32

    def __init__(self) -> None:
        self._tries: Counter[str] = Counter()
        self._n_consecutive = 0

    def count(self, message_id: str) -> bool:
        """Count a refusal; return whether the message is to be set aside now."""
        self._tries[message_id] += 1
        if self._tries[message_id] < self.TRIES or self.is_exhausted:
            return False
        del self._tries[message_id]
        self._n_consecutive += 1
        return True

    @property
    def is_exhausted(self) -> bool:
        """Whether so many were set aside in a row that no more are."""
        return self._n_consecutive >= self.MAX_CONSECUTIVE

    def forget(self) -> None:
        """Begin again: a message was delivered."""
        self._tries.clear()
        self._n_consecutive = 0


def drain(store: Store, sender: Sender, owner: str, refusals: Refusals | None = None) -> int:
    """Send all waiting messages in order and return their number; set aside those that the receiver refuses for good.

    Args:
        store: The store with the outbox.
        sender: Where the messages go.
        owner: The name under which messages are claimed; unique per process.
        refusals: What the receiver refused at earlier calls; None at the first.

    Raises:
        NotDelivered: A message was not confirmed. It and all behind it wait.
        StoreFault: The store cannot be read or written, or the record of a message is missing.
    """
    sent, renderer = 0, MessageRenderer(store)
    refusals = refusals or Refusals()
    while claimed := store.claim(CLAIM, owner=owner, now_us=time.time_ns() // 1000, lease_s=LEASE_S):
        for i, due in enumerate(claimed):
            try:
                sender.send(renderer.render(due))
            except NotDelivered as fault:
                if isinstance(fault, MessageRefused) and refusals.count(due.id):
                    store.set_aside([due.id], at=utc_now(), error=str(fault))
                    log.error("message set aside", extra={"message_id": due.id, "kind": due.kind, "reason": str(fault)})
                    continue
                store.mark_failed([m.id for m in claimed[i:]], error=str(fault), retry_us=0)
                raise
            store.mark_delivered([due.id], at=utc_now())
            refusals.forget()
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
        wait_s, next_heartbeat, refusals = POLL_S, 0.0, Refusals()
        sender: Sender | None = None
        while not self._stop.wait(wait_s):
            try:
                sender = sender or self._connect()
                if time.monotonic() >= next_heartbeat:
                    at = utc_now()
                    sender.send(to_message(make_heartbeat(self._handle, self._heartbeat_s, at), None, at))
                    next_heartbeat = time.monotonic() + self._heartbeat_s
                drain(self._store, sender, self._owner, refusals)
                wait_s = POLL_S
            except (NotDelivered, StoreFault) as fault:
                log.warning("messages wait", extra={"reason": str(fault)})
                is_new = isinstance(fault, MessageRefused) and not refusals.is_exhausted
                wait_s = REFUSED_WAIT_S if is_new else min(LONGEST_WAIT_S, wait_s * 2)
                if sender is not None:
                    sender.close()
                sender = None
        if sender is not None:
            sender.close()

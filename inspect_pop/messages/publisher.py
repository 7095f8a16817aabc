"""Publish what is new in a store: messages to the line, and result files.

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
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import httpx

from inspect_pop.core.errors import PopError, StoreFault, UsageFault, describe_error
from inspect_pop.core.inspection import Inspection
from inspect_pop.core.system import utc_now, write_text
from inspect_pop.core.text import resolve_address
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
from inspect_pop.report.write import ResultsTarget, TemplateFault
from inspect_pop.store import Message, Store, StoreMark

__all__ = [
    "AmqpSender",
    "FolderSender",
    "FollowedTarget",
    "HttpSender",
    "MessageRefused",
    "MessageRenderer",
    "NotDelivered",
    "OutboxPublisher",
    "Refusals",
    "ResultsFollower",
    "Sender",
    "drain",
    "pending_messages",
    "sender_for",
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


# Ways to send messages: to a folder, to an HTTP address, or to a broker that speaks AMQP 1.0.
#
# An AMQP address is `amqp://[user:password@]host[:port]/PATH`; PATH is the broker's name of the target, in which `{message}`
# stands for the message's name. RabbitMQ takes `/topic/{message}` (the default), whose consumers bind what they want of `CFX.#`,
# and `/queue/NAME`. It accepts and drops messages for which no queue is bound: create the consumer's durable queue first.


TIMEOUT_S = 10.0
DEFAULT_TARGET = "/topic/{message}"
# Statuses about the message itself (RFC 9110): bad request, conflict, content too large, media type, content not processable.
# Others are about the receiver or the way to it (its log-in, its address, its load), and all messages wait.
_REFUSED = (400, 409, 413, 415, 422)
# Messages of one board share a time: these come first and last in a folder's order.
_RANK = {"CFX.Production.WorkStarted": 0, "CFX.Production.WorkCompleted": 2}


def sender_for(address: str) -> Callable[[], Sender]:
    """Return a function that connects to an address.

    Args:
        address: `amqp(s)://…`, `http(s)://…`, a folder, or `env:NAME` for what the environment variable NAME holds, so that
            a password appears in no list of processes.

    Raises:
        UsageFault: The address is of another kind, the environment variable is empty, or Qpid Proton is not installed.
    """
    address = resolve_address(address, "--cfx")
    scheme = urlsplit(address).scheme
    if scheme in ("amqp", "amqps"):
        _import_proton()
        return lambda: AmqpSender(address)
    if scheme in ("http", "https"):
        return lambda: HttpSender(address)
    if "://" in address:
        raise UsageFault(f"--cfx {scheme}://…", expected="amqp://, amqps://, http://, https:// or a folder", found=scheme)
    return lambda: FolderSender(Path(address))


class FolderSender:
    """Write one JSON file per message. Names sort in the messages' order; a message that is sent twice is one file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def send(self, message: Message) -> None:
        """Write the file atomically."""
        stamp = message.created_at.replace(":", "").replace("+", "p")
        path = self._folder / f"{stamp}-{_RANK.get(message.kind, 1)}-{message.id}.json"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_text(path, message.text)
        except OSError as error:
            raise NotDelivered(str(self._folder), expected="a folder to write to", found=describe_error(error)) from error

    def close(self) -> None:
        """Do nothing: no file is open."""


class HttpSender:
    """POST each message as JSON; any 2xx confirms it. The identifier goes along as `Idempotency-Key`."""

    def __init__(self, address: str) -> None:
        self._address = address
        parts = urlsplit(address)
        self._shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()  # without a password
        self._client = httpx.Client(timeout=TIMEOUT_S)

    def send(self, message: Message) -> None:
        """Post the message and wait for the confirmation."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": message.id}
        try:
            response = self._client.post(self._address, content=message.text.encode(), headers=headers)
        except httpx.HTTPError as error:  # its text holds the address
            raise NotDelivered(self._shown, expected="a confirmation", found=type(error).__name__) from None
        if response.status_code in _REFUSED:
            raise MessageRefused(self._shown, expected="a confirmation", found=f"status {response.status_code}")
        if not response.is_success:
            raise NotDelivered(self._shown, expected="a confirmation", found=f"status {response.status_code}")

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class AmqpSender:
    """Send over one AMQP 1.0 connection (Qpid Proton) with one link per target; the broker confirms each message.

    Every failure of the connection raises `NotDelivered`.
    """

    def __init__(self, address: str) -> None:
        self._proton = _import_proton()
        self._errors = (self._proton.ProtonException, OSError)
        parts = urlsplit(address)
        self._host = f"{parts.scheme}://{parts.hostname}:{parts.port or (5671 if parts.scheme == 'amqps' else 5672)}"
        self._target = unquote(parts.path) if parts.path not in ("", "/") else DEFAULT_TARGET
        self._links: dict[str, Any] = {}
        user = unquote(parts.username) if parts.username else None
        password = unquote(parts.password) if parts.password else None
        connect = self._proton.utils.BlockingConnection
        try:
            self._connection = connect(self._host, timeout=TIMEOUT_S, user=user, password=password, heartbeat=None)
        except self._errors as error:
            raise NotDelivered(self._host, expected="a broker that answers", found=_first_line(error)) from error

    def send(self, message: Message) -> None:
        """Send the message and wait until the broker has accepted it."""
        target = self._target.replace("{message}", message.kind)
        outgoing = self._proton.Message(id=message.id, subject=message.kind, body=message.text, durable=True)
        outgoing.content_type = "application/json"
        try:
            if target not in self._links:
                self._links[target] = self._connection.create_sender(target, options=_DurableTarget())
            self._links[target].send(outgoing, timeout=TIMEOUT_S)
        except self._errors as error:
            raise NotDelivered(f"{self._host}{target}", expected="an accepted message", found=_first_line(error)) from error

    def close(self) -> None:
        """Close the connection, without waiting for a broker that does not answer."""
        try:
            self._connection.close()
        except self._errors:
            return


class _DurableTarget:
    """A link option of Proton: the target outlives a restart of the broker. RabbitMQ then makes a `/queue/NAME` durable."""

    def test(self, link: Any) -> bool:
        """Return whether the option applies: to every sender."""
        return bool(link.is_sender)

    def apply(self, sender: Any) -> None:
        """Make the target durable."""
        sender.target.durability = _import_proton().Terminus.DELIVERIES


def _import_proton() -> Any:
    """Import Qpid Proton, which only AMQP addresses need. Raises `UsageFault` where it is not installed."""
    try:
        import proton
        import proton.utils
    except ImportError as error:
        raise UsageFault("--cfx amqp://", expected="Qpid Proton", found=str(error), remedy="Install inspect_pop[cfx].") from error
    return proton


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


# Write the results of whatever is new in a store, inspections and people's decisions alike, for the line's neighbours.
#
# A thread asks the store; no board and no person waits for a neighbour's folder. Each folder holds how far it is
# (`.TEMPLATE.position.json`): after a restart, or while a share was away, nothing is lost and nothing is written twice that the
# neighbour has already taken. A folder without that file begins with the next board.


@dataclass
class FollowedTarget:
    """A target and how far it is: the mark of the store up to which all results are written."""

    target: ResultsTarget
    mark: StoreMark

    @classmethod
    def begin(cls, target: ResultsTarget, store: Store) -> "FollowedTarget":
        """Continue where an earlier process stopped, or begin with the next board. Raises `StoreFault`."""
        mark = None
        with suppress(OSError, ValueError, TypeError, KeyError):
            document = json.loads(_locate_position(target).read_text(encoding="utf-8"))
            if document["store"] == store.where:
                mark = StoreMark(tuple(map(int, document["boards"])), tuple(map(int, document["decisions"])))
        followed = cls(target, store.find_changes(None)[1] if mark is None else mark)
        followed.save(store)
        return followed

    def catch_up(self, store: Store) -> int:
        """Write the results of what is new, some hundred records at most; return the number of records.

        A record that the template cannot show is named in the log, and the others go on.

        Raises:
            StoreFault: The store cannot be read or the folder cannot be written. What is not written comes again.
        """
        records, mark = store.find_changes(self.mark)
        for record in records:
            stored = store.record(record)
            if stored is None:
                continue
            try:
                self.target.write(stored)
            except TemplateFault as fault:
                log.error("no result file for a board", extra={"record": record, "reason": str(fault)})
        if mark != self.mark:
            self.mark = mark
            self.save(store)
        return len(records)

    def save(self, store: Store) -> None:
        """Write how far the target is. Raises `StoreFault`."""
        document = {"store": store.where, "boards": self.mark.boards, "decisions": self.mark.decisions}
        try:
            self.target.folder.mkdir(parents=True, exist_ok=True)
            write_text(_locate_position(self.target), json.dumps(document))
        except OSError as error:
            expect = "a folder for results"
            raise StoreFault(
                str(self.target.folder), expected=expect, found=describe_error(error), remedy="Free or unlock it."
            ) from error


def _locate_position(target: ResultsTarget) -> Path:
    return target.folder / f".{target.template.name}.position.json"


class ResultsFollower:
    """A thread for each target, which writes what is new in the store. A target whose folder is away holds up no other."""

    def __init__(self, store: Store, targets: Sequence[ResultsTarget]) -> None:
        self._store = store
        self._stop = threading.Event()
        followed = [FollowedTarget.begin(target, store) for target in targets]
        self._threads = [
            threading.Thread(target=self._follow, args=(one,), name=f"results-{k}", daemon=True) for k, one in enumerate(followed)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self, limit_s: float) -> None:
        """Write what is new once more, and end the threads."""
        self._stop.set()
        for thread in self._threads:
            thread.join(limit_s)

    @property
    def is_alive(self) -> bool:
        """Whether a thread runs."""
        return any(thread.is_alive() for thread in self._threads)

    def _follow(self, followed: FollowedTarget) -> None:
        wait_s, is_last = POLL_S, False
        while not is_last:
            is_last = self._stop.wait(wait_s)
            try:
                wait_s = 0.0 if followed.catch_up(self._store) else POLL_S
            except StoreFault as fault:
                log.warning("results wait", extra={"reason": str(fault)})
                wait_s = min(LONGEST_WAIT_S, wait_s * 2)

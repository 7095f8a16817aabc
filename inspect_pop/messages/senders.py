"""Ways to send messages: to a folder, to an HTTP address, or to a broker that speaks AMQP 1.0.

An AMQP address is `amqp://[user:password@]host[:port]/PATH`; PATH is the broker's name of the target, in which `{message}`
stands for the message's name. RabbitMQ takes `/topic/{message}` (the default), whose consumers bind what they want of `CFX.#`,
and `/queue/NAME`. It accepts and drops messages for which no queue is bound: create the consumer's durable queue first.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

from inspect_pop.core.atomic import write_text
from inspect_pop.core.errors import UsageFault, describe_error
from inspect_pop.core.text import resolve_address
from inspect_pop.messages.publisher import MessageRefused, NotDelivered, Sender
from inspect_pop.store import Message

__all__ = ["AmqpSender", "FolderSender", "HttpSender", "sender_for"]

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

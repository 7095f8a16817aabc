"""AMQP 1.0 by Qpid Proton: each message is confirmed by the broker before it counts as sent.

The address is `amqp://[user:password@]host[:port]/PATH`; PATH is the broker's name of the target, where `{message}` stands
for the message's name. RabbitMQ takes `/topic/{message}` (the default), whose consumers bind what they want of `CFX.#`, and
`/queue/NAME`. It accepts what no queue is bound for, and drops it: the consumer's durable queue must be there first.

Where messages go: a folder, an HTTP address, or a broker that speaks AMQP 1.0.
"""

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

from inspect_pop.core.errors import UsageFault
from inspect_pop.messages.publisher import NotDelivered, Sender
from inspect_pop.store import Message

__all__ = ["Amqp", "Folder", "Http", "sender_for"]

# ---- station/cfx/amqp
try:
    import proton
    from proton.reactor import SenderOption
    from proton.utils import BlockingConnection, BlockingSender
except ImportError as error:
    raise UsageFault("--cfx amqp://", expected="Qpid Proton", found=str(error), remedy="Install inspect_pop[cfx].") from error


TIMEOUT_S = 10.0
DEFAULT_TARGET = "/topic/{message}"


class _Durable(SenderOption):  # type: ignore[misc]
    """A target that outlives a restart of the broker: RabbitMQ then makes a `/queue/NAME` durable."""

    def apply(self, sender: proton.Sender) -> None:
        sender.target.durability = proton.Terminus.DELIVERIES


class Amqp:
    """One connection, and a link for each target; anything that goes wrong with it ends in `NotDelivered`."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._host = f"{parts.scheme}://{parts.hostname}:{parts.port or (5671 if parts.scheme == 'amqps' else 5672)}"
        self._target = unquote(parts.path) if parts.path not in ("", "/") else DEFAULT_TARGET
        self._links: dict[str, BlockingSender] = {}
        user = unquote(parts.username) if parts.username else None
        password = unquote(parts.password) if parts.password else None
        try:
            self._connection = BlockingConnection(self._host, timeout=TIMEOUT_S, user=user, password=password, heartbeat=None)
        except (proton.ProtonException, OSError) as error:
            raise NotDelivered(self._host, expected="a broker that answers", found=_told(error)) from error

    def send(self, message: Message) -> None:
        """Send, and wait until the broker has accepted."""
        target = self._target.replace("{message}", message.kind)
        parcel = proton.Message(id=message.id, subject=message.kind, body=message.text, durable=True)
        parcel.content_type = "application/json"
        try:
            if target not in self._links:
                self._links[target] = self._connection.create_sender(target, options=_Durable())
            self._links[target].send(parcel, timeout=TIMEOUT_S)
        except (proton.ProtonException, OSError) as error:
            raise NotDelivered(f"{self._host}{target}", expected="an accepted message", found=_told(error)) from error

    def close(self) -> None:
        """End the connection; a broker that is gone is not waited for."""
        try:
            self._connection.close()
        except (proton.ProtonException, OSError):
            return


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


# ---- station/cfx/senders
# Messages of one board share a time: these come first and last in a folder's order.
_RANK = {"CFX.Production.WorkStarted": 0, "CFX.Production.WorkCompleted": 2}


def sender_for(address: str) -> Callable[[], Sender]:
    """How to connect to `amqp(s)://…`, `http(s)://…` or a folder; `UsageFault` for another address.

    `env:NAME` stands for what the environment variable holds: a password is then in no list of processes.
    """
    if address.startswith("env:"):
        name = address.removeprefix("env:")
        address = os.environ.get(name, "")
        if not address:
            raise UsageFault(f"--cfx env:{name}", expected=f"an address in the environment variable {name}", found="none")
    scheme = urlsplit(address).scheme
    if scheme in ("amqp", "amqps"):
        # the broker's library is an extra of its own

        return lambda: Amqp(address)
    if scheme in ("http", "https"):
        return lambda: Http(address)
    if "://" in address:
        raise UsageFault(f"--cfx {scheme}://…", expected="amqp://, amqps://, http://, https:// or a folder", found=scheme)
    return lambda: Folder(Path(address))


class Folder:
    """One file of JSON a message, named so that names sort in the messages' order; a message twice is one file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def send(self, message: Message) -> None:
        """Write the file, whole or not at all."""
        stamp = message.created_at.replace(":", "").replace("+", "p")
        path = self._folder / f"{stamp}-{_RANK.get(message.kind, 1)}-{message.id}.json"
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            part.write_text(message.text, encoding="utf-8")
            part.replace(path)
        except OSError as error:
            raise NotDelivered(str(self._folder), expected="a folder to write to", found=str(error)) from error

    def close(self) -> None:
        """Nothing is open."""


class Http:
    """POST each message as JSON; any 2xx confirms it. The identifier goes along as `Idempotency-Key`."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._client = httpx.Client(timeout=TIMEOUT_S)

    def send(self, message: Message) -> None:
        """Post, and wait for the confirmation."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": message.id}
        where = _without_password(self._address)
        try:
            response = self._client.post(self._address, content=message.text.encode(), headers=headers)
        except httpx.HTTPError as error:
            raise NotDelivered(where, expected="a confirmation", found=type(error).__name__) from None  # its text has the address
        if not response.is_success:
            raise NotDelivered(where, expected="a confirmation", found=f"status {response.status_code}")

    def close(self) -> None:
        """End the connection."""
        self._client.close()


def _without_password(address: str) -> str:
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()

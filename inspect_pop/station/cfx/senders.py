"""Where messages go: a folder, an HTTP address, or a broker that speaks AMQP 1.0."""

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from inspect_pop.errors import UsageFault
from inspect_pop.station.cfx.outbox import NotDelivered, Sender
from inspect_pop.store import Message

__all__ = ["Folder", "Http", "sender_for"]

TIMEOUT_S = 10.0
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
        from inspect_pop.station.cfx.amqp import Amqp  # the broker's library is an extra of its own

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

"""AMQP 1.0 by Qpid Proton: each message is confirmed by the broker before it counts as sent.

The address is `amqp://[user:password@]host[:port]/PATH`; PATH is the broker's name of the target, where `{message}` stands
for the message's name. RabbitMQ takes `/topic/{message}` (the default), whose consumers bind what they want of `CFX.#`, and
`/queue/NAME`. It accepts what no queue is bound for, and drops it: the consumer's durable queue must be there first.
"""

from urllib.parse import unquote, urlsplit

from inspect_pop.errors import UsageFault
from inspect_pop.station.cfx.outbox import NotDelivered
from inspect_pop.store import Message

try:
    import proton
    from proton.reactor import SenderOption
    from proton.utils import BlockingConnection, BlockingSender
except ImportError as error:
    raise UsageFault("--cfx amqp://", expected="Qpid Proton", found=str(error), remedy="Install inspect_pop[cfx].") from error

__all__ = ["Amqp"]

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

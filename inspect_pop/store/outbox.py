"""The outbox: messages that must reach the line's systems, kept until they did.

A message is added in the transaction of the record that it tells of. A sender claims some for a while, sends them, and
says which arrived; one that dies leaves its claim to run out, and its messages are claimed again. So each is sent at
least once, and its id lets the receiver drop a second copy.
"""

from collections.abc import Iterable

from sqlalchemy import Connection, RowMapping, delete, func, or_, select, update

from inspect_pop.store.rows import message_row
from inspect_pop.store.schema import messages
from inspect_pop.store.types import Message
from inspect_pop.store.write import insert_new

__all__ = ["claim", "delivered", "failed", "forget", "queue", "waiting"]


def queue(connection: Connection, sent: Iterable[Message]) -> int:
    """Add messages one by one; how many were not there yet."""
    return sum(insert_new(connection, messages, message_row(m), "id") for m in sent)


def claim(connection: Connection, n: int, owner: str, now_us: int, lease_s: float) -> list[Message]:
    """Up to `n` undelivered messages in the order in which they were added, none of which another owner holds now."""
    free = or_(messages.c.claimed_until_us.is_(None), messages.c.claimed_until_us <= now_us)
    query = select(messages).where(messages.c.delivered_at.is_(None), free).order_by(messages.c.seq).limit(n)
    found = connection.execute(query.with_for_update(skip_locked=True)).mappings().all()
    held = {"claimed_by": owner, "claimed_until_us": now_us + round(lease_s * 1e6), "attempts": messages.c.attempts + 1}
    connection.execute(update(messages).where(messages.c.seq.in_([m["seq"] for m in found])).values(held))
    return [_message(m, m["attempts"] + 1) for m in found]


def delivered(connection: Connection, ids: Iterable[str], at: str) -> None:
    """These arrived; one that was marked before keeps its first time."""
    which = messages.c.id.in_(list(ids)) & messages.c.delivered_at.is_(None)
    connection.execute(update(messages).where(which).values(delivered_at=at, claimed_by=None, claimed_until_us=None))


def failed(connection: Connection, ids: Iterable[str], error: str, retry_us: int) -> None:
    """These did not arrive; nobody claims them before `retry_us` (microseconds since 1970)."""
    which = messages.c.id.in_(list(ids)) & messages.c.delivered_at.is_(None)
    connection.execute(update(messages).where(which).values(claimed_by=None, claimed_until_us=retry_us, last_error=error))


def forget(connection: Connection, before: str) -> int:
    """Delete what was delivered before this day (YYYY-MM-DD); how many. What waits stays, however old."""
    return connection.execute(delete(messages).where(messages.c.delivered_at < before)).rowcount


def waiting(connection: Connection, n: int | None) -> tuple[int, list[Message]]:
    """How many are undelivered, and the first `n` of them, claimed or not (all for None)."""
    query = select(messages).where(messages.c.delivered_at.is_(None)).order_by(messages.c.seq).limit(n)
    total = connection.scalar(select(func.count()).select_from(messages).where(messages.c.delivered_at.is_(None)))
    return int(total or 0), [_message(m, m["attempts"]) for m in connection.execute(query).mappings()]


def _message(row: RowMapping, attempts: int) -> Message:
    return Message(row["id"], row["kind"], row["payload"], row["created_at"], row["record"], attempts)

"""The audit trail: who did what and when, with the values before and after. Rows are added, never changed; triggers see to it."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select

from inspect_pop.store.engine import insert_rows
from inspect_pop.store.schema import audit
from inspect_pop.store.types import escape_text

__all__ = ["AuditEntry", "add_audit", "format_time", "list_audit"]


@dataclass(frozen=True)
class AuditEntry:
    """One row of the trail. `at` is ISO 8601 in UTC; `before` and `after` are plain values, None where there is none."""

    id: int
    at: str
    who: str
    action: str
    subject: str
    before: Any
    after: Any


def format_time(now_us: int) -> str:
    """Format microseconds since 1970 as ISO 8601 in UTC, with milliseconds."""
    return datetime.fromtimestamp(now_us / 1e6, UTC).isoformat(timespec="milliseconds")


def add_audit(
    connection: Connection, now_us: int, who: str, action: str, subject: str, *, before: Any = None, after: Any = None
) -> None:
    """Add a row to the trail, in the transaction of what it tells.

    Parameters
    ----------
    now_us
        The time, in microseconds since 1970.
    who
        The person or token that did it.
    action, subject
        What was done, and to what.
    before, after
        Plain values of what changed.
    """
    row = {"at": format_time(now_us), "at_us": now_us, "who": escape_text(who), "action": action, "subject": escape_text(subject)}
    texts = {"before": before, "after": after}
    row |= {name: escape_text(json.dumps(value, ensure_ascii=False)) for name, value in texts.items()}
    insert_rows(connection, audit, [row])


def list_audit(connection: Connection, *, since_us: int | None = None, limit: int | None = None) -> list[AuditEntry]:
    """List the trail in order, from a time on; the first `limit` rows, None for all."""
    query = select(audit).order_by(audit.c.id).limit(limit)
    if since_us is not None:
        query = query.where(audit.c.at_us >= since_us)
    return [
        AuditEntry(row.id, row.at, row.who, row.action, row.subject, json.loads(row.before), json.loads(row.after))
        for row in connection.execute(query)
    ]

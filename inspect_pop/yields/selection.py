"""Which boards a figure is about: from when to when, and of which lot, line or product. Always first inspections."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, select, true

from inspect_pop.errors import UsageFault
from inspect_pop.store.schema import boards, contexts

__all__ = ["CONTEXT_KEYS", "Key", "Selection", "selection"]

Key = str | int | None
CONTEXT_KEYS = ("day", "lot", "line", "station", "product", "recipe", "recipe_revision", "work_order")


@dataclass(frozen=True)
class Selection:
    """Bounds on the local day (both included) or on the instant in us since 1970 (end not included), and single values."""

    first_day: str | None = None
    last_day: str | None = None
    from_us: int | None = None
    before_us: int | None = None
    only: Mapping[str, Key] = field(default_factory=dict)

    @property
    def contexts(self) -> ColumnElement[bool]:
        """What a context must fulfil."""
        clauses = [contexts.c[k].is_not_distinct_from(v) for k, v in self.only.items()]
        if self.first_day is not None:
            clauses.append(contexts.c.day >= self.first_day)
        if self.last_day is not None:
            clauses.append(contexts.c.day <= self.last_day)
        return and_(true(), *clauses)

    def limit(self, query: Select[Any]) -> Select[Any]:
        """A query that joins boards, held to the first inspections of the selection."""
        query = query.where(boards.c.inspection_no == 1)
        if self.only or self.first_day is not None or self.last_day is not None:
            query = query.where(boards.c.context_id.in_(select(contexts.c.id).where(self.contexts)))
        if self.from_us is not None:
            query = query.where(boards.c.inspected_us >= self.from_us)
        if self.before_us is not None:
            query = query.where(boards.c.inspected_us < self.before_us)
        return query


def selection(since: str | None = None, until: str | None = None, only: Mapping[str, Key] | None = None) -> Selection:
    """A selection as a user gives it.

    `since` and `until`: `2026-03-02` is a day on the wall clock where boards were inspected, and belongs to the period at
    either end; `2026-03-02T06:00:00+01:00` is an instant: from it on, or up to but without it. `only` gives the one value
    of some of `CONTEXT_KEYS`. Raises `UsageFault` for anything else.
    """
    first, last = _bound(since, "--since"), _bound(until, "--until")
    for key in only or {}:
        if key not in CONTEXT_KEYS:
            raise UsageFault("only", expected=f"some of {', '.join(CONTEXT_KEYS)}", found=repr(key))
    return Selection(
        first if isinstance(first, str) else None,
        last if isinstance(last, str) else None,
        first if isinstance(first, int) else None,
        last if isinstance(last, int) else None,
        dict(only or {}),
    )


def _bound(text: str | None, option: str) -> str | int | None:
    if text is None:
        return None
    try:
        if len(text) == 10:
            return date.fromisoformat(text).isoformat()
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageFault(
            option, expected="a day or a time, such as 2026-03-02 or 2026-03-02T06:00+01:00", found=repr(text)
        ) from error
    if moment.tzinfo is None:
        raise UsageFault(option, expected="a time with its offset, such as 2026-03-02T06:00+01:00", found=repr(text))
    return round(moment.timestamp() * 1_000_000)

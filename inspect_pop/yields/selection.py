"""Which boards a figure is about: from when to when, and of which lot, line or product. Always first inspections.

Sums of a selection, group by group, from the store's rollups: a table over any number of boards adds a few hundred rows.

A selection that begins or ends within a day takes the days that lie wholly inside from there, and sums the boards of the
days at its ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Select, and_, func, select, true

from inspect_pop.core.errors import UsageFault
from inspect_pop.store.rollup import summed
from inspect_pop.store.schema import SUMS, boards, contexts, rollups

__all__ = ["CONTEXT_KEYS", "KEYS", "Key", "Selection", "check_keys", "selection", "sums"]

# ---- yields/selection
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


# ---- yields/query
_PARTS = {"interface": "interface", "package": "refdes", "part": "part", "construction": "construction"}
KEYS = (*CONTEXT_KEYS, *_PARTS)
_MOST_AHEAD = timedelta(hours=14)  # no wall clock is further from UTC


def check_keys(by: Sequence[str]) -> tuple[str, ...]:
    """The keys, each once; raises `UsageFault` for one that is not known."""
    for key in by:
        if key not in KEYS:
            raise UsageFault("--by", expected=f"some of {', '.join(KEYS)}", found=repr(key))
    return tuple(dict.fromkeys(by))


def sums(connection: Connection, by: Sequence[str], chosen: Selection) -> list[dict[str, Any]]:
    """Per group in order of its keys: the keys and the sums of `schema.SUMS`. One row without keys, even of no board."""
    level = _level(by)
    within, inside = _split(chosen)
    parts: list[tuple[FromClause, ColumnElement[bool]]] = [(rollups, and_(rollups.c.level == level, within))]
    if inside is not None:
        own = summed(level, and_(boards.c.context_id.in_(select(contexts.c.id).where(chosen.contexts, ~within)), inside))
        parts.append((own.subquery("own"), chosen.contexts))
    found: dict[tuple[Any, ...], dict[str, Any]] = {} if by else {(): dict.fromkeys(SUMS, 0)}
    for source, condition in parts:
        for row in _grouped(connection, source, by, and_(chosen.contexts, condition)):
            group = found.setdefault(tuple(row[k] for k in by), {k: row[k] for k in by} | dict.fromkeys(SUMS, 0))
            group.update({n: group[n] + int(row[n] or 0) for n in SUMS})
    rows = [row for row in found.values() if row["boards"] or not by]
    return sorted(rows, key=lambda row: [(row[k] is None, row[k]) for k in by])  # databases differ in how they sort


def _level(by: Sequence[str]) -> str:
    body = next((k for k in ("package", "part", "construction") if k in by), None)
    return ",".join([k for k in (body, "interface" if "interface" in by else None) if k]) or "board"


def _split(chosen: Selection) -> tuple[ColumnElement[bool], ColumnElement[bool] | None]:
    """What tells the days that lie wholly between the instants, and the instants for all others; None without instants."""
    within: list[ColumnElement[bool]] = []
    inside: list[ColumnElement[bool]] = []
    if chosen.from_us is not None:
        within.append(contexts.c.day > _day(chosen.from_us, _MOST_AHEAD))
        inside.append(boards.c.inspected_us >= chosen.from_us)
    if chosen.before_us is not None:
        within.append(contexts.c.day < _day(chosen.before_us, -_MOST_AHEAD))
        inside.append(boards.c.inspected_us < chosen.before_us)
    return (and_(*within), and_(*inside)) if within else (contexts.c.id == contexts.c.id, None)


def _day(instant_us: int, ahead: timedelta) -> str:
    """The latest (or, for a negative `ahead`, the earliest) day that a wall clock anywhere shows at this instant."""
    return (datetime.fromtimestamp(instant_us / 1e6, UTC) + ahead).date().isoformat()


def _grouped(
    connection: Connection, source: FromClause, by: Sequence[str], condition: ColumnElement[bool]
) -> list[dict[str, Any]]:
    keys = [contexts.c[k] if k in CONTEXT_KEYS else source.c[_PARTS[k]].label(k) for k in by]
    query = select(*keys, *(func.sum(source.c[n]).label(n) for n in SUMS))
    query = query.join_from(source, contexts, contexts.c.id == source.c.context_id).where(condition)
    groups = [contexts.c[k] if k in CONTEXT_KEYS else source.c[_PARTS[k]] for k in by]
    return [row._asdict() for row in connection.execute(query.group_by(*groups))]

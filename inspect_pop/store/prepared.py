"""Statements that every record runs, compiled once a dialect: SQLAlchemy takes longer to build one than a database to run it."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, TableClause, insert
from sqlalchemy.dialects import postgresql, sqlite

__all__ = ["Run", "adding", "insert_or_skip", "prepared"]

Row = Mapping[str, Any]
Run = Callable[[Connection, Row | Sequence[Row]], Any]


def prepared(statement: Any, dialect: Any, names: Sequence[str] | None = None) -> Run:
    """What runs `statement` with one row, or with many, of the parameters `names` (those of the statement itself: None).

    No parameter has a type of its own here (`schema.py` names columns alone), so that the driver may take them as they are.
    """
    compiled = statement.compile(dialect=dialect, column_keys=None if names is None else list(names))
    text, order, fixed = str(compiled), compiled.positiontup, dict(compiled.params)

    def values(row: Row) -> Any:
        own = {**fixed, **row}
        return own if order is None else tuple(own[name] for name in order)

    def run(connection: Connection, row: Row | Sequence[Row]) -> Any:
        told = values(row) if isinstance(row, Mapping) else [values(one) for one in row]
        return connection.exec_driver_sql(text, told)

    return run


def adding(connection: Connection, table: TableClause, rows: Sequence[Row]) -> None:
    """Insert rows that have the same columns; none are none."""
    if rows:
        _adding(table, tuple(rows[0]), connection.dialect)(connection, rows)


def insert_or_skip(table: TableClause, dialect: str) -> Any:
    """An insert to which `on_conflict_…` can be told, in the words of SQLite or PostgreSQL."""
    module: Any = postgresql if dialect == "postgresql" else sqlite
    return module.insert(table)


@cache
def _adding(table: TableClause, names: tuple[str, ...], dialect: Any) -> Run:
    return prepared(insert(table), dialect, names)

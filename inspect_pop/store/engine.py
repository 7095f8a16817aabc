"""Where the store's database is and how it is opened: SQLite with a write-ahead log, or PostgreSQL.

SQLite runs with `synchronous=FULL`: a record that was acknowledged outlives a power cut (NORMAL may lose the last ones,
https://www.sqlite.org/pragma.html#pragma_synchronous). Each write takes its lock at once (`BEGIN IMMEDIATE`), since a
transaction that reads first and writes later fails where another wrote in between.

Statements that every record runs, compiled once a dialect: SQLAlchemy takes longer to build one than a database to run it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, TableClause, create_engine, event, insert, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from inspect_pop.core.errors import StoreFault

__all__ = [
    "Run",
    "adding",
    "checkpoint",
    "database_url",
    "faults",
    "insert_or_skip",
    "open_engine",
    "prepared",
    "reading",
    "shown",
    "writing",
]

# ---- store/engine
BUSY_S = 60
CONNECT_S = 10
WRITERS_LOCK = 0x706F70  # the advisory lock that every PostgreSQL writer shares and that maintenance takes alone


def database_url(where: str | Path) -> URL:
    """The SQLAlchemy URL of a plain path (a SQLite file) or of a URL as text; raises `StoreFault`."""
    if isinstance(where, Path) or "://" not in where:
        return URL.create("sqlite", database=str(where))
    try:
        url = make_url(where)
    except (ArgumentError, ValueError) as error:
        raise StoreFault("--store", expected="a path or a SQLAlchemy URL", found=str(error)) from error
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    backend = url.drivername.partition("+")[0]
    if backend not in ("sqlite", "postgresql"):
        raise StoreFault("--store", expected="a path, sqlite:/// or postgresql://", found=url.drivername)
    if backend == "sqlite" and url.database in (None, "", ":memory:"):
        raise StoreFault("--store", expected="a SQLite file", found="a database in memory", remedy="Name a file.")
    return url


def shown(url: URL) -> str:
    """The URL for messages and logs: never with its password."""
    return url.render_as_string(hide_password=True)


def open_engine(url: URL) -> Engine:
    """An engine for `database_url`'s result; SQLite's folder must exist. Nothing is read or written yet."""
    if url.drivername.startswith("sqlite"):
        engine = create_engine(url, connect_args={"timeout": BUSY_S})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        patience = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_S}
        return create_engine(url, pool_pre_ping=True, connect_args=patience)
    except ImportError as error:
        remedy = "Install inspect_pop[postgresql]."
        raise StoreFault(shown(url), expected="the psycopg driver", found=str(error), remedy=remedy) from error


@contextmanager
def faults(where: str) -> Iterator[None]:
    """Turn what the database or the disk says into a `StoreFault` that names the store."""
    try:
        yield
    except SQLAlchemyError as error:
        found = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise StoreFault(where, found=found, remedy=_remedy(found)) from error
    except OSError as error:
        raise StoreFault(where, found=str(error), remedy=_remedy(str(error))) from error
    except UnicodeError as error:
        raise StoreFault(where, expected="text that UTF-8 can hold", found=str(error)) from error


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection whose reads see one state of the store."""
    with faults(shown(engine.url)), engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin(), _much_kept(connection):
            yield connection


@contextmanager
def writing(engine: Engine, *, alone: bool = False) -> Iterator[Connection]:
    """A transaction that commits at the end of the block and leaves nothing behind when the block raises.

    SQLite has one writer at a time. PostgreSQL's writers share an advisory lock, which `alone` takes for itself: then no
    other write is between its file and its commit.
    """
    with faults(shown(engine.url)), engine.connect() as connection:
        connection.execution_options(immediate=True)
        with connection.begin():
            if engine.dialect.name == "postgresql":
                lock = "pg_advisory_xact_lock" if alone else "pg_advisory_xact_lock_shared"
                connection.execute(text(f"SELECT {lock}(:key)"), {"key": WRITERS_LOCK})
            yield connection


def checkpoint(engine: Engine) -> None:
    """See `Store.checkpoint`; a passive one leaves out what others still read (https://www.sqlite.org/wal.html#ckpt)."""
    if engine.dialect.name != "sqlite":
        return
    with faults(shown(engine.url)):
        raw = engine.raw_connection()
        try:
            raw.driver_connection.execute("PRAGMA wal_checkpoint(PASSIVE)").close()  # type: ignore[union-attr]
        finally:
            raw.close()


@contextmanager
def _much_kept(connection: Connection) -> Iterator[None]:
    """More pages in memory while someone reads: a chart goes through the same ones again and again."""
    if connection.dialect.name != "sqlite":
        yield
        return
    connection.exec_driver_sql(f"PRAGMA {_MUCH}")
    try:
        yield
    finally:
        connection.exec_driver_sql(f"PRAGMA {_LITTLE}")
        connection.exec_driver_sql("PRAGMA shrink_memory")


# KiB of pages that SQLite keeps: a worker that writes board after board must not grow with its store.
_LITTLE, _MUCH = "cache_size=-4096", "cache_size=-65536"


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin late, and never around a schema change
    for pragma in ("foreign_keys=ON", "synchronous=FULL", _LITTLE):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _remedy(found: str) -> str:
    for sign, remedy in _REMEDIES:
        if sign in found.lower():
            return remedy
    return ""


_REMEDIES = (
    ("full", "Make room on the disk, then repeat: what was not written is inspected again."),
    ("no space", "Make room on the disk, then repeat: what was not written is inspected again."),
    ("locked", "Another process holds the store; repeat, and see that none hangs."),
    ("readonly", "The store cannot be written by this user."),
    ("read-only", "The store cannot be written by this user."),
    ("permission denied", "The store cannot be written by this user."),
    ("unable to open", "See that the folder exists and can be written."),
    ("not a database", "Name another file: this one is no store."),
    ("malformed", "The file is damaged: restore it from a copy; joints' files can be read without it."),
    ("[errno 2]", "Restore the joints' files from a copy, or correct files=; the database's counts and defects are whole."),
    ("connection", "See that the database server runs and can be reached."),
)


# ---- store/prepared
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

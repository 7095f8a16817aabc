"""Open the store's database, create its tables, and run transactions and prepared statements.

SQLite runs with `synchronous=FULL`: a record that was acknowledged survives a power cut (NORMAL may lose the last ones,
https://www.sqlite.org/pragma.html#pragma_synchronous). Each write takes its lock at once (`BEGIN IMMEDIATE`), since a
transaction that reads first and writes later fails if another process wrote in between.

Statements that every record runs are compiled once per dialect: SQLAlchemy takes longer to build one than a database to
run it.
"""

import hashlib
import json
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Inspector, MetaData, Table, TableClause, create_engine, event, insert, inspect, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.schema import CreateColumn

from inspect_pop.core.errors import StoreFault, describe_error
from inspect_pop.core.system import utc_now
from inspect_pop.core.text import hide_passwords, resolve_address
from inspect_pop.store.schema import METADATA, VERSION, VIEWS, audit, schema_migrations

__all__ = [
    "PreparedStatement",
    "checkpoint",
    "database_url",
    "hide_password",
    "insert_rows",
    "make_upsert",
    "migrate",
    "open_engine",
    "prepare_statement",
    "reading",
    "run_outside_transaction",
    "translate_errors",
    "use_write_ahead_log",
    "watch_identity",
    "writing",
]

BUSY_S = 60
CONNECT_S = 10
WRITERS_LOCK = 0x706F70  # the advisory lock that every PostgreSQL writer shares and that maintenance takes alone

# KiB of pages that SQLite keeps in memory. A worker that writes board after board must not grow with its store; a reader
# gets more, since a chart goes through the same pages again and again.
_SMALL_CACHE, _LARGE_CACHE = "cache_size=-4096", "cache_size=-65536"
_LOOK_S = 0.5
_MOST_WRITES = 1 << 31  # then the count in the header begins again
_EMPTY_LOG = ("PRAGMA busy_timeout=0", "PRAGMA wal_checkpoint(TRUNCATE)")

_NO_SPACE = "Make room on the disk, then repeat: what was not written is inspected again."
_NO_PERMISSION = "The store cannot be written by this user."
_NO_FOLDER = "Check that the folder exists and can be written."
_NO_SERVER = "Check that the database server runs and can be reached."
_REMEDIES = (
    ("connection to server", _NO_SERVER),  # first: what follows in such a message names a socket's path and its error
    ("full", _NO_SPACE),
    ("no space", _NO_SPACE),
    ("locked", "Another process holds the store; repeat, and see that none hangs."),
    ("readonly", _NO_PERMISSION),
    ("read-only", _NO_PERMISSION),
    ("permission denied", _NO_PERMISSION),
    ("unable to open", _NO_FOLDER),
    ("not a database", "Name another file: this one is not a store."),
    ("malformed", "The file is damaged: restore it from a copy. The files of joints can be read without it."),
    (".parquet", "Restore the joints' files from a copy, or correct files=. The database's counts and defects are complete."),
    ("no such file or directory", _NO_FOLDER),
    ("connection", _NO_SERVER),
)


def database_url(where: str | Path) -> URL:
    """Return the SQLAlchemy URL of a plain path (a SQLite file), of a URL given as text, or of what `env:NAME` names.

    Raises `UsageFault` for an environment variable that is empty, and `StoreFault` for a URL that cannot be parsed, another
    database than SQLite or PostgreSQL, and a SQLite database in memory.
    """
    where = where if isinstance(where, Path) else resolve_address(where)
    if isinstance(where, Path) or "://" not in where:
        return URL.create("sqlite", database=str(where))
    # Neither the error nor its cause is shown: they hold parts of the address, and so perhaps of the password.
    expected = "a path, or an address such as postgresql://user:password@host:5432/name"
    remedy = "Write signs such as @ : / ? # [ in a password as %40 %3A %2F %3F %23 %5B."
    try:
        url = make_url(where)
    except (ArgumentError, ValueError):
        raise StoreFault("--store", expected=expected, found="an address that cannot be read", remedy=remedy) from None
    if "@" in (url.host or ""):
        raise StoreFault("--store", expected=expected, found="an '@' in the host's name", remedy=remedy)
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    backend = url.drivername.partition("+")[0]
    if backend not in ("sqlite", "postgresql"):
        raise StoreFault("--store", expected="a path, sqlite:/// or postgresql://", found=url.drivername)
    if backend == "sqlite" and url.database in (None, "", ":memory:"):
        raise StoreFault("--store", expected="a SQLite file", found="a database in memory", remedy="Name a file.")
    return url


def hide_password(url: URL) -> str:
    """Return the URL as text for messages and logs, each password in it replaced by `***`."""
    return hide_passwords(url.render_as_string(hide_password=True))


def open_engine(url: URL, *, read_only: bool = False) -> Engine:
    """Make an engine for a result of `database_url`. SQLite's folder must exist. Nothing is read or written yet.

    `read_only` opens a SQLite file that this user cannot write (or in a folder that he cannot write) without its log. Raises
    `StoreFault` if the database's driver is not installed, or if such a file's log holds records.
    """
    if not url.drivername.startswith("sqlite"):
        try:
            timeout = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_S}
            return create_engine(url, pool_pre_ping=True, connect_args=timeout)
        except ImportError as error:
            remedy = "Install inspect_pop[postgresql]."
            raise StoreFault(hide_password(url), expected="the psycopg driver", found=str(error), remedy=remedy) from error

    watched = _WatchedFile(Path(str(url.database)))

    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver would begin late, and never around a schema change
        for pragma in ("foreign_keys=ON", "synchronous=FULL", _SMALL_CACHE):
            connection.execute(f"PRAGMA {pragma}").close()

    def begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
        watched.check(connection.get_execution_options().get("store"))

    if read_only and not _may_write(Path(str(url.database))):
        engine = create_engine(url, creator=_make_reader(Path(str(url.database)).absolute()))
    else:
        engine = create_engine(url, connect_args={"timeout": BUSY_S})
    event.listen(engine, "do_connect", lambda *_: watched.check())
    event.listen(engine, "connect", configure)
    event.listen(engine, "begin", begin)
    event.listen(engine, "commit", lambda connection: watched.check(connection.get_execution_options().get("store")))
    return engine


def watch_identity(engine: Engine, store: str) -> None:
    """From now on refuse each transaction on a database that is not this store's any more, such as one written over its file."""
    engine.update_execution_options(store=store)


def _check_identity(connection: Connection) -> None:
    """Refuse a database without the identity of the store that was opened; nothing to do while a store is being opened."""
    store = connection.get_execution_options().get("store")
    if store is None:
        return
    found = connection.exec_driver_sql("SELECT id FROM identity").scalar()
    if found != store:
        where = hide_password(connection.engine.url)
        raise _make_replaced_fault(where, "no identity" if found is None else "another store")


def _count_write(connection: Connection) -> None:
    """Leave in the file's header whose file it is (once) and one more write, for `_WatchedFile`."""
    store = connection.get_execution_options().get("store")
    if store is None:
        return
    number = _make_number(store)
    if connection.exec_driver_sql("PRAGMA application_id").scalar() != number:
        connection.exec_driver_sql(f"PRAGMA application_id={number}")
    n_writes = int(connection.exec_driver_sql("PRAGMA user_version").scalar() or 0)
    connection.exec_driver_sql(f"PRAGMA user_version={(n_writes + 1) % _MOST_WRITES}")


def _make_number(store: str) -> int:
    """Return a store's identity as the number that SQLite keeps for whoever writes the file; never 0, which is nobody's."""
    return zlib.crc32(store.encode()) >> 1 | 1


def _make_replaced_fault(where: str, found: str) -> StoreFault:
    remedy = "Restore the file or its folder, then start again: what was not acknowledged is inspected again."
    return StoreFault(where, expected="the database that was opened", found=found, remedy=remedy)


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def _make_reader(path: Path) -> Callable[[], sqlite3.Connection]:
    """Return what connects to a file that this user cannot write.

    With its log the file is read as others write it (https://www.sqlite.org/wal.html#readonly), without one as a file that
    nobody changes (https://www.sqlite.org/uri.html#uriimmutable).
    """
    log = path.with_name(f"{path.name}-wal")

    def connect(mode: str) -> sqlite3.Connection:
        return sqlite3.connect(f"{path.as_uri()}?{mode}", uri=True, check_same_thread=False)

    with translate_errors(str(path)):
        has_log = log.exists()
        is_whole = not has_log or log.stat().st_size == 0
    if has_log:
        with suppress(sqlite3.Error), closing(connect("mode=ro")) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").close()
            return partial(connect, "mode=ro")
    if not is_whole:
        remedy = f"Copy {path.name} and {log.name} together into a folder that you may write, and read the copy."
        raise StoreFault(str(path), expected="a store that was closed", found=f"records in {log.name}", remedy=remedy)
    return partial(connect, "immutable=1")


class _WatchedFile:
    """A SQLite file that must stay the file that it was: SQLite goes on with a file that has no name any more, or other content.

    A transaction on a database that was deleted, replaced or written over would be lost with it. What was written over is seen
    in the file's header, which SQLite itself would not read again: whose file it is, and how often it was written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._first: tuple[int, int] | None = None
        self._number = self._n_writes = 0
        self._lock = threading.Lock()

    def check(self, store: str | None = None) -> None:
        """Raise `StoreFault` if the file is gone or another one since the first call that found it, or not this `store`'s."""
        try:
            found = self._path.stat()
        except OSError as error:
            if self._first is not None:
                raise _make_replaced_fault(str(self._path), str(error)) from error
            return
        if self._first is None:
            self._first = found.st_dev, found.st_ino
        if self._first != (found.st_dev, found.st_ino):
            raise _make_replaced_fault(str(self._path), "another file")
        if store is None:
            return
        with self._lock:  # a thread that looked earlier must not compare later: the count would seem to fall
            self._check_header(_make_number(store))

    def _check_header(self, expected: int) -> None:
        number, n_writes = self._read_header()
        # A store of an earlier version has no number, nor has one whose first write is still in the log.
        if number != expected and (self._number or number):
            raise _make_replaced_fault(str(self._path), "another database in the same file")
        if 0 < self._n_writes - n_writes < _MOST_WRITES // 2:
            raise _make_replaced_fault(str(self._path), "an older copy in the same file")
        self._number, self._n_writes = number, n_writes

    def _read_header(self) -> tuple[int, int]:
        """Return whose file it is and how often it was written, by SQLite itself: closing a file of its would end its locks.

        See https://www.sqlite.org/howtocorrupt.html, 2.2. While another process moves its log into the file, the file may be
        shorter than its header says: `writable_schema` leaves that out of account, and a second look helps in any case.
        """
        address = f"{self._path.absolute().as_uri()}?immutable=1"
        give_up = time.monotonic() + _LOOK_S
        while True:
            try:
                with closing(sqlite3.connect(address, uri=True)) as header:
                    header.execute("PRAGMA writable_schema=ON").close()
                    number, n_writes = (
                        header.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
                    )
                    return int(number), int(n_writes)
            except (sqlite3.Error, TypeError) as error:
                if time.monotonic() > give_up:
                    raise _make_replaced_fault(str(self._path), str(error)) from error
            time.sleep(0.05)


@contextmanager
def translate_errors(where: str) -> Iterator[None]:
    """Turn errors of the database and the disk into a `StoreFault` that names the store `where`."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        found = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise StoreFault(where, found=found, remedy=_find_remedy(found)) from error
    except OSError as error:
        found = f"{describe_error(error)} ({error.filename})" if error.filename else describe_error(error)
        raise StoreFault(where, found=found, remedy=_find_remedy(found)) from error
    except UnicodeError as error:
        raise StoreFault(where, expected="text that UTF-8 can hold", found=str(error)) from error


def _find_remedy(found: str) -> str:
    return next((remedy for sign, remedy in _REMEDIES if sign in found.lower()), "")


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Yield a connection whose queries all see the same state of the store. Raises `StoreFault`."""
    with translate_errors(hide_password(engine.url)), engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                _check_identity(connection)
                yield connection
            return
        with connection.begin():
            _check_identity(connection)
            connection.exec_driver_sql(f"PRAGMA {_LARGE_CACHE}")
            try:
                yield connection
            finally:
                connection.exec_driver_sql(f"PRAGMA {_SMALL_CACHE}")
                connection.exec_driver_sql("PRAGMA shrink_memory")


@contextmanager
def writing(engine: Engine, *, alone: bool = False) -> Iterator[Connection]:
    """Yield a connection whose transaction commits when the block ends, and is rolled back if the block raises.

    SQLite has one writer at a time. PostgreSQL's writers share an advisory lock; `alone` takes it exclusively, so that no
    other write is between placing its file and its commit. Raises `StoreFault`.
    """
    with translate_errors(hide_password(engine.url)), engine.connect() as connection:
        connection.execution_options(immediate=True)
        with connection.begin():
            if engine.dialect.name == "postgresql":
                lock = "pg_advisory_xact_lock" if alone else "pg_advisory_xact_lock_shared"
                connection.execute(text(f"SELECT {lock}(:key)"), {"key": WRITERS_LOCK})
            _check_identity(connection)
            if engine.dialect.name == "sqlite":
                _count_write(connection)
            yield connection


def checkpoint(engine: Engine, *, empty: bool = False) -> None:
    """Move SQLite's log into the database file; nothing to do for PostgreSQL.

    What others still read stays in the log. `empty` also empties the log if nobody reads or writes at the moment
    (https://www.sqlite.org/wal.html#ckpt); this connection waits for nobody from then on. Raises `StoreFault`.
    """
    if engine.dialect.name == "sqlite":
        run_outside_transaction(engine, *(_EMPTY_LOG if empty else ("PRAGMA wal_checkpoint(PASSIVE)",)))


def use_write_ahead_log(engine: Engine) -> None:
    """Switch a SQLite database to its write-ahead log; the mode is kept in the file. Raises `StoreFault`.

    Where several processes switch at the same moment, SQLite answers "locked" at once rather than wait, so this tries again.
    """
    give_up = time.monotonic() + BUSY_S
    while True:
        try:
            run_outside_transaction(engine, "PRAGMA journal_mode=WAL")
            return
        except StoreFault as fault:
            if "locked" not in fault.found or time.monotonic() > give_up:
                raise
        time.sleep(0.05)


def run_outside_transaction(engine: Engine, *statements: str) -> None:
    """Run statements of SQLite that must not be part of a transaction, on one connection. Raises `StoreFault`."""
    with translate_errors(hide_password(engine.url)):
        raw = engine.raw_connection()
        try:
            for statement in statements:
                raw.driver_connection.execute(statement).close()  # type: ignore[union-attr]
        finally:
            raw.close()


Row = Mapping[str, Any]
PreparedStatement = Callable[[Connection, Row | Sequence[Row]], Any]


def prepare_statement(statement: Any, dialect: Any, names: Sequence[str] | None = None) -> PreparedStatement:
    """Compile a statement; return a function that runs it on a connection with one row of parameters, or with many.

    Parameters
    ----------
    statement
        A SQLAlchemy Core statement.
    dialect
        The connection's dialect.
    names
        The columns that an insert gets. None: the statement names its parameters itself.

    The values go to the driver as they are. The types of the store's tables (text, integers, doubles) need no conversion in
    either driver.
    """
    compiled = statement.compile(dialect=dialect, column_keys=None if names is None else list(names))
    sql, order, constants = str(compiled), compiled.positiontup, dict(compiled.params)

    def to_values(row: Row) -> Any:
        values = {**constants, **row}
        return values if order is None else tuple(values[name] for name in order)

    def run(connection: Connection, row: Row | Sequence[Row]) -> Any:
        values = to_values(row) if isinstance(row, Mapping) else [to_values(one) for one in row]
        return connection.exec_driver_sql(sql, values)

    return run


def insert_rows(connection: Connection, table: TableClause, rows: Sequence[Row]) -> None:
    """Insert rows that all have the same columns. Does nothing without rows."""
    if rows:
        _prepare_insert(table, tuple(rows[0]), connection.dialect)(connection, rows)


@cache
def _prepare_insert(table: TableClause, names: tuple[str, ...], dialect: Any) -> PreparedStatement:
    return prepare_statement(insert(table).inline(), dialect, names)


def make_upsert(table: TableClause, dialect: str) -> Any:
    """Return an insert that takes `on_conflict_do_nothing` and `on_conflict_do_update`, for `sqlite` or `postgresql`."""
    module: Any = postgresql if dialect == "postgresql" else sqlite
    return module.insert(table).inline()


# Create the store's tables in SQLite or PostgreSQL, or add what an existing store lacks.
#
# `migrate` creates the tables in an empty database. In an existing store it adds what a later version has declared, such as
# the columns of a new class or measurement: it compares the tables with the database and adds what is missing, in one
# transaction, under a lock that makes processes which start at the same time wait for one another. A step that fails leaves
# nothing behind. A column that is added later must allow null or have a default, since the rows in the store lack it.
# A change that is not an addition needs a new `VERSION` and a step of its own in `migrate`.


# The audit trail is only added to: the database refuses anything else, whoever asks with the program's rights.
_KEEP_AUDIT: dict[str, list[str]] = {
    "sqlite": [
        f"CREATE TRIGGER IF NOT EXISTS audit_no_{what} BEFORE {what} ON audit "
        "BEGIN SELECT RAISE(ABORT, 'the audit trail is only added to'); END"
        for what in ("update", "delete")
    ],
    "postgresql": [
        "CREATE OR REPLACE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit trail is only added to'; END $$",
        *(
            statement
            for what in ("update", "delete", "truncate")
            for statement in (
                f"DROP TRIGGER IF EXISTS audit_no_{what} ON audit",
                f"CREATE TRIGGER audit_no_{what} BEFORE {what} ON audit "
                "FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()",
            )
        ),
    ],
}


def migrate(
    engine: Engine,
    metadata: MetaData = METADATA,
    version: int = VERSION,
    fill: Callable[[Connection, int], None] | None = None,
    *,
    must_exist: bool = False,
) -> None:
    """Create the tables, or add what an existing store lacks.

    `fill` gets the connection and the version that an existing store had, to fill what was added, in the same transaction.
    Raises `StoreFault` if the store is newer than this software, or if the database belongs to other software, or, where the
    store `must_exist`, is empty.
    """
    digest = _digest_tables(metadata)
    with reading(engine) as connection:
        number, *latest = _read_latest(connection, metadata)
    if [version, digest] == latest:
        return
    if must_exist and not number:
        remedy = "Inspect something first, or correct the address."
        raise StoreFault(hide_password(engine.url), expected="a store", found="an empty database", remedy=remedy)
    if engine.dialect.name == "sqlite":
        use_write_ahead_log(engine)
    with writing(engine, alone=True) as connection:
        number, found_version, found_digest = _read_latest(connection, metadata)
        if (version, digest) == (found_version, found_digest):
            return  # another process was first
        if found_version > version:
            _refuse_newer(engine, f"schema {version} or older", f"schema {found_version}")
        added = _add_missing(connection, metadata)
        if fill is not None and number:
            fill(connection, found_version)
        row = {"number": number + 1, "name": added, "applied_at": utc_now(), "version": version, "digest": digest}
        connection.execute(insert(schema_migrations), row)


@cache
def _digest_tables(metadata: MetaData) -> str:
    """Return a digest of all names of tables, columns and indexes."""
    names = {t.name: [[c.name for c in t.c], sorted(str(i.name) for i in t.indexes)] for t in metadata.sorted_tables}
    return hashlib.sha256(json.dumps(names, sort_keys=True).encode()).hexdigest()


def _read_latest(connection: Connection, metadata: MetaData) -> tuple[int, int, str]:
    """Return number, version and digest of the latest step; (0, 0, "") for an empty database."""
    known = set(inspect(connection).get_table_names())
    if schema_migrations.name in known:
        query = "SELECT * FROM schema_migrations ORDER BY number DESC LIMIT 1"
        result = connection.exec_driver_sql(query)
        if set(result.keys()) >= set(schema_migrations.c.keys()):
            row = result.first()
            return (0, 0, "") if row is None else (row.number, row.version, row.digest)
    elif not known & set(metadata.tables):
        return 0, 0, ""
    where = hide_password(connection.engine.url)
    raise StoreFault(where, expected="a store or an empty database", found="tables of another software")


def _add_missing(connection: Connection, metadata: MetaData) -> str:
    """Create the tables, columns, indexes and views that the database lacks; return what was added, in words."""
    found = inspect(connection)
    existing = set(found.get_table_names())
    added = []
    for view in VIEWS:
        connection.exec_driver_sql(f"DROP VIEW IF EXISTS {view}")
    for table in metadata.sorted_tables:
        if table.name not in existing:
            table.create(connection)
            added.append(table.name)
            continue
        added += _add_columns(connection, found, table)
    for name, query in VIEWS.items():
        connection.exec_driver_sql(f"CREATE VIEW {name} AS {query.compile(dialect=connection.dialect)}")
    if audit.name in metadata.tables:
        for statement in _KEEP_AUDIT[connection.dialect.name]:
            connection.exec_driver_sql(statement)
    return "all tables" if not existing & set(metadata.tables) else ", ".join(added)


def _add_columns(connection: Connection, found: Inspector, table: Table) -> list[str]:
    existing = {c["name"] for c in found.get_columns(table.name)}
    if unknown := existing - set(table.c.keys()):
        _refuse_newer(connection.engine, f"the columns of {table.name} that this software knows", ", ".join(sorted(unknown)))
    missing = [c for c in table.c if c.name not in existing]
    for column_ in missing:
        words = CreateColumn(column_).compile(dialect=connection.dialect)
        connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {words}")
    indexed = {i["name"] for i in found.get_indexes(table.name)}
    new_indexes = [i for i in table.indexes if i.name not in indexed]
    for index in new_indexes:
        index.create(connection)
    return [f"{table.name}.{c.name}" for c in missing] + [str(i.name) for i in new_indexes]


def _refuse_newer(engine: Engine, expected: str, found: str) -> None:
    remedy = "Update the software; an older one must not write into a newer store."
    raise StoreFault(hide_password(engine.url), expected=expected, found=found, remedy=remedy)

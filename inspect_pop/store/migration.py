"""Create the store's tables in SQLite or PostgreSQL, or add what an existing store lacks.

`migrate` creates the tables in an empty database. In an existing store it adds what a later version has declared, such as
the columns of a new class or measurement: it compares the tables with the database and adds what is missing, in one
transaction, under a lock that makes processes which start at the same time wait for one another. A step that fails leaves
nothing behind. A column that is added later must allow null or have a default, since the rows in the store lack it.
A change that is not an addition needs a new `VERSION` and a step of its own in `migrate`.
"""

import hashlib
import json
from collections.abc import Callable
from functools import cache

from sqlalchemy import Connection, Engine, Inspector, MetaData, Table, insert, inspect
from sqlalchemy.schema import CreateColumn

from inspect_pop.core.clock import utc_now
from inspect_pop.core.errors import StoreFault
from inspect_pop.store.engine import hide_password, reading, use_write_ahead_log, writing
from inspect_pop.store.schema import METADATA, VERSION, VIEWS, audit, schema_migrations

__all__ = ["migrate"]

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
) -> None:
    """Create the tables, or add what an existing store lacks.

    `fill` gets the connection and the version that an existing store had, to fill what was added, in the same transaction.
    Raises `StoreFault` if the store is newer than this software, or if the database belongs to other software.
    """
    digest = _digest_tables(metadata)
    with reading(engine) as connection:
        if (version, digest) == _read_latest(connection, metadata)[1:]:
            return
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

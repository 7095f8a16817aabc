"""The schema is created, and grows, whole or not at all, whoever starts it."""

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Column, Engine, ForeignKey, Index, Integer, MetaData, Table, Text, inspect, text

from inspect_pop.core.classes import CLASSES
from inspect_pop.core.columns import AGGREGATES, COLUMNS
from inspect_pop.core.errors import StoreFault
from inspect_pop.store import Store, open_store
from inspect_pop.store.engine import database_url, migrate, open_engine
from inspect_pop.store.schema import METADATA, TABLES, VERSION, VIEWS
from tests.factories import make_inspection


@pytest.fixture
def engine(new_url: str) -> Iterator[Engine]:
    engine = open_engine(database_url(new_url))
    yield engine
    engine.dispose()


def find_tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names())


def steps(engine: Engine) -> list[tuple[int, str]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text("SELECT number, name FROM schema_migrations ORDER BY number"))]


def later(*, without_default: bool = False) -> MetaData:
    """The tables of a later version: a new class, a new measured column with its index, a new table."""
    metadata = MetaData()
    for table in METADATA.sorted_tables:
        table.to_metadata(metadata)
    for name in ("boards", "interfaces", "rollups"):
        metadata.tables[name].append_column(Column("n_future_class", Integer, nullable=False, server_default=text("0")))
    defects = metadata.tables["defects"]
    defects.append_column(Column("future_length_um", Integer, nullable=not without_default))
    Index("defects_future", defects.c.future_length_um)
    Table("remarks", metadata, Column("board_id", Integer, ForeignKey("boards.id"), primary_key=True), Column("remark", Text))
    return metadata


def test_the_database_has_the_tables_columns_keys_and_indexes_that_are_declared(engine: Engine) -> None:
    migrate(engine)
    found = inspect(engine)
    assert find_tables(engine) == {t.name for t in TABLES} | {"schema_migrations"}
    assert set(found.get_view_names()) == set(VIEWS)
    for table in TABLES:
        columns = found.get_columns(table.name)
        assert [c["name"] for c in columns] == [c.name for c in table.c], table.name
        assert [c["nullable"] for c in columns] == [c.nullable for c in table.c], table.name
        assert found.get_pk_constraint(table.name)["constrained_columns"] == [c.name for c in table.primary_key], table.name
        declared = {(c.name, f.target_fullname) for c in table.c for f in c.foreign_keys}
        keys = found.get_foreign_keys(table.name)
        assert {(k["constrained_columns"][0], f"{k['referred_table']}.{k['referred_columns'][0]}") for k in keys} == declared
        indexes = {i["name"] for i in found.get_indexes(table.name) if not i.get("duplicates_constraint")}
        assert indexes == {i.name for i in table.indexes}, table.name


def test_tables_without_a_number_are_clustered_by_their_key_in_sqlite(tmp_path) -> None:
    with open_store(tmp_path / "records.db") as store, store.reading() as connection:
        found = dict(connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'table'").all())
        waiting = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = 'messages_waiting'").scalar_one()
    clustered = {name for name, sql in found.items() if sql.rstrip().endswith("WITHOUT ROWID")}
    assert clustered == {"positions", "packages", "interfaces", "defects", "rollups", "samples", "queue"}
    assert waiting.endswith("WHERE delivered_at IS NULL")


def test_columns_follow_from_the_classes_and_the_columns_of_joints() -> None:
    tables = METADATA.tables
    for name in ("boards", "interfaces", "rollups"):
        counts = {f"n_{c}" for c in CLASSES}
        assert counts <= set(tables[name].c.keys())
        assert all(tables[name].c[n].server_default is not None for n in counts)  # a later version can add one
    stored = [c.name for c in COLUMNS if c.stored]
    assert {f"p_{c}" for c in CLASSES} <= set(stored)
    for table, names in ((tables["defects"], stored), (tables["interfaces"], [a.name for a in AGGREGATES])):
        assert set(names) <= set(table.c.keys())
        assert all(table.c[n].nullable for n in names)


def test_a_new_database_takes_one_step(engine: Engine) -> None:
    migrate(engine)
    migrate(engine)
    assert steps(engine) == [(1, "all tables")]


def test_a_later_version_adds_what_is_missing_and_keeps_what_is_there(engine: Engine, store: Store) -> None:
    record = store.write(make_inspection("S", defects={"U1.lower.A1": "open"})).record
    migrate(engine, later())
    migrate(engine, later())
    number, added = steps(engine)[-1]
    assert number == 2
    assert set(added.split(", ")) == {
        *("boards.n_future_class", "interfaces.n_future_class", "rollups.n_future_class"),
        *("defects.future_length_um", "defects_future", "remarks"),
    }
    with engine.connect() as connection:
        assert connection.execute(text("SELECT record, n_open, n_future_class FROM boards")).one() == (record, 1, 0)
        assert connection.execute(text("SELECT future_length_um FROM defects")).one() == (None,)
        assert connection.execute(text("SELECT record FROM board_records")).one() == (record,)
    assert "defects_future" in {i["name"] for i in inspect(engine).get_indexes("defects")}


def test_a_step_that_fails_leaves_nothing_behind(engine: Engine, store: Store) -> None:
    store.write(make_inspection("S", defects={"U1.lower.A1": "open"}))
    with pytest.raises(StoreFault, match=r"future_length_um|NOT NULL"):
        migrate(engine, later(without_default=True))
    assert "remarks" not in find_tables(engine)
    assert "n_future_class" not in {c["name"] for c in inspect(engine).get_columns("boards")}
    assert set(inspect(engine).get_view_names()) == set(VIEWS)
    assert len(steps(engine)) == 1
    migrate(engine, later())
    assert "remarks" in find_tables(engine)


def test_a_store_with_columns_of_a_newer_version_is_refused(engine: Engine, new_url: str) -> None:
    migrate(engine, later())
    with pytest.raises(StoreFault, match=r"columns of \w+ that this software knows, found \w+.*Update the software"):
        open_store(new_url)
    assert len(steps(engine)) == 1


def test_a_store_of_a_newer_version_is_refused(engine: Engine, new_url: str) -> None:
    migrate(engine, version=VERSION + 1)
    expected = rf"expected schema {VERSION} or older, found schema {VERSION + 1}.*Update the software"
    with pytest.raises(StoreFault, match=expected):
        open_store(new_url)


def test_a_history_of_other_software_is_refused(engine: Engine, new_url: str) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE schema_migrations (number INTEGER, name TEXT)"))
    with pytest.raises(StoreFault, match="tables of another software"):
        open_store(new_url)


def test_many_may_start_at_once(new_url: str) -> None:
    start, errors = threading.Barrier(6), []

    def begin() -> None:
        start.wait()
        try:
            open_store(new_url).close()
        except StoreFault as fault:
            errors.append(fault)

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []

"""The schema grows step by step, each step whole or not at all, whoever starts it."""

import re
import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, text

from inspect_pop.core.errors import StoreFault
from inspect_pop.store import open_store
from inspect_pop.store.engine import database_url, open_engine
from inspect_pop.store.schema import MIGRATIONS, TABLES, Migration, migrate

NEXT = len(MIGRATIONS) + 1


@pytest.fixture
def engine(new_url: str):
    engine = open_engine(database_url(new_url))
    yield engine
    engine.dispose()


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names())


def test_statements_name_the_tables_and_columns_that_the_migrations_make(engine: Engine) -> None:
    migrate(engine)
    found = inspect(engine)
    assert tables(engine) == {t.name for t in TABLES} | {"schema_migrations"}
    for table in TABLES:
        assert [c["name"] for c in found.get_columns(table.name)] == [c.name for c in table.c], table.name


def test_each_step_is_recorded_once(engine: Engine) -> None:
    migrate(engine)
    migrate(engine)
    with engine.connect() as connection:
        done = connection.execute(text("SELECT number, name FROM schema_migrations ORDER BY number")).all()
    assert [tuple(row) for row in done] == [(m.number, m.name) for m in MIGRATIONS]


def test_a_later_step_is_added_to_what_is_there(engine: Engine) -> None:
    migrate(engine)
    migrate(engine, (*MIGRATIONS, Migration(NEXT, "more", "-- why\nCREATE TABLE more (x ${identity}) ${clustered};")))
    assert "more" in tables(engine)


def test_a_step_that_fails_leaves_nothing_behind(engine: Engine) -> None:
    bad = Migration(NEXT, "bad", "CREATE TABLE half (x INTEGER PRIMARY KEY);\nINSERT INTO nowhere VALUES (1);")
    with pytest.raises(StoreFault, match="nowhere"):
        migrate(engine, (*MIGRATIONS, bad))
    assert "half" not in tables(engine)
    migrate(engine, (*MIGRATIONS, Migration(NEXT, "good", "CREATE TABLE half (x INTEGER PRIMARY KEY);")))
    assert "half" in tables(engine)


def test_a_newer_store_is_refused(engine: Engine, new_url: str) -> None:
    migrate(engine, (*MIGRATIONS, Migration(NEXT, "future", "CREATE TABLE future (x INTEGER);")))
    with pytest.raises(
        StoreFault, match=rf"expected schema {len(MIGRATIONS)} or older, found schema {NEXT}.*Update the software"
    ):
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


def test_the_numbers_have_no_gap_and_the_list_is_read_in_order() -> None:
    assert [m.number for m in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))
    files = sorted(Path(__file__).parents[2].glob("inspect_pop/store/migrations/*.sql"))
    assert all(re.fullmatch(r"\d{4}_[a-z_]+\.sql", f.name) for f in files)
    assert len(files) == len(MIGRATIONS)

"""Statements compiled once say what SQLAlchemy would have said."""

import errno
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, bindparam, column, create_engine, insert, literal, select, table, text
from sqlalchemy.dialects import postgresql

from inspect_pop.core.errors import StoreFault
from inspect_pop.store.engine import insert_rows, make_upsert, prepare_statement, translate_errors

BALLS = table("balls", column("id"), column("name"), column("um"))


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.begin() as opened:
        opened.execute(text("CREATE TABLE balls (id INTEGER PRIMARY KEY, name TEXT UNIQUE, um REAL)"))
        yield opened
    engine.dispose()


def kept(connection: Connection) -> list[tuple[object, ...]]:
    return [tuple(row) for row in connection.execute(select(BALLS.c.name, BALLS.c.um).order_by(BALLS.c.id))]


def test_rows_go_in_whatever_the_order_of_their_columns(connection: Connection) -> None:
    insert_rows(connection, BALLS, [{"name": "A1", "um": 1.5}, {"um": None, "name": "100 % ü"}])
    insert_rows(connection, BALLS, [{"um": 2.5, "name": "A2"}])
    insert_rows(connection, BALLS, [])
    assert kept(connection) == [("A1", 1.5), ("100 % ü", None), ("A2", 2.5)]


def test_what_was_inserted_is_returned(connection: Connection) -> None:
    run = prepare_statement(insert(BALLS).returning(BALLS.c.id), connection.dialect, ("name", "um"))
    ids = [run(connection, {"name": name, "um": 0.0}).scalar_one() for name in ("A1", "A2")]
    assert ids == [1, 2]


def test_values_that_the_statement_holds_itself_stay(connection: Connection) -> None:
    insert_rows(connection, BALLS, [{"name": "A1", "um": 1.5}])
    query = select(literal("ball"), BALLS.c.um * 2).where(BALLS.c.name == bindparam("which"))
    run = prepare_statement(query, connection.dialect)
    assert tuple(run(connection, {"which": "A1"}).one()) == ("ball", 3.0)
    assert run(connection, {"which": "A2"}).first() is None


def test_a_row_that_is_there_is_skipped(connection: Connection) -> None:
    statement = make_upsert(BALLS, "sqlite").on_conflict_do_nothing(index_elements=["name"])
    run = prepare_statement(statement, connection.dialect, ("name", "um"))
    run(connection, [{"name": "A1", "um": 1.5}, {"name": "A1", "um": 9.0}])
    assert kept(connection) == [("A1", 1.5)]


def test_postgresql_gets_its_own_words() -> None:
    sent: list[object] = []

    class Driver:
        def exec_driver_sql(self, statement: str, parameters: object) -> None:
            sent.extend((statement, parameters))

    prepare_statement(insert(BALLS), postgresql.dialect(paramstyle="pyformat"), ("name",))(Driver(), {"name": "A1"})  # type: ignore[arg-type, no-untyped-call]
    assert sent == ["INSERT INTO balls (name) VALUES (%(name)s)", {"name": "A1"}]


@pytest.mark.parametrize(
    ("name", "advice"), [("/nowhere", "Check that the folder exists"), ("/s/a.parquet", "Restore the joints' files")]
)
def test_what_is_missing_decides_the_advice(name: str, advice: str) -> None:
    with pytest.raises(StoreFault, match=advice) as fault, translate_errors("s.db"):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)
    assert f"({name})" in str(fault.value) and "Errno" not in str(fault.value)

"""Rows that many boards share, kept once: what a board needs of them is looked up together, and made where it is missing."""

from functools import cache
from typing import Any

from sqlalchemy import BindParameter, Connection, Select, TableClause, bindparam, false, literal, or_, select, union_all

from inspect_pop.store import rows
from inspect_pop.store.prepared import Run, insert_or_skip, prepared
from inspect_pop.store.schema import boards, contexts, digests, recipes, sites

__all__ = ["Shared", "insert_new"]


def insert_new(connection: Connection, table: TableClause, row: rows.Row, key: str) -> bool:
    """Insert a row unless one with the same `key`, a unique column, is there; whether it was inserted."""
    statement = insert_or_skip(table, connection.dialect.name).on_conflict_do_nothing(index_elements=[key])
    return connection.execute(statement.returning(literal(1)), row).first() is not None


class Shared:
    """What the database knows already of one record, its serial and the rows that it shares, by one query."""

    def __init__(self, connection: Connection, record: rows.RecordRows) -> None:
        self._connection, self._record = connection, record
        board = record.record
        wanted = {"record": board.record, "serial": board.serial, "recipe": board.recipe_digest, "context": record.context["key"]}
        places = {f"site{i}": site["key"] for i, site in enumerate(record.sites)}
        found = _lookup(connection.dialect, len(places))(connection, wanted | places)
        self._ids = {(what, key): int(number) for what, key, number in found}

    @property
    def is_known(self) -> bool:
        """Whether the record is there."""
        return ("record", self._record.record.record) in self._ids

    @property
    def first(self) -> int | None:
        """The id of the serial's first inspection."""
        return self._ids.get(("serial", self._record.record.serial))

    @property
    def recipe(self) -> int:
        """The recipe's id."""
        return self._id("recipe", recipes, {"digest": self._record.record.recipe_digest}, "digest")

    @property
    def context(self) -> int:
        """The id of day, lot and line."""
        return self._id("context", contexts, self._record.context)

    @property
    def digests(self) -> int:
        """The id of what made the record."""
        return self._id("digests", digests, rows.digests_row(self._record.record, self.recipe))

    def site(self, row: rows.Row) -> int:
        """The id of a package's place."""
        return self._id("site", sites, row)

    def _id(self, what: str, table: TableClause, row: rows.Row, key: str = "key") -> int:
        """The id of a shared row, which is made where it is missing; another writer may make it at the same time."""
        named = (what, row[key])
        if named not in self._ids:
            query = select(table.c.id).where(table.c[key] == row[key])
            found = self._connection.scalar(query)
            if found is None:
                insert_new(self._connection, table, row, key)
                found = self._connection.execute(query).scalar_one()
            self._ids[named] = int(found)
        return self._ids[named]


@cache
def _lookup(dialect: Any, n_sites: int) -> Run:
    """(what, key, id) of all that is there."""
    places: list[BindParameter[str]] = [bindparam(f"site{i}") for i in range(n_sites)]
    statement = union_all(
        _known("record", boards, "record"),
        _known("serial", boards, "serial").where(boards.c.inspection_no == 1),
        _known("recipe", recipes, "digest"),
        _known("context", contexts, "key"),
        select(literal("site"), sites.c.key, sites.c.id).where(or_(false(), *(sites.c.key == place for place in places))),
    )
    return prepared(statement, dialect)


def _known(what: str, table: TableClause, key: str) -> Select[Any]:
    return select(literal(what), table.c[key], table.c.id).where(table.c[key] == bindparam(what))

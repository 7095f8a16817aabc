"""The audit trail is added to, and nothing else, whoever asks."""

import pytest
from sqlalchemy import text

from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.store import Store
from inspect_pop.store.engine import writing

CHANGES = ["UPDATE audit SET who = 'nobody'", "DELETE FROM audit"]


@pytest.mark.parametrize("change", CHANGES)
def test_the_database_refuses_to_change_the_trail(store: Store, change: str) -> None:
    store.audit("Ada", "model taken", "abc", before={"model": "old"}, after={"model": "new"})
    with pytest.raises(StoreFault, match="only added to"), writing(store._engine) as connection:
        connection.execute(text(change))
    (entry,) = store.list_audit()
    assert (entry.who, entry.before, entry.after) == ("Ada", {"model": "old"}, {"model": "new"})


def test_postgresql_refuses_to_empty_the_trail(store: Store) -> None:
    if store._engine.dialect.name != "postgresql":
        pytest.skip("SQLite has no TRUNCATE")
    store.audit("Ada", "model taken", "abc")
    with pytest.raises(StoreFault, match="only added to"), writing(store._engine) as connection:
        connection.execute(text("TRUNCATE audit"))


def test_the_trail_is_read_in_order_from_a_time_on(store: Store) -> None:
    for k in range(3):
        store.audit(f"person {k}", "log-in", "")
    trail = store.list_audit()
    assert [e.who for e in trail] == ["person 0", "person 1", "person 2"]
    assert [e.who for e in store.list_audit(limit=2)] == ["person 0", "person 1"]
    assert store.list_audit(since="2100-01-01T00:00:00+00:00") == []
    assert store.list_audit(since=trail[0].at) == trail
    with pytest.raises(UsageFault, match="since"):
        store.list_audit(since="yesterday")

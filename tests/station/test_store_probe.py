"""`/readyz` asks the store; a store that hangs or is away holds up nothing else."""

import asyncio
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inspect_pop.core.errors import StoreFault
from inspect_pop.station import station
from inspect_pop.station.routes import get_metrics
from inspect_pop.station.station import Station, StoreProbe
from inspect_pop.store import open_store


class FakeStore:
    def __init__(self) -> None:
        self.n_looks, self.fault = 0, ""
        self.may_answer = threading.Event()
        self.may_answer.set()

    def check_writable(self) -> int:
        self.n_looks += 1
        self.may_answer.wait(60)
        if self.fault:
            raise StoreFault("the store", found=self.fault)
        return 3

    def count_set_aside(self) -> int:
        if self.fault:
            raise StoreFault("the store", found=self.fault)
        return 2


def probe(store: Any) -> StoreProbe:
    return StoreProbe(store)


def test_many_who_ask_cause_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use() -> None:
        store = FakeStore()
        found = probe(store)
        states = await asyncio.gather(*(found.find_state() for _ in range(50)))
        assert {(s.fault, s.waiting, s.set_aside) for s in states} == {("", 3, 2)}
        assert store.n_looks == 1

    asyncio.run(use())


def test_a_store_that_hangs_is_a_fault_after_some_seconds_and_takes_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(station, "PATIENCE_S", 0.05)

    async def use() -> None:
        store = FakeStore()
        store.may_answer.clear()
        found = probe(store)
        for _ in range(3):
            assert "has not answered" in (await found.find_state()).fault
        assert store.n_looks == 1
        store.may_answer.set()

    asyncio.run(use())


def test_a_station_is_not_ready_while_its_store_is_away_and_ready_again_without_a_board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(station, "FRESH_S", 0.0)

    async def use() -> None:
        store: Any = FakeStore()
        station = Station(SimpleNamespace(store="records.db"), SimpleNamespace(), store)  # type: ignore[arg-type]
        assert (await station.find_store_state()).fault == ""
        store.fault = "it is away"
        assert "it is away" in (await station.find_store_state()).fault
        station.store_fault = "a board could not be recorded"
        store.fault = ""
        assert (await station.find_store_state()).fault == ""
        assert station.store_fault == ""

    asyncio.run(use())


def test_metrics_are_read_while_the_store_is_away() -> None:
    """They are wanted most then."""

    async def use() -> None:
        store: Any = FakeStore()
        pool: Any = SimpleNamespace(waiting=0, alive=1, busy=0, model="m")
        station = Station(SimpleNamespace(store="records.db"), pool, store)  # type: ignore[arg-type]
        store.fault = "it is away"
        lines = bytes((await get_metrics(station)).body).decode().splitlines()
        assert {"inspect_pop_outbox_waiting NaN", "inspect_pop_outbox_set_aside NaN"} <= set(lines)

    asyncio.run(use())


def test_a_failed_board_counts_until_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(station, "FRESH_S", 600.0)

    async def use() -> None:
        station = Station(SimpleNamespace(store="records.db"), SimpleNamespace(), FakeStore())  # type: ignore[arg-type]
        assert (await station.find_store_state()).fault == ""
        station.store_fault = "a board could not be recorded"
        assert (await station.find_store_state()).fault == "a board could not be recorded"

    asyncio.run(use())


def test_a_store_that_is_there_is_writable_and_one_that_was_deleted_is_not(tmp_path: Path) -> None:
    file = tmp_path / "records.db"
    with open_store(file) as store:
        assert store.check_writable() == 0
        file.unlink()
        with pytest.raises(StoreFault, match="the database that was opened"):
            store.check_writable()


def test_a_disk_without_room_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(tmp_path / "records.db") as store:
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
        with pytest.raises(StoreFault, match="Make room"):
            store.check_writable()


def test_looking_takes_no_time_that_a_board_would_notice(tmp_path: Path) -> None:
    with open_store(tmp_path / "records.db") as store:
        started = time.monotonic()
        for _ in range(20):
            store.check_writable()
        assert time.monotonic() - started < 20

"""Result files follow the store: every new board and decision once, across restarts and shares that go away."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from inspect_pop.core.errors import StoreFault
from inspect_pop.messages.publisher import FollowedTarget, ResultsFollower
from inspect_pop.report.write import ResultsTarget, parse_target
from inspect_pop.station.serve import run_publisher
from inspect_pop.station.settings import ServiceSettings
from inspect_pop.store import Decision, Store, open_store
from tests.factories import make_inspection

SIDE = {"lower": 2, "upper": 2}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "r.db") as opened:
        yield opened


@pytest.fixture
def target(tmp_path: Path) -> ResultsTarget:
    return parse_target(f"board.json={tmp_path / 'out'}")


def add(store: Store, serial: str) -> str:
    inspection = make_inspection(serial, side=SIDE, defects={"U1.lower.A1": "open"})
    return store.write(inspection).record


def decide(store: Store, record: str, state: str = "DefectRejected") -> None:
    store.add_decision(Decision(record, "U1", "lower", "A1", state, "Ada", "2026-01-02T03:04:05+00:00"))


def serials(target: ResultsTarget) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in target.folder.glob("*.json") if not path.name.startswith("."))


def test_a_folder_begins_with_the_next_board(store: Store, target: ResultsTarget) -> None:
    add(store, "S0")
    followed = FollowedTarget.begin(target, store)
    assert followed.catch_up(store) == 0
    add(store, "S1")
    assert (followed.catch_up(store), followed.catch_up(store)) == (1, 0)
    assert serials(target) == ["S1"]


def test_after_a_decision_the_file_follows(store: Store, target: ResultsTarget) -> None:
    followed = FollowedTarget.begin(target, store)
    record = add(store, "S1")
    followed.catch_up(store)
    (path,) = target.folder.glob("S1*")
    assert '"final": "fail"' in path.read_text()
    decide(store, record)
    followed.catch_up(store)
    assert '"final": "pass"' in path.read_text() and "DefectRejected" in path.read_text()


def test_what_came_while_nobody_followed_is_written_and_nothing_twice(store: Store, target: ResultsTarget) -> None:
    FollowedTarget.begin(target, store)
    add(store, "S1")
    FollowedTarget.begin(target, store).catch_up(store)
    for path in target.folder.glob("S1*"):
        path.unlink()  # the neighbour took it
    add(store, "S2")
    assert FollowedTarget.begin(target, store).catch_up(store) == 1
    assert serials(target) == ["S2"]


def test_a_row_that_becomes_visible_late_is_not_missed(store: Store, target: ResultsTarget) -> None:
    followed = FollowedTarget.begin(target, store)
    add(store, "S1")
    add(store, "S2")
    followed.catch_up(store)
    followed.mark = replace(followed.mark, boards=(followed.mark.boards[-1],))  # as if the first had come after the second
    assert followed.catch_up(store) == 1


def test_a_folder_that_goes_away_loses_nothing(store: Store, target: ResultsTarget) -> None:
    followed = FollowedTarget.begin(target, store)
    gone = target.folder.with_name("gone")
    target.folder.rename(gone)
    target.folder.write_text("no folder")
    add(store, "S1")
    with pytest.raises(StoreFault, match="a folder for results"):
        followed.catch_up(store)
    target.folder.unlink()
    gone.rename(target.folder)
    followed.catch_up(store)
    assert serials(target) == ["S1"]


def test_a_board_that_the_template_cannot_show_holds_up_no_other(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []  # a command that ran in this process before may have taken the root's handlers
    monkeypatch.setattr("inspect_pop.messages.publisher.log.error", lambda message, **_: logged.append(message))
    (tmp_path / "a.txt.j2").write_text("{% if board.serial == 'S1' %}{{ 1 / 0 }}{% endif %}x")
    target = parse_target(f"{tmp_path / 'a.txt.j2'}={tmp_path / 'out'}")
    followed = FollowedTarget.begin(target, store)
    add(store, "S1")
    add(store, "S2")
    followed.catch_up(store)
    assert len(list(target.folder.glob("S2*"))) == 1 and not list(target.folder.glob("S1*"))
    assert logged == ["no result file for a board"]


def test_thousands_of_boards_are_caught_up_in_parts(store: Store, target: ResultsTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inspect_pop.store.rows._CHANGES_AT_ONCE", 3)
    followed = FollowedTarget.begin(target, store)
    for k in range(7):
        add(store, f"S{k}")
    assert [followed.catch_up(store) for _ in range(4)] == [3, 3, 1, 0]


def test_the_service_writes_what_is_new_before_it_ends(store: Store, target: ResultsTarget, tmp_path: Path) -> None:
    settings = ServiceSettings((tmp_path,), str(tmp_path / "r.db"), results=(target,))

    async def run() -> None:
        async with run_publisher(settings, store):
            decide(store, add(store, "S1"))

    asyncio.run(run())
    assert serials(target) == ["S1"]


def test_a_follower_stops_while_its_folder_is_away(store: Store, target: ResultsTarget) -> None:
    follower = ResultsFollower(store, [target])
    add(store, "S1")
    target.folder.rename(target.folder.with_name("gone"))
    target.folder.write_text("")
    follower.start()
    follower.stop(5.0)
    assert not follower.is_alive

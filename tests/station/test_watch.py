"""The watched folder: a board is picked up when it is complete, once, in order of arrival, across restarts."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from inspect_pop.core.errors import UsageFault
from inspect_pop.station import watch as module
from inspect_pop.station.settings import ServiceSettings
from inspect_pop.station.station import Station
from inspect_pop.station.watch import Arrivals, Printer, create_health_app, watch, watch_until
from inspect_pop.store import Store, open_store
from tests.station.conftest import FACTORY
from tests.station.fakes import write_board


def named(folder: Path, serial: str, *files: str) -> Path:
    """A board that names files, none of which is there yet."""
    return write_board(folder / serial, serial, images=[{"file": f} for f in files])


def arrivals(folder: Path, is_known: Callable[[str, str], bool] = lambda *_: False) -> Arrivals:
    return Arrivals(folder, is_known, settle_s=2.0, patience_s=600.0)


def names(found: list[Any]) -> list[str]:
    return [a.path.name for a in found]


def test_a_board_is_taken_when_nothing_has_changed_for_the_settle_time(tmp_path: Path) -> None:
    room = arrivals(tmp_path)
    assert room.find_ready(0.0) == []
    board = named(tmp_path, "B1", "xray/a.tif")
    assert names(room.find_ready(1.0)) == []
    (board / "xray").mkdir()
    (board / "xray" / "a.tif").write_bytes(b"half")
    assert names(room.find_ready(10.0)) == []
    (board / "xray" / "a.tif").write_bytes(b"half and the rest")
    assert names(room.find_ready(11.9)) == []
    assert names(room.find_ready(13.8)) == []
    assert names(room.find_ready(13.95)) == ["B1"]


def test_a_file_that_grows_without_another_size_is_seen_by_its_time(tmp_path: Path) -> None:
    room, board = arrivals(tmp_path), named(tmp_path, "B1", "a.tif")
    (board / "a.tif").write_bytes(b"0000")
    room.find_ready(0.0)
    os.utime(board / "a.tif", ns=(1, 1))
    assert names(room.find_ready(2.5)) == []
    assert names(room.find_ready(4.5)) == ["B1"]


def test_the_mark_of_the_machine_takes_a_whole_board_at_once_and_half_a_one_not(tmp_path: Path) -> None:
    room = arrivals(tmp_path)
    (named(tmp_path, "B1") / ".done").touch()
    (named(tmp_path, "B2", "a.tif") / ".done").touch()
    assert names(room.find_ready(0.0)) == ["B1"]


def test_a_file_that_never_comes_is_for_quarantine_to_tell(tmp_path: Path) -> None:
    room = arrivals(tmp_path)
    named(tmp_path, "B1", "a.tif")
    room.find_ready(0.0)
    assert names(room.find_ready(599.0)) == []
    assert names(room.find_ready(600.0)) == ["B1"]


@pytest.mark.parametrize("manifest", ["", "{", "[]", '{"images": 3}', '{"images": [{"file": 3}]}', "[" * 100000])
def test_a_manifest_that_is_none_is_taken_too(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "B1").mkdir()
    (tmp_path / "B1" / "export.json").write_text(manifest)
    room = arrivals(tmp_path)
    room.find_ready(0.0)
    assert names(room.find_ready(2.0)) == ["B1"]


def test_boards_come_in_order_of_arrival_whatever_their_names_and_times_of_writing(tmp_path: Path) -> None:
    order = ["B3", "B1", "B2"]
    for i, serial in enumerate(order):
        board = named(tmp_path / "deep" / serial, serial)
        os.utime(board / "export.json", ns=(10**18 - i, 10**18 - i))
        before = board.joinpath("export.json").stat().st_ctime_ns
        while tmp_path.joinpath("tick").write_bytes(b"") == 0 and tmp_path.joinpath("tick").stat().st_ctime_ns <= before:
            continue
    room = arrivals(tmp_path)
    room.find_ready(0.0)
    assert names(room.find_ready(2.0)) == order


def test_a_board_that_is_over_comes_again_only_with_other_content(tmp_path: Path) -> None:
    room, board = arrivals(tmp_path), named(tmp_path, "B1", "a.tif")
    (board / "a.tif").write_bytes(b"1")
    room.find_ready(0.0)
    (first,) = room.find_ready(2.0)
    room.mark_done(first)
    assert room.find_ready(10.0) == []
    (board / "export.json").write_text(json.dumps({"serial": "B1", "scan": 2, "images": []}))
    room.find_ready(20.0)
    (second,) = room.find_ready(22.0)
    assert second.key != first.key


def test_a_board_that_the_store_knows_does_not_come(tmp_path: Path) -> None:
    board = named(tmp_path, "B1")
    first = arrivals(tmp_path)
    first.find_ready(0.0)
    (arrival,) = first.find_ready(2.0)
    copied = tmp_path / "other"
    shutil.copytree(board, copied)
    shutil.rmtree(board)
    shutil.move(copied, board)  # the same export, copied there once more
    room = arrivals(tmp_path, is_known=lambda key, _: key == arrival.key)
    room.find_ready(0.0)
    assert room.find_ready(2.0) == []


def test_a_file_that_is_completed_after_the_inspection_brings_the_board_again(tmp_path: Path) -> None:
    """Same size, and even the same time of writing: a copy from another machine sets it back."""
    room, board = arrivals(tmp_path), named(tmp_path, "B1", "a.tif")
    (board / "a.tif").write_bytes(b"0000")
    os.utime(board / "a.tif", ns=(1, 1))
    room.find_ready(0.0)
    (first,) = room.find_ready(2.0)
    room.mark_done(first)
    assert room.find_ready(5.0) == []
    (board / "a.tif").write_bytes(b"1234")
    os.utime(board / "a.tif", ns=(1, 1))
    room.find_ready(6.0)
    assert names(room.find_ready(8.0)) == ["B1"]


def test_another_time_of_writing_is_another_key_so_that_a_restart_looks_again(tmp_path: Path) -> None:
    room, board = arrivals(tmp_path), named(tmp_path, "B1")
    room.find_ready(0.0)
    (first,) = room.find_ready(2.0)
    os.utime(board / "export.json", ns=(1, 1))
    room = arrivals(tmp_path, is_known=lambda key, _: key == first.key)
    room.find_ready(0.0)
    assert names(room.find_ready(2.0)) == ["B1"]


def test_the_mark_of_the_machine_after_the_inspection_brings_nothing_again(tmp_path: Path) -> None:
    room, board = arrivals(tmp_path), named(tmp_path, "B1")
    room.find_ready(0.0)
    (first,) = room.find_ready(2.0)
    room.mark_done(first)
    (board / ".done").touch()
    assert room.find_ready(3.0) == room.find_ready(9.0) == []


def test_a_board_whose_files_have_other_case_than_its_manifest_is_complete(tmp_path: Path) -> None:
    board = write_board(tmp_path / "boards" / "B1", "B1", images=[{"file": "XRAY\\U1.TIF"}])
    (board / "xray").mkdir()
    (board / "xray" / "u1.tif").touch()
    room = arrivals(tmp_path)
    room.find_ready(0.0)
    assert names(room.find_ready(2.0)) == ["B1"]


@pytest.mark.parametrize("recipe", ["../../recipes/r.json", "..\\..\\recipes\\r.json"])
def test_a_recipe_that_comes_later_releases_the_boards_that_could_not_be_inspected(tmp_path: Path, recipe: str) -> None:
    known: set[tuple[str, str]] = set()
    room = arrivals(tmp_path, lambda key, surroundings: (key, surroundings) in known)
    for serial in ("GOOD", "BAD"):
        write_board(tmp_path / "boards" / serial, serial, images=[], recipe=recipe)
    room.find_ready(0.0)
    for arrival in room.find_ready(2.0):
        room.mark_done(arrival, is_error=arrival.path.name == "BAD")
        known.add((arrival.key, arrival.surroundings))
    assert room.find_ready(3.0) == []
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "r.json").write_text("{}")
    assert names(room.find_ready(4.0)) == ["BAD"]
    room = arrivals(tmp_path, lambda key, surroundings: (key, surroundings) in known)  # the recipe came while nothing ran
    room.find_ready(0.0)
    assert "BAD" in names(room.find_ready(2.0))


def test_a_board_in_a_new_folder_of_many_is_found_without_looking_at_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inspect_pop.station.arrivals.TURN_S", 0.0)
    monkeypatch.setattr("inspect_pop.station.arrivals.LEAST_STILL", 5)
    for i in range(50):
        named(tmp_path / "boards", f"B{i}")
    room = arrivals(tmp_path)
    room.find_ready(0.0)
    for arrival in room.find_ready(2.0):
        room.mark_done(arrival)
    room.find_ready(20.0)
    looked: list[Path] = []
    read = Arrivals._look_at
    monkeypatch.setattr(Arrivals, "_look_at", lambda self, path, now_s: looked.append(path) or read(self, path, now_s))
    named(tmp_path / "boards", "NEW")
    room.find_ready(21.0)
    assert names(room.find_ready(23.0)) == ["NEW"]
    assert len(looked) <= 2 * (5 + 1) + 2


def test_a_watched_folder_that_goes_away_is_missed_and_its_boards_are_found_when_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "drop"
    named(folder, "B1")
    room = arrivals(folder)
    room.find_ready(0.0)
    shutil.rmtree(folder)
    room.find_ready(1.0)
    assert room.is_missing
    named(folder, "B2")
    room.find_ready(2.0)
    assert not room.is_missing
    assert names(room.find_ready(4.0)) == ["B2"]


def test_a_watch_goes_on_when_nobody_reads_its_answers() -> None:
    read: list[str] = []

    def refuse(answer: dict[str, Any]) -> None:
        read.append(answer["serial"])
        raise BrokenPipeError

    printer = Printer(refuse)
    for serial in ("S1", "S2"):
        printer.print({"serial": serial})
    assert read == ["S1"]


def test_health_and_metrics_of_a_watch_are_on_its_port(tmp_path: Path) -> None:
    pool, store = (
        SimpleNamespace(alive=1, waiting=0, busy=0, model="m"),
        SimpleNamespace(
            waiting=lambda _: (0, []),
            check_writable=lambda: 0,
            count_set_aside=lambda: 0,
            accounts=SimpleNamespace(has_users=lambda: False),
        ),
    )
    station = Station(ServiceSettings(roots=(tmp_path,), store="r.db"), pool, store)  # type: ignore[arg-type]

    async def ask(method: str, path: str) -> httpx.Response:
        transport = httpx.ASGITransport(create_health_app(station))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path)

    assert asyncio.run(ask("GET", "/healthz")).text == "ok"
    assert asyncio.run(ask("GET", "/readyz")).json()["status"] == "ready"
    station.folder_fault = "the watched folder is gone"
    reply = asyncio.run(ask("GET", "/readyz"))
    assert (reply.status_code, reply.json()["status"]) == (503, "the watched folder is gone")
    assert "inspect_pop_workers_alive 1.0" in asyncio.run(ask("GET", "/metrics")).text
    assert asyncio.run(ask("POST", "/v1/model")).status_code == 404


class Watching:
    """A watch in a thread, until so many answers came."""

    def __init__(self, folder: Path, store: Path, answers: int) -> None:
        self.answers: list[dict[str, Any]] = []
        self._wanted, self._ready = answers, threading.Event()
        self._folder, self._store = folder, store
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        settings = ServiceSettings(roots=(self._folder,), store=str(self._store), workers=1, inspector_factory=FACTORY)
        await watch_until(self._stop, self._folder, settings, self._take, settle_s=0.05, poll_s=0.02)

    def _take(self, answer: dict[str, Any]) -> None:
        self.answers.append(answer)
        if len(self.answers) >= self._wanted:
            self._stop.set()

    def wait(self) -> list[str]:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return [a["problem"]["found"] if a.get("problem") else a["serial"] for a in self.answers]


def test_watches_across_restarts_and_tells_each_board_once(tmp_path: Path) -> None:
    folder, store = tmp_path / "drop", tmp_path / "r.db"
    folder.mkdir()
    for serial in ("S1", "S2"):
        write_board(folder / serial, serial)
    assert sorted(Watching(folder, store, 2).wait()) == ["S1", "S2"]
    write_board(folder / "S3", "S3", refuse="odd")
    write_board(folder / "S4", "S4", defects={"U1.lower.A1": "open"})
    assert sorted(Watching(folder, store, 2).wait()) == ["S4", "odd"]
    with open_store(store) as stored:
        assert [len(stored.board(s)) for s in ("S1", "S2", "S4")] == [1, 1, 1]
        assert sorted(str(r.outcome) for r in stored.runs()) == ["error", "fail", "pass", "pass"]


def test_a_board_that_was_in_hand_at_a_crash_is_inspected_again_and_recorded_once(tmp_path: Path) -> None:
    folder, store = tmp_path / "drop", tmp_path / "r.db"
    write_board(folder / "S1", "S1")
    Watching(folder, store, 1).wait()
    with open_store(store) as stored:
        _forget_the_outcome(stored)
    Watching(folder, store, 1).wait()
    with open_store(store) as stored:
        assert len(stored.board("S1")) == 1


def _forget_the_outcome(store: Store) -> None:
    for run in store.runs():
        store.end_run(run.id, finished_at="2026-01-01T00:00:00+00:00", outcome=None)  # type: ignore[arg-type]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="a folder to watch"):
        watch(tmp_path / "none", ServiceSettings(roots=(tmp_path,), store=str(tmp_path / "r.db")), lambda _: None)


def test_a_stopped_watch_leaves_a_board_that_hangs_to_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BOARD_STOP_S", 0.2)
    folder, store = tmp_path / "drop", tmp_path / "r.db"
    folder.mkdir()
    write_board(folder / "S1", "S1", seconds=3600)
    watching = Watching(folder, store, 1)
    with open_store(store) as stored:
        while not stored.runs():
            time.sleep(0.05)
        watching._loop.call_soon_threadsafe(watching._stop.set)
        assert watching.wait() == []
        assert [r.outcome for r in stored.runs()] == [None]
        assert stored.list_quarantine() == []
    write_board(folder / "S1", "S1")
    assert Watching(folder, store, 1).wait() == ["S1"]


def test_a_watch_that_is_stopped_looks_at_no_more_boards(tmp_path: Path) -> None:
    room = arrivals(tmp_path)
    for k in range(5):
        write_board(tmp_path / f"B{k}", f"B{k}")
    asked = iter([False, False, True])
    room.find_ready(0.0, lambda: next(asked, True))
    assert sum(board.snapshot is not None for board in room._boards.values()) == 2


def test_a_watch_ends_after_a_signal_whatever_holds_it_up(tmp_path: Path) -> None:
    code = """
import asyncio, os, signal, sys, time
from pathlib import Path
from inspect_pop.station import watch as module
from inspect_pop.station.settings import ServiceSettings

async def hang(*arguments, **options):
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.to_thread(time.sleep, 3600)  # a share that does not answer

module.STOP_LIMIT_S, module.watch_until = 0.2, hang
module.watch(Path(sys.argv[1]), ServiceSettings(roots=(Path(sys.argv[1]),), store="r.db"), print)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, "could not end in order" in done.stderr) == (1, True), done.stderr

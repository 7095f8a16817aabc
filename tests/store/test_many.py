"""Several processes write at once, and writers are killed: nothing is lost, nothing is there twice, nothing is half there."""

import multiprocessing
import random
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from inspect_pop.store import Store, open_store
from inspect_pop.yields import compute_yield
from tests.store.writer import boards, die_at_the_last_step, make_message, write

# A server that has everything imported forks each writer: a fresh interpreter would take longer than its boards.
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["tests.store.writer"])


def start(url: str, files: Path, first: int, last: int) -> tuple[BaseProcess, Connection]:
    ours, theirs = FORK.Pipe(duplex=False)
    process = FORK.Process(target=write, args=(url, str(files), first, last, theirs))
    process.start()
    theirs.close()
    return process, ours


def received(kept: Connection) -> list[str]:
    """All that the writer says until it ends."""
    found = []
    try:
        while True:
            found.append(kept.recv())
    except EOFError:
        kept.close()
        return found


def content(store: Store) -> dict[str, Any]:
    """Everything that can be asked for, without numbers that only the database uses."""
    with store.reading() as connection:
        serials = sorted(connection.exec_driver_sql("SELECT DISTINCT serial FROM boards").scalars())
    return {
        "boards": {s: [found.to_dict() for found in store.board(s)] for s in serials},
        "joints": store.joints().to_pylist(),
        "messages": sorted(m.id for m in store.waiting()[1]),
        "yield": [g.to_dict() for by in ((), ("lot",), ("lot", "package", "interface")) for g in compute_yield(store, by)],
    }


def clean(tmp_path: Path, last: int) -> dict[str, Any]:
    with open_store(tmp_path / "clean.db") as store:
        for one in boards(0, last):
            store.write(one, messages=[make_message(one)])
        return content(store)


@pytest.mark.parametrize(
    ("processes", "each"), [(2, 15), pytest.param(8, 500, marks=pytest.mark.long)], ids=["few boards", "eight of 500"]
)
def test_nothing_is_lost_and_nothing_twice(
    new_url: str, tmp_path: Path, open_here: Callable[[], Store], processes: int, each: int
) -> None:
    """Every process has its own boards, and one more has those of the first: the same record by two at once."""
    spans = [(k * each, (k + 1) * each) for k in range(processes)] + [(0, each)]
    running = [start(new_url, tmp_path / "files", *span) for span in spans]
    for (process, kept), span in zip(running, spans, strict=True):
        assert received(kept) == [one.board.record for one in boards(*span)]
        process.join()
        assert process.exitcode == 0
    assert content(open_here()) == clean(tmp_path, processes * each)


@pytest.mark.parametrize(
    ("rounds", "last"), [(3, 30), pytest.param(20, 300, marks=pytest.mark.long)], ids=["three kills", "twenty kills"]
)
def test_a_killed_writer_leaves_nothing_half_done(
    new_url: str, tmp_path: Path, open_here: Callable[[], Store], rounds: int, last: int
) -> None:
    """Each time it is started again from the beginning, as a run that goes on is; killed a random few boards further."""
    draw, files, kept = random.Random(rounds), tmp_path / "files", set[str]()
    store = open_here()
    for turn in range(rounds):
        process, connection = start(new_url, files, 0, last)
        kept.update(connection.recv() for _ in range(draw.randint(1, max(2, (turn + 1) * last // (rounds + 1)))))
        process.kill()
        process.join()
        kept.update(received(connection))
        assert set(store.find_sequences(sorted(kept))) == kept, "what was acknowledged is there"
        assert set(store.joints()["record"].to_pylist()) >= kept
    process, connection = start(new_url, files, 0, last)
    assert len(received(connection)) == len(boards(0, last))
    process.join()
    assert content(store) == clean(tmp_path, last)
    store.repair(older_than_s=0)
    assert len(list(files.rglob("*.parquet"))) == len(boards(0, last))
    assert list(files.rglob(".writing-*")) == []


@pytest.mark.parametrize("placed", [False, True], ids=["before its file has its name", "after"])
def test_a_writer_killed_at_its_last_step_leaves_no_record(
    new_url: str, tmp_path: Path, open_here: Callable[[], Store], placed: bool
) -> None:
    """The worst moment: file and rows are both made. A row without its file would be a record that cannot be read."""
    files, store, one = tmp_path / "files", open_here(), boards(0, 1)[0]
    process = FORK.Process(target=die_at_the_last_step, args=(new_url, str(files), placed))
    process.start()
    process.join()
    assert process.exitcode == -9
    assert not store.has(one.board.record)
    assert store.joints().num_rows == 0
    assert store.write(one).new
    assert store.joints(record=one.board.record).num_rows == len(one.joints)
    store.repair(older_than_s=0)
    assert len(list(files.rglob("*.parquet"))) == 1
    assert list(files.rglob(".writing-*")) == []

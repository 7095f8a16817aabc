"""What a run keeps when disk, model, store or memory fail: nothing is lost, nothing is done twice, all is said."""

import json
import os
import sqlite3
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from inspect_pop import cli
from inspect_pop.batch import jobs
from inspect_pop.batch.jobs import BoardJob
from inspect_pop.batch.worker import inspect_job
from inspect_pop.pipeline import board as pipeline
from inspect_pop.store import engine, open_store

Captured = pytest.CaptureFixture[str]
TABLES = ("joints.parquet", "boards.parquet", "packages.parquet", "quarantine.csv")


def run(batch: Path, out: Path, model: Path, *more: str) -> int:
    return cli.main(["run", str(batch), "--out", str(out), "--model", str(model), "--jobs", "1", *more])


def fragments(out: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in out.glob(".work/*/*.arrow")}


@pytest.mark.parametrize(("size", "pages"), [("2500k", "all"), ("360k", "none")])
def test_a_full_disk_ends_the_run_which_goes_on_when_there_is_room(
    batch: Path, model: Path, disk: Callable[[str], Path], capsys: Captured, size: str, pages: str
) -> None:
    out = disk(f"size={size}") / "out"
    assert run(batch, out, model, "--pages", pages) == 2
    said = capsys.readouterr().err
    assert "No space left" in said or "full" in said
    assert [name for name in TABLES if (out / name).exists()] == []
    finished = fragments(out)
    assert len(finished) < 4
    disk("size=100m")
    assert run(batch, out, model, "--pages", pages, "--json") == 0
    assert json.loads(capsys.readouterr().out)["resumed"] == len(finished)
    assert fragments(out).items() >= finished.items()
    assert pq.read_table(out / "boards.parquet").num_rows == 4


def test_a_disk_that_is_full_from_the_beginning(batch: Path, model: Path, disk: Callable[[str], Path], capsys: Captured) -> None:
    place = disk("size=64k")
    (place / "filler").write_bytes(bytes(60 << 10))
    assert run(batch, place / "out", model) == 2
    assert "disk" in capsys.readouterr().err.lower()


def test_a_read_only_folder_is_said_before_anything_is_inspected(
    batch: Path, model: Path, disk: Callable[[str], Path], capsys: Captured
) -> None:
    (disk("size=4m") / "out").mkdir()
    out = disk("ro") / "out"
    assert run(batch, out, model) == 2
    assert "Choose another --out" in capsys.readouterr().err


@pytest.mark.parametrize("harm", ["swapped", "cut", "gone"])
def test_a_model_file_that_was_changed_inspects_nothing(
    batch: Path, model: Path, tmp_path: Path, harm: str, capsys: Captured
) -> None:
    other = tmp_path / "model"
    other.mkdir()
    for file in model.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    network = other / "model.onnx"
    content = network.read_bytes()
    {
        "swapped": lambda: network.write_bytes(content[:-1] + bytes([content[-1] ^ 1])),
        "cut": lambda: network.write_bytes(content[: len(content) // 2]),
        "gone": network.unlink,
    }[harm]()
    assert run(batch, tmp_path / "out", other) == 2
    assert "model.onnx" in capsys.readouterr().err
    assert fragments(tmp_path / "out") == {}
    with open_store(tmp_path / "out" / "records.db") as store:
        assert store.board("PB2411-010204") == []


def test_a_board_whose_process_is_killed_twice_lies_in_quarantine_and_the_rest_is_done(
    batch: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("TEST_DIES", "B-2")
    monkeypatch.setattr("inspect_pop.batch.run.inspect_in_worker", dies_at_one)
    assert cli.main(["run", str(batch), "--out", str(tmp_path / "out"), "--model", str(model), "--jobs", "2", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    lost = {Path(entry["path"]).name: entry["reason"] for entry in said["quarantined"]}
    assert list(lost) == ["board-2"], lost
    assert "killed or took too long" in lost["board-2"]
    assert pq.read_table(tmp_path / "out" / "boards.parquet").num_rows == 3


def dies_at_one(settings: object, job: BoardJob) -> object:
    """An inspection that the system ends for its memory, at one board."""
    if json.loads((job.path / "export.json").read_text())["serial"] == os.environ["TEST_DIES"]:
        os.kill(os.getpid(), 9)
    return inspect_job(settings, job)  # type: ignore[arg-type]


def test_memory_that_runs_short_costs_one_board(
    batch: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    inspect = pipeline.measure_board

    def short(export, limits, **how):
        if export.serial == "B-1":
            raise MemoryError
        return inspect(export, limits, **how)

    monkeypatch.setattr(pipeline, "measure_board", short)
    assert run(batch, tmp_path / "out", model, "--json") == 1
    (lost,) = json.loads(capsys.readouterr().out)["quarantined"]
    assert "MemoryError" in lost["reason"]


def test_a_clock_that_was_set_back_changes_nothing_but_times(
    batch: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(batch, tmp_path / "right", model)
    ticks = iter(range(1_000_000))
    back = datetime(2001, 1, 1, tzinfo=UTC)
    clock = {"now": lambda: (back - timedelta(days=next(ticks))).isoformat()}
    monkeypatch.setattr(pipeline.inspect_board, "__kwdefaults__", pipeline.inspect_board.__kwdefaults__ | clock)
    assert run(batch, tmp_path / "wrong", model) == 0
    right, wrong = (
        pq.read_table(tmp_path / o / "boards.parquet").drop(["started_at", "finished_at"]) for o in ("right", "wrong")
    )
    assert right.equals(wrong)
    assert run(batch, tmp_path / "right", model) == 0
    assert pq.read_table(tmp_path / "right" / "boards.parquet").num_rows == 4


def test_a_locked_store_is_waited_for(batch: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with open_store(out / "records.db"):
        pass
    lock = sqlite3.connect(out / "records.db", isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN IMMEDIATE")
    release = threading.Timer(3.0, lambda: lock.execute("ROLLBACK"))
    release.start()
    try:
        assert run(batch, out, model) == 0
    finally:
        release.join()
        lock.close()


def test_a_store_that_stays_locked_ends_the_run_which_goes_on_later(
    batch: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    out = tmp_path / "out"
    with open_store(out / "records.db"):
        pass
    monkeypatch.setattr(engine, "BUSY_S", 0.05)
    lock = sqlite3.connect(out / "records.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    assert run(batch, out, model) == 2
    assert "locked" in capsys.readouterr().err
    lock.close()
    assert run(batch, out, model) == 0


def test_a_board_that_vanishes_lies_in_quarantine(
    batch: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain = jobs._drain

    def late(pool, work, waiting, **more):
        (batch / "boards" / "board-3" / "export.json").unlink()
        return drain(pool, work, waiting, **more)

    monkeypatch.setattr(jobs, "_drain", late)
    assert run(batch, tmp_path / "out", model) == 1
    assert "board-3" in (tmp_path / "out" / "quarantine.csv").read_text()
    assert pq.read_table(tmp_path / "out" / "boards.parquet").num_rows == 3

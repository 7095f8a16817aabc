"""What a run leaves: everything once, in the order of the batch, whoever worked on it."""

import csv
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from inspect_pop.batch import RunSummary, Settings, local_executor, run_batch
from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.core.limits import Limits
from inspect_pop.store import open_store
from tests.batch.work import made_by_hand

NAMES = ("b01", "b02-open", "b03", "b04", "fault05", "b06", "b07-open", "b08")


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    return make_batch(tmp_path / "batch", NAMES)


def make_batch(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "export.json").write_text("{}")
    return folder


def run(batch: Path, out: Path, processes: int = 1) -> RunSummary:
    settings = Settings(out, str(out / "records.db"), None, Limits())
    return run_batch([batch], settings, executor=local_executor(processes), work=partial(made_by_hand, settings))


def test_everything_is_there_once_and_in_order(batch: Path, tmp_path: Path) -> None:
    summary = run(batch, tmp_path / "out")
    decided = [n for n in NAMES if not n.startswith("fault")]
    boards = pq.read_table(tmp_path / "out" / "boards.parquet").to_pylist()
    joints = pq.read_table(tmp_path / "out" / "joints.parquet").to_pylist()
    assert [b["serial"] for b in boards] == decided
    assert list(dict.fromkeys(j["serial"] for j in joints)) == decided
    assert len(joints) == len({(j["serial"], j["refdes"], j["interface"], j["ball"]) for j in joints}) == summary.joints
    assert pq.read_table(tmp_path / "out" / "packages.parquet").num_rows == len(decided)
    assert summary.verdicts == {"pass": 5, "fail": 2}
    assert summary.exit_status == 1
    assert summary.report.read_text(encoding="utf-8").lower().startswith("<!doctype html>")


def test_quarantine_names_path_and_reason(batch: Path, tmp_path: Path) -> None:
    run(batch, tmp_path / "out")
    with (tmp_path / "out" / "quarantine.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"path": str(batch / "fault05"), "reason": "export.json: expected sense, found none"}]
    with open_store(tmp_path / "out" / "records.db") as store:
        assert [q.path for q in store.quarantined()] == [str(batch / "fault05")]
        (kept,) = store.runs()
    assert kept.outcome == "8 boards: 2 fail, 5 pass; 1 in quarantine"


def test_the_result_does_not_depend_on_the_processes(batch: Path, tmp_path: Path) -> None:
    run(batch, tmp_path / "one")
    run(batch, tmp_path / "two", processes=2)
    for name in ("joints", "boards", "packages"):
        one, two = (pq.read_table(tmp_path / out / f"{name}.parquet") for out in ("one", "two"))
        assert one.equals(two), name


def test_the_same_export_in_two_folders_is_one_record(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "batch", ("b01", "b01~copy", "b02"))
    summary = run(batch, tmp_path / "out")
    assert pq.read_table(tmp_path / "out" / "boards.parquet")["serial"].to_pylist() == ["b01", "b02"]
    assert (summary.boards, summary.repeated, summary.verdicts) == (3, 1, {"pass": 2})


def test_nothing_to_inspect(tmp_path: Path) -> None:
    with pytest.raises(UsageFault):
        run(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_is_told(batch: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StoreFault, match="Choose another --out"):
        run(batch, tmp_path / "out")

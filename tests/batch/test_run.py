"""What a run leaves: everything once, in the order of the batch. One board's trouble is its own; the run's trouble ends it."""

import csv
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from inspect_pop.batch import BatchSettings, RunSummary, local_executor, run_batch
from inspect_pop.batch.jobs import BoardJob, run_in_process
from inspect_pop.batch.run import run_jobs
from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.core.limits import Limits
from inspect_pop.store import open_store
from tests.batch.work import by_name, made_by_hand

NAMES = ("b01", "b02-open", "b03", "b04", "fault05", "b06", "b07-open", "b08")


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    return make_batch(tmp_path / "batch", NAMES)


def make_batch(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "export.json").write_text("{}")
    return folder


def run_folder(batch: Path, out: Path, processes: int = 1) -> RunSummary:
    settings = BatchSettings(out, str(out / "records.db"), None, Limits())
    return run_batch([batch], settings, executor=local_executor(processes), work=partial(made_by_hand, settings))


def test_everything_is_there_once_and_in_order(batch: Path, tmp_path: Path) -> None:
    summary = run_folder(batch, tmp_path / "out")
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


def test_a_run_draws_as_many_joints_to_look_at_as_it_is_told(batch: Path, tmp_path: Path) -> None:
    settings = BatchSettings(tmp_path, str(tmp_path / "records.db"), None, Limits(), verify_sample=3)
    run_batch([batch], settings, executor=local_executor(1), work=partial(made_by_hand, settings))
    with open_store(tmp_path / "records.db") as store:
        records = [board["record"] for board in store.queue_of("operator")[1]]
        assert [len(store.sample(record)) for record in records] == [3] * 7


def test_quarantine_names_path_and_reason(batch: Path, tmp_path: Path) -> None:
    run_folder(batch, tmp_path / "out")
    with (tmp_path / "out" / "quarantine.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"path": str(batch / "fault05"), "reason": "export.json: expected sense, found none"}]
    with open_store(tmp_path / "out" / "records.db") as store:
        assert [q.path for q in store.list_quarantine()] == [str(batch / "fault05")]
        (run,) = store.runs()
    assert run.outcome == "8 boards: 2 fail, 5 pass; 1 in quarantine"


def test_the_result_does_not_depend_on_the_processes(batch: Path, tmp_path: Path) -> None:
    run_folder(batch, tmp_path / "one")
    run_folder(batch, tmp_path / "two", processes=2)
    for name in ("joints", "boards", "packages"):
        one, two = (pq.read_table(tmp_path / out / f"{name}.parquet") for out in ("one", "two"))
        assert one.equals(two), name


def test_the_same_export_in_two_folders_is_one_record(tmp_path: Path) -> None:
    batch = make_batch(tmp_path / "batch", ("b01", "b01~copy", "b02"))
    summary = run_folder(batch, tmp_path / "out")
    assert pq.read_table(tmp_path / "out" / "boards.parquet")["serial"].to_pylist() == ["b01", "b02"]
    assert (summary.boards, summary.repeated, summary.verdicts) == (3, 1, {"pass": 2})


def test_nothing_to_inspect(tmp_path: Path) -> None:
    with pytest.raises(UsageFault):
        run_folder(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_refused(batch: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StoreFault, match="Choose another --out"):
        run_folder(batch, tmp_path / "out")


def run_by_name(out: Path, *names: str):
    jobs = [BoardJob(i, out / name, out) for i, name in enumerate(names)]
    return run_jobs(jobs, BatchSettings(out, "sqlite://", None, Limits()), run_in_process, by_name)


def test_trouble_goes_to_quarantine_and_the_rest_goes_on(tmp_path: Path) -> None:
    summary, outcomes = run_by_name(tmp_path, "a", "fault", "b", "surprise", "c")
    assert [o.path.name for o in outcomes] == ["a", "fault", "b", "surprise", "c"]
    assert [o.path.name for o in summary.quarantined] == ["fault", "surprise"]
    assert summary.verdicts == {"pass": 3}
    assert (summary.boards, summary.joints, summary.exit_status) == (5, 9, 1)
    assert summary.quarantined[0].reason == "export.json: expected sense, found none"
    assert "unexpected KeyError" in summary.quarantined[1].reason
    log = (tmp_path / "errors.log").read_text()
    assert "Traceback" in log
    assert str(tmp_path / "surprise") in log


def test_all_well_is_status_0(tmp_path: Path) -> None:
    summary, _ = run_by_name(tmp_path, "a")
    assert summary.exit_status == 0


def test_a_store_that_fails_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(StoreFault):
        run_by_name(tmp_path, "a", "store", "b")


def test_progress_hears_of_every_board(tmp_path: Path) -> None:
    seen = []
    jobs = [BoardJob(i, tmp_path / n, tmp_path) for i, n in enumerate(("a", "fault"))]
    run_jobs(
        jobs,
        BatchSettings(tmp_path, "sqlite://", None, Limits()),
        run_in_process,
        by_name,
        lambda o, n: seen.append((o.quarantined, n)),
    )
    assert seen == [(False, 2), (True, 2)]

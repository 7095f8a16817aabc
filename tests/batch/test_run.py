"""One board's trouble is its own; the run's trouble ends the run."""

from pathlib import Path

import pytest

from inspect_pop.batch.executors import in_process
from inspect_pop.batch.jobs import Job, Settings
from inspect_pop.batch.run import run_jobs
from inspect_pop.core.errors import StoreFault
from inspect_pop.core.limits import Limits
from tests.batch.work import by_name


def run(out: Path, *names: str):
    jobs = [Job(i, out / name, out) for i, name in enumerate(names)]
    return run_jobs(jobs, Settings(out, "sqlite://", None, Limits()), in_process, by_name)


def test_trouble_goes_to_quarantine_and_the_rest_goes_on(tmp_path: Path) -> None:
    summary, outcomes = run(tmp_path, "a", "fault", "b", "surprise", "c")
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
    summary, _ = run(tmp_path, "a")
    assert summary.exit_status == 0


def test_a_store_that_fails_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(StoreFault):
        run(tmp_path, "a", "store", "b")


def test_progress_is_told_of_every_board(tmp_path: Path) -> None:
    seen = []
    jobs = [Job(i, tmp_path / n, tmp_path) for i, n in enumerate(("a", "fault"))]
    run_jobs(
        jobs, Settings(tmp_path, "sqlite://", None, Limits()), in_process, by_name, lambda o, n: seen.append((o.quarantined, n))
    )
    assert seen == [(False, 2), (True, 2)]

"""Every job ends once, whatever dies on the way: in this process, in several, on a Dask cluster."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from inspect_pop import cli
from inspect_pop.batch.jobs import BoardJob, FinishedJob, run_in_process, run_in_processes, run_on_cluster
from inspect_pop.core.errors import UsageFault
from tests.batch.boards import command, many, start, tables, wait_for_another
from tests.batch.work import by_name, good
from tests.learn.models import make_model


def jobs(root: Path, *names: str) -> list[BoardJob]:
    return [BoardJob(i, root / name, root) for i, name in enumerate(names)]


def outcomes_by_name(pairs: Iterator[FinishedJob]) -> dict[str, str]:
    return {job.path.name: type(f.exception()).__name__ if f.exception() else f.result().verdict for job, f in pairs}


def test_one_after_the_other(tmp_path: Path) -> None:
    todo = jobs(tmp_path, "a", "b", "surprise", "c")
    assert [j.path.name for j, _ in run_in_process(by_name, todo)] == ["a", "b", "surprise", "c"]
    assert outcomes_by_name(run_in_process(by_name, todo))["surprise"] == "KeyError"


def test_several_processes_do_each_job_once(tmp_path: Path) -> None:
    todo = jobs(tmp_path, *(f"b{i}" for i in range(25)))
    seen = [job.order for job, future in run_in_processes(good, todo, 2) if future.result().verdict == "pass"]
    assert sorted(seen) == list(range(25))


def test_a_killed_process_costs_no_board(tmp_path: Path) -> None:
    todo = jobs(tmp_path, *(f"b{i}" for i in range(6)), "dies-once", *(f"c{i}" for i in range(6)))
    result = outcomes_by_name(run_in_processes(by_name, todo, 2))
    assert result == dict.fromkeys((j.path.name for j in todo), "pass")


@pytest.mark.parametrize("name", ["dies", "hangs"])
def test_a_board_that_ends_its_process_twice_is_reported(tmp_path: Path, name: str) -> None:
    todo = jobs(tmp_path, "a", name, "b", "c", "d", "e")
    result = outcomes_by_name(run_in_processes(by_name, todo, 2))
    assert result.pop(name) == BrokenProcessPool.__name__
    assert result == dict.fromkeys("abcde", "pass")


def test_no_jobs(tmp_path: Path) -> None:
    assert list(run_in_processes(good, [], 2)) == []


PARENT = """
import sys, time
from pathlib import Path
from inspect_pop.batch.jobs import run_in_processes
from inspect_pop.batch.jobs import BoardJob
from tests.batch.test_executors import say_and_wait
if __name__ == "__main__":
    list(run_in_processes(say_and_wait, [BoardJob(0, Path(sys.argv[1]), Path(sys.argv[1]))], 1))
"""


def say_and_wait(job: BoardJob) -> None:
    (job.root / "pid.part").write_text(str(os.getpid()))
    (job.root / "pid.part").replace(job.root / "pid")
    time.sleep(60)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks processes up in /proc")
def test_workers_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    root = Path(__file__).resolve().parents[2]
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py", tmp_path], env={**os.environ, "PYTHONPATH": str(root)})
    pid = _wait_for_text(tmp_path / "pid")
    parent.kill()
    parent.wait()
    _wait_until_gone(Path("/proc") / pid)


def _wait_for_text(path: Path) -> str:
    until = time.monotonic() + 240
    while not path.exists():
        assert time.monotonic() < until, "the worker never started"
        time.sleep(0.02)
    return path.read_text()


def _wait_until_gone(path: Path) -> None:
    until = time.monotonic() + 60
    while path.exists() and "Z" not in (path / "stat").read_text().rpartition(")")[2].split()[:1]:
        assert time.monotonic() < until, "the worker outlived its parent"
        time.sleep(0.02)


# A real, small Dask cluster. Its threads and sockets warn when a worker is killed.
on_cluster = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        yield cluster


@on_cluster
def test_every_board_ends_once_though_a_worker_dies(cluster: Any, tmp_path: Path) -> None:
    todo = jobs(tmp_path, "a", "fault", "dies-once", *(f"b{i}" for i in range(12)))
    ended = list(run_on_cluster(by_name, todo, cluster.scheduler_address))
    assert sorted(job.order for job, _ in ended) == list(range(len(todo)))
    errors = {job.path.name: type(future.exception()).__name__ for job, future in ended if future.exception()}
    assert errors == {"fault": "ManifestFault"}


@on_cluster
def test_a_worker_that_joins_takes_part(cluster: Any, tmp_path: Path) -> None:
    todo = jobs(tmp_path, *(f"b{i}" for i in range(30)))
    seen = []
    for job, future in run_on_cluster(by_name, todo, cluster.scheduler_address):
        if not seen:
            cluster.scale(3)
        seen.append((job.order, future.result().verdict))
    assert sorted(seen) == [(i, "pass") for i in range(30)]


@on_cluster
def test_no_scheduler_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    monkeypatch.setattr("inspect_pop.batch.jobs.CONNECT_TIMEOUT_S", 1)
    with pytest.raises(UsageFault, match="a Dask scheduler"):
        list(run_on_cluster(by_name, [], "tcp://127.0.0.1:9"))


@on_cluster
@pytest.mark.long
def test_200_boards_two_workers_killed_and_one_added(small_batch: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    model = make_model(tmp_path / "model")
    many(small_batch, 200)
    cli.main(command(small_batch, tmp_path / "one", model, "--jobs", "1", "--pages", "none"))
    with distributed.LocalCluster(n_workers=4, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        run = start(command(small_batch, tmp_path / "out", model, "--cluster", cluster.scheduler_address, "--pages", "none"))
        for done, act in (
            (40, lambda: kill_a_worker(cluster)),
            (80, lambda: kill_a_worker(cluster)),
            (120, lambda: cluster.scale(5)),
        ):
            wait_for_another(tmp_path / "out", done, run, 0)
            act()
        assert run.wait() == 0
    assert tables(tmp_path / "out") == tables(tmp_path / "one")


def kill_a_worker(cluster: Any) -> None:
    """The process itself, not by Dask's own leave."""
    nanny = next(n for n in cluster.workers.values() if n.pid)
    os.kill(nanny.pid, signal.SIGKILL)

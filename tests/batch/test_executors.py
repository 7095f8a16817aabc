"""Every job ends once, whatever dies on the way."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from inspect_pop.batch.executors import Ended, in_process, in_processes
from inspect_pop.batch.jobs import Job
from tests.batch.work import by_name, good


def jobs(root: Path, *names: str) -> list[Job]:
    return [Job(i, root / name, root) for i, name in enumerate(names)]


def ended(pairs: Iterator[Ended]) -> dict[str, str]:
    return {job.path.name: type(f.exception()).__name__ if f.exception() else f.result().verdict for job, f in pairs}


def test_one_after_the_other(tmp_path: Path) -> None:
    todo = jobs(tmp_path, "a", "b", "surprise", "c")
    assert [j.path.name for j, _ in in_process(by_name, todo)] == ["a", "b", "surprise", "c"]
    assert ended(in_process(by_name, todo))["surprise"] == "KeyError"


def test_several_processes_do_each_job_once(tmp_path: Path) -> None:
    todo = jobs(tmp_path, *(f"b{i}" for i in range(25)))
    seen = [job.order for job, future in in_processes(good, todo, 2) if future.result().verdict == "pass"]
    assert sorted(seen) == list(range(25))


def test_a_killed_process_costs_no_board(tmp_path: Path) -> None:
    todo = jobs(tmp_path, *(f"b{i}" for i in range(6)), "dies-once", *(f"c{i}" for i in range(6)))
    result = ended(in_processes(by_name, todo, 2))
    assert result == dict.fromkeys((j.path.name for j in todo), "pass")


@pytest.mark.parametrize("name", ["dies", "hangs"])
def test_a_board_that_ends_its_process_twice_is_told(tmp_path: Path, name: str) -> None:
    todo = jobs(tmp_path, "a", name, "b", "c", "d", "e")
    result = ended(in_processes(by_name, todo, 2))
    assert result.pop(name) == BrokenProcessPool.__name__
    assert result == dict.fromkeys("abcde", "pass")


def test_no_jobs(tmp_path: Path) -> None:
    assert list(in_processes(good, [], 2)) == []


PARENT = """
import sys, time
from pathlib import Path
from inspect_pop.batch.executors import in_processes
from inspect_pop.batch.jobs import Job
from tests.batch.test_executors import say_and_wait
if __name__ == "__main__":
    list(in_processes(say_and_wait, [Job(0, Path(sys.argv[1]), Path(sys.argv[1]))], 1))
"""


def say_and_wait(job: Job) -> None:
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

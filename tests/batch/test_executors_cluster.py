"""The same work on a real, small Dask cluster: workers die and join, every board ends once."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inspect_pop import cli
from inspect_pop.batch.executors import on_cluster
from inspect_pop.batch.jobs import Job
from inspect_pop.core.errors import UsageFault
from tests.batch.boards import command, many, start, tables, wait_for_another
from tests.batch.work import by_name
from tests.learn.models import make_model

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
pytestmark = pytest.mark.filterwarnings("default")  # distributed's own threads and sockets warn when a worker is killed


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        yield cluster


def jobs(root: Path, *names: str) -> list[Job]:
    return [Job(i, root / name, root) for i, name in enumerate(names)]


def test_every_board_ends_once_though_a_worker_dies(cluster: Any, tmp_path: Path) -> None:
    todo = jobs(tmp_path, "a", "fault", "dies-once", *(f"b{i}" for i in range(12)))
    ended = list(on_cluster(by_name, todo, cluster.scheduler_address))
    assert sorted(job.order for job, _ in ended) == list(range(len(todo)))
    errors = {job.path.name: type(future.exception()).__name__ for job, future in ended if future.exception()}
    assert errors == {"fault": "ManifestFault"}


def test_a_worker_that_joins_takes_part(cluster: Any, tmp_path: Path) -> None:
    todo = jobs(tmp_path, *(f"b{i}" for i in range(30)))
    seen = []
    for job, future in on_cluster(by_name, todo, cluster.scheduler_address):
        if not seen:
            cluster.scale(3)
        seen.append((job.order, future.result().verdict))
    assert sorted(seen) == [(i, "pass") for i in range(30)]


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inspect_pop.batch.executors.CONNECT_S", 1)
    with pytest.raises(UsageFault, match="a Dask scheduler"):
        list(on_cluster(by_name, [], "tcp://127.0.0.1:9"))


@pytest.mark.long
def test_200_boards_two_workers_killed_and_one_added(small_batch: Path, tmp_path: Path) -> None:
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

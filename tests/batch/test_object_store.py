"""A run whose joints go to an object store: two processes, a server that goes away in the middle, and on from there."""

from collections.abc import Iterator
from functools import partial
from multiprocessing import forkserver
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from inspect_pop import cli
from inspect_pop.batch import BatchSettings, local_executor, run_batch
from inspect_pop.batch.run import Progress
from inspect_pop.core.errors import StoreFault
from inspect_pop.core.limits import Limits
from inspect_pop.store import open_store
from tests.batch.work import made_by_hand
from tests.store.object_store import Gate

Captured = pytest.CaptureFixture[str]
NAMES = [f"b{k:02d}" for k in range(12)]


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / "batch" / name).mkdir(parents=True)
        (tmp_path / "batch" / name / "export.json").write_text("{}")
    return tmp_path / "batch"


@pytest.fixture
def url(object_store_gate: Gate, tmp_path: Path) -> Iterator[str]:
    """A store in this folder with its joints on the server."""
    assert object_store_gate.port
    forkserver._forkserver._stop()  # workers have the environment of the process that they are forked from
    yield f"sqlite:///{tmp_path}/records.db?files=s3://bucket/{tmp_path.name}"
    forkserver._forkserver._stop()


def run(batch: Path, url: str, out: Path, progress: Progress | None = None) -> None:
    settings = BatchSettings(out, url, None, Limits())
    work = partial(made_by_hand, settings)
    assert run_batch([batch], settings, executor=local_executor(2), work=work, progress=progress).exit_status == 0


def is_whole(url: str, out: Path) -> bool:
    """The store holds what the run's own file holds."""
    order = [(name, "ascending") for name in ("serial", "refdes", "interface", "ball")]
    with open_store(url, must_exist=True) as store:
        kept = store.joints().sort_by(order)
    left = pq.read_table(out / "joints.parquet").sort_by(order)
    return bool(kept.select(left.column_names).equals(left)) and left.num_rows == 25 * len(NAMES)


def test_joints_of_two_processes_come_back(batch: Path, url: str, tmp_path: Path, capsys: Captured) -> None:
    run(batch, url, tmp_path / "out")
    assert is_whole(url, tmp_path / "out")
    assert cli.main(["compact", "--store", url]) == 0
    assert f"{len(NAMES)} files merged into 1; 0 left over" in capsys.readouterr().out
    assert is_whole(url, tmp_path / "out")
    assert cli.main(["yield", "--store", url, "--page", str(tmp_path / "page.html")]) == 0


def test_a_server_that_goes_away_ends_the_run_which_goes_on_later(
    batch: Path, url: str, tmp_path: Path, object_store_gate: Gate, capsys: Captured
) -> None:
    ended = []

    def goes_away(outcome: object, n: int) -> None:
        ended.append(outcome)
        if len(ended) == 3:
            object_store_gate.shut()

    with pytest.raises(StoreFault, match=r"s3://bucket/.*can be reached \(AWS_ENDPOINT_URL\); then repeat"):
        run(batch, url, tmp_path / "out", goes_away)
    assert 3 <= len(ended) < len(NAMES)
    assert cli.main(["compact", "--store", url]) == 2
    assert "s3://bucket/" in capsys.readouterr().err
    object_store_gate.open()
    run(batch, url, tmp_path / "out")
    assert is_whole(url, tmp_path / "out")

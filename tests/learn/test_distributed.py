"""Processes that train together, started by torch's own launcher: they agree, go on where they were, and one of them writes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from inspect_pop.classify.model import load  # noqa: E402
from inspect_pop.core.errors import UsageFault  # noqa: E402
from inspect_pop.learn.fit import SINGLE_PROCESS, DistributedContext, join_processes, select_device  # noqa: E402

pytestmark = [pytest.mark.training]
ROOT = Path(__file__).resolve().parents[2]


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run two processes by `torchrun`, on a free port."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--monitor-interval=1"]
    command = [*launcher, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=240, check=False)


def launch_unwatched(*arguments: str) -> list[tuple[int, str]]:
    """Exit status and stderr of two processes without `torchrun`, which kills the second, sometimes too early, once one ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=ENVIRONMENT | group | {"RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    messages = [process.communicate(timeout=240)[1] for process in processes]
    return [(process.returncode, message) for process, message in zip(processes, messages, strict=True)]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("together")
    done = launch("tests.learn.together", str(out))
    assert done.returncode == 0, done.stderr
    return out


def _left(out: Path, rank: int) -> dict[str, np.ndarray]:
    with np.load(out / f"{rank}.npz") as kept:
        return dict(kept)


def test_all_end_with_one_network(together: Path) -> None:
    leading, other = _left(together, 0), _left(together, 1)
    assert leading.keys() == other.keys()
    learnt = [name for name in leading if name.startswith(("trained ", "given "))]
    assert any(name.startswith("trained ") for name in learnt)
    for name in learnt:  # without the mean gradient each had gone its own way
        np.testing.assert_array_equal(leading[name], other[name], err_msg=name)
    np.testing.assert_array_equal(leading["losses"], other["losses"])
    assert leading["taught"] == other["taught"] == 5 * 64 / 2
    assert leading["losses"][-1] < leading["losses"][0]


def test_the_leading_one_speaks_and_writes(together: Path) -> None:
    leading, other = _left(together, 0), _left(together, 1)
    assert (leading["said"], other["said"]) == (5, 0)
    assert str(leading["told"]) == str(other["told"]) == "process 0 of 2"
    assert leading["mean"] == other["mean"] == 0.5
    assert leading["threads"] == other["threads"] == 0  # of gloo, which must not outlive the interpreter
    assert sorted(p.name for p in (together / "work").iterdir()) == ["epoch-0005.safetensors", "state.json"]


def test_an_interrupted_run_ends_where_a_whole_one_ends(together: Path, tmp_path: Path) -> None:
    (leading, _), (other, message) = launch_unwatched("tests.learn.together", str(tmp_path), "--stop-after", "2")
    assert (leading, other) == (3, 1), message
    assert "found one that ended. Read its own message" in message
    assert not list(tmp_path.glob("*.npz"))
    again = launch("tests.learn.together", str(tmp_path))
    assert again.returncode == 0, again.stderr
    whole, cut = _left(together, 0), _left(tmp_path, 0)
    assert cut["said"] == 3
    for name in whole.keys() - {"said", "taught"}:
        np.testing.assert_array_equal(whole[name], cut[name], err_msg=name)


def test_alone_there_is_nobody_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join_processes() as context:
        assert context is SINGLE_PROCESS
        assert context.is_leader
        with context.leader_first():
            assert context.broadcast(lambda: 7) == 7
        module = torch.nn.Linear(1, 1)
        assert context.wrap(module) is module
        context.synchronise(module)
        assert context.mean(torch.tensor(2.0)) == 2
        np.testing.assert_array_equal(context.share(np.arange(5)), np.arange(5))


def test_shares_are_the_whole_batch() -> None:
    shares = [DistributedContext(rank, 3).share(np.arange(17)) for rank in range(3)]
    assert sorted(np.concatenate(shares)) == list(range(17))
    assert {len(share) for share in shares} == {5, 6}


def test_more_processes_than_a_batch_has_joints_for_are_refused() -> None:
    DistributedContext(0, 4).check_batch(32)
    SINGLE_PROCESS.check_batch(2)
    with pytest.raises(UsageFault, match=r"at most 3 processes for batches of 31.*found 4.*larger fit\.batch"):
        DistributedContext(0, 4).check_batch(31)


def test_the_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (select_device(None), select_device("cpu"), select_device("cuda")) == ("cuda", "cpu", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (select_device(None), select_device("cpu")) == ("cpu", "cpu")
    with pytest.raises(UsageFault, match="Leave out --device"):
        select_device("cuda")


TINY = """
name = "tiny"
from_current = false
[fit]
widths = [8, 8]
blocks = [1, 1]
epochs = 2
samples_per_epoch = 100
batch = 32
mixed_precision = false
average_decay = 0.5
"""


def test_the_command_trains_together(batch: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    recipe = ["--config", str(tmp_path / "tiny.toml"), "--jobs", "1", "--device", "cpu"]
    done = launch("inspect_pop", "train", str(batch), "--out", str(tmp_path / "out"), *recipe)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("epoch 2 of 2") == 4  # once for the network and each of three folds: one process speaks
    assert done.stdout.count("Labels\n") == 1
    assert load(tmp_path / "out").card.name == "out"
    assert not (tmp_path / "out" / ".work").exists()

"""The inspecting process by itself: the lines of JSON that it reads and writes."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from inspect_pop.station.contract import WORKER_COMMAND, JudgingOptions, Rules
from inspect_pop.station.worker import load_inspector
from tests.station.conftest import FACTORY, REPO
from tests.station.fakes import write_board


def exchange(*lines: object) -> tuple[int, list[dict[str, Any]]]:
    """Exit status and replies of a process that reads these lines."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = subprocess.run(WORKER_COMMAND, input=text, capture_output=True, text=True, timeout=120, cwd=REPO, check=False)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_what_lies_in_the_current_folder_is_no_module(tmp_path: Path) -> None:
    """The hook is called in any folder, also in the unpacked sources of another version."""
    (tmp_path / "inspect_pop").mkdir()
    (tmp_path / "inspect_pop" / "__init__.py").write_text("raise SystemExit(42)\n")
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    lines = json.dumps({"store": str(tmp_path / "r.db"), "inspector_factory": FACTORY}) + "\n"
    done = subprocess.run(WORKER_COMMAND, input=lines, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ready"]


def test_each_job_is_answered_and_then_done(tmp_path: Path) -> None:
    config = {"store": str(tmp_path / "r.db"), "inspector_factory": FACTORY}
    boards = [write_board(tmp_path / "batch" / "boards" / serial, serial, print="noise") for serial in ("S1", "S2")]
    status, replies = exchange(config, *({"kind": "inspect", "path": str(b), "root": str(tmp_path)} for b in boards))
    assert (status, replies[0]) == (0, {"ready": True, "model": "released", "rules": asdict(Rules("released"))})
    assert [r["answer"]["serial"] for r in replies[1::2]] == ["S1", "S2"]
    assert replies[2::2] == [{"done": True}] * 2


def test_a_process_for_one_board_ends_after_its_reply(tmp_path: Path) -> None:
    config = {"store": str(tmp_path / "r.db"), "inspector_factory": FACTORY, "once": True}
    job = {"kind": "inspect", "path": str(write_board(tmp_path / "b" / "boards" / "S", "S")), "root": str(tmp_path)}
    status, replies = exchange(config, job, job)
    assert (status, len(replies), replies[1]["status"]) == (0, 2, 200)


def test_what_it_cannot_start_with_is_a_reply(tmp_path: Path) -> None:
    status, replies = exchange({"store": str(tmp_path / "r.db"), "inspector_factory": "tests.station.fakes:none"})
    assert (status, replies[0]["ready"], replies[0]["answer"]["problem"]["expected"]) == (1, False, "module:function")


def test_it_loads_heavy_libraries_only_for_the_products_inspector() -> None:
    """A process for one board forks its ledger before, and neither web framework nor pandas belongs into it."""
    code = "import sys, inspect_pop.station.worker; print([m for m in (%s) if m in sys.modules])"
    names = ("onnxruntime", "cv2", "scipy", "sqlalchemy", "starlette", "pandas")
    command = [sys.executable, "-c", code % ", ".join(map(repr, names))]
    assert subprocess.check_output(command, cwd=REPO, text=True).strip() == "[]"


@pytest.mark.parametrize("is_memory", [True, False])
def test_opencv_without_memory_runs_out_of_memory(small_board: Path, monkeypatch: pytest.MonkeyPatch, is_memory: bool) -> None:
    """Its error is no MemoryError; another of its errors stays what it is."""

    def fail(*_: object, **__: object) -> None:
        side = 1 << 30 if is_memory else -1
        cv2.copyMakeBorder(np.zeros((4, 4)), 1 << 15, side, 1 << 15, 1 << 15, cv2.BORDER_CONSTANT)

    monkeypatch.setattr("inspect_pop.pipeline.board.inspect_board", fail)
    inspect, _ = load_inspector(JudgingOptions())
    with pytest.raises(MemoryError if is_memory else cv2.error):
        inspect(small_board, small_board.parents[1])

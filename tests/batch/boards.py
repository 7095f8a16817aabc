"""Batches of many boards with the same pictures, each with its own serial, and what is read of a run over them."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

__all__ = ["checkpoints", "command", "many", "start", "tables", "wait_for_another"]

UNTIMED = ("started_at", "finished_at")


def many(batch: Path, count: int) -> Path:
    """`count` boards: the one of the batch and copies of it, whose images are links to the same files."""
    (board,) = (manifest.parent for manifest in batch.glob("boards/*/export.json"))
    manifest = json.loads((board / "export.json").read_text())
    for n in range(1, count):
        copy = Path(shutil.copytree(board, board.with_name(f"board-{n:03}"), copy_function=os.link))
        (copy / "export.json").unlink()
        (copy / "export.json").write_text(json.dumps(manifest | {"serial": f"B-{n}"}))
    return batch


def command(batch: Path, out: Path, model: Path, *more: str) -> list[str]:
    """A run of that batch."""
    return ["run", str(batch), "--out", str(out), "--model", str(model), *more]


def start(arguments: list[str]) -> "subprocess.Popen[bytes]":
    """The command in a process group of its own."""
    return subprocess.Popen([sys.executable, "-m", "inspect_pop", *arguments], start_new_session=True, stdout=subprocess.DEVNULL)


def tables(out: Path) -> dict[str, list[dict[str, object]]]:
    """All rows that a run left, without the times at which it worked."""
    found = {}
    for name in ("joints", "boards", "packages"):
        rows = pq.read_table(out / f"{name}.parquet").to_pylist()
        found[name] = [{k: v for k, v in row.items() if k not in UNTIMED} for row in rows]
    return found


def checkpoints(out: Path) -> dict[str, int]:
    """Finished boards, with the time at which each was finished."""
    return {p.name: p.stat().st_mtime_ns for p in out.glob(".work/*/*.arrow")}


def wait_for_another(out: Path, before: int, run: "subprocess.Popen[bytes]", after_s: float) -> None:
    """Until more boards than `before` are finished, and a moment longer; or until the run has ended."""
    until = time.monotonic() + 240
    while len(checkpoints(out)) <= before and run.poll() is None:
        assert time.monotonic() < until, "no board was finished"
        time.sleep(0.02)
    time.sleep(after_s)

"""A few real boards, a model that answers at once, and disks that are small or read-only."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.learn.models import make_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def batch(small_batch: Path, small_board: Path) -> Path:
    """Four boards with the same pictures, each with its own serial."""
    manifest = json.loads((small_board / "export.json").read_text())
    for n in range(1, 4):
        copy = Path(shutil.copytree(small_board, small_board.with_name(f"board-{n}"), copy_function=os.link))
        (copy / "export.json").unlink()
        (copy / "export.json").write_text(json.dumps(manifest | {"serial": f"B-{n}"}))
    return small_batch


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A real file system of one's own: called with mount options, first to mount it and then to change it."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> Path:
        again = f"remount,{options}" if place.is_mount() else options
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", again, "tmpfs", place], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"file systems cannot be mounted here: {done.stderr.strip()}")
        return place

    yield mount
    if place.is_mount():
        subprocess.run(["umount", "--lazy", place], check=True)

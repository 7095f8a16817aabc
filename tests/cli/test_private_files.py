"""Records, pages and messages hold serials and people's names: they are not for every account of the machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from inspect_pop.cli import main


@pytest.mark.skipif(os.name != "posix", reason="file modes of POSIX")
@pytest.mark.parametrize("command", ["hook", "serve", "watch", "run", "store"])
@pytest.mark.parametrize(("before", "after"), [(0o022, 0o027), (0o000, 0o027), (0o077, 0o077)])
def test_what_is_written_is_not_for_every_account(command: str, before: int, after: int) -> None:
    umask = os.umask(before)
    try:
        main([command, "--no-such-option"])
    finally:
        found = os.umask(umask)
    assert found == after


def test_a_command_that_writes_no_records_keeps_the_users_umask() -> None:
    umask = os.umask(0o022)
    try:
        main(["--version"])
    finally:
        found = os.umask(umask)
    assert found == 0o022


def test_a_store_that_a_hook_made_is_private(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "inspect_pop", "hook", str(tmp_path / "none"), "--store", str(tmp_path / "r.db"), "--alone"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 3
    assert [p.name for p in tmp_path.rglob("*") if p.is_file() and p.stat().st_mode & 0o007] == []

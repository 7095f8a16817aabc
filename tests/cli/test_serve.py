"""The commands of the line where the extra `station` is not installed."""

import sys
from pathlib import Path

import pytest

from inspect_pop import cli


@pytest.mark.parametrize(("command", "folder"), [("serve", ["--root"]), ("watch", [])])
def test_without_the_extra_it_says_what_to_install(
    command: str, folder: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, f"inspect_pop.station.{command}", None)
    assert cli.main([command, *folder, str(tmp_path)]) == 2
    assert "expected the extra `station`" in capsys.readouterr().err

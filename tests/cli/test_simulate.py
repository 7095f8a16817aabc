"""`inspect-pop simulate`: a batch that `check` finds clean, and the same again for the same seed."""

from pathlib import Path

import pytest

from inspect_pop import cli


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_clean_labelled_batch_and_the_same_again(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert cli.main(["simulate", "--out", str(tmp_path / name), "--boards", "1", "--seed", "7", "--jobs", "1"]) == 0
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert cli.main(["check", str(tmp_path / "one")]) == 0


def test_an_unknown_name_and_a_folder_in_use_are_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batch = str(tmp_path / "batch")
    assert cli.main(["simulate", "--out", batch, "--boards", "1", "--machine", "toaster", "--jobs", "1"]) == 2
    assert "toaster" in capsys.readouterr().err
    (tmp_path / "batch" / "boards").mkdir(parents=True)
    assert cli.main(["simulate", "--out", batch, "--boards", "1", "--jobs", "1"]) == 2

"""`inspect-pop store`: backup, restore, check."""

from pathlib import Path

import pytest

from inspect_pop import cli
from inspect_pop.store import open_store
from tests.factories import make_inspection

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def records(tmp_path: Path) -> Path:
    with open_store(tmp_path / "records.db") as store:
        store.write(make_inspection("B1"))
    return tmp_path / "records.db"


def test_a_store_is_backed_up_restored_and_checked(records: Path, tmp_path: Path, capsys: Captured) -> None:
    backup, new = str(tmp_path / "backup"), str(tmp_path / "new.db")
    assert cli.main(["store", "backup", "--store", str(records), "--out", backup]) == 0
    assert "1 record and 1 joint file" in capsys.readouterr().out
    assert cli.main(["store", "restore", backup, "--store", new]) == 0
    assert cli.main(["store", "check", "--store", new]) == 0
    assert "1 record in 1 joint file: 0 faults" in capsys.readouterr().out
    assert cli.main(["store", "restore", backup, "--store", new]) == 2


def test_what_is_missing_is_named_with_status_1(records: Path, tmp_path: Path, capsys: Captured) -> None:
    (file,) = (tmp_path / "records-files").rglob("*.parquet")
    file.unlink()
    assert cli.main(["store", "check", "--store", str(records)]) == 1
    assert f"{file}: missing, with the joints of 1 records" in capsys.readouterr().err
    assert cli.main(["store", "backup", "--store", str(records), "--out", str(tmp_path / "backup")]) == 1
    assert "1 joint file missing" in capsys.readouterr().err

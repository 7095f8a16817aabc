"""Pages are deleted by age, and with their records."""

from pathlib import Path

import pytest

from inspect_pop.cli import main
from inspect_pop.core.errors import StoreFault
from inspect_pop.station.contract import locate_pages
from inspect_pop.station.station import prune_station
from inspect_pop.station.worker import locate_page
from inspect_pop.store import open_store
from tests.factories import make_inspection

TODAY = "2026-03-12"  # ten days after the day of the factory's boards


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Two records with a page each: one of ten days, one of a day before."""
    path = tmp_path / "records.db"
    pages = Path(locate_pages(str(path)) or "")
    pages.mkdir()
    with open_store(path) as store:
        store.write(make_inspection("A", record="a" * 32))
        day = "2026-03-11T08:00:00+00:00"
        store.write(make_inspection("B", record="b" * 32, inspected_at=day, started_at=day, finished_at=day))
    for letter in "ab":
        locate_page(pages, letter * 32).write_text("page")
    return path


def list_pages(database: Path) -> str:
    return "".join(sorted(p.name[0] for p in database.with_name("records-pages").iterdir()))


def test_pages_are_deleted_by_age_alone(database: Path) -> None:
    assert prune_station(str(database), who="me", pages_days=5, today=TODAY, dry_run=True).pages == 1
    assert list_pages(database) == "ab"
    assert prune_station(str(database), who="me", pages_days=5, today=TODAY).pages == 1
    assert list_pages(database) == "b"
    with open_store(database) as store:
        assert store.has("a" * 32)
        assert [(e.action, e.before) for e in store.list_audit()] == [("pages deleted", {"records": ["a" * 32]})]


def test_the_page_of_a_board_that_waits_stays(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_store(database) as store:
        store.write(make_inspection("W", record="c" * 32, defects={"U1.lower.A1": "open"}))
    locate_page(Path(locate_pages(str(database)) or ""), "c" * 32).write_text("page")
    assert main(["store", "prune", "--store", str(database), "--today", TODAY, "--pages-days", "5"]) == 0
    assert "pages of 1 inspection deleted; those of 1 record as old wait, and stay" in capsys.readouterr().out
    assert list_pages(database) == "bc"


def test_a_record_takes_its_page_with_it(database: Path) -> None:
    assert prune_station(str(database), who="me", records_days=5, today=TODAY).records.records == 1
    assert list_pages(database) == "b"


def test_a_page_that_cannot_be_removed_keeps_its_record(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(page: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch, pytest.raises(StoreFault, match="a page that can be removed"):
        patch.setattr(Path, "unlink", refuse)
        prune_station(str(database), who="me", records_days=5, today=TODAY)
    with open_store(database) as store:
        assert store.has("a" * 32)


def test_the_command_says_what_it_deletes_and_refuses_to_do_nothing(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["store", "prune", "--store", str(database), "--today", TODAY]
    assert main([*call, "--records-days", "5", "--joints-days", "3", "--pages-days", "5", "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "records of 1 inspection would be deleted",
        "joints of 1 inspection would be deleted",
        "pages of 1 inspection would be deleted",
    ]
    assert main([*call, "--records-days", "5"]) == 0
    assert capsys.readouterr().out == "records of 1 inspection deleted\n"
    assert main(call) == 2
    assert "--records-days or another bound" in capsys.readouterr().err

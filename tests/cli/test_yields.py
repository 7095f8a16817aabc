"""`inspect-pop yield` and `compact`: the same figures in every form."""

import csv
import io
import json
from pathlib import Path

import pytest

from inspect_pop import cli
from inspect_pop.report.write import name_board_file
from inspect_pop.store import Message, open_store
from tests.factories import make_inspection

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def records(tmp_path: Path) -> str:
    with open_store(tmp_path / "records.db") as store:
        for n in range(4):
            store.write(make_inspection(f"B{n}", lot="L1" if n < 3 else "L2", defects={"U1.lower.A1": "open"} if n == 0 else {}))
    return str(tmp_path / "records.db")


def test_json(records: str, capsys: Captured) -> None:
    assert cli.main(["yield", "--store", records, "--by", "lot", "--json"]) == 0
    groups = {g["lot"]: g for g in json.loads(capsys.readouterr().out)}
    assert {lot: (g["boards"], g["passed"]) for lot, g in groups.items()} == {"L1": (3, 2), "L2": (1, 1)}
    assert groups["L1"]["fpy_low"] < groups["L1"]["fpy"] < groups["L1"]["fpy_high"]


def test_csv(records: str, capsys: Captured) -> None:
    assert cli.main(["yield", "--store", records, "--csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["boards"], row["passed"], row["n_open"]) == ("4", "3", "1")


def test_table(records: str, capsys: Captured) -> None:
    assert cli.main(["yield", "--store", records, "--by", "lot,line"]) == 0
    assert "L2" in capsys.readouterr().out


def test_an_unknown_key_is_status_2(records: str, capsys: Captured) -> None:
    assert cli.main(["yield", "--store", records, "--by", "moon"]) == 2
    assert "moon" in capsys.readouterr().err


def test_a_store_that_is_not_there_is_status_2(tmp_path: Path) -> None:
    assert cli.main(["yield", "--store", str(tmp_path / "records.db")]) == 2
    assert not (tmp_path / "records.db").exists()


def test_compact_changes_no_figure(records: str, capsys: Captured) -> None:
    cli.main(["yield", "--store", records, "--json"])
    before = capsys.readouterr().out
    assert cli.main(["compact", "--store", records]) == 0
    capsys.readouterr()
    cli.main(["yield", "--store", records, "--json"])
    assert capsys.readouterr().out == before


def test_compact_forgets_messages_only_on_request(records: str, capsys: Captured) -> None:
    with open_store(records) as store:
        store.queue([Message("m", "Heartbeat", "{}", "2026-03-01T08:00:00+00:00")])
        store.mark_delivered(["m"], at="2026-03-01T08:00:00+00:00")
    assert cli.main(["compact", "--store", records]) == 0
    assert "messages" not in capsys.readouterr().out
    assert cli.main(["compact", "--store", records, "--forget-delivered", "2026-03-02"]) == 0
    assert "1 message delivered before 2026-03-02 deleted" in capsys.readouterr().out
    assert cli.main(["compact", "--store", records, "--forget-delivered", "yesterday"]) == 2


def test_pages_of_a_time_and_of_a_lot(records: str, tmp_path: Path, capsys: Captured) -> None:
    assert cli.main(["yield", "--store", records, "--page", str(tmp_path / "all.html")]) == 0
    assert cli.main(["yield", "--store", records, "--page", str(tmp_path / "lot.html"), "--lot", "L1"]) == 0
    assert "L1" in (tmp_path / "lot.html").read_text(encoding="utf-8")


def test_one_lot_alone(records: str, capsys: Captured) -> None:
    assert cli.main(["yield", "--store", records, "--lot", "L2", "--json"]) == 0
    assert [g["boards"] for g in json.loads(capsys.readouterr().out)] == [1]


def test_a_lot_s_page_keeps_to_its_days_and_links_to_a_run(records: str, tmp_path: Path) -> None:
    with open_store(records) as store:
        record = store.board("B0")[0].board.record
    pages = tmp_path / "out of a run" / "boards"
    pages.mkdir(parents=True)
    name = name_board_file("B0", record)
    (pages / name).touch()
    command = ["yield", "--store", records, "--lot", "L1", "--run", str(pages.parent)]
    assert cli.main([*command, "--page", str(tmp_path / "yields" / "lot.html")]) == 0
    assert f'<a href="../out%20of%20a%20run/boards/{name}">B0</a>' in (tmp_path / "yields" / "lot.html").read_text()
    assert cli.main([*command, "--page", str(tmp_path / "none.html"), "--until", "2001-01-01"]) == 0
    assert "No board was inspected in this selection." in (tmp_path / "none.html").read_text()

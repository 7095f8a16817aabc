"""`inspect-pop yield` and `compact`: the same figures in every form."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from rich.cells import cell_len

from inspect_pop import cli
from inspect_pop.report.write import name_board_file
from inspect_pop.store import Message, open_store
from inspect_pop.yields import KEYS
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


NAMES = ["W47[/2]", "LOT[a]", "LOT[b]", "[bold red]ok", "[link=http://evil]x", "\x1b[31mred", "two\nlines", "板4", "a" * 60]
FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", " =1+1", "\t=1+1", "a;=1+1", "＝1+1", "-7"]


@pytest.fixture
def named(tmp_path: Path) -> str:
    with open_store(tmp_path / "named.db") as store:
        for n, lot in enumerate((*NAMES, *FORMULAS)):
            store.write(make_inspection(f"B{n}", lot=lot, line="B[1]"))
    return str(tmp_path / "named.db")


@pytest.mark.parametrize("width", [60, 80, 160])
def test_a_table_shows_each_name_as_it_is(named: str, width: int, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert cli.main(["yield", "--store", named, "--by", "lot,line"]) == 0
    text = capsys.readouterr().out
    assert max(map(cell_len, text.splitlines())) <= width
    assert "…" not in text and "\x1b" not in text
    words = re.sub(r"\s", "", text)
    for name in ("W47[/2]", "LOT[a]", "LOT[b]", "[boldred]ok", "\\x1b[31mred", "two\\nlines", "板4", "B[1]"):
        assert name in words
    if width >= 80:
        assert {"boards", "FPY", "DPMO", "review"} <= set(text.split())


def test_no_cell_of_a_csv_is_a_formula(named: str, capsys: Captured) -> None:
    assert cli.main(["yield", "--store", named, "--by", "lot", "--csv"]) == 0
    text = capsys.readouterr().out
    lots = [row["lot"] for row in csv.DictReader(io.StringIO(text, newline=""))]
    assert sorted(lot.removeprefix("'") for lot in lots) == sorted([*NAMES, *FORMULAS])
    for delimiter in ",;\t":  # a spreadsheet separates as its country does
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            assert not [c for c in row if c.lstrip().startswith(("=", "+", "@", "＝")) or re.match(r"\s*-[^\d.]", c)]
    assert "'-7" in lots and "'-2+3" in lots


def test_an_empty_selection_is_said(records: str, capsys: Captured, tmp_path: Path) -> None:
    for options, words in (
        (["--lot", "NOPE"], "--lot NOPE: the store has 2 lots: L1, L2"),
        (["--product", "NOPE"], "--product NOPE: the store has 1 product: APX-17"),
        (["--since", "2030-01-01"], "from 2026-03-02 to 2026-03-02"),
        (["--lot", "NOPE", "--page", str(tmp_path / "page.html")], "--lot NOPE"),
        (["--lot", "NOPE", "--json"], "--lot NOPE"),
    ):
        assert cli.main(["yield", "--store", records, *options]) == 1
        captured = capsys.readouterr()
        assert words in captured.err
        assert captured.out in ("", f"page: {tmp_path / 'page.html'}\n") or json.loads(captured.out)


@pytest.mark.parametrize(
    "options", [["--json", "--csv"], ["--json", "--page", "p.html"], ["--by", "lot", "--page", "p.html"], ["--run", "out"]]
)
def test_options_that_exclude_each_other_are_refused(records: str, options: list[str], capsys: Captured) -> None:
    assert cli.main(["yield", "--store", records, *options]) == 2
    assert options[0] in capsys.readouterr().err


def test_the_help_names_every_key(capsys: Captured) -> None:
    cli.main(["yield", "--help"])
    text = capsys.readouterr().out
    assert [key for key in KEYS if not re.search(rf"\b{key}\b", text)] == []


def test_a_page_links_to_a_run_by_the_folder_that_run_has(records: str, tmp_path: Path, capsys: Captured) -> None:
    with open_store(records) as store:
        record = store.board("B0")[0].board.record
    pages = tmp_path / "out" / "report" / "boards"
    pages.mkdir(parents=True)
    (pages / name_board_file("B0", record)).touch()
    for run in (tmp_path / "out", tmp_path / "out" / "report"):
        assert cli.main(["yield", "--store", records, "--page", str(tmp_path / "y.html"), "--run", str(run)]) == 0
        assert '<a href="out/report/boards/' in (tmp_path / "y.html").read_text(encoding="utf-8")
    for run in (tmp_path / "nowhere", tmp_path):
        assert cli.main(["yield", "--store", records, "--page", str(tmp_path / "y.html"), "--run", str(run)]) == 2
        assert f"--run {run}" in capsys.readouterr().err


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
    assert cli.main([*command, "--page", str(tmp_path / "none.html"), "--until", "2001-01-01"]) == 1
    assert "No board was inspected in this selection." in (tmp_path / "none.html").read_text()

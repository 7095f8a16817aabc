"""Windows are removed by age and by size, the oldest first; records and golden boards are not touched."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from inspect_pop.cli.app import app
from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.store import UNCHECKED, Decision, Store, open_store
from inspect_pop.verify.board import find_golden
from inspect_pop.verify.retention import GB, prune_windows
from inspect_pop.verify.windows import ExportPlace, cut_windows
from inspect_pop.verify.windows_file import keep_windows, pack_windows, read_windows
from tests.verify.boards import make_seen_board

DAYS = ("2026-03-01", "2026-03-02", "2026-03-03")


def judge(store: Store, *records: str) -> None:
    """Decide about the defect of these boards, so that nobody waits for them any more."""
    given = [Decision(record, "U1", "lower", "A1", "DefectRejected", "Ada", f"{record}T23:59:00+01:00") for record in records]
    for decision in given:
        store.add_decisions([decision], [UNCHECKED], lambda *_: None)


@pytest.fixture
def waiting(tmp_path: Path) -> Store:
    store = open_store(tmp_path / "records.db", verify_sample=0)
    for day in DAYS:
        board, recipe = make_seen_board(day, record=day, defects={"U1.lower.A1": "open"}, inspected_at=f"{day}T23:30:00+01:00")
        windows = cut_windows(board, recipe, ExportPlace(f"/exports/{day}", "/exports", "d"))
        keep_windows(store, windows)
        store.write(board)
    store.require_files().save("windows/golden/g.parquet", pack_windows(windows))
    return store


@pytest.fixture
def store(waiting: Store) -> Store:
    judge(waiting, *DAYS)
    return waiting


def shown(store: Store) -> list[str]:
    return [day for day in DAYS if read_windows(store, day).roles]  # type: ignore[union-attr]


def test_by_days(store: Store) -> None:
    assert prune_windows(store, today="2026-03-03").emptied == 0
    assert prune_windows(store, today="2026-03-03", days=2).emptied == 0
    pruned = prune_windows(store, today="2026-03-03", days=1)
    assert (pruned.emptied, shown(store)) == (1, ["2026-03-02", "2026-03-03"])
    assert prune_windows(store, today="2026-03-03", days=1).emptied == 0
    prune_windows(store, today="2026-03-03", days=0)
    assert shown(store) == ["2026-03-03"]


def test_boards_that_wait_for_a_person_keep_their_pictures(waiting: Store, tmp_path: Path) -> None:
    judge(waiting, DAYS[1])
    for bounds in ({"days": 0}, {"gigabytes": 0.0}):
        prune_windows(waiting, today="2026-03-09", **bounds)  # type: ignore[arg-type]
        assert shown(waiting) == [DAYS[0], DAYS[2]]
    result = CliRunner().invoke(app, ["store", "prune", "--store", str(tmp_path / "records.db"), "--windows-gb", "0"])
    assert "those of 2 boards wait, and stay" in result.output
    judge(waiting, DAYS[0])
    assert prune_windows(waiting, today="2026-03-09", days=0).emptied == 1


def test_an_emptied_file_still_says_where_the_export_lies(store: Store) -> None:
    before = read_windows(store, DAYS[0])
    prune_windows(store, today="2026-03-09", days=1)
    after = read_windows(store, DAYS[0])
    assert before is not None and after is not None
    assert (after.export, after.placements, after.roles) == (before.export, before.placements, {})
    assert len(store.board(DAYS[0])) == 1 and store.joints(record=DAYS[0]).num_rows > 0
    assert (Path(store.require_files().address("windows/golden/g.parquet"))).stat().st_size > 10_000


def test_by_size_the_oldest_go_first(store: Store) -> None:
    sizes = {path: size for path, _, size in store.require_files().list_windows()}
    total = sum(sizes.values())
    pruned = prune_windows(store, today="2026-03-03", gigabytes=(total - 1000) / GB)
    assert (pruned.emptied, shown(store)) == (1, ["2026-03-02", "2026-03-03"])
    assert pruned.left_bytes == total - pruned.freed_bytes == sum(s for _, _, s in store.require_files().list_windows())
    assert prune_windows(store, today="2026-03-03", gigabytes=0).emptied == 2


def test_bounds_below_zero_are_refused(store: Store) -> None:
    for bounds in ({"days": -1}, {"gigabytes": -0.5}):
        with pytest.raises(UsageFault, match="0 or more"):
            prune_windows(store, today="2026-03-03", **bounds)  # type: ignore[arg-type]


def test_the_command(store: Store, tmp_path: Path) -> None:
    url = str(tmp_path / "records.db")
    result = CliRunner().invoke(app, ["store", "prune", "--store", url, "--windows-gb", "0", "--dry-run"])
    assert result.exit_code == 0 and "pictures of 3 boards would be removed" in result.output
    assert shown(store) == list(DAYS)
    result = CliRunner().invoke(app, ["store", "prune", "--store", url, "--windows-gb", "0"])
    assert result.exit_code == 0 and "pictures of 3 boards removed" in result.output
    assert shown(store) == []
    result = CliRunner().invoke(app, ["store", "prune", "--store", url])
    assert isinstance(result.exception, UsageFault)


def test_a_backup_holds_the_pictures_and_a_check_names_what_is_missing(store: Store, tmp_path: Path) -> None:
    board, recipe = make_seen_board("G", record="g")
    keep_windows(store, cut_windows(board, recipe, None))
    store.write(board)
    files = store.require_files()
    note = '{"product": "APX-17", "record": "g", "serial": "G", "chosen_by": "eva", "chosen_at": "2026-03-03T08:00:00+00:00"}'
    files.write_note("golden-APX-17.json", note, is_new=False)

    def call(*arguments: object) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["store", *map(str, arguments)])
        return done.exit_code, done.output

    url, backup, restored = tmp_path / "records.db", tmp_path / "backup", tmp_path / "restored.db"
    status, words = call("backup", "--store", url, "--out", backup)
    assert (status, "4 records and 4 joint files, 6 files of pictures" in words) == (0, True), words
    assert call("restore", backup, "--store", restored)[0] == 0
    status, words = call("check", "--store", restored)
    assert (status, "4 files of pictures, 0 without: 0 faults" in words) == (0, True), words
    with open_store(restored) as other:
        assert shown(other) == shown(store)
        golden = find_golden(other, "APX-17")
        assert golden is not None and golden.chosen_by == "eva"
        for path in ("windows/golden/g.parquet", read_windows(other, DAYS[0]).path):  # type: ignore[union-attr]
            other.require_files().remove(path)
        other.require_files().save(read_windows(other, DAYS[1]).path, b"cut short")  # type: ignore[union-attr]
    status, words = call("check", "--store", restored)
    assert status == 1
    for expected in ("golden board of APX-17", f"without pictures: record {DAYS[0]}", "a Parquet file of windows", "2 faults"):
        assert expected in words
    assert "6 files" not in call("backup", "--store", url, "--out", tmp_path / "small", "--without-windows")[1]


def test_a_copy_of_the_database_empties_no_windows_of_the_original(store: Store, tmp_path: Path) -> None:
    store.checkpoint()
    (tmp_path / "copy.db").write_bytes((tmp_path / "records.db").read_bytes())
    with open_store(tmp_path / "copy.db", files=tmp_path / "records-files") as copy, pytest.raises(StoreFault):
        prune_windows(copy, today="2026-03-09", days=0)
    assert shown(store) == list(DAYS)


def test_windows_that_no_record_names_are_left_over_by_a_crash(store: Store) -> None:
    files = store.require_files()
    orphan = "windows/day=2026-03-02/lot=L/x.parquet"
    files.save(orphan, b"x")
    assert store.repair() == []  # the board may just be written
    assert store.repair(older_than_s=-60) == [orphan]
    assert shown(store) == list(DAYS)
    assert Path(files.address("windows/golden/g.parquet")).exists()
    store.prune(who="test", joints_days=0, today="2026-04-01")
    assert store.repair(older_than_s=-60) == []  # a record without a joint file keeps its windows
    assert shown(store) == list(DAYS)

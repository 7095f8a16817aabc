"""What a run leaves in its folder has the columns of RECORDS, whole or not at all, the same for the same boards."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inspect_pop.core.errors import StoreFault
from inspect_pop.store import open_store
from inspect_pop.store.run_files import RunFiles, flatten_counts
from tests.factories import again, make_inspection

ONE = make_inspection("S1", defects={"U1.lower.A1": "open"}, undecided=["U1.upper.A1"], missing=("U1/pre_stack", "U1/upper"))
TWO = make_inspection("S2")


def written(out: Path) -> dict[str, pa.Table]:
    return {name: pq.read_table(out / f"{name}.parquet") for name in ("joints", "boards", "packages")}


def test_all_columns_of_the_record_page_are_there(tmp_path: Path, shared: Path) -> None:
    page = (shared / "RECORDS.md").read_text()
    joints = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`[^|]*)\|", page.split("## A board")[0], re.M)))
    assert len(joints) >= 20
    named = re.search(r"In the files: `boards.parquet`.*?`packages.parquet` holds", page, re.S).group()
    boards = re.findall(r"`(\w+)`", named) + re.search(r"`(serial, panel.*?)`", page, re.S).group(1).split(", ")
    packages = re.findall(r"`(\w+)`", re.search(r"`packages.parquet` holds(.*?)and the counts", page, re.S).group(1))
    with RunFiles(tmp_path) as files:
        files.add(ONE)
    found = written(tmp_path)
    assert set(joints) <= set(found["joints"].column_names)
    assert set(boards) - {"boards", "packages"} <= set(found["boards"].column_names)
    assert set(packages) <= set(found["packages"].column_names)


def test_values_are_the_inspections(tmp_path: Path) -> None:
    with RunFiles(tmp_path) as files:
        files.add(ONE)
        files.add(TWO)
    found = written(tmp_path)
    assert found["joints"].num_rows == 50
    assert found["joints"].schema.field("x_um").type == pa.float32()
    joint = next(
        j for j in found["joints"].to_pylist() if j["serial"] == "S1" and j["interface"] == "upper" and j["ball"] == "A1"
    )
    assert (joint["label"], joint["verdict"], joint["p_good"], joint["reason"]) == (None, "review", None, "no slices")
    board = found["boards"].to_pylist()[0]
    assert (board["serial"], board["n_open"], board["n_joints"], board["missing"]) == ("S1", 1, 25, "U1/pre_stack; U1/upper")
    assert (board["inspection_no"], board["first_record"]) == (None, None)
    package = found["packages"].to_pylist()[0]
    assert (package["n_lower_open"], package["n_lower_good"], package["n_lower_joints"]) == (1, 15, 16)
    assert (package["n_upper_undecided"], package["n_upper_review"], package["n_upper_joints"]) == (1, 1, 9)


def test_each_joint_counts_once_whatever_else_is_said_of_it() -> None:
    package = make_inspection("S", side={"lower": 4}, reviews={"U1.lower.A2": "between two classes"}).packages[0]
    counts = flatten_counts(replace(package, counts={"lower": package.counts["lower"] | {"rejected": 3}}))
    assert (counts["n_lower_good"], counts["n_lower_review"], counts["n_lower_rejected"], counts["n_lower_joints"]) == (
        16,
        1,
        3,
        16,
    )


def test_an_interface_that_the_package_does_not_have_is_null() -> None:
    counts = flatten_counts(make_inspection("S", side={"lower": 4}).packages[0])
    assert counts["n_lower_joints"] == 16
    assert counts["n_upper_joints"] is None


def test_what_could_not_be_measured_is_null(tmp_path: Path) -> None:
    one = replace(TWO, packages=(replace(TWO.packages[0], warpage_um=float("nan")),))
    with RunFiles(tmp_path) as files:
        files.add(one)
    assert written(tmp_path)["packages"]["warpage_um"].to_pylist() == [None]


def test_the_same_boards_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with RunFiles(tmp_path / name) as files:
            files.add(ONE)
            files.add(TWO)
            files.add_quarantine("x", "y")
    for name in ("joints.parquet", "boards.parquet", "packages.parquet", "quarantine.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_reinspection_says_which_came_first(tmp_path: Path) -> None:
    later = again(replace(make_inspection("S1")))
    with open_store(tmp_path / "records.db") as store:
        for one in (ONE, later):
            store.write(one)
        with RunFiles(tmp_path, store.find_sequences) as files:
            files.add(later)
            files.add(ONE)
    rows = written(tmp_path)["boards"].to_pylist()
    assert [r["inspection_no"] for r in rows] == [2, 1]
    assert {r["first_record"] for r in rows} == {ONE.board.record}
    assert [r["fpy"] for r in rows] == [0.0, 0.0]  # the board's first inspection failed; the later one passed
    assert [r["verdict"] for r in rows] == ["pass", "fail"]


def test_quarantine_is_a_csv_file_of_path_and_reason(tmp_path: Path) -> None:
    with RunFiles(tmp_path) as files:
        files.add_quarantine('a,"b"\n', "cut short, at page 2")
        files.add_quarantine("\udcff", "unreadable")
    with (tmp_path / "quarantine.csv").open(encoding="utf-8", newline="") as source:
        assert list(csv.reader(source)) == [["path", "reason"], ['a,"b"\n', "cut short, at page 2"], ["\\udcff", "unreadable"]]


def test_a_run_without_boards_leaves_empty_files_with_all_columns(tmp_path: Path) -> None:
    RunFiles(tmp_path).close()
    found = written(tmp_path)
    assert all(table.num_rows == 0 for table in found.values())
    assert "n_upper_head_in_pillow" in found["packages"].column_names


def test_nothing_appears_before_all_is_written(tmp_path: Path) -> None:
    files = RunFiles(tmp_path)
    files.add(ONE)
    assert not [p for p in tmp_path.iterdir() if not p.name.startswith(".")]
    files.close()
    assert {p.name for p in tmp_path.iterdir()} == {"joints.parquet", "boards.parquet", "packages.parquet", "quarantine.csv"}


def test_a_run_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), RunFiles(tmp_path) as files:
        files.add(ONE)
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_many_boards_are_written_in_row_groups(tmp_path: Path) -> None:
    with RunFiles(tmp_path) as files:
        for k in range(600):
            files.add(replace(TWO, board=replace(TWO.board, record=f"r{k}")))
    assert written(tmp_path)["boards"]["record"].to_pylist() == [f"r{k}" for k in range(600)]
    assert pq.ParquetFile(tmp_path / "boards.parquet").num_row_groups == 2


def test_a_folder_that_cannot_be_made_is_a_store_fault(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(StoreFault, match="out"):
        RunFiles(tmp_path / "out")

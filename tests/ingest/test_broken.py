"""Everything bad that can arrive: a declared error that names the thing, or a decision; quickly, and in little memory."""

import csv
from pathlib import Path

import pytest

from inspect_pop.core import errors
from inspect_pop.core.errors import InputFault
from inspect_pop.core.geometry import SliceStack
from inspect_pop.ingest import check_export, find_exports, open_export
from inspect_pop.ingest.pop_export import read_labels
from tests.ingest.bounded import within_bounds
from tests.ingest.broken import DECIDE, KINDS, Kind


def lost_slices(board: Path, root: Path | None = None) -> list[int]:
    """Open the board and read all of its images; the lost slices of its lower interface."""
    lost: list[int] = []
    for image in open_export(board, root).images:
        read = image.read()
        if isinstance(read, SliceStack) and read.interface == "lower":
            lost += read.lost
    return lost


def test_good_board_has_no_fault(board: Path) -> None:
    assert check_export(board) == []
    assert lost_slices(board) == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_bad_export(kind: Kind, board: Path) -> None:
    kind.spoil(board)
    with within_bounds():
        assert [found for found, _ in find_exports([board.parents[1]])] == [board]
    if kind.outcome == DECIDE:
        with within_bounds():
            assert check_export(board) == []
            assert [str(k) for k in lost_slices(board)] == list(kind.says)
        return
    with within_bounds(), pytest.raises(InputFault) as caught:
        lost_slices(board)
    with within_bounds():
        checked = check_export(board)
    assert type(caught.value) is kind.outcome
    for fragment in kind.says:
        assert fragment in str(caught.value)
    assert kind.outcome in {type(fault) for fault in checked}
    assert all(fragment in "\n".join(map(str, checked)) for fragment in kind.says)


def expectations() -> list[dict[str, str]]:
    path = Path(__file__).resolve().parents[3] / "shared/exports/broken/expected.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


ABOUT = {
    "file": errors.FileFault,
    "json": errors.ManifestFault,
    "path": errors.PathFault,
    "recipe": errors.RecipeFault,
    "xray": errors.ImageFault,
    "labels": errors.LabelsFault,
}
DECIDED = {"no_upper_slices": [], "slice_all_zero": [1], "outside_image": []}  # the last one is for alignment to refuse


@pytest.mark.parametrize("row", expectations(), ids=lambda row: row["case"])
def test_shared_broken_export(row: dict[str, str], shared: Path) -> None:
    batch = (shared / "exports/broken" / row["case"]).resolve()
    if row["about"] == "labels":
        with pytest.raises(errors.LabelsFault, match=r"labels\.csv: line 2: label.*solder_ball"):
            read_labels(batch / "labels.csv")
        return
    board = batch / "boards" / row["serial"]
    assert board in [found for found, _ in find_exports([batch])]
    if row["case"] in DECIDED:
        assert lost_slices(board, batch) == DECIDED[row["case"]]
        assert check_export(board, batch) == []
        return
    with pytest.raises(ABOUT[row["about"]]):
        lost_slices(board, batch)
    assert ABOUT[row["about"]] in {type(fault) for fault in check_export(board, batch)}


def test_shared_boards_beside_broken_ones_are_good(shared: Path) -> None:
    for batch in sorted((shared / "exports/broken").iterdir()):
        if batch.is_dir():
            assert check_export(batch / "boards/BRK-000700", batch) == []

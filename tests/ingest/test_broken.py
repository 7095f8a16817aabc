"""Everything bad that can arrive: a declared error that names the thing, or a decision; quickly, and in little memory."""

import csv
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from inspect_pop import errors
from inspect_pop.errors import InputFault
from inspect_pop.geometry import SliceStack
from inspect_pop.ingest import check_export, find_exports, open_export
from inspect_pop.ingest.labels import read_labels
from tests.ingest.broken import DECIDE, KINDS, Kind

CPU_SECONDS = 5
WAIT_SECONDS = 60  # a machine may be busy with other things; what waits for a pipe waits for ever
MEMORY_BYTES = 1 << 30


@contextmanager
def within_bounds() -> Iterator[None]:
    """Ends what computes for longer than 5 s or waits without end, and gives no more than 1 GB of new memory."""

    def too_long(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"took longer than {CPU_SECONDS} s")

    size_kb = int(Path("/proc/self/status").read_text().split("VmSize:")[1].split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = [(number, signal.signal(number, too_long)) for number in (signal.SIGPROF, signal.SIGALRM)]
    resource.setrlimit(resource.RLIMIT_AS, (size_kb * 1024 + MEMORY_BYTES, hard))
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WAIT_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        for number, handler in before:
            signal.signal(number, handler)


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

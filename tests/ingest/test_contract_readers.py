"""The registry of readers, with one that another package adds, and the contract that all of them keep."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import ModuleType

import pytest

from inspect_pop.core.errors import FileFault, InputFault, UsageFault
from inspect_pop.core.geometry import HeightMap, SliceStack
from inspect_pop.ingest import BoardExport, Reader, check_export, default_root, find_exports, open_export
from inspect_pop.ingest import contract as readers
from inspect_pop.ingest.contract import GROUP, other_readers, reader_for
from inspect_pop.ingest.pop_export import READER


class BoxReader:
    """Another machine's format: one file `NAME.box` that names a board of the built-in format."""

    name = "box"

    def could_be(self, path: Path) -> bool:
        return path.suffix == ".box"

    def open(self, path: Path, root: Path) -> BoardExport:
        return replace(READER.open(path.parent / path.read_text(), root), path=path)


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EntryPoint]]:
    """Entry points of other packages; one is there."""
    module = ModuleType("box_reader")
    module.READER = BoxReader()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "box_reader", module)
    points = [EntryPoint("box", "box_reader:READER", GROUP), EntryPoint("pop_export", "not.this:ONE", GROUP)]
    monkeypatch.setattr(readers, "entry_points", lambda group: EntryPoints(points).select(group=group))
    other_readers.cache_clear()
    yield points
    other_readers.cache_clear()


@pytest.fixture
def box(board: Path) -> Path:
    path = board.parent / "first.box"
    path.write_text("B1")
    return path


def test_the_built_in_reader_needs_no_entry_point(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "entry_points", None)
    assert reader_for(board) is READER
    assert reader_for(board / "export.json") is READER


def test_an_added_reader_is_asked_for_what_the_built_in_one_does_not_know(
    board: Path, box: Path, added: list[EntryPoint]
) -> None:
    assert reader_for(box).name == "box"
    assert reader_for(board) is READER
    assert open_export(box, board.parents[1]).serial == "PB2411-000123"


def test_boards_of_an_added_reader_are_found_and_checked(board: Path, box: Path, added: list[EntryPoint]) -> None:
    batch = board.parents[1]
    assert find_exports([batch]) == [(board, batch), (box, batch)]
    assert find_exports([box])[0][0] == box
    assert check_export(box, batch) == []
    (board / "xray/U1_lower.tif").write_bytes(b"II*\0")
    (board / "height/U1_post_reflow.tif").write_bytes(b"II*\0")
    assert [type(fault) for fault in check_export(box, batch)] == [FileFault, FileFault]
    box.write_text("B7")
    assert [type(fault) for fault in check_export(box, batch)] == [FileFault]


def test_an_added_reader_that_cannot_be_loaded_is_named(box: Path, added: list[EntryPoint]) -> None:
    added[0] = EntryPoint("box", "no_such_module:READER", GROUP)
    with pytest.raises(UsageFault, match=r"reader box: .*no_such_module"):
        open_export(box)
    added[0] = EntryPoint("box", "box_reader:WRITER", GROUP)
    with pytest.raises(UsageFault, match=r"reader box: .*WRITER"):
        open_export(box)


@pytest.mark.parametrize(("name", "found"), [("", "a folder without it"), ("a.txt", "a file"), ("nowhere", "nothing there")])
def test_what_no_reader_knows_is_refused(tmp_path: Path, added: list[EntryPoint], name: str, found: str) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(FileFault, match=found):
        open_export(tmp_path / name)
    assert [type(fault) for fault in check_export(tmp_path / name)] == [FileFault]


def test_default_root(board: Path) -> None:
    assert default_root(board) == default_root(board / "export.json") == board.parents[1]


def every_reader() -> list[Reader]:
    return [READER, BoxReader()]


@pytest.mark.parametrize("reader", every_reader(), ids=lambda r: r.name)
def test_no_reader_raises_at_foreign_content(reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(bytes(range(256)))
    for path in (tmp_path, tmp_path / "noise", tmp_path / "nowhere", Path("/dev/null"), Path("a\0b"), tmp_path / ("x" * 400)):
        assert reader.could_be(path) is False


@pytest.mark.parametrize("reader", every_reader(), ids=lambda r: r.name)
def test_every_reader_gives_images_that_can_be_read(reader: Reader, board: Path, box: Path) -> None:
    path = box if reader.could_be(box) else board
    export = reader.open(path, board.parents[1])
    assert export.path == path
    assert {image.name for image in export.images} == {"U1/lower", "U1/upper", "U1/pre_stack", "U1/post_reflow"}
    for image in export.images:
        read = image.read()
        assert isinstance(read, SliceStack if image.kind == "xray_slices" else HeightMap)
        assert (read.refdes, image.path.is_file()) == (image.refdes, True)


@pytest.mark.parametrize("reader", every_reader(), ids=lambda r: r.name)
def test_every_reader_stays_inside_its_root(reader: Reader, board: Path, box: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(InputFault):
        reader.open(box if reader.could_be(box) else board, tmp_path / "elsewhere")

"""The reader contract: the registry with a reader of another package, what all readers keep, and reading images in order."""

import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from inspect_pop.core.errors import FileFault, ImageFault, InputFault, UsageFault
from inspect_pop.core.geometry import Grid, HeightMap, SliceStack
from inspect_pop.ingest import BoardExport, Reader, check_export, find_exports, find_root, open_export
from inspect_pop.ingest import contract as readers
from inspect_pop.ingest.contract import GROUP, HeightMapSource, find_reader, load_added_readers, open_image_reader
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
    load_added_readers.cache_clear()
    yield points
    load_added_readers.cache_clear()


@pytest.fixture
def box(board: Path) -> Path:
    path = board.parent / "first.box"
    path.write_text("B1")
    return path


def test_the_built_in_reader_needs_no_entry_point(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "entry_points", None)
    assert find_reader(board) is READER
    assert find_reader(board / "export.json") is READER


def test_an_added_reader_is_asked_for_what_the_built_in_one_does_not_know(
    board: Path, box: Path, added: list[EntryPoint]
) -> None:
    assert find_reader(box).name == "box"
    assert find_reader(board) is READER
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
    assert find_root(board) == find_root(board / "export.json") == board.parents[1]


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


@dataclass
class Reading:
    """What was read, and by which threads."""

    events: list[threading.Event] = field(default_factory=lambda: [threading.Event() for _ in range(4)])
    threads: set[int] = field(default_factory=set)

    def source(self, k: int) -> HeightMapSource:
        def read() -> HeightMap:
            self.threads.add(threading.get_ident())
            self.events[k].set()
            if k == 2:
                raise ImageFault("the third", expected="a picture", found="none")
            return HeightMap(f"U{k}", "pre_stack", np.zeros((2, 2), np.float32), Grid((2, 2), 1.0, (0.0, 0.0)))

        return HeightMapSource(f"U{k}", "pre_stack", Path("x"), read)

    def read(self) -> list[bool]:
        return [event.is_set() for event in self.events]


def test_read_ahead_reads_the_next_image_and_no_more() -> None:
    reading = Reading()
    sources = [reading.source(k) for k in range(4)]
    with open_image_reader(sources, read_ahead=True) as images:
        assert reading.read() == [False] * 4
        assert images.read(sources[0]).refdes == "U0"
        assert reading.events[1].wait(10)
        assert images.read(sources[1]).refdes == "U1"  # though the third, which cannot be read, is on its way
        assert reading.events[2].wait(10)
        assert not reading.events[3].is_set()
        with pytest.raises(ImageFault, match="the third"):
            images.read(sources[2])
    assert reading.threads - {threading.get_ident()}


def test_without_read_ahead_each_image_is_read_when_needed() -> None:
    reading = Reading()
    sources = [reading.source(k) for k in range(4)]
    with open_image_reader(sources, read_ahead=False) as images:
        assert [images.read(source).refdes for source in sources[:2]] == ["U0", "U1"]
    assert reading.read() == [True, True, False, False]
    assert reading.threads == {threading.get_ident()}


def test_a_reader_that_is_closed_early_leaves_no_thread() -> None:
    reading, may_end = Reading(), threading.Event()
    slow = reading.source(1)
    sources = [reading.source(0), replace(slow, read=lambda: (may_end.wait(60), slow.read())[1]), reading.source(3)]
    with open_image_reader(sources, read_ahead=True) as images:
        images.read(sources[0])
        threading.Timer(0.2, may_end.set).start()
    assert reading.read() in ([True, True, False, False], [True, False, False, False])  # ended, or not begun


def _fail_to_start(*_: object) -> int:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("start", [_fail_to_start, lambda *_: 7], ids=["not started", "died at its start"])
def test_without_memory_for_a_thread_the_caller_reads(monkeypatch: pytest.MonkeyPatch, start: Callable[..., int]) -> None:
    """`Thread.start` would wait for ever for a thread that died before it could say that it runs."""
    monkeypatch.setattr("_thread.start_new_thread", start)
    reading = Reading()
    sources = [reading.source(k) for k in range(2)]
    with open_image_reader(sources, read_ahead=True) as images:
        assert [images.read(source).refdes for source in sources] == ["U0", "U1"]
    assert reading.threads == {threading.get_ident()}


def test_an_image_that_does_not_fit_in_memory_says_so_where_it_is_wanted() -> None:
    def read() -> HeightMap:
        raise MemoryError

    sources = [Reading().source(0), HeightMapSource("U1", "pre_stack", Path("x"), read)]
    with open_image_reader(sources, read_ahead=True) as images:
        images.read(sources[0])
        with pytest.raises(MemoryError):
            images.read(sources[1])


def test_images_of_an_export_by_kind(board: Path) -> None:
    export = open_export(board)
    assert [source.interface for source in export.slices] == ["lower", "upper"]
    assert [source.stage for source in export.height_maps] == ["pre_stack", "post_reflow"]
    assert (*export.slices, *export.height_maps) == export.images

"""The reader contract: could this be yours, what is inside, give it to me.

A reader is one module with a `READER` object; third parties add theirs through the entry point group
`inspect_pop.readers`. Whatever the format, what comes out is a `BoardExport`.

Which reader a board is for: the built-in one first, then those that other packages add.

A package adds one through the entry point group `inspect_pop.readers`; it is loaded when a board is met that the
built-in reader does not know.

The images of a board one after the other; the next one can be decoded while the one before it is worked on.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from itertools import islice
from pathlib import Path
from typing import Protocol

from inspect_pop.core.errors import FileFault, UsageFault
from inspect_pop.core.geometry import HeightMap, SliceStack
from inspect_pop.core.recipe import Recipe

__all__ = ["GROUP", "BoardExport", "ImageSource", "Reader", "default_root", "other_readers", "read_in_turn", "reader_for"]


# ---- ingest/contract
@dataclass(frozen=True)
class ImageSource:
    """One image of an export, not read yet.

    `kind` is `xray_slices` or `height_map`; `interface` (slices) or `stage` (maps) says of what. `read` opens,
    bounds, checks and decodes the file; it raises `FileFault`, `PathFault` or `ImageFault`.
    """

    kind: str
    refdes: str
    interface: str | None
    stage: str | None
    path: Path
    read: Callable[[], SliceStack | HeightMap]

    @property
    def name(self) -> str:
        """Short name in records and pages, such as `U1/lower` or `U1/post_reflow`."""
        return f"{self.refdes}/{self.interface or self.stage}"


@dataclass(frozen=True)
class BoardExport:
    """One board as a machine handed it over. Text is kept exactly; `inspected_at` is ISO 8601 with an offset.

    `digest` is the sha256 over the manifest and the digests of every file it names: the identity of the export.
    """

    path: Path
    serial: str
    panel: str | None
    position: int | None
    product: str
    lot: str | None
    work_order: str | None
    line: str
    station: str
    operator: str | None
    inspected_at: str
    recipe: Recipe
    images: tuple[ImageSource, ...]
    digest: str

    @property
    def machine(self) -> str:
        """Which machine took it: its line and station."""
        return f"{self.line}/{self.station}"


class Reader(Protocol):
    """What a format's module offers."""

    name: str

    def could_be(self, path: Path) -> bool:
        """Whether this folder or file may be of this format; cheap, and never raises for foreign content."""
        ...

    def open(self, path: Path, root: Path) -> BoardExport:
        """Read and check everything but the pixels; files must lie inside `root`. Raises `InputFault`."""
        ...


# ---- ingest/readers
GROUP = "inspect_pop.readers"
_BUILT_IN = "pop_export"


def reader_for(path: Path) -> Reader:
    """The reader that knows this board. Raises `FileFault` where none does, `UsageFault` where an added one cannot be loaded."""
    from inspect_pop.ingest.pop_export import MANIFEST, READER

    if READER.could_be(path) or path.name == MANIFEST:
        return READER
    for reader in other_readers():
        if reader.could_be(path):
            return reader
    found = "nothing there" if not path.exists() else "a folder without it" if path.is_dir() else "a file"
    raise FileFault(str(path), expected=f"a board: a folder with {MANIFEST}", found=found)


@lru_cache(maxsize=1)
def other_readers() -> tuple[Reader, ...]:
    """Readers of other packages, by name. Raises `UsageFault` for one that cannot be loaded."""
    readers: list[Reader] = []
    for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        if entry.name == _BUILT_IN:
            continue
        try:
            readers.append(entry.load())
        except (ImportError, AttributeError) as error:
            remedy = f"Repair or remove the package {entry.dist.name if entry.dist else entry.value}."
            raise UsageFault(
                f"reader {entry.name}", expected="a reader that can be loaded", found=str(error), remedy=remedy
            ) from error
    return tuple(readers)


def default_root(path: Path) -> Path:
    """The folder that everything of a board given by itself must lie in: two levels above the board's folder."""
    board = path.resolve()
    folder = board if board.is_dir() else board.parent
    return folder.parent.parent


# ---- ingest/ahead
def read_in_turn(sources: Sequence[ImageSource], *, ahead: bool) -> Iterator[SliceStack | HeightMap]:
    """Each image when it is asked for, or, `ahead`, by then: a thread reads the next one, which takes as much more memory.

    What is wrong with an image is raised when its turn comes.
    """
    if not ahead:
        yield from (source.read() for source in sources)
        return
    left, coming = iter(sources), deque[Future[SliceStack | HeightMap]]()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as thread:
        coming.extend(thread.submit(source.read) for source in islice(left, 1))
        while coming:
            image = coming.popleft().result()
            coming.extend(thread.submit(source.read) for source in islice(left, 1))
            yield image
            del image  # not kept while the caller waits for the next one

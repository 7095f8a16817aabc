"""The contract between a machine's format and the product, and how boards of all formats are found.

A reader is one module with a `READER` object. Whatever the format, it returns a `BoardExport`, whose images are read
when they are needed. Another package adds a reader through the entry point group `inspect_pop.readers`; it is loaded
when a board turns up that the built-in reader does not recognise.
"""

import _thread
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from inspect_pop.core.errors import FileFault, InputFault, UsageFault
from inspect_pop.core.geometry import HeightMap, SliceStack
from inspect_pop.core.recipe import Recipe

__all__ = [
    "GROUP",
    "MANIFEST",
    "BoardExport",
    "BoardPlace",
    "HeightMapSource",
    "ImageReader",
    "ImageSource",
    "Reader",
    "SliceSource",
    "Source",
    "ThoroughReader",
    "find_exports",
    "find_faults",
    "find_labels",
    "find_passed_over",
    "find_reader",
    "find_root",
    "load_added_readers",
    "open_image_reader",
]

GROUP = "inspect_pop.readers"
MANIFEST = "export.json"  # a folder that holds it is a board of the built-in format
_BUILT_IN = "pop_export"

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class SliceSource:
    """X-ray slices of one interface, not read yet.

    `read` opens, bounds, checks and decodes the file. It raises `FileFault`, `PathFault` or `ImageFault`.
    """

    kind: ClassVar[str] = "xray_slices"
    refdes: str
    interface: str
    path: Path
    read: Callable[[], SliceStack]

    @property
    def name(self) -> str:
        """Short name in records and pages, such as `U1/lower`."""
        return f"{self.refdes}/{self.interface}"


@dataclass(frozen=True)
class HeightMapSource:
    """The height map of one package at one stage (`pre_stack` or `post_reflow`), not read yet.

    `read` opens, bounds, checks and decodes the file. It raises `FileFault`, `PathFault` or `ImageFault`.
    """

    kind: ClassVar[str] = "height_map"
    refdes: str
    stage: str
    path: Path
    read: Callable[[], HeightMap]

    @property
    def name(self) -> str:
        """Short name in records and pages, such as `U1/post_reflow`."""
        return f"{self.refdes}/{self.stage}"


ImageSource = SliceSource | HeightMapSource


@dataclass(frozen=True)
class BoardExport:
    """One board as a machine handed it over.

    Text is kept exactly. `inspected_at` is ISO 8601 with an offset. `images` keeps the export's order. `digest` is the
    sha256 over the manifest and the digests of every file that it names: the identity of the export. `assumed` lists what a
    converter found or guessed, since the machine did not say it, such as `U1/lower polarity: solder_dark, from the balls`.
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
    assumed: tuple[str, ...] = ()

    @property
    def machine(self) -> str:
        """The machine that took the images: its line and station, such as `LINE-A/AXI-1`."""
        return f"{self.line}/{self.station}"

    @property
    def slices(self) -> tuple[SliceSource, ...]:
        """The images that are X-ray slices, in the export's order."""
        return tuple(image for image in self.images if isinstance(image, SliceSource))

    @property
    def height_maps(self) -> tuple[HeightMapSource, ...]:
        """The images that are height maps, in the export's order."""
        return tuple(image for image in self.images if isinstance(image, HeightMapSource))


class Reader(Protocol):
    """What the module of a format offers."""

    name: str

    def could_be(self, path: Path) -> bool:
        """Return whether this folder or file may be of this format. Cheap; never raises for foreign content."""
        ...

    def open(self, path: Path, root: Path) -> BoardExport:
        """Read and check everything but the pixels. All files must lie inside `root`. Raises `InputFault`."""
        ...


@runtime_checkable
class ThoroughReader(Protocol):
    """A reader that continues after a first fault. Of any other, `find_faults` opens the board and reads its images."""

    def faults(self, path: Path, root: Path) -> list[InputFault]:
        """Return every fault of a board, with every image read."""
        ...


def find_reader(path: Path) -> Reader:
    """Return the reader for this board: the built-in one where it recognises the board, else the first added one that does.

    Raises `FileFault` where none does, `UsageFault` where an added reader cannot be loaded.
    """
    from inspect_pop.ingest.pop_export import READER

    if READER.could_be(path) or path.name == MANIFEST:
        return READER
    for reader in load_added_readers():
        if reader.could_be(path):
            return reader
    found = "nothing there" if not path.exists() else "a folder without it" if path.is_dir() else "a file"
    remedy = ""
    if others := [file.name for file in path.glob("*") if file.name.lower() == MANIFEST]:
        found, remedy = f"{', '.join(sorted(others))}", f"Rename it to {MANIFEST}: upper and lower case differ here."
    raise FileFault(str(path), expected=f"a board: a folder with {MANIFEST}", found=found, remedy=remedy)


@lru_cache(maxsize=1)
def load_added_readers() -> tuple[Reader, ...]:
    """Load the readers of other packages, sorted by name. Raises `UsageFault` for one that cannot be loaded."""
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


def find_root(path: Path) -> Path:
    """Return the folder that all files of a single board must lie in: two levels above the board's folder."""
    board = path.resolve()
    folder = board if board.is_dir() else board.parent
    return folder.parent.parent


def find_faults(path: Path, root: Path) -> list[InputFault]:
    """Return every fault of a board at once; empty for one that can be inspected.

    The manifest, recipe and tables are checked, and each image is opened, compared with its checksum and decoded.
    """
    try:
        reader = find_reader(path)
        if isinstance(reader, ThoroughReader):
            return reader.faults(path, root)
        images = reader.open(path, root).images
    except InputFault as fault:
        return [fault]
    faults: list[InputFault] = []
    for image in images:
        try:
            image.read()
        except InputFault as fault:
            faults.append(fault)
    return faults


class _Source(Protocol[T_co]):
    """A `SliceSource` or a `HeightMapSource`: what `read` returns depends on which."""

    @property
    def read(self) -> Callable[[], T_co]: ...


class _Reading:
    """One image to be read, by whoever comes first: the caller or a thread that reads ahead."""

    def __init__(self, read: Callable[[], Any]) -> None:
        self._read = read
        self._image: Any = None
        self._error: BaseException | None = None
        self._claim, self._done = _thread.allocate_lock(), _thread.allocate_lock()
        self._done.acquire()

    def run(self) -> None:
        """Read the image unless somebody else does."""
        if not self._claim.acquire(blocking=False):
            return
        try:
            self._image = self._read()
        except BaseException as error:  # noqa: BLE001 (raised again where the image is wanted)
            self._error = error
        finally:
            self._done.release()

    def finish(self) -> Any:
        """Return the image; raise what its `read` raised."""
        self.run()
        with self._done:
            if self._error is not None:
                raise self._error
            return self._image

    def cancel(self) -> None:
        """Start it no more; wait for its end if it was started."""
        if not self._claim.acquire(blocking=False):
            with self._done:
                pass


class ImageReader:
    """Read images one after the other, in the order given when it was opened (`open_image_reader`)."""

    def __init__(self, sources: Sequence[ImageSource], *, read_ahead: bool) -> None:
        self._left, self._read_ahead = deque(_Reading(source.read) for source in sources), read_ahead

    def read(self, source: _Source[T]) -> T:  # noqa: ARG002 (its type is the image's)
        """Return the image of `source`, which must be the next one in order. Raises what its `read` raises."""
        image: T = self._left.popleft().finish()
        if self._read_ahead and self._left:
            # Not by `threading.Thread`, whose `start` waits for ever for a thread that got no memory.
            with suppress(RuntimeError):
                _thread.start_new_thread(self._left[0].run, ())
        return image

    def close(self) -> None:
        """Wait for the image that is being read ahead."""
        for reading in self._left:
            reading.cancel()


@contextmanager
def open_image_reader(sources: Sequence[ImageSource], *, read_ahead: bool) -> Iterator[ImageReader]:
    """Open a reader of these images, to be read in this order.

    With `read_ahead`, a thread decodes the next image while the caller works on the last one, at the cost of the memory
    of one more image. A fault of an image is raised when its turn comes. Where no thread can be started, the caller reads.
    """
    reader = ImageReader(sources, read_ahead=read_ahead)
    try:
        yield reader
    finally:
        reader.close()


# Find boards and label files in folders: all of them, each once, in a fixed order, without following links.
#
# What looks like a board and is none is returned as one, so that opening it says why: a folder that cannot be listed, a link
# that leads elsewhere, a manifest under a name of other case. Hidden folders and those that systems keep, such as recycle bins
# and snapshots, hold what was deleted or is being written: they are passed over, and `find_passed_over` names those with boards.


LABELS = "labels.csv"
# Names in lower case: hidden, and the bins, snapshots and indices of Windows, macOS, Linux, Samba, Synology, QNAP, NetApp,
# Buffalo and Nextcloud.
_SYSTEM_FOLDERS = (
    ".*",
    "#recycle*",
    "#snapshot*",
    "$recycle*",
    "$extend",
    "@eadir",
    "@recently*",
    "@recycle*",
    "@sharebin",
    "@snapshot*",
    "@tmp",
    "__macosx",
    "files_trashbin*",
    "files_versions*",
    "found.[0-9][0-9][0-9]",
    "lost+found",
    "network trash folder",
    "recycle bin*",
    "recycled",
    "recycler",
    "system volume information",
    "temporary items",
    "trashbox",
    "~snapshot*",
)
# How far a linked or passed-over folder is searched for boards: a link may lead to a whole disk.
_DEPTH, _MOST_FOLDERS = 4, 2000


@dataclass(frozen=True)
class BoardPlace:
    """Where one board lies, as a record says it: its folder, and the folder that its files must lie in.

    Of a board that is given so, the `labels.csv` of its batch does not count.
    """

    path: Path
    root: Path

    def __str__(self) -> str:
        return str(self.path)


Source = Path | BoardPlace  # where boards are found: a board, a folder of boards, or a board with its root


def find_exports(paths: Iterable[Source | str]) -> list[tuple[Path, Path]]:
    """Find every board in or under the given paths: (board, root) pairs, sorted by board.

    A folder is a board if it holds `export.json`, readable or not; folders below a board are not searched. The root is the
    folder that was given, or two levels above a board that was given itself. A label file that is given is no board. A folder
    that cannot be listed, one whose manifest has a name of other case, and one that a link names and that lies outside all given
    folders are returned as boards too, so that opening them says why, and nothing is passed over in silence.

    Raises:
        UsageFault: A path does not exist, or there is no board at all.
    """
    found: dict[Path, Path] = {}
    paths = list(paths)
    for place in paths:
        if isinstance(place, BoardPlace):
            found[place.path.resolve()] = place.root.resolve()
    given = [_resolve(path) for path in paths if not isinstance(path, BoardPlace)]
    for path in given:
        if path.name == LABELS and path.is_file():
            continue
        if _is_board(path) or path.is_file():
            found.setdefault(path.parent if path.name == MANIFEST else path, find_root(path))
            continue
        for board in _walk_boards(path, given):
            found.setdefault(board, path)
    if not found:
        names = ", ".join(map(str, given)) or "no path given"
        passed_over = [str(folder) for folder in find_passed_over(given)]
        remedy = f"Boards lie in {', '.join(passed_over)}: give that folder itself." if passed_over else ""
        raise UsageFault(
            names,
            expected=f"boards: folders with {MANIFEST}",
            found="none",
            remedy=remedy or "Give the folder that holds them. `inspect-pop convert` makes them of a machine's own files.",
        )
    return sorted(found.items())


def find_passed_over(paths: Iterable[Source | str]) -> list[Path]:
    """Find the hidden and system folders under the given paths that hold boards, sorted; `find_exports` passes them over."""
    found: set[Path] = set()
    for path in (_resolve(path) for path in paths if not isinstance(path, BoardPlace)):
        if path.is_dir() and not _is_board(path):
            for name, folders, _ in os.walk(path):
                folder = Path(name)
                passed_over = [child for child in folders if _is_system_folder(child)]
                found.update(folder / child for child in passed_over if next(_search_boards(folder / child), None))
                folders[:] = [] if _is_board(folder) else [child for child in folders if child not in passed_over]
    return sorted(found)


def find_labels(paths: Iterable[Source | str]) -> list[Path]:
    """Find every `labels.csv` in or under the given paths, sorted; for a board, that of its batch. Raises `UsageFault`."""
    found: set[Path] = set()
    for path in (_resolve(path) for path in paths if not isinstance(path, BoardPlace)):
        if path.is_file() and path.name != MANIFEST:
            found.add(path)
        elif _is_board(path) or path.is_file():
            batch = find_root(path) / LABELS
            found.update([batch] if batch.is_file() else [])
        else:
            for folder, folders, files in os.walk(path):
                folders[:] = [name for name in folders if not _is_system_folder(name)]
                found.update(Path(folder) / name for name in files if name.lower() == LABELS)
    return sorted(found)


def _walk_boards(top: Path, given: list[Path]) -> Iterator[Path]:
    """Yield the boards below a folder, those that links name outside the `given` folders, and folders that cannot be listed."""
    unlisted: list[Path] = []
    for name, folders, files in os.walk(top, onerror=lambda error: unlisted.append(Path(error.filename))):
        folder = Path(name)
        if MANIFEST in folders or any(file.lower() == MANIFEST for file in files) or _is_foreign(folder):
            yield folder
            folders.clear()
            continue
        yield from (folder / file for file in sorted(files) if _is_foreign(folder / file))
        folders[:] = [child for child in folders if not _is_system_folder(child)]
        for child in filter(os.path.islink, (folder / child for child in folders)):
            if not any(_leads_into(child, inside) for inside in given):
                yield from _search_boards(child)
    yield from unlisted


def _search_boards(top: Path) -> Iterator[Path]:
    """Yield the boards in or below a folder that is not walked as a whole: near its top, and links in it not followed."""
    depth = len(top.parts)
    for count, (name, folders, files) in enumerate(os.walk(top)):
        if count == _MOST_FOLDERS:
            return
        if MANIFEST in files or MANIFEST in folders:
            yield Path(name)
            folders.clear()
        if len(Path(name).parts) - depth >= _DEPTH:
            folders.clear()


def _leads_into(link: Path, folder: Path) -> bool:
    """Return whether a link's target lies in a folder; also where it leads in a circle, and so to nothing."""
    try:
        return link.resolve(strict=True).is_relative_to(folder)
    except (OSError, RuntimeError):
        return True


def _is_system_folder(name: str) -> bool:
    return any(fnmatchcase(name.lower(), pattern) for pattern in _SYSTEM_FOLDERS)


def _is_foreign(path: Path) -> bool:
    """Return whether a reader of another package recognises this path."""
    return any(reader.could_be(path) for reader in load_added_readers())


def _is_board(path: Path) -> bool:
    return os.path.lexists(path / MANIFEST)


def _resolve(path: Path | str) -> Path:
    """Return the path without links and dots, so that a board is found once, however it was named."""
    try:
        return Path(path).resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageFault(str(path), expected="a file or folder", found="nothing there", remedy="Check its spelling.") from error

"""Which reader a board is for: the built-in one first, then those that other packages add.

A package adds one through the entry point group `inspect_pop.readers`; it is loaded when a board is met that the
built-in reader does not know.
"""

from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path

from inspect_pop.errors import FileFault, UsageFault
from inspect_pop.ingest.contract import Reader

__all__ = ["GROUP", "default_root", "other_readers", "reader_for"]

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

"""Boards and labels in folders: all of them, each once, in a fixed order, without following links."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from inspect_pop.core.errors import UsageFault
from inspect_pop.ingest.contract import default_root, other_readers

__all__ = ["board_labels", "find_exports"]

MANIFEST = "export.json"
LABELS = "labels.csv"


def find_exports(paths: Iterable[Path | str]) -> list[tuple[Path, Path]]:
    """(board, root) of every board in or under the given paths, sorted by board.

    A folder is a board because it holds `export.json`, readable or not; nothing below a board is looked at. The root is
    the folder that was given, or the one two levels above a board that was given itself. A folder that cannot be listed
    is given as a board too: opening it says why, and what it may hold is not lost in silence.
    Raises `UsageFault` for a path that is not there and where there is no board at all.
    """
    found: dict[Path, Path] = {}
    given = [_present(path) for path in paths]
    for path in given:
        if _is_board(path) or path.is_file():
            found.setdefault(path.parent if path.name == MANIFEST else path, default_root(path))
            continue
        for board in _boards(path):
            found.setdefault(board, path)
    if not found:
        names = ", ".join(map(str, given)) or "no path given"
        raise UsageFault(
            names, expected=f"boards: folders with {MANIFEST}", found="none", remedy="Give the folder that holds them."
        )
    return sorted(found.items())


def board_labels(paths: Iterable[Path | str]) -> list[Path]:
    """Every `labels.csv` in or under the given paths, sorted; for a board, the one of its batch. Raises `UsageFault`."""
    found: set[Path] = set()
    for path in map(_present, paths):
        if path.is_file() and path.name != MANIFEST:
            found.add(path)
        elif _is_board(path) or path.is_file():
            batch = default_root(path) / LABELS
            found.update([batch] if batch.is_file() else [])
        else:
            found.update(Path(folder) / LABELS for folder, _, files in _walk(path) if LABELS in files)
    return sorted(found)


def _boards(top: Path) -> Iterator[Path]:
    unlisted: list[Path] = []
    for folder, folders, files in _walk(top, lambda error: unlisted.append(Path(error.filename))):
        here = Path(folder)
        if MANIFEST in files or MANIFEST in folders or _is_foreign(here):
            yield here
            folders.clear()
        else:
            yield from (here / name for name in sorted(files) if _is_foreign(here / name))
    yield from unlisted


def _is_foreign(path: Path) -> bool:
    """Whether a reader that another package added knows it."""
    return any(reader.could_be(path) for reader in other_readers())


def _walk(top: Path, unlisted: Callable[[OSError], None] | None = None) -> Iterator[tuple[str, list[str], list[str]]]:
    return os.walk(top, onerror=unlisted, followlinks=False)


def _is_board(path: Path) -> bool:
    return os.path.lexists(path / MANIFEST)


def _present(path: Path | str) -> Path:
    """The path without links and dots, so that a board is found once however it was named."""
    try:
        return Path(path).resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageFault(str(path), expected="a file or folder", found="nothing there", remedy="Check its spelling.") from error

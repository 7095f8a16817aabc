"""Find boards and label files in folders: all of them, each once, in a fixed order, without following links."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from inspect_pop.core.errors import UsageFault
from inspect_pop.ingest.contract import MANIFEST, find_root, load_added_readers

__all__ = ["find_exports", "find_labels"]

LABELS = "labels.csv"


def find_exports(paths: Iterable[Path | str]) -> list[tuple[Path, Path]]:
    """Find every board in or under the given paths: (board, root) pairs, sorted by board.

    A folder is a board if it holds `export.json`, readable or not; folders below a board are not searched. The root is the
    folder that was given, or two levels above a board that was given itself. A folder that cannot be listed is returned as
    a board too, so that opening it says why, and nothing in it is passed over in silence.

    Raises:
        UsageFault: A path does not exist, or there is no board at all.
    """
    found: dict[Path, Path] = {}
    given = [_resolve(path) for path in paths]
    for path in given:
        if _is_board(path) or path.is_file():
            found.setdefault(path.parent if path.name == MANIFEST else path, find_root(path))
            continue
        for board in _walk_boards(path):
            found.setdefault(board, path)
    if not found:
        names = ", ".join(map(str, given)) or "no path given"
        raise UsageFault(
            names, expected=f"boards: folders with {MANIFEST}", found="none", remedy="Give the folder that holds them."
        )
    return sorted(found.items())


def find_labels(paths: Iterable[Path | str]) -> list[Path]:
    """Find every `labels.csv` in or under the given paths, sorted; for a board, that of its batch. Raises `UsageFault`."""
    found: set[Path] = set()
    for path in map(_resolve, paths):
        if path.is_file() and path.name != MANIFEST:
            found.add(path)
        elif _is_board(path) or path.is_file():
            batch = find_root(path) / LABELS
            found.update([batch] if batch.is_file() else [])
        else:
            found.update(Path(folder) / LABELS for folder, _, files in os.walk(path) if LABELS in files)
    return sorted(found)


def _walk_boards(top: Path) -> Iterator[Path]:
    """Yield the boards below a folder, then the folders that cannot be listed."""
    unlisted: list[Path] = []
    for name, folders, files in os.walk(top, onerror=lambda error: unlisted.append(Path(error.filename))):
        folder = Path(name)
        if MANIFEST in files or MANIFEST in folders or _is_foreign(folder):
            yield folder
            folders.clear()
        else:
            yield from (folder / file for file in sorted(files) if _is_foreign(folder / file))
    yield from unlisted


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

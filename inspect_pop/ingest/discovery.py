"""Find boards and label files in folders: all of them, each once, in a fixed order, without following links.

What looks like a board and is none is returned as one, so that opening it says why: a folder that cannot be listed, a link
that leads elsewhere, a manifest under a name of other case. Hidden folders and those that systems keep, such as recycle bins and
snapshots, hold what was deleted or is being written: they are passed over, and `find_passed_over` names those with boards.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from inspect_pop.core.errors import UsageFault
from inspect_pop.ingest.contract import MANIFEST, find_root, load_added_readers

__all__ = ["BoardPlace", "Source", "find_exports", "find_labels", "find_passed_over"]

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

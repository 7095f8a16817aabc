"""Which boards a batch holds: in a fixed order, each once, with the root that its files must stay inside."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from inspect_pop.batch.values import Job
from inspect_pop.errors import UsageFault

__all__ = ["find_jobs"]


def find_jobs(exports: Sequence[Path], is_board: Callable[[Path], bool], root: Path | None = None) -> list[Job]:
    """All boards in and under the given folders, in sorted order within each, none twice.

    Links to folders are not followed. A board that was given itself has the folder two levels above it as its root;
    `root` names another for all of them. Raises `UsageFault` for a path that is not there, or where no board is.
    """
    found: dict[Path, Path] = {}
    for given in exports:
        if not given.exists():
            raise UsageFault(str(given), expected="a folder of inspection exports", found="nothing there")
        for board, default_root in _boards(given.resolve(), is_board):
            found.setdefault(board, (root.resolve() if root else default_root))
    if not found:
        names = ", ".join(str(p) for p in exports)
        raise UsageFault(
            names, expected="boards, each a folder with export.json", found="none", remedy="Give the folder that holds them."
        )
    return [Job(order, board, inside) for order, (board, inside) in enumerate(found.items())]


def _boards(given: Path, is_board: Callable[[Path], bool]) -> Iterator[tuple[Path, Path]]:
    if is_board(given):
        yield given, given.parents[min(1, len(given.parents) - 1)]
        return
    for folder, below, _ in os.walk(given):
        path = Path(folder)
        if path != given and is_board(path):
            yield path, given
            below.clear()
        else:
            below[:] = _visible(below)


def _visible(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if not name.startswith("."))

"""Pages as files: named safely, written whole or not at all.

Yield pages as files. Apart from `write`, because charts need matplotlib, which a run does not wait for.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from inspect_pop.core.errors import StoreFault
from inspect_pop.core.inspection import BoardRecord, Inspection
from inspect_pop.core.recipe import Recipe
from inspect_pop.report.board_page import board_page
from inspect_pop.report.run_page import run_page
from inspect_pop.report.yield_data import yield_view
from inspect_pop.report.yield_page import yields_page
from inspect_pop.store import Store
from inspect_pop.yields.selection import Key

__all__ = [
    "board_file_name",
    "linked_pages",
    "write_board_report",
    "write_lot_report",
    "write_page",
    "write_run_report",
    "write_yield_report",
]

# ---- report/write
_BOARDS = "boards"
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


def board_file_name(serial: str, record: str) -> str:
    """A file name for any serial, never the serial as a path: its plain letters for the eye, a digest for the difference.

    Serials that differ only in what a file system cannot keep apart (slashes, case, alphabet) still get different names.
    """
    digest = hashlib.sha256(f"{serial}\0{record}".encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{_UNSAFE.sub('_', serial)[:48].strip('_-') or 'board'}-{digest}.html"


def write_board_report(out_dir: Path, inspection: Inspection, recipe: Recipe) -> Path:
    """Write the board's page to `out_dir/boards/`; its path. Raises `StoreFault` where it cannot be written."""
    board = inspection.board
    path = out_dir / _BOARDS / board_file_name(board.serial, board.record)
    write_page(path, board_page(inspection, recipe))
    return path


def write_run_report(
    out_dir: Path, boards: Sequence[BoardRecord], quarantine: Sequence[tuple[str, str]] = (), title: str = "Inspection run"
) -> Path:
    """Write `out_dir/index.html` with links to the boards' pages that lie there; its path. Raises `StoreFault`."""
    path = out_dir / "index.html"
    pages = linked_pages([(b.serial, b.record) for b in boards], out_dir, out_dir)
    write_page(path, run_page(boards, quarantine, pages, title))
    return path


def linked_pages(boards: Iterable[tuple[str, str]], run: Path, page_dir: Path) -> dict[str, str]:
    """By record, how a page in `page_dir` links to the pages that the run in folder `run` wrote of boards (serial, record)."""
    there = {entry.name for entry in os.scandir(run / _BOARDS)} if (run / _BOARDS).is_dir() else set()
    way = quote(Path(os.path.relpath(run / _BOARDS, page_dir)).as_posix())
    names = ((record, board_file_name(serial, record)) for serial, record in boards)
    return {record: f"{way}/{name}" for record, name in names if name in there}


def write_page(path: Path, text: str) -> None:
    """Write a page so that a reader sees the old one or the whole new one. Raises `StoreFault`."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # where the folder itself is at fault there is nothing to clear away
            part.unlink(missing_ok=True)
        raise StoreFault(
            str(path), expected="a page written there", found=str(error), remedy="Free or unlock the folder."
        ) from error


# ---- report/write_yields
def write_yield_report(
    path: Path,
    store: Store,
    *,
    title: str = "Yield",
    since: str | None = None,
    until: str | None = None,
    only: Mapping[str, Key] | None = None,
    runs: Sequence[Path] = (),
) -> Path:
    """Write the yield page of a selection to `path`; its serials link to the boards' pages in the folders of `runs`.

    Raises `UsageFault` for a bound that is no time, `StoreFault`.
    """
    view = yield_view(store, title, since=since, until=until, only=only)
    boards = [(b.serial, b.record) for b in view.failed]
    pages = {record: page for run in runs for record, page in linked_pages(boards, run, path.parent).items()}
    write_page(path, yields_page(view, pages))
    return path


def write_lot_report(
    path: Path, store: Store, lot: str | None, *, since: str | None = None, until: str | None = None, runs: Sequence[Path] = ()
) -> Path:
    """Write one lot's page to `path`, as `write_yield_report` does; None is the boards without a lot."""
    title = "Boards without a lot" if lot is None else f"Lot {lot}"
    return write_yield_report(path, store, title=title, since=since, until=until, only={"lot": lot}, runs=runs)

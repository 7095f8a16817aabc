"""Write pages as files, and make the page of a run: every board with its verdict, the quarantine, and the totals.

File names are safe for any serial, and a page appears whole or not at all.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote

from inspect_pop.core.atomic import write_bytes
from inspect_pop.core.classes import DEFECTS, VERDICTS
from inspect_pop.core.errors import StoreFault, UsageFault, describe_error
from inspect_pop.core.inspection import BoardRecord, Inspection
from inspect_pop.core.recipe import Recipe
from inspect_pop.core.statistics import clopper_pearson
from inspect_pop.report.board_page import JointCounts, render_board_page
from inspect_pop.report.page import render

if TYPE_CHECKING:
    from inspect_pop.store import Store
    from inspect_pop.yields.selection import GroupKey

__all__ = [
    "CountedBoard",
    "RunTotals",
    "Share",
    "count_totals",
    "find_board_pages",
    "find_report_dir",
    "name_board_file",
    "render_run_page",
    "write_board_report",
    "write_lot_report",
    "write_page",
    "write_run_report",
    "write_yield_report",
]

CountedBoard: TypeAlias = tuple[BoardRecord, JointCounts]
_BOARDS = "boards"
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


def name_board_file(serial: str, record: str) -> str:
    """Return a file name for any serial: its plain letters for people, and a digest that makes the name unique.

    The serial itself is never used as a path. Serials that differ only in what a file system cannot tell apart (slashes, case,
    alphabet) still get different names.
    """
    digest = hashlib.sha256(f"{serial}\0{record}".encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{_UNSAFE.sub('_', serial)[:48].strip('_-') or 'board'}-{digest}.html"


def write_board_report(out_dir: Path, inspection: Inspection, recipe: Recipe) -> Path:
    """Write the board's page to `out_dir/boards/` and return its path. Raises `StoreFault` where it cannot be written."""
    board = inspection.board
    path = out_dir / _BOARDS / name_board_file(board.serial, board.record)
    write_page(path, render_board_page(inspection, recipe))
    return path


def write_run_report(
    out_dir: Path,
    boards: Sequence[CountedBoard],
    quarantine: Sequence[tuple[str, str]] = (),
    title: str = "Inspection run",
) -> Path:
    """Write `out_dir/index.html`, which links to the boards' pages that exist there, and return its path.

    Args:
        out_dir: The run's folder.
        boards: The boards and their joints by verdict (`count_joints`), in the order of the list.
        quarantine: (path, reason) of every board that could not be inspected.
        title: The page's title.

    Raises:
        StoreFault: The page cannot be written.
    """
    path = out_dir / "index.html"
    pages = find_board_pages([(b.serial, b.record) for b, _ in boards], out_dir, out_dir)
    write_page(path, render_run_page(boards, quarantine, pages, title))
    return path


def write_yield_report(
    path: Path,
    store: "Store",
    *,
    title: str = "Yield",
    since: str | None = None,
    until: str | None = None,
    only: "Mapping[str, GroupKey] | None" = None,
    runs: Sequence[Path] = (),
) -> Path:
    """Write the yield page of a selection to `path`; its serials link to the boards' pages in the folders of `runs`.

    Args:
        path: The page.
        store: The store.
        title: The page's title.
        since, until, only: Which boards; see `make_selection`.
        runs: Folders of runs, as `inspect-pop run --out` has them, or their folders `report`.

    Raises:
        UsageFault: A bound is no time, or a folder holds no run.
        StoreFault: The store cannot be read, or the page cannot be written.
    """
    from inspect_pop.report.yield_page import read_yield_view, render_yield_page  # matplotlib: half a second to import

    reports = [find_report_dir(run) for run in runs]
    view = read_yield_view(store, title, since=since, until=until, only=only)
    boards = [(b.serial, b.record) for b in view.failed]
    pages = {record: page for run in reports for record, page in find_board_pages(boards, run, path.parent).items()}
    write_page(path, render_yield_page(view, pages))
    return path


def write_lot_report(
    path: Path, store: "Store", lot: str | None, *, since: str | None = None, until: str | None = None, runs: Sequence[Path] = ()
) -> Path:
    """Write one lot's page to `path`, as `write_yield_report` does; None selects the boards without a lot."""
    title = "Boards without a lot" if lot is None else f"Lot {lot}"
    return write_yield_report(path, store, title=title, since=since, until=until, only={"lot": lot}, runs=runs)


def find_report_dir(run: Path) -> Path:
    """Return the folder of a run's pages: `report` in the run's folder, or the folder itself.

    Raises `UsageFault` for a folder that holds no run.
    """
    for folder in (run / "report", run):
        if (folder / _BOARDS).is_dir() or (folder / "index.html").is_file():
            return folder
    found = "neither report/index.html nor boards/" if run.is_dir() else "no such folder"
    remedy = "Give the folder that `inspect-pop run` has as --out."
    raise UsageFault(f"--run {run}", expected="the folder of a run with pages", found=found, remedy=remedy)


def find_board_pages(boards: Iterable[tuple[str, str]], run: Path, page_dir: Path) -> dict[str, str]:
    """Return how a page in `page_dir` links to the boards' pages in the folder of a run.

    Args:
        boards: (serial, record) of boards.
        run: The run's folder.
        page_dir: The folder of the page that links.

    Returns:
        Relative addresses by record, of the pages that exist.
    """
    files = {entry.name for entry in os.scandir(run / _BOARDS)} if (run / _BOARDS).is_dir() else set()
    folder = quote(Path(os.path.relpath(run / _BOARDS, page_dir)).as_posix())
    names = ((record, name_board_file(serial, record)) for serial, record in boards)
    return {record: f"{folder}/{name}" for record, name in names if name in files}


def write_page(path: Path, text: str) -> None:
    """Write a page atomically: a reader sees the old one or the whole new one. Raises `StoreFault`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise StoreFault(
            str(path), expected="a page written there", found=describe_error(error), remedy="Free or unlock the folder."
        ) from error


@dataclass(frozen=True)
class Share:
    """`count` of `total`, with the 95 % interval of the share; (0, 1) where nothing was counted."""

    count: int
    total: int
    low: float
    high: float

    @classmethod
    def of(cls, count: int, total: int) -> "Share":
        """Return the share with its exact interval (Clopper and Pearson)."""
        return cls(count, total, *clopper_pearson(count, total))

    @property
    def value(self) -> float:
        """The share itself; NaN where nothing was counted."""
        return self.count / self.total if self.total else float("nan")


@dataclass(frozen=True)
class RunTotals:
    """Sums over the boards of a run; shares with their 95 % interval. `failed` are the joints that fail, by class."""

    boards: int
    verdicts: dict[str, Share]
    joints: int
    failed: dict[str, Share]
    review: Share
    quarantined: int


def count_totals(boards: Sequence[CountedBoard], quarantined: int = 0) -> RunTotals:
    """Count over all boards; every record counts, a re-inspection too, and each joint once."""
    joints = sum(counts.joints for _, counts in boards)
    return RunTotals(
        boards=len(boards),
        verdicts={v: Share.of(sum(b.verdict == v for b, _ in boards), len(boards)) for v in VERDICTS},
        joints=joints,
        failed={c: Share.of(sum(counts.failed.get(c, 0) for _, counts in boards), joints) for c in DEFECTS},
        review=Share.of(sum(counts.review for _, counts in boards), joints),
        quarantined=quarantined,
    )


def render_run_page(
    boards: Sequence[CountedBoard],
    quarantine: Sequence[tuple[str, str]],
    pages: Mapping[str, str],
    title: str = "Inspection run",
) -> str:
    """Render one self-contained HTML page.

    Args:
        boards: The boards and their joints by verdict, in the order of the list.
        quarantine: (path, reason) of every board that could not be inspected.
        pages: The address of a board's own page, relative to this one, by `BoardRecord.record`; a board may have none.
        title: The page's title.
    """
    return render(
        "run.html",
        title=title,
        boards=boards,
        quarantine=quarantine,
        pages=pages,
        totals=count_totals(boards, len(quarantine)),
    )

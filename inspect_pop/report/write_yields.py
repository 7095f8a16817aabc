"""Yield pages as files. Apart from `write`, because charts need matplotlib, which a run does not wait for."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from inspect_pop.report.write import linked_pages, write_page
from inspect_pop.report.yield_view import yield_view
from inspect_pop.report.yields_page import yields_page
from inspect_pop.store import Store
from inspect_pop.yields.selection import Key

__all__ = ["write_lot_report", "write_yield_report"]


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

"""Yield pages as files. Apart from `write`, because charts need matplotlib, which a run does not wait for."""

from collections.abc import Mapping
from pathlib import Path

from inspect_pop.report.write import write_page
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
) -> Path:
    """Write the yield page of a selection to `path`. Raises `UsageFault` for a bound that is no time, `StoreFault`."""
    write_page(path, yields_page(yield_view(store, title, since=since, until=until, only=only)))
    return path


def write_lot_report(path: Path, store: Store, lot: str | None) -> Path:
    """Write one lot's page to `path`; None is the boards without a lot. Raises `StoreFault`."""
    return write_yield_report(path, store, title="Boards without a lot" if lot is None else f"Lot {lot}", only={"lot": lot})

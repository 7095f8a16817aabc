"""`inspect-pop yield`: report the yield of the boards in a store; `inspect-pop compact`: merge the store's small files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from inspect_pop.cli.options import AsJson, ExistingStore, pluralize
from inspect_pop.core.classes import DEFECTS

__all__ = ["compact", "report_yield"]

_FIGURES = ("boards", "passed", "fpy", "fpy_low", "fpy_high", "joints", "defects", "dpmo")


def report_yield(
    store: ExistingStore,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="KEY,…",
            help="Group by any of day, lot, line, station, product, recipe, interface, work_order, package, part, construction.",
        ),
    ] = "",
    since: Annotated[str | None, typer.Option("--since", metavar="T", help="From this day or time.")] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="T", help="Up to and including this day, or until this time.")
    ] = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
    page: Annotated[
        Path | None,
        typer.Option("--page", metavar="FILE", help="Write a page with trend, Pareto chart, control charts and maps, HTML."),
    ] = None,
    lot: Annotated[str | None, typer.Option("--lot", metavar="LOT", help="Only this lot.")] = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option("--run", metavar="OUT", help="Link the page to the board pages of this run; repeatable."),
    ] = None,
) -> None:
    """Report first-pass yield and DPMO with 95 % intervals, and counts by label, over all boards or by group."""
    if page is not None:
        from inspect_pop.report.write import write_lot_report, write_yield_report
        from inspect_pop.store import open_store

        with open_store(store, must_exist=True) as opened:
            if lot is None:
                write_yield_report(page, opened, since=since, until=until, runs=runs or [])
            else:
                write_lot_report(page, opened, lot, since=since, until=until, runs=runs or [])
        typer.echo(f"page: {page}")
        return
    from inspect_pop.yields.groups import report_yield

    keys = [key.strip() for key in by.split(",") if key.strip()]
    rows = report_yield(store, keys, since, until, None if lot is None else {"lot": lot})
    if as_json:
        import json

        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    elif as_csv:
        import csv
        import sys

        if rows:
            writer = csv.DictWriter(sys.stdout, rows[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    else:
        _print_table(keys, rows)


def compact(
    store: ExistingStore,
    before: Annotated[str | None, typer.Option("--before", metavar="DAY", help="Only days before this day.")] = None,
    forget: Annotated[
        str | None,
        typer.Option("--forget-delivered", metavar="DAY", help="Also delete messages delivered before this day."),
    ] = None,
) -> None:
    """Merge the small joint files of each day and lot into few, and remove files that a crash left over.

    Delivered messages stay in the store unless --forget-delivered is given. The store can be read and written meanwhile.
    """
    from inspect_pop.store import open_store

    with open_store(store, must_exist=True) as opened:
        done = opened.compact(before=before)
        removed = opened.repair()
        forgotten = None if forget is None else opened.forget_delivered(forget)
    typer.echo(f"{pluralize(done.merged, 'file')} merged into {done.into}; {len(removed)} left over by a crash removed")
    if forgotten is not None:
        typer.echo(f"{pluralize(forgotten, 'message')} delivered before {forget} deleted")


def _print_table(keys: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    def format_cell(value: object) -> str:
        return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)

    table = Table(caption="fpy and dpmo with 95 % intervals in --json and --csv")
    columns = (*keys, *_FIGURES, *(f"n_{c}" for c in DEFECTS))
    for name in columns:
        table.add_column(name, justify="left" if name in keys else "right")
    for row in rows:
        table.add_row(*(format_cell(row[name]) for name in columns))
    Console().print(table)

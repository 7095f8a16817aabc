"""`inspect-pop yield`, `compact` and `quarantine`: report a store's boards, merge its small files, look after refused boards."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from inspect_pop.cli.options import AsJson, ExistingStore, pluralize
from inspect_pop.core.classes import DEFECTS

__all__ = ["compact", "list_quarantine", "report_yield"]

_MAX_NAMED = 5  # records that a message names

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
    accept_lost: Annotated[
        bool,
        typer.Option("--accept-lost-files", help="Go on without the joint files of before, which are lost for good."),
    ] = False,
) -> None:
    """Merge the small joint files of each day and lot into few, and remove files that a crash left over.

    Delivered messages stay in the store unless --forget-delivered is given. The store can be read and written meanwhile. Status 1
    if joint files are missing or damaged.
    """
    from inspect_pop.store import open_store

    with open_store(store, must_exist=True) as opened:
        if accept_lost:
            opened.accept_lost_files()
        done = opened.compact(before=before)
        removed = opened.repair()
        forgotten = None if forget is None else opened.forget_delivered(forget)
    typer.echo(f"{pluralize(done.merged, 'file')} merged into {done.into}; {len(removed)} left over by a crash removed")
    if forgotten is not None:
        typer.echo(f"{pluralize(forgotten, 'message')} delivered before {forget} deleted")
    if done.unreadable:
        named = ", ".join(done.unreadable[:_MAX_NAMED]) + (", …" if len(done.unreadable) > _MAX_NAMED else "")
        typer.echo(f"{pluralize(len(done.unreadable), 'joint file')} missing or damaged, of records {named}", err=True)
        raise typer.Exit(1)


def list_quarantine(
    store: ExistingStore,
    serial: Annotated[str | None, typer.Option("--serial", metavar="S", help="Only this serial.")] = None,
    show_closed: Annotated[bool, typer.Option("--all", help="Also closed entries.")] = False,
    close: Annotated[str | None, typer.Option("--close", metavar="NUMBER", help="Close this entry.")] = None,
    by: Annotated[str, typer.Option("--by", metavar="NAME", help="Who looked at the board; for --close.")] = "",
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="What became of the board; for --close.")] = "",
    as_json: AsJson = False,
) -> None:
    """List the boards that could not be inspected, each with its reason, or close an entry after a person looked at the board.

    Status 1 if open entries are listed.
    """
    from inspect_pop.core.clock import utc_now
    from inspect_pop.store import open_store

    with open_store(store, must_exist=True) as opened:
        if close is not None:
            opened.close_quarantine(close, by=by, at=utc_now(), note=note)
            typer.echo(f"{close} closed")
            return
        found = [e for e in opened.list_quarantine(serial=serial) if show_closed or e.closed_at is None]
    if as_json:
        import json
        from dataclasses import asdict

        typer.echo(json.dumps([asdict(e) for e in found], indent=1, ensure_ascii=False))
    else:
        for entry in found:
            state = f" (closed by {entry.closed_by}: {entry.note})" if entry.closed_at else ""
            typer.echo(f"{entry.number}  {entry.seen_at}  {entry.serial or '-'}  {entry.path}: {entry.reason}{state}")
    if any(entry.closed_at is None for entry in found):
        raise typer.Exit(1)


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

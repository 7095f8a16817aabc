"""`inspect-pop yield`: what the records in a store say; `inspect-pop compact`: keep the store's files few."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from inspect_pop.cli.options import AsJson, KeptStore

__all__ = ["compact", "yield_"]

_SHOWN = ("boards", "passed", "fpy", "fpy_low", "fpy_high", "joints", "defects", "dpmo")


def yield_(
    store: KeptStore,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="KEY,…",
            help="Group by any of day, lot, line, station, product, recipe, interface, work_order, package, part, construction.",
        ),
    ] = "",
    since: Annotated[str | None, typer.Option("--since", metavar="T", help="From this day or time on.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="T", help="Until this day (included) or time.")] = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated lines instead of a table.")] = False,
    page: Annotated[
        Path | None, typer.Option("--page", metavar="FILE", help="A page with trend, Pareto, control charts and maps, HTML.")
    ] = None,
    lot: Annotated[str | None, typer.Option("--lot", metavar="LOT", help="This lot alone.")] = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option("--run", metavar="OUT", help="Link the page to the boards' pages of this run; repeatable."),
    ] = None,
) -> None:
    """First-pass yield, DPMO and counts by label, each with its 95 % interval, over all boards or by group."""
    if page is not None:
        _write_page(page, store, since, until, lot, runs or [])
        return
    from inspect_pop.yields.groups import yield_report

    keys = [key.strip() for key in by.split(",") if key.strip()]
    rows = yield_report(store, keys, since, until, None if lot is None else {"lot": lot})
    if as_json:
        import json

        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    elif as_csv:
        _print_csv(rows)
    else:
        _print_table(keys, rows)


def compact(
    store: KeptStore,
    before: Annotated[str | None, typer.Option("--before", metavar="DAY", help="Only days before this one.")] = None,
    forget: Annotated[
        str | None,
        typer.Option("--forget-delivered", metavar="DAY", help="Also delete messages that were delivered before this day."),
    ] = None,
) -> None:
    """Merge the store's many small joint files of each day and lot into few, and remove what a crash left over.

    Messages that were delivered stay in the store until they are told to go. Whoever reads or writes meanwhile is not disturbed.
    """
    from inspect_pop.store import open_store

    with open_store(store, must_exist=True) as opened:
        done = opened.compact(before=before)
        removed = opened.repair()
        forgotten = None if forget is None else opened.forget_delivered(forget)
    typer.echo(f"{done.merged} files merged into {done.into}; {len(removed)} left over by a crash removed")
    if forgotten is not None:
        typer.echo(f"{forgotten} messages delivered before {forget} deleted")


def _write_page(page: Path, where: str, since: str | None, until: str | None, lot: str | None, runs: list[Path]) -> None:
    from inspect_pop.report.write import write_lot_report, write_yield_report
    from inspect_pop.store import open_store

    with open_store(where, must_exist=True) as store:
        if lot is None:
            write_yield_report(page, store, since=since, until=until, runs=runs)
        else:
            write_lot_report(page, store, lot, since=since, until=until, runs=runs)
    typer.echo(f"page: {page}")


def _print_csv(rows: Sequence[dict[str, Any]]) -> None:
    import csv
    import sys

    if rows:
        writer = csv.DictWriter(sys.stdout, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _print_table(keys: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from inspect_pop.core.joint_table import CLASSES

    table = Table(caption="fpy and dpmo with 95 % intervals in --json and --csv")
    columns = (*keys, *_SHOWN, *(f"n_{c}" for c in CLASSES[1:]))
    for name in columns:
        table.add_column(name, justify="left" if name in keys else "right")
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in columns))
    Console().print(table)


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)

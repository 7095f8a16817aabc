"""`inspect-pop yield`, `compact` and `quarantine`: report a store's boards, merge its small files, look after refused boards."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inspect_pop.cli.options import AsJson, ExistingStore, pluralize, say
from inspect_pop.core.errors import UsageFault

if TYPE_CHECKING:
    from inspect_pop.store import Store
    from inspect_pop.yields.selection import GroupKey

__all__ = ["compact", "list_quarantine", "report_yield"]

_MAX_NAMED = 5  # records that a message names

_MOST_NAMED = 10  # lots or products that a message names, the last ones
_EMPTY = 1  # exit status of a selection without a board


def report_yield(
    store: ExistingStore,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="KEY,…",
            help="Group by any of day, lot, line, station, product, recipe, recipe_revision, work_order, interface, package, "
            "part, construction.",
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
    product: Annotated[str | None, typer.Option("--product", metavar="NAME", help="Only this product.")] = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option("--run", metavar="OUT", help="Link the page to the board pages of this run; repeatable."),
    ] = None,
) -> None:
    """Report first-pass yield and DPMO with 95 % intervals, and counts by label, over all boards or by group.

    Exit status 0 done, 1 when the selection holds no board.
    """
    forms = [name for name, is_given in (("--json", as_json), ("--csv", as_csv), ("--page", page is not None)) if is_given]
    if len(forms) > 1:
        raise UsageFault(" ".join(forms), expected="one of them", found=str(len(forms)), remedy="Run the command for each.")
    if page is not None and by:
        raise UsageFault("--by", expected="no --by with --page", found=by, remedy="A page has its tables; leave --by out.")
    if runs and page is None:
        raise UsageFault("--run", expected="a page to link", found="none", remedy="Name it with --page FILE.")
    from inspect_pop.store import open_store
    from inspect_pop.yields.groups import as_csv as make_csv
    from inspect_pop.yields.groups import as_json as make_json
    from inspect_pop.yields.groups import compute_yield

    only: dict[str, GroupKey] = {k: v for k, v in (("lot", lot), ("product", product)) if v is not None}
    keys = [key.strip() for key in by.split(",") if key.strip()]
    with open_store(store, must_exist=True) as opened:
        groups = compute_yield(opened, keys, since=since, until=until, only=only)
        boards = sum(group.boards for group in groups)
        if page is not None:
            from inspect_pop.report.write import write_lot_report, write_yield_report

            if list(only) == ["lot"]:
                write_lot_report(page, opened, str(only["lot"]), since=since, until=until, runs=runs or [])
            else:
                title = "Yield" if not only else "Yield: " + ", ".join(f"{key} {value}" for key, value in only.items())
                write_yield_report(page, opened, title=title, since=since, until=until, only=only, runs=runs or [])
            say(f"page: {page}")
        elif as_json:
            print(make_json(groups))
        elif as_csv:
            print(make_csv(groups), end="")  # as it is: typer.echo takes out of a name what a terminal would act on
        elif boards:
            from rich.console import Console

            from inspect_pop.yields.groups import as_table

            console = Console()
            console.print(as_table(groups, console.width))
        if not boards:
            say(_describe_emptiness(opened, only), err=True)
            raise typer.Exit(_EMPTY)


def _describe_emptiness(store: "Store", only: "dict[str, GroupKey]") -> str:
    """Say that no board was selected, and what there is instead: values of the option that names none, or days."""
    from inspect_pop.core.text import escape_controls
    from inspect_pop.yields.groups import compute_yield

    for key, value in only.items():
        known = [str(group.keys[key]) for group in compute_yield(store, [key]) if group.keys[key] is not None]
        if value not in known:
            there = ", ".join(map(escape_controls, known[-_MOST_NAMED:])) or "none"
            return f"no board: --{key} {escape_controls(str(value))}: the store has {pluralize(len(known), key)}: {there}"
    days = [str(group.keys["day"]) for group in compute_yield(store, ["day"])]
    if not days:
        return "no board: the store is empty"
    return f"no board in this selection: the store has boards from {days[0]} to {days[-1]}"


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
    say(f"{pluralize(done.merged, 'file')} merged into {done.into}; {len(removed)} left over by a crash removed")
    if forgotten is not None:
        say(f"{pluralize(forgotten, 'message')} delivered before {forget} deleted")
    if done.unreadable:
        named = ", ".join(done.unreadable[:_MAX_NAMED]) + (", …" if len(done.unreadable) > _MAX_NAMED else "")
        say(f"{pluralize(len(done.unreadable), 'joint file')} missing or damaged, of records {named}", err=True)
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
            say(f"{close} closed")
            return
        found = [e for e in opened.list_quarantine(serial=serial) if show_closed or e.closed_at is None]
    if as_json:
        import json
        from dataclasses import asdict

        typer.echo(json.dumps([asdict(e) for e in found], indent=1, ensure_ascii=False))
    else:
        for entry in found:
            state = f" (closed by {entry.closed_by}: {entry.note})" if entry.closed_at else ""
            say(f"{entry.number}  {entry.seen_at}  {entry.serial or '-'}  {entry.path}: {entry.reason}{state}")
    if any(entry.closed_at is None for entry in found):
        raise typer.Exit(1)

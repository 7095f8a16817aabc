"""`inspect-pop store`: back up, restore, check and prune a store, and show its audit trail."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inspect_pop.cli.options import AsJson, ExistingStore, name_account, pluralize, say

if TYPE_CHECKING:
    from inspect_pop.store.backup import BackupReport

__all__ = ["store"]

_MAX_NAMED = 20  # faults that a message names
NewFolder = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder of the backup; it must not exist.", show_default=False)
]
NewStore = Annotated[
    str,
    typer.Option(
        "--store", metavar="URL", help="A new file, or the address of an empty PostgreSQL database.", show_default=False
    ),
]

store = typer.Typer(help="Back up, restore, check, prune and audit a store.", no_args_is_help=True, rich_markup_mode=None)


@store.command("backup")
def back_up(
    store: ExistingStore,
    out: NewFolder,
    without_windows: Annotated[
        bool, typer.Option("--without-windows", help="Leave out the pictures of joints, which take the most space.")
    ] = False,
) -> None:
    """Copy a store with all joint files and pictures of joints into a new folder. The store can be read and written meanwhile.

    A PostgreSQL store needs PostgreSQL's program `pg_dump`. Exit status 0 when all is copied, 1 when joint files that records
    name are not there.
    """
    from inspect_pop.core.clock import utc_now
    from inspect_pop.store.backup import back_up_store
    from inspect_pop.verify.retention import list_window_files

    _print_report(
        back_up_store(
            store, out, made_at=utc_now(), list_others=lambda opened: [] if without_windows else list_window_files(opened)
        )
    )


@store.command("restore")
def restore(
    backup: Annotated[Path, typer.Argument(metavar="BACKUP", help="Folder that `store backup` made.", show_default=False)],
    store: NewStore,
) -> None:
    """Make a store from a backup, on this machine or another. Every file of the backup is compared with its digest first.

    A PostgreSQL store needs PostgreSQL's program `pg_restore`. Exit status 0 when all is restored, 1 when joint files were
    missing when the backup was made.
    """
    from inspect_pop.store.backup import restore_store

    _print_report(restore_store(backup, store))


@store.command("check")
def check(store: ExistingStore) -> None:
    """Check the database, that the joints of every record are there, all of them, and the pictures of joints.

    Exit status 1 when something is wrong. A record without pictures is named, and is no fault: it does not depend on them.
    """
    from inspect_pop.store import open_store
    from inspect_pop.store.backup import check_store
    from inspect_pop.verify.retention import check_windows

    found = check_store(store)
    with open_store(store, must_exist=True) as opened:
        windows = check_windows(opened)
    found.faults += windows.faults
    notes = [f"without pictures: record {record}" for record in windows.without] if windows.files else []
    pictures = f", {pluralize(windows.files, 'file')} of pictures, {len(notes)} without" if windows.files else ""
    for lines in (found.faults, notes):
        for line in lines[:_MAX_NAMED]:
            say(line, err=True)
        if len(lines) > _MAX_NAMED:
            say(f"… and {len(lines) - _MAX_NAMED} more", err=True)
    without = f", {found.without_joints} without joints" if found.without_joints else ""
    say(
        f"{pluralize(found.records, 'record')}{without} in {pluralize(found.files, 'joint file')}{pictures}: "
        f"{pluralize(len(found.faults), 'fault')}"
    )
    raise typer.Exit(1 if found.faults else 0)


@store.command("audit")
def show_audit(
    store: ExistingStore,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="From this time on, ISO 8601 with offset.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show who did what and when: decisions, log-ins, users, tokens, models, quarantine. The trail is only ever added to."""
    import json
    from dataclasses import asdict

    from inspect_pop.store import open_store

    with open_store(store, must_exist=True) as opened:
        entries = opened.list_audit(since=since)
    if as_json:
        print(json.dumps([asdict(entry) for entry in entries], indent=1, ensure_ascii=False))
        return
    for entry in entries:
        change = " -> ".join(json.dumps(v, ensure_ascii=False) for v in (entry.before, entry.after) if v is not None)
        say(f"{entry.at} {entry.who}: {entry.action} {entry.subject} {change}".rstrip())
    say(pluralize(len(entries), "row"))


@store.command("prune")
def prune(
    store: ExistingStore,
    records_days: Annotated[int | None, typer.Option(metavar="N", help="Keep records for N days.", min=0)] = None,
    joints_days: Annotated[int | None, typer.Option(metavar="N", help="Keep joint files for N days.", min=0)] = None,
    pages_days: Annotated[int | None, typer.Option(metavar="N", help="Keep boards' pages for N days.", min=0)] = None,
    windows_days: Annotated[int | None, typer.Option(metavar="N", help="Keep pictures of joints for N days.")] = None,
    windows_gb: Annotated[float | None, typer.Option(metavar="GB", help="Keep at most GB of pictures, the newest.")] = None,
    today: Annotated[
        str | None,
        typer.Option(metavar="DAY", help="Count back from this day [default: today, or the latest inspection's day if earlier]."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Delete nothing; say what would be deleted.")] = False,
) -> None:
    """Delete records, joint files, pages and pictures of joints by age. What waits stays: undecided boards, unsent messages.

    The sums of yield tables stay, and every deletion is in the audit trail. An interrupted call leaves a whole store; the next
    one goes on. A joint of an emptied board is cut again from its export, where that is still there.
    """
    from inspect_pop.core.errors import UsageFault
    from inspect_pop.station.retention import prune_station
    from inspect_pop.verify.retention import prune_windows

    if all(bound is None for bound in (records_days, joints_days, pages_days, windows_days, windows_gb)):
        raise UsageFault("store prune", expected="--records-days or another bound", found="none")
    bounds = {"records_days": records_days, "joints_days": joints_days, "pages_days": pages_days}
    done = prune_station(store, who=name_account(), today=today, dry_run=dry_run, **bounds)
    would = "would be deleted" if dry_run else "deleted"
    for bound, what, n, waiting in (
        (records_days, "records", done.records.records, done.records.waiting),
        (joints_days, "joints", done.joints.records, done.joints.waiting),
        (pages_days, "pages", done.pages, 0),
    ):
        if bound is not None:
            rest = f"; those of {pluralize(waiting, 'record')} as old wait, and stay" if waiting else ""
            say(f"{what} of {pluralize(n, 'inspection')} {would}{rest}")
    if dry_run or (windows_days is None and windows_gb is None):
        return
    from inspect_pop.store import open_store

    with open_store(store, must_exist=True) as opened:
        pruned = prune_windows(opened, today=today or opened.find_first_day(0), days=windows_days, gigabytes=windows_gb)
    say(
        f"pictures of {pluralize(pruned.emptied, 'board')} removed, {pruned.freed_bytes / 1e6:.1f} MB; "
        f"{pruned.left_bytes / 1e6:.1f} MB left"
    )


def _print_report(report: "BackupReport") -> None:

    size = f"{report.size_bytes / 1e6:.1f} MB"
    others = f", {pluralize(report.others, 'file')} of pictures" if report.others else ""
    say(f"{pluralize(report.records, 'record')} and {pluralize(report.files, 'joint file')}{others}, {size}: {report.where}")
    for address in report.missing[:_MAX_NAMED]:
        say(f"missing: {address}", err=True)
    if report.missing:
        say(f"{pluralize(len(report.missing), 'joint file')} missing; `inspect-pop store check` names the records", err=True)
        raise typer.Exit(1)

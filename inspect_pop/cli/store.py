"""`inspect-pop store`, `outbox` and `users`: what a store holds besides boards, and its maintenance."""

import sys
from collections.abc import Collection
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inspect_pop.cli.options import AsJson, ExistingStore, name_account, pluralize, say
from inspect_pop.core.errors import UsageFault

if TYPE_CHECKING:
    from inspect_pop.store import Store
    from inspect_pop.store.backup import BackupReport

__all__ = ["outbox", "store", "users"]

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
    from inspect_pop.core.system import utc_now
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
    from inspect_pop.station.station import prune_station
    from inspect_pop.verify.retention import prune_windows

    if all(bound is None for bound in (records_days, joints_days, pages_days, windows_days, windows_gb)):
        raise UsageFault("store prune", expected="--records-days or another bound", found="none")
    bounds = {"records_days": records_days, "joints_days": joints_days, "pages_days": pages_days}
    done = prune_station(store, who=name_account(), today=today, dry_run=dry_run, **bounds)
    would = "would be deleted" if dry_run else "deleted"
    for bound, what, n, waiting in (
        (records_days, "records", done.records.records, done.records.waiting),
        (joints_days, "joints", done.joints.records, done.joints.waiting),
        (pages_days, "pages", done.pages, done.waiting_pages),
    ):
        if bound is not None:
            rest = f"; those of {pluralize(waiting, 'record')} as old wait, and stay" if waiting else ""
            say(f"{what} of {pluralize(n, 'inspection')} {would}{rest}")
    if windows_days is None and windows_gb is None:
        return
    from inspect_pop.store import open_store

    with open_store(store, must_exist=True) as opened:
        day = today or opened.find_first_day(0)
        pruned = prune_windows(opened, today=day, days=windows_days, gigabytes=windows_gb, dry_run=dry_run)
    removed = "would be removed" if dry_run else "removed"
    say(
        f"pictures of {pluralize(pruned.emptied, 'board')} {removed}, {pruned.freed_bytes / 1e6:.1f} MB; "
        f"{pruned.left_bytes / 1e6:.1f} MB left"
        + (f"; those of {pluralize(pruned.waiting, 'board')} wait, and stay" if pruned.waiting else "")
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


# `inspect-pop outbox`: look into the messages that are not delivered, let them go again, or set them aside.


Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Identifiers of messages, as `list` shows them.")]
EveryOne = Annotated[bool, typer.Option("--all", help="All messages that are set aside.")]
OfSerial = Annotated[str | None, typer.Option("--serial", metavar="SERIAL", help="All waiting messages of this board.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Reason, for the record.", show_default=False)]

outbox = typer.Typer(
    help="List, retry and set aside messages to the line that are not delivered.", no_args_is_help=True, rich_markup_mode=None
)


@outbox.command("list")
def show_outbox(store: ExistingStore, as_json: AsJson = False) -> None:
    """List the messages that are not delivered, in their order: those that wait, and those that are set aside, with the reason.

    Exit status 0 when none is set aside, 1 when some are.
    """
    import json

    from inspect_pop.store import open_store

    with open_store(store, must_exist=True) as opened:
        entries = opened.list_outbox()
        serials = _find_serials(opened, {e.message.record for e in entries})
    rows = [
        {
            "id": entry.message.id,
            "kind": entry.message.kind,
            "serial": serials.get(entry.message.record),
            "record": entry.message.record,
            "created_at": entry.message.created_at,
            "attempts": entry.message.attempts,
            "set_aside_at": entry.set_aside_at,
            "last_error": entry.last_error,
        }
        for entry in entries
    ]
    aside = sum(row["set_aside_at"] is not None for row in rows)
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        for row in rows:
            state = "waits" if row["set_aside_at"] is None else "set aside"
            about = " ".join(str(row[name]) for name in ("kind", "serial", "created_at") if row[name] is not None)
            error = f": {row['last_error']}" if row["last_error"] else ""
            say(f"{row['id']} {state}: {about}{error}")
        say(f"{pluralize(len(rows) - aside, 'message')} waiting, {aside} set aside")
    raise typer.Exit(1 if aside else 0)


@outbox.command("retry")
def retry(store: ExistingStore, ids: Ids = None, every_one: EveryOne = False) -> None:
    """Let messages that are set aside wait again, in their old place; the service sends them."""
    from inspect_pop.store import open_store

    with open_store(store, must_exist=True) as opened:
        aside = [e.message.id for e in opened.list_outbox() if e.set_aside_at is not None]
        chosen = aside if every_one else _require_known(ids, aside, "message that is set aside")
        number = opened.retry_messages(chosen)
    say(f"{pluralize(number, 'message')} waiting again")


@outbox.command("set-aside")
def set_aside(store: ExistingStore, reason: Reason, ids: Ids = None, serial: OfSerial = None) -> None:
    """Set waiting messages aside: they stay in the store, are not sent, and hold up no other."""
    from inspect_pop.core.system import utc_now
    from inspect_pop.store import open_store

    with open_store(store, must_exist=True) as opened:
        waiting = [e.message for e in opened.list_outbox() if e.set_aside_at is None]
        if serial is None:
            chosen = _require_known(ids, [m.id for m in waiting], "message that waits")
        else:
            serials = _find_serials(opened, {m.record for m in waiting})
            of_serial = [m.id for m in waiting if m.record is not None and serials.get(m.record) == serial]
            chosen = _require_known(of_serial, of_serial, f"message of {serial} that waits")
        number = opened.set_aside(chosen, at=utc_now(), error=reason)
    say(f"{pluralize(number, 'message')} set aside")


def _require_known(ids: list[str] | None, known: list[str], expected: str) -> list[str]:
    """Return the identifiers; raise `UsageFault` if there is none, or one that is unknown."""
    unknown = [name for name in ids or () if name not in known]
    if not ids or unknown:
        remedy = "`inspect-pop outbox list` shows all."
        raise UsageFault("outbox", expected=f"the ID of a {expected}", found=", ".join(unknown) or "none", remedy=remedy)
    return ids


def _find_serials(store: "Store", records: Collection[str | None]) -> dict[str | None, str]:
    """Return the serials of records; a record that the store no longer has is left out."""
    stored = [store.record(record) for record in records if record is not None]
    return {found.board.record: found.board.serial for found in stored if found is not None}


# `inspect-pop users`: people who may log in at the verify station, and their roles.


class Role(StrEnum):
    """What a person may do."""

    operator = "operator"
    repair = "repair"
    engineer = "engineer"
    admin = "admin"


class Language(StrEnum):
    """The language of the pages."""

    en = "en"
    zh = "zh"


Name = Annotated[str, typer.Argument(metavar="NAME", help="The name to log in with.", show_default=False)]
RoleOption = Annotated[Role, typer.Option("--role", help="What the person may do.", show_default=False)]
LanguageOption = Annotated[Language | None, typer.Option("--language", help="The language of the pages.")]
AnyStore = Annotated[
    str,
    typer.Option("--store", metavar="URL", help="Store: a file, sqlite:///FILE or postgresql://…", show_default=False),
]

users = typer.Typer(help="Manage the people who log in, and their roles.", no_args_is_help=True, rich_markup_mode=None)


@users.command("add")
def add_user(name: Name, store: AnyStore, role: RoleOption, language: LanguageOption = None) -> None:
    """Add a person. The password is asked for, or read from standard input: never an argument, which every account could see.

    From then on, whoever opens the service's pages logs in.
    """
    from inspect_pop.store import open_store

    password = _read_password()
    with open_store(store) as opened:
        opened.accounts.add_user(name, role, password, by=name_account(), now_us=_now_us(), language=language)
    say(f"{name} may log in as {role}")


@users.command("list")
def list_users(store: ExistingStore, as_json: AsJson = False) -> None:
    """List all people with their roles."""
    import json
    from dataclasses import asdict

    from inspect_pop.core.text import pluralize
    from inspect_pop.store import open_store

    with open_store(store, must_exist=True) as opened:
        found = opened.accounts.list_users()
    if as_json:
        print(json.dumps([asdict(user) for user in found], indent=1, ensure_ascii=False))
        return
    for user in found:
        say(f"{user.name}: {user.role}{'' if user.is_enabled else ', disabled'}, since {user.created_at}")
    say(pluralize(len(found), "user"))


@users.command("disable")
def disable_user(name: Name, store: ExistingStore) -> None:
    """Let a person log in no more, and end the person's sessions. Decisions stay under the name."""
    _set_enabled(name, store, is_enabled=False)


@users.command("enable")
def enable_user(name: Name, store: ExistingStore) -> None:
    """Let a person who was disabled log in again."""
    _set_enabled(name, store, is_enabled=True)


@users.command("set-password")
def set_password(name: Name, store: ExistingStore) -> None:
    """Give a person another password, asked for or read from standard input, and end the person's sessions."""
    from inspect_pop.store import open_store

    password = _read_password()
    with open_store(store, must_exist=True) as opened:
        opened.accounts.set_password(name, password, by=name_account(), now_us=_now_us())
    say(f"{name} has another password")


@users.command("set-role")
def set_role(name: Name, store: ExistingStore, role: RoleOption) -> None:
    """Give a person another role, and end the person's sessions."""
    from inspect_pop.store import open_store

    with open_store(store, must_exist=True) as opened:
        opened.accounts.set_role(name, role, by=name_account(), now_us=_now_us())
    say(f"{name} is {role}")


def _set_enabled(name: str, store: str, *, is_enabled: bool) -> None:
    from inspect_pop.store import open_store

    with open_store(store, must_exist=True) as opened:
        opened.accounts.set_enabled(name, is_enabled, by=name_account(), now_us=_now_us())
    say(f"{name} {'may log in again' if is_enabled else 'may not log in any more'}")


def _read_password() -> str:
    """Ask for a new password twice on a terminal, or read the one line of standard input. Raises `UsageFault`."""
    if sys.stdin is not None and sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    line = "" if sys.stdin is None else sys.stdin.readline()
    password = line.rstrip("\r\n")
    if not password:
        remedy = "Type it, or send it: inspect-pop users add … < FILE"
        raise UsageFault("password", expected="a line of standard input", found="none", remedy=remedy)
    return password


def _now_us() -> int:
    import time

    return time.time_ns() // 1000

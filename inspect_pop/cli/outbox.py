"""`inspect-pop outbox`: look into the messages that are not delivered, let them go again, or set them aside."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated

import typer

from inspect_pop.cli.options import AsJson, ExistingStore, pluralize, say
from inspect_pop.core.errors import UsageFault

if TYPE_CHECKING:
    from inspect_pop.store import Store

__all__ = ["outbox"]

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
    from inspect_pop.core.clock import utc_now
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

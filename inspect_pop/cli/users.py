"""`inspect-pop users`: people who may log in at the verify station, and their roles."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from inspect_pop.cli.options import AsJson, ExistingStore, name_account, say
from inspect_pop.core.errors import UsageFault

__all__ = ["users"]


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

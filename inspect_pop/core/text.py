"""Texts as commands and pages write them: counts with their nouns, and names from outside on a terminal."""

import csv
import io
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = [
    "defuse_cell",
    "escape_controls",
    "format_csv",
    "hide_arguments",
    "hide_passwords",
    "pluralize",
    "resolve_address",
    "restore_cell",
]


def pluralize(n: int, noun: str) -> str:
    """Return a count with its noun, such as `1 board`, `5 boards` or `0 classes`."""
    ending = "es" if noun.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{n} {noun}" if n == 1 else f"{n} {noun}{ending}"


def escape_controls(text: str) -> str:
    """Return text as one line for a terminal: signs that move its cursor, colour it or hide what follows become `\\x1b`.

    Line breaks count among them, and signs without a width, such as those that turn the direction of writing.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


HIDDEN = "***"
# user:password@ up to the last @ of the word: a password may hold any sign, '@', ':' and '/' too.
_USER_AND_PASSWORD = re.compile(r"(://[^\s:/?#@]*):[^\s]*@")
# password=… in the query of an address, in a libpq connection string or in a driver's message: up to its end, quoted or not.
_NAMED = re.compile(
    r"""(?ix) (?P<name> \b [\w.-]* (?:password|passwd|pwd|passfile|secret|token|access_key|accesskey|api_?key|credential) [\w.-]*
    \s* (?:=|%3D) \s*) (?: '(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" | [^\s&;'",)\]}]+ )"""
)


def hide_passwords(text: str) -> str:
    """Return a text for messages and logs, with each password of an address in it replaced by `***`."""
    return _NAMED.sub(rf"\g<name>{HIDDEN}", _USER_AND_PASSWORD.sub(rf"\1:{HIDDEN}@", text))


def resolve_address(address: str, option: str = "--store") -> str:
    """Return an address; for `env:NAME`, what the environment variable NAME holds, so that no list of processes shows it.

    Raises:
        UsageFault: The environment variable is empty.
    """
    if not address.startswith("env:"):
        return address
    name = address.removeprefix("env:")
    value = os.environ.get(name, "")
    if not value or value.startswith("env:"):
        from inspect_pop.core.errors import UsageFault  # which hides passwords itself

        raise UsageFault(f"{option} env:{name}", expected=f"an address in the environment variable {name}", found="none")
    return value


def hide_arguments(arguments: Sequence[str]) -> None:
    """Overwrite the passwords in this process's arguments where Linux shows them to every account (`ps`, `/proc`).

    Until then, for the time that Python needs to start, they can be seen: `env:NAME` shows nothing at any time.
    """
    if sys.platform != "linux" or not any(hide_passwords(a) != a for a in arguments):
        return
    import ctypes  # rarely needed

    try:
        with open("/proc/self/cmdline", "rb") as file:  # noqa: PTH123 (no pathlib where the hook starts)
            shown = file.read()
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            start = int(file.read().rpartition(")")[2].split()[45])  # arg_start, the 48th field of proc_pid_stat(5)
        if start == 0 or ctypes.string_at(start, len(shown)) != shown:
            return
        for part in arguments:
            secret, hidden = os.fsencode(part), os.fsencode(hide_passwords(part))
            if secret != hidden:
                shown = shown.replace(secret, hidden[: len(secret)].ljust(len(secret), b"*"))
        ctypes.memmove(start, shown, len(shown))
    except (OSError, ValueError, IndexError):
        return  # not allowed to look at itself: the arguments stay as they are


_FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_STRIPPED = " \t\r\n\v\f\xa0\ufeff"  # what a spreadsheet may drop before it looks at the first sign


def defuse_cell(value: Any) -> Any:
    """Return a cell that a spreadsheet shows and does not compute (OWASP, CSV injection).

    A text that a formula could begin with gets an apostrophe before it. Numbers stay numbers, negative ones too.
    """
    if not isinstance(value, str):
        return value
    if value.lstrip(_STRIPPED).startswith(_FORMULA_STARTS) or value.startswith(("\t", "\r", "\n")):
        return f"'{value}"
    return value


def restore_cell(text: str) -> str:
    """Return the text of a cell as it was before `defuse_cell`."""
    return text[1:] if text.startswith("'") and defuse_cell(text[1:]) == text else text


def format_csv(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as CSV with lines that end in a line feed; None is empty.

    Texts are quoted where one holds a semicolon or a tab: a spreadsheet that separates there must not cut a formula out of it.
    """
    cells = [[defuse_cell(value) for value in row] for row in (header, *rows)]
    is_cut = any(isinstance(value, str) and (";" in value or "\t" in value) for row in cells for value in row)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC if is_cut else csv.QUOTE_MINIMAL)
    writer.writerows(cells)
    return text.getvalue()

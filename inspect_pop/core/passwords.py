"""Passwords in addresses: where an address may come from, and how it is shown.

This module imports the standard library only: the hook process, which starts once per board, imports it.
"""

import os
import re
import sys
from collections.abc import Sequence

__all__ = ["hide_arguments", "hide_passwords", "resolve_address"]

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

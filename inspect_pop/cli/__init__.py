"""The command line: thin, and quick to start. Each command imports what it needs when it runs."""

import contextlib
import json
import os
import sys
from collections.abc import Sequence

from inspect_pop.core.system import open_missing_streams, write_answer_line
from inspect_pop.core.text import hide_arguments

__all__ = ["PRIVATE_UMASK", "main"]

PRIVATE_UMASK = 0o027  # files 0640, folders 0750


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    `hook` is handled before anything else is imported: the line waits for it, and its exit statuses differ.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    hide_arguments(arguments)
    if arguments[:1] in (["hook"], ["serve"], ["watch"], ["run"], ["store"]):
        # They write records, pages and messages, with serials and people's names: not for every account of the machine.
        os.umask(os.umask(PRIVATE_UMASK) | PRIVATE_UMASK)
    if arguments[:1] == ["hook"]:
        try:
            from inspect_pop.station import hook
        except Exception as error:  # noqa: BLE001 (the interpreter would exit with 1, which means fail)
            return _refuse_hook(error)
        return hook.main(arguments[1:])
    open_missing_streams()
    from inspect_pop.cli.app import execute

    return execute(arguments)


def _refuse_hook(error: Exception) -> int:
    """Answer for a hook whose program cannot be loaded: a damaged installation, or no memory."""
    missing = open_missing_streams()
    reason = f"the hook: expected its program, found {type(error).__name__}: {error}. Install inspect_pop again."
    answer: dict[str, object] = {
        "serial": None,
        "verdict": "error",
        "reason": reason,
        "defects": [],
        "record": None,
        "report": None,
    }
    if "stdout" not in missing:
        with contextlib.suppress(OSError):
            write_answer_line(json.dumps(answer | {"elapsed_ms": 0.0}))
    return 3

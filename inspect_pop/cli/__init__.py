"""The command line: thin, and quick to start. Each command imports what it needs when it runs."""

import os
import sys
from collections.abc import Sequence

from inspect_pop.core.passwords import hide_arguments

__all__ = ["PRIVATE_UMASK", "main"]

PRIVATE_UMASK = 0o027  # files 0640, folders 0750


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    `hook` is handled before anything else is imported: the line waits for it, and its exit statuses differ.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    hide_arguments(arguments)
    if arguments[:1] in (["hook"], ["serve"], ["watch"], ["run"]):
        # They write records, pages and messages, with serials and people's names: not for every account of the machine.
        os.umask(os.umask(PRIVATE_UMASK) | PRIVATE_UMASK)
    if arguments[:1] == ["hook"]:
        from inspect_pop.station import hook

        return hook.main(arguments[1:])
    from inspect_pop.cli.app import execute

    return execute(arguments)

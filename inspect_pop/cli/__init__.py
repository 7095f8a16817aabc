"""The command line: thin, and quick to start. Each command imports what it needs when it runs."""

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    `hook` is handled before anything else is imported: the line waits for it, and its exit statuses differ.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["hook"]:
        from inspect_pop.station import hook

        return hook.main(arguments[1:])
    from inspect_pop.cli.app import execute

    return execute(arguments)

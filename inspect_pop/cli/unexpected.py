"""What becomes of an error that nobody foresaw: one line for the person, the traceback for whoever repairs it."""

import os
import sys
import traceback
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

__all__ = ["UNEXPECTED", "LogUnexpected", "log_path"]

UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h: no status that a command uses for a result


class LogUnexpected(AbstractContextManager["LogUnexpected"]):
    """Within it, an unexpected error is logged and ends the block; `happened` says so. Interrupts go through."""

    happened = False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        self.happened = True
        text = "".join(traceback.format_exception(kind, error, trace))
        where = _append(log_path(), text)
        print(f"inspect-pop: an unexpected error, {type(error).__name__}: {error}\n{where}", file=sys.stderr)
        return True


def log_path() -> Path:
    """`inspect-pop/errors.log` in the user's state folder (XDG base directories)."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "inspect-pop" / "errors.log"


def _append(path: Path, text: str) -> str:
    """Say where the traceback went: the log, or with this line where the log cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as log:
            log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')}\n{text}\n")
    except OSError as error:
        return f"(not logged: {error})\n{text}"
    return f"The traceback is in {path}; please report it with what you did."

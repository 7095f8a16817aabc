"""All commands in one application, and what becomes of an error that reaches it.

What becomes of an error that nobody foresaw: one line for the person, the traceback for whoever repairs it.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import typer

from inspect_pop import __version__
from inspect_pop.cli.check import check
from inspect_pop.cli.learning import decide, evaluate, gage, study, train
from inspect_pop.cli.models import models
from inspect_pop.cli.run import run
from inspect_pop.cli.serve import hook, serve, watch
from inspect_pop.cli.simulate import simulate
from inspect_pop.cli.yields import compact, yield_
from inspect_pop.core.errors import PopError

__all__ = ["UNEXPECTED", "UNUSABLE", "LogUnexpected", "app", "execute", "log_path"]

# ---- cli/app
UNUSABLE = 2  # unusable arguments, nothing to work on, or no place to leave the result

app = typer.Typer(
    name="inspect-pop",
    help="Inspect Package-on-Package solder joints: from a machine's export to a yield record.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Exit status: 0 done, 1 something needs a look, 2 unusable arguments. Each command's help says what it leaves behind.",
)


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version and end.")) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


_COMMANDS = (
    (run, "Inspect boards: tables, a page, records."),
    (hook, "Inspect one board for the line, in one answer."),
    (serve, "Answer the line over HTTP, the model warm."),
    (watch, "Inspect what arrives in a folder."),
    (check, "Tell every fault of exports and labels."),
    (yield_, "First-pass yield and DPMO from a store."),
    (compact, "Keep a store's files few."),
    (simulate, "Make labelled boards with known truth."),
    (train, "Train a model from labelled boards."),
    (evaluate, "Judge a model on labelled boards."),
    (study, "Show every miss and every false call."),
    (decide, "Choose thresholds that keep a promise."),
    (gage, "Judge measurements by repeated exports."),
)
for _command, _summary in _COMMANDS:
    app.command(_command.__name__.strip("_"), short_help=_summary)(_command)
app.add_typer(models, name="models", short_help="Which models there are, and which is in use.")


def execute(arguments: Sequence[str]) -> int:
    """Run one command: a declared error becomes its message and `UNUSABLE`, any other a log entry and `UNEXPECTED`."""
    with LogUnexpected() as log:
        try:
            app(args=list(arguments), prog_name="inspect-pop")
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 0 if end.code is None else UNUSABLE
        except PopError as error:
            print(f"inspect-pop: {error}", file=sys.stderr)
            return UNUSABLE
    return UNEXPECTED if log.happened else 0


# ---- cli/unexpected
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

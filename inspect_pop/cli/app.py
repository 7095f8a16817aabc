"""The application of all commands, and what happens to an error that reaches it."""

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

import typer

from inspect_pop import __version__
from inspect_pop.cli.exports import check, convert, labels, simulate
from inspect_pop.cli.figures import compact, list_quarantine, machines, report_yield
from inspect_pop.cli.inspection import hook, run, serve, watch
from inspect_pop.cli.models import disagreements, evaluate, gage, models, operating_point, study, train
from inspect_pop.cli.recipe import recipe
from inspect_pop.cli.store import outbox, store, users
from inspect_pop.core.errors import PopError
from inspect_pop.core.system import utc_now
from inspect_pop.core.text import escape_controls, hide_passwords

__all__ = ["UNEXPECTED", "UNUSABLE", "LogUnexpected", "app", "execute", "log_path"]

UNUSABLE = 2  # unusable arguments, nothing to work on, or no place to leave the result
# What the system says of a place that a user names, and that cannot be used: no fault of the program.
_UNUSABLE_PLACES = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),
}
UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h: no status that a command uses for a result

app = typer.Typer(
    name="inspect-pop",
    help="Inspect Package-on-Package solder joints: from a machine's export to a yield record.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Exit status: 0 done, 1 something needs attention, 2 unusable arguments. Each command's help describes its output.",
)


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


_COMMANDS = (
    ("run", run, "Inspect boards: tables, pages, records."),
    ("hook", hook, "Inspect one board for the line."),
    ("serve", serve, "Run the inspection service (model preloaded)."),
    ("watch", watch, "Inspect boards that arrive in a folder."),
    ("check", check, "Validate exports and labels."),
    ("convert", convert, "Make exports from a machine's own files."),
    ("yield", report_yield, "Report first-pass yield and DPMO from a store."),
    ("compact", compact, "Merge small Parquet files of a store."),
    ("quarantine", list_quarantine, "List boards that could not be inspected, and close entries."),
    ("simulate", simulate, "Simulate labelled boards with known truth."),
    ("train", train, "Train a model on labelled boards."),
    ("evaluate", evaluate, "Evaluate a model on labelled boards."),
    ("disagreements", disagreements, "List where model and people disagree."),
    ("study", study, "Show every escape and every false call."),
    ("operating-point", operating_point, "Choose thresholds that keep promised error rates."),
    ("gage", gage, "Gage R&R from repeated exports."),
)
for _name, _command, _summary in _COMMANDS:
    app.command(_name, short_help=_summary)(_command)
app.add_typer(outbox, name="outbox", short_help="List, retry and set aside messages to the line.")
app.add_typer(labels, name="labels", short_help="Make labels to train on.")
app.add_typer(store, name="store", short_help="Back up, restore, check and audit a store.")
app.add_typer(users, name="users", short_help="Manage the people who log in.")
app.add_typer(recipe, name="recipe", short_help="Make recipes from pictures, CAD files or ball lists.")
app.add_typer(machines, name="machines", short_help="List, watch and qualify the inspection machines.")
app.add_typer(models, name="models", short_help="List, compare, promote and roll back models.")


def execute(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status.

    A declared error becomes its message and `UNUSABLE`, and so does a file or folder that the system refuses; any other becomes
    a log entry and `UNEXPECTED`.
    """
    with LogUnexpected() as log:
        try:
            app(args=list(arguments), prog_name="inspect-pop")
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 0 if end.code is None else UNUSABLE
        except OSError as error:
            if error.errno not in _UNUSABLE_PLACES or error.filename is None:
                raise
            place = f"inspect-pop: {error.filename}: expected a place that can be read or written, found {error.strerror}."
            print(escape_controls(f"{place} Free or unlock it, or name another."), file=sys.stderr)
            return UNUSABLE
        except PopError as error:
            lines = [escape_controls(line) for line in f"inspect-pop: {error}".split("\n")]
            print("\n".join(lines), file=sys.stderr)
            return UNUSABLE
    return UNEXPECTED if log.happened else 0


class LogUnexpected(AbstractContextManager["LogUnexpected"]):
    """End the block at an unexpected error: one line for the user, the traceback for the log. Interrupts pass through.

    `happened` says whether there was one. Where the log cannot be written, the traceback is printed instead.
    """

    happened = False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        self.happened = True
        text = hide_passwords("".join(traceback.format_exception(kind, error, trace)))
        path = log_path()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as log:
                log.write(f"{utc_now('seconds')}\n{text}\n")
            where = f"The traceback is in {path}. Please report it, and what you did."
        except OSError as failure:
            where = f"The traceback could not be logged ({failure}):\n{text}"
        what = escape_controls(f"inspect-pop: unexpected {type(error).__name__}: {hide_passwords(str(error))}")
        print(f"{what}\n{where}", file=sys.stderr)
        return True


def log_path() -> Path:
    """Return the log of unexpected errors: `inspect-pop/errors.log` in the user's state folder (XDG base directories)."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "inspect-pop" / "errors.log"

"""Arguments and options that several commands share, and helpers for what they print."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inspect_pop.core.text import escape_controls, pluralize

if TYPE_CHECKING:
    from inspect_pop.core.limits import Limits
    from inspect_pop.report.write import ResultsTarget

__all__ = [
    "AsJson",
    "BatchPaths",
    "Confidence",
    "Device",
    "ExistingStore",
    "JobsOption",
    "LabelledPaths",
    "LimitsFile",
    "MaxEscapeRate",
    "MaxFalseCallPpm",
    "ModelDir",
    "ModelsDir",
    "OutDir",
    "Profile",
    "Results",
    "RootDir",
    "StoreUrl",
    "TimeZone",
    "VerifySample",
    "describe_quarantined",
    "name_account",
    "parse_results",
    "pluralize",
    "print_passed_over",
    "print_progress",
    "resolve_limits",
    "say",
]


class Device(StrEnum):
    """Where the network runs."""

    cpu = "cpu"
    cuda = "cuda"


BatchPaths = Annotated[
    list[Path], typer.Argument(metavar="BATCH", help="Folders of inspection exports, or single boards.", show_default=False)
]
LabelledPaths = Annotated[list[Path], typer.Argument(metavar="LABELLED", help="Batches with a labels.csv.", show_default=False)]
OutDir = Annotated[Path, typer.Option("--out", metavar="DIR", help="Output folder (created if missing).", show_default=False)]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="URL", help="Store of records: a file, sqlite:///FILE or postgresql://… [default: DIR/records.db]"
    ),
]
ExistingStore = Annotated[
    str,
    typer.Option(
        "--store", metavar="URL", help="An existing store: a file, sqlite:///FILE or postgresql://…", show_default=False
    ),
]
TimeZone = Annotated[
    str | None,
    typer.Option(
        "--time-zone",
        metavar="ZONE",
        help="The plant's time zone, such as Europe/Berlin: the days of the store's boards are days there. The store keeps it.",
    ),
]
VerifySample = Annotated[
    int | None,
    typer.Option("--verify-sample", metavar="N", min=0, help="Joints of each board that passed and that a person looks at."),
]
ModelsDir = Annotated[
    Path, typer.Option("--models", metavar="DIR", help="Folder of models.", envvar="INSPECT_POP_MODELS", show_default=True)
]
ModelDir = Annotated[Path | None, typer.Option("--model", metavar="DIR", help="Model folder [default: the current model]")]
JobsOption = Annotated[int, typer.Option("--jobs", metavar="N", min=0, help="Number of processes; 0: one per core.")]
LimitsFile = Annotated[Path | None, typer.Option("--limits", metavar="FILE", help="TOML file of limits (see docs/reference.md).")]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile", metavar="NAME", help="Acceptance profile: ipc-a-610 (the default), measure-only, or one of the limits file."
    ),
]
Results = Annotated[
    list[str] | None,
    typer.Option(
        "--results",
        metavar="TEMPLATE=FOLDER",
        help="Write a file for each board by a Jinja template: a file, or defects.csv, repair.xml, board.json; repeatable.",
    ),
]
RootDir = Annotated[
    Path | None, typer.Option("--root", metavar="DIR", help="Folder that recipes must lie inside [default: the batch]")
]
MaxEscapeRate = Annotated[
    float | None,
    typer.Option("--max-escape-rate", metavar="R", help="Promise that at most this share of defects passes, such as 0.01."),
]
MaxFalseCallPpm = Annotated[
    float | None,
    typer.Option("--max-false-call-ppm", metavar="P", help="Promise that at most this many per million good joints fail."),
]
Confidence = Annotated[float, typer.Option("--confidence", metavar="C", help="Confidence level, per promise.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def resolve_limits(file: Path | None, profile: str | None) -> "Limits":
    """Return the limits that `--limits` and `--profile` name, or the defaults. Raises `LimitsFault`."""
    from inspect_pop.core.limits import load_limits

    return load_limits(file, profile)


def parse_results(texts: list[str] | None) -> "tuple[ResultsTarget, ...]":
    """Return the targets that `--results` names. Raises `UsageFault` for one that cannot be used."""
    if not texts:
        return ()
    from inspect_pop.report.write import parse_target

    return tuple(parse_target(text) for text in texts)


def describe_quarantined(path: Path | str, reason: str) -> str:
    """Return one line on a board and what is wrong with it; a reason that begins with the board's path has it once."""
    text = reason if reason.startswith((f"{path}/", f"{path}:")) else f"{path}: {reason}"
    return escape_controls(text)


def say(text: str, *, err: bool = False) -> None:
    """Print one line. Signs in it that a terminal acts upon, line breaks among them, are escaped: names come from outside."""
    typer.echo(escape_controls(text), err=err)


def print_passed_over(paths: list[Path]) -> None:
    """Name on standard error the folders that hold boards and were passed over, because they are hidden or a system's."""
    from inspect_pop.ingest import find_passed_over

    for folder in find_passed_over(paths):
        say(f"passed over: {folder}: a hidden or system folder with boards in it; give it itself to inspect them", err=True)


def print_progress(line: str) -> None:
    """Print one line of progress on standard error; standard output is for the result."""
    print(escape_controls(line), file=sys.stderr, flush=True)


def name_account() -> str:
    """Return who runs the command, for the audit trail: the account of this machine."""
    import getpass

    try:
        return f"{getpass.getuser()} (command)"
    except (OSError, KeyError):
        return "command"

"""Arguments and options that several commands share: one name, one meaning, one help text."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from inspect_pop.core.limits import Limits

__all__ = [
    "AsJson",
    "BatchPaths",
    "Confidence",
    "Device",
    "JobsOption",
    "KeptStore",
    "LabelledPaths",
    "LimitsFile",
    "MaxEscapeRate",
    "MaxFalseCallPpm",
    "ModelDir",
    "ModelsDir",
    "OutDir",
    "Profile",
    "RootDir",
    "StoreUrl",
    "limits_of",
]


class Device(StrEnum):
    """Where the network runs."""

    cpu = "cpu"
    cuda = "cuda"


BatchPaths = Annotated[
    list[Path], typer.Argument(metavar="BATCH", help="Folders of inspection exports, or single boards.", show_default=False)
]
LabelledPaths = Annotated[
    list[Path], typer.Argument(metavar="LABELLED", help="Batches with a labels.csv beside their boards.", show_default=False)
]
OutDir = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Where the result goes; made where it is not there.", show_default=False)
]
StoreUrl = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="The store, as sqlite:///FILE or postgresql://…; default DIR/records.db."),
]
KeptStore = Annotated[
    str, typer.Option("--store", metavar="URL", help="A store that is there: a file or postgresql://…", show_default=False)
]
ModelsDir = Annotated[
    Path, typer.Option("--models", metavar="DIR", help="The folder of models.", envvar="INSPECT_POP_MODELS", show_default=True)
]
ModelDir = Annotated[Path | None, typer.Option("--model", metavar="DIR", help="A model folder; default the released model.")]
JobsOption = Annotated[int, typer.Option("--jobs", metavar="N", min=0, help="Processes; 0: as many as there are cores.")]
LimitsFile = Annotated[Path | None, typer.Option("--limits", metavar="FILE", help="A TOML file of limits (docs/reference.md).")]
Profile = Annotated[str | None, typer.Option("--profile", metavar="NAME", help="A named profile of the limits file.")]
RootDir = Annotated[
    Path | None, typer.Option("--root", metavar="DIR", help="Folder that recipes must lie inside; default the batch itself.")
]
MaxEscapeRate = Annotated[
    float | None,
    typer.Option("--max-escape-rate", metavar="R", help="Promise: at most this share of defects pass, such as 0.01."),
]
MaxFalseCallPpm = Annotated[
    float | None,
    typer.Option("--max-false-call-ppm", metavar="P", help="Promise: at most so many of a million good joints fail."),
]
Confidence = Annotated[float, typer.Option("--confidence", metavar="C", help="Of each promise by itself.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output instead of text.")]


def limits_of(file: Path | None, profile: str | None) -> "Limits":
    """The limits that `--limits` and `--profile` name, or the defaults. Raises `LimitsFault`, `UsageFault`."""
    from inspect_pop.core.errors import UsageFault
    from inspect_pop.core.limits import Limits, load

    if file is not None:
        return load(file, profile)
    if profile is not None:
        raise UsageFault(f"--profile {profile}", expected="a file with that profile", remedy="Name it with --limits.")
    return Limits()

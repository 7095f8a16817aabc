"""Which model of a folder of models is in use: `current.json` names it, with everything that was in use before.

models/current.json      the pointer and its history, replaced in one move
models/NAME/             one model (`classify.model`)
"""

import json
import os
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspect_pop.errors import ModelFault

__all__ = ["POINTER", "Change", "Pointer", "read_pointer", "released", "resolve"]

POINTER = "current.json"
_SCHEMA = "inspect-pop-models/1"


class Change(BaseModel):
    """One change of the model in use: to which, from which, when (ISO 8601), how (`promote`, `rollback`) and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: str
    previous: str | None
    at: str
    action: str
    reason: str


class Pointer(BaseModel):
    """The model in use and every change that led to it, oldest first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: str = Field(default=_SCHEMA, alias="schema", pattern=f"^{_SCHEMA}$")
    current: str = Field(pattern=r"^[^/\\.][^/\\]*$")
    history: tuple[Change, ...] = ()


def read_pointer(root: Path) -> Pointer | None:
    """The pointer of a folder of models; None where it has none. Raises `ModelFault` for one that cannot be read."""
    path = root / POINTER
    try:
        return Pointer.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, ValidationError) as error:
        remedy = "Restore it from a copy, or promote a model anew."
        raise ModelFault(str(path), expected=f"a pointer, {_SCHEMA}", found=str(error), remedy=remedy) from error


def released() -> Path:
    """The model in use where none is named: of the folder in INSPECT_POP_MODELS, else of the one that came with the program.

    That is `models/` beside the package in a working tree, and `share/inspect-pop/models` of an installation. Raises
    `ModelFault` where there is none.
    """
    told = os.environ.get("INSPECT_POP_MODELS")
    tree = Path(__file__).resolve().parents[2] / "models"
    installed = Path(sys.prefix) / "share" / "inspect-pop" / "models"
    return resolve(Path(told) if told else tree if (tree / POINTER).is_file() else installed)


def resolve(folder: Path) -> Path:
    """The model to load: the folder itself where it is a model, else the one that its pointer names.

    Raises `ModelFault` where it is neither, or where the named model is not there.
    """
    if (folder / "card.json").is_file():
        return folder
    pointer = read_pointer(folder)
    if pointer is None:
        remedy = "Name a model's folder, or promote one with `inspect-pop models promote`."
        raise ModelFault(str(folder), expected=f"a model (card.json) or models ({POINTER})", found="neither", remedy=remedy)
    if not (folder / pointer.current / "card.json").is_file():
        raise ModelFault(
            str(folder / pointer.current),
            expected=f"the model that {POINTER} names",
            found="none",
            remedy="Copy it there again, or go back with `inspect-pop models rollback`.",
        )
    return folder / pointer.current

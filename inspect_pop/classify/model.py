"""Read and check a model: a folder with the network, its card, and the scores it was calibrated on.

    models/current.json               the pointer to the current model and its history, replaced in one move
    models/NAME/model.onnx            inputs `images`, `scalars`; outputs `logits` (n, classes), `embedding` (n, e)
    models/NAME/quick.onnx            the same network in 8-bit numbers, for a first pass; optional
    models/NAME/card.json             this module's `Card`: contract, calibration, operating point, digests, metrics
    models/NAME/calibration.parquet   logits and labels of the joints it was calibrated on, for later promises
    models/NAME/README.md             the same for people
    models/NAME/own-…/                the same files of another network, for the machines that it was trained on

Nothing is a pickle, and every file's sha256 stands in the card: a file that was cut or swapped is refused.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inspect_pop.core.classes import CLASSES
from inspect_pop.core.errors import ModelFault, describe_error

__all__ = [
    "CARD_SCHEMA",
    "CONTRACT",
    "NETWORK",
    "NETWORK_8BIT",
    "POINTER",
    "Calibration",
    "Card",
    "Familiarity",
    "LearntPicture",
    "MachineModel",
    "Model",
    "OperatingPoint",
    "Pointer",
    "PointerChange",
    "file_digest",
    "find_current_model",
    "load",
    "read_pointer",
    "resolve",
]

CONTRACT = "joint-inputs/2"  # the layout that `classify.inputs` makes
CARD_SCHEMA = "inspect-pop-model/1"
NETWORK, NETWORK_8BIT = "model.onnx", "quick.onnx"
POINTER = "current.json"
_POINTER_SCHEMA = "inspect-pop-models/1"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Calibration(_Part):
    """Probabilities are softmax(logits / temperature + bias); fitted on boards held out of training."""

    temperature: float = Field(gt=0)
    bias: tuple[float, ...]


class OperatingPoint(_Part):
    """Where verdicts change, in log-odds of 'defective' after calibration: ln((1 - p_good) / p_good).

    Below `pass_below` a joint passes, at `fail_above` and over it fails, between them it goes to review.
    `source` says in words where the two came from.
    """

    pass_below: float
    fail_above: float
    source: str


class Familiarity(_Part):
    """What joints of training look like in the embedding: mean (e,), inverse covariance (e, e), and how far is too far.

    `limit` is on the squared Mahalanobis distance; above it a joint is unlike anything the model was trained on.
    """

    mean: tuple[float, ...]
    precision: tuple[tuple[float, ...], ...]
    limit: float


class LearntPicture(_Part):
    """What the pictures of one machine are like that the model has learnt: for each figure of `measure_picture` the lowest and
    the highest value that counts as known. `source` names the boards.
    """

    machine: str
    method: str
    source: str
    low: dict[str, float]
    high: dict[str, float]


class MachineModel(_Part):
    """The network that a retraining made for one machine: a model folder next to the card, and the sha256 of its card."""

    folder: str
    card: str


class Card(_Part):
    """What a model says of itself."""

    schema_: Literal["inspect-pop-model/1"] = Field(alias="schema")
    name: str
    version: str
    created_at: str
    contract: str
    classes: tuple[str, ...]
    files: dict[str, str]
    calibration: Calibration
    operating_point: OperatingPoint
    familiarity: Familiarity
    pictures: tuple[LearntPicture, ...] = ()  # none: the model does not say what its pictures are like, and none is unfamiliar
    good_scores: tuple[float, ...] = ()  # quantiles of the calibration's good joints' log-odds, at 0, 1, ... 100 %
    metrics: dict[str, Any] = {}
    data: dict[str, Any] = {}
    recipe: dict[str, Any] = {}
    software: str = ""
    measured_on: str = ""
    machines: dict[str, MachineModel] = {}  # by machine (`BoardExport.machine`): what decides there instead of this network

    @model_validator(mode="after")
    def _check_bias(self) -> Self:
        """Compare with the card's own classes, so that a model of another set of classes is refused as that."""
        if len(self.calibration.bias) != len(self.classes):
            raise ValueError(f"calibration.bias: expected one of each of {len(self.classes)} classes")
        return self


@dataclass(frozen=True)
class Model:
    """A checked model folder. `digest` is the sha256 of the card, which holds those of all other files.

    `network_8bit` is the same network in 8-bit numbers, or empty. `machine_models` has, by machine, the model that decides
    there instead; its `digest` is that of the whole.
    """

    folder: Path
    card: Card
    digest: str
    network: bytes
    network_8bit: bytes = b""
    machine_models: Mapping[str, "Model"] = field(default_factory=dict)

    def for_machine(self, machine: str) -> "Model":
        """Return what decides on boards of this machine: its machine model where it has one, else this model."""
        return self.machine_models.get(machine, self)


class PointerChange(BaseModel):
    """One change of the current model: to which, from which, when (ISO 8601), how (`promote`, `rollback`) and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: str
    previous: str | None
    at: str
    action: str
    reason: str


class Pointer(BaseModel):
    """The current model and every change that led to it, oldest first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: str = Field(default=_POINTER_SCHEMA, alias="schema", pattern=f"^{_POINTER_SCHEMA}$")
    current: str = Field(pattern=r"^[^/\\.][^/\\]*$")
    history: tuple[PointerChange, ...] = ()


def load(folder: Path | None) -> Model:
    """Read and check a model.

    Parameters
    ----------
    folder
        A model folder; or a folder of models, of which the current one is taken; or None for `find_current_model`.

    Raises
    ------
    ModelFault
        The folder or a file is missing, the card is not as it should be, a digest differs, or the model was made for
        another layout of inputs.
    """
    if folder is None:
        folder = find_current_model()
    elif (folder / POINTER).is_file():
        folder = resolve(folder)
    try:
        text = (folder / "card.json").read_bytes()
    except OSError as error:
        raise ModelFault(
            f"model {folder}",
            expected="a folder with card.json",
            found=describe_error(error),
            remedy="Name a model folder, as `inspect-pop models list` shows them.",
        ) from error
    try:
        card = Card.model_validate(json.loads(text))
    except (ValidationError, ValueError) as error:
        raise ModelFault(f"{folder / 'card.json'}", expected=CARD_SCHEMA, found=str(error)) from error
    if card.contract != CONTRACT or card.classes != CLASSES:
        raise ModelFault(
            f"model {card.name} {card.version}",
            expected=f"contract {CONTRACT} and classes {CLASSES}",
            found=f"{card.contract} and {card.classes}",
            remedy="Train it again with this version of the software, or use the version that made it.",
        )
    networks = {NETWORK: b"", NETWORK_8BIT: b""}
    for name, digest in card.files.items():
        content = _read_checked(folder, name, digest)
        networks |= {name: content} if name in networks else {}
    if not networks[NETWORK]:
        raise ModelFault(f"model {folder}", expected=f"{NETWORK} among the card's files", found=str(sorted(card.files)))
    whole = hashlib.sha256(text).hexdigest()
    by_entry = {
        entry: replace(_load_machine_model(folder, entry), digest=whole) for entry in dict.fromkeys(card.machines.values())
    }
    by_machine = {machine: by_entry[entry] for machine, entry in card.machines.items()}
    return Model(folder, card, whole, networks[NETWORK], networks[NETWORK_8BIT], by_machine)


def file_digest(content: bytes) -> str:
    """Return the sha256 of a file's content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _load_machine_model(folder: Path, entry: MachineModel) -> Model:
    """Load the model of a machine, below the card that names it."""
    _check_plain_name(folder, entry.folder, "a folder beside the card")
    model = load(folder / entry.folder)
    if model.digest != entry.card:
        raise ModelFault(
            f"{folder / entry.folder / 'card.json'}",
            expected=f"sha256 {entry.card}",
            found=model.digest,
            remedy="The file was changed or cut; copy the model again.",
        )
    return model


def _read_checked(folder: Path, name: str, digest: str) -> bytes:
    _check_plain_name(folder, name, "a file beside the card")
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise ModelFault(f"{folder / name}", expected="a file that the card names", found=describe_error(error)) from error
    if file_digest(content) != digest:
        raise ModelFault(
            f"{folder / name}",
            expected=f"sha256 {digest}",
            found=file_digest(content),
            remedy="The file was changed or cut; copy the model again.",
        )
    return content


def _check_plain_name(folder: Path, name: str, expected: str) -> None:
    if Path(name).name != name:
        raise ModelFault(f"model {folder}: {name}", expected=expected, remedy="The card was changed; copy the model again.")


def read_pointer(root: Path) -> Pointer | None:
    """Read the pointer of a folder of models; None where it has none. Raises `ModelFault` for one that cannot be read."""
    path = root / POINTER
    try:
        return Pointer.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, ValidationError) as error:
        remedy = "Restore it from a copy, or promote a model again."
        raise ModelFault(
            str(path), expected=f"a pointer, {_POINTER_SCHEMA}", found=describe_error(error), remedy=remedy
        ) from error


def find_current_model() -> Path:
    """Find the model to use where none is named: the current one of the folder in INSPECT_POP_MODELS, or of the program's.

    The program's folder is `models/` beside the package in a working tree, and `share/inspect-pop/models` of an
    installation. Raises `ModelFault` where there is none.
    """
    chosen = os.environ.get("INSPECT_POP_MODELS")
    tree = Path(__file__).resolve().parents[2] / "models"
    installed = Path(sys.prefix) / "share" / "inspect-pop" / "models"
    return resolve(Path(chosen) if chosen else tree if (tree / POINTER).is_file() else installed)


def resolve(folder: Path) -> Path:
    """Return the model to load: the folder itself where it is a model, else the current one that its pointer names.

    Raises `ModelFault` where it is neither, or where the current model is missing.
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

"""The released model: a folder with the network, its card, and the scores it was calibrated on.

    models/NAME/model.onnx            inputs `images`, `scalars`; outputs `logits` (n, 5), `embedding` (n, e)
    models/NAME/quick.onnx            the same network in 8-bit numbers, for a first look; a model may do without
    models/NAME/card.json             this module's `Card`: contract, calibration, operating point, digests, metrics
    models/NAME/calibration.parquet   logits and labels of the joints it was calibrated on, for later promises
    models/NAME/README.md             the same for people

Nothing is a pickle, and every file's sha256 stands in the card: a file that was cut or swapped is refused.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspect_pop.classify.inputs import CONTRACT
from inspect_pop.classify.released import POINTER, released, resolve
from inspect_pop.errors import ModelFault
from inspect_pop.joints import CLASSES

__all__ = [
    "CARD_SCHEMA",
    "NETWORK",
    "QUICK",
    "Calibration",
    "Card",
    "Familiarity",
    "Model",
    "OperatingPoint",
    "file_digest",
    "load",
]

CARD_SCHEMA = "inspect-pop-model/1"
NETWORK, QUICK = "model.onnx", "quick.onnx"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Calibration(_Part):
    """Probabilities are softmax(logits / temperature + bias); fitted on boards held apart from training."""

    temperature: float = Field(gt=0)
    bias: tuple[float, float, float, float, float]


class OperatingPoint(_Part):
    """Where verdicts change, in log-odds of 'defective' after calibration: ln((1 - p_good) / p_good).

    Below `pass_below` a joint passes, at `fail_above` and over it fails, between them a person looks.
    `source` says in words where the two came from.
    """

    pass_below: float
    fail_above: float
    source: str


class Familiarity(_Part):
    """What joints of training look like in the embedding: mean (e,), inverse covariance (e, e), and how far is too far.

    `limit` is on the squared Mahalanobis distance; above it a joint is unlike anything learnt from.
    """

    mean: tuple[float, ...]
    precision: tuple[tuple[float, ...], ...]
    limit: float


class Card(_Part):
    """What a released model says of itself."""

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
    good_scores: tuple[float, ...] = ()  # quantiles of the calibration's good joints' log-odds, at 0, 1, ... 100 %
    metrics: dict[str, Any] = {}
    data: dict[str, Any] = {}
    recipe: dict[str, Any] = {}
    software: str = ""
    measured_on: str = ""


@dataclass(frozen=True)
class Model:
    """A checked model folder. `digest` is the sha256 of the card, which holds those of all other files.

    `quick` is the same network in 8-bit numbers, or empty.
    """

    folder: Path
    card: Card
    digest: str
    network: bytes
    quick: bytes = b""


def load(folder: Path | None) -> Model:
    """Read and check a model folder; of a folder of models the one in use, and for None the released one.

    Raises
    ------
    ModelFault
        The folder or a file is missing, the card is not as it should be, a digest differs, or the model was made for
        another layout of inputs.
    """
    if folder is None:
        folder = released()
    elif (folder / POINTER).is_file():
        folder = resolve(folder)
    try:
        text = (folder / "card.json").read_bytes()
    except OSError as error:
        raise ModelFault(
            f"model {folder}",
            expected="a folder with card.json",
            found=str(error),
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
            remedy="Train it again with this version of the software, or take the version that made it.",
        )
    networks = {NETWORK: b"", QUICK: b""}
    for name, digest in card.files.items():
        content = _checked(folder, name, digest)
        networks |= {name: content} if name in networks else {}
    if not networks[NETWORK]:
        raise ModelFault(f"model {folder}", expected=f"{NETWORK} among the card's files", found=str(sorted(card.files)))
    return Model(folder, card, hashlib.sha256(text).hexdigest(), networks[NETWORK], networks[QUICK])


def file_digest(content: bytes) -> str:
    """sha256 of a file's content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _checked(folder: Path, name: str, digest: str) -> bytes:
    if Path(name).name != name:
        raise ModelFault(
            f"model {folder}: {name}", expected="a file beside the card", remedy="The card was changed; take the model again."
        )
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise ModelFault(f"{folder / name}", expected="a file that the card names", found=str(error)) from error
    if file_digest(content) != digest:
        raise ModelFault(
            f"{folder / name}",
            expected=f"sha256 {digest}",
            found=file_digest(content),
            remedy="The file was changed or cut; take the model again.",
        )
    return content

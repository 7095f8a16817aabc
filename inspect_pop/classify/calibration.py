"""The joints that a model was calibrated on, kept with it: for promises that are asked for after its release.

`calibration.parquet` holds one row a joint: `serial`, `machine`, `refdes`, `interface`, `ball`, `label`, and
`logit_<class>` as the network gave them, before calibration, to the 64th.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.model import Model
from inspect_pop.classify.promise import Promise, choose
from inspect_pop.classify.session import log_odds
from inspect_pop.errors import ModelFault
from inspect_pop.joints import CLASSES

__all__ = ["CALIBRATION", "CalibrationJoints", "promise_of", "read_calibration", "write_calibration"]

CALIBRATION = "calibration.parquet"
_TEXT = ("serial", "machine", "refdes", "interface", "ball", "label")
# Logits are kept to the 64th: finer than any difference between thresholds that matters, in a third of the bytes.
_STEPS = np.float32(64)


@dataclass(frozen=True)
class CalibrationJoints:
    """`logits` (n, 5) float32, `label` (n,) index in `CLASSES`, `serial` and `machine` (n,) text."""

    logits: NDArray[np.float32]
    label: NDArray[np.int64]
    serial: NDArray[np.object_]
    machine: NDArray[np.object_]


def write_calibration(path: Path, text: Mapping[str, Sequence[str]], logits: NDArray[np.floating]) -> None:
    """Keep joints: `text` has the columns serial, machine, refdes, interface, ball, label."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {name: pa.array(list(text[name]), pa.string()) for name in _TEXT}
    kept = np.round(logits.astype(np.float32) * _STEPS) / _STEPS
    columns |= {f"logit_{c}": pa.array(kept[:, k]) for k, c in enumerate(CLASSES)}
    table = pa.table(columns)
    numbers = [name for name in table.column_names if name not in _TEXT]
    pq.write_table(
        table, path, compression="zstd", compression_level=19, use_dictionary=list(_TEXT), use_byte_stream_split=numbers
    )


def read_calibration(model: Model) -> CalibrationJoints:
    """The joints of a checked model. Raises `ModelFault` where it keeps none, or they are not as they should be."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = model.folder / CALIBRATION
    if CALIBRATION not in model.card.files:
        raise ModelFault(
            f"model {model.card.name}", expected=CALIBRATION, found="none", remedy="Train it again to promise anything with it."
        )
    try:
        table = pq.read_table(path)
        logits = np.stack([table[f"logit_{c}"].to_numpy() for c in CLASSES], axis=1).astype(np.float32)
        label = np.array([CLASSES.index(name) for name in table["label"].to_pylist()], np.int64)
        serial, machine = (np.array(table[name].to_pylist(), object) for name in ("serial", "machine"))
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise ModelFault(str(path), expected="calibration joints", found=str(error), remedy="Take the model again.") from error
    return CalibrationJoints(logits, label, serial, machine)


def promise_of(
    model: Model,
    *,
    max_escape_rate: float | None = None,
    max_false_call_ppm: float | None = None,
    confidence: float = 0.95,
) -> Promise:
    """The operating point of a model that keeps a promise; the model's own thresholds where nothing is promised.

    The bounds hold for boards like those of the calibration. Raises `PromiseRefused`, `ModelFault`.
    """
    joints = read_calibration(model)
    calibration = model.card.calibration
    scores = log_odds(joints.logits / calibration.temperature + np.asarray(calibration.bias, np.float32))
    return choose(
        scores,
        joints.label != CLASSES.index("good"),
        max_escape_rate=max_escape_rate,
        max_false_call_ppm=max_false_call_ppm,
        confidence=confidence,
        boards=joints.serial.astype(str),
        default=model.card.operating_point,
    )

"""An inspector that does what a board's export.json tells it: for tests of everything around the inspection."""

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from inspect_pop.core.errors import FileFault, ManifestFault, ModelFault
from inspect_pop.core.inspection import Inspection
from tests.factories import make_inspection


def make(model: Path | None, limits: Path | None) -> tuple[Callable[[Path, Path], tuple[Inspection, None]], str]:
    """A maker for `worker`. A model folder holds `digest`; one without cannot be loaded."""
    digest = "released"
    if model is not None:
        if not (model / "digest").is_file():
            raise ModelFault(str(model), expected="a model folder")
        digest = (model / "digest").read_text()

    def inspect(path: Path, root: Path) -> tuple[Inspection, None]:
        if not path.resolve().is_relative_to(root.resolve()):
            raise FileFault(str(path), expected="a path in its root")
        try:
            told = json.loads((path / "export.json").read_text())
        except (OSError, ValueError) as error:
            raise ManifestFault(str(path), expected="export.json", found=type(error).__name__) from error
        act(told)
        record = hashlib.sha256(f"{told['serial']}/{digest}/{told.get('scan', 0)}".encode()).hexdigest()
        return make_inspection(
            told["serial"], defects=told.get("defects"), reviews=told.get("reviews"), record=record, model_digest=digest
        ), None

    return inspect, digest


def act(told: dict[str, object]) -> None:
    """What else the export asks for: to take long, to print, to crash, to be killed."""
    if "print" in told:
        print(told["print"])
    if "refuse" in told:
        raise ManifestFault("export.json", expected="what the format says", found=str(told["refuse"]))
    if "raise" in told:
        raise ZeroDivisionError(str(told["raise"]))
    if "die" in told:
        os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(float(str(told.get("seconds", 0))))


def write_board(folder: Path, serial: str, **told: object) -> Path:
    """A board's folder as the fake inspector reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "export.json").write_text(json.dumps({"serial": serial, **told}))
    return folder

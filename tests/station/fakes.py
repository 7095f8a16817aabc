"""An inspector that does what a board's export.json says: for tests of everything around the inspection."""

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from inspect_pop.core.errors import FileFault, ManifestFault, ModelFault
from inspect_pop.core.inspection import Inspection
from inspect_pop.station.contract import JudgingOptions, Rules
from tests.factories import make_inspection


def make_inspector(options: JudgingOptions) -> tuple[Callable[[Path, Path], tuple[Inspection, None]], Rules]:
    """An inspector factory for `worker`. A model folder holds `digest`; one without cannot be loaded.

    By limits that say `strict`, every board is refused.
    """
    digest, limits = "released", Path(options.limits).read_text() if options.limits else ""
    if options.model is not None:
        model = Path(options.model)
        if not (model / "digest").is_file():
            raise ModelFault(str(model), expected="a model folder")
        digest = (model / "digest").read_text()

    def inspect(path: Path, root: Path) -> tuple[Inspection, None]:
        if not path.resolve().is_relative_to(root.resolve()):
            raise FileFault(str(path), expected="a path in its root")
        try:
            content = json.loads((path / "export.json").read_text())
        except (OSError, ValueError) as error:
            raise ManifestFault(str(path), expected="export.json", found=type(error).__name__) from error
        act(content)
        if limits == "strict":
            raise ManifestFault(str(path), expected="a board within strict limits", found="another one")
        record = hashlib.sha256(f"{content['serial']}/{digest}/{content.get('scan', 0)}".encode()).hexdigest()
        return make_inspection(
            content["serial"], defects=content.get("defects"), reviews=content.get("reviews"), record=record, model_digest=digest
        ), None

    return inspect, Rules(digest, limits, options.profile or "", options.max_escape_rate, options.max_false_call_ppm)


def act(content: dict[str, object]) -> None:
    """Do what the export asks for besides: to take long, to need too much memory, to print, to crash, to be killed."""
    if "memory" in content:
        raise MemoryError
    if "print" in content:
        print(content["print"])
    if "refuse" in content:
        raise ManifestFault("export.json", expected="what the format says", found=str(content["refuse"]))
    if "raise" in content:
        raise ZeroDivisionError(str(content["raise"]))
    if "die" in content:
        os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(float(str(content.get("seconds", 0))))


def write_board(folder: Path, serial: str, **content: object) -> Path:
    """A board's folder as the fake inspector reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "export.json").write_text(json.dumps({"serial": serial, **content}))
    return folder

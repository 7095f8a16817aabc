"""The setup of the station that keeps a store: by which model, limits, profile and thresholds it judges, and from which roots.

`serve` and `watch` leave it next to the store when they start, and again when the service takes another model. A hook that
inspects without the service uses exactly this, or answers 'could not inspect'. A service that starts again goes on with a
model that it took by request.

This module imports the standard library only: the hook process imports it.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inspect_pop.core.atomic import atomic_file
from inspect_pop.core.errors import ModelFault, StoreFault, describe_error
from inspect_pop.station.contract import JudgingOptions, locate_setup_file

__all__ = ["StationSetup", "freeze_limits", "make_rules_fault", "read_setup", "write_file", "write_setup"]

SCHEMA = "inspect-pop-station/1"
_MODE = 0o640
_REMEDY = "Start the service again; it writes the file. To begin anew, delete the file first."


@dataclass(frozen=True)
class StationSetup:
    """How a station judges.

    Attributes:
        options: What an inspecting process loads.
        rules: What it must then judge by (`contract.Rules`): digests of model and limits, profile, operating point.
        roots: Folders that a board's files must lie in; empty: any.
        start_model: The model folder that the service was started with.
        start_digest: The digest of its card at that time.
    """

    options: JudgingOptions
    rules: dict[str, Any]
    roots: tuple[str, ...] = ()
    start_model: str | None = None
    start_digest: str = ""


def read_setup(store: str) -> StationSetup | None:
    """Read the setup of the station that keeps a store; None if no station ever did.

    Raises:
        StoreFault: There is a setup, and it cannot be read. Nothing may be inspected by guess then.
    """
    file = locate_setup_file(store)
    try:
        if file is None:
            return None
        value = json.loads(file.read_bytes())
        if value["schema"] != SCHEMA:
            raise ValueError(f"schema {value['schema']!r}")
        options = JudgingOptions.from_dict(value["options"])
        rules, roots = dict(value["rules"]), tuple(map(str, value["roots"]))
        return StationSetup(options, rules, roots, value["start_model"], str(value["start_digest"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        found = describe_error(error)
        raise StoreFault(str(file), expected=f"the station's setup, {SCHEMA}", found=found, remedy=_REMEDY) from error


def write_setup(store: str, setup: StationSetup) -> None:
    """Write the setup of the station that keeps a store. Raises `StoreFault`."""
    file = locate_setup_file(store)
    if file is None:
        raise StoreFault("the station's setup", expected="a home folder to write it to", remedy="Set XDG_STATE_HOME.")
    try:
        write_file(file, json.dumps({"schema": SCHEMA, **asdict(setup)}, indent=1), _MODE)
    except OSError as error:
        raise StoreFault(str(file), expected="a file that can be written", found=describe_error(error)) from error


def write_file(path: Path, text: str, mode: int) -> None:
    """Write a text file atomically that has its mode from the first byte on. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, durable=True) as part:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
        part.write_text(text, encoding="utf-8")


def freeze_limits(store: str, limits: Path) -> Path:
    """Copy a limits file next to the setup, and return the copy: an edit counts from the next start on, for all at once.

    Raises:
        StoreFault: The copy cannot be written, or the file cannot be read.
    """
    file = locate_setup_file(store)
    if file is None:
        return limits.absolute()
    copy = file.with_name(file.name.removesuffix(".json") + "-limits.toml")
    try:
        write_file(copy, limits.read_text(encoding="utf-8"), _MODE)
    except (OSError, UnicodeDecodeError) as error:
        raise StoreFault(
            str(limits), expected="limits that can be copied next to the store", found=describe_error(error)
        ) from error
    return copy.absolute()


def make_rules_fault(name: str, expected: str, found: str) -> ModelFault:
    """Return the fault of a process that would judge by other rules than its station."""
    remedy = "Restart the service to judge by what is there now, or put back what was there."
    return ModelFault(f"the station's {name}", expected=expected or "the default", found=found or "the default", remedy=remedy)

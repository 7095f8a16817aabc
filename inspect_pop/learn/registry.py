"""The models of a folder: which there are, how they compare, which is in use, and the way back.

Nothing is deleted or overwritten: a promotion moves the pointer, a rollback moves it back, and both are recorded.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspect_pop.classify.model import Card, load
from inspect_pop.classify.released import POINTER, Change, Pointer, read_pointer
from inspect_pop.errors import ModelFault

__all__ = ["Entry", "compare", "entries", "promote", "rollback"]

# What two models are compared by: a path in the card's metrics, and whether more is better.
_COMPARED = (
    ("escape_rate", False),
    ("escape_upper95", False),
    ("false_call_ppm", False),
    ("review_share", False),
    ("exact_label_of_defects.rate", True),
    *((f"recall.{c}.rate", True) for c in ("good", "bridged", "open", "starved", "head_in_pillow")),
    ("calibration.expected_error", False),
)


@dataclass(frozen=True)
class Entry:
    """One model of the folder. `fault` says why it cannot be used; `card` is None then."""

    name: str
    current: bool
    card: Card | None
    fault: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        card = self.card
        about = {"version": card.version, "created_at": card.created_at, "metrics": card.metrics} if card else {}
        return {"name": self.name, "current": self.current, "fault": self.fault, **about}


def entries(root: Path) -> list[Entry]:
    """Every model folder under `root` by name, checked whole; one that is damaged is listed with its fault."""
    pointer = read_pointer(root)
    current = pointer.current if pointer else ""
    try:
        folders = sorted(p for p in root.iterdir() if (p / "card.json").exists())
    except OSError as error:
        raise ModelFault(str(root), expected="a folder of models", found=str(error)) from error
    return [_entry(folder, folder.name == current) for folder in folders]


def compare(root: Path, first: str, second: str) -> list[dict[str, Any]]:
    """Rows of `figure`, `first`, `second`, `better` (a name, or empty where equal or unknown) from the two cards' metrics.

    Cards hold figures of different boards unless both were judged together; `boards` says on how many.
    """
    cards = [_model(root, name).metrics for name in (first, second)]
    rows: list[dict[str, Any]] = [
        {"figure": "boards", "first": _at(cards[0], "boards"), "second": _at(cards[1], "boards"), "better": ""}
    ]
    for path, more in _COMPARED:
        a, b = (_at(metrics, path) for metrics in cards)
        better = "" if a is None or b is None or a == b else first if (a > b) == more else second
        rows.append({"figure": path, "first": a, "second": b, "better": better})
    return rows


def promote(root: Path, name: str, *, at: str, reason: str) -> Pointer:
    """Take a model into use. Raises `ModelFault` where it cannot be loaded; the one in use stays then.

    Parameters
    ----------
    at
        Now, as ISO 8601.
    reason
        Why, for the record: the gates' answers, or a person's words.
    """
    _model(root, name)
    return _move(root, name, "promote", at, reason)


def rollback(root: Path, *, at: str, reason: str) -> Pointer:
    """Back to the model that was in use before; once more goes one further back. Raises `ModelFault` where there is none."""
    pointer = read_pointer(root)
    before = _before(pointer) if pointer else None
    if pointer is None or before is None:
        raise ModelFault(str(root), expected="a model that was in use before", found="none", remedy="Promote one by name.")
    _model(root, before)
    return _move(root, before, "rollback", at, reason)


def _before(pointer: Pointer) -> str | None:
    """What a rollback returns to: each rollback takes back one promotion."""
    stack: list[str | None] = []
    for change in pointer.history:
        if change.action == "rollback":
            stack.pop()
        else:
            stack.append(change.previous)
    return stack[-1] if stack else None


def _move(root: Path, name: str, action: str, at: str, reason: str) -> Pointer:
    old = read_pointer(root)
    change = Change(to=name, previous=old.current if old else None, at=at, action=action, reason=reason)
    pointer = Pointer(current=name, history=(*(old.history if old else ()), change))
    part = root / f"{POINTER}.{os.getpid()}.part"
    with part.open("w", encoding="utf-8") as file:
        file.write(json.dumps(pointer.model_dump(by_alias=True), indent=1))
        file.flush()
        os.fsync(file.fileno())
    part.replace(root / POINTER)
    return pointer


def _entry(folder: Path, current: bool) -> Entry:
    try:
        return Entry(folder.name, current, load(folder).card)
    except ModelFault as fault:
        return Entry(folder.name, current, None, str(fault))


def _model(root: Path, name: str) -> Card:
    if not name or Path(name).name != name:
        raise ModelFault(f"model {name!r}", expected=f"the name of a folder in {root}", found="a path", remedy="Give its name.")
    return load(root / name).card


def _at(metrics: dict[str, Any], path: str) -> float | None:
    value: Any = metrics
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, int | float) else None

"""Whether a new model may take the old one's place: rules read from `training/gates.toml`, each with its answer in words.

Old and new are judged on the same golden boards, which neither has learnt from. A rule speaks against the new model only
where the old one's interval does not explain the difference: chance alone must not hold a model back, nor must a set too
small to see harm let one through.

The models of a folder: which there are, how they compare, which is in use, and the way back.

Nothing is deleted or overwritten: a promotion moves the pointer, a rollback moves it back, and both are recorded.
"""

import json
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspect_pop.classify.model import POINTER, Card, Change, Pointer, load, read_pointer
from inspect_pop.core.errors import LimitsFault, ModelFault
from inspect_pop.core.joint_table import CLASSES
from inspect_pop.core.statistics import percent

__all__ = ["Entry", "Gate", "Gates", "compare", "entries", "load_gates", "pass_gates", "promote", "rollback"]


# ---- learn/gates
class Gates(BaseModel):
    """The rules; a value of `gates.toml` replaces the default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    least_boards: int = Field(default=1, ge=1, description="golden boards")
    least_good: int = Field(default=200, ge=1, description="golden joints that are good")
    least_defects: int = Field(default=8, ge=1, description="golden joints that are defective")
    largest_escape_rate: float = Field(default=0.1, ge=0, le=1, description="of the new model, whatever the old one does")
    largest_false_call_ppm: float = Field(default=20_000, ge=0, description="of the new model, whatever the old one does")
    largest_review_share: float = Field(default=0.1, ge=0, le=1, description="of the new model, unless the old one's is larger")
    largest_calibration_error: float = Field(
        default=0.02, ge=0, le=1, description="of the new model, unless the old one's is larger"
    )


@dataclass(frozen=True)
class Gate:
    """One rule: its name, whether the new model passes it, and why in words."""

    name: str
    passed: bool
    said: str


def load_gates(path: Path) -> Gates:
    """Rules from a TOML file. Raises `LimitsFault` for a file that cannot be read, an unknown key or an impossible value."""
    try:
        return Gates.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise LimitsFault(str(path), expected="promotion gates", found=str(error)) from error


def pass_gates(gates: Gates, new: dict[str, Any], old: dict[str, Any] | None) -> tuple[Gate, ...]:
    """Every rule's answer. `new` and `old` are evaluations (`outcomes.judge`) on the same boards; None: there is no old model."""
    answers = [
        *_large_enough(gates, new),
        _at_most("escapes", new["escape_rate"], gates.largest_escape_rate),
        _at_most("false calls", _share(new["false_call_ppm"]), gates.largest_false_call_ppm / 1e6),
        _reviewed(gates, new, old),
        _calibrated(gates, new, old),
    ]
    if old is not None:
        answers += [_not_lower(f"recall of {c}", new["recall"][c], old["recall"][c]) for c in CLASSES]
        answers += [_not_higher(name, new[key], old[key]) for name, key in (("escapes", "escape"), ("false calls", "false_call"))]
    return tuple(answers)


def _large_enough(gates: Gates, new: dict[str, Any]) -> list[Gate]:
    """A set on which harm would show."""
    good = new["joints"] - new["defects"]
    counts = (
        ("golden boards", new["boards"], gates.least_boards),
        ("golden good joints", good, gates.least_good),
        ("golden defects", new["defects"], gates.least_defects),
    )
    return [Gate(name, have >= least, f"{have}, at least {least} asked") for name, have, least in counts]


def _at_most(name: str, rate: float | None, limit: float) -> Gate:
    if rate is None:
        return Gate(f"{name} in all", False, "nothing to count them on")
    return Gate(f"{name} in all", rate <= limit, f"{percent(rate)}, at most {percent(limit)} asked")


def _reviewed(gates: Gates, new: dict[str, Any], old: dict[str, Any] | None) -> Gate:
    """Where people saw more than the limit already, no more than chance may add."""
    limit = gates.largest_review_share
    if old is not None and (old["review_share"] or 0.0) > limit:
        limit = float(old["review"]["high"])
    return _at_most("review", new["review_share"], limit)


def _calibrated(gates: Gates, new: dict[str, Any], old: dict[str, Any] | None) -> Gate:
    error, before = new["calibration"]["expected_error"], old["calibration"]["expected_error"] if old else None
    if error is None:
        return Gate("calibration", False, "no joint was decided")
    limit = max(gates.largest_calibration_error, before or 0.0)
    return Gate("calibration", error <= limit, f"expected calibration error {error:.4f}, at most {limit:.4f} asked")


def _not_lower(name: str, new: dict[str, Any], old: dict[str, Any]) -> Gate:
    if old["rate"] is None or new["rate"] is None:
        return Gate(name, True, "no such joints among the golden ones")
    said = f"{percent(new['rate'])} after {percent(old['rate'])} (at least {percent(old['low'])})"
    return Gate(name, new["rate"] >= old["low"], said)


def _not_higher(name: str, new: dict[str, Any], old: dict[str, Any]) -> Gate:
    if old["rate"] is None or new["rate"] is None:
        return Gate(f"{name} against the old model", True, "no such joints among the golden ones")
    said = f"{percent(new['rate'])} after {percent(old['rate'])} (at most {percent(old['high'])})"
    return Gate(f"{name} against the old model", new["rate"] <= old["high"], said)


def _share(ppm: float | None) -> float | None:
    return None if ppm is None else ppm / 1e6


# ---- learn/registry
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

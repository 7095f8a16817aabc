"""Whether a new model may replace the current one (gates), and which model of a folder is the current one.

Gates are rules read from `training/gates.toml`; each answers in words. Old and new model are judged on the same golden
boards, which neither was trained on. A rule rejects the new model only if the old one's interval does not explain the
difference: chance alone must not hold a model back, nor may a set that is too small to show harm let one through.

Promotion and rollback move the pointer of a folder of models and record it. No model is deleted or overwritten.
"""

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspect_pop.classify.model import POINTER, Card, Pointer, PointerChange, load, read_pointer
from inspect_pop.core import atomic
from inspect_pop.core.classes import CLASSES
from inspect_pop.core.errors import LimitsFault, ModelFault, describe_error
from inspect_pop.core.statistics import percent

__all__ = [
    "Gate",
    "Gates",
    "ModelEntry",
    "check_gates",
    "compare",
    "list_models",
    "load_gates",
    "promote",
    "rollback",
    "were_judged_together",
]

# Figures by which two models are compared: the path in a card's metrics, and whether more is better.
_COMPARED = (
    ("escape_rate", False),
    ("escape_upper95", False),
    ("false_call_ppm", False),
    ("review_share", False),
    ("exact_label_of_defects.rate", True),
    *((f"recall.{c}.rate", True) for c in CLASSES),
    ("calibration.expected_error", False),
)


class Gates(BaseModel):
    """The limits of the rules; a value of `gates.toml` replaces the default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    least_boards: int = Field(default=1, ge=1, description="golden boards")
    least_good: int = Field(default=200, ge=1, description="golden joints that are good")
    least_defects: int = Field(default=8, ge=1, description="golden joints that are defective")
    largest_escape_rate: float = Field(default=0.1, ge=0, le=1, description="of the new model, whatever the old one's is")
    largest_false_call_ppm: float = Field(default=20_000, ge=0, description="of the new model, whatever the old one's is")
    largest_review_share: float = Field(default=0.1, ge=0, le=1, description="of the new model, unless the old one's is larger")
    largest_calibration_error: float = Field(
        default=0.02, ge=0, le=1, description="of the new model, unless the old one's is larger"
    )


@dataclass(frozen=True)
class Gate:
    """The answer of one rule: its name, whether the new model passes, and why in words."""

    name: str
    passed: bool
    explanation: str


def load_gates(path: Path) -> Gates:
    """Read gates from a TOML file. Raises `LimitsFault` for a file that cannot be read, an unknown key or an impossible value."""
    try:
        return Gates.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise LimitsFault(str(path), expected="promotion gates", found=describe_error(error)) from error


def check_gates(gates: Gates, new: dict[str, Any], old: dict[str, Any] | None) -> tuple[Gate, ...]:
    """Return every rule's answer.

    `new` and `old` are evaluations (`outcomes.judge`) on the same boards; `old` is None if there is no old model.
    """
    counts = (  # a set on which harm would show
        ("golden boards", new["boards"], gates.least_boards),
        ("golden good joints", new["joints"] - new["defects"], gates.least_good),
        ("golden defects", new["defects"], gates.least_defects),
    )
    answers = [Gate(name, have >= least, f"{have}, at least {least} required") for name, have, least in counts]
    calls = None if new["false_call_ppm"] is None else new["false_call_ppm"] / 1e6
    review = gates.largest_review_share
    if old is not None and (old["review_share"] or 0.0) > review:
        review = float(old["review"]["high"])  # if people saw more than the limit already, no more than chance may add
    answers += [
        _check_limit("escapes", new["escape_rate"], gates.largest_escape_rate),
        _check_limit("false calls", calls, gates.largest_false_call_ppm / 1e6),
        _check_limit("review", new["review_share"], review),
    ]
    error, before = new["calibration"]["expected_error"], old["calibration"]["expected_error"] if old else None
    if error is None:
        answers.append(Gate("calibration", False, "no joint was decided"))
    else:
        limit = max(gates.largest_calibration_error, before or 0.0)
        explanation = f"expected calibration error {error:.4f}, at most {limit:.4f} allowed"
        answers.append(Gate("calibration", error <= limit, explanation))
    if old is not None:
        answers += [_compare_rates(f"recall of {c}", new["recall"][c], old["recall"][c], more_is_better=True) for c in CLASSES]
        for name, key in (("escapes", "escape"), ("false calls", "false_call")):
            answers.append(_compare_rates(f"{name} against the old model", new[key], old[key], more_is_better=False))
    return tuple(answers)


def _check_limit(name: str, rate: float | None, limit: float) -> Gate:
    if rate is None:
        return Gate(f"{name} in all", False, "no joints to count them on")
    return Gate(f"{name} in all", rate <= limit, f"{percent(rate)}, at most {percent(limit)} allowed")


def _compare_rates(name: str, new: dict[str, Any], old: dict[str, Any], *, more_is_better: bool) -> Gate:
    """Answer whether a rate got worse beyond the old one's interval."""
    if old["rate"] is None or new["rate"] is None:
        return Gate(name, True, "no such joints among the golden ones")
    bound, words = (old["low"], "at least") if more_is_better else (old["high"], "at most")
    passed = new["rate"] >= bound if more_is_better else new["rate"] <= bound
    return Gate(name, passed, f"{percent(new['rate'])}, before {percent(old['rate'])} ({words} {percent(bound)})")


@dataclass(frozen=True)
class ModelEntry:
    """One model of a folder. `fault` says why it cannot be used; its `card` is None then."""

    name: str
    current: bool
    card: Card | None
    fault: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the entry for JSON."""
        card = self.card
        about = {"version": card.version, "created_at": card.created_at, "metrics": card.metrics} if card else {}
        return {"name": self.name, "current": self.current, "fault": self.fault, **about}


def list_models(root: Path) -> list[ModelEntry]:
    """Return every model folder under `root` by name, after checking all of it; a damaged one is listed with its fault."""
    pointer = read_pointer(root)
    current = pointer.current if pointer else ""
    try:
        folders = sorted(p for p in root.iterdir() if (p / "card.json").exists())
    except OSError as error:
        raise ModelFault(str(root), expected="a folder of models", found=describe_error(error)) from error
    models = []
    for folder in folders:
        try:
            models.append(ModelEntry(folder.name, folder.name == current, load(folder).card))
        except ModelFault as fault:
            models.append(ModelEntry(folder.name, folder.name == current, None, str(fault)))
    return models


def were_judged_together(first: Card, second: Card) -> bool:
    """Return whether two cards' figures are of the same boards, as far as the cards tell."""
    counts = [[_lookup(card.metrics, name) for name in ("boards", "joints", "defects")] for card in (first, second)]
    golden = [sorted(card.data.get("golden boards", ())) for card in (first, second)]
    return counts[0] == counts[1] and golden[0] == golden[1] and first.measured_on == second.measured_on


def compare(root: Path, first: str, second: str) -> list[dict[str, Any]]:
    """Return rows of `figure`, `first`, `second`, `better` from two cards' metrics.

    `better` is a name; empty where the figures are equal or unknown, where their intervals overlap (chance explains the
    difference), and everywhere if the two models were judged on different boards, on which no figure can be compared.
    """
    both = [_load_card(root, name) for name in (first, second)]
    cards, is_comparable = [card.metrics for card in both], were_judged_together(*both)
    rows: list[dict[str, Any]] = [
        {"figure": "boards", "first": _lookup(cards[0], "boards"), "second": _lookup(cards[1], "boards"), "better": ""}
    ]
    for path, more in _COMPARED:
        a, b = (_lookup(metrics, path) for metrics in cards)
        is_unknown = not is_comparable or a is None or b is None or a == b or _intervals_overlap(cards, path)
        better = "" if is_unknown or a is None or b is None else first if (a > b) == more else second
        rows.append({"figure": path, "first": a, "second": b, "better": better})
    return rows


def _intervals_overlap(cards: Sequence[dict[str, Any]], path: str) -> bool:
    """Return whether chance explains the difference of a figure; False for a figure without intervals."""
    name = {"escape_rate": "escape", "false_call_ppm": "false_call", "review_share": "review"}.get(
        path, path.removesuffix(".rate")
    )
    bounds = [(_lookup(metrics, f"{name}.low"), _lookup(metrics, f"{name}.high")) for metrics in cards]
    (low, high), (other_low, other_high) = bounds
    if low is None or high is None or other_low is None or other_high is None:
        return False
    return low <= other_high and other_low <= high


def promote(root: Path, name: str, *, at: str, reason: str) -> Pointer:
    """Make a model the current one. Raises `ModelFault` if it cannot be loaded; the current one stays then.

    Parameters
    ----------
    at
        Now, as ISO 8601.
    reason
        Why, for the record: the gates' answers, or a person's words.
    """
    _load_card(root, name)
    return _move_pointer(root, name, "promote", at, reason)


def rollback(root: Path, *, at: str, reason: str) -> Pointer:
    """Return to the previous current model; each rollback takes back one promotion.

    Raises `ModelFault` if there is none.
    """
    pointer = read_pointer(root)
    stack: list[str | None] = []
    for change in pointer.history if pointer else ():
        if change.action == "rollback":
            stack.pop()
        else:
            stack.append(change.previous)
    before = stack[-1] if stack else None
    if before is None:
        raise ModelFault(str(root), expected="an earlier current model", found="none", remedy="Promote one by name.")
    _load_card(root, before)
    return _move_pointer(root, before, "rollback", at, reason)


def _move_pointer(root: Path, name: str, action: str, at: str, reason: str) -> Pointer:
    old = read_pointer(root)
    change = PointerChange(to=name, previous=old.current if old else None, at=at, action=action, reason=reason)
    pointer = Pointer(current=name, history=(*(old.history if old else ()), change))
    atomic.write_text(root / POINTER, json.dumps(pointer.model_dump(by_alias=True), indent=1), durable=True)
    return pointer


def _load_card(root: Path, name: str) -> Card:
    if not name or Path(name).name != name:
        raise ModelFault(f"model {name!r}", expected=f"the name of a folder in {root}", found="a path", remedy="Give its name.")
    return load(root / name).card


def _lookup(metrics: dict[str, Any], path: str) -> float | None:
    value: Any = metrics
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, int | float) else None

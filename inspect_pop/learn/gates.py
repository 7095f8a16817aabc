"""Whether a new model may take the old one's place: rules read from `training/gates.toml`, each with its answer in words.

Old and new are judged on the same golden boards, which neither has learnt from. A rule speaks against the new model only
where the old one's interval does not explain the difference: chance alone must not hold a model back, nor must a set too
small to see harm let one through.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspect_pop.errors import LimitsFault
from inspect_pop.joints import CLASSES
from inspect_pop.learn.statistics import percent

__all__ = ["Gate", "Gates", "load_gates", "pass_gates"]


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

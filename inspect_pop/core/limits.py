"""Limits: the table of thresholds, the table of acceptance criteria, and the profiles that use them.

A criterion is a limit of a contract or a standard. An evidence check is a measurement that contradicts a pass. Both name one
measure of a joint (`decide.criteria.collect_measures`) and its limits: from `fail` on the joint fails, from `review` on a person
looks at it. A measure is made so that larger is worse.

A limits file (`--limits`) may hold profiles of its own, each made from `ipc-a-610`:

    [profile.class3.criteria.void_area]
    fail = 0.25
    review = 0.20
"""

import hashlib
import json
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import Field, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from inspect_pop.core.errors import LimitsFault, describe_error

__all__ = [
    "CRITERIA",
    "DEFAULT_PROFILE",
    "METHODS",
    "PROFILES",
    "Criterion",
    "Limits",
    "Profile",
    "change_profile",
    "describe_limits",
    "load_limits",
]

METHODS = ("laminography", "ct", "transmission")
_STACKS = ("laminography", "ct")


@dataclass(frozen=True)
class Criterion:
    """One row of the table.

    Attributes:
        name: The name in `criteria`.
        unit: Unit of the measure and of both limits.
        fail, review: From this value on a joint fails, or goes to review; None: never. `below` turns both round.
        low, high: What a user's limit may be.
        methods: How the pictures must have been taken for the measure to be judged.
        words: The reason for an operator; `{value}` and `{limit}` are filled in, in `unit`.
        source: Where the limits come from.
        evidence: Whether it is a contradiction of a pass rather than a limit of a contract.
        below: Whether small values violate it.
        blur_error: By how much a value must exceed `fail` in laminography, where blur makes the measure uncertain: its standard
            deviation. What lies between goes to review, as ISO 14253-1 asks of what no measurement proves.
        clear_view: Whether it is judged only where the other interface's solder does not lie over the joint (flag `overlapped`).
    """

    name: str
    unit: str
    fail: float | None
    review: float | None
    low: float
    high: float
    methods: tuple[str, ...]
    words: str
    source: str
    evidence: bool = False
    below: bool = False
    clear_view: bool = False
    blur_error: float = 0.0


CRITERIA = (
    Criterion(
        "void_area", "1", 0.30, 0.25, 0.0, 1.0, METHODS,
        "voids take {value} of the ball's picture (limit {limit})",
        "IPC-A-610: 25 or 30 % of the ball's X-ray image, by revision; laminography measures it to 0.06 (one sigma), and fails "
        "what is as much above the limit",
        clear_view=True, blur_error=0.06,
    ),
    Criterion(
        "clearance", "um", None, 25.0, 0.0, 500.0, METHODS,
        "only {value} free of solder to a neighbour (limit {limit})",
        "sound sample and simulated joints: 25 um and more, all but 0.1 %; painted bridges: 0",
        below=True,
        clear_view=True,
    ),
    Criterion(
        "offset", "1", 0.25, 0.15, 0.0, 1.0, METHODS,
        "the ball lies {value} of the pitch off its place (limit {limit})",
        "at half of the pad's radius it wets the pad no longer all round; sound sample and simulated joints: at most 0.04",
        clear_view=True,
    ),
    Criterion(
        "diameter", "1", 2.0, 1.5, 1.0, 10.0, METHODS,
        "the ball is {value} times wider or narrower than designed (limit {limit})",
        "sound sample and simulated joints: at most 1.32",
    ),
    Criterion(
        "volume", "1", 3.0, 1.9, 1.0, 100.0, METHODS,
        "the solder volume is {value} times more or less than nominal (limit {limit})",
        "starved begins at 1.5; sound sample and simulated joints: at most 1.54",
    ),
    Criterion(
        "stray_solder", "um", None, 80.0, 20.0, 2000.0, METHODS,
        "stray solder of {value} lies beside the joint (limit {limit})",
        "IPC-A-610: no solder ball may reduce the electrical clearance; 80 um is what the pictures show surely",
    ),
    Criterion(
        "missing_ball", "1", 1.0, 1.0, 1.0, 1.0, METHODS,
        "no solder was found where the ball should be",
        "export format: no solder at all is an open joint",
    ),
    Criterion(
        "standoff", "1", None, 1.6, 1.0, 10.0, METHODS,
        "the stand-off is {value} times more or less than nominal (limit {limit})",
        "sound sample and simulated joints: at most 1.18; docs/accuracy.md for constructions whose heights are less sure",
    ),
    Criterion(
        "outlier_diameter", "1", None, 12.0, 3.0, 1000.0, METHODS,
        "its diameter is unlike its neighbours' by {value} sigma (limit {limit})",
        "sound sample and simulated joints: 0.02 % beyond 9 among those that differ by 15 % or more",
        evidence=True,
    ),
    Criterion(
        "outlier_offset", "1", None, 10.0, 3.0, 1000.0, METHODS,
        "it lies {value} sigma off where its neighbours lie (limit {limit})",
        "sound sample and simulated joints: at most 5",
        evidence=True,
        clear_view=True,
    ),
    Criterion(
        "outlier_roundness", "1", None, 8.0, 3.0, 1000.0, METHODS,
        "its outline is less round than its neighbours' by {value} sigma (limit {limit})",
        "sound sample and simulated joints: none among those that differ by 0.05 or more",
        evidence=True,
        clear_view=True,
    ),
    Criterion(
        "outlier_volume", "1", None, 10.0, 3.0, 1000.0, METHODS,
        "its solder volume is unlike its neighbours' by {value} sigma (limit {limit})",
        "sound sample and simulated joints: 0.02 % among those that differ by 25 % or more",
        evidence=True,
    ),
    Criterion(
        "outlier_waist", "1", None, 10.0, 3.0, 1000.0, _STACKS,
        "between its pads it is narrower than its neighbours by {value} sigma (limit {limit})",
        "sound sample and simulated joints: 0.02 % among those that differ by 0.15 or more; head-in-pillow: mostly beyond 10",
        evidence=True,
    ),
    Criterion(
        "no_outline", "1", None, 1.0, 1.0, 1.0, _STACKS,
        "a slice between the pads shows no outline of the ball",
        "a sound joint is continuous between its pads (export format)",
        evidence=True,
    ),
    Criterion(
        "not_measured", "1", None, 1.0, 1.0, 1.0, METHODS,
        "place, diameter, volume or voids could not be measured",
        "doubt is never a pass",
        evidence=True,
    ),
)  # fmt: skip
_BY_NAME = {c.name: c for c in CRITERIA}


@dataclass(frozen=True)
class Profile:
    """Named criteria that decide together with the classifier."""

    name: str
    criteria: tuple[Criterion, ...]


DEFAULT_PROFILE = Profile("ipc-a-610", CRITERIA)
PROFILES = {p.name: p for p in (DEFAULT_PROFILE, Profile("measure-only", ()))}


def change_profile(name: str, changes: Mapping[str, Any], where: str) -> Profile:
    """Return the default profile under this name, with other limits: `changes[criterion][fail or review]`.

    `false` takes a limit away. `where` names the file and the table in errors. Raises `LimitsFault`.
    """
    if not isinstance(changes, Mapping):
        raise LimitsFault(where, expected="a table of criteria", found=repr(changes))
    criteria = dict(_BY_NAME)
    for key, limits in changes.items():
        if key not in criteria:
            expected = f"one of {sorted(criteria)}"
            raise LimitsFault(f"{where}.{key}", expected=expected, found="an unknown criterion", remedy="Correct or remove it.")
        criteria[key] = _change_limits(criteria[key], limits, f"{where}.{key}")
    return Profile(name, tuple(criteria.values()))


def _change_limits(criterion: Criterion, limits: Any, where: str) -> Criterion:
    if not isinstance(limits, Mapping) or not set(limits) <= {"fail", "review"}:
        raise LimitsFault(where, expected="a table with fail, review or both", found=repr(limits))
    values: dict[str, float | None] = {}
    for key, value in limits.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not False and not (number and criterion.low <= value <= criterion.high):
            expected = f"a number from {criterion.low:g} to {criterion.high:g} {criterion.unit}, or false for no limit"
            raise LimitsFault(f"{where}.{key}", expected=expected, found=repr(value))
        values[key] = None if value is False else float(value)
    return replace(criterion, fail=values.get("fail", criterion.fail), review=values.get("review", criterion.review))


# The table of limits: every threshold with its unit, range, default and source.
#
# Limits are read from TOML, where an unknown key is an error. A named profile (`[profile.NAME]`) overrides single values,
# since limits differ by product and by contract.


def _limit(default: float, unit: str, low: float, high: float, meaning: str, source: str) -> Any:
    return field(default=default, metadata={"unit": unit, "low": low, "high": high, "meaning": meaning, "source": source})


@dataclass(frozen=True)
class Limits:
    """All thresholds of one inspection. `profile` holds the acceptance criteria; the others are numbers."""

    profile: Profile = DEFAULT_PROFILE
    void_fraction: float = _limit(
        0.25, "1", 0.0, 1.0, "projected void area of a joint above which it is flagged", "IPC-A-610, 25 or 30 % by revision"
    )
    excess_volume: float = _limit(
        4 / 3, "1", 1.0, 5.0, "volume over nominal above which a good joint is flagged", "export format, version 1"
    )
    alignment_residual_um: float = _limit(
        40.0,
        "um",
        1.0,
        500.0,
        "rms residual of the placement above which the image is refused",
        "a tenth of the finest pitch in use",
    )
    search_um: float = _limit(
        600.0,
        "um",
        0.0,
        5000.0,
        "radius of the search for the package around the place that the image gives",
        "four times the 150 um of the export format",
    )
    cause_strength: float = _limit(
        2.0,
        "1",
        0.0,
        100.0,
        "log-likelihood ratio against chance from which on a cause is named",
        "odds of 7 to 1; docs/causes.md shows its effect on boards of known cause",
    )
    cause_warpage_spread: float = _limit(
        0.6,
        "1",
        0.01,
        10.0,
        "board-to-board spread of the warpage over its limit",
        "0.6 on the sample lines' boards within their limit",
    )
    cause_volume_spread: float = _limit(
        0.07, "1", 0.001, 1.0, "board-to-board spread of an interface's median volume ratio", "docs/causes.md"
    )
    cause_stack_spread_um: float = _limit(
        8.0, "um", 0.1, 500.0, "board-to-board spread of the stack height", "8 um on the fourteen boards of the sample lines"
    )
    cause_shear_spread_um: float = _limit(
        5.0,
        "um",
        0.1,
        500.0,
        "board-to-board spread of an interface's mean shear",
        "4 um on the fourteen boards of the sample lines",
    )
    cause_bulge_um: float = _limit(
        10.0, "um", 1.0, 500.0, "mean rise of the mold over a disc that counts as a bulge", "1.6 to 4.4 um on flat sample boards"
    )

    unlike_forbids: float = _limit(
        1.0,
        "1",
        0.0,
        1.0,
        "1: no joint passes by a picture unlike all that the model has learnt in more than its grey scale, unless the machine is "
        "qualified; 0: the record says so",
        "docs/lab/machines.md",
    )

    @property
    def digest(self) -> str:
        """The sha256 over all values, which is part of a record's identity."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def load_limits(path: Path | None, profile: str | None = None) -> Limits:
    """Load limits from a TOML file: the keys at its top, overridden by those of `[profile.NAME]`. Raises `LimitsFault`.

    Without a file, the defaults. `profile` is one of `PROFILES`, or a table of the file, whose `criteria` change
    those of the default profile.
    """
    if path is None:
        return Limits() if profile is None else Limits(profile=_find_profile(profile, "--profile"))
    try:
        text = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise LimitsFault(str(path), expected="a TOML file of limits", found=describe_error(error)) from error
    profiles = text.pop("profile", {})
    values = dict(text)
    chosen = DEFAULT_PROFILE
    if profile is not None and profile in profiles:
        table = dict(profiles[profile])
        chosen = change_profile(profile, table.pop("criteria", {}), f"{path}: profile.{profile}.criteria")
        values |= table
    elif profile is not None:
        chosen = _find_profile(profile, str(path), profiles)
    known: dict[str, Field[Any]] = {f.name: f for f in fields(Limits) if f.metadata}
    for key, value in values.items():
        if key not in known:
            raise LimitsFault(
                f"{path}: {key}", expected=f"one of {sorted(known)}", found="an unknown key", remedy="Correct or remove it."
            )
        meta = known[key].metadata
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not meta["low"] <= value <= meta["high"]:
            expected = f"a number from {meta['low']} to {meta['high']} {meta['unit']}"
            raise LimitsFault(f"{path}: {key}", expected=expected, found=repr(value))
    numbers: dict[str, Any] = {k: float(v) for k, v in values.items()}
    return replace(Limits(profile=chosen), **numbers)


def _find_profile(name: str, where: str, others: Collection[str] = ()) -> Profile:
    if name not in PROFILES:
        expected = f"one of {sorted({*PROFILES, *others})}"
        raise LimitsFault(
            f"{where}: profile {name}", expected=expected, remedy="Name one of these, or a file that holds it with --limits."
        )
    return PROFILES[name]


def describe_limits() -> list[tuple[str, float, dict[str, Any]]]:
    """Return (name, default, metadata) of every limit, for documentation and help."""
    return [(f.name, float(f.default), dict(f.metadata)) for f in fields(Limits) if f.metadata]  # type: ignore[arg-type]

"""The table of limits: every threshold with its unit, range, default and source.

Limits are read from TOML, where an unknown key is an error. A named profile (`[profile.NAME]`) overrides single values,
since limits differ by product and by contract.
"""

import hashlib
import json
import tomllib
from collections.abc import Collection
from dataclasses import Field, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from inspect_pop.core.acceptance import DEFAULT_PROFILE, PROFILES, Profile, change_profile
from inspect_pop.core.errors import LimitsFault, describe_error

__all__ = ["Limits", "describe_limits", "load_limits"]


def _limit(default: float, unit: str, low: float, high: float, meaning: str, source: str) -> Any:
    return field(default=default, metadata={"unit": unit, "low": low, "high": high, "meaning": meaning, "source": source})


@dataclass(frozen=True)
class Limits:
    """All thresholds of one inspection. `profile` holds the acceptance criteria (`core.acceptance`); the others are numbers."""

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

    Without a file, the defaults. `profile` is one of `core.acceptance.PROFILES`, or a table of the file, whose `criteria` change
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

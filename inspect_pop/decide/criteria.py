"""Acceptance criteria and evidence: what measurements say about a joint, whatever the classifier calls it.

A joint passes only where classifier and measurements agree. `core.limits` holds the table; here its rows are applied.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core import flags as flag_table
from inspect_pop.core.limits import DEFAULT_PROFILE, PROFILES, Criterion, Profile
from inspect_pop.core.recipe import Interface
from inspect_pop.core.robust import MAD_TO_SIGMA, mad_sigma, row_median
from inspect_pop.decide.verdict import JointVerdicts
from inspect_pop.measure.joints import LEAST_NEIGHBOURS, find_neighbours

__all__ = [
    "DEFAULT_PROFILE",
    "PROFILES",
    "Profile",
    "Violations",
    "apply_violations",
    "collect_measures",
    "doubt_starved",
    "find_violations",
]

Columns = Mapping[str, NDArray[Any]]
Floats = NDArray[np.floating]
# Of nominal. Starved begins at 2/3; machines of other makers measure small joints up to 0.08 too small (docs/lab/evidence.md).
STARVED_DOUBT_FROM = 0.58
_OFFSET_FLOOR = 0.01  # of the pitch: smaller spreads of the places are chance
# Least difference from the typical joint that counts, however alike the neighbours are; smallest sigma that is no chance.
_ROUNDNESS, _VOLUME, _WAIST = (0.05, 0.004), (0.25, 0.02), (0.15, 0.01)
_DIFFERENT = 0.15  # of the typical diameter: less is no other ball, however alike the neighbours are
# What the picture does not show surely is no evidence, neither for a pass nor for a fail.
_UNSURE = flag_table.REVIEW_MASK
_NOT_SEEN = flag_table.bit("no_slices") | flag_table.bit("off_image")


@dataclass(frozen=True)
class Violations:
    """What n joints violate: `criteria` (text, `;` between names), `reason` (text), `fails` and `reviews` (bool)."""

    criteria: NDArray[np.object_]
    reason: NDArray[np.object_]
    fails: NDArray[np.bool_]
    reviews: NDArray[np.bool_]


def collect_measures(columns: Columns, interface: Interface) -> dict[str, Floats]:
    """Return the measure of every criterion, by its name, (n,) each; NaN where it is unknown.

    `columns` are the measured columns and `flags` of the interface's joints.
    """
    diameter, volume = columns["diameter_um"], columns["volume_ratio"]
    with np.errstate(invalid="ignore", divide="ignore"):
        dx, dy = (columns[name] - np.nanmedian(_is_known(columns[name])) for name in ("dx_um", "dy_um"))
        away_um = np.hypot(columns["dx_um"], columns["dy_um"])
        spread_um = [mad_sigma(d[np.isfinite(d)]) if np.isfinite(d).any() else 0.0 for d in (dx, dy)]
        sigma_um = max(*spread_um, _OFFSET_FLOOR * interface.pitch_um)
        no_ball = (columns["flags"] & flag_table.bit("no_ball")) != 0
        known = [columns[n] for n in ("dx_um", "dy_um", "void_fraction")]
        unknown = ~np.isfinite(known).all(axis=0) | ~(diameter > 0) | ~(volume > 0)
        return {
            "void_area": columns["void_fraction"],
            "clearance": columns["clearance_um"],
            "offset": away_um / interface.pitch_um,
            "diameter": _compare(diameter, interface.nominal_mid_diameter_um),
            "volume": _compare(volume, 1.0),
            "stray_solder": columns["stray_um"],
            "missing_ball": no_ball.astype(np.float32),
            "standoff": _compare(columns["standoff_um"], interface.gap_um),
            "outlier_diameter": _find_outlying_diameter(columns),
            "outlier_offset": np.hypot(dx, dy) / sigma_um,
            "outlier_roundness": _find_outliers(-columns["roundness"], interface, *_ROUNDNESS),
            "outlier_volume": np.abs(_find_outliers(volume, interface, *_VOLUME)),
            "outlier_waist": _find_outliers(-columns["waist"], interface, *_WAIST),
            "no_outline": ((diameter <= 0) | (columns["waist"] <= 0)).astype(np.float32),
            "not_measured": unknown.astype(np.float32),
        }


def find_violations(columns: Columns, interface: Interface, method: str, profile: Profile = DEFAULT_PROFILE) -> Violations:
    """Judge the measurements of one interface's joints by a profile.

    A joint that the pictures do not show is not judged, nor is one that another interface's solder lies over by what that would
    change. One whose pictures are in doubt does not fail by them, nor one that is beyond a limit by less than `blur_error`.

    Parameters
    ----------
    columns
        The measured columns and `flags`, (n,) each.
    interface
        The joints as designed.
    method
        `laminography`, `ct` or `transmission`.
    profile
        The criteria that count.
    """
    n = len(interface.ball)
    names: list[list[str]] = [[] for _ in range(n)]
    words: list[list[str]] = [[] for _ in range(n)]
    fails, reviews = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    seen = (columns["flags"] & _NOT_SEEN) == 0
    clear = seen & ((columns["flags"] & flag_table.bit("overlapped")) == 0)
    sure = (columns["flags"] & _UNSURE) == 0
    measures = collect_measures(columns, interface)
    for criterion in profile.criteria:
        if method not in criterion.methods:
            continue
        values = measures[criterion.name]
        judged = clear if criterion.clear_view else seen
        error = criterion.blur_error if method == "laminography" else 0.0
        over, doubtful = (_violate(values, limit, criterion.below) & judged for limit in (criterion.fail, criterion.review))
        fails |= over & _violate(values - error, criterion.fail, criterion.below) & sure
        reviews |= over | doubtful
        for joint in np.flatnonzero(over | doubtful).tolist():
            names[joint].append(criterion.name)
            limit = criterion.fail if over[joint] else criterion.review
            words[joint].append(_explain(criterion, float(values[joint]), limit))
    return Violations(_join(names, ";"), _join(words, "; "), fails, reviews)


def apply_violations(decided: JointVerdicts, found: Violations) -> JointVerdicts:
    """Return the verdicts with what measurements forbid: a joint may be good and fail. The labels stay as they are."""
    verdict = decided.verdict.copy()
    verdict[found.reviews & (verdict == "pass")] = "review"
    verdict[found.fails] = "fail"
    both = (decided.reason != "") & (found.reason != "")
    reason = np.where(both, decided.reason + "; " + found.reason, decided.reason + found.reason).astype(object)
    return JointVerdicts(decided.label, verdict, reason)


def doubt_starved(decided: JointVerdicts, volume_ratio: Floats) -> JointVerdicts:
    """Return the verdicts with joints in review that fail as starved though their volume is measured near two thirds or above.

    Volumes (n,) over nominal are measured to 0.03 (one sigma, simulated boards of five machines), and pictures that blur alike
    can make all small joints smaller than that: from `STARVED_DOUBT_FROM` on, the solder may well be enough.
    """
    with np.errstate(invalid="ignore"):
        doubtful = (decided.label == "starved") & (decided.verdict == "fail") & (volume_ratio >= STARVED_DOUBT_FROM)
    verdict, reason = decided.verdict.copy(), decided.reason.copy()
    verdict[doubtful] = "review"
    for joint in np.flatnonzero(doubtful).tolist():
        reason[joint] = (
            f"starved by its pictures, but its volume is measured {volume_ratio[joint]:.2f} of nominal (starved: below 0.67)"
        )
    return JointVerdicts(decided.label, verdict, reason)


def _is_known(values: Floats) -> Floats:
    """Return the finite values, or a 0 where there is none."""
    finite = values[np.isfinite(values)]
    return finite if finite.size else np.zeros(1)


def _compare(values: Floats, nominal: float) -> Floats:
    """Return how many times larger or smaller values are than nominal; NaN for 0, which another check sees."""
    ratio = np.where(values > 0, values / nominal, np.nan)
    return np.asarray(np.maximum(ratio, 1 / ratio))


def _find_outlying_diameter(columns: Columns) -> Floats:
    """Return the largest |z| against the neighbours of the diameters in any slice that differ by much from the typical one."""
    largest = np.zeros(len(columns["diameter_um"]))
    for z, name in (("z_low", "diameter_low_um"), ("z_mid", "diameter_um"), ("z_high", "diameter_high_um")):
        typical = float(np.median(_is_known(columns[name])))
        differs = np.abs(columns[name] - typical) > _DIFFERENT * typical
        seen = differs & (columns[name] > 0)  # a slice may lie beyond a pad
        largest = np.maximum(largest, np.where(seen, np.abs(np.nan_to_num(columns[z])), 0.0))
    return largest


def _find_outliers(values: Floats, interface: Interface, least: float, floor: float) -> Floats:
    """Return how many robust sigmas the joints that differ by `least` from the typical one lie above their neighbours, (n,).

    0 for all others, and where nothing is known. The sigma is that of the neighbours pooled with that of all joints, `floor`
    at least.
    """
    found = np.zeros(len(values))
    typical = float(np.median(_is_known(values)))
    joints = np.flatnonzero(np.abs(values - typical) > least)
    if len(joints) == 0 or len(values) < LEAST_NEIGHBOURS:
        return found
    around = np.nan_to_num(values[find_neighbours(interface)], nan=typical)
    middle = row_median(around)
    everyone = mad_sigma(_is_known(values - middle))
    local = MAD_TO_SIGMA * row_median(np.abs(around[joints] - middle[joints, None]))
    found[joints] = (values[joints] - middle[joints]) / np.maximum((local + everyone) / 2, floor)
    return found


def _violate(values: Floats, limit: float | None, below: bool) -> NDArray[np.bool_]:
    """Return where values reach a limit; an unknown value and no limit never do."""
    if limit is None:
        return np.zeros(len(values), dtype=bool)
    with np.errstate(invalid="ignore"):
        return np.asarray(values < limit if below else values >= limit)


def _explain(criterion: Criterion, value: float, limit: float | None) -> str:
    """Return the reason in words, with value and limit in their unit."""
    unit = {"um": " um"}.get(criterion.unit, "")
    value_text, limit_text = (f"{x:.0f}{unit}" if unit or abs(x) >= 10 else f"{x:.2f}" for x in (value, limit or 0.0))
    return criterion.words.format(value=value_text, limit=limit_text)


def _join(parts: list[list[str]], between: str) -> NDArray[np.object_]:
    joined = np.full(len(parts), "", dtype=object)
    joined[:] = [between.join(p) for p in parts]
    return joined

"""Gage R&R: how much of a measurement's spread is the measuring (AIAG, Measurement Systems Analysis, 4th ed., ANOVA method).

The same parts are measured on several machines several times each. The variance falls into the part itself, repeatability
(the same machine again), reproducibility (another machine) and their interaction (machines that disagree about some parts).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from inspect_pop.errors import UsageFault

__all__ = ["GageResult", "Reading", "balanced", "gage", "gage_of"]

# An interaction that is no clearer than this (p of its F test) is taken for repeatability, as the manual does.
_POOL_ABOVE = 0.25


@dataclass(frozen=True)
class Reading:
    """One measurement: which part (a joint of a board), on which machine, and the value."""

    part: str
    machine: str
    value: float


@dataclass(frozen=True)
class GageResult:
    """Standard deviations in the column's unit, and the two figures that the manual judges by.

    `grr` joins `repeatability` and `reproducibility` (which holds the interaction); `total` joins `grr` and `part`.
    `percent_grr` is 100 grr / total: below 10 good, to 30 usable with reason, above it not. `ndc` is how many groups
    of parts the measurement can tell apart, 5 or more asked. NaN where a figure needs a second machine or a repetition.
    """

    parts: int
    machines: int
    repeats: int
    repeatability: float
    reproducibility: float
    interaction: float
    grr: float
    part: float
    total: float
    percent_grr: float
    ndc: float
    pooled: bool

    def to_dict(self) -> dict[str, float | int | bool | None]:
        """For JSON: NaN as null."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}

    @property
    def judgement(self) -> str:
        """The manual's words for `percent_grr`."""
        if math.isnan(self.percent_grr):
            return "cannot be told"
        return (
            "good"
            if self.percent_grr < 10
            else "usable where the application allows it"
            if self.percent_grr <= 30
            else "not usable"
        )


def gage(values: NDArray[np.floating]) -> GageResult:
    """Gage R&R of `values` (parts, machines, repeats): every part, on every machine, equally often.

    Raises `UsageFault` where nothing repeats: fewer than two parts, or one machine with one reading of each.
    """
    p, o, r = values.shape
    if not _can_be_judged(values.shape):
        _refuse(values.shape)
    overall = values.mean()
    by_part, by_machine, cell = values.mean((1, 2)), values.mean((0, 2)), values.mean(2)
    ss_part, ss_machine = o * r * np.sum((by_part - overall) ** 2), p * r * np.sum((by_machine - overall) ** 2)
    ss_cross = r * np.sum((cell - by_part[:, None] - by_machine[None] + overall) ** 2)
    ss_error = np.sum((values - cell[..., None]) ** 2)
    df_cross, df_error = (p - 1) * (o - 1), p * o * (r - 1)
    ms_part, ms_machine = ss_part / (p - 1), ss_machine / (o - 1) if o > 1 else math.nan
    pooled = _pool(ss_cross, df_cross, ss_error, df_error)
    if pooled:
        ms_error = (ss_cross + ss_error) / (df_cross + df_error)
        ms_cross, interaction = ms_error, 0.0
    else:
        ms_error, ms_cross = ss_error / df_error, ss_cross / df_cross
        interaction = max(0.0, (ms_cross - ms_error) / r)
    machines = max(0.0, (ms_machine - ms_cross) / (p * r)) if o > 1 else math.nan
    part = max(0.0, (ms_part - ms_cross) / (o * r))
    return _result((p, o, r), ms_error, machines, interaction, part, pooled)


def balanced(readings: Sequence[Reading]) -> tuple[NDArray[np.float64], int]:
    """(parts, machines, repeats) of the parts that every machine measured, and how many parts were left out.

    The number of repeats is the one that keeps most readings; further readings of a part on a machine are left out in
    the order in which they came, and readings that are NaN count as not taken.
    """
    machines = sorted({x.machine for x in readings})
    taken: dict[str, dict[str, list[float]]] = {}
    for x in readings:
        if math.isfinite(x.value):
            taken.setdefault(x.part, {}).setdefault(x.machine, []).append(x.value)
    fewest = {part: min(len(by.get(m, ())) for m in machines) for part, by in taken.items()}
    levels = sorted({n for n in fewest.values() if n > 0})
    if not levels:
        return np.zeros((0, len(machines), 0)), len({x.part for x in readings})
    repeats = max(levels, key=lambda n: (n * sum(f >= n for f in fewest.values()), n))
    kept = [part for part, n in fewest.items() if n >= repeats]
    values = np.array([[taken[part][m][:repeats] for m in machines] for part in kept])
    return values, len({x.part for x in readings}) - len(kept)


def gage_of(columns: Mapping[str, Sequence[Reading]]) -> dict[str, GageResult]:
    """Gage R&R of each measured column; one with a single part, or whose parts were read once only, is left out.

    Raises `UsageFault` where that leaves none.
    """
    tables = {name: balanced(readings)[0] for name, readings in columns.items()}
    found = {name: gage(values) for name, values in tables.items() if _can_be_judged(values.shape)}
    if not found:
        _refuse(max((values.shape for values in tables.values()), default=(0, 0, 0)))
    return found


def _can_be_judged(shape: tuple[int, ...]) -> bool:
    parts, machines, repeats = shape
    return parts >= 2 and machines * repeats >= 2


def _refuse(shape: tuple[int, ...]) -> NoReturn:
    parts, machines, repeats = shape
    raise UsageFault(
        "gage R&R",
        expected="two parts or more, each measured twice or more",
        found=f"{parts} parts, {machines} machines, {repeats} readings on each",
        remedy="Inspect the same boards again and give all exports together.",
    )


def _pool(ss_cross: float, df_cross: int, ss_error: float, df_error: int) -> bool:
    """Whether the interaction is taken for repeatability: no F test of it is possible, or it shows nothing."""
    from scipy.special import fdtrc

    if df_error == 0 or df_cross == 0 or ss_error == 0:
        return bool(df_error == 0 or ss_cross == 0 or df_cross == 0)
    return bool(fdtrc(df_cross, df_error, (ss_cross / df_cross) / (ss_error / df_error)) > _POOL_ABOVE)


def _result(
    shape: tuple[int, int, int], error: float, machines: float, interaction: float, part: float, pooled: bool
) -> GageResult:
    between = interaction if math.isnan(machines) else machines + interaction
    grr = error + between
    total = grr + part
    return GageResult(
        parts=shape[0],
        machines=shape[1],
        repeats=shape[2],
        repeatability=math.sqrt(error),
        reproducibility=math.nan if math.isnan(machines) else math.sqrt(between),
        interaction=math.sqrt(interaction),
        grr=math.sqrt(grr),
        part=math.sqrt(part),
        total=math.sqrt(total),
        percent_grr=100 * math.sqrt(grr / total) if total > 0 else math.nan,
        ndc=float(max(1, math.floor(math.sqrt(2 * part / grr)))) if grr > 0 else math.nan,
        pooled=pooled,
    )

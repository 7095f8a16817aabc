"""Gage R&R: how much of a measurement's spread is the measuring (AIAG, Measurement Systems Analysis, 4th ed., ANOVA method).

The same parts are measured on several machines several times each. The variance falls into the part itself, repeatability
(the same machine again), reproducibility (another machine) and their interaction (machines that disagree about some parts).

How far measurements can be trusted: gage R&R over a user's own repeated exports, and bias and spread against known truth.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.errors import LabelsFault, UsageFault
from inspect_pop.core.joint_table import COLUMNS
from inspect_pop.core.limits import Limits
from inspect_pop.evaluate.boards import each_board
from inspect_pop.evaluate.collect import truths_of
from inspect_pop.ingest import open_export
from inspect_pop.pipeline.board import PreparedBoard, prepare_board

__all__ = [
    "BoardMeasures",
    "GageReport",
    "GageResult",
    "Reading",
    "TruthError",
    "balanced",
    "errors_against_truth",
    "gage",
    "gage_boards",
    "gage_of",
]

# ---- learn/gage
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


# ---- learn/measured
Progress = Callable[[str], None]
# Places on the package are the placement's business, not the joint's; z-values compare a joint with its own board.
_JOINT_COLUMNS = tuple(
    c.name for c in COLUMNS if c.kind == "float32" and not c.name.startswith(("p_", "x_", "y_", "z_")) and c.unit
)
_PACKAGE_COLUMNS = ("warpage_um", "stack_height_um")
# A measurement and the truth that a simulator writes of it.
_TRUTH = {
    "diameter_um": "diameter_mid_um",
    "volume_ratio": "volume_ratio",
    "void_fraction": "void_area_fraction",
    "standoff_um": "standoff_um",
    "dx_um": "dx_um",
    "dy_um": "dy_um",
}


@dataclass(frozen=True)
class BoardMeasures:
    """What was measured of one export: values by column and part, where a part is a joint or a package of the board."""

    machine: str
    inspected_at: str
    serial: str
    values: dict[str, dict[str, float]]


@dataclass(frozen=True)
class GageReport:
    """Gage R&R by column; `exports` by board tell what was repeated, `put_aside` (path, why) what could not be read."""

    columns: dict[str, GageResult]
    exports: dict[str, int]
    machines: tuple[str, ...]
    put_aside: tuple[tuple[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        columns = {name: found.to_dict() | {"judgement": found.judgement} for name, found in self.columns.items()}
        return {**asdict(self), "columns": columns}

    def lines(self) -> list[str]:
        """A table for the terminal."""
        machines = f"{len(self.machines)} machines ({', '.join(self.machines)})"
        head = f"{'column':<18}{'parts':>7}{'repeat':>9}{'reprod':>9}{'GRR':>9}{'part':>9}{'%GRR':>7}{'ndc':>5}  judgement"
        rows = [
            f"{name:<18}{g.parts:>7}{g.repeatability:>9.3g}{g.reproducibility:>9.3g}{g.grr:>9.3g}{g.part:>9.3g}"
            f"{g.percent_grr:>7.1f}{g.ndc:>5.0f}  {g.judgement}"
            for name, g in self.columns.items()
        ]
        aside = [f"put aside: {path}: {why}" for path, why in self.put_aside]
        return [f"{sum(self.exports.values())} exports of {len(self.exports)} boards, {machines}", head, *rows, *aside]


@dataclass(frozen=True)
class TruthError:
    """A measurement against truth over n good joints: mean and standard deviation of the error, median and 95 % of its size."""

    n: int
    bias: float
    spread: float
    p50: float
    p95: float


def gage_boards(
    paths: Sequence[Path],
    *,
    limits: Limits | None = None,
    columns: Iterable[str] | None = None,
    processes: int = 1,
    progress: Progress = lambda _: None,
) -> GageReport:
    """Gage R&R over exports of the same boards, taken repeatedly and on one or several machines (line and station).

    No model is needed and no label. Repeats are taken in the order of `inspected_at`. Raises `UsageFault` where nothing
    repeats, or no board is there.
    """
    wanted = tuple(columns) if columns is not None else (*_JOINT_COLUMNS, *_PACKAGE_COLUMNS)
    boards: list[BoardMeasures] = []
    aside: list[tuple[str, str]] = []
    for done in each_board(paths, _Measure(limits or Limits()), processes=processes, progress=progress, doing="measuring"):
        if done.result is None:
            aside.append((str(done.path), done.fault))
        else:
            boards.append(done.result)
    boards.sort(key=lambda b: b.inspected_at)
    readings = {
        name: [Reading(part, b.machine, value) for b in boards for part, value in b.values.get(name, {}).items()]
        for name in wanted
    }
    exports = {serial: sum(b.serial == serial for b in boards) for serial in dict.fromkeys(b.serial for b in boards)}
    return GageReport(gage_of(readings), exports, tuple(sorted({b.machine for b in boards})), tuple(aside))


def errors_against_truth(
    paths: Sequence[Path], *, limits: Limits | None = None, processes: int = 1, progress: Progress = lambda _: None
) -> dict[str, TruthError]:
    """Bias and spread of every measurement whose truth a simulated batch tells, over its good joints.

    Raises `LabelsFault` where the batches hold no `truth.csv`.
    """
    truth = truths_of(paths)
    if not truth:
        raise LabelsFault("batches", expected="truth.csv beside labels.csv", found="none", remedy="Simulate a batch.")
    errors: dict[str, list[float]] = {name: [] for name in _TRUTH}
    for done in each_board(paths, _Measure(limits or Limits()), processes=processes, progress=progress, doing="measuring"):
        for name, parts in done.result.values.items() if done.result else ():
            for part, value in parts.items():
                row = truth.get(_key(part), {}) if name in _TRUTH else {}
                if row.get("label") == "good" and row.get(_TRUTH[name]):
                    errors[name].append(value - float(row[_TRUTH[name]]))
    return {name: _summary(np.asarray(values)) for name, values in errors.items() if np.isfinite(values).any()}


@dataclass(frozen=True)
class _Measure:
    """The work on one board, importable by other processes."""

    limits: Limits

    def __call__(self, board: Path, root: Path) -> BoardMeasures:
        return _measures(prepare_board(open_export(board, root), self.limits))


def _measures(prepared: PreparedBoard) -> BoardMeasures:
    export, values = prepared.export, dict[str, dict[str, float]]()
    for package in prepared.packages:
        refdes = package.package.refdes
        for part in package.interfaces:
            names = [_name(export.serial, refdes, part.interface.name, ball) for ball in part.interface.ball]
            for column in _JOINT_COLUMNS:
                if column in part.columns:
                    values.setdefault(column, {}).update(zip(names, part.columns[column].tolist(), strict=True))
        if package.after is not None:
            top = {"warpage_um": package.after.warpage_um, "stack_height_um": package.after.height_um}
            for column, value in top.items():
                values.setdefault(column, {})[f"{export.serial}\t{refdes}"] = float(value)
    return BoardMeasures(export.machine, export.inspected_at, export.serial, values)


def _name(*key: str) -> str:
    return "\t".join(key)


def _key(name: str) -> tuple[str, str, str, str]:
    serial, refdes, interface, ball = (*name.split("\t"), "", "")[:4]
    return serial, refdes, interface, ball


def _summary(errors: np.ndarray) -> TruthError:
    known = errors[np.isfinite(errors)]
    size = np.abs(known)
    return TruthError(len(known), float(known.mean()), float(known.std()), float(np.median(size)), float(np.quantile(size, 0.95)))

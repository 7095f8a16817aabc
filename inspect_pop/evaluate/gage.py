"""How far measurements can be trusted: gage R&R over repeated exports, and bias and spread against known truth.

Gage R&R says how much of a measurement's spread comes from measuring (AIAG, Measurement Systems Analysis, 4th ed., ANOVA
method). The same parts are measured on several machines several times each. The variance splits into the part itself,
repeatability (the same machine again), reproducibility (another machine) and their interaction (machines that disagree
about some parts).
"""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.classes import GOOD
from inspect_pop.core.columns import COLUMNS
from inspect_pop.core.errors import LabelsFault, UsageFault
from inspect_pop.core.limits import Limits
from inspect_pop.core.text import pluralize
from inspect_pop.evaluate.collect import each_board, read_truth
from inspect_pop.ingest import open_export
from inspect_pop.pipeline.board import measure_board

__all__ = [
    "BoardMeasures",
    "GageReport",
    "GageResult",
    "Reading",
    "TruthError",
    "balance_readings",
    "compute_gage",
    "gage_boards",
    "gage_columns",
    "measure_errors",
]

Progress = Callable[[str], None]
# A joint of a board, or one of its packages: serial, refdes, interface, ball, the last two empty for a package.
Part = tuple[str, str, str, str]
# An interaction whose F test gives a higher p than this counts as repeatability, as in the manual.
_POOL_ABOVE = 0.25
# Measurements of a joint to study (`Column.repeated`; what has no unit is left out), and of a package.
_JOINT_COLUMNS = tuple(c.name for c in COLUMNS if c.repeated)
_PACKAGE_COLUMNS = ("warpage_um", "stack_height_um")
# Measurements whose truth a simulator writes, and its column.
_TRUTH = {c.name: c.truth for c in COLUMNS if c.truth}


@dataclass(frozen=True)
class Reading:
    """One measurement: which part (a joint of a board), on which machine, and the value."""

    part: Hashable
    machine: str
    value: float


@dataclass(frozen=True)
class GageResult:
    """Standard deviations in the column's unit, and the two figures that the manual judges by.

    `grr` combines `repeatability` and `reproducibility` (which includes the interaction); `total` combines `grr` and `part`.
    `percent_grr` is 100 grr / total: good below 10, usable with reason up to 30, not usable above. `ndc` is the number of
    distinct categories of parts; the manual asks for 5 or more. A figure that needs a second machine or a repetition is NaN
    without one.
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
        """Return the values for JSON, NaN as None."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}

    @property
    def judgement(self) -> str:
        """The manual's judgement of `percent_grr`."""
        if math.isnan(self.percent_grr):
            return "unknown"
        return (
            "good"
            if self.percent_grr < 10
            else "usable where the application allows it"
            if self.percent_grr <= 30
            else "not usable"
        )


def compute_gage(values: NDArray[np.floating]) -> GageResult:
    """Compute gage R&R of `values` (parts, machines, repeats): every part, on every machine, equally often.

    Raises `UsageFault` if nothing repeats: fewer than two parts, or one machine with one reading of each.
    """
    p, o, r = values.shape
    if not _has_repeats(values.shape):
        _refuse(values.shape)
    overall = values.mean()
    by_part, by_machine, cell = values.mean((1, 2)), values.mean((0, 2)), values.mean(2)
    ss_part, ss_machine = o * r * np.sum((by_part - overall) ** 2), p * r * np.sum((by_machine - overall) ** 2)
    ss_cross = r * np.sum((cell - by_part[:, None] - by_machine[None] + overall) ** 2)
    ss_error = np.sum((values - cell[..., None]) ** 2)
    df_cross, df_error = (p - 1) * (o - 1), p * o * (r - 1)
    ms_part, ms_machine = ss_part / (p - 1), ss_machine / (o - 1) if o > 1 else math.nan
    pooled = _should_pool(ss_cross, df_cross, ss_error, df_error)
    if pooled:
        ms_error = (ss_cross + ss_error) / (df_cross + df_error)
        ms_cross, interaction = ms_error, 0.0
    else:
        ms_error, ms_cross = ss_error / df_error, ss_cross / df_cross
        interaction = max(0.0, (ms_cross - ms_error) / r)
    machines = max(0.0, (ms_machine - ms_cross) / (p * r)) if o > 1 else math.nan
    part = max(0.0, (ms_part - ms_cross) / (o * r))
    between = interaction if math.isnan(machines) else machines + interaction
    grr = ms_error + between
    total = grr + part
    return GageResult(
        parts=p,
        machines=o,
        repeats=r,
        repeatability=math.sqrt(ms_error),
        reproducibility=math.nan if math.isnan(machines) else math.sqrt(between),
        interaction=math.sqrt(interaction),
        grr=math.sqrt(grr),
        part=math.sqrt(part),
        total=math.sqrt(total),
        percent_grr=100 * math.sqrt(grr / total) if total > 0 else math.nan,
        ndc=float(max(1, math.floor(math.sqrt(2 * part / grr)))) if grr > 0 else math.nan,
        pooled=pooled,
    )


def balance_readings(readings: Sequence[Reading]) -> tuple[NDArray[np.float64], int]:
    """Return the (parts, machines, repeats) values of parts that every machine measured, and how many parts are left out.

    The number of repeats is the one that keeps most readings. Further readings of a part on a machine are left out, the
    latest first; readings that are NaN do not count.
    """
    machines = sorted({x.machine for x in readings})
    taken: dict[Hashable, dict[str, list[float]]] = {}
    for x in readings:
        if math.isfinite(x.value):
            taken.setdefault(x.part, {}).setdefault(x.machine, []).append(x.value)
    fewest = {part: min(len(by.get(m, ())) for m in machines) for part, by in taken.items()}
    levels = sorted({n for n in fewest.values() if n > 0})
    if not levels:
        return np.zeros((0, len(machines), 0)), len({x.part for x in readings})
    repeats = max(levels, key=lambda n: (n * sum(f >= n for f in fewest.values()), n))
    parts = [part for part, n in fewest.items() if n >= repeats]
    values = np.array([[taken[part][m][:repeats] for m in machines] for part in parts])
    return values, len({x.part for x in readings}) - len(parts)


def gage_columns(columns: Mapping[str, Sequence[Reading]]) -> dict[str, GageResult]:
    """Compute gage R&R of each column; one with a single part, or whose parts were read only once, is left out.

    Raises `UsageFault` if that leaves none.
    """
    tables = {name: balance_readings(readings)[0] for name, readings in columns.items()}
    results = {name: compute_gage(values) for name, values in tables.items() if _has_repeats(values.shape)}
    if not results:
        _refuse(max((values.shape for values in tables.values()), default=(0, 0, 0)))
    return results


def _has_repeats(shape: tuple[int, ...]) -> bool:
    parts, machines, repeats = shape
    return parts >= 2 and machines * repeats >= 2


def _refuse(shape: tuple[int, ...]) -> NoReturn:
    parts, machines, repeats = shape
    raise UsageFault(
        "gage R&R",
        expected="two parts or more, each measured twice or more",
        found=f"{pluralize(parts, 'part')}, {pluralize(machines, 'machine')}, {pluralize(repeats, 'reading')} on each",
        remedy="Inspect the same boards again and give all exports together; copies of an export do not count.",
    )


def _should_pool(ss_cross: float, df_cross: int, ss_error: float, df_error: int) -> bool:
    """Return whether the interaction counts as repeatability: no F test of it is possible, or it is not significant."""
    from scipy.special import fdtrc

    if df_error == 0 or df_cross == 0 or ss_error == 0:
        return bool(df_error == 0 or ss_cross == 0 or df_cross == 0)
    return bool(fdtrc(df_cross, df_error, (ss_cross / df_cross) / (ss_error / df_error)) > _POOL_ABOVE)


@dataclass(frozen=True)
class BoardMeasures:
    """The measurements of one export: values by column and part, where a part is a joint or a package of the board.

    `digest` is the export's.
    """

    digest: str
    machine: str
    inspected_at: str
    serial: str
    values: dict[str, dict[Part, float]]


@dataclass(frozen=True)
class GageReport:
    """Gage R&R by column; `exports` counts the repeats per board, `put_aside` (path, why) is what could not be read."""

    columns: dict[str, GageResult]
    exports: dict[str, int]
    machines: tuple[str, ...]
    put_aside: tuple[tuple[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        columns = {name: result.to_dict() | {"judgement": result.judgement} for name, result in self.columns.items()}
        return {**asdict(self), "columns": columns}

    def lines(self) -> list[str]:
        """Return the report as a table for a terminal."""
        machines = f"{pluralize(len(self.machines), 'machine')} ({', '.join(self.machines)})"
        head = f"{'column':<18}{'parts':>7}{'repeat':>9}{'reprod':>9}{'GRR':>9}{'part':>9}{'%GRR':>7}{'ndc':>5}  judgement"
        rows = [
            f"{name:<18}{g.parts:>7}{g.repeatability:>9.3g}{g.reproducibility:>9.3g}{g.grr:>9.3g}{g.part:>9.3g}"
            f"{g.percent_grr:>7.1f}{g.ndc:>5.0f}  {g.judgement}"
            for name, g in self.columns.items()
        ]
        aside = [f"put aside: {path}: {why}" for path, why in self.put_aside]
        exports, boards = pluralize(sum(self.exports.values()), "export"), pluralize(len(self.exports), "board")
        return [f"{exports} of {boards}, {machines}", head, *rows, *aside]


@dataclass(frozen=True)
class TruthError:
    """A measurement's error over n good joints: mean and standard deviation, median and 95th percentile of its size."""

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
    """Compute gage R&R over repeated exports of the same boards, from one or several machines (line and station).

    No model and no labels are needed. Repeats are taken in the order of `inspected_at`. `columns` are the measurements to
    study; None for all. A copy of an export is no second measurement and is put aside. Raises `UsageFault` if nothing repeats,
    or there is no board.
    """
    wanted = tuple(columns) if columns is not None else (*_JOINT_COLUMNS, *_PACKAGE_COLUMNS)
    boards: list[BoardMeasures] = []
    aside: list[tuple[str, str]] = []
    digests: set[str] = set()
    for done in each_board(paths, _MeasureBoard(limits or Limits()), processes=processes, progress=progress, doing="measuring"):
        if done.result is None:
            aside.append((str(done.path), done.fault))
        elif done.result.digest in digests:
            aside.append((str(done.path), "a copy of another export, which is no second measurement"))
        else:
            digests.add(done.result.digest)
            boards.append(done.result)
    boards.sort(key=lambda b: b.inspected_at)
    readings = {
        name: [Reading(part, b.machine, value) for b in boards for part, value in b.values.get(name, {}).items()]
        for name in wanted
    }
    exports = {serial: sum(b.serial == serial for b in boards) for serial in dict.fromkeys(b.serial for b in boards)}
    return GageReport(gage_columns(readings), exports, tuple(sorted({b.machine for b in boards})), tuple(aside))


def measure_errors(
    paths: Sequence[Path], *, limits: Limits | None = None, processes: int = 1, progress: Progress = lambda _: None
) -> dict[str, TruthError]:
    """Return bias and spread of every measurement whose truth a simulated batch holds, over its good joints.

    Raises `LabelsFault` if the batches hold no `truth.csv`.
    """
    truth = read_truth(paths)
    if not truth:
        raise LabelsFault("batches", expected="truth.csv beside labels.csv", found="none", remedy="Simulate a batch.")
    errors: dict[str, list[float]] = {name: [] for name in _TRUTH}
    for done in each_board(paths, _MeasureBoard(limits or Limits()), processes=processes, progress=progress, doing="measuring"):
        for name, parts in done.result.values.items() if done.result else ():
            for part, value in parts.items():
                row = truth.get(part, {}) if name in _TRUTH else {}
                if row.get("label") == GOOD and row.get(_TRUTH[name]):
                    errors[name].append(value - float(row[_TRUTH[name]]))
    results = {}
    for name, values in errors.items():
        known = np.array([error for error in values if math.isfinite(error)])
        if len(known):
            p50, p95 = np.median(np.abs(known)), np.quantile(np.abs(known), 0.95)
            results[name] = TruthError(len(known), float(known.mean()), float(known.std()), float(p50), float(p95))
    return results


@dataclass(frozen=True)
class _MeasureBoard:
    """The work on one board, importable by other processes."""

    limits: Limits

    def __call__(self, board: Path, root: Path) -> BoardMeasures:
        prepared = measure_board(open_export(board, root), self.limits)
        export, values = prepared.export, dict[str, dict[Part, float]]()
        for package in prepared.packages:
            refdes = package.package.refdes
            for part in package.interfaces:
                joints: list[Part] = [(export.serial, refdes, part.interface.name, ball) for ball in part.interface.ball]
                for column in _JOINT_COLUMNS:
                    if column in part.columns:
                        values.setdefault(column, {}).update(zip(joints, part.columns[column].tolist(), strict=True))
            if package.after is not None:
                top = {"warpage_um": package.after.warpage_um, "stack_height_um": package.after.height_um}
                for column, value in top.items():
                    values.setdefault(column, {})[export.serial, refdes, "", ""] = float(value)
        return BoardMeasures(export.digest, export.machine, export.inspected_at, export.serial, values)

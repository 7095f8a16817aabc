"""How far measurements can be trusted: gage R&R over a user's own repeated exports, and bias and spread against known truth."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inspect_pop.errors import LabelsFault
from inspect_pop.ingest import open_export
from inspect_pop.joints import COLUMNS
from inspect_pop.learn.boards import each_board
from inspect_pop.learn.collect import truths_of
from inspect_pop.learn.gage import GageResult, Reading, gage_of
from inspect_pop.limits import Limits
from inspect_pop.prepare import PreparedBoard, prepare_board

__all__ = ["BoardMeasures", "GageReport", "TruthError", "errors_against_truth", "gage_boards"]

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

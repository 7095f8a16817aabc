"""Evaluate a model: the line's verdicts on labelled boards, and every figure that follows from them.

Definitions: an *escape* is a defective joint whose verdict is `pass`; a *false call* is a good joint whose verdict is
`fail`; a joint without a row, or of a board that could not be inspected, is undecided and counts as `review`.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.batch.worker import JOINTS_PER_MACHINE, defect_log_odds
from inspect_pop.classify.model import Card, Model, OperatingPoint, load
from inspect_pop.classify.operating_points import choose_machine_point
from inspect_pop.classify.session import Classifier
from inspect_pop.core.classes import CLASSES, GOOD
from inspect_pop.core.columns import KEY, JointTable
from inspect_pop.core.errors import InputFault, LabelsFault
from inspect_pop.core.limits import Limits
from inspect_pop.core.statistics import calibration_error, estimate_rate
from inspect_pop.core.system import utc_now
from inspect_pop.core.text import pluralize
from inspect_pop.evaluate.collect import each_board
from inspect_pop.evaluate.label_book import describe_unmatched, match_inspections, read_book
from inspect_pop.evaluate.samples import Samples
from inspect_pop.ingest import BoardExport, Source, find_exports, open_export
from inspect_pop.pipeline.board import inspect_board

__all__ = [
    "HEAD",
    "LEARNT_EXPORTS",
    "SCHEMA",
    "Outcomes",
    "evaluate",
    "find_learnt_boards",
    "judge",
    "list_learnt_boards",
    "match_labels",
    "outcomes_of",
    "row",
    "shorten_digest",
    "summary",
    "table",
]

SCHEMA = "inspect-pop-evaluation/1"
_GOOD = CLASSES.index(GOOD)
HEAD = (
    "| boards of | number | joints | defects | defects passed | head-in-pillow passed | good failed (ppm) | review | exact label "
    "| calibration error |"
)


@dataclass(frozen=True)
class Outcomes:
    """Parallel arrays of n labelled joints.

    `truth` (n,) int8 index in `CLASSES`; `label` (n,) int8 the line's class, -1 undecided; `verdict` (n,) text;
    `probabilities` (n, 5) float32, NaN if undecided; `serial`, `machine`, `refdes`, `interface`, `ball`, `reason` (n,) text.
    `weight` (n,) float64 is how many joints each one stands for: 1 but for those drawn from all that passed.
    """

    truth: NDArray[np.int8]
    label: NDArray[np.int8]
    verdict: NDArray[np.object_]
    probabilities: NDArray[np.float32]
    serial: NDArray[np.object_]
    machine: NDArray[np.object_]
    refdes: NDArray[np.object_]
    interface: NDArray[np.object_]
    ball: NDArray[np.object_]
    reason: NDArray[np.object_]
    weight: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        if not len(self.weight):
            object.__setattr__(self, "weight", np.ones(len(self.truth)))
        lengths = {f.name: len(getattr(self, f.name)) for f in fields(self)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"outcomes of unequal length: {lengths}")

    def __len__(self) -> int:
        return len(self.truth)

    @cached_property
    def board(self) -> NDArray[np.int64]:
        """The (n,) number of each joint's board."""
        return np.unique(self.serial.astype(str), return_inverse=True)[1]

    @property
    def escaped(self) -> NDArray[np.bool_]:
        """Which (n,) joints are defective and passed."""
        return np.asarray((self.truth != _GOOD) & (self.verdict == "pass"))

    @property
    def false_call(self) -> NDArray[np.bool_]:
        """Which (n,) joints are good and failed."""
        return np.asarray((self.truth == _GOOD) & (self.verdict == "fail"))

    def take(self, index: NDArray[Any]) -> "Outcomes":
        """Return the joints of a boolean mask or integer index."""
        return Outcomes(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @staticmethod
    def of_scores(
        samples: Samples, probabilities: NDArray[np.float32], log_odds: NDArray[np.float32], point: OperatingPoint
    ) -> "Outcomes":
        """Return the outcomes of samples by their scores and the thresholds alone, without flags and neighbours."""
        fails, passes = log_odds >= point.fail_above, log_odds < point.pass_below
        best, worst = probabilities.argmax(axis=1), 1 + probabilities[:, 1:].argmax(axis=1)
        text = {name: getattr(samples, name).astype(object) for name in ("machine", "refdes", "interface", "ball")}
        return Outcomes(
            truth=samples.label,
            label=np.where(passes, _GOOD, np.where(fails, worst, best)).astype(np.int8),
            verdict=np.where(fails, "fail", np.where(passes, "pass", "review")).astype(object),
            probabilities=probabilities,
            serial=samples.serials.astype(object),
            weight=samples.weight.astype(np.float64),
            reason=np.full(len(samples), "", object),
            **text,
        )

    @staticmethod
    def concat(parts: Sequence["Outcomes"]) -> "Outcomes":
        """Return all joints in order."""
        return Outcomes(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Outcomes)})


def judge(outcomes: Outcomes) -> dict[str, Any]:
    """Return all figures as one object for JSON: each rate with its count, exact interval and interval over boards.

    The flat names (`escape_rate`, `false_call_ppm`, ...) are those of an independent scoring of `joints.parquet`.
    """
    decided = np.isfinite(outcomes.probabilities).all(axis=1)
    error = calibration_error(outcomes.probabilities[decided], outcomes.truth[decided], outcomes.weight[decided])
    labels = [*enumerate(CLASSES), (-1, "none")]  # `none` if nothing could be decided
    return {
        "schema": SCHEMA,
        **_rates(outcomes),
        "stands_for": round(float(outcomes.weight.sum())),
        "confusion": {
            true: {name: int(((outcomes.truth == t) & (outcomes.label == k)).sum()) for k, name in labels}
            for t, true in enumerate(CLASSES)
        },
        "recall": _each_class(outcomes, lambda k: (outcomes.label == k, outcomes.truth == k)),
        "exact_label_of_defects": _rate(outcomes, outcomes.label == outcomes.truth, outcomes.truth != _GOOD),
        "escapes_of": _each_class(outcomes, lambda k: (outcomes.escaped, outcomes.truth == k), skip_good=True),
        "false_calls_as": _each_class(
            outcomes, lambda k: (outcomes.false_call & (outcomes.label == k), outcomes.truth == _GOOD), skip_good=True
        ),
        "review_of": _each_class(outcomes, lambda k: (outcomes.verdict == "review", outcomes.truth == k)),
        "calibration": {"expected_error": None if np.isnan(error) else error, "joints": int(decided.sum())},
        "by": {name: _rates_by(outcomes, name) for name in ("serial", "machine", "interface")},
    }


def _rates(o: Outcomes) -> dict[str, Any]:
    """Return the figures of a whole judgement and of each group within it."""
    bad, good = o.truth != _GOOD, o.truth == _GOOD
    escapes, calls, review = _rate(o, o.escaped, bad), _rate(o, o.false_call, good), _rate(o, o.verdict == "review", bad | good)
    return {
        "joints": len(o),
        "boards": len(set(o.serial)),
        "defects": int(bad.sum()),
        "undecided": int((o.label < 0).sum()),
        "escapes": escapes["count"],
        "escape_rate": escapes["rate"],
        "escape_upper95": escapes["upper95"],
        "escape": escapes,
        "false_calls": calls["count"],
        "false_call_ppm": None if calls["rate"] is None else 1e6 * calls["rate"],
        "false_call_upper95_ppm": 1e6 * calls["upper95"],
        "false_call": calls,
        "review_share": review["rate"],
        "review": review,
        "label_miss": _rate(o, o.label == _GOOD, bad),
        "label_false": _rate(o, o.label != _GOOD, good),
    }


def _rate(o: Outcomes, hit: NDArray[np.bool_], among: NDArray[np.bool_]) -> dict[str, Any]:
    return estimate_rate(np.asarray(hit), np.asarray(among), o.board, weight=o.weight).to_dict()


def _each_class(
    o: Outcomes, of: Callable[[int], tuple[NDArray[np.bool_], NDArray[np.bool_]]], *, skip_good: bool = False
) -> dict[str, Any]:
    return {name: _rate(o, *of(k)) for k, name in enumerate(CLASSES) if not (skip_good and k == _GOOD)}


def _rates_by(o: Outcomes, name: str) -> dict[str, Any]:
    groups = getattr(o, name)
    return {str(g): _rates(o.take(groups == g)) for g in dict.fromkeys(groups)}


def table(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines of a Markdown table with one row per name, from the results of `judge`."""
    return [HEAD, "|---" * HEAD.count(" | ") + "|---|", *(row(name, values) for name, values in figures.items())]


def row(name: str, figures: Mapping[str, Any]) -> str:
    """Return one row of the table. A group within a judgement has fewer figures; those that it lacks are a dash."""
    cells = [name, *(str(figures[count]) for count in ("boards", "joints", "defects"))]
    cells += [_format_cell(figures["escape"]), _format_cell(figures.get("escapes_of", {}).get("head_in_pillow"))]
    cells += [_format_cell(figures["false_call"], 1e6, 0, ""), _format_cell(figures["review"])]
    cells += [_format_cell(figures.get("exact_label_of_defects"))]
    error = figures.get("calibration", {}).get("expected_error")
    cells.append("-" if error is None else f"{error:.4f}")
    return f"| {' | '.join(cells)} |"


def _format_cell(rate: Mapping[str, Any] | None, times: float = 100, digits: int = 2, unit: str = " %") -> str:
    """Format a rate and its exact 95 % interval."""
    if not rate or not rate["of"]:
        return "-"
    return f"{times * rate['rate']:.{digits}f}{unit} ({times * rate['low']:.{digits}f} to {times * rate['high']:.{digits}f})"


# `inspect-pop evaluate`: the line's verdicts on labelled boards, counted, with how sure each figure is.
#
# The boards are inspected by the code of the line, decision rules included. The joints of a board that goes into quarantine
# count as undecided.


LEARNT_EXPORTS = "exports learnt from"  # field of a card's `data`: short digests of the exports
_DIGEST_LENGTH = 12  # 48 bits: two of 100,000 exports share one with a chance of 2e-5
_LEARNT = ("labelled boards learnt from", "training boards", "calibration boards")  # fields of a card's `data`
Progress = Callable[[str], None]
BoardLabels = Mapping[tuple[str, str, str], str]


def evaluate(
    paths: Sequence[Source],
    model: Path | None,
    *,
    limits: Limits | None = None,
    processes: int = 1,
    progress: Progress = lambda _: None,
    json_file: Path | None = None,
    follow_machines: bool = False,
) -> dict[str, Any]:
    """Inspect all labelled boards with a model and judge the outcome (`outcomes.judge`), also into `json_file`.

    Parameters
    ----------
    model
        A model folder, or a folder of models; None for the current model.
    follow_machines
        First fit thresholds for each machine to its unlabelled scores, as `run --follow-machines` does.

    Raises
    ------
    LabelsFault
        There are no labels, or none of these boards.
    ModelFault, UsageFault
        The model cannot be used; a path does not exist, or holds no board.
    """
    loaded = load(model)
    notes: list[str] = []
    outcomes, quarantine = outcomes_of(
        paths, loaded, limits=limits, processes=processes, progress=progress, follow_machines=follow_machines, notes=notes
    )
    report = {
        "model": {"name": loaded.card.name, "version": loaded.card.version, "digest": loaded.digest},
        **judge(outcomes),
        "learnt_from": find_learnt_boards(paths, loaded.card, set(outcomes.serial.tolist())),
        "quarantine": [{"path": path, "reason": why} for path, why in quarantine],
        "notes": notes,
    }
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
    return report


def list_learnt_boards(card: Card) -> set[str]:
    """Return the serials of all boards that a model has learnt from: its network, its calibration or its thresholds."""
    return {str(serial) for name in _LEARNT for serial in card.data.get(name, ())}


def find_learnt_boards(paths: Sequence[Source], card: Card, serials: Collection[str]) -> list[str] | None:
    """Return which of the boards a model has learnt from, sorted; None where its card does not say what it has learnt from.

    A board is known by its export's digest, whatever its serial is now, and by its serial.
    """
    if not any(name in card.data for name in (*_LEARNT, LEARNT_EXPORTS)):
        return None
    digests, learnt = set(card.data.get(LEARNT_EXPORTS, ())), set(serials) & list_learnt_boards(card)
    for path, root in find_exports(paths) if digests else ():
        export = _identify_board(path, root).export
        if export is not None and export.serial in serials and shorten_digest(export.digest) in digests:
            learnt.add(export.serial)
    return sorted(learnt)


def shorten_digest(digest: str) -> str:
    """Return the part of an export's digest that a model's card keeps."""
    return digest[:_DIGEST_LENGTH]


def outcomes_of(
    paths: Sequence[Source],
    model: Model,
    *,
    limits: Limits | None = None,
    processes: int = 1,
    progress: Progress = lambda _: None,
    only: Collection[str] | None = None,
    follow_machines: bool = False,
    notes: list[str] | None = None,
) -> tuple[Outcomes, list[tuple[str, str]]]:
    """Return every labelled joint's outcome, and (path, reason) of the boards that could not be inspected.

    `only` names the serials that count; None for all. `follow_machines` is as in `evaluate`. `notes` takes lines on boards
    without labels, labels without boards, and labels that may be about another inspection.
    """
    boards = {path: _identify_board(path, root) for path, root in find_exports(paths)}
    boards = {path: board for path, board in boards.items() if only is None or board.serial in only}
    exports = {path: board.export for path, board in boards.items() if board.export is not None}
    book = read_book(paths, {export.serial: export.recipe for export in exports.values()})
    matched = match_inspections(book, exports.values())
    opened = {export.serial for export in exports.values()}
    labels = {path: book.of_board(board.serial) for path, board in boards.items() if board.serial not in opened}
    labels |= {path: matched.by_path.get(export.path, {}) for path, export in exports.items()}
    unmatched = describe_unmatched([board.serial for board in boards.values()], book.serials if only is None else ())
    lines = [*matched.unclear, *unmatched] if only is None else [*matched.unclear]
    if notes is not None:
        notes += lines
    parts, quarantine = [], []
    work = _InspectBoard(model.folder, limits or Limits())
    if follow_machines:
        odds: dict[str, list[float]] = {}
        for done in each_board(paths, work, processes=processes, progress=progress, doing="scoring", only=boards):
            if done.result is not None and len(odds.setdefault(boards[done.path].machine, [])) < JOINTS_PER_MACHINE:
                odds[boards[done.path].machine] += defect_log_odds(done.result)
        # A machine that the model was trained on has its own thresholds, from labels.
        card = model.card
        followed = sorted(odds.keys() - card.machines.keys())
        points = [(m, choose_machine_point(np.sort(odds[m]), card.good_scores, card.operating_point).point) for m in followed]
        work = replace(work, points=tuple(points))
    for done in each_board(paths, work, processes=processes, progress=progress, doing="inspecting", only=boards):
        board = boards[done.path]
        if done.result is None:
            quarantine.append((str(done.path), done.fault))
        if of_board := labels.get(done.path):
            weights = matched.weights.get(board.export.path, {}) if board.export else {}
            parts.append(match_labels(board.serial, board.machine, of_board, done.result, weights))
    if not parts:
        names = ", ".join([*book.serials[:5], *(["…"] if len(book.serials) > 5 else [])])
        remedy = "; ".join(lines)
        raise LabelsFault("labelled boards", expected="labels of these boards", found=f"labels of {names}", remedy=remedy)
    return Outcomes.concat(parts), quarantine


def match_labels(
    serial: str,
    machine: str,
    labels: BoardLabels,
    joints: JointTable | None,
    weights: Mapping[tuple[str, str, str], float] | None = None,
) -> Outcomes:
    """Return the outcomes of one board's labelled joints; `joints` is None if the board could not be inspected.

    `weights` has how many joints a labelled joint stands for, of those that stand for more than themselves.
    """
    n, keys = len(labels), list(labels)
    row: dict[tuple[str, ...], int] = {}
    if joints is not None:
        row = {key: k for k, key in enumerate(zip(*(joints[c] for c in KEY[1:]), strict=True))}
    at = np.array([row.get(key, -1) for key in keys], np.int64)
    label, verdict = np.full(n, -1, np.int8), np.full(n, "review", object)
    reason, p = np.full(n, "not inspected", object), np.full((n, len(CLASSES)), np.nan, np.float32)
    if joints is not None:
        there = at >= 0
        number = {name: k for k, name in enumerate(CLASSES)}
        label[there] = [number.get(name, -1) for name in joints["label"][at[there]]]
        verdict[there], reason[there] = joints["verdict"][at[there]], joints["reason"][at[there]]
        p[there] = joints.probabilities()[at[there]]
    refdes, interface, ball = (np.array([key[k] for key in keys], object) for k in range(3))
    return Outcomes(
        truth=np.array([CLASSES.index(labels[key]) for key in keys], np.int8),
        label=label,
        verdict=verdict,
        probabilities=p,
        serial=np.full(n, serial, object),
        machine=np.full(n, machine, object),
        refdes=refdes,
        interface=interface,
        ball=ball,
        reason=reason,
        weight=np.array([(weights or {}).get(key, 1.0) for key in keys]),
    )


def summary(report: Mapping[str, Any]) -> list[str]:
    """Return the figures as text for a terminal, each with the wider of its two intervals."""
    model = report.get("model", {})
    boards = pluralize(report["boards"], "board")
    lines = [f"{model.get('name', 'model')} {model.get('version', '')}: {boards}, {pluralize(report['joints'], 'joint')}"]
    if "learnt_from" in report:
        lines[0] += f"; {_describe_learnt(report['learnt_from'], boards)}"
    if report.get("stands_for", report["joints"]) != report["joints"]:
        lines.append(f"  some joints were drawn from those that passed: together they stand for {report['stands_for']} joints")
    lines += [
        f"  defects that pass     {_format_rate(report['escape'])}",
        f"  good joints that fail {_format_rate(report['false_call'], ppm=True)}",
        f"  to review             {_format_rate(report['review'])}",
        f"  exact label of defects {_format_rate(report['exact_label_of_defects'])}",
    ]
    lines += [f"  found as {name:<15}{_format_rate(rate)}" for name, rate in report["recall"].items() if rate["of"]]
    error = report["calibration"]["expected_error"]
    lines += [f"  expected calibration error {error:.4f}"] if error is not None else []
    lines += [f"  {note}" for note in report.get("notes", [])]
    lines += [f"  in quarantine: {item['path']}: {item['reason']}" for item in report.get("quarantine", [])]
    return lines


def _describe_learnt(learnt: Sequence[str] | None, boards: str) -> str:
    """Say how many of the boards the model has learnt from, and what follows; None: its card does not say."""
    if learnt is None:
        return "which of them the model has learnt from is not known: its card does not say"
    words = "figures on boards that taught it say nothing about other boards" if learnt else "all are new to it"
    return f"the model has learnt from {len(learnt)} of {boards}: {words}"


@dataclass(frozen=True)
class _InspectBoard:
    """The work on one board, importable by other processes; each loads the model once."""

    model: Path
    limits: Limits
    points: tuple[tuple[str, OperatingPoint], ...] = ()

    def __call__(self, board: Path, root: Path) -> JointTable:
        export = open_export(board, root)
        classifier, point = _load_classifier(self.model), dict(self.points).get(export.machine)
        decider = classifier if point is None else classifier.with_operating_point(point)
        return inspect_board(export, decider, self.limits, started_at=utc_now()).joints


@lru_cache(maxsize=2)
def _load_classifier(model: Path) -> Classifier:
    return Classifier(load(model))


@dataclass(frozen=True)
class _BoardIdentity:
    """What is known of a board before it is inspected; `export` is None if it cannot be opened."""

    serial: str
    machine: str
    export: BoardExport | None


def _identify_board(path: Path, root: Path) -> _BoardIdentity:
    try:
        export = open_export(path, root)
        return _BoardIdentity(export.serial, export.machine, export)
    except InputFault:  # inspecting it says why; its serial may still be readable
        pass
    serial = path.name  # the folder's name is the serial by custom
    try:
        manifest = json.loads((path / "export.json").read_text(encoding="utf-8-sig"))
        if isinstance(manifest, dict) and isinstance(manifest.get("serial"), str):
            serial = manifest["serial"]
    except (OSError, ValueError):
        pass
    return _BoardIdentity(serial, "unknown", None)


def _format_rate(rate: Mapping[str, Any], *, ppm: bool = False) -> str:
    if rate["rate"] is None:
        return "none to count"
    low = min(rate["low"], rate["low"] if rate["board_low"] is None else rate["board_low"])
    high = max(rate["high"], rate["high"] if rate["board_high"] is None else rate["board_high"])
    unit, scale, digits = ("ppm", 1e6, 0) if ppm else ("%", 100, 2)
    value, lower, upper = (f"{scale * x:.{digits}f}" for x in (rate["rate"], low, high))
    return f"{value} {unit} ({rate['count']} of {rate['of']}; 95 %: {lower} to {upper})"

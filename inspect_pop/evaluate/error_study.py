"""The error study: every miss and every false call on labelled boards, its slices beside a good neighbour's, grouped.

What limits a model is seen in what its errors have in common: a class, a thin web, a volume just under two thirds, a
corner of the package, a machine. The page shows the largest groups first, and every joint in them.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.model import load
from inspect_pop.classify.session import Classifier
from inspect_pop.core.joint_table import JointTable
from inspect_pop.core.limits import Limits
from inspect_pop.evaluate.boards import each_board
from inspect_pop.evaluate.collect import recipes_of, truths_of
from inspect_pop.evaluate.label_book import LabelBook, read_book
from inspect_pop.ingest import find_exports, open_export
from inspect_pop.pipeline.board import PreparedBoard, PreparedInterface, inspect_prepared, prepare_board, utc_now

__all__ = ["Case", "groups_of", "study", "write_page"]

KINDS = ("escape", "false call", "defect for review", "good for review")
# Normalised grey from here to there fills a byte: voids lie below the background's 0, large joints' cores above 1.
_LOW, _HIGH = -0.15, 1.35
# Bands by which cases are grouped: shares of nominal; two thirds is where starved begins, four thirds where excess does.
_VOLUME = (0.5, 0.6, 0.64, 2 / 3, 0.7, 0.8, 1.2, 4 / 3)
_STANDOFF = (0.8, 0.9, 0.95, 1.05, 1.1, 1.2)
_GAP = 2  # pixels between two slices, and between a joint and its neighbour


@dataclass(frozen=True)
class Case:
    """One joint on which a person and the machine did not agree.

    `kind` is one of `KINDS`. `p_defect` is the model's, `place` says where on the package, `standoff` and `volume` what was
    measured (the volume's truth where a simulator tells it); `variety`, `web` and `gap` are a simulator's truth in words,
    empty where it is not known. `picture` is (rows, cols) uint8: the joint's
    slices from the lower pad up, and under them those of the nearest good joint.
    """

    kind: str
    truth: str
    said: str
    p_defect: float
    reason: str
    joint: str
    machine: str
    interface: str
    place: str
    variety: str
    standoff: str
    volume: str
    web: str
    gap: str
    picture: NDArray[np.uint8]


def study(
    paths: Sequence[Path],
    model: Path | None,
    *,
    page: Path | None = None,
    limits: Limits | None = None,
    processes: int = 1,
    reviews: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Case]:
    """Every joint on which labels and the line disagree, escapes first; also as one self-contained `page`.

    Raises `LabelsFault`, `ModelFault`, `UsageFault` as `evaluate` does.
    """
    loaded = load(model)
    recipes, _ = recipes_of(find_exports(paths))
    work = _Study(loaded.folder, limits or Limits(), read_book(paths, recipes), truths_of(paths))
    cases: list[Case] = []
    for board in each_board(paths, work, processes=processes, progress=progress, doing="studying"):
        cases += board.result or []
    cases = [c for c in cases if reviews or "review" not in c.kind]
    cases.sort(key=lambda c: (KINDS.index(c.kind), c.truth, c.variety, c.p_defect))
    if page is not None:
        write_page(cases, page, f"{loaded.card.name} {loaded.card.version}")
    return cases


def groups_of(cases: Sequence[Case]) -> dict[str, list[tuple[str, dict[str, int]]]]:
    """Counts of each kind by what the cases have in common: (group, count by kind), the largest groups first."""
    found = {}
    for name in ("truth", "variety", "volume", "web", "gap", "standoff", "interface", "place", "machine"):
        groups: dict[str, Counter[str]] = {}
        for case in cases:
            groups.setdefault(str(getattr(case, name)) or "not known", Counter())[case.kind] += 1
        if set(groups) != {"not known"}:
            found[name] = [(g, dict(n)) for g, n in sorted(groups.items(), key=lambda item: (-item[1].total(), item[0]))]
    return found


def write_page(cases: Sequence[Case], page: Path, model: str, most: int = 300) -> None:
    """One HTML file with everything inside; `most` cases with pictures, the rest counted."""
    from inspect_pop.report.page import png_address, render

    shown = [(case, png_address(case.picture)) for case in cases[:most]]
    counts = {kind: sum(c.kind == kind for c in cases) for kind in KINDS}
    page.parent.mkdir(parents=True, exist_ok=True)
    text = render("study.html", model=model, kinds=KINDS, counts=counts, groups=groups_of(cases), shown=shown, total=len(cases))
    page.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class _Study:
    """The work on one board, importable by other processes."""

    model: Path
    limits: Limits
    book: LabelBook
    truth: dict[tuple[str, str, str, str], dict[str, str]]

    def __call__(self, board: Path, root: Path) -> list[Case]:
        export = open_export(board, root)
        if not self.book.of_board(export.serial):
            return []
        prepared = prepare_board(export, self.limits)
        joints = inspect_prepared(prepared, _classifier(self.model), self.limits, started_at=utc_now()).joints
        cases, first = [], 0
        for package in prepared.packages:
            for part in package.interfaces:
                rows = np.arange(first, first + len(part.interface.ball))
                cases += self._of_interface(prepared, package.package.refdes, part, joints.take(rows))
                first += len(rows)
        return cases

    def _of_interface(self, prepared: PreparedBoard, refdes: str, part: PreparedInterface, joints: JointTable) -> list[Case]:
        serial, name = prepared.export.serial, part.interface.name
        labels = self.book.of_board(serial)
        truth = [labels.get((refdes, name, ball), "") for ball in part.interface.ball]
        cases = []
        for k, label in enumerate(truth):
            kind = _kind(label, str(joints["verdict"][k]))
            if kind and part.windows is not None:
                known = self.truth.get((serial, refdes, name, part.interface.ball[k]), {})
                cases.append(_case(kind, label, k, part, joints, known, prepared.export.machine, truth))
        return cases


@lru_cache(maxsize=1)
def _classifier(model: Path) -> Classifier:
    return Classifier(load(model))


def _kind(truth: str, verdict: str) -> str:
    """Which kind of disagreement; empty where there is none, or no label."""
    disagree = {
        (True, "fail"): "false call",
        (True, "review"): "good for review",
        (False, "pass"): "escape",
        (False, "review"): "defect for review",
    }
    return disagree.get((truth == "good", verdict), "") if truth else ""


def _case(
    kind: str,
    label: str,
    k: int,
    part: PreparedInterface,
    joints: JointTable,
    known: dict[str, str],
    machine: str,
    truth: Sequence[str],
) -> Case:
    return Case(
        kind=kind,
        truth=label,
        said=str(joints["label"][k]),
        p_defect=float(joints.probabilities()[k, 1:].sum()),
        reason=str(joints["reason"][k]),
        joint=" ".join(str(joints[c][k]) for c in ("serial", "refdes", "interface", "ball")),
        machine=machine,
        interface=part.interface.name,
        place=_place(part, k),
        variety=known.get("variety", ""),
        standoff=_band(f"{joints['standoff_um'][k] / part.interface.gap_um}", _STANDOFF, "of nominal"),
        volume=_band(known.get("volume_ratio") or f"{joints['volume_ratio'][k]}", _VOLUME, "of nominal"),
        web=_band(known.get("web_um", ""), (20, 30, 45, 61, 100), "um"),
        gap=_band(known.get("gap_um", ""), (2, 5, 8, 15, 30), "um"),
        picture=_picture(part, k, truth),
    )


def _place(part: PreparedInterface, k: int) -> str:
    """Corner, edge or inner, by how far out the joint lies in the array."""
    interface = part.interface
    reach = [np.abs(v).max() - 1.5 * interface.pitch_um for v in (interface.x_um, interface.y_um)]
    out = sum(abs(v[k]) > r for v, r in zip((interface.x_um, interface.y_um), reach, strict=True))
    return ("inner", "edge", "corner")[int(out)]


def _band(text: str, limits: Sequence[float], unit: str) -> str:
    """Between which limits a number lies; empty where there is none."""
    value = float(text) if text else float("nan")
    if np.isnan(value):
        return ""
    k = int(np.searchsorted(limits, value, side="right"))
    if k == 0:
        return f"under {limits[0]:.3g} {unit}"
    return f"{limits[k - 1]:.3g} {unit} and more" if k == len(limits) else f"{limits[k - 1]:.3g} to {limits[k]:.3g} {unit}"


def _picture(part: PreparedInterface, k: int, truth: Sequence[str]) -> NDArray[np.uint8]:
    if part.windows is None:
        raise ValueError("an interface without slices has no pictures")
    interface, values = part.interface, part.windows.values
    good = np.array([j for j, label in enumerate(truth) if label == "good" and j != k], np.int64)
    strips = [values[k]]
    if len(good):
        away = np.hypot(interface.x_um[good] - interface.x_um[k], interface.y_um[good] - interface.y_um[k])
        strips.append(values[good[away.argmin()]])
    grey = [np.clip((s - _LOW) / (_HIGH - _LOW) * 255, 0, 255).astype(np.uint8) for s in strips]
    apart = np.pad(np.stack(grey), ((0, 0), (0, 0), (0, _GAP), (0, _GAP)), constant_values=255)
    rows, slices, height, width = apart.shape
    return np.ascontiguousarray(apart.transpose(0, 2, 1, 3).reshape(rows * height, slices * width)[:-_GAP, :-_GAP])

"""The error study: every miss and every false call on labelled boards, its slices beside a good neighbour's, grouped.

What errors have in common shows what limits a model: a class, a thin web, a volume just under two thirds, a corner of the
package, a machine. The page shows the largest groups first, and every joint in them.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.model import load
from inspect_pop.classify.session import Classifier
from inspect_pop.core.classes import GOOD
from inspect_pop.core.columns import KEY, JointTable
from inspect_pop.core.limits import Limits
from inspect_pop.core.system import utc_now
from inspect_pop.evaluate.collect import each_board, open_exports, read_truth
from inspect_pop.evaluate.label_book import BoardLabels, match_inspections, read_book
from inspect_pop.ingest import find_exports, open_export
from inspect_pop.pipeline.board import MeasuredBoard, MeasuredInterface, judge_board, measure_board

__all__ = ["Case", "group_cases", "study", "write_page"]

KINDS = ("escape", "false call", "defect for review", "good for review")
# Range of normalised grey that fills a byte: voids lie below the background's 0, large joints' cores above 1.
_LOW, _HIGH = -0.15, 1.35
# Limits of the bands by which cases are grouped. Shares of nominal: starved begins at two thirds, excess at four thirds.
_VOLUME = (0.5, 0.6, 0.64, 2 / 3, 0.7, 0.8, 1.2, 4 / 3)
_STANDOFF = (0.8, 0.9, 0.95, 1.05, 1.1, 1.2)
_WEB_UM = (20, 30, 45, 61, 100)
_GAP_UM = (2, 5, 8, 15, 30)
_MARGIN = 2  # pixels between two slices, and between a joint and its neighbour


@dataclass(frozen=True)
class Case:
    """A joint on which the label and the machine disagree.

    Attributes
    ----------
    kind
        One of `KINDS`.
    truth, label
        The class by the label file, and the machine's.
    p_defect
        The model's probability of a defect.
    place
        Where on the package: `inner`, `edge` or `corner`.
    standoff, volume
        Measured, as a band (the true volume if a simulator knows it).
    variety, web, gap
        A simulator's truth in words; empty if it is not known.
    picture
        (rows, cols) uint8: the joint's slices from the lower pad up, and below them those of the nearest good joint.
    """

    kind: str
    truth: str
    label: str
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
    """Return every joint on which labels and the line disagree, escapes first; also write one self-contained `page`.

    Without `reviews`, joints for review are left out. Raises `LabelsFault`, `ModelFault`, `UsageFault` as `evaluate` does.
    """
    loaded = load(model)
    exports, _ = open_exports(find_exports(paths))
    book = read_book(paths, {export.serial: export.recipe for export in exports.values()})
    labels = match_inspections(book, exports.values()).by_path
    work = _StudyBoard(loaded.folder, limits or Limits(), labels, read_truth(paths))
    cases: list[Case] = []
    for board in each_board(paths, work, processes=processes, progress=progress, doing="studying"):
        cases += board.result or []
    cases = [c for c in cases if reviews or "review" not in c.kind]
    cases.sort(key=lambda c: (KINDS.index(c.kind), c.truth, c.variety, c.p_defect))
    if page is not None:
        write_page(cases, page, f"{loaded.card.name} {loaded.card.version}")
    return cases


def group_cases(cases: Sequence[Case]) -> dict[str, list[tuple[str, dict[str, int]]]]:
    """Count the cases by each attribute: lists of (group, count by kind), the largest groups first."""
    found = {}
    for name in ("truth", "variety", "volume", "web", "gap", "standoff", "interface", "place", "machine"):
        groups: dict[str, Counter[str]] = {}
        for case in cases:
            groups.setdefault(str(getattr(case, name)) or "not known", Counter())[case.kind] += 1
        if set(groups) != {"not known"}:
            found[name] = [(g, dict(n)) for g, n in sorted(groups.items(), key=lambda item: (-item[1].total(), item[0]))]
    return found


def write_page(cases: Sequence[Case], page: Path, model: str, most: int = 300) -> None:
    """Write one HTML file with everything inside: `most` cases with pictures, and counts of all."""
    from inspect_pop.report.page import encode_png_url, render

    shown = [(case, encode_png_url(case.picture)) for case in cases[:most]]
    counts = {kind: sum(c.kind == kind for c in cases) for kind in KINDS}
    page.parent.mkdir(parents=True, exist_ok=True)
    text = render("study.html", model=model, kinds=KINDS, counts=counts, groups=group_cases(cases), shown=shown, total=len(cases))
    page.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class _StudyBoard:
    """The work on one board, importable by other processes."""

    model: Path
    limits: Limits
    labels: Mapping[Path, BoardLabels]
    truth: dict[tuple[str, str, str, str], dict[str, str]]

    def __call__(self, board: Path, root: Path) -> list[Case]:
        export = open_export(board, root)
        if not self.labels.get(export.path):
            return []
        prepared = measure_board(export, self.limits)
        joints = judge_board(prepared, _load_classifier(self.model), self.limits, started_at=utc_now()).joints
        cases, first = [], 0
        for package in prepared.packages:
            for part in package.interfaces:
                rows = np.arange(first, first + len(part.interface.ball))
                cases += self._study_interface(prepared, package.package.refdes, part, joints.take(rows))
                first += len(rows)
        return cases

    def _study_interface(self, prepared: MeasuredBoard, refdes: str, part: MeasuredInterface, joints: JointTable) -> list[Case]:
        serial, interface = prepared.export.serial, part.interface
        labels = self.labels[prepared.export.path]
        truth = [labels.get((refdes, interface.name, ball), "") for ball in interface.ball]
        cases = []
        for k, label in enumerate(truth):
            kind = _classify_disagreement(label, str(joints["verdict"][k]))
            if not kind or part.windows is None:
                continue
            known = self.truth.get((serial, refdes, interface.name, interface.ball[k]), {})
            volume = known.get("volume_ratio") or f"{joints['volume_ratio'][k]}"
            case = Case(
                kind=kind,
                truth=label,
                label=str(joints["label"][k]),
                p_defect=float(joints.probabilities()[k, 1:].sum()),
                reason=str(joints["reason"][k]),
                joint=" ".join(str(joints[c][k]) for c in KEY),
                machine=prepared.export.machine,
                interface=interface.name,
                place=_locate(part, k),
                variety=known.get("variety", ""),
                standoff=_band(f"{joints['standoff_um'][k] / interface.gap_um}", _STANDOFF, "of nominal"),
                volume=_band(volume, _VOLUME, "of nominal"),
                web=_band(known.get("web_um", ""), _WEB_UM, "um"),
                gap=_band(known.get("gap_um", ""), _GAP_UM, "um"),
                picture=_draw(part, k, truth),
            )
            cases.append(case)
        return cases


@lru_cache(maxsize=1)
def _load_classifier(model: Path) -> Classifier:
    return Classifier(load(model))


def _classify_disagreement(truth: str, verdict: str) -> str:
    """Return which kind of disagreement there is; empty if none, or no label."""
    kinds = {
        (True, "fail"): "false call",
        (True, "review"): "good for review",
        (False, "pass"): "escape",
        (False, "review"): "defect for review",
    }
    return kinds.get((truth == GOOD, verdict), "") if truth else ""


def _locate(part: MeasuredInterface, k: int) -> str:
    """Return corner, edge or inner, by how far out the joint lies in the array."""
    interface = part.interface
    reach = [np.abs(v).max() - 1.5 * interface.pitch_um for v in (interface.x_um, interface.y_um)]
    out = sum(abs(v[k]) > r for v, r in zip((interface.x_um, interface.y_um), reach, strict=True))
    return ("inner", "edge", "corner")[int(out)]


def _band(text: str, limits: Sequence[float], unit: str) -> str:
    """Return between which limits a number lies, in words; empty if there is none."""
    value = float(text) if text else float("nan")
    if np.isnan(value):
        return ""
    k = int(np.searchsorted(limits, value, side="right"))
    if k == 0:
        return f"under {limits[0]:.3g} {unit}"
    return f"{limits[k - 1]:.3g} {unit} and more" if k == len(limits) else f"{limits[k - 1]:.3g} to {limits[k]:.3g} {unit}"


def _draw(part: MeasuredInterface, k: int, truth: Sequence[str]) -> NDArray[np.uint8]:
    """Draw a joint's slices, and below them those of the nearest good joint."""
    if part.windows is None:
        raise ValueError("an interface without slices has no pictures")
    interface, values = part.interface, part.windows.values
    good = np.array([j for j, label in enumerate(truth) if label == GOOD and j != k], np.int64)
    strips = [values[k]]
    if len(good):
        away = np.hypot(interface.x_um[good] - interface.x_um[k], interface.y_um[good] - interface.y_um[k])
        strips.append(values[good[away.argmin()]])
    grey = [np.clip((s - _LOW) / (_HIGH - _LOW) * 255, 0, 255).astype(np.uint8) for s in strips]
    framed = np.pad(np.stack(grey), ((0, 0), (0, 0), (0, _MARGIN), (0, _MARGIN)), constant_values=255)
    rows, slices, height, width = framed.shape
    return np.ascontiguousarray(framed.transpose(0, 2, 1, 3).reshape(rows * height, slices * width)[:-_MARGIN, :-_MARGIN])

"""Compare simulated boards with recorded ones, in the windows that the classifier sees.

    python scripts/studies/compare_simulated.py RECORDED_BATCH SIMULATED_BATCH... [--picture FILE.png] [--per-label 8]

All batches need labels.csv. For each interface and label the output gives, slice by slice, the median and the spread between
joints of core grey, of the radius of steepest descent, of its slope, of grain inside the ball, and of grey outside the ball,
recorded (R) and simulated (S), with the difference in spreads (robust sd of the recorded joints). Then it gives how well a linear
rule separates recorded from simulated good joints on held-out boards: 0.5 is not at all, 1 is always. The picture shows
recorded (left) and simulated (right) joints of each label side by side, all slices.
"""

import argparse
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inspect_pop.core.columns import CLASSES
from inspect_pop.core.errors import InputFault
from inspect_pop.core.limits import Limits
from inspect_pop.ingest import find_exports, find_labels, open_export
from inspect_pop.ingest.pop_export import read_labels
from inspect_pop.pipeline.board import measure_board
from inspect_pop.segment.windows import SAMPLES_PER_PITCH, SIZE

LEAST = 4  # fewer joints of a kind have no spread
COMPONENTS = 30
_ROWS, _COLS = np.indices((SIZE, SIZE))
_AWAY = np.hypot(_ROWS - (SIZE - 1) / 2, _COLS - (SIZE - 1) / 2)
_RING = (_AWAY - _AWAY.min()).astype(int)
_CORE = _AWAY < 0.11 * SAMPLES_PER_PITCH
_INSIDE = _AWAY < 0.17 * SAMPLES_PER_PITCH
_OUTSIDE = (_AWAY > 0.47 * SAMPLES_PER_PITCH) & (_AWAY < 0.6 * SAMPLES_PER_PITCH)


@dataclass(frozen=True)
class Joint:
    """One labelled joint: its board, and its window (slices, SIZE, SIZE)."""

    serial: str
    values: NDArray[np.float32]


Kind = tuple[str, str]  # interface, label
Joints = dict[Kind, list[Joint]]


def joints_of(batches: list[Path]) -> Joints:
    """All labelled joints of some batches, by interface and label; a board that cannot be aligned is left out, and said."""
    book = {key: entry.label for path in find_labels(batches) for key, entry in dict(read_labels(path)).items()}
    found: Joints = defaultdict(list)
    for folder, root in find_exports(batches):
        try:
            export = open_export(folder, root)
            prepared = measure_board(export, Limits())
        except InputFault as fault:
            print(f"left out: {folder.name}: {fault}", file=sys.stderr)
            continue
        for package in prepared.packages:
            for part in package.interfaces:
                if part.windows is None:
                    continue
                for k, ball in enumerate(part.interface.ball):
                    label = book.get((export.serial, package.package.refdes, part.interface.name, ball))
                    if label is not None:
                        found[part.interface.name, label].append(Joint(export.serial, part.windows.values[k]))
    return found


def features(window: NDArray[np.float32]) -> NDArray[np.float64]:
    """(5, slices): core grey, radius of steepest descent (share of the pitch), its slope, grain inside, grey outside."""
    return np.array([_features_of_slice(page) for page in window]).T


def _features_of_slice(page: NDArray[np.float32]) -> tuple[float, float, float, float, float]:
    profile = np.bincount(_RING.ravel(), page.ravel()) / np.bincount(_RING.ravel())
    slope = np.gradient(profile)[: SAMPLES_PER_PITCH // 2]
    steepest = int(np.argmin(slope))
    radius = (steepest + 1.2) / SAMPLES_PER_PITCH  # a ring lies half a sample beyond its inner edge, the first 0.7 away
    grain = page - ndimage.gaussian_filter(page, 1.5)
    spread = 1.4826 * float(np.median(np.abs(grain[_INSIDE] - np.median(grain[_INSIDE]))))
    return float(page[_CORE].mean()), radius, -float(slope[steepest]), spread, float(page[_OUTSIDE].mean())


def report(recorded: Joints, simulated: Joints) -> None:
    """Print the table of features and their differences."""
    names = ("core", "radius", "slope", "grain", "outside")
    for kind in sorted(recorded, key=lambda k: (k[0], CLASSES.index(k[1]))):
        real, made = recorded[kind], simulated.get(kind, [])
        print(f"{kind[0]} {kind[1]}: {len(real)} recorded, {len(made)} simulated")
        if min(len(real), len(made)) < LEAST:
            continue
        if len({j.values.shape[0] for j in (*real, *made)}) > 1:
            print("  another number of slices: not compared")
            continue
        a, b = (np.array([features(j.values) for j in joints]) for joints in (real, made))
        for k, name in enumerate(names):
            middle = np.median(a[:, k], axis=0), np.median(b[:, k], axis=0)
            spread = [1.4826 * np.median(np.abs(v[:, k] - m), axis=0) for v, m in zip((a, b), middle, strict=True)]
            off = (middle[1] - middle[0]) / np.maximum(spread[0], 1e-6)
            for title, m, s in zip("RS", middle, spread, strict=True):
                print(f"  {name:8s} {title} {_text(m)}  +- {_text(s)}")
            print(f"  {'':8s} off {_text(off)}")


def _text(values: NDArray[np.floating]) -> str:
    return " ".join(f"{v:6.3f}" for v in values)


def separability(recorded: list[Joint], simulated: list[Joint]) -> float:
    """Area under the curve of a linear rule that tells simulated from recorded, each board judged by a rule made without it."""
    joints = [*recorded, *simulated]
    truth = np.r_[np.zeros(len(recorded)), np.ones(len(simulated))]
    pictures = np.array([cv2.resize(j.values.transpose(1, 2, 0), (24, 24), interpolation=cv2.INTER_AREA).ravel() for j in joints])
    serial = np.array([j.serial for j in joints])
    score = np.zeros(len(joints))
    for board in np.unique(serial):
        of_board = serial == board
        score[of_board] = _linear(pictures[~of_board], truth[~of_board], pictures[of_board])
    order = np.argsort(np.argsort(score))
    n1 = truth.sum()
    return float((order[truth == 1].sum() - n1 * (n1 - 1) / 2) / (n1 * (len(truth) - n1)))


def _linear(train: NDArray[np.floating], truth: NDArray[np.floating], test: NDArray[np.floating]) -> NDArray[np.floating]:
    mean = train.mean(axis=0)
    _, _, axes = np.linalg.svd(train - mean, full_matrices=False)
    axes = axes[:COMPONENTS].T
    x, y = (train - mean) @ axes, (test - mean) @ axes
    a, b = x[truth == 0], x[truth == 1]
    within = np.cov(a.T) + np.cov(b.T) + 1e-3 * np.eye(x.shape[1])
    return y @ np.linalg.solve(within, b.mean(axis=0) - a.mean(axis=0))


def draw(recorded: Joints, simulated: Joints, path: Path, per_label: int) -> None:
    """A picture of joints of every kind: recorded on the left, simulated on the right."""
    rng = np.random.default_rng(0)
    rows = []
    for kind in sorted(recorded, key=lambda k: (k[0], CLASSES.index(k[1]))):
        pairs = [_some(rng, joints, per_label) for joints in (recorded[kind], simulated.get(kind, []))]
        rows += [_strip(a, b, " ".join(kind)) for a, b in zip(*pairs, strict=False)]
    if not rows:
        return
    width = max(row.shape[1] for row in rows)
    cv2.imwrite(
        str(path), np.concatenate([cv2.copyMakeBorder(r, 0, 0, 0, width - r.shape[1], cv2.BORDER_CONSTANT) for r in rows])
    )


def _some(rng: np.random.Generator, joints: list[Joint], n: int) -> list[Joint]:
    return [joints[k] for k in rng.permutation(len(joints))[:n]]


def _strip(real: Joint, made: Joint, name: str) -> NDArray[np.uint8]:
    sides = []
    for joint, title in ((real, f"recorded {name}"), (made, f"simulated {name}")):
        line = np.concatenate(list(joint.values), axis=1)
        grey = np.clip(40 + 160 * line, 0, 255).astype(np.uint8)
        grey = cv2.copyMakeBorder(cv2.resize(grey, None, fx=2, fy=2), 2, 14, 2, 8, cv2.BORDER_CONSTANT)
        cv2.putText(grey, title, (4, grey.shape[0] - 3), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255)
        sides.append(grey)
    return np.concatenate(sides, axis=1)


def main() -> int:
    """Compare two batches; 0, or 2 where one holds no labelled joint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recorded", type=Path)
    parser.add_argument("simulated", type=Path, nargs="+")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--per-label", type=int, default=8)
    options = parser.parse_args()
    recorded, simulated = joints_of([options.recorded]), joints_of(options.simulated)
    if not recorded or not simulated:
        print("no labelled joints to compare", file=sys.stderr)
        return 2
    report(recorded, simulated)
    for interface in sorted({kind[0] for kind in recorded}):
        good = recorded[interface, "good"], simulated.get((interface, "good"), [])
        if min(len({j.serial for j in joints}) for joints in good) >= 2:
            print(f"{interface}: good joints told apart by a linear rule on unseen boards: {separability(*good):.3f}")
    if options.picture is not None:
        draw(recorded, simulated, options.picture, options.per_label)
    return 0


if __name__ == "__main__":
    sys.exit(main())

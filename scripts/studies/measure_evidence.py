"""Measure clearance and void area against truth, and what acceptance criteria do to sound joints and to painted defects.

    python scripts/studies/measure_evidence.py BATCH... [--model DIR]

A BATCH holds `truth.csv` (simulated boards), `labels.csv`, or `gross.csv` (serial, refdes, interface, ball, kind: defects that
were painted into its pictures; all other joints are sound). For each the output gives bias and spread (median, robust sigma)
of clearance and void area of sound joints, the sound joints that go to review or fail with and without criteria, and the
defects that pass with and without them. The true clearance of a simulated joint is the pitch less the balls' radii: 0 for a web.
"""

import argparse
import csv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.model import load
from inspect_pop.classify.session import Classifier
from inspect_pop.core.columns import JointTable
from inspect_pop.core.errors import InputFault
from inspect_pop.core.limits import Limits, load_limits
from inspect_pop.core.recipe import Package
from inspect_pop.core.robust import mad_sigma
from inspect_pop.core.system import utc_now
from inspect_pop.ingest import find_exports, open_export
from inspect_pop.pipeline.board import judge_board, measure_board
from inspect_pop.segment.joints import neighbour_pairs

Key = tuple[str, str, str, str]
Rows = dict[Key, dict[str, str]]


@dataclass
class Figures:
    """What the boards of one batch gave: counts by (kind, profile, verdict), criteria of sound joints, deviations."""

    verdicts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    criteria: Counter[str] = field(default_factory=Counter)
    passing: list[str] = field(default_factory=list)
    clearance_um: list[float] = field(default_factory=list)
    void_area: list[float] = field(default_factory=list)


def read_rows(batch: Path) -> tuple[Rows, str]:
    """Return what is known of a batch's joints, and from which file: truth before painted defects before labels."""
    for name in ("truth.csv", "gross.csv", "labels.csv"):
        if (batch / name).exists():
            with (batch / name).open(encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file))
            return {(r["serial"], r["refdes"], r["interface"], r["ball"]): r for r in rows}, name
    raise SystemExit(f"{batch}: expected truth.csv, gross.csv or labels.csv")


def find_kinds(keys: list[Key], rows: Rows, name: str) -> NDArray[np.object_]:
    """Return the kind of each joint: `good`, a defect's name, or empty where nothing is known."""
    column = "kind" if name == "gross.csv" else "label"
    unknown = "good" if name == "gross.csv" else ""
    return np.array([rows[k][column] if k in rows else unknown for k in keys], dtype=object)


def add_deviations(figures: Figures, joints: JointTable, package: Package, keys: list[Key], rows: Rows) -> None:
    """Add measured minus true clearance and void area of the sound joints of a simulated package."""
    row_of = {key: k for k, key in enumerate(keys)}
    serial = keys[0][0]
    for interface in package.interfaces:
        keys_of_interface = [(serial, package.refdes, interface.name, ball) for ball in interface.ball]
        if any(key not in rows for key in keys_of_interface):
            continue
        truth = [rows[key] for key in keys_of_interface]
        diameter = np.array([float(t["diameter_mid_um"]) for t in truth])
        clear = np.full(len(keys_of_interface), np.inf)
        places = np.column_stack([interface.x_um, interface.y_um])
        pairs = neighbour_pairs(interface)
        space = np.hypot(*(places[pairs[:, 1]] - places[pairs[:, 0]]).T) - diameter[pairs].sum(axis=1) / 2
        for side in (0, 1):
            np.minimum.at(clear, pairs[:, side], space)
        for key, true, t in zip(keys_of_interface, clear, truth, strict=True):
            if t["label"] == "good" and key in row_of:
                k = row_of[key]
                figures.clearance_um.append(float(joints["clearance_um"][k] - true))
                figures.void_area.append(float(joints["void_fraction"][k]) - float(t["void_area_fraction"]))


def measure_batch(batch: Path, classifier: Classifier) -> Figures:
    """Inspect the boards of a batch with the default profile and with none."""
    rows, name = read_rows(batch)
    figures = Figures()
    for folder, root in find_exports([batch]):
        try:
            export = open_export(folder, root)
            measured = measure_board(export, Limits())
        except InputFault as fault:
            print(f"left out: {folder.name}: {fault}")
            continue
        for profile in ("ipc-a-610", "measure-only"):
            limits = load_limits(None, profile)
            joints = judge_board(measured, classifier, limits, started_at=utc_now()).joints
            keys = [(export.serial, *k) for k in zip(joints["refdes"], joints["interface"], joints["ball"], strict=True)]
            kinds = find_kinds(keys, rows, name)
            figures.verdicts.update((k, profile, v) for k, v in zip(kinds, joints["verdict"], strict=True) if k)
            if profile == "measure-only":
                continue
            for key, kind, verdict, criteria in zip(keys, kinds, joints["verdict"], joints["criteria"], strict=True):
                if kind == "good":
                    figures.criteria.update(c for c in criteria.split(";") if c)
                elif kind and verdict == "pass":
                    figures.passing.append(f"{kind} {'.'.join(key)}")
            if name == "truth.csv":
                for package in export.recipe.packages:
                    add_deviations(figures, joints, package, keys, rows)
    return figures


def print_figures(batch: Path, figures: Figures) -> None:
    """Print the figures of one batch."""
    print(f"\n{batch}")
    for words, values in (("clearance, um", figures.clearance_um), ("void area", figures.void_area)):
        known = np.array(values)[np.isfinite(values)] if values else np.zeros(0)
        if known.size:
            bias = float(np.median(known))
            print(f"  {words}: bias {bias:.3f}, sigma {mad_sigma(known - bias):.3f}, n {known.size}")
    for kind in sorted({k for k, _, _ in figures.verdicts}):
        counts = {p: {v: figures.verdicts[kind, p, v] for v in ("pass", "review", "fail")} for p in ("measure-only", "ipc-a-610")}
        print(f"  {kind}: " + "; ".join(f"{p} {c}" for p, c in counts.items()))
    print(f"  criteria that sound joints violate: {dict(figures.criteria)}")
    for joint in figures.passing:
        print(f"  passes: {joint}")


def main() -> None:
    """Measure every batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("batches", nargs="+", type=Path, metavar="BATCH")
    parser.add_argument("--model", type=Path, help="model folder; the current model if not given")
    options = parser.parse_args()
    classifier = Classifier(load(options.model))
    for batch in options.batches:
        print_figures(batch, measure_batch(batch, classifier))


if __name__ == "__main__":
    main()

"""Measure the watch over machines: how rarely a machine that does not change is called drifting, and how soon one that ages.

    python scripts/studies/measure_machines.py runs [--machines N] [--boards N] [--correlation R]
    python scripts/studies/measure_machines.py time [--boards N]
    python scripts/studies/measure_machines.py noise BATCH [--boards N] [--line N]

`runs` simulates machines whose figures are normal, independent of each other, correlated from board to board with R.
`time` writes a store of records and reads its machines. `noise` inspects the boards of a labelled BATCH with noise added to their
slices in eleven steps, up to twice the noise of the picture, and draws lines of boards from these inspections whose noise doubles
over 200 boards: at which board is the machine called drifting, and when have false calls doubled?
"""

import argparse
import json
import math
import sqlite3
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measure_evidence import find_kinds, read_rows
from measure_familiarity import process_board
from numpy.typing import NDArray

from inspect_pop.classify.model import load
from inspect_pop.classify.session import Classifier
from inspect_pop.core.geometry import SliceStack
from inspect_pop.core.limits import Limits
from inspect_pop.core.system import utc_now
from inspect_pop.ingest import find_exports, open_export
from inspect_pop.ingest.contract import BoardExport
from inspect_pop.pipeline.board import inspect_board
from inspect_pop.store import open_store
from inspect_pop.yields.machines import BASELINE, FIGURES, MachineBoard, chart_figure, read_machines

# What the sample boards of line-a look like: the centre of each figure and its spread from board to board.
TYPICAL = {
    "sharpness": (0.170, 0.005), "noise": (0.0012, 0.00011), "grain": (0.285, 0.02), "ball_profile": (1.22, 0.012),
    "fringe": (0.137, 0.015), "core_spread": (0.065, 0.008), "background_spread": (0.072, 0.018), "contrast": (0.58, 0.03),
    "levels": (930.0, 25.0), "oddness": (0.017, 0.0008), "log_odds_10": (-13.3, 0.12), "log_odds_50": (-12.0, 0.35),
}  # fmt: skip


def make_board(number: int, figures: dict[str, float]) -> MachineBoard:
    """Return a board of one interface with these figures."""
    return MachineBoard(str(number), str(number), number, "r", "m", "l", 88, 0, 0, "", {"U1/lower": figures})


def draw_figures(rng: np.random.Generator, boards: int, correlation: float) -> list[dict[str, float]]:
    """Return the figures of boards of a machine that does not change."""
    drawn: dict[str, NDArray[np.float64]] = {}
    for name, (centre, spread) in TYPICAL.items():
        z = rng.normal(size=boards)
        for k in range(1, boards):
            z[k] = correlation * z[k - 1] + np.sqrt(1 - correlation**2) * z[k]
        drawn[name] = centre + spread * z
    return [{name: float(values[k]) for name, values in drawn.items()} for k in range(boards)]


def measure_runs(machines: int, boards: int, correlation: float) -> None:
    """Print how many of the machines are called drifting within so many boards, and after how many."""
    first, by_figure = [], dict.fromkeys(FIGURES, 0)
    for seed in range(machines):
        line = [
            make_board(k, figures) for k, figures in enumerate(draw_figures(np.random.default_rng(seed), boards, correlation))
        ]
        calls = {name: np.flatnonzero(chart_figure(line, name).find_beyond()) for name in FIGURES}
        for name, found in calls.items():
            by_figure[name] += bool(len(found))
        first.append(min((int(found[0]) for found in calls.values() if len(found)), default=boards))
    called, seen = sum(at < boards for at in first), sum(at - BASELINE for at in first)
    mean = f"{seen / called:,.0f}" if called else f"more than {seen:,}"
    print(f"{machines} machines of {boards} boards, correlation {correlation}: {called} called drifting; mean run {mean} boards")
    for bound in (100, 300, 1000, 3000, 10000):
        if bound <= boards:
            print(f"  within {bound}: {sum(at < bound for at in first)}")
    print("  by figure:", {name: n for name, n in by_figure.items() if n})


def measure_time(boards: int) -> None:
    """Print how long the machines of a store of so many boards take to read."""
    import sys

    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from tests.factories import make_inspection

    with tempfile.TemporaryDirectory() as folder, open_store(f"{folder}/records.db") as store:
        store.write(make_inspection("S", side={"lower": 2, "upper": 2}))
        with sqlite3.connect(f"{folder}/records.db") as connection:  # rows like the one that was written: faster than writing
            names = [row[1] for row in connection.execute("PRAGMA table_info(boards)")]
            first = dict(zip(names, connection.execute("SELECT * FROM boards").fetchone(), strict=True))
            for k, figures in enumerate(draw_figures(np.random.default_rng(0), boards - 1, 0.0), 1):
                pictures = json.dumps({"U1/lower": figures, "U1/upper": figures})
                extra = json.dumps(json.loads(first["extra"]) | {"pictures": pictures})
                row = first | {"id": first["id"] + k, "record": f"{k:032x}", "serial": f"S{k}", "extra": extra}
                row |= {"inspected_us": first["inspected_us"] + 60_000_000 * k}
                connection.execute(f"INSERT INTO boards VALUES ({', '.join('?' * len(names))})", list(row.values()))
        connection.close()
        for _ in range(3):
            started = time.process_time()
            (machine,) = read_machines(store)
            print(f"{len(machine.boards)} boards: {1e3 * (time.process_time() - started):.0f} ms; {machine.state}")


def add_noise(share: float, seed: int) -> Any:
    """Return a processing that adds white noise to the slices: `share` of their robust sigma from pixel to pixel."""

    def change(stack: SliceStack) -> SliceStack:
        rng, values = np.random.default_rng(seed), stack.values.astype(np.float32)
        steps = np.diff(values, axis=-1)
        sigma = 1.4826 * float(np.median(np.abs(steps - np.median(steps)))) / np.sqrt(2)
        noisy = values + rng.normal(0, sigma * share, values.shape)
        if np.issubdtype(stack.values.dtype, np.integer):
            bounds = np.iinfo(stack.values.dtype)
            noisy = np.clip(np.round(noisy), bounds.min, bounds.max)
        return replace(stack, values=noisy.astype(stack.values.dtype))

    return change


def read_noise(export: BoardExport, classifier: Classifier, share: float) -> float:
    """Return the figure of the noise of a board with noise added."""
    found = inspect_board(process_board(export, add_noise(share, 1)), classifier, Limits(), started_at=utc_now())
    return float(np.median([figures["noise"] for figures in json.loads(found.board.pictures).values()]))


def measure_noise(batch: Path, boards: int, line: int) -> None:
    """Print when a machine whose noise doubles over 200 boards is called drifting, and when its false calls have doubled."""
    classifier, (rows, name) = Classifier(load(None)), read_rows(batch)
    levels = np.linspace(1, 2, 11)
    # By how much the figure rises: what is added so that it is `level` times as large follows from one try.
    first = open_export(*find_exports([batch])[0])
    bare, noisy = (read_noise(first, classifier, share) for share in (0.0, 0.4))
    unit = bare * 0.4 / math.sqrt(noisy**2 - bare**2)
    seen: list[list[tuple[str, dict[str, Any], int]]] = []  # recipe, figures and false calls of each board at each level
    for step, level in enumerate(levels):
        of_level, good_joints, unlike = [], 0, 0
        for k, (path, root) in enumerate(find_exports([batch])[:boards]):
            export = process_board(open_export(path, root), add_noise(unit * math.sqrt(level**2 - 1), 1000 * step + k))
            found = inspect_board(export, classifier, Limits(unlike_forbids=0.0), started_at=utc_now())
            joints = found.joints
            keys = list(zip(*(joints[c].tolist() for c in ("serial", "refdes", "interface", "ball")), strict=True))
            good = find_kinds(keys, rows, name) == "good"
            calls = int((good & (joints["verdict"] == "fail")).sum())
            of_level.append((export.recipe.name, json.loads(found.board.pictures), calls))
            good_joints, unlike = good_joints + int(good.sum()), unlike + bool(found.board.unlike)
        seen.append(of_level)
        noise = np.median([f["noise"] for _, figures, _ in of_level for f in figures.values()])
        total = sum(calls for _, _, calls in of_level)
        counts = f"false calls {total} of {good_joints}, {unlike} of {len(of_level)} boards unlike"
        print(f"noise x {level:.1f}: figure {noise:.5f}, {counts}", flush=True)
    rng, called = np.random.default_rng(7), []
    for _ in range(line):
        drawn = np.clip((np.arange(400) - 200) / 200, 0, 1) * 10  # two hundred boards as they were, then the ageing
        chosen = [seen[round(at)][rng.integers(len(seen[round(at)]))] for at in drawn.tolist()]
        of_line = [MachineBoard(str(k), str(k), k, s[0], "m", "l", 88, 0, 0, "", s[1]) for k, s in enumerate(chosen)]
        found_at = [np.flatnonzero(chart_figure(of_line, figure).find_beyond()) for figure in FIGURES]
        called.append(min((int(f[0]) for f in found_at if len(f)), default=400) - 200)
    totals = [sum(calls for _, _, calls in of_level) for of_level in seen]
    doubled = next((20 * k for k, calls in enumerate(totals) if calls >= 2 * max(totals[0], 1)), math.inf)
    print(f"{line} lines: called drifting {np.median(called):.0f} boards into the ageing ({min(called)} to {max(called)})")
    print(
        f"  noise then: {np.interp(np.median(called), [0, 200], [1, 2]):.2f} times the first; false calls doubled after {doubled}"
    )


def main() -> None:
    """Run one of the studies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=("runs", "time", "noise"))
    parser.add_argument("batch", nargs="?", type=Path)
    parser.add_argument("--machines", type=int, default=200)
    parser.add_argument("--boards", type=int, default=10_000)
    parser.add_argument("--correlation", type=float, default=0.0)
    parser.add_argument("--line", type=int, default=100, help="lines that are drawn")
    options = parser.parse_args()
    if options.study == "runs":
        measure_runs(options.machines, options.boards, options.correlation)
    elif options.study == "time":
        measure_time(options.boards)
    else:
        measure_noise(options.batch, options.boards, options.line)


if __name__ == "__main__":
    main()

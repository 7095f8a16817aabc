#!/usr/bin/env python3
"""Measure what four labelled boards of an unknown machine are worth, and whether retraining harms other machines.

    scripts/studies/measure_retraining.py [--model DIR] [--machine NAME|SEED ...] [--work DIR] [--judge N] [--config FILE]

For each machine (one declared in this script, or one drawn at random from its seed) four labelled boards are simulated for
training, and others to judge by. `inspect-pop train` is called as a user calls it, on two cores. The model before and the model
after are judged by the line's code on the machine's other boards, and on boards of line_a and line_b that neither has seen. Every
rate has its exact 95 % interval, every ratio an interval over resampled boards.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from inspect_pop.classify.model import load, resolve
from inspect_pop.evaluate.evaluation import Outcomes, judge, outcomes_of, row, table
from inspect_pop.simulate.board import simulate_batch
from inspect_pop.simulate.catalog import Machine, draw_machine

PRODUCT = "apx17"
TAUGHT = 4
ELSEWHERE = (("line-a", "line_a", 931), ("line-b", "line_b", 932))
DRAWS = 2000
# Outside everything that `draw_machine` draws: a steep response, a flat view, hardly any filter, slices at other heights.
ODD = Machine(
    name="odd",
    line="F",
    station="NEW-1",
    dtype="uint8",
    pixel_um=12.0,
    slices=3,
    views=8,
    tilt_deg=62.0,
    unsharp=0.0,
    blur_um=9.0,
    noise=0.012,
    gamma=2.0,
    hardening=0.2,
    level=30.0,
    span=150.0,
    z_belief_um=10.0,
)
# Others like it, declared before anything was measured on them: solder dark, coarser pixels and blur; and finer with noise.
DIM = replace(
    ODD,
    name="dim",
    line="G",
    station="NEW-3",
    polarity="solder_dark",
    pixel_um=14.0,
    views=7,
    blur_um=11.0,
    noise=0.02,
    gamma=1.8,
    level=40.0,
    span=110.0,
)
STEEP = replace(
    ODD,
    name="steep",
    line="H",
    station="NEW-4",
    pixel_um=10.0,
    views=6,
    tilt_deg=60.0,
    blur_um=8.0,
    noise=0.025,
    gamma=2.2,
    span=170.0,
)
NAMED = {"odd": (ODD, 0), "dim": (DIM, 98), "steep": (STEEP, 97)}
SHOWN = ("method", "polarity", "dtype", "pixel_um", "slices", "views", "blur_um", "noise", "unsharp", "hardening", "gamma")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models"))
    parser.add_argument("--machine", nargs="+", default=["odd", "2"])
    parser.add_argument("--work", type=Path, default=Path("out/retraining"))
    parser.add_argument("--judge", type=int, default=8, help="boards of the machine to judge by")
    parser.add_argument("--elsewhere", type=int, default=4, help="boards of each other machine")
    parser.add_argument("--config", type=Path)
    options = parser.parse_args()
    before = resolve(options.model)
    there = {
        title: simulate_boards(options.work / f"{name}-{seed}", options.elsewhere, seed, name) for title, name, seed in ELSEWHERE
    }
    for name in options.machine:
        machine, seed = NAMED.get(name) or (draw_machine(np.random.default_rng([7001, int(name)])), int(name))
        print(f"\n## machine {name}: {', '.join(f'{what} {to_text(getattr(machine, what))}' for what in SHOWN)}\n", flush=True)
        taught = simulate_boards(options.work / f"machine-{name}-taught", TAUGHT, 10_000 + seed, machine)
        judged = simulate_boards(options.work / f"machine-{name}-judged", options.judge, 20_000 + seed, machine)
        after = options.work / f"model-{name}"
        print(retrain(taught, after, before, options.config), flush=True)
        compare({"the machine": judged, **there}, before, after)


def to_text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def simulate_boards(folder: Path, boards: int, seed: int, machine: str | Machine) -> Path:
    """The labelled batch, from an earlier start where there is one."""
    folder = folder.with_name(f"{folder.name}-{boards}")
    if not (folder / "labels.csv").exists():
        shutil.rmtree(folder, ignore_errors=True)
        simulate_batch(folder, boards, seed, machine=machine, product=PRODUCT)
    return folder


def retrain(labelled: Path, out: Path, start: Path, config: Path | None) -> str:
    """Call the command; how long it took."""
    shutil.rmtree(out, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "inspect_pop",
        "train",
        str(labelled),
        "--out",
        str(out),
        "--from",
        str(start),
        "--jobs",
        "2",
    ]
    command += ["--config", str(config)] if config else []
    cores = {0, 1} & os.sched_getaffinity(0) or os.sched_getaffinity(0)
    used, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=lambda: os.sched_setaffinity(0, cores))
    wall = time.monotonic() - began
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    report = [
        line.strip() for line in done.stdout.splitlines() if "weights went" in line or "STOP" in line or "may be used" in line
    ]
    return f"{'; '.join(report)}\n{wall:.0f} s, {cpu:.0f} s of processor time, on {len(cores)} cores\n"


def compare(batches: dict[str, Path], before: Path, after: Path) -> None:
    """Old and new on each batch: the table, then what became of each figure."""
    print(*table({}), sep="\n")
    found = {}
    for name, batch in batches.items():
        for when, folder in (("before", before), ("after", after)):
            found[name, when] = outcomes_of([batch], load(folder), processes=2)[0]
            print(row(f"{name}, {when}", judge(found[name, when])), flush=True)
    print()
    for name in batches:
        print(f"{name}: {became(found[name, 'before'], found[name, 'after'])}", flush=True)


def became(before: Outcomes, after: Outcomes) -> str:
    """Counts before and after of each kind of error, with the ratio's 95 % percentile interval over boards drawn anew."""
    words = []
    boards = np.unique(before.serial)
    drawn = np.random.default_rng(0).integers(0, len(boards), (DRAWS, len(boards)))
    for name, of in (("escapes", escapes), ("false calls", false_calls), ("reviews", reviews)):
        counts = np.array([[(of(o) & (o.serial == b)).sum() for b in boards] for o in (before, after)])
        old, new = counts[0][drawn].sum(axis=1), counts[1][drawn].sum(axis=1)
        ratio = np.quantile((new / np.maximum(old, 1))[old > 0], (0.025, 0.975)) if (old > 0).any() else (np.nan, np.nan)
        words.append(f"{counts[0].sum()} -> {counts[1].sum()} {name} (ratio {ratio[0]:.2f} to {ratio[1]:.2f})")
    return ", ".join(words)


def escapes(o: Outcomes) -> np.ndarray:
    return o.escaped


def false_calls(o: Outcomes) -> np.ndarray:
    return o.false_call


def reviews(o: Outcomes) -> np.ndarray:
    return np.asarray(o.verdict == "review")


if __name__ == "__main__":
    main()

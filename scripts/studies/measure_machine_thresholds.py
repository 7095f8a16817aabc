#!/usr/bin/env python3
"""Measure what per-machine thresholds change: `run --follow-machines` against the thresholds of the model.

    scripts/studies/measure_machine_thresholds.py [--model DIR] [--boards N] [--random N] [--work DIR]

Boards of the named machines and of random ones are simulated and inspected once; their scores stay under --work. The machine's
thresholds follow from the scores of all its boards without their labels, as on the line; the labels then say what both pairs of
thresholds make of the same scores. Flags and bridge partners are left out. Intervals of the differences are over machines.
"""

import argparse
from pathlib import Path

import numpy as np

from inspect_pop.batch.worker import defect_log_odds
from inspect_pop.classify.model import OperatingPoint, load, resolve
from inspect_pop.classify.operating_points import choose_machine_point
from inspect_pop.classify.session import Classifier
from inspect_pop.core.errors import InputFault
from inspect_pop.core.limits import Limits
from inspect_pop.evaluate.collect import make_simulated_export
from inspect_pop.pipeline.board import inspect_board
from inspect_pop.simulate.board import simulate_board
from inspect_pop.simulate.catalog import Machine, draw_machine, find_machine, find_recipe

NAMED = ("line_a", "line_b", "worn_tube", "ct9", "transmission")
PRODUCT = "apx17"
DEFECT_RATE = 0.12
TIME = "2026-01-01T00:00:00+00:00"
KINDS = ("escapes", "false calls", "reviews")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models"))
    parser.add_argument("--boards", type=int, default=2, help="of each machine")
    parser.add_argument("--random", type=int, default=12, help="how many random machines")
    parser.add_argument("--work", type=Path, default=Path("out/following"))
    options = parser.parse_args()
    model = load(resolve(options.model))
    classifier = Classifier(model)
    machines = {name: (find_machine(name), 0) for name in NAMED}
    machines |= {f"random {k}": (draw_machine(np.random.default_rng([7001, k])), k) for k in range(1, options.random + 1)}
    print(
        f"model {model.card.name} {model.card.version}, {options.boards} boards per machine: model thresholds -> the machine's\n"
    )
    print("| machine | defects | good | escapes | false calls | reviews | widening | lift |\n" + "|---" * 8 + "|")
    found = []
    for name, (machine, seed) in machines.items():
        odds, bad = scores(options.work / model.digest[:16], name, machine, seed, options.boards, classifier)
        followed = choose_machine_point(np.sort(odds), model.card.good_scores, model.card.operating_point)
        before, after = counts(odds, bad, model.card.operating_point), counts(odds, bad, followed.point)
        found.append((before, after))
        changes = " | ".join(f"{b} -> {a}" for b, a in zip(before, after, strict=True))
        print(
            f"| {name} | {bad.sum()} | {(~bad).sum()} | {changes} | {followed.widening:.1f} | {followed.lift:.1f} |", flush=True
        )
    print("\n" + "; ".join(together(np.array(found), k) for k in range(len(KINDS))))


def together(found: np.ndarray, k: int) -> str:
    """All machines: counts before and after, and the difference's 95 % percentile interval over machines drawn anew."""
    before, after = found[:, 0, k], found[:, 1, k]
    drawn = np.random.default_rng(0).integers(0, len(before), (2000, len(before)))
    low, high = np.quantile((after - before)[drawn].sum(axis=1), (0.025, 0.975))
    return f"{KINDS[k]} {before.sum()} -> {after.sum()} (difference {low:.0f} to {high:.0f})"


def counts(odds: np.ndarray, bad: np.ndarray, point: OperatingPoint) -> tuple[int, int, int]:
    passes, fails = odds < point.pass_below, odds >= point.fail_above
    return int((bad & passes).sum()), int((~bad & fails).sum()), int((~passes & ~fails).sum())


def scores(
    work: Path, name: str, machine: Machine, seed: int, boards: int, classifier: Classifier
) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds and truth of all joints of the machine's boards; from an earlier start where there is one."""
    file = work / f"{name.replace(' ', '-')}-{boards}.npz"
    if not file.exists():
        odds, bad = zip(*(board_scores(machine, seed, k, classifier) for k in range(boards)), strict=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, odds=np.concatenate(odds), bad=np.concatenate(bad))
    with np.load(file) as values:
        return values["odds"], values["bad"]


def board_scores(machine: Machine, seed: int, k: int, classifier: Classifier) -> tuple[np.ndarray, np.ndarray]:
    board = simulate_board(np.random.default_rng([7002, seed, k]), find_recipe(PRODUCT), machine, defect_rate=DEFECT_RATE)
    truth = board.truth
    keys = list(zip(truth["refdes"], truth["interface"], truth["ball"], strict=True))
    label = dict(zip(keys, truth["label"], strict=True))
    try:
        joints = inspect_board(make_simulated_export(board, f"S-{seed}-{k}"), classifier, Limits(), started_at=TIME).joints
    except InputFault:  # quarantine: no scores, and nothing passes
        return np.zeros(0), np.zeros(0, bool)
    seen = list(zip(joints["refdes"], joints["interface"], joints["ball"], strict=True))
    known = np.isfinite(joints.probabilities()[:, 0])
    return np.array(defect_log_odds(joints)), np.array([label[key] != "good" for key in seen])[known]


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Measure whether promises hold on boards that did not set them, and print the table.

    scripts/studies/measure_promises.py [--model DIR] [--draws N] [--work DIR] [LABELLED ...]

The joints are those of the model's calibration, whose scores it keeps, and those of the LABELLED batches, which are inspected
once (scores stay under --work). Each draw sets a promise on one half of the boards and counts on the other; for comparison, also
on boards drawn with replacement, counted on all. A promise has 95 % confidence: one draw in twenty may break it. Only the scores
against the thresholds are counted; flags and bridge partners are left out.
"""

import argparse
from pathlib import Path

import numpy as np

from inspect_pop.classify.model import Model, load, resolve
from inspect_pop.classify.operating_points import read_calibration
from inspect_pop.classify.session import Classifier, calibrate_logits, log_odds
from inspect_pop.core.columns import CLASSES
from inspect_pop.core.statistics import clopper_pearson
from inspect_pop.evaluate.collect import collect
from inspect_pop.evaluate.promotion import PromiseCheck, check_fresh, check_scores
from inspect_pop.learn.package_model import compute_logits

ESCAPES = (0.01, 0.02, 0.03, 0.05)
FALSE_CALLS_PPM = (1000.0, 2000.0, 3000.0, 5000.0)
GOOD = CLASSES.index("good")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labelled", type=Path, nargs="*")
    parser.add_argument("--model", type=Path, default=Path("models"))
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--work", type=Path, default=Path("out/promises"))
    options = parser.parse_args()
    model = load(resolve(options.model))
    parts = [calibration_scores(model), *(inspect_labelled(model, path, options.work) for path in options.labelled)]
    scores, defective, boards = (np.concatenate(values) for values in zip(*parts, strict=True))
    counts = f"{len(np.unique(boards))} boards, {int(defective.sum())} defects, {int((~defective).sum())} good joints"
    print(f"model {model.card.name} {model.card.version}; {counts}; {options.draws} draws\n")
    print(
        "| promise | counted on | draws that could promise it | kept (95 % interval) | mean rate | mean review |\n"
        + "|---" * 6
        + "|"
    )
    for rate in ESCAPES:
        for where, check in (("the other boards", check_fresh), ("all boards", check_scores)):
            found = check(scores, defective, boards, max_escape_rate=rate, draws=options.draws)
            print(row(f"at most {rate:.0%} escapes", where, found, found.held_escapes, f"{found.escape_rate:.2%}"))
    for ppm in FALSE_CALLS_PPM:
        for where, check in (("the other boards", check_fresh), ("all boards", check_scores)):
            found = check(scores, defective, boards, max_false_call_ppm=ppm, draws=options.draws)
            print(
                row(f"at most {ppm:.0f} ppm false calls", where, found, found.held_false_calls, f"{found.false_call_ppm:.0f} ppm")
            )


def row(promise: str, where: str, found: PromiseCheck, n_held: int, rate: str) -> str:
    could = f"{found.draws} of {found.draws + found.refused}"
    if not found.draws:
        return f"| {promise} | {where} | {could} | - | - | - |"
    low, high = clopper_pearson(n_held, found.draws)
    share_text = f"{n_held} of {found.draws} ({low:.0%} to {high:.0%})"
    return f"| {promise} | {where} | {could} | {share_text} | {rate} | {found.review_share:.2%} |"


def calibration_scores(model: Model) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    joints = read_calibration(model)
    return odds(model, joints.logits), joints.label != GOOD, joints.serial.astype(str)


def inspect_labelled(model: Model, path: Path, work: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    folder = work / model.digest[:16] / path.name
    file = folder / "scores.npz"
    if not file.exists():
        samples = collect([path], folder).samples
        logits, _ = compute_logits(Classifier(model).logits, samples)
        np.savez(file, odds=odds(model, logits), defective=samples.label != GOOD, boards=samples.serials.astype(str))
    with np.load(file) as values:
        return values["odds"], values["defective"], np.char.add(f"{path.name}/", values["boards"])


def odds(model: Model, logits: np.ndarray) -> np.ndarray:
    return log_odds(calibrate_logits(logits, model.card.calibration))


if __name__ == "__main__":
    main()

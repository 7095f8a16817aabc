#!/usr/bin/env python3
"""Measure a model on simulated boards that it has never seen, machine by machine, and print the table for its card.

    scripts/studies/measure_accuracy.py [--model DIR] [--work DIR] [--boards N] [--into-card] [LABELLED ...]

Boards are simulated from seeds that no recipe under datasets/ uses, inspected by the line's code, and judged as
`inspect-pop evaluate` judges. Every rate has its exact 95 % interval. Each LABELLED batch adds a row; the row says so where
the model was trained on one of its boards. `--into-card` writes the figures into the model's card and README: network,
weights and thresholds do not change, but the card's digest does, so do this before the model is taken into use.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from inspect_pop.classify.model import Card, load, resolve
from inspect_pop.core.classes import CLASSES
from inspect_pop.core.limits import CRITERIA
from inspect_pop.evaluate.evaluation import Outcomes, judge, outcomes_of, row, table
from inspect_pop.learn.package_model import seal
from inspect_pop.simulate.board import simulate_batch

GOOD = CLASSES.index("good")
JOINT = ("serial", "refdes", "interface", "ball")
VOID_REVIEW = next(criterion.review for criterion in CRITERIA if criterion.name == "void_area") or 0.0
KINDS = (
    ("line-a, 12 mm", "line_a", "apx17", 901),
    ("line-a, 14 mm", "line_a", "pop14", 902),
    ("line-a, 350 um pitch", "line_a", "fine5", 903),
    ("line-b", "line_b", "apx17", 904),
    ("worn tube", "worn_tube", "apx17", 905),
    ("CT, nine slices", "ct9", "apx17", 906),
    ("transmission", "transmission", "apx17", 907),
    ("random machines", "random", "random", 908),
)
# The figures of each kind of board on a card; the others are given once, for all kinds.
SHOWN = (
    "boards",
    "joints",
    "defects",
    "escape",
    "escapes_of",
    "false_call",
    "review",
    "exact_label_of_defects",
    "calibration",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labelled", type=Path, nargs="*")
    parser.add_argument("--model", type=Path, default=Path("models"))
    parser.add_argument("--work", type=Path, default=Path("out/accuracy"))
    parser.add_argument("--boards", type=int, default=6)
    parser.add_argument("--into-card", action="store_true")
    options = parser.parse_args()
    model = load(resolve(options.model))
    print(f"model {model.card.name} {model.card.version}, {options.boards} boards a machine\n")
    print(*table({}), sep="\n")
    figures, everything = {}, []
    for kind, batch in batches(options):
        outcomes, aside = outcomes_of([batch], model)
        outcomes, voided = without_voided(outcomes, batch)
        known = learnt_from(model.card, outcomes)
        named = kind + (" (learnt from)" if known else "")
        figures[named] = judge(outcomes)
        everything += [] if known else [outcomes]
        print(row(named, figures[named]) + (f" {len(aside)} refused" if aside else "") + voided, flush=True)
    if options.into_card:
        seal(model.folder, update_card(model.card, figures, Outcomes.concat(everything)))
        print(f"\nwritten into {model.folder / 'card.json'} and {model.folder / 'README.md'}")


def batches(options: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """(what is said of it, folder) of every batch; those that are not there yet are simulated."""
    for kind, machine, product, seed in KINDS:
        batch = options.work / f"{machine}-{product}-{seed}-{options.boards}"
        if not (batch / "labels.csv").exists():
            simulate_batch(batch, options.boards, seed, machine=machine, product=product)
        yield kind, batch
    for batch in options.labelled:
        yield f"{batch.name}, labelled", batch


def without_voided(outcomes: Outcomes, batch: Path) -> tuple[Outcomes, str]:
    """Return the outcomes without the good joints whose true void is over the limit for review, and what became of those."""
    if not (batch / "truth.csv").exists():
        return outcomes, ""
    with (batch / "truth.csv").open(newline="") as file:
        void = {tuple(line[key] for key in JOINT): float(line["void_area_fraction"]) for line in csv.DictReader(file)}
    keys = zip(outcomes.serial, outcomes.refdes, outcomes.interface, outcomes.ball, strict=True)
    over = (outcomes.truth == GOOD) & (np.asarray([void[key] for key in keys]) > VOID_REVIEW)
    counts = ", ".join(f"{int((outcomes.verdict[over] == verdict).sum())} {verdict}" for verdict in ("pass", "review", "fail"))
    return outcomes.take(~over), f" {int(over.sum())} good joints with voids over {VOID_REVIEW:.2f} left out: {counts}"


def learnt_from(card: Card, outcomes: Outcomes) -> bool:
    known = {*card.data.get("training boards", ()), *card.data.get("calibration boards", ())}
    return bool(known & set(outcomes.serial))


def update_card(card: Card, figures: dict[str, dict[str, Any]], everything: Outcomes) -> Card:
    """The same card with these figures: all boards that it did not learn from together, and each kind by itself."""
    whole = judge(everything)
    kinds = {kind: {name: found[name] for name in SHOWN} for kind, found in figures.items()}
    kind = f"{whole['boards']} simulated or sample boards that it did not learn from, all kinds below together"
    where = f"{kind} (scripts/studies/measure_accuracy.py); nothing about real parts"
    return card.model_copy(update={"metrics": card.metrics | whole | {"by": {}, "kinds": kinds}, "measured_on": where})


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Count the gross defects that pass, on simulated boards of every machine and product.

    scripts/studies/measure_gross.py [--boards N] [--share S] [--seed S] [--machine NAME …] [--product NAME …] [--random N]

A gross defect is what anybody would see (`inspect_pop.simulate.gross`). The output has one row per kind: joints among it, and how
many fail, go to review and pass, by the machine's method. `--random` adds boards of that many machines and products drawn at
random. Each defect that passes is listed with what was measured of it. Exit status 1 if any passes.
"""

import argparse
import sys
from collections import Counter
from datetime import UTC, datetime

import numpy as np

from inspect_pop.classify.model import load
from inspect_pop.classify.session import Classifier
from inspect_pop.core.errors import InputFault
from inspect_pop.core.limits import Limits
from inspect_pop.core.statistics import clopper_pearson
from inspect_pop.evaluate.collect import make_simulated_export
from inspect_pop.pipeline.board import inspect_board
from inspect_pop.simulate.board import simulate_board
from inspect_pop.simulate.catalog import MACHINES, PRODUCTS, draw_machine, draw_recipe
from inspect_pop.simulate.gross import GROSS

VERDICTS = ("fail", "review", "pass")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boards", type=int, default=1, help="of each machine and product")
    parser.add_argument("--share", type=float, default=0.12)
    parser.add_argument("--seed", type=int, default=4000)
    parser.add_argument("--machine", nargs="*", default=list(MACHINES))
    parser.add_argument("--product", nargs="*", default=list(PRODUCTS))
    parser.add_argument("--random", type=int, default=0)
    options = parser.parse_args()
    classifier, limits = Classifier(load(None)), Limits()
    counts: Counter[tuple[str, str, str]] = Counter()
    passed: list[str] = []
    good: Counter[str] = Counter()
    cells: list[tuple[str, str]] = [(m, p) for m in options.machine for p in options.product] * options.boards
    for number, (machine_name, product_name) in enumerate(cells + [("random", "random")] * options.random):
        rng = np.random.default_rng([options.seed, number])
        machine = draw_machine(rng) if machine_name == "random" else MACHINES[machine_name]
        recipe = draw_recipe(rng) if product_name == "random" else PRODUCTS[product_name]
        board = simulate_board(rng, recipe, machine, cause="none", defect_rate=0.01, gross_share=options.share)
        export = make_simulated_export(board, f"S{number}")
        try:
            joints = inspect_board(export, classifier, limits, started_at=datetime.now(UTC).isoformat()).joints
        except InputFault as fault:  # nothing passes on a board that is refused
            print(f"{machine_name} {product_name} {number}: refused, {fault}", file=sys.stderr)
            continue
        truth = board.truth
        row = {key: k for k, key in enumerate(zip(truth["refdes"], truth["interface"], truth["ball"], strict=True))}
        for k, key in enumerate(zip(joints["refdes"], joints["interface"], joints["ball"], strict=True)):
            kind, verdict = str(truth["variety"][row[key]]), str(joints["verdict"][k])
            if kind == "plain":
                good[verdict] += 1
            if kind not in GROSS:
                continue
            counts[kind, machine.method, verdict] += 1
            if verdict == "pass":
                names = ("label", "clearance_um", "void_fraction", "volume_ratio", "roundness", "dx_um", "dy_um")
                measured = ", ".join(f"{n} {joints[n][k]}" for n in names)
                true = f"void {truth['void_area_fraction'][row[key]]:.2f}, volume {truth['volume_ratio'][row[key]]:.2f}"
                passed.append(f"{machine_name} {product_name} {number} {'.'.join(key)} {kind}: {measured}; true: {true}")
        print(f"{number + 1} of {len(cells) + options.random}: {len(passed)} passed", file=sys.stderr)
    print_table(counts, good)
    for line in passed:
        print(line)
    return int(bool(passed))


def print_table(counts: "Counter[tuple[str, str, str]]", good: "Counter[str]") -> None:
    methods = sorted({method for _, method, _ in counts})
    print("| kind | joints | " + " | ".join(f"{m}: fail, review, pass" for m in methods) + " |")
    print("|---|---|" + "---|" * len(methods))
    for kind in GROSS:
        cells = [", ".join(str(counts[kind, m, v]) for v in VERDICTS) for m in methods]
        print(f"| {kind} | {sum(n for (k, _, _), n in counts.items() if k == kind)} | " + " | ".join(cells) + " |")
    total, through = sum(counts.values()), sum(n for (_, _, v), n in counts.items() if v == "pass")
    low, high = clopper_pearson(through, max(total, 1))
    print(f"\n{through} of {total} pass (95 % interval {low:.2%} to {high:.2%}); sound joints: {dict(good)}")


if __name__ == "__main__":
    sys.exit(main())

"""Measure how often the diagnosed cause is the simulated one.

    python scripts/bench/causes.py [--product apx17…] [--machine line_a…] [--boards 90] [--seed 1] [--json FILE]

Boards of every cause are simulated in turn, measured as a run would measure them, and diagnosed with each joint's true label, so
that the remaining error is that of the rules and not of the classifier. The output has one line per cause: boards with at least
`--least` defects and what was diagnosed on them. Boards without a cause count whatever their defects.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np

from inspect_pop.core.classes import CAUSES
from inspect_pop.core.columns import JointTable, concat
from inspect_pop.core.errors import InputFault
from inspect_pop.core.geometry import HeightMap, SliceStack
from inspect_pop.core.limits import Limits
from inspect_pop.diagnose import Cause, PackageState, diagnose
from inspect_pop.ingest.contract import BoardExport, HeightMapSource, SliceSource
from inspect_pop.measure import find_bulge
from inspect_pop.pipeline.board import MeasuredBoard, measure_board
from inspect_pop.simulate.board import SimulatedBoard, simulate_board
from inspect_pop.simulate.catalog import MACHINES, PRODUCTS


def main() -> None:
    options = _options()
    rows: dict[str, Counter[str]] = {cause: Counter() for cause in CAUSES}
    for k in range(options.boards):
        cause = CAUSES[k % len(CAUSES)]
        rng = np.random.default_rng([options.seed, k])
        turn = k // len(CAUSES)  # every product has every cause before the next one comes
        product, machine = options.product[turn % len(options.product)], options.machine[turn % len(options.machine)]
        board = simulate_board(rng, PRODUCTS[product], MACHINES[machine], cause)
        if cause == "none" or int((board.truth["label"] != "good").sum()) >= options.least:
            found = diagnose_board(board)
            rows[cause][found.name] += 1
            if found.name != cause:
                print(f"{k} {product} {machine}: {cause}, not {found.name}: {found.evidence}")
    with_cause = [(c, row) for c, row in rows.items() if c != "none"]
    figures = {
        "boards_with_a_cause": sum(row.total() for _, row in with_cause),
        "right": sum(row[c] for c, row in with_cause) / max(sum(row.total() for _, row in with_cause), 1),
        "boards_without": rows["none"].total(),
        "none_right": rows["none"]["none"] / max(rows["none"].total(), 1),
        "suspected": {c: dict(row.most_common()) for c, row in rows.items()},
    }
    for cause, row in rows.items():
        print(f"{cause:20s} {row.total():4d}  {dict(row.most_common())}")
    print(f"right {figures['right']:.1%} of {figures['boards_with_a_cause']}")
    print(f"none right {figures['none_right']:.1%} of {figures['boards_without']}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


def diagnose_board(board: SimulatedBoard) -> Cause:
    """What the rules say of a board, measured, with true labels."""
    try:
        prepared = measure_board(to_export(board), Limits())
    except InputFault as fault:
        return Cause("quarantine", str(fault))
    package = prepared.packages[0]
    after = package.after
    if after is None:
        return diagnose(label_joints(board, prepared), package.package, PackageState())
    bulge = find_bulge(package.after, package.package)
    state = PackageState(after.warpage_um, after.height_um, bulge)
    return diagnose(label_joints(board, prepared), package.package, state)


def label_joints(board: SimulatedBoard, prepared: MeasuredBoard) -> JointTable:
    """The measured columns with the true labels."""
    tables = []
    for part in prepared.packages[0].interfaces:
        rows = board.truth["interface"] == part.interface.name
        n = len(part.interface.ball)
        text = {"serial": ["S"] * n, "refdes": [prepared.packages[0].package.refdes] * n, "interface": [part.interface.name] * n}
        tables.append(
            JointTable({**text, "ball": list(part.interface.ball), "label": board.truth["label"][rows], **part.columns})
        )
    return concat(tables)


def to_export(board: SimulatedBoard) -> BoardExport:
    """The board as if a reader had opened it."""
    nowhere = Path("simulated")
    images = (
        *(SliceSource(s.refdes, s.interface, nowhere, _giving(s)) for s in board.stacks),
        *(HeightMapSource(h.refdes, h.stage, nowhere, _giving(h)) for h in board.heights),
    )
    return BoardExport(
        nowhere,
        "S",
        None,
        None,
        board.recipe.product,
        None,
        None,
        "line",
        "station",
        None,
        "2026-01-01T00:00:00+00:00",
        board.recipe,
        images,
        "",
    )


def _giving(image: SliceStack | HeightMap):
    return lambda: image


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--product", nargs="+", choices=sorted(PRODUCTS), default=["tst4"])
    parser.add_argument("--machine", nargs="+", choices=sorted(MACHINES), default=["line_a"])
    parser.add_argument("--boards", type=int, default=90)
    parser.add_argument("--least", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()

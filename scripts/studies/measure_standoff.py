#!/usr/bin/env python3
"""Measure stand-off, warpage and volume on simulated boards of every construction, and print a table.

    scripts/studies/measure_standoff.py [--boards N] [--seed S] [--machine NAME]

Heights of caps and dies are drawn at random. Bias is the median over boards of each board's median error; the error is the
median of all joints' absolute errors. Joints whose stand-off is unknown count in the last column only.
"""

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from inspect_pop.align import align_height, align_slices
from inspect_pop.core.limits import Limits
from inspect_pop.measure import measure_joints, measure_standoff, measure_top
from inspect_pop.segment.joints import segment_joints
from inspect_pop.segment.windows import correct_heights, cut_slices
from inspect_pop.simulate.board import SimulatedBoard, simulate_board
from inspect_pop.simulate.machines import find_machine
from inspect_pop.simulate.products import find_recipe

PRODUCTS = ("std11", "psfc10", "exd10", "apx17")
COLUMNS = ("product", "interface", "gap bias, um", "gap error, um", "volume bias", "warpage error, um", "unknown")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boards", type=int, default=12)
    parser.add_argument("--seed", type=int, default=7000)
    parser.add_argument("--machine", default="line_a")
    parser.add_argument("--products", nargs="+", default=PRODUCTS)
    options = parser.parse_args()
    print(*(f"| {' | '.join(row)} |" for row in (COLUMNS, ("---",) * len(COLUMNS))), sep="\n")
    for product in options.products:
        rows: dict[str, list[tuple[NDArray[np.float64], float, float]]] = {}
        for number in range(options.boards):
            rng = np.random.default_rng([options.seed, number])
            board = simulate_board(rng, find_recipe(product), find_machine(options.machine))
            for name, *errors in measure_errors(board):
                rows.setdefault(name, []).append(tuple(errors))
        for name, found in rows.items():
            gaps = np.concatenate([gap for gap, _, _ in found])
            bias = np.nanmedian([np.nanmedian(gap) for gap, _, _ in found if np.isfinite(gap).any()])
            volume, warpage = np.nanmedian([v for _, v, _ in found]), np.nanmedian([w for _, _, w in found])
            error, unknown = np.nanmedian(np.abs(gaps)), np.isnan(gaps).mean()
            figures = (f"{bias:+.1f}", f"{error:.1f}", f"{volume:+.3f}", f"{warpage:.1f}", f"{unknown:.1%}")
            print(f"| {' | '.join((product, name, *figures))} |", flush=True)


def measure_errors(board: SimulatedBoard) -> Iterator[tuple[str, NDArray[np.float64], float, float]]:
    """Yield (interface, errors of the stand-off in um, median error of the volume ratio, error of the warpage in um)."""
    package, limits = board.recipe.packages[0], Limits()
    tops = {m.stage: measure_top(m, align_height(m, package, limits), package) for m in board.heights}
    after, before = tops["post_reflow"], tops["pre_stack"]
    warpage = abs(after.warpage_um - board.warpage_um) if after is not None else float("nan")
    for interface, stack in zip(package.interfaces, board.stacks, strict=True):
        here = board.truth["interface"] == interface.name
        gap = measure_standoff(interface, package, after, before)
        windows = correct_heights(cut_slices(stack, interface, align_slices(stack, package, limits)), interface)
        columns = measure_joints(segment_joints(windows, interface, stack.method), gap)
        good = board.truth["label"][here] == "good"
        volume = np.nanmedian((columns["volume_ratio"] - board.truth["volume_ratio"][here])[good])
        yield interface.name, gap - board.truth["standoff_um"][here], float(volume), warpage


if __name__ == "__main__":
    main()

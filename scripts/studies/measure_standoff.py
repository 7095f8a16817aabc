#!/usr/bin/env python3
"""Measure stand-off, warpage and volume on simulated boards of every construction, and print a table.

    scripts/studies/measure_standoff.py [--boards N] [--seed S] [--machine NAME] [--products NAME ...] [--heights-only]

Heights of caps and dies are drawn at random. Bias is the median over boards of each board's median error; the error is the
median of all joints' absolute errors. Joints whose stand-off is unknown count in the last column only. `--heights-only`
skips the slices, and with them the volume.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from inspect_pop.align import align_height, align_slices
from inspect_pop.core.limits import Limits
from inspect_pop.core.recipe import Interface
from inspect_pop.measure import measure_joints, measure_standoff, measure_top
from inspect_pop.segment.joints import segment_joints
from inspect_pop.segment.windows import correct_heights, cut_slices
from inspect_pop.simulate.board import SimulatedBoard, simulate_board
from inspect_pop.simulate.catalog import find_machine, find_recipe

PRODUCTS = ("std11", "psfc10", "exd10", "apx17")
COLUMNS = ("product", "interface", "gap bias, um", "gap error, um", "volume bias", "warpage error, um", "unknown")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boards", type=int, default=12)
    parser.add_argument("--seed", type=int, default=7000)
    parser.add_argument("--machine", default="line_a")
    parser.add_argument("--products", nargs="+", default=PRODUCTS)
    parser.add_argument("--heights-only", action="store_true")
    options = parser.parse_args()
    machine = find_machine(options.machine)
    if options.heights_only:
        machine = replace(machine, pixel_um=80.0, slices=3, views=3)
    print(*(f"| {' | '.join(row)} |" for row in (COLUMNS, ("---",) * len(COLUMNS))), sep="\n")
    for product in options.products:
        rows: dict[str, list[tuple[NDArray[np.float64], float, float]]] = {}
        for number in range(options.boards):
            rng = np.random.default_rng([options.seed, number])
            board = simulate_board(rng, find_recipe(product), machine)
            for name, *errors in measure_errors(board, volume=not options.heights_only):
                rows.setdefault(name, []).append(tuple(errors))
        for name, found in rows.items():
            gaps = np.concatenate([gap for gap, _, _ in found])
            bias = np.nanmedian([np.nanmedian(gap) for gap, _, _ in found if np.isfinite(gap).any()])
            volume, warpage = np.nanmedian([v for _, v, _ in found]), np.nanmedian([w for _, _, w in found])
            error, unknown = np.nanmedian(np.abs(gaps)), np.isnan(gaps).mean()
            figures = (f"{bias:+.1f}", f"{error:.1f}", f"{volume:+.3f}", f"{warpage:.1f}", f"{unknown:.1%}")
            print(f"| {' | '.join((product, name, *figures))} |", flush=True)


def measure_errors(board: SimulatedBoard, *, volume: bool) -> Iterator[tuple[str, NDArray[np.float64], float, float]]:
    """Yield (interface, errors of the stand-off in um, median error of the volume ratio, error of the warpage in um)."""
    package, limits = board.recipe.packages[0], Limits()
    tops = {m.stage: measure_top(m, align_height(m, package, limits), package) for m in board.heights}
    after, before = tops["post_reflow"], tops["pre_stack"]
    warpage = abs(after.warpage_um - board.warpage_um) if after is not None else float("nan")
    for interface in package.interfaces:
        mask = board.truth["interface"] == interface.name
        gap = measure_standoff(interface, package, after, before)
        bias = measure_volume(board, interface, gap) if volume else float("nan")
        yield interface.name, gap - board.truth["standoff_um"][mask], bias, warpage


def measure_volume(board: SimulatedBoard, interface: Interface, gap_um: NDArray[np.float32]) -> float:
    """Return the median error of the good joints' volume ratios."""
    stack = next(s for s in board.stacks if s.interface == interface.name)
    placement = align_slices(stack, board.recipe.packages[0], Limits())
    windows = correct_heights(cut_slices(stack, interface, placement), interface)
    columns = measure_joints(segment_joints(windows, interface, stack.method), gap_um)
    mask = board.truth["interface"] == interface.name
    errors = columns["volume_ratio"] - board.truth["volume_ratio"][mask]
    return float(np.nanmedian(errors[board.truth["label"][mask] == "good"]))


if __name__ == "__main__":
    main()

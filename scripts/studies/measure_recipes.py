#!/usr/bin/env python3
"""Measure recipes made from pictures: on simulated products of many layouts, and on pictures of exports whose recipe is known.

    scripts/studies/measure_recipes.py [--first K] [--products N] [--seed S]
    scripts/studies/measure_recipes.py --export EXPORT ...

Simulated: one good board each, of an array of pitch 350 to 1,000 um, full, peripheral, depopulated or in two fields, 5 % of its
balls left out, turned by up to 3 degrees, with the ghosts of the stack's other interface, on machine `line_a` or `line_b`. The
pixel size is given, not the pitch. Names are wrong where a place of the truth has another name or none, or a name has no place;
`unsaid` are those that neither a note nor a doubt points to. Places and pitch are those in the picture, before the pitch becomes
the usual one: what is left of the best similarity to the truth.
"""

import argparse
import hashlib
import math
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.errors import PopError
from inspect_pop.core.recipe import Interface, Package, Recipe
from inspect_pop.ingest import open_export
from inspect_pop.recipes.draft import compute_standoff, guess_ball, guess_pad, name_ball
from inspect_pop.recipes.from_image import ImageArray, read_array
from inspect_pop.simulate.board import simulate_board
from inspect_pop.simulate.catalog import find_machine

PITCHES = (350.0, 400.0, 500.0, 650.0, 800.0, 1000.0)
LAYOUTS = ("full", "peripheral", "depopulated", "two fields")
HEADER = ("product", "balls", "found", "wrong names", "unsaid", "rms px", "pitch error", "turn", "s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--products", type=int, default=50)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--export", nargs="+", type=Path, default=[])
    options = parser.parse_args()
    print(" | ".join(HEADER))
    if options.export:
        for path in options.export:
            export = open_export(path, path.parents[1])
            for stack in export.slices:
                interface = export.recipe.packages[0].interface(stack.interface)
                picture = (read := stack.read()).values[len(read.values) // 2]
                measure(f"{path.name} {stack.interface}", picture, interface, read.grid.pixel_um)
        return
    for number in range(options.first, options.products):
        rng = np.random.default_rng([options.seed, number])
        name, interface, pixel_um, picture = simulate_picture(rng, number)
        measure(name, picture, interface, pixel_um)


def simulate_picture(rng: np.random.Generator, number: int) -> tuple[str, Interface, float, NDArray[np.float32]]:
    """The middle slice of a simulated good board, turned by up to 3 degrees, and the interface that it shows."""
    layout = LAYOUTS[number % len(LAYOUTS)]
    pitch = float(rng.choice(PITCHES))
    lower = draw_interface(rng, "lower", layout, pitch, 0.0)
    extent = float(max(np.ptp(lower.x_um), np.ptp(lower.y_um)))
    upper = draw_interface(rng, "upper", "peripheral", float(rng.choice(PITCHES[1:4])), lower.pads_z_um[1] + 300, extent)
    shown = lower if rng.random() < 0.8 else upper
    reach = max(float(np.abs(axis).max()) for i in (lower, upper) for axis in (i.x_um, i.y_um))
    side = 2 * reach + 1000.0
    package = Package("U1", "STUDY", "tmv", (side, side), upper.pads_z_um[1] + 600, 80.0, (lower, upper))
    recipe = Recipe("study", 1, "study", (package,), hashlib.sha256(f"{number}".encode()).hexdigest())
    machine = find_machine(("line_a", "line_b")[number // 2 % 2])
    board = simulate_board(rng, recipe, machine, cause="none", defect_rate=0.0)
    stack = next(s for s in board.stacks if s.interface == shown.name)
    values = stack.values[len(stack.values) // 2].astype(np.float32)
    turn = float(rng.uniform(-3, 3))
    rows, cols = values.shape
    matrix = cv2.getRotationMatrix2D(((cols - 1) / 2, (rows - 1) / 2), turn, 1.0)
    turned = cv2.warpAffine(values, matrix, (cols, rows), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    name = f"{number} {layout if shown is lower else 'peripheral'} {shown.pitch_um:g} {machine.name} {turn:+.1f}"
    return name, shown, stack.grid.pixel_um, turned


def draw_interface(rng: np.random.Generator, name: str, layout: str, pitch: float, base: float, extent: float = 0.0) -> Interface:
    """An array of a layout, 5 % of its balls left out; `extent` (um) of the array that it must surround."""
    most = int(min(16, 8000 / pitch))
    columns, rows = (int(rng.integers(8, max(most, 9) + 1)) for _ in range(2))
    if extent:
        columns = rows = math.ceil((extent + 2 * pitch) / pitch) + 1
    row, column = np.mgrid[:rows, :columns]
    ring = np.minimum.reduce([row, column, rows - 1 - row, columns - 1 - column])
    use = np.ones((rows, columns), dtype=bool)
    if layout == "peripheral":
        use = ring < int(rng.integers(1, 4))
    elif layout == "depopulated":
        use = (ring < 3) | (ring >= 5) if min(rows, columns) > 12 else ring != 2
        use[[0, 0, -1, -1], [0, -1, 0, -1]] = False
    elif layout == "two fields":
        gap = int(rng.integers(1, 4))
        use[:, columns // 2 - gap + gap // 2 : columns // 2 + gap // 2] = False
    if name == "lower":
        use &= rng.random(use.shape) >= 0.05
    row, column = np.nonzero(use)
    x, y = (column - (columns - 1) / 2) * pitch, ((rows - 1) / 2 - row) * pitch
    ball, pad = guess_ball(pitch), guess_pad(pitch, guess_ball(pitch))
    names = tuple(name_ball(int(r), int(c)) for r, c in zip(row, column, strict=True))
    gap_um = compute_standoff(ball, pad)
    return Interface(name, names, x, y, pitch, ball, pad, "nsmd", (base, base + gap_um), "SAC305")


def measure(name: str, picture: NDArray[np.generic], truth: Interface, pixel_um: float) -> None:
    """Print one line: the array of a picture, found without its recipe, against the truth."""
    start = time.process_time()
    try:
        found = read_array(picture, pixel_um=pixel_um)
    except PopError as error:
        print(f"{name} | {len(truth.ball)} | refused: {error}", flush=True)
        return
    seconds = time.process_time() - start
    draft = found.draft
    wrong = sorted(set(truth.ball) ^ set(draft.ball))
    unsaid = [ball for ball in wrong if not is_doubted(ball, found)]
    both = [ball for ball in draft.ball if ball in set(truth.ball)]
    seen = {b: complex(x, -y) for b, x, y in zip(draft.ball, found.col_px, found.row_px, strict=True)}
    true = {b: complex(x, y) for b, x, y in zip(truth.ball, truth.x_um, truth.y_um, strict=True)}
    rms = pitch = math.nan
    if len(both) > 2:
        px, um = (np.array([places[b] for b in both]) for places in (seen, true))
        px, um = px - px.mean(), um - um.mean()
        factor = np.vdot(um, px) / np.vdot(um, um)  # pixels per um, and the turn
        rms, pitch = float(np.sqrt(np.mean(np.abs(px - factor * um) ** 2))), abs(factor) * pixel_um - 1
    line = f"{name} | {len(truth.ball)} | {len(draft.ball)} | {len(wrong)} | {len(unsaid)} | {rms:.3f} | {pitch:+.3%}"
    print(f"{line} | {found.angle_deg:+.2f} | {seconds:.1f}", *wrong[:8], flush=True)


def is_doubted(ball: str, found: ImageArray) -> bool:
    """Whether a doubt, or the count of empty places, points to a ball that is wrong."""
    return ball in found.draft.doubts or (ball not in found.draft.ball and len(found.empty_px) > 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Measure how many verdicts change when an export changes in ways that should not matter.

    scripts/studies/measure_changes.py [--model DIR] [--boards N] [--processes N] [--every N] [--only WORDS] [BATCH ...]

N boards of named and random machines are simulated; the boards of each BATCH are added. Each is inspected unchanged and once
per change. The promise: at most 0.1 % of the verdicts change, and none from fail to pass. Changes below the line in the table
remove information (a slice, resolution, grey levels); they may cost verdicts but must not turn a fail into a pass. Shifts by
half a pixel use the Fourier transform, so that noise stays as it was; a rotation needs interpolation, which smooths it a little.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import tifffile
from scipy import ndimage

from inspect_pop.classify.model import load, resolve
from inspect_pop.classify.session import Classifier
from inspect_pop.core.errors import InputFault
from inspect_pop.core.geometry import Grid, HeightMap, Placement, SliceStack
from inspect_pop.core.inspection import Inspection
from inspect_pop.core.limits import Limits
from inspect_pop.core.statistics import clopper_pearson
from inspect_pop.evaluate.collect import make_simulated_export
from inspect_pop.ingest import find_exports, open_export
from inspect_pop.ingest.contract import BoardExport
from inspect_pop.ingest.images import read_pages
from inspect_pop.pipeline.board import inspect_board
from inspect_pop.simulate.board import simulate_board
from inspect_pop.simulate.catalog import draw_machine, find_machine, find_recipe

SEED = 971
MACHINES = ("line_a", "line_b", "worn_tube", "ct9")
TIME = "2026-01-01T00:00:00+00:00"
PAD = 32  # pixels of padding before an image is shifted by half a pixel
MOST = 0.001  # share of the verdicts that may change

Picture = SliceStack | HeightMap
Change = Callable[[Picture, Placement], Picture]


def main() -> int:
    """Exit status 1 where the promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("batch", type=Path, nargs="*")
    parser.add_argument("--model", type=Path, default=Path("models"))
    parser.add_argument("--boards", type=int, default=8)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="", metavar="WORDS", help="only changes with these words in their name")
    parser.add_argument("--every", type=int, default=10**9, help="print the table after every so many boards, too")
    arguments = parser.parse_args()
    work = [partial(open_export, *board) for board in find_exports(arguments.batch)] if arguments.batch else []
    work += [partial(simulate_boards, k) for k in range(arguments.boards)]
    changes = tuple(name for name in CHANGES if arguments.only in name)
    total = {name: Counter() for name in changes}
    with ProcessPoolExecutor(arguments.processes) as pool:
        for n, counts_per_change in enumerate(pool.map(partial(judge_export, resolve(arguments.model), changes), work), 1):
            for name, counts in counts_per_change.items():
                total[name].update(counts)
            print(f"{n} of {len(work)} boards", file=sys.stderr, flush=True)
            if n % arguments.every == 0:
                print(f"{n} boards\n\n{table(total)}\n", flush=True)
    print(f"{len(work)} boards\n\n{table(total)}")
    return 0 if all(is_within_limit(name, counts) for name, counts in total.items()) else 1


def judge_export(model: Path, changes: Sequence[str], make: Callable[[], BoardExport]) -> dict[str, Counter[str]]:
    """What each change did to one board: joints, changed verdicts, and each kind of change such as `pass>review`."""
    export = cache_images(make())
    was = inspect_export(export, model)
    print(f"{export.serial}: {len(was.joints)} joints", file=sys.stderr, flush=True)
    return {name: compare_verdicts(was, export, CHANGES[name], model) for name in changes}


def compare_verdicts(was: Inspection, export: BoardExport, change: Change, model: Path) -> Counter[str]:
    """The verdicts before and after one change."""
    before = was.joints["verdict"]
    try:
        after = inspect_export(apply_change(export, was, change), model).joints["verdict"]
    except InputFault as fault:
        print(f"{export.serial}: {fault}", file=sys.stderr, flush=True)
        return Counter(joints=len(before), refused=len(before))
    moves = Counter(f"{b}>{a}" for b, a in zip(before, after, strict=True) if a != b)
    return Counter(joints=len(before), changed=int((before != after).sum())) + moves


def inspect_export(export: BoardExport, model: Path) -> Inspection:
    return inspect_board(export, classifier(model), Limits(), started_at=TIME, now=lambda: TIME)


@lru_cache(maxsize=1)
def classifier(model: Path) -> Classifier:
    cv2.setNumThreads(1)
    return Classifier(load(model))


def simulate_boards(k: int) -> BoardExport:
    """Every other board of a random machine."""
    rng = np.random.default_rng([SEED, k])
    machine = draw_machine(rng) if k % 2 else find_machine(MACHINES[k // 2 % len(MACHINES)])
    product = find_recipe(("tst4", "apx17")[k // 2 % 2])
    return make_simulated_export(simulate_board(rng, product, machine, defect_rate=0.06), f"SIM-{SEED}-{k}")


def cache_images(export: BoardExport) -> BoardExport:
    """The same with every picture in memory; read anew each time, for a reader's array is the caller's to change."""
    pictures = [image.read() for image in export.images]
    images = (replace(i, read=partial(copy_export, p)) for i, p in zip(export.images, pictures, strict=True))
    return replace(export, images=tuple(images))


def copy_export(picture: Picture) -> Picture:
    return with_values(picture, values_of(picture).copy())


def apply_change(export: BoardExport, was: Inspection, change: Change) -> BoardExport:
    """The export with every picture changed; a change may look at where the part was found."""
    if change is other_order:
        return replace(export, images=export.images[::-1])
    images = (replace(i, read=partial(read_changed, i.read, change, was.placements[i.name])) for i in export.images)
    return replace(export, images=tuple(images))


def read_changed(read: Callable[[], Picture], change: Change, placement: Placement) -> Picture:
    return change(read(), placement)


# Images


def values_of(picture: Picture) -> np.ndarray:
    """(pages, rows, cols): grey values, or heights."""
    return picture.values if isinstance(picture, SliceStack) else picture.height_um[np.newaxis]


def with_values(picture: Picture, values: np.ndarray, **grid: object) -> Picture:
    """The picture with other values, and whatever of its grid changes with them."""
    there = replace(picture.grid, shape=(int(values.shape[1]), int(values.shape[2])), **grid)
    values = np.ascontiguousarray(values)
    if isinstance(picture, SliceStack):
        return replace(picture, values=values, grid=there)
    return replace(picture, height_um=values[0], grid=there)


def as_before(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Rounded and cut to what the type can hold."""
    if dtype.kind == "f":
        return values.astype(dtype)
    return np.clip(np.rint(values), 0, np.iinfo(dtype).max).astype(dtype)


def origin_at(grid: Grid, row: float, col: float) -> tuple[float, float]:
    """Where a point given in pixels is."""
    return grid.origin_um[0] + col * grid.pixel_um, grid.origin_um[1] - row * grid.pixel_um


# Changes that should not matter


def same(picture: Picture, _: Placement) -> Picture:
    return picture


def other_order(picture: Picture, _: Placement) -> Picture:
    """Done where the list of pictures is."""
    return picture


def elsewhere(picture: Picture, placement: Placement, pixels: float = 3.0) -> Picture:
    """The machine looks some pixels elsewhere than it says: towards where the part is, for it may be as far off as it can be."""
    grid, x_um, y_um = picture.grid, placement.offset_x_um, placement.offset_y_um
    by = pixels * grid.pixel_um
    origin = (grid.origin_um[0] - np.copysign(by, x_um), grid.origin_um[1] - np.copysign(by, y_um))
    return replace(picture, grid=replace(grid, origin_um=(float(origin[0]), float(origin[1]))))


def cut(picture: Picture, _: Placement) -> Picture:
    """The picture begins three rows and columns later, and says so."""
    return with_values(picture, values_of(picture)[:, 3:, 3:], origin_um=origin_at(picture.grid, 3, 3))


def shift_half_pixel(picture: Picture, _: Placement) -> Picture:
    """The same part on a grid half a pixel further right and down."""
    if isinstance(picture, HeightMap):
        moved = past_gaps(picture, lambda page: ndimage.shift(page, -0.5, order=1, mode="nearest"))
    else:
        pages = [resample_half_pixel(page.astype(np.float64)) for page in picture.values]
        moved = as_before(np.stack(pages), picture.values.dtype)
    return with_values(picture, moved, origin_um=origin_at(picture.grid, 0.5, 0.5))


def past_gaps(picture: HeightMap, resampled: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """(1, rows, cols): the heights resampled; where most of what a pixel is made of has no data, it has none."""
    there = np.isfinite(picture.height_um)
    known = resampled(there.astype(np.float32))
    heights = resampled(np.where(there, picture.height_um, 0.0).astype(np.float32))
    return np.where(known > 0.5, heights / np.maximum(known, 0.5), np.nan).astype(np.float32)[np.newaxis]


def resample_half_pixel(page: np.ndarray) -> np.ndarray:
    """Sample the page half a pixel further along both axes, without losing frequencies."""
    padded = np.pad(page, PAD, mode="reflect")
    rows, cols = (np.fft.fftfreq(n) for n in padded.shape)
    shifted = np.fft.fft2(padded) * np.exp(1j * np.pi * (rows[:, None] + cols[None, :]))
    return np.fft.ifft2(shifted).real[PAD:-PAD, PAD:-PAD]


def shift_half_pixel_and_elsewhere(picture: Picture, placement: Placement) -> Picture:
    return elsewhere(shift_half_pixel(picture, placement), placement, 0.5)


def rotate_images(picture: Picture, placement: Placement, by_deg: float = 0.2) -> Picture:
    """The part lies turned by 0.2 degrees less, about the middle of the picture."""
    angle = float(np.copysign(by_deg, placement.rotation_deg))
    if isinstance(picture, HeightMap):
        pages = past_gaps(picture, lambda page: ndimage.rotate(page, -angle, reshape=False, order=1, mode="nearest"))
    else:
        values = picture.values.astype(np.float64)
        pages = ndimage.rotate(values, -angle, axes=(1, 2), reshape=False, order=5, mode="nearest")
    return with_values(picture, as_before(pages, values_of(picture).dtype))


def invert_grey(picture: Picture, _: Placement) -> Picture:
    """Dark is bright, and said to be."""
    if isinstance(picture, HeightMap):
        return picture
    top = np.iinfo(picture.values.dtype).max if picture.values.dtype.kind == "u" else 1.0
    other = {"solder_bright": "solder_dark", "solder_dark": "solder_bright"}[picture.polarity]
    return replace(picture, values=(top - picture.values).astype(picture.values.dtype), polarity=other)


def rescale_grey(picture: Picture, _: Placement, factor: float = 0.37, offset: float = -3.0) -> Picture:
    """Other grey values, as floats."""
    if isinstance(picture, HeightMap):
        return picture
    return replace(picture, values=(picture.values * np.float32(factor) + np.float32(offset)).astype(np.float32))


def re_encoded(picture: Picture, _: Placement) -> Picture:
    """Written as tiles, packed, of the other byte order, and read by the product's own reader."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "a.tif"
        options = {"tile": (64, 64), "compression": "deflate", "predictor": True, "byteorder": ">", "bigtiff": True}
        tifffile.imwrite(file, values_of(picture), photometric="minisblack", metadata=None, **options)
        return with_values(picture, read_pages(file, len(values_of(picture)), ("uint8", "uint16", "float32")))


def other_heights(picture: Picture, _: Placement) -> Picture:
    """The machine believes its slices 4 um higher."""
    return replace(picture, z_um=tuple(z + 4 for z in picture.z_um)) if isinstance(picture, SliceStack) else picture


def tilt_height_maps(picture: Picture, placement: Placement) -> Picture:
    """The maps lean by 0.1 degrees about the part's middle: what lies there stays as high above the board as it was."""
    if isinstance(picture, SliceStack):
        return picture
    _, middle = picture.grid.to_pixel(np.array(placement.offset_x_um), np.array(placement.offset_y_um))
    from_middle_um = (np.arange(picture.height_um.shape[1]) - middle) * picture.grid.pixel_um
    return replace(picture, height_um=(picture.height_um + np.tan(np.radians(0.1)) * from_middle_um).astype(np.float32))


def finer(picture: Picture, _: Placement, size: float = 0.8, how: int = cv2.INTER_CUBIC) -> Picture:
    """Pixels of other size, with nothing more to see in them."""
    values, grid = values_of(picture), picture.grid
    shape = tuple(round(n / size) for n in values.shape[1:])
    by = np.array([[size, 0.0, (size - 1) / 2], [0.0, size, (size - 1) / 2]])  # where a new pixel lies in the old image

    def resize_pixels(page: np.ndarray) -> np.ndarray:
        flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_LINEAR if isinstance(picture, HeightMap) else how)
        return cv2.warpAffine(page.astype(np.float32), by, shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)

    pages = (
        past_gaps(picture, resize_pixels)
        if isinstance(picture, HeightMap)
        else np.stack([resize_pixels(page) for page in values])
    )
    place = origin_at(grid, (size - 1) / 2, (size - 1) / 2)
    return with_values(picture, as_before(pages, values.dtype), pixel_um=grid.pixel_um * size, origin_um=place)


# Changes that remove information


def coarser(picture: Picture, placement: Placement) -> Picture:
    return finer(picture, placement, 1.25, cv2.INTER_LINEAR)


def of_8_bits(picture: Picture, _: Placement) -> Picture:
    """Grey values between the least and the greatest, in 256 steps."""
    if isinstance(picture, HeightMap):
        return picture
    values = picture.values.astype(np.float64)
    low, high = values.min(), values.max()
    return replace(picture, values=np.rint((values - low) * (255 / (high - low))).astype(np.uint8))


def without_slice(picture: Picture, _: Placement, which: int = 1) -> Picture:
    """One slice was not taken."""
    if isinstance(picture, HeightMap) or len(picture.z_um) < 2:
        return picture
    remaining = [k for k in range(len(picture.z_um)) if k != which]
    return replace(
        picture, values=np.ascontiguousarray(picture.values[remaining]), z_um=tuple(picture.z_um[k] for k in remaining)
    )


def drop_slice(picture: Picture, _: Placement, which: int = 1) -> Picture:
    """One slice holds nothing."""
    if isinstance(picture, HeightMap) or len(picture.z_um) < 2:
        return picture
    values = picture.values.copy()
    values[which] = 0
    return replace(picture, values=values, lost=(which,))


HARMLESS: dict[str, Change] = {
    "inspected again": same,
    "pictures listed in another order": other_order,
    "written with another compression, byte order, tiles": re_encoded,
    "three pixels elsewhere": elsewhere,
    "three rows and columns less": cut,
    "half a pixel elsewhere": partial(elsewhere, pixels=0.5),
    "on a grid half a pixel further": shift_half_pixel,
    "on that grid, and half a pixel elsewhere": shift_half_pixel_and_elsewhere,
    "turned by 0.2 degrees": rotate_images,
    "inverted, as declared": invert_grey,
    "other grey values, as floats": rescale_grey,
    "slices believed 4 um higher": other_heights,
    "height maps tilted by 0.1 degrees": tilt_height_maps,
    "pixels 0.8 times as large": finer,
}
COSTLY: dict[str, Change] = {
    "pixels 1.25 times as large": coarser,
    "grey in 256 steps": of_8_bits,
    "second slice not taken": without_slice,
    "second slice holds nothing": drop_slice,
}
CHANGES = HARMLESS | COSTLY


def is_within_limit(name: str, counts: Counter[str]) -> bool:
    """Whether a change did no more than it may."""
    few = counts["changed"] <= MOST * counts["joints"] and not counts["refused"]
    return counts["fail>pass"] == 0 and (few or name in COSTLY)


def table(total: dict[str, Counter[str]]) -> str:
    """One row a change."""
    moves = ("fail>pass", "review>pass", "pass>fail", "review>fail", "pass>review", "fail>review")
    lines = [f"| change | joints | another verdict | {' | '.join(m.replace('>', ' to ') for m in moves)} | refused |"]
    lines.append("|---" * (4 + len(moves)) + "|")
    for name, counts in total.items():
        if name in COSTLY and not any("may cost" in line for line in lines):
            lines.append("| *may cost verdicts* " + "| " * (3 + len(moves)) + "|")
        lines.append(row(name, counts, moves))
    return "\n".join(lines)


def row(name: str, counts: Counter[str], moves: Sequence[str]) -> str:
    n = counts["joints"]
    low, high = clopper_pearson(counts["changed"], n)
    share = f"{counts['changed']} = {counts['changed'] / max(n, 1):.3%} ({low:.3%} to {high:.3%})"
    return f"| {name} | {n} | {share} | {' | '.join(str(counts[m]) for m in moves)} | {counts['refused']} |"


if __name__ == "__main__":
    sys.exit(main())

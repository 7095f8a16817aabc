"""Process the pictures of labelled boards as machines and people do, and see what verdicts and familiarity make of it.

    python scripts/studies/measure_familiarity.py BATCH... [--boards N] [--model DIR]

A BATCH holds `truth.csv` or `labels.csv`. Each board is inspected as it is and with its slices processed; for each batch and
processing the output gives the joints whose verdict stays, those of familiar pictures alone, the joints called unfamiliar, and
the true defects that pass: all, and those that pass by the processing.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from measure_evidence import find_kinds, read_rows
from numpy.typing import NDArray

from inspect_pop.classify.model import load
from inspect_pop.classify.session import Classifier
from inspect_pop.core.errors import InputFault
from inspect_pop.core.flags import bit
from inspect_pop.core.geometry import Grid, SliceStack
from inspect_pop.core.limits import Limits
from inspect_pop.core.system import utc_now
from inspect_pop.ingest import find_exports, open_export
from inspect_pop.ingest.contract import BoardExport, SliceSource
from inspect_pop.pipeline.board import inspect_board

Picture = NDArray[Any]


def to_bits(values: Picture, bits: int) -> Picture:
    """Scale a stack to so many bits, a little inside the ends of the scale."""
    low, high = float(values.min()), float(values.max())
    share = 0.02 + 0.96 * (values.astype(np.float32) - low) / max(high - low, 1e-6)
    return np.asarray(share * (2**bits - 1), dtype=np.uint8 if bits == 8 else np.uint16)


def process_pages(bits: int, change: Callable[[Picture], Picture]) -> Callable[[SliceStack], SliceStack]:
    """Return a processing that changes each slice at so many bits."""
    return lambda stack: replace(stack, values=np.stack([change(page) for page in to_bits(stack.values, bits)]))


def equalise(page: Picture) -> Picture:
    """Equalise with limited contrast (CLAHE)."""
    return np.asarray(cv2.createCLAHE(3.0, (8, 8)).apply(page))


def sharpen(page: Picture) -> Picture:
    """Sharpen by an unsharp mask of two pixels."""
    return np.asarray(cv2.addWeighted(page, 2.0, cv2.GaussianBlur(page, (0, 0), 2), -1.0, 0))


def compress(page: Picture) -> Picture:
    """Compress as JPEG of quality 50."""
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", page, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_GRAYSCALE))


def bend_scale(gamma: float) -> Callable[[Picture], Picture]:
    """Return the power law of this exponent, at 16 bits."""
    return lambda page: np.asarray(65535 * (page / 65535.0) ** gamma, dtype=np.uint16)


def resample(factor: float) -> Callable[[SliceStack], SliceStack]:
    """Return a processing that changes the number of pixels a side by this factor."""

    def change(stack: SliceStack) -> SliceStack:
        rows, cols = (n // 2 * 2 for n in stack.grid.shape)
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        pages = [np.ascontiguousarray(page[:rows, :cols]) for page in stack.values]
        values = np.stack([cv2.resize(page, None, fx=factor, fy=factor, interpolation=how) for page in pages])
        shift = (1 / factor - 1) / 2 * stack.grid.pixel_um
        origin = (stack.grid.origin_um[0] + shift, stack.grid.origin_um[1] - shift)
        return replace(stack, values=values, grid=Grid(values.shape[1:], stack.grid.pixel_um / factor, origin))

    return change


PROCESSINGS: dict[str, Callable[[SliceStack], SliceStack]] = {
    "none": lambda stack: stack,
    "8 bits": process_pages(8, lambda page: page),
    "CLAHE, 8 bits": process_pages(8, equalise),
    "CLAHE, 16 bits": process_pages(16, equalise),
    "sharpened, 8 bits": process_pages(8, sharpen),
    "sharpened, 16 bits": process_pages(16, sharpen),
    "JPEG q50": process_pages(8, compress),
    "gamma 0.6": process_pages(16, bend_scale(0.6)),
    "gamma 1.6": process_pages(16, bend_scale(1.6)),
    "halved": resample(0.5),
    "doubled": resample(2.0),
}


def process_board(export: BoardExport, change: Callable[[SliceStack], SliceStack]) -> BoardExport:
    """Return the export with its slices processed."""

    def read_changed(source: SliceSource) -> Callable[[], SliceStack]:
        return lambda: change(source.read())

    images = (replace(i, read=read_changed(i)) if isinstance(i, SliceSource) else i for i in export.images)
    return replace(export, images=tuple(images))


def measure_batch(batch: Path, boards: int, classifier: Classifier) -> dict[str, Counter[str]]:
    """Inspect up to `boards` boards with every processing; return the counts of joints by processing."""
    rows, name = read_rows(batch)
    counts: dict[str, Counter[str]] = {words: Counter() for words in PROCESSINGS}
    for path, root in find_exports([batch])[:boards]:
        export, plain = open_export(path, root), None
        for words, change in PROCESSINGS.items():
            count = counts[words]
            try:
                joints = inspect_board(process_board(export, change), classifier, Limits(), started_at=utc_now()).joints
            except InputFault as fault:
                count["refused"] += 1
                print(f"  {export.serial}, {words}: {fault}")
                continue
            plain = joints["verdict"] if plain is None else plain
            keys = list(zip(*(joints[k].tolist() for k in ("serial", "refdes", "interface", "ball")), strict=True))
            kinds = find_kinds(keys, rows, name)
            defect, passes = (kinds != "good") & (kinds != ""), joints["verdict"] == "pass"
            known = (joints["flags"] & bit("unfamiliar")) == 0
            count["joints"] += len(joints)
            count["same"] += int((joints["verdict"] == plain).sum())
            count["familiar"] += int(known.sum())
            count["same of familiar"] += int((known & (joints["verdict"] == plain)).sum())
            count["defects"] += int(defect.sum())
            count["defects that pass"] += int((defect & passes).sum())
            count["pass by the processing"] += int((defect & passes & (plain != "pass")).sum())
    return counts


def main() -> None:
    """Measure every batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("batches", nargs="+", type=Path, metavar="BATCH")
    parser.add_argument("--boards", type=int, default=1000, help="most boards of a batch")
    parser.add_argument("--model", type=Path, help="model folder; the current model if not given")
    options = parser.parse_args()
    classifier = Classifier(load(options.model))
    for batch in options.batches:
        print(batch)
        for words, count in measure_batch(batch, options.boards, classifier).items():
            print(f"  {words:20s} " + ", ".join(f"{name} {n}" for name, n in count.items()), flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Measure how often a picture of the wrong joints is caught, and how often a right one is doubted.

    scripts/studies/measure_crop_mismatch.py [--model DIR] [--boards N] [--processes N] [LABELLED ...]

N boards of named and random machines and products are simulated; LABELLED ones are added. On each, one thing at a time is made
wrong: an interface's pictures moved by one pitch (as a whole, or with the row that leaves the picture cut off), a joint table
moved by one pitch, the recipe of another product or of a nearly identical one, all pictures turned by 180 degrees.

A case is one picture of one interface. It is caught if it is refused (quarantine), if no joint of it passes and each has a flag
that says why, or if it is put right: the package is found where it really is, so that every joint is judged by its own picture.
A miss is a joint that is judged by another joint's picture. All joints of a picture share its fate, so the intervals count
pictures.
"""

import argparse
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from inspect_pop.classify.model import load, resolve
from inspect_pop.classify.session import Classifier
from inspect_pop.core import flags
from inspect_pop.core.errors import InputFault
from inspect_pop.core.geometry import HeightMap, SliceStack
from inspect_pop.core.limits import Limits
from inspect_pop.core.recipe import Interface, Recipe
from inspect_pop.core.statistics import clopper_pearson
from inspect_pop.evaluate.collect import make_simulated_export
from inspect_pop.ingest import find_exports, open_export
from inspect_pop.ingest.contract import BoardExport, ImageSource, SliceSource
from inspect_pop.pipeline.board import MeasuredBoard, judge_board, measure_board
from inspect_pop.simulate.board import simulate_board
from inspect_pop.simulate.catalog import MACHINES, PRODUCTS, draw_machine, draw_recipe, find_machine, find_recipe

SEED = 941
SMALL = ("tst4", "fine5")
DOUBT = flags.bit("crop_mismatch") | flags.bit("unfamiliar") | flags.bit("alignment_uncertain")
RIGHT_WITHIN = 0.25  # of the pitch: the package was found where it is
TIME = "2026-01-01T00:00:00+00:00"
OUTCOMES = ("refused", "put right", "for review", "missed")

Change = Callable[[SliceStack | HeightMap], SliceStack | HeightMap]


@dataclass(frozen=True)
class Case:
    """One thing made wrong on one board: what, the export as it then claims to be, whose pictures lie, and how far they moved."""

    what: str
    export: BoardExport
    interfaces: tuple[str, ...]
    moved_um: tuple[float, float] | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labelled", type=Path, nargs="*")
    parser.add_argument("--model", type=Path, default=Path("models"))
    parser.add_argument("--boards", type=int, default=48)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    work = [partial(simulate_boards, k) for k in range(options.boards)]
    work += [partial(open_export, *board) for board in find_exports(options.labelled)] if options.labelled else []
    found: dict[str, Counter[str]] = {}
    with ProcessPoolExecutor(options.processes) as pool:
        for results in pool.map(partial(judge_case, resolve(options.model)), work):
            for what, outcome, joints in results:
                found.setdefault(what, Counter()).update({outcome: 1, f"{outcome} joints": joints})
    right = found.pop("as it is")
    print(f"{len(work)} boards\n\n| made wrong | pictures | joints | {' | '.join(OUTCOMES)} | caught, by picture |")
    print("|---" * 8 + "|")
    for what, counts in found.items():
        print(row(what, counts))
    joints = sum(right[name] for name in right if name.endswith("joints"))
    doubted = right["doubted joints"] + right["refused joints"]
    low, high = clopper_pearson(doubted, joints)
    print(
        f"\nRight pictures: {doubted} of {joints} joints doubted or refused ({1e6 * low:.0f} to {1e6 * high:.0f} ppm), ", end=""
    )
    print(f"in {right['doubted']} of {sum(right[name] for name in right if not name.endswith('joints'))} pictures")


def row(what: str, counts: Counter[str]) -> str:
    pictures, joints = (sum(counts[name + of] for name in OUTCOMES) for of in ("", " joints"))
    caught = pictures - counts["missed"]
    low, high = clopper_pearson(caught, pictures)
    cells = [what, str(pictures), str(joints), *(str(counts[name]) for name in OUTCOMES)]
    return f"| {' | '.join(cells)} | {caught / pictures:.2%} ({low:.2%} to {high:.2%}) |"


def judge_case(model: Path, make: Callable[[], BoardExport]) -> list[tuple[str, str, int]]:
    """(what was made wrong, outcome, joints) of every picture of every case of one board."""
    export = make()
    try:
        truth = measure_board(export, Limits())
    except InputFault as fault:  # an image that is refused when it is right shows nothing about wrong ones
        print(f"{export.serial} left out: {fault}", flush=True)
        return [("as it is", "refused", export.recipe.n_joints)]
    results = [("as it is", *right_one(truth, k, model)) for k in range(len(interfaces(export.recipe)))]
    for case in cases(export):
        results += [(case.what, outcome, joints) for outcome, joints in outcomes(case, truth, model)]
    return results


def right_one(truth: MeasuredBoard, k: int, model: Path) -> tuple[str, int]:
    interface = interfaces(truth.export.recipe)[k]
    joints = judge_board(truth, classifier(model), Limits(), started_at=TIME).joints
    bits = joints["flags"][joints["interface"] == interface.name]
    doubted = int(((bits & DOUBT) != 0).sum())
    return ("doubted", doubted) if doubted else ("trusted", len(bits))


def outcomes(case: Case, truth: MeasuredBoard, model: Path) -> Iterator[tuple[str, int]]:
    there = {i.name: i for i in interfaces(case.export.recipe)}
    try:
        prepared = measure_board(case.export, Limits())
    except InputFault:
        yield from (("refused", len(there[name].ball)) for name in case.interfaces)
        return
    joints = judge_board(prepared, classifier(model), Limits(), started_at=TIME).joints
    for name in case.interfaces:
        rows = joints["interface"] == name
        if case.moved_um is not None and is_put_right(case, prepared, truth, there[name]):
            yield "put right", int(rows.sum())
        else:
            doubted = (joints["flags"][rows] & flags.REVIEW_MASK) != 0
            decided = ~doubted | (joints["verdict"][rows] == "pass")
            yield ("missed" if decided.any() else "for review"), int(rows.sum())


def is_put_right(case: Case, prepared: MeasuredBoard, truth: MeasuredBoard, interface: Interface) -> bool:
    """Whether every crop was cut where the undisturbed picture has that joint; those that only the table has do not count."""
    (was,), (now,) = ([p.placements[interface.name] for p in board.packages] for board in (truth, prepared))
    original = truth.packages[0].package.interface(interface.name)
    place = dict(zip(original.ball, zip(*was.apply(original.x_um, original.y_um), strict=True), strict=True))
    dx, dy = case.moved_um or (0.0, 0.0)
    x, y = now.apply(interface.x_um, interface.y_um)
    known = [k for k, ball in enumerate(interface.ball) if ball in place]
    away = [np.hypot(x[k] - place[interface.ball[k]][0] - dx, y[k] - place[interface.ball[k]][1] - dy) for k in known]
    return bool(max(away) < RIGHT_WITHIN * interface.pitch_um)


@lru_cache(maxsize=1)
def classifier(model: Path) -> Classifier:
    return Classifier(load(model))


def simulate_boards(k: int) -> BoardExport:
    """Every other board of a random machine or a random product."""
    rng = np.random.default_rng([SEED, k])
    names = [name for name in MACHINES if name in ("line_a", "line_b", "worn_tube", "ct9", "transmission")]
    machine = draw_machine(rng) if k % 2 else find_machine(names[k // 2 % len(names)])
    product = draw_recipe(rng) if k % 4 > 1 else find_recipe(SMALL[k // 4 % len(SMALL)])
    return make_simulated_export(simulate_board(rng, product, machine, defect_rate=0.06), f"SIM-{SEED}-{k}")


def interfaces(recipe: Recipe) -> list[Interface]:
    return [i for p in recipe.packages for i in p.interfaces]


def cases(export: BoardExport) -> Iterator[Case]:
    """Everything that is made wrong on one board."""
    seen = {i.interface for i in export.slices}
    for interface in interfaces(export.recipe):
        if interface.name not in seen:
            continue
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            by = (dx * interface.pitch_um, dy * interface.pitch_um)
            yield Case(
                "pictures one pitch off",
                change_images(export, interface.name, partial(move_images, by=by)),
                (interface.name,),
                by,
            )
            cut = change_images(export, interface.name, partial(cut_and_moved, by=by, array=interface))
            yield Case("one pitch off, a row cut off", cut, (interface.name,), by)
            table = with_interface(export, replace(interface, x_um=interface.x_um + by[0], y_um=interface.y_um + by[1]))
            yield Case("table one pitch off", table, (interface.name,), (0.0, 0.0))
        for what, other in nearly_alike(interface):
            yield Case(what, with_interface(export, other), (interface.name,), (0.0, 0.0))
    both = tuple(i.name for i in interfaces(export.recipe) if i.name in seen)
    for name in PRODUCTS:
        if name != export.recipe.name.removesuffix("-pop"):
            yield Case("another product", replace(export, recipe=find_recipe(name)), both)
    other = dict(zip(both, both[::-1], strict=True))
    swapped = [replace(i, read=partial(read_as, i, other[i.interface]), interface=other[i.interface]) for i in export.slices]
    if len(both) > 1 and method_name(export) != "transmission":
        yield Case("the other interface's pictures", replace(export, images=(*swapped, *export.height_maps)), both)
    turned = tuple(replace(i, read=partial(read_turned, i)) for i in export.images)
    if export.height_maps:
        yield Case("all pictures turned by 180 degrees", replace(export, images=turned), both)
    only = tuple(t if isinstance(t, SliceSource) else i for i, t in zip(export.images, turned, strict=True))
    yield Case("X-ray alone turned by 180 degrees", replace(export, images=only), both)


def nearly_alike(interface: Interface) -> Iterator[tuple[str, Interface]]:
    """The same array with one row more or less on one side, or with its pitch 50 um wider; centred as products are."""
    pitch, columns = interface.pitch_um, np.unique(np.round(interface.x_um, 1))
    last = np.isclose(interface.x_um, columns[-1], atol=1)
    fewer = replace(
        interface,
        ball=tuple(b for b, removed in zip(interface.ball, last, strict=True) if not removed),
        x_um=interface.x_um[~last] + pitch / 2,
        y_um=interface.y_um[~last],
    )
    yield "a product with a column less", fewer
    added = tuple(f"ZZ{k}" for k in range(int(last.sum())))
    more = replace(
        interface,
        ball=interface.ball + added,
        x_um=np.concatenate([interface.x_um, interface.x_um[last] + pitch]) - pitch / 2,
        y_um=np.concatenate([interface.y_um, interface.y_um[last]]),
    )
    yield "a product with a column more", more
    wider = (pitch + 50) / pitch
    yield (
        "a product of 50 um more pitch",
        replace(interface, x_um=interface.x_um * wider, y_um=interface.y_um * wider, pitch_um=pitch + 50),
    )


def method_name(export: BoardExport) -> str:
    image = export.slices[0].read()
    return image.method if isinstance(image, SliceStack) else ""


def read_as(source: ImageSource, interface: str) -> SliceStack | HeightMap:
    """The picture under another interface's name."""
    image = source.read()
    return replace(image, interface=interface) if isinstance(image, SliceStack) else image


def with_interface(export: BoardExport, other: Interface) -> BoardExport:
    packages = tuple(
        replace(p, interfaces=tuple(other if i.name == other.name else i for i in p.interfaces)) for p in export.recipe.packages
    )
    return replace(export, recipe=replace(export.recipe, packages=packages))


def change_images(export: BoardExport, interface: str, change: Change) -> BoardExport:
    slices = (replace(i, read=partial(read_changed, i, change)) if i.interface == interface else i for i in export.slices)
    return replace(export, images=(*slices, *export.height_maps))


def read_changed(source: ImageSource, change: Change) -> SliceStack | HeightMap:
    return change(source.read())


def move_images(stack: SliceStack, by: tuple[float, float]) -> SliceStack:
    """The picture lies somewhere else than it says."""
    origin = (stack.grid.origin_um[0] + by[0], stack.grid.origin_um[1] + by[1])
    return replace(stack, grid=replace(stack.grid, origin_um=origin))


def cut_and_moved(stack: SliceStack, by: tuple[float, float], array: Interface) -> SliceStack:
    """The same, and the picture ends half a pitch outside the array as it claims it: the row that moved beyond is not in it."""
    stack, grid = move_images(stack, by), move_images(stack, by).grid
    reach = np.array([[np.min(v) - 0.5 * array.pitch_um, np.max(v) + 0.5 * array.pitch_um] for v in (array.x_um, array.y_um)])
    row, col = (np.rint(v).astype(int) for v in grid.to_pixel(reach[0], reach[1][::-1]))
    rows, cols = slice(max(row[0], 0), max(row[1], 0)), slice(max(col[0], 0), max(col[1], 0))
    values = np.ascontiguousarray(stack.values[:, rows, cols])
    x, y = grid.to_um(np.array([float(rows.start)]), np.array([float(cols.start)]))
    return replace(stack, values=values, grid=replace(grid, shape=values.shape[1:], origin_um=(float(x[0]), float(y[0]))))


def read_turned(source: ImageSource) -> SliceStack | HeightMap:
    """The picture of the board turned by 180 degrees about the package frame's origin."""
    image = source.read()
    grid = image.grid
    rows, cols = grid.shape
    last_x, last_y = grid.to_um(np.array([rows - 1.0]), np.array([cols - 1.0]))
    turned = replace(grid, origin_um=(-float(last_x[0]), -float(last_y[0])))
    if isinstance(image, SliceStack):
        return replace(image, values=np.ascontiguousarray(image.values[:, ::-1, ::-1]), grid=turned)
    return replace(image, height_um=np.ascontiguousarray(image.height_um[::-1, ::-1]), grid=turned)


if __name__ == "__main__":
    main()

"""Simulated boards as a labelled batch in the export format, with everything that is known about them beside it.

OUT/recipes/tst4-pop.json, tst4-pop_U1_lower.csv ...
OUT/boards/SIM-7-000001/export.json, xray/U1_lower.tif ...
OUT/labels.csv           the five labels, as a person would have given them
OUT/truth.csv            label, variety, volume, gap, web width, stand-off, diameter, offset, void area of every joint
OUT/truth_boards.csv     warpage, cause and number of defects of every package
"""

import csv
import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from inspect_pop.core.errors import UsageFault
from inspect_pop.core.geometry import HeightMap, SliceStack
from inspect_pop.core.recipe import Recipe
from inspect_pop.simulate.board import SimulatedBoard, simulate_board
from inspect_pop.simulate.causes import CAUSES
from inspect_pop.simulate.machines import Machine, named_machine, random_machine
from inspect_pop.simulate.products import named_recipe, random_recipe

__all__ = ["simulate_batch", "write_board", "write_recipe"]

_START = datetime(2026, 1, 5, 8, 0, tzinfo=timezone(timedelta(hours=1)))
_BETWEEN = timedelta(minutes=9, seconds=17)
_COMPRESSIONS = ("zlib", "zlib", "lzw", "zstd", None)
_LABELS = ("serial", "refdes", "interface", "ball", "label", "source", "labelled_by", "labelled_at", "note")
_BOARDS = ("serial", "refdes", "warpage_um", "cause", "n_defects")
_DEFECT_RATE = 0.08


def simulate_batch(
    out: Path,
    boards: int,
    seed: int,
    *,
    machine: str | Machine = "line_a",
    product: str = "tst4",
    cause: str = "random",
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a labelled batch of `boards` boards under `out`; the same arguments write the same bytes, whatever `jobs`.

    `machine` and `product` are names of `MACHINES` and `PRODUCTS`, or `random` (another one for each board); `machine` may be
    your own besides. `cause` is one of `CAUSES` or `random`. `progress` is told (done, all) after each board. Raises UsageFault
    for an unknown name, a number below one, or a folder that already holds a batch.
    """
    _check(out, boards, jobs, machine, product, cause)
    work = [_Work(out, seed, number, machine, product, cause) for number in range(1, boards + 1)]
    joints: list[dict[str, Any]] = []
    packages: list[dict[str, Any]] = []
    for done, (rows, board) in enumerate(_all(work, jobs), start=1):
        joints += rows
        packages.append(board)
        if progress is not None:
            progress(done, boards)
    truth = list(joints[0])
    given = {"source": "simulated", "labelled_by": "inspect-pop simulate", "labelled_at": _START.isoformat(), "note": ""}
    _write_table(out / "labels.csv", _LABELS, ({k: row.get(k, given.get(k, "")) for k in _LABELS} for row in joints))
    _write_table(out / "truth.csv", truth, joints)
    _write_table(out / "truth_boards.csv", _BOARDS, packages)


def _check(out: Path, boards: int, jobs: int, machine: str | Machine, product: str, cause: str) -> None:
    for name, value in (("boards", boards), ("jobs", jobs)):
        if value < 1:
            raise UsageFault(f"number of {name}", expected="1 or more", found=str(value))
    if isinstance(machine, str) and machine != "random":
        named_machine(machine)
    if product != "random":
        named_recipe(product)
    if cause not in (*CAUSES, "random"):
        raise UsageFault(f"cause {cause}", expected=f"random or one of {', '.join(CAUSES)}", remedy="Name one of these.")
    if any((out / name).exists() for name in ("boards", "recipes", "labels.csv")):
        raise UsageFault(
            str(out), expected="a new or empty folder", found="a batch", remedy="Name another folder, or remove this one."
        )


@dataclass(frozen=True)
class _Work:
    """One board to simulate and write; small enough to send to another process."""

    out: Path
    seed: int
    number: int
    machine: str | Machine
    product: str
    cause: str

    def run(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Rows of truth.csv of this board, and its row of truth_boards.csv."""
        rng = np.random.default_rng([self.seed, self.number])
        machine = self._machine(rng)
        recipe = random_recipe(rng) if self.product == "random" else named_recipe(self.product)
        board = simulate_board(rng, recipe, machine, cause=self.cause, defect_rate=_DEFECT_RATE)
        serial = f"SIM-{self.seed}-{self.number:06d}"
        write_recipe(self.out / "recipes", recipe)
        compression = _COMPRESSIONS[int(rng.integers(len(_COMPRESSIONS)))]
        write_board(self.out / "boards" / serial, board, serial, self.number, compression=compression)
        return _rows(board, serial)

    def _machine(self, rng: np.random.Generator) -> Machine:
        if isinstance(self.machine, Machine):
            return self.machine
        return random_machine(rng) if self.machine == "random" else named_machine(self.machine)


def _run(work: _Work) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    return work.run()


def _all(work: list[_Work], jobs: int) -> Iterator[tuple[list[dict[str, Any]], dict[str, Any]]]:
    if jobs == 1:
        yield from map(_run, work)
        return
    with ProcessPoolExecutor(min(jobs, len(work)), mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_run, work)


def _rows(board: SimulatedBoard, serial: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    truth = board.truth
    rows = [{"serial": serial, **{name: _plain(values[k]) for name, values in truth.items()}} for k in range(len(truth["ball"]))]
    refdes = board.recipe.packages[0].refdes
    n_defects = int((truth["label"] != "good").sum())
    values = (serial, refdes, round(board.warpage_um, 2), board.cause, n_defects)
    return rows, dict(zip(_BOARDS, values, strict=True))


def _plain(value: Any) -> Any:
    """A number as it goes into a table: four digits after the point are enough, NaN is empty."""
    if isinstance(value, float):
        return "" if np.isnan(value) else round(float(value), 4)
    return value


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """The recipe and its joints' tables, as the export format has them; the same recipe again is the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    packages = []
    for package in recipe.packages:
        interfaces = []
        for i in package.interfaces:
            table = f"{recipe.name}_{package.refdes}_{i.name}.csv"
            rows = ({"ball": b, "x_um": f"{x:g}", "y_um": f"{y:g}"} for b, x, y in zip(i.ball, i.x_um, i.y_um, strict=True))
            _write_table(folder / table, ("ball", "x_um", "y_um"), rows)
            fields = ("pitch_um", "ball_diameter_um", "pad_diameter_um", "pad_definition", "solder")
            interfaces.append(
                {"name": i.name, "joints": table, **{f: getattr(i, f) for f in fields}, "pads_z_um": list(i.pads_z_um)}
            )
        names = ("refdes", "part", "construction", "stack_height_um", "warpage_limit_um", "a1_corner")
        packages.append({**{n: getattr(package, n) for n in names}, "body_um": list(package.body_um), "interfaces": interfaces})
    content = {
        "schema": "pop-recipe/1",
        "name": recipe.name,
        "revision": recipe.revision,
        "product": recipe.product,
        "packages": packages,
    }
    _write_text(folder / f"{recipe.name}.json", json.dumps(content, indent=1))


def write_board(folder: Path, board: SimulatedBoard, serial: str, number: int, *, compression: str | None = "zlib") -> None:
    """One board's folder: export.json and its TIFF files. `number` counts boards: it gives time, panel and position."""
    images = [_write_stack(folder, stack, compression) for stack in board.stacks]
    images += [_write_height(folder, height, board.machine, compression) for height in board.heights]
    content = {
        "schema": "pop-export/1",
        "serial": serial,
        "panel": f"PN{(number - 1) // 4:06d}",
        "position": (number - 1) % 4 + 1,
        "product": board.recipe.product,
        "lot": f"L{(number - 1) // 40:04d}",
        "work_order": f"WO-{(number - 1) // 400:04d}",
        "line": board.machine.line,
        "station": board.machine.station,
        "operator": "op01",
        "recipe": f"../../recipes/{board.recipe.name}.json",
        "inspected_at": (_START + number * _BETWEEN).isoformat(),
        "images": images,
    }
    _write_text(folder / "export.json", json.dumps(content, indent=1))


def _write_stack(folder: Path, stack: SliceStack, compression: str | None) -> dict[str, Any]:
    file = f"xray/{stack.refdes}_{stack.interface}.tif"
    digest = _write_tiff(folder / file, stack.values, compression)
    return {
        "kind": "xray_slices",
        "refdes": stack.refdes,
        "interface": stack.interface,
        "file": file,
        "sha256": digest,
        "z_um": list(stack.z_um),
        "pixel_um": stack.grid.pixel_um,
        "origin_um": list(stack.grid.origin_um),
        "polarity": stack.polarity,
        "method": stack.method,
    }


def _write_height(folder: Path, height: HeightMap, machine: Machine, compression: str | None) -> dict[str, Any]:
    """A map as float32 with NaN, or as uint16 with a scale and 0 for no data."""
    file = f"height/{height.refdes}_{height.stage}.tif"
    values: NDArray[Any] = height.height_um
    if machine.height_dtype == "uint16":
        counts = np.clip(np.rint((np.nan_to_num(values) - machine.height_offset_um) / machine.height_scale_um), 1, 65535)
        values = np.where(np.isnan(values), 0, counts).astype(np.uint16)
    return {
        "kind": "height_map",
        "refdes": height.refdes,
        "stage": height.stage,
        "file": file,
        "sha256": _write_tiff(folder / file, values, compression),
        "pixel_um": height.grid.pixel_um,
        "origin_um": list(height.grid.origin_um),
        "scale_um": machine.height_scale_um,
        "offset_um": machine.height_offset_um,
        "no_data": 0 if machine.height_dtype == "uint16" else None,
    }


def _write_tiff(path: Path, values: NDArray[Any], compression: str | None) -> str:
    """Write pages, and return the file's sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    predictor = bool(compression) and values.dtype.kind == "u"
    tifffile.imwrite(path, values, compression=compression, predictor=predictor, photometric="minisblack", metadata=None)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_table(path: Path, columns: Iterable[str], rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")

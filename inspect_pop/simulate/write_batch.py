"""Write simulated boards as a labelled batch in the export format, together with everything that is known about them.

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
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from inspect_pop.core.causes import CAUSES
from inspect_pop.core.classes import GOOD
from inspect_pop.core.errors import UsageFault
from inspect_pop.core.recipe import Recipe
from inspect_pop.simulate.board import SimulatedBoard, simulate_board
from inspect_pop.simulate.machines import Machine, draw_machine, find_machine
from inspect_pop.simulate.products import draw_recipe, find_recipe

__all__ = ["simulate_batch", "write_board", "write_recipe"]

_START = datetime(2026, 1, 5, 8, 0, tzinfo=timezone(timedelta(hours=1)))
_BETWEEN = timedelta(minutes=9, seconds=17)
_COMPRESSIONS = ("zlib", "zlib", "lzw", "zstd", None)
_LABELS = ("serial", "refdes", "interface", "ball", "label", "source", "labelled_by", "labelled_at", "note")
_DEFECT_RATE = 0.08


def simulate_batch(
    out: Path,
    boards: int,
    seed: int,
    *,
    machine: str | Machine = "line_a",
    product: str = "tst4",
    cause: str = "random",
    gross_share: float = 0.0,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a labelled batch of `boards` boards under `out`. The same arguments write the same bytes, whatever `jobs`.

    Parameters
    ----------
    out
        A new or empty folder.
    boards, seed
        How many boards, and the seed that decides them. Boards are numbered from 1.
    machine
        A name of `MACHINES`, `random` for another one per board, or a `Machine`.
    product
        A name of `PRODUCTS`, or `random` for another one per board.
    cause
        One of `CAUSES`, or `random`.
    gross_share
        Share of joints among gross defects, 0 to 1: bridges of a ball's width, puddles, balls that are missing.
    jobs
        Number of processes.
    progress
        Called with (done, all) after each board.

    Raises
    ------
    UsageFault
        A name is unknown, a number is below one, or the folder already holds a batch.
    """
    for name, value in (("boards", boards), ("jobs", jobs)):
        if value < 1:
            raise UsageFault(f"number of {name}", expected="1 or more", found=str(value))
    if isinstance(machine, str) and machine != "random":
        find_machine(machine)
    if product != "random":
        find_recipe(product)
    if cause not in (*CAUSES, "random"):
        raise UsageFault(f"cause {cause}", expected=f"random or one of {', '.join(CAUSES)}", remedy="Name one of these.")
    if any((out / name).exists() for name in ("boards", "recipes", "labels.csv")):
        remedy = "Name another folder, or remove this one."
        raise UsageFault(str(out), expected="a new or empty folder", found="a batch", remedy=remedy)

    tasks = [_BoardTask(out, seed, number, machine, product, cause, gross_share) for number in range(1, boards + 1)]
    joints: list[dict[str, Any]] = []
    packages: list[dict[str, Any]] = []
    with ExitStack() as stack:
        if jobs == 1:
            results: Iterable[_Rows] = map(_BoardTask.run, tasks)
        else:
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=context))
            results = pool.map(_BoardTask.run, tasks)
        for done, (rows, board) in enumerate(results, start=1):
            joints += rows
            packages.append(board)
            if progress is not None:
                progress(done, boards)

    source = {"source": "simulated", "labelled_by": "inspect-pop simulate", "labelled_at": _START.isoformat(), "note": ""}
    _write_table(out / "labels.csv", _LABELS, ({k: row.get(k, source.get(k, "")) for k in _LABELS} for row in joints))
    _write_table(out / "truth.csv", list(joints[0]), joints)
    _write_table(out / "truth_boards.csv", list(packages[0]), packages)


_Rows = tuple[list[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class _BoardTask:
    """One board to simulate and write; small enough to send to another process."""

    out: Path
    seed: int
    number: int
    machine: str | Machine
    product: str
    cause: str
    gross_share: float

    def run(self) -> _Rows:
        """Simulate and write the board; returns its rows of truth.csv, and its row of truth_boards.csv."""
        rng = np.random.default_rng([self.seed, self.number])
        machine = self.machine
        if not isinstance(machine, Machine):
            machine = draw_machine(rng) if machine == "random" else find_machine(machine)
        recipe = draw_recipe(rng) if self.product == "random" else find_recipe(self.product)
        board = simulate_board(rng, recipe, machine, self.cause, _DEFECT_RATE, self.gross_share)
        serial = f"SIM-{self.seed}-{self.number:06d}"
        write_recipe(self.out / "recipes", recipe)
        compression = _COMPRESSIONS[int(rng.integers(len(_COMPRESSIONS)))]
        write_board(self.out / "boards" / serial, board, serial, self.number, compression=compression)

        rows = []
        for k in range(len(board.truth["ball"])):
            row: dict[str, Any] = {"serial": serial}
            for name, values in board.truth.items():
                value = values[k]
                if isinstance(value, float):  # four decimals are enough; NaN is an empty field
                    value = "" if np.isnan(value) else round(float(value), 4)
                row[name] = value
            rows.append(row)
        return rows, {
            "serial": serial,
            "refdes": recipe.packages[0].refdes,
            "warpage_um": round(board.warpage_um, 2),
            "cause": board.cause,
            "n_defects": int((board.truth["label"] != GOOD).sum()),
        }


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """Write a recipe and its joints' tables in the export format. The same recipe writes the same bytes."""
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
    """Write one board's folder: export.json and its TIFF files. `number` counts boards: it gives time, panel and position.

    A height map is float32 with NaN for no data, or uint16 with a scale and 0 for no data, as its machine has it.
    """
    images: list[dict[str, Any]] = []
    for stack in board.stacks:
        file = f"xray/{stack.refdes}_{stack.interface}.tif"
        images.append(
            {
                "kind": "xray_slices",
                "refdes": stack.refdes,
                "interface": stack.interface,
                "file": file,
                "sha256": _write_tiff(folder / file, stack.values, compression),
                "z_um": list(stack.z_um),
                "pixel_um": stack.grid.pixel_um,
                "origin_um": list(stack.grid.origin_um),
                "polarity": stack.polarity,
                "method": stack.method,
            }
        )
    scale_um, offset_um = board.machine.height_scale_um, board.machine.height_offset_um
    is_uint16 = board.machine.height_dtype == "uint16"
    for height in board.heights:
        file = f"height/{height.refdes}_{height.stage}.tif"
        values: NDArray[Any] = height.height_um
        if is_uint16:
            counts = np.clip(np.rint((np.nan_to_num(values) - offset_um) / scale_um), 1, 65535)
            values = np.where(np.isnan(values), 0, counts).astype(np.uint16)
        images.append(
            {
                "kind": "height_map",
                "refdes": height.refdes,
                "stage": height.stage,
                "file": file,
                "sha256": _write_tiff(folder / file, values, compression),
                "pixel_um": height.grid.pixel_um,
                "origin_um": list(height.grid.origin_um),
                "scale_um": scale_um,
                "offset_um": offset_um,
                "no_data": 0 if is_uint16 else None,
            }
        )
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


def _write_tiff(path: Path, values: NDArray[Any], compression: str | None) -> str:
    """Write the pages of one file and return its sha256."""
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

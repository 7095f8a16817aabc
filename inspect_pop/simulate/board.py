"""Simulate boards, and write them as a labelled batch."""

import csv
import hashlib
import json
import math
import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from inspect_pop.core.classes import CAUSES, GOOD
from inspect_pop.core.errors import UsageFault
from inspect_pop.core.geometry import Grid, HeightMap, Placement, SliceStack
from inspect_pop.core.recipe import Interface, Package, Recipe
from inspect_pop.simulate.bodies import cap_volume
from inspect_pop.simulate.catalog import Machine, draw_machine, draw_recipe, find_machine, find_recipe, vary_machine
from inspect_pop.simulate.causes import BoardPlan, WarpedStack, compute_warpage, draw_varieties, make_stack, plan_board
from inspect_pop.simulate.gross import CUT, add_gross_defects
from inspect_pop.simulate.pictures import Domes, HeightScene, draw_middle, reconstruct, render_height_map, to_grey_values
from inspect_pop.simulate.scene import Population, Scene, build_solder, build_surroundings, place_passives, populate

__all__ = ["SimulatedBoard", "collect_truth", "simulate_batch", "simulate_board", "write_board", "write_recipe"]

Floats = NDArray[np.float64]
_DOME = 0.73  # height of the bottom solder's dome before stacking over its pad's radius, as the samples show it


@dataclass(frozen=True)
class SimulatedBoard:
    """Pictures and truth of one board.

    `stacks` and `heights` are as a reader would give them. `truth` holds parallel columns, one entry per joint: refdes,
    interface, ball, label, variety, volume_ratio, gap_um, void_area_fraction, standoff_um, diameter_mid_um, dx_um, dy_um, web_um.
    `placements` gives, by image (`U1/lower`, `U1/post_reflow`), where the package really lies in it; `z_error_um` by image.
    """

    recipe: Recipe
    machine: Machine
    cause: str
    warpage_um: float
    stacks: tuple[SliceStack, ...]
    heights: tuple[HeightMap, ...]
    truth: dict[str, NDArray[Any]]
    placements: dict[str, Placement]
    z_error_um: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _BoardPose:
    """Where one board lies under the machine: its offset and turn, the first view's angle, the drift of gain and level."""

    offset_um: Floats
    turn_deg: float
    phase_rad: float
    drift: tuple[float, float]


def simulate_board(
    rng: np.random.Generator,
    recipe: Recipe,
    machine: Machine,
    cause: str = "random",
    defect_rate: float = 0.08,
    gross_share: float = 0.0,
) -> SimulatedBoard:
    """Simulate one board of a recipe on a machine. The same generator state gives the same board.

    `cause` is one of `causes.CAUSES` or `random`; `defect_rate` is the share of joints that are odd by chance, half of them good
    ones that look odd; `gross_share` the share among gross defects (`gross.GROSS`). Raises `UsageFault` for an unknown cause.
    """
    package = recipe.packages[0]
    plan = plan_board(rng, package, cause)
    stack = make_stack(rng, package, plan.bow_um, plan.sink_um, plan.bulge)
    domes, populations = _populate_package(rng, package, plan, stack, defect_rate)
    if gross_share:
        populations = tuple(add_gross_defects(rng, p, gross_share) for p in populations)
    reach = max(float(np.abs(i.x_um).max()) for i in package.interfaces) + 1100.0
    passives = place_passives(rng, package)
    scene = Scene(build_solder(populations), build_surroundings(rng, package, passives, reach))

    turn = float(rng.normal(0, machine.rotation_jitter_deg))
    drift = np.exp(rng.normal(0, machine.drift, 2))
    offset = rng.normal(0, machine.lateral_jitter_um, 2)
    pose = _BoardPose(offset, turn, float(rng.uniform(0, 2 * math.pi)), (float(drift[0]), float(drift[1])))
    stacks, placements, z_errors = _take_slices(rng, scene, package, vary_machine(rng, machine), pose)

    text = (package.part[:8], f"{int(rng.integers(1_000_000)):06d}", f"KR {int(rng.integers(2400, 2700))}")
    half = max(0.575 * max(package.body_um), max(package.body_um) / 2 + 690.0)
    middle = draw_middle(rng, package)
    maps = []
    for stage in ("pre_stack", "post_reflow"):
        placements[f"{package.refdes}/{stage}"] = placement = _draw_placement(rng, pose)
        grid = _draw_grid(rng, half, machine.height_pixel_um, jitter_um=30.0, spare=0)
        view = HeightScene(stage, stack, domes, passives, text, middle)
        maps.append(render_height_map(rng, package, view, grid, placement, machine))

    truth = collect_truth(package, populations)
    warpage = compute_warpage(stack.memory)
    return SimulatedBoard(recipe, machine, plan.cause, warpage, stacks, tuple(maps), truth, placements, z_errors)


def _populate_package(
    rng: np.random.Generator, package: Package, plan: BoardPlan, stack: WarpedStack, defect_rate: float
) -> tuple[Domes, tuple[Population, ...]]:
    """Make the joints of all interfaces, and the domes that the map before stacking shows."""
    lower, upper = package.interfaces[0], package.interfaces[-1]
    ones = np.ones(len(lower.ball))
    rise = stack.bottom.height_at(lower.x_um, lower.y_um)
    first = _populate_interface(rng, lower, plan, 0, np.zeros(len(lower.ball)), lower.gap_um + rise, ones, defect_rate)
    if len(package.interfaces) == 1:
        return Domes(np.zeros(0), np.zeros(0), np.zeros(0), 1.0), (first,)

    base = stack.bottom.height_at(upper.x_um, upper.y_um)
    standoff = upper.gap_um + stack.memory.height_at(upper.x_um, upper.y_um) - base
    radius = upper.pad_diameter_um / 2
    dome = _DOME * radius * np.maximum(1 + 0.11 * rng.standard_normal(len(upper.ball)), 0.3)
    share = (cap_volume(radius, dome) - cap_volume(radius, _DOME * radius)) / upper.nominal_volume_um3
    second = _populate_interface(rng, upper, plan, 1, upper.pads_z_um[0] + base, standoff, 1 + share, defect_rate)

    # Where no bottom solder was there is no dome; under a head in pillow it is often a low one.
    variety = second.variety.astype(str)
    chance = rng.random(len(dome))
    none = (variety == "missing") | (np.isin(variety, ("hanging", "hourglass")) & (chance < 0.3))
    low = np.isin(variety, ("dome_on_dome", "two_domes")) & (chance < 0.45)
    visible = np.where(none, 0.0, np.where(low, dome * rng.uniform(0.4, 0.8, len(dome)), dome))
    return Domes(upper.x_um, upper.y_um, visible, radius), (first, second)


def _populate_interface(
    rng: np.random.Generator,
    interface: Interface,
    plan: BoardPlan,
    index: int,
    z_low: Floats,
    standoff: Floats,
    factor: Floats,
    defect_rate: float,
) -> Population:
    n, pattern = len(interface.ball), plan.patterns[index]
    standoff = np.maximum(standoff + rng.normal(0, 1.5, n), 0.35 * interface.gap_um)
    variety = draw_varieties(rng, interface, pattern, standoff, plan.reach, defect_rate)
    shear = np.array(pattern.shear_um) + rng.normal(0, 6.0, 2) + rng.normal(0, 3.0, (n, 2))
    return populate(rng, interface, z_low, standoff, variety, pattern.volume * factor, shear, pattern.web_angle)


def _take_slices(
    rng: np.random.Generator, scene: Scene, package: Package, machine: Machine, pose: _BoardPose
) -> tuple[tuple[SliceStack, ...], dict[str, Placement], dict[str, float]]:
    """Take the slices of every interface; returns them with the true placements and the errors of `z_um`, by image."""
    stacks, placements, z_errors = [], {}, {}
    half = max(float(np.abs(i.x_um).max()) for i in package.interfaces) + 880.0
    shared: tuple[Grid, Placement, NDArray[np.generic]] | None = None
    for interface in package.interfaces:
        name = f"{package.refdes}/{interface.name}"
        low, high = interface.pads_z_um
        z_errors[name] = float(np.clip(rng.normal(0, machine.z_belief_um), -10, 10))
        if machine.method == "transmission":
            z: tuple[float, ...] = ((low + high) / 2,)
        else:  # from 5 um above the lower pad to 5 um below the upper one
            z = tuple(float(v) for v in np.round(np.linspace(low + 5, high - 5, machine.slices)))
        if shared is None:
            placement, grid = _draw_placement(rng, pose), _draw_grid(rng, half, machine.pixel_um, jitter_um=30.0, spare=2)
            slices = reconstruct(rng, scene, grid, placement, tuple(v + z_errors[name] for v in z), machine, pose.phase_rad)
            values = to_grey_values(rng, slices, machine, pose.drift)
            shared = (grid, placement, values) if machine.method == "transmission" else None
        else:  # one straight picture shows both interfaces
            grid, placement, values = shared
        placements[name] = placement
        stacks.append(SliceStack(package.refdes, interface.name, values, z, grid, machine.polarity, machine.method))
    return tuple(stacks), placements, z_errors


def _draw_placement(rng: np.random.Generator, pose: _BoardPose) -> Placement:
    dx, dy = np.clip(pose.offset_um + rng.normal(0, 15.0, 2), -150, 150)
    return Placement(float(dx), float(dy), float(np.clip(pose.turn_deg + rng.normal(0, 0.08), -1, 1)), 0.0)


def _draw_grid(rng: np.random.Generator, half_um: float, pixel_um: float, *, jitter_um: float, spare: int) -> Grid:
    """Draw a field of about twice `half_um` whose origin and size differ a little from picture to picture."""
    shape = tuple(math.ceil(2 * half_um / pixel_um) + int(rng.integers(-spare, spare + 1)) for _ in range(2))
    origin = (
        round(-half_um + float(rng.uniform(-1, 1)) * jitter_um, 1),
        round(half_um + float(rng.uniform(-1, 1)) * jitter_um, 1),
    )
    return Grid((shape[0], shape[1]), pixel_um, origin)


def collect_truth(package: Package, populations: tuple[Population, ...]) -> dict[str, NDArray[Any]]:
    """Collect what is known of every joint, as parallel columns over all interfaces (see `SimulatedBoard.truth`)."""
    columns: dict[str, list[NDArray[Any]]] = {}
    for p in populations:
        n = len(p.label)
        mid = p.bodies.radius_at(p.bodies.standoff[:, None] / 2)[:, 0] * 2
        widest = p.bodies.radius_at(np.linspace(0.01, 0.99, 33) * p.bodies.standoff[:, None]).max(axis=1)
        is_void = ~np.isin(p.variety[p.voids.joint].astype(str), CUT)
        area = np.bincount(p.voids.joint[is_void], p.voids.radius_um[is_void] ** 2, n)
        rows: dict[str, NDArray[Any]] = {
            "refdes": np.full(n, package.refdes, object),
            "interface": np.full(n, p.interface.name, object),
            "ball": np.array(p.interface.ball, object),
            "label": p.label,
            "variety": p.variety,
            "volume_ratio": p.volume_ratio,
            "gap_um": p.gap_um,
            "void_area_fraction": np.minimum(area / np.maximum(widest**2, 1.0), 1.0),
            "standoff_um": p.bodies.standoff,
            "diameter_mid_um": mid,
            "dx_um": p.dx_um,
            "dy_um": p.dy_um,
            "web_um": p.web_um,
        }
        for name, values in rows.items():
            columns.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in columns.items()}


# Write simulated boards as a labelled batch in the export format, together with everything that is known about them.
#
# OUT/recipes/tst4-pop.json, tst4-pop_U1_lower.csv ...
# OUT/boards/SIM-7-000001/export.json, xray/U1_lower.tif ...
# OUT/labels.csv           the five labels, as a person would have given them
# OUT/truth.csv            label, variety, volume, gap, web width, stand-off, diameter, offset, void area of every joint
# OUT/truth_boards.csv     warpage, cause and number of defects of every package


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

"""One simulated board: joints with known truth, and the pictures that machines would take of it."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.geometry import Grid, HeightMap, Placement, SliceStack
from inspect_pop.recipe import Interface, Package, Recipe
from inspect_pop.simulate.machines import Machine
from inspect_pop.simulate.population import Population, populate
from inspect_pop.simulate.scene import Scene
from inspect_pop.simulate.solids import solder_of
from inspect_pop.simulate.xray import reconstruct

__all__ = ["SimulatedBoard", "simulate_board"]

Floats = NDArray[np.float64]


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


def simulate_board(
    rng: np.random.Generator, recipe: Recipe, machine: Machine, cause: str = "random", defect_rate: float = 0.08
) -> SimulatedBoard:
    """Simulate one board of a recipe on a machine. Same generator state, same board."""
    package = recipe.packages[0]
    populations = tuple(_population(rng, interface, defect_rate) for interface in package.interfaces)
    scene = Scene(solder_of(populations), ())
    board_offset = rng.normal(0, machine.lateral_jitter_um, 2)
    board_turn = float(rng.normal(0, machine.rotation_jitter_deg))
    phase = float(rng.uniform(0, 2 * math.pi))
    gain = float(np.exp(rng.normal(0, machine.drift)))
    level = float(np.exp(rng.normal(0, machine.drift)))
    stacks, placements, z_error = [], {}, {}
    for interface in package.interfaces:
        placement = _placement(rng, board_offset, board_turn)
        error = float(np.clip(rng.normal(0, machine.z_belief_um), -10, 10))
        stack = _stack(rng, scene, package, interface, machine, placement, error, phase, (gain, level))
        stacks.append(stack)
        placements[f"{package.refdes}/{interface.name}"], z_error[f"{package.refdes}/{interface.name}"] = placement, error
    return SimulatedBoard(recipe, machine, "none", 0.0, tuple(stacks), (), _truth(package, populations), placements, z_error)


_MIX = {
    "low_volume": 0.08, "excess": 0.08, "big_void": 0.08, "spike": 0.08, "shoulder": 0.05, "web": 0.14, "hanging": 0.10, "standing": 0.04,
    "two_domes": 0.04, "missing": 0.02, "dome_on_dome": 0.10, "cupped": 0.07, "hourglass": 0.12,
}  # fmt: skip


def _population(rng: np.random.Generator, interface: Interface, defect_rate: float) -> Population:
    n = len(interface.ball)
    variety = np.full(n, "plain", object)
    odd = rng.random(n) < defect_rate * 1.4
    shares = np.array(list(_MIX.values())) / sum(_MIX.values())
    variety[odd] = rng.choice(np.array(list(_MIX), object), odd.sum(), p=shares)
    tilt = rng.normal(0, 6.0, 2) / max(np.ptp(interface.x_um), 1.0)
    standoff = interface.gap_um + tilt[0] * interface.x_um + tilt[1] * interface.y_um + rng.normal(0, 2.0, n)
    shear = rng.normal(0, 6.0, 2) + rng.normal(0, 3.0, (n, 2))
    return populate(rng, interface, np.full(n, float(interface.pads_z_um[0])), standoff, variety, np.full(n, 1.0), shear)


def _placement(rng: np.random.Generator, offset: Floats, turn: float) -> Placement:
    dx, dy = np.clip(offset + rng.normal(0, 15.0, 2), -150, 150)
    return Placement(float(dx), float(dy), float(np.clip(turn + rng.normal(0, 0.08), -1, 1)), 0.0)


def _stack(
    rng: np.random.Generator, scene: Scene, package: Package, interface: Interface, machine: Machine, placement: Placement, z_error_um: float, phase_rad: float,
    drift: tuple[float, float],
) -> SliceStack:  # fmt: skip
    low, high = interface.pads_z_um
    z = tuple(float(v) for v in np.round(np.linspace(low + 5, high - 5, machine.slices)))
    half = max(float(np.abs(i.x_um).max()) for i in package.interfaces) + 880.0
    origin = (-half + float(rng.uniform(-30, 30)), half + float(rng.uniform(-30, 30)))
    size = [math.ceil(2 * half / machine.pixel_um) + int(rng.integers(-2, 3)) for _ in range(2)]
    grid = Grid((size[0], size[1]), machine.pixel_um, (round(origin[0], 1), round(origin[1], 1)))
    slices = reconstruct(rng, scene, grid, placement, tuple(v + z_error_um for v in z), machine, phase_rad)
    values = _record(slices, machine, *drift)
    return SliceStack(package.refdes, interface.name, values, z, grid, machine.polarity, machine.method)


def _record(slices: NDArray[np.float32], machine: Machine, gain: float, level: float) -> NDArray[np.generic]:
    """Grey values as the machine writes them: a level and a span that drift, one polarity, one dtype."""
    grey = slices * (machine.span * gain)
    grey = machine.level * level + (grey if machine.polarity == "solder_bright" else machine.span * 1.2 - grey)
    if machine.dtype == "float32":
        return grey.astype(np.float32)
    top = np.iinfo(machine.dtype).max
    return np.clip(np.rint(grey), 0, top).astype(machine.dtype)


def _truth(package: Package, populations: tuple[Population, ...]) -> dict[str, NDArray[Any]]:
    columns: dict[str, list[NDArray[Any]]] = {}
    for p in populations:
        n = len(p.label)
        mid = p.bodies.radius(p.bodies.standoff[:, None] / 2)[:, 0] * 2
        fraction = np.bincount(p.voids.joint, np.pi * p.voids.radius_um**2, n) / np.maximum(np.pi * mid**2 / 4, 1.0)
        rows: dict[str, NDArray[Any]] = {
            "refdes": np.full(n, package.refdes, object), "interface": np.full(n, p.interface.name, object), "ball": np.array(p.interface.ball, object),
            "label": p.label, "variety": p.variety, "volume_ratio": p.volume_ratio, "gap_um": p.gap_um, "void_area_fraction": fraction,
            "standoff_um": p.bodies.standoff, "diameter_mid_um": mid, "dx_um": p.dx_um, "dy_um": p.dy_um, "web_um": p.web_um,
        }  # fmt: skip
        for name, values in rows.items():
            columns.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in columns.items()}

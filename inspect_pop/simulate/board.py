"""One simulated board: joints with known truth, and the pictures that machines would take of it."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.geometry import Grid, HeightMap, Placement, SliceStack
from inspect_pop.core.recipe import Interface, Package, Recipe
from inspect_pop.simulate.bodies import cap_volume
from inspect_pop.simulate.causes import BoardPlan, draw_varieties, plan_board
from inspect_pop.simulate.gross import CUT, add_gross_defects
from inspect_pop.simulate.height_map import Domes, HeightScene, draw_middle, render_height_map
from inspect_pop.simulate.machines import Machine, vary_machine
from inspect_pop.simulate.population import Population, populate
from inspect_pop.simulate.scene import Scene, build_solder, build_surroundings, place_passives
from inspect_pop.simulate.warpage import WarpedStack, compute_warpage, make_stack
from inspect_pop.simulate.xray import reconstruct, to_grey_values

__all__ = ["SimulatedBoard", "collect_truth", "simulate_board"]

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

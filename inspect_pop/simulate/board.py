"""One simulated board: joints with known truth, and the pictures that machines would take of it."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.geometry import Grid, HeightMap, Placement, SliceStack
from inspect_pop.core.recipe import Interface, Package, Recipe
from inspect_pop.simulate.bodies import cap_volume
from inspect_pop.simulate.causes import Plan, draw_varieties, make_plan
from inspect_pop.simulate.height_map import Domes, View, height_map
from inspect_pop.simulate.machines import Machine, of_the_day
from inspect_pop.simulate.population import Population, populate
from inspect_pop.simulate.scene import Scene, place_passives, sheets_around, solder_of
from inspect_pop.simulate.warpage import Stack, make_stack, warpage_um
from inspect_pop.simulate.xray import reconstruct, recorded

__all__ = ["SimulatedBoard", "simulate_board"]

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
class _Site:
    """Where one board lies under the machine: its offset and turn, the first view's angle, the drift of gain and level."""

    offset_um: Floats
    turn_deg: float
    phase_rad: float
    drift: tuple[float, float]


def simulate_board(
    rng: np.random.Generator, recipe: Recipe, machine: Machine, cause: str = "random", defect_rate: float = 0.08
) -> SimulatedBoard:
    """Simulate one board of a recipe on a machine. The same generator state gives the same board.

    `cause` is one of `causes.CAUSES` or `random`; `defect_rate` is the share of joints that are odd by chance, half of them good
    ones that look odd. Raises UsageFault for an unknown cause.
    """
    package = recipe.packages[0]
    plan = make_plan(rng, package, cause)
    stack = make_stack(rng, package, plan.bow_um, plan.sink_um, plan.bulge)
    domes, populations = _populations(rng, package, plan, stack, defect_rate)
    reach = max(float(np.abs(i.x_um).max()) for i in package.interfaces) + 1100.0
    passives = place_passives(rng, package)
    scene = Scene(solder_of(populations), sheets_around(rng, package, passives, reach))
    turn = float(rng.normal(0, machine.rotation_jitter_deg))
    drift = np.exp(rng.normal(0, machine.drift, 2))
    site = _Site(
        rng.normal(0, machine.lateral_jitter_um, 2), turn, float(rng.uniform(0, 2 * math.pi)), (float(drift[0]), float(drift[1]))
    )
    stacks, placements, errors = _xray(rng, scene, package, of_the_day(rng, machine), site)
    text = (package.part[:8], f"{int(rng.integers(1_000_000)):06d}", f"KR {int(rng.integers(2400, 2700))}")
    heights = _heights(rng, package, View("", stack, domes, passives, text), machine, site, placements)
    truth = _truth(package, populations)
    return SimulatedBoard(recipe, machine, plan.cause, warpage_um(stack.memory), stacks, heights, truth, placements, errors)


def _populations(
    rng: np.random.Generator, package: Package, plan: Plan, stack: Stack, defect_rate: float
) -> tuple[Domes, tuple[Population, ...]]:
    lower, upper = package.interfaces[0], package.interfaces[-1]
    under = stack.bottom.at(lower.x_um, lower.y_um)
    first = _population(
        rng, lower, plan, 0, np.zeros(len(lower.ball)), lower.gap_um + under, np.ones(len(lower.ball)), defect_rate
    )
    if len(package.interfaces) == 1:
        return Domes(np.zeros(0), np.zeros(0), np.zeros(0), 1.0), (first,)
    base = stack.bottom.at(upper.x_um, upper.y_um)
    standoff = upper.gap_um + stack.memory.at(upper.x_um, upper.y_um) - base
    radius = upper.pad_diameter_um / 2
    dome = _DOME * radius * np.maximum(1 + 0.11 * rng.standard_normal(len(upper.ball)), 0.3)
    share = (cap_volume(radius, dome) - cap_volume(radius, _DOME * radius)) / upper.nominal_volume_um3
    second = _population(rng, upper, plan, 1, upper.pads_z_um[0] + base, standoff, 1 + share, defect_rate)
    seen = _seen_domes(rng, second.variety, dome)
    return Domes(upper.x_um, upper.y_um, seen, radius), (first, second)


def _seen_domes(rng: np.random.Generator, variety: NDArray[np.object_], dome: Floats) -> Floats:
    """Domes as the map before stacking shows them: none where no bottom solder was, often a low one under a head in pillow."""
    chance = rng.random(len(dome))
    none = (variety == "missing") | (np.isin(variety.astype(str), ("hanging", "hourglass")) & (chance < 0.3))
    low = np.isin(variety.astype(str), ("dome_on_dome", "two_domes")) & (chance < 0.45)
    return np.where(none, 0.0, np.where(low, dome * rng.uniform(0.4, 0.8, len(dome)), dome))


def _population(
    rng: np.random.Generator,
    interface: Interface,
    plan: Plan,
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


def _xray(
    rng: np.random.Generator, scene: Scene, package: Package, machine: Machine, site: _Site
) -> tuple[tuple[SliceStack, ...], dict[str, Placement], dict[str, float]]:
    stacks, placements, errors = [], {}, {}
    half = max(float(np.abs(i.x_um).max()) for i in package.interfaces) + 880.0
    shared: tuple[Grid, Placement, NDArray[np.generic]] | None = None
    for interface in package.interfaces:
        name = f"{package.refdes}/{interface.name}"
        low, high = interface.pads_z_um
        errors[name] = float(np.clip(rng.normal(0, machine.z_belief_um), -10, 10))
        z = _slice_heights(low, high, machine)
        if shared is None:
            placement, grid = _placement(rng, site), _grid(rng, half, machine.pixel_um, jitter_um=30.0, spare=2)
            slices = reconstruct(rng, scene, grid, placement, tuple(v + errors[name] for v in z), machine, site.phase_rad)
            values = recorded(rng, slices, machine, site.drift)
            shared = (grid, placement, values) if machine.method == "transmission" else None
        else:  # one straight picture shows both interfaces
            grid, placement, values = shared
        placements[name] = placement
        stacks.append(SliceStack(package.refdes, interface.name, values, z, grid, machine.polarity, machine.method))
    return tuple(stacks), placements, errors


def _slice_heights(low: float, high: float, machine: Machine) -> tuple[float, ...]:
    """Heights of the slices: from 5 um above the lower pad to 5 um below the upper one; the middle for a transmission picture."""
    if machine.method == "transmission":
        return ((low + high) / 2,)
    return tuple(float(v) for v in np.round(np.linspace(low + 5, high - 5, machine.slices)))


def _heights(
    rng: np.random.Generator, package: Package, view: View, machine: Machine, site: _Site, placements: dict[str, Placement]
) -> tuple[HeightMap, ...]:
    """Both height maps; their placements are added to `placements`."""
    half = max(0.575 * max(package.body_um), max(package.body_um) / 2 + 690.0)
    maps = []
    for stage in ("pre_stack", "post_reflow"):
        placements[f"{package.refdes}/{stage}"] = placement = _placement(rng, site)
        grid = _grid(rng, half, machine.height_pixel_um, jitter_um=30.0, spare=0)
        maps.append(height_map(rng, package, replace(view, stage=stage), grid, placement, machine))
    return tuple(maps)


def _placement(rng: np.random.Generator, site: _Site) -> Placement:
    dx, dy = np.clip(site.offset_um + rng.normal(0, 15.0, 2), -150, 150)
    return Placement(float(dx), float(dy), float(np.clip(site.turn_deg + rng.normal(0, 0.08), -1, 1)), 0.0)


def _grid(rng: np.random.Generator, half_um: float, pixel_um: float, *, jitter_um: float, spare: int) -> Grid:
    """A field of about twice `half_um` whose origin and size differ a little from picture to picture."""
    shape = tuple(math.ceil(2 * half_um / pixel_um) + int(rng.integers(-spare, spare + 1)) for _ in range(2))
    origin = (
        round(-half_um + float(rng.uniform(-1, 1)) * jitter_um, 1),
        round(half_um + float(rng.uniform(-1, 1)) * jitter_um, 1),
    )
    return Grid((shape[0], shape[1]), pixel_um, origin)


def _truth(package: Package, populations: tuple[Population, ...]) -> dict[str, NDArray[Any]]:
    columns: dict[str, list[NDArray[Any]]] = {}
    for p in populations:
        n = len(p.label)
        mid = p.bodies.radius(p.bodies.standoff[:, None] / 2)[:, 0] * 2
        widest = p.bodies.radius(np.linspace(0.01, 0.99, 33) * p.bodies.standoff[:, None]).max(axis=1)
        area = np.bincount(p.voids.joint, p.voids.radius_um**2, n)
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

"""What each process cause does: warpage, and the pattern of defects that it leaves.

A surface is a paraboloid, a saddle and a twist: `w(x, y) = -bow * (u^2 + v^2) / 2 + saddle * (u^2 - v^2) / 2 + twist * u v` with
u, v in half bodies, so that a positive `bow` is convex (edges down, "frown"). The samples show all three terms, and the memory
bending with the bottom package.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.classes import CAUSES
from inspect_pop.core.errors import UsageFault
from inspect_pop.core.recipe import Interface, Package
from inspect_pop.simulate.bodies import VARIETIES

__all__ = [
    "CAUSES",
    "BoardPlan",
    "DefectPattern",
    "WarpedStack",
    "WarpedSurface",
    "compute_warpage",
    "draw_varieties",
    "make_stack",
    "plan_board",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class WarpedSurface:
    """Deviation from a plane, plus that plane: height + tilt + bending; all in um, `half_um` the half body."""

    half_um: float
    height_um: float
    tilt_x_um: float  # at the edge x = half
    tilt_y_um: float
    bow_um: float
    saddle_um: float
    twist_um: float
    bulge: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 0.0)  # x, y, radius, height of a local blister

    def height_at(self, x_um: Floats, y_um: Floats) -> Floats:
        """Return the height (um) at points of the package frame."""
        u, v = x_um / self.half_um, y_um / self.half_um
        bend = -self.bow_um * (u**2 + v**2) / 2 + self.saddle_um * (u**2 - v**2) / 2 + self.twist_um * u * v
        x, y, radius, height = self.bulge
        blister = height * np.exp(-((x_um - x) ** 2 + (y_um - y) ** 2) / (2 * radius**2))
        return self.height_um + self.tilt_x_um * u + self.tilt_y_um * v + bend + blister

    def without_plane(self) -> "WarpedSurface":
        """Return the same bending, at height 0 and without tilt."""
        return replace(self, height_um=0.0, tilt_x_um=0.0, tilt_y_um=0.0)


@dataclass(frozen=True)
class WarpedStack:
    """The finished stack: where the bottom package and the memory lie, and the lift before reflow.

    `bottom` and `memory` give the rise of all points of the package, or of the memory, above nominal height.
    `lift_um` is how much higher the bottom package stands on unmelted balls, `early_share` the share of its bow that it has by
    then.
    """

    bottom: WarpedSurface
    memory: WarpedSurface
    lift_um: float
    early_share: float


def make_stack(
    rng: np.random.Generator,
    package: Package,
    bow_um: float,
    sink_um: tuple[float, float],
    bulge: tuple[float, float, float, float],
) -> WarpedStack:
    """Make a stack whose bottom package bows by `bow_um` (signed) and whose interfaces stand `sink_um` lower than nominal.

    The joints carry the package: its mean height over the joints is what the sinking says, whatever the bow. A `bulge` is the
    memory's: it shows on the top surface.
    """
    half = package.body_um[0] / 2
    saddle, twist = (float(v) for v in rng.normal(0, 0.22 * abs(bow_um) + 3.0, 2))
    bottom = _rest_on_joints(rng, package, 0, WarpedSurface(half, 0.0, 0.0, 0.0, bow_um, saddle, twist), sink_um[0])
    more = float(rng.uniform(0.9, 1.15))
    top = WarpedSurface(half, 0.0, 0.0, 0.0, bow_um * more, saddle * more, twist * more + float(rng.normal(0, 2)))
    memory = replace(_rest_on_joints(rng, package, 1, top, sink_um[0] + sink_um[1]), bulge=bulge)
    lift = package.interfaces[0].gap_um * float(rng.uniform(0.25, 1 / 3))
    return WarpedStack(bottom, memory, lift, float(rng.uniform(0.4, 0.85)))


def _rest_on_joints(
    rng: np.random.Generator, package: Package, index: int, surface: WarpedSurface, sink_um: float
) -> WarpedSurface:
    """Lower the surface so that its mean over the interface's joints is -`sink_um`, and tilt it a little."""
    interface = package.interfaces[min(index, len(package.interfaces) - 1)]
    mean = float(surface.height_at(interface.x_um, interface.y_um).mean())
    tilt = rng.normal(0, 3.5, 2)
    return replace(surface, height_um=-sink_um - mean, tilt_x_um=float(tilt[0]), tilt_y_um=float(tilt[1]))


def compute_warpage(surface: WarpedSurface) -> float:
    """Return highest minus lowest point over the body (um), the best plane taken off, with the sign of the fitted paraboloid.

    Positive is convex (edges down, "frown").
    """
    line = np.linspace(-surface.half_um, surface.half_um, 41)
    x, y = np.meshgrid(line, line)
    z = surface.without_plane().height_at(x, y)
    terms = np.stack([np.ones(x.size), x.ravel(), y.ravel(), (x**2 + y**2).ravel()], axis=1)
    plane = np.linalg.lstsq(terms[:, :3], z.ravel(), rcond=None)[0]
    curve = np.linalg.lstsq(terms, z.ravel(), rcond=None)[0][3]
    return float(np.ptp(z.ravel() - terms[:, :3] @ plane)) * (1.0 if curve <= 0 else -1.0)


# The pattern of defects that each process cause leaves behind.
#
# A cause does not draw defects: it bends the stack, changes paste volumes, shears pads, or makes balls unable to merge, each
# with a pattern over the package. The varieties of single joints then follow from local stand-off and volume. Sporadic defects
# of every kind, as every sample board has them, come on top.


_CHANCES = {name: variety.chance for name, variety in VARIETIES.items() if variety.chance}


@dataclass(frozen=True)
class DefectPattern:
    """What a cause does to one interface.

    `volume` (n,) factor; `rates` variety -> chance (n,); `shear_um` of the upper pads; `web_angle` the direction in which webs
    run (radians; None: any).
    """

    volume: Floats
    rates: dict[str, Floats] = field(default_factory=dict)
    shear_um: tuple[float, float] = (0.0, 0.0)
    web_angle: float | None = None


@dataclass(frozen=True)
class BoardPlan:
    """One board: its cause, the stack's bow, the interfaces' sinking (um), a local bulge (x, y, radius, height), patterns."""

    cause: str
    bow_um: float
    sink_um: tuple[float, float]
    bulge: tuple[float, float, float, float]
    patterns: tuple[DefectPattern, ...]
    reach: float = 0.16  # stand-off over nominal, as a share of nominal, at which half of the critical joints no longer merge

    def with_pattern(self, index: int, pattern: DefectPattern) -> "BoardPlan":
        """Return the plan with another pattern for one interface; the last one where the package has fewer."""
        patterns = list(self.patterns)
        patterns[min(index, len(patterns) - 1)] = pattern
        return replace(self, patterns=tuple(patterns))


def plan_board(rng: np.random.Generator, package: Package, cause: str) -> BoardPlan:
    """Draw a board's plan; `random` draws the cause as well. Raises `UsageFault` for an unknown cause."""
    if cause == "random":
        cause = str(rng.choice(CAUSES, p=[0.4, *[0.6 / (len(CAUSES) - 1)] * (len(CAUSES) - 1)]))
    if cause not in CAUSES:
        raise UsageFault(f"cause {cause}", expected=f"random or one of {', '.join(CAUSES)}", remedy="Name one of these.")
    bow = float(rng.normal(8.0, 14.0))
    sink = (float(rng.normal(1.0, 3.0)), float(rng.normal(2.5, 4.0)))
    usual = zip(package.interfaces, (0.985, 0.97), strict=False)
    plain = tuple(DefectPattern(np.full(len(i.ball), float(rng.normal(mean, 0.04)))) for i, mean in usual)
    plan = BoardPlan(cause, bow, sink, (0.0, 0.0, 1.0, 0.0), plain)
    return _PLANNERS[cause](rng, package, plan) if cause in _PLANNERS else plan


def draw_varieties(
    rng: np.random.Generator, interface: Interface, pattern: DefectPattern, standoff_um: Floats, reach: float, defect_rate: float
) -> NDArray[np.object_]:
    """Draw the variety (n,) of each joint: plain, or odd by the cause's rates, by too much stand-off, or by chance."""
    n = len(interface.ball)
    variety = np.full(n, "plain", object)
    odd = rng.random(n) < defect_rate
    shares = np.array(list(_CHANCES.values()))
    variety[odd] = rng.choice(np.array(list(_CHANCES), object), int(odd.sum()), p=shares / shares.sum())
    for name, rate in pattern.rates.items():
        variety[(rng.random(n) < rate) & (variety == "plain")] = name
    excess = (standoff_um - interface.gap_um) / interface.gap_um
    unmerged = rng.random(n) < 0.6 / (1 + np.exp(-(excess - reach) / 0.013))
    wide = rng.choice(np.array(["dome_on_dome", "cupped", "hanging", "two_domes"], object), n, p=[0.42, 0.13, 0.25, 0.2])
    return np.where(unmerged & (variety == "plain"), wide, variety)


def plan_warpage(rng: np.random.Generator, package: Package, plan: BoardPlan) -> BoardPlan:
    """Bow the stack by up to 170 um: the widest joints of the lower interface open by 9 to 20 % of their stand-off."""
    lower = package.interfaces[0]
    sign = float(rng.choice([-1, 1], p=[0.4, 0.6]))
    unit = WarpedSurface(package.body_um[0] / 2, 0.0, 0.0, 0.0, sign, 0.0, 0.0).height_at(lower.x_um, lower.y_um)
    widest = float(np.max(unit - unit.mean()))
    bow = min(float(rng.uniform(0.09, 0.20)) * lower.gap_um / widest, float(rng.uniform(110, 170)))
    return replace(plan, bow_um=sign * bow, reach=float(rng.uniform(0.07, 0.10)))


def plan_excess_paste(rng: np.random.Generator, package: Package, plan: BoardPlan) -> BoardPlan:
    """Add 15 to 45 % of volume to the lower interface, which bridges."""
    n = len(package.interfaces[0].ball)
    volume = np.full(n, float(rng.uniform(1.15, 1.45)))
    return plan.with_pattern(0, DefectPattern(volume, {"web": np.full(n, rng.uniform(0.02, 0.07)), "spike": np.full(n, 0.03)}))


def plan_insufficient_paste(rng: np.random.Generator, package: Package, plan: BoardPlan) -> BoardPlan:
    """Take volume from one to three regions of the lower interface, as clogged stencil openings do."""
    interface = package.interfaces[0]
    volume = np.full(len(interface.ball), float(rng.uniform(0.82, 1.0)))
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(interface.ball)))
        reach = float(rng.uniform(1.5, 3.5)) * interface.pitch_um
        near = np.exp(-(((interface.x_um - interface.x_um[at]) ** 2 + (interface.y_um - interface.y_um[at]) ** 2) / reach**2))
        volume *= 1 - float(rng.uniform(0.3, 0.62)) * near
    open_rate = np.clip((0.55 - volume) * 1.2, 0, 0.5)
    return plan.with_pattern(0, DefectPattern(volume, {"hanging": open_rate * 0.7, "missing": open_rate * 0.05}))


def plan_shallow_dip(rng: np.random.Generator, package: Package, plan: BoardPlan) -> BoardPlan:
    """Leave the upper interface with too little dipped paste, by a slope along x: opens and heads in pillow."""
    interface = package.interfaces[-1]
    n = len(interface.ball)
    slope = float(rng.normal(0, 0.06)) * interface.x_um / max(float(np.abs(interface.x_um).max()), 1.0)
    volume = float(rng.uniform(0.66, 0.85)) + slope
    rate = float(rng.uniform(0.02, 0.10))
    rates = {"hanging": np.full(n, rate), "two_domes": np.full(n, rate / 2), "dome_on_dome": np.full(n, rate)}
    return plan.with_pattern(1, DefectPattern(volume, rates))


def plan_placement_offset(rng: np.random.Generator, package: Package, plan: BoardPlan) -> BoardPlan:
    """Shear one interface by 12 to 30 % of its pads along an axis; webs run in that direction."""
    index = int(rng.random() < 0.6)
    interface = package.interfaces[index]
    n, angle = len(interface.ball), float(rng.integers(4)) * np.pi / 2 + float(rng.normal(0, 0.15))
    size = float(rng.uniform(0.12, 0.3)) * interface.pad_diameter_um
    rates = {"web": np.full(n, rng.uniform(0.02, 0.07)), "dome_on_dome": np.full(n, rng.uniform(0.0, 0.03))}
    shear = (size * float(np.cos(angle)), size * float(np.sin(angle)))
    return plan.with_pattern(index, DefectPattern(plan.patterns[index].volume, rates, shear, angle))


def plan_oxidised_balls(rng: np.random.Generator, package: Package, plan: BoardPlan) -> BoardPlan:
    """Keep 4 to 15 % of one interface's balls from merging, anywhere."""
    index = int(rng.random() < 0.5)
    n = len(package.interfaces[index].ball)
    rate = float(rng.uniform(0.04, 0.15))
    rates = {"dome_on_dome": np.full(n, rate * 0.7), "cupped": np.full(n, rate * 0.3)}
    return plan.with_pattern(index, DefectPattern(plan.patterns[index].volume, rates))


def plan_placement_force(rng: np.random.Generator, package: Package, plan: BoardPlan) -> BoardPlan:
    """Press one interface 9 to 17 % of its stand-off too little (opens) or too much (webs)."""
    index = int(rng.random() < 0.5)
    interface = package.interfaces[index]
    n = len(interface.ball)
    too_little = rng.random() < 0.5
    by = (-1 if too_little else 1) * float(rng.uniform(0.09, 0.17)) * interface.gap_um
    rate = float(rng.uniform(0.02, 0.08))
    rates = {"dome_on_dome": np.full(n, rate), "hanging": np.full(n, rate / 2)} if too_little else {"web": np.full(n, rate)}
    sink = (plan.sink_um[0] + by, plan.sink_um[1]) if index == 0 else (plan.sink_um[0], plan.sink_um[1] + by)
    return replace(plan.with_pattern(index, DefectPattern(plan.patterns[index].volume, rates)), sink_um=sink)


def plan_moisture(rng: np.random.Generator, package: Package, plan: BoardPlan) -> BoardPlan:
    """Blister the memory by 30 to 70 um at one place, with defects of both interfaces around it."""
    half = package.body_um[0] / 2
    x, y = rng.uniform(-0.5, 0.5, 2) * half
    radius, height = float(rng.uniform(0.25, 0.45)) * half, float(rng.uniform(30, 70))
    patterns = []
    for pattern, interface in zip(plan.patterns, package.interfaces, strict=True):
        near = np.exp(-((interface.x_um - x) ** 2 + (interface.y_um - y) ** 2) / (2 * (1.3 * radius) ** 2))
        rates = {"web": 0.08 * near, "dome_on_dome": 0.12 * near, "hanging": 0.06 * near}
        patterns.append(DefectPattern(pattern.volume, rates))
    return replace(plan, bulge=(float(x), float(y), radius, height), patterns=tuple(patterns))


_PLANNERS = {
    "warpage": plan_warpage,
    "excess_paste": plan_excess_paste,
    "insufficient_paste": plan_insufficient_paste,
    "shallow_dip": plan_shallow_dip,
    "placement_offset": plan_placement_offset,
    "oxidised_balls": plan_oxidised_balls,
    "placement_force": plan_placement_force,
    "moisture": plan_moisture,
}

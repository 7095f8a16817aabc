"""The pattern of defects that each process cause leaves behind.

A cause does not draw defects: it bends the stack, changes paste volumes, shears pads, or makes balls unable to merge, each with a
pattern over the package. The varieties of single joints then follow from local stand-off and volume. Sporadic defects of every
kind, as every sample board has them, come on top.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.causes import CAUSES
from inspect_pop.core.errors import UsageFault
from inspect_pop.core.recipe import Interface, Package
from inspect_pop.simulate.bodies import VARIETIES
from inspect_pop.simulate.warpage import WarpedSurface

__all__ = ["CAUSES", "BoardPlan", "DefectPattern", "draw_varieties", "plan_board"]

Floats = NDArray[np.float64]

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

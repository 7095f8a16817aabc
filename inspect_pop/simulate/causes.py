"""Process causes and the pattern of defects that each leaves behind.

A cause does not draw defects: it bends the stack, changes paste volumes, shears pads, or makes balls unable to merge, each with a
pattern over the package; the varieties of single joints then follow from local stand-off and volume. Sporadic defects of every
kind, as every sample board has them, come on top.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.errors import UsageFault
from inspect_pop.core.recipe import Interface, Package
from inspect_pop.simulate.warpage import Surface

__all__ = ["CAUSES", "Pattern", "Plan", "draw_varieties", "make_plan"]

Floats = NDArray[np.float64]
CAUSES = (
    "none",
    "warpage",
    "excess_paste",
    "insufficient_paste",
    "shallow_dip",
    "placement_offset",
    "oxidised_balls",
    "placement_force",
    "moisture",
)

# shares of odd joints: plentiful near the thresholds, and good ones that look bad as often as bad ones
_SPORADIC = {
    "low_volume": 0.10,
    "excess": 0.07,
    "big_void": 0.07,
    "spike": 0.10,
    "shoulder": 0.05,
    "pear": 0.06,
    "web": 0.11,
    "hanging": 0.11,
    "standing": 0.025,
    "two_domes": 0.03,
    "missing": 0.02,
    "dome_on_dome": 0.12,
    "cupped": 0.06,
    "hourglass": 0.135,
}


@dataclass(frozen=True)
class Pattern:
    """What a cause does to one interface.

    `volume` (n,) factor; `rates` variety -> chance (n,); `shear_um` of the upper pads; `web_angle` the direction in which webs
    run (radians; None: any).
    """

    volume: Floats
    rates: dict[str, Floats] = field(default_factory=dict)
    shear_um: tuple[float, float] = (0.0, 0.0)
    web_angle: float | None = None


@dataclass(frozen=True)
class Plan:
    """One board: its cause, the stack's bow, the interfaces' sinking (um), a local bulge (x, y, radius, height), patterns."""

    cause: str
    bow_um: float
    sink_um: tuple[float, float]
    bulge: tuple[float, float, float, float]
    patterns: tuple[Pattern, ...]
    reach: float = 0.16  # stand-off over nominal, as a share of nominal, at which half of the critical joints no longer merge


def make_plan(rng: np.random.Generator, package: Package, cause: str) -> Plan:
    """A board's plan; `random` draws the cause. Raises UsageFault for an unknown one."""
    if cause == "random":
        cause = str(rng.choice(CAUSES, p=[0.4, *[0.6 / (len(CAUSES) - 1)] * (len(CAUSES) - 1)]))
    if cause not in CAUSES:
        raise UsageFault(f"cause {cause}", expected=f"random or one of {', '.join(CAUSES)}", remedy="Name one of these.")
    bow = float(rng.normal(8.0, 14.0))
    sink = (float(rng.normal(1.0, 3.0)), float(rng.normal(2.5, 4.0)))
    usual = zip(package.interfaces, (0.985, 0.97), strict=False)
    plain = tuple(Pattern(np.full(len(i.ball), float(rng.normal(mean, 0.04)))) for i, mean in usual)
    plan = Plan(cause, bow, sink, (0.0, 0.0, 1.0, 0.0), plain)
    return _CHANGES[cause](rng, package, plan) if cause in _CHANGES else plan


def draw_varieties(
    rng: np.random.Generator, interface: Interface, pattern: Pattern, standoff_um: Floats, reach: float, defect_rate: float
) -> NDArray[np.object_]:
    """Variety (n,) of each joint: plain, or odd by the cause's rates, by too much stand-off, or by chance."""
    n = len(interface.ball)
    variety = np.full(n, "plain", object)
    odd = rng.random(n) < defect_rate
    shares = np.array(list(_SPORADIC.values()))
    variety[odd] = rng.choice(np.array(list(_SPORADIC), object), int(odd.sum()), p=shares / shares.sum())
    for name, rate in pattern.rates.items():
        variety[(rng.random(n) < rate) & (variety == "plain")] = name
    excess = (standoff_um - interface.gap_um) / interface.gap_um
    apart = rng.random(n) < 0.6 / (1 + np.exp(-(excess - reach) / 0.013))
    wide = rng.choice(np.array(["dome_on_dome", "cupped", "hanging", "two_domes"], object), n, p=[0.42, 0.13, 0.25, 0.2])
    return np.where(apart & (variety == "plain"), wide, variety)


def _warpage(rng: np.random.Generator, package: Package, plan: Plan) -> Plan:
    """A bow that opens the widest joints of the lower interface by 9 to 20 % of their stand-off, up to 170 um of bow."""
    lower = package.interfaces[0]
    sign = float(rng.choice([-1, 1], p=[0.4, 0.6]))
    unit = Surface(package.body_um[0] / 2, 0.0, 0.0, 0.0, sign, 0.0, 0.0).at(lower.x_um, lower.y_um)
    widest = float(np.max(unit - unit.mean()))
    bow = min(float(rng.uniform(0.09, 0.20)) * lower.gap_um / widest, float(rng.uniform(110, 170)))
    return replace(plan, bow_um=sign * bow, reach=float(rng.uniform(0.07, 0.10)))


def _excess_paste(rng: np.random.Generator, package: Package, plan: Plan) -> Plan:
    n = len(package.interfaces[0].ball)
    factor = float(rng.uniform(1.15, 1.45))
    return _with(plan, 0, Pattern(np.full(n, factor), {"web": np.full(n, rng.uniform(0.02, 0.07)), "spike": np.full(n, 0.03)}))


def _insufficient_paste(rng: np.random.Generator, package: Package, plan: Plan) -> Plan:
    interface = package.interfaces[0]
    volume = np.full(len(interface.ball), float(rng.uniform(0.82, 1.0)))
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(interface.ball)))
        reach = float(rng.uniform(1.5, 3.5)) * interface.pitch_um
        near = np.exp(-(((interface.x_um - interface.x_um[at]) ** 2 + (interface.y_um - interface.y_um[at]) ** 2) / reach**2))
        volume *= 1 - float(rng.uniform(0.3, 0.62)) * near
    apart = np.clip((0.55 - volume) * 1.2, 0, 0.5)
    return _with(plan, 0, Pattern(volume, {"hanging": apart * 0.7, "missing": apart * 0.05}))


def _shallow_dip(rng: np.random.Generator, package: Package, plan: Plan) -> Plan:
    interface = package.interfaces[-1]
    n = len(interface.ball)
    slope = float(rng.normal(0, 0.06)) * interface.x_um / max(float(np.abs(interface.x_um).max()), 1.0)
    volume = float(rng.uniform(0.66, 0.85)) + slope
    rate = float(rng.uniform(0.02, 0.10))
    return _with(
        plan,
        1,
        Pattern(volume, {"hanging": np.full(n, rate), "two_domes": np.full(n, rate / 2), "dome_on_dome": np.full(n, rate)}),
    )


def _placement_offset(rng: np.random.Generator, package: Package, plan: Plan) -> Plan:
    which = int(rng.random() < 0.6)
    interface = package.interfaces[which]
    n, angle = len(interface.ball), float(rng.integers(4)) * np.pi / 2 + float(rng.normal(0, 0.15))
    size = float(rng.uniform(0.12, 0.3)) * interface.pad_diameter_um
    rates = {"web": np.full(n, rng.uniform(0.02, 0.07)), "dome_on_dome": np.full(n, rng.uniform(0.0, 0.03))}
    shear = (size * float(np.cos(angle)), size * float(np.sin(angle)))
    return _with(plan, which, Pattern(plan.patterns[which].volume, rates, shear, angle))


def _oxidised_balls(rng: np.random.Generator, package: Package, plan: Plan) -> Plan:
    which = int(rng.random() < 0.5)
    n = len(package.interfaces[which].ball)
    rate = float(rng.uniform(0.04, 0.15))
    return _with(
        plan,
        which,
        Pattern(plan.patterns[which].volume, {"dome_on_dome": np.full(n, rate * 0.7), "cupped": np.full(n, rate * 0.3)}),
    )


def _placement_force(rng: np.random.Generator, package: Package, plan: Plan) -> Plan:
    which = int(rng.random() < 0.5)
    interface = package.interfaces[which]
    n = len(interface.ball)
    low = rng.random() < 0.5
    by = (-1 if low else 1) * float(rng.uniform(0.09, 0.17)) * interface.gap_um
    rate = float(rng.uniform(0.02, 0.08))
    rates = {"dome_on_dome": np.full(n, rate), "hanging": np.full(n, rate / 2)} if low else {"web": np.full(n, rate)}
    sink = (plan.sink_um[0] + by, plan.sink_um[1]) if which == 0 else (plan.sink_um[0], plan.sink_um[1] + by)
    return replace(_with(plan, which, Pattern(plan.patterns[which].volume, rates)), sink_um=sink)


def _moisture(rng: np.random.Generator, package: Package, plan: Plan) -> Plan:
    half = package.body_um[0] / 2
    x, y = rng.uniform(-0.5, 0.5, 2) * half
    radius, height = float(rng.uniform(0.25, 0.45)) * half, float(rng.uniform(30, 70))
    patterns = []
    for pattern, interface in zip(plan.patterns, package.interfaces, strict=True):
        near = np.exp(-((interface.x_um - x) ** 2 + (interface.y_um - y) ** 2) / (2 * (1.3 * radius) ** 2))
        patterns.append(Pattern(pattern.volume, {"web": 0.08 * near, "dome_on_dome": 0.12 * near, "hanging": 0.06 * near}))
    return replace(plan, bulge=(float(x), float(y), radius, height), patterns=tuple(patterns))


def _with(plan: Plan, which: int, pattern: Pattern) -> Plan:
    patterns = list(plan.patterns)
    patterns[min(which, len(patterns) - 1)] = pattern
    return replace(plan, patterns=tuple(patterns))


_CHANGES = {
    "warpage": _warpage,
    "excess_paste": _excess_paste,
    "insufficient_paste": _insufficient_paste,
    "shallow_dip": _shallow_dip,
    "placement_offset": _placement_offset,
    "oxidised_balls": _oxidised_balls,
    "placement_force": _placement_force,
    "moisture": _moisture,
}

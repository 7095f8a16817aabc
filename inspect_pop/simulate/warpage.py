"""How package and memory bend, and where that puts every pad.

A surface is a paraboloid, a saddle and a twist: `w(x, y) = -bow * (u^2 + v^2) / 2 + saddle * (u^2 - v^2) / 2 + twist * u v` with
u, v in half bodies, so that a positive `bow` is convex (edges down, "frown"). The samples show all three terms, and the memory
bending with the bottom package.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.recipe import Package

__all__ = ["WarpedStack", "WarpedSurface", "compute_warpage", "make_stack"]

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

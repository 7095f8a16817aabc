"""Per joint from X-ray slices: place, diameters, shape, grey, voids, clearance, volume. No loop over joints."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.align.slices import robust_rigid
from inspect_pop.core.geometry import Placement
from inspect_pop.core.recipe import Interface
from inspect_pop.segment.outlines import ANGLES, Outlines, find_outlines
from inspect_pop.segment.voids import void_fraction
from inspect_pop.segment.webs import find_webs
from inspect_pop.segment.windows import Windows

__all__ = ["XrayMeasures", "measure_slices", "volume_ratio"]

Array = NDArray[np.float32]
# How each method sees a diameter: the variance of its blur along the beam (um^2), and the scale of what remains.
# Laminography averages over heights about a slice, so a belly looks slimmer and a neck wider by half that variance times
# the diameter's second derivative; its hardened beam makes balls look wider all over. In transmission the rim is thin, and
# half grey lies inside it. Fitted on simulated boards of five machines; what is left is a bias of up to 4 um a machine.
AXIAL_VARIANCE_UM2 = {"laminography": 1000.0}
SCALE = {"laminography": 0.966, "transmission": 1.036}
# A polygon of ANGLES sides has this roundness when its corners lie on a circle.
_POLYGON = (np.pi / ANGLES) / np.tan(np.pi / ANGLES)


@dataclass(frozen=True)
class XrayMeasures:
    """Measurements of n joints in s slices; NaN where there is no solder or nothing to compare with.

    `dx_um`, `dy_um` (n,) from the design's place, the fitted offset and rotation taken out; `fit` is that small remainder
    of the placement. `shear_um` (n, 2): (x, y) of the middle in the highest slice minus that in the lowest. `diameter_um`
    (n, s) of the equal-area circle, 0 in a slice without solder. `low`, `mid`, `high` are the slices that the columns are
    taken from; `low` and `high` are -1 in a single picture.
    """

    dx_um: Array
    dy_um: Array
    shear_um: Array
    fit: Placement
    diameter_um: Array
    low: int
    mid: int
    high: int
    waist: Array
    roundness: Array
    grey: Array
    void_fraction: Array
    clearance_um: Array
    present: NDArray[np.bool_]


def measure_slices(windows: Windows, interface: Interface, method: str) -> XrayMeasures:
    """All measurements that need only the windows of one interface; `method` as the export names it."""
    outlines = find_outlines(windows)
    solder: NDArray[np.bool_] = np.any(outlines.present, axis=1)
    mid = int(np.argmin(np.abs(windows.z_um - np.mean(interface.pads_z_um))))
    single = len(windows.z_um) == 1
    diameter = _diameters(outlines, windows, AXIAL_VARIANCE_UM2.get(method, 0.0), SCALE.get(method, 1.0))
    dx, dy, fit = _places(outlines, windows, interface, solder)
    return XrayMeasures(
        dx_um=dx,
        dy_um=dy,
        shear_um=_shear(outlines, windows.step_um),
        fit=fit,
        diameter_um=diameter,
        low=-1 if single else 0,
        mid=mid,
        high=-1 if single else len(windows.z_um) - 1,
        waist=_waist(diameter, solder),
        roundness=_roundness(outlines.radius[:, mid]),
        grey=np.where(solder, outlines.core[:, mid], np.nan).astype(np.float32),
        void_fraction=void_fraction(outlines),
        clearance_um=_clearance(windows, interface),
        present=outlines.present,
    )


def volume_ratio(
    diameter_um: Array, z_um: NDArray[np.float64], interface: Interface, standoff_um: NDArray[np.float32] | None = None
) -> Array:
    """Solder volume of each joint over the interface's nominal, (n,); 0 where no slice shows solder.

    Areas of the slices integrated over the gap (trapezia; the outermost slices reach to the pads), stretched to the local
    stand-off where it is known. With fewer than three slices: a barrel through both pads with the widest diameter seen,
    V = pi h (a^2 + 4/3 a s + 8/15 s^2) for a parabolic arc of sagitta s.
    """
    gap = np.full(len(diameter_um), interface.gap_um)
    if standoff_um is not None:
        gap = np.where(np.isfinite(standoff_um), standoff_um, gap)
    if len(z_um) < 3:
        a = interface.pad_diameter_um / 2
        sagitta = diameter_um.max(axis=1) / 2 - a
        mean_area = np.pi * (a * a + 4 / 3 * a * sagitta + 8 / 15 * sagitta**2) * (diameter_um.max(axis=1) > 0)
    else:
        area = np.pi / 4 * np.square(diameter_um.astype(np.float64))
        low, high = interface.pads_z_um
        place = np.clip((z_um - low) / (high - low), 0, 1)
        place, area = np.r_[0.0, place, 1.0], np.column_stack([area[:, :1], area, area[:, -1:]])
        mean_area = np.trapezoid(area, place, axis=1)
    ratio: Array = (mean_area * gap / interface.nominal_volume_um3).astype(np.float32)
    return ratio


def _diameters(outlines: Outlines, windows: Windows, axial_variance_um2: float, scale: float) -> Array:
    """Equal-area diameters (n, s) in um, the axial blur taken off by each joint's own curvature from slice to slice."""
    diameter: Array = 2 * np.sqrt(np.mean(np.square(outlines.radius), axis=2)) * np.float32(windows.step_um)
    if axial_variance_um2 and len(windows.z_um) >= 3:
        z = windows.z_um - windows.z_um.mean()
        parabola = np.linalg.pinv(np.column_stack([np.ones_like(z), z, z * z]))[2]
        whole = outlines.present.all(axis=1)
        curvature = np.where(whole, 2 * (diameter @ parabola), 0.0)
        diameter = np.where(diameter > 0, np.maximum(diameter - axial_variance_um2 / 2 * curvature[:, None], 0), 0)
    return (scale * diameter).astype(np.float32)


def _places(
    outlines: Outlines, windows: Windows, interface: Interface, solder: NDArray[np.bool_]
) -> tuple[Array, Array, Placement]:
    """Each joint's place against the design: the slices' circles, averaged with more trust in slices that agree.

    Ghosts of the other interface pull the circles of the slices nearest to it; how far a slice's circles lie from the
    median of all, over all joints, is its variance.
    """
    middle = np.where(outlines.present[:, :, None], outlines.circle[:, :, 1:] * windows.step_um, np.nan)
    place = np.full((len(middle), 2), np.nan)
    if solder.any():
        consensus = np.nanmedian(middle[solder], axis=1, keepdims=True)
        error = np.clip(np.abs(middle[solder] - consensus), 0, 15.0)
        weight = 1 / (1 + np.nan_to_num(np.nanmean(np.square(error), axis=(0, 2)), nan=225.0))
        weight = weight[None, :, None] * np.isfinite(middle[solder])
        place[solder] = (np.nan_to_num(middle[solder]) * weight).sum(axis=1) / weight.sum(axis=1)
        place[solder] += outlines.centre[solder] * windows.step_um
    design = np.column_stack([interface.x_um, interface.y_um])
    if solder.sum() < 3:
        return place[:, 0].astype(np.float32), place[:, 1].astype(np.float32), Placement(0.0, 0.0, 0.0, float("nan"))
    fit, _ = robust_rigid(design[solder], (design + place)[solder])
    x, y = fit.undo(design[:, 0] + place[:, 0], design[:, 1] + place[:, 1])
    return (x - design[:, 0]).astype(np.float32), (y - design[:, 1]).astype(np.float32), fit


def _shear(outlines: Outlines, step_um: float) -> Array:
    """How far the highest slice's circle lies from the lowest's, (n, 2) um; NaN without solder in both, or with one slice."""
    whole = outlines.present[:, [0, -1]].all(axis=1) & (outlines.present.shape[1] > 1)
    shear: Array = (outlines.circle[:, -1, 1:] - outlines.circle[:, 0, 1:]) * np.float32(step_um)
    return np.where(whole[:, None], shear, np.nan).astype(np.float32)


def _waist(diameter: Array, solder: NDArray[np.bool_]) -> Array:
    """Narrowest of the inner slices over widest of all; 0 where an inner slice holds no solder; NaN with under three slices."""
    if diameter.shape[1] < 3:
        return np.full(len(diameter), np.nan, dtype=np.float32)
    waist = diameter[:, 1:-1].min(axis=1) / np.maximum(diameter.max(axis=1), 1e-6)
    return np.where(solder, waist, np.nan).astype(np.float32)


def _roundness(radius: Array) -> Array:
    """4 pi area / perimeter^2 of the outline (n, ANGLES), 1 for a circle; NaN without one."""
    angle = np.arange(ANGLES) * 2 * np.pi / ANGLES
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    next_x, next_y = np.roll(x, -1, axis=1), np.roll(y, -1, axis=1)
    area = np.abs((x * next_y - next_x * y).sum(axis=1)) / 2
    perimeter = np.hypot(next_x - x, next_y - y).sum(axis=1)
    roundness = 4 * np.pi * area / np.maximum(perimeter, 1e-6) ** 2 / _POLYGON
    return np.where(area > 0, np.minimum(roundness, 1.0), np.nan).astype(np.float32)


def _clearance(windows: Windows, interface: Interface) -> Array:
    """Narrowest solder-free space to any neighbour in any slice, (n,) um; NaN for a joint that has none."""
    webs = find_webs(windows, interface)
    clearance = np.full(len(interface.ball), np.inf, dtype=np.float32)
    narrowest = webs.free_um.min(axis=1)
    for side in (0, 1):
        np.minimum.at(clearance, webs.pairs[:, side], narrowest)
    return np.where(np.isfinite(clearance), clearance, np.nan).astype(np.float32)

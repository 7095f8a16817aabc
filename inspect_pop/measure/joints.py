"""Measure every joint from its segmented X-ray slices: place, diameters, shape, grey, voids, clearance, volume.

`measure_joints` gives the measured columns of the joint table. No loop runs over joints.

`is_turned` tells whether X-ray pictures lie the other way round than the height map, by the joints themselves, where no
mark tells. A symmetric array looks alike when it is turned by 180 degrees, and X-ray shows no pin-1 mark. But the solder
of a high dome is still there after reflow: over a package's upper joints, the dome's height before stacking and the
joint's volume go together (rank z of 2 to 6 on most of 78 simulated boards of eight kinds of machine, two independent
simulators). Where they do not, and each joint's dome goes with the volume of the joint opposite instead, the pictures
are turned.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from inspect_pop.core.flags import bit
from inspect_pop.core.geometry import FloatArray, Placement, SliceStack
from inspect_pop.core.recipe import Interface
from inspect_pop.core.robust import MAD_TO_SIGMA, fit_rigid, mad_sigma, root_biweight, row_median
from inspect_pop.segment.joints import SegmentedJoints
from inspect_pop.segment.outlines import ANGLES, RADII
from inspect_pop.segment.windows import SIZE

__all__ = [
    "DISAGREEMENT",
    "NEIGHBOURS",
    "PICTURE_FIGURES",
    "SliceMeasures",
    "compare_with_neighbours",
    "correlate_domes",
    "estimate_gap_um",
    "estimate_volume_ratio",
    "find_narrowest",
    "find_neighbours",
    "is_turned",
    "measure_joints",
    "measure_picture",
    "measure_slices",
    "measure_trained_clearance",
    "reconcile_standoff",
    "remove_trend",
    "robust_z",
]

NEIGHBOURS = 12
LEAST_NEIGHBOURS = 4
PARABOLOID_FROM = 24  # joints; with fewer, only a plane is taken out


def robust_z(
    values: NDArray[np.float32], interface: Interface, floor: float, pad_class: NDArray[np.intp] | None = None
) -> NDArray[np.float32]:
    """Return the distance of each joint's value from its neighbours' median, in robust standard deviations, (n,).

    Parameters
    ----------
    values
        (n,) one measurement of each joint; NaN where it failed.
    floor
        Smallest standard deviation taken for real, in the unit of `values`: the measurement's own repeatability.
    pad_class
        (n,) joints of different pads are not compared; None: all are alike.

    Returns
    -------
    z
        (n,) float32; NaN where the value is NaN or the class has too few joints.

    Notes
    -----
    sigma is 1.4826 times the median absolute deviation of the neighbours, pooled with that of all joints of the class:
    twelve values alone give a sigma that is off by a third.
    """
    deviation, spread = compare_with_neighbours(values, interface, pad_class)
    return (deviation / np.maximum(spread, floor)).astype(np.float32)


def compare_with_neighbours(
    values: NDArray[np.float32], interface: Interface, pad_class: NDArray[np.intp] | None = None
) -> tuple[FloatArray, FloatArray]:
    """Return (deviation from the neighbours' median, robust sigma), each (n,), in the unit of `values`; NaN where unknown."""
    deviation, spread = np.full(len(values), np.nan), np.full(len(values), np.nan)
    classes = np.zeros(len(values), dtype=np.intp) if pad_class is None else pad_class
    for one in np.unique(classes):
        rows = np.flatnonzero((classes == one) & np.isfinite(values))
        if len(rows) > LEAST_NEIGHBOURS:
            flat = remove_trend(values[rows].astype(np.float64), interface.x_um[rows], interface.y_um[rows])
            around = flat[find_neighbours(interface, rows.tobytes())]
            median = row_median(around)
            deviation[rows] = flat - median
            local = row_median(np.abs(around - median[:, None]))
            everyone = np.median(np.abs(flat - median))
            spread[rows] = MAD_TO_SIGMA * (local + everyone) / 2
    return deviation, spread


def remove_trend(values: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Subtract the robust plane or paraboloid over the package, warpage and tilt, from values (n,) at places in um."""
    x, y = (x - x.mean()) / max(np.ptp(x), 1.0), (y - y.mean()) / max(np.ptp(y), 1.0)
    terms = [np.ones_like(x), x, y]
    if len(values) >= PARABOLOID_FROM:
        terms += [x * x, x * y, y * y]
    basis = np.column_stack(terms)
    weight = np.ones(len(values))
    error = values - np.median(values)
    for _ in range(4):
        weighted = basis * weight[:, None]
        # Joints in one row have no slope across: hence least squares rather than a solution.
        solution = np.linalg.lstsq(weighted.T @ basis, weighted.T @ values, rcond=None)[0]
        error = values - basis @ solution
        weight = np.maximum(root_biweight(error / (4.685 * max(mad_sigma(error), 1e-9))), 1e-6)
    return error


@lru_cache(maxsize=32)
def find_neighbours(interface: Interface, rows: bytes | None = None) -> NDArray[np.intp]:
    """Find each joint's nearest neighbours, (n, k): `NEIGHBOURS` of them, or all others where there are fewer.

    `rows` restricts the search to some joints: the bytes of n row numbers (intp), so that results can be cached. The
    result then counts places in that list. An interface must have two joints or more.
    """
    points = np.column_stack([interface.x_um, interface.y_um])
    if rows is not None:
        points = points[np.frombuffer(rows, dtype=np.intp)]
    nearest: NDArray[np.intp] = cKDTree(points).query(points, k=min(NEIGHBOURS + 1, len(points)))[1][:, 1:]
    return nearest


Array = NDArray[np.float32]
Columns = dict[str, NDArray[Any]]
# Of the figures of a picture: so many joints tell a machine; the fringe lies so many samples outside of a ball's edge.
PICTURE_JOINTS, _FRINGE = 24, 2.5
PICTURE_FIGURES = (
    "sharpness",
    "noise",
    "grain",
    "ball_profile",
    "fringe",
    "core_spread",
    "background_spread",
    "contrast",
    "levels",
)
LARGE_OFFSET = 0.25  # of the pitch: half of the way to where a joint would be nearer to its neighbour's pad than to its own
DIAMETER_FLOOR_UM = 2.0  # repeatability of a diameter: smaller spreads among neighbours are chance
_IN_VIEW = 0.5  # share of a window inside the image from which on it is a picture of the joint
# How each method sees a diameter: the variance of its blur along the beam (um^2), and the scale of what remains.
# Laminography averages over heights about a slice, so a belly looks slimmer and a neck wider by half that variance times
# the diameter's second derivative; its hardened beam makes balls look wider all over. In transmission the rim is thin, and
# half grey lies inside it. Fitted on simulated boards of five machines; what is left is a bias of up to 4 um per machine.
AXIAL_VARIANCE_UM2 = {"laminography": 1000.0}
SCALE = {"laminography": 0.966, "transmission": 1.036}
# A polygon of ANGLES sides has this roundness when its corners lie on a circle.
_POLYGON = (np.pi / ANGLES) / np.tan(np.pi / ANGLES)

# Turned pictures are believed from this z on: by chance 6 in 1,000 boards whose heights and volumes say nothing reach it,
# and those whose do cannot. None of the 78 did; turned, 72 % of them did.
_TURNED_FROM, _ABOVE_STRAIGHT = 2.5, 1.5
_DOME_FLOOR_UM, _VOLUME_FLOOR = 0.5, 0.01  # smaller spreads among neighbours are chance
_LEAST_JOINTS = 12
_LARGEST_Z = 4.0  # a defect must not speak for the whole package
_PARTNER = 0.25  # of the pitch: a joint opposite lies at most this far from the place turned


@dataclass(frozen=True)
class SliceMeasures:
    """Measurements of n joints in s slices; NaN where there is no solder or nothing to compare with.

    `dx_um`, `dy_um` (n,) from the design's place, the fitted offset and rotation taken out; `fit` is that small remainder
    of the placement. `shear_um` (n, 2): (x, y) of the middle in the highest slice minus that in the lowest. `diameter_um`
    (n, s) of the equal-area circle, 0 in a slice without solder. `low`, `mid`, `high` are the slices that the columns are
    taken from; `low` and `high` are -1 in a single picture. `clearance_um` (n,) is the narrowest solder-free space to any
    neighbour in any slice, as a slice beside it confirms. `present` (n, s) bool: solder in that slice.
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
    clearance_um: Array
    present: NDArray[np.bool_]


def measure_joints(segmented: SegmentedJoints, standoff_um: NDArray[np.float32] | None = None) -> Columns:
    """Measure all joints of one interface.

    Parameters
    ----------
    segmented
        From `inspect_pop.segment.joints.segment_joints`.
    standoff_um
        (n,) local distance between the pads, for the volume; NaN or None where unknown: nominal.

    Returns
    -------
    dict
        The columns that `inspect_pop.core.columns` calls measured, each (n,) float32, NaN where a joint is out of view or
        has nothing to measure; `standoff_um`, where it was given: that of the height maps unless the slices prove it wrong;
        and `flags`, (n,) int64, with the bits `no_ball`, `large_offset` and `standoff_doubtful`.
    """
    windows, interface = segmented.windows, segmented.interface
    slices = measure_slices(segmented)
    solder = slices.present.any(axis=1)
    values: Columns = {
        "x_um": interface.x_um + slices.dx_um,
        "y_um": interface.y_um + slices.dy_um,
        "dx_um": slices.dx_um,
        "dy_um": slices.dy_um,
        "shear_x_um": slices.shear_um[:, 0],
        "shear_y_um": slices.shear_um[:, 1],
        "waist": slices.waist,
        "roundness": slices.roundness,
        "grey": slices.grey,
        "volume_ratio": estimate_volume_ratio(slices.diameter_um, windows.z_um, interface, standoff_um),
        "void_fraction": segmented.void_fraction,
        "clearance_um": slices.clearance_um,
    }
    for name, k in (("diameter_um", slices.mid), ("diameter_low_um", slices.low), ("diameter_high_um", slices.high)):
        values[name] = np.where(solder & (k >= 0), slices.diameter_um[:, k], np.nan)  # -1: there is no such slice
    in_view = windows.covered >= _IN_VIEW
    columns: Columns = {name: np.where(in_view, column, np.nan).astype(np.float32) for name, column in values.items()}
    for name, column in (("z_low", "diameter_low_um"), ("z_mid", "diameter_um"), ("z_high", "diameter_high_um")):
        columns[name] = robust_z(columns[column], interface, DIAMETER_FLOOR_UM)
    with np.errstate(invalid="ignore"):
        away = np.hypot(slices.dx_um, slices.dy_um) > LARGE_OFFSET * interface.pitch_um
    columns["flags"] = (in_view & ~solder) * np.int64(bit("no_ball")) + (in_view & away) * np.int64(bit("large_offset"))
    return _check_standoff(columns, slices, windows.z_um, interface, standoff_um)


def _check_standoff(
    columns: Columns,
    slices: SliceMeasures,
    z_um: NDArray[np.float64],
    interface: Interface,
    standoff_um: NDArray[np.float32] | None,
) -> Columns:
    """Add the stand-off that agrees with the slices, and the flag where the height maps' does not; volumes follow it."""
    if standoff_um is None:
        return columns
    gap_um, doubtful = reconcile_standoff(standoff_um, slices.diameter_um, z_um, interface, columns["volume_ratio"])
    columns["standoff_um"] = gap_um
    if doubtful:
        columns["flags"] = columns["flags"] | np.int64(bit("standoff_doubtful"))
        known = np.isfinite(gap_um) & (standoff_um > 0)
        columns["volume_ratio"] = (columns["volume_ratio"] * np.where(known, gap_um / standoff_um, 1)).astype(np.float32)
    return columns


def measure_slices(segmented: SegmentedJoints) -> SliceMeasures:
    """Measure what needs only the segmented slices of one interface."""
    windows, interface, outlines = segmented.windows, segmented.interface, segmented.outlines
    solder: NDArray[np.bool_] = np.any(outlines.present, axis=1)
    mid = int(np.argmin(np.abs(windows.z_um - np.mean(interface.pads_z_um))))
    single = len(windows.z_um) == 1
    # Equal-area diameters, the axial blur removed by each joint's own curvature from slice to slice.
    diameter: Array = 2 * np.sqrt(np.mean(np.square(outlines.radius), axis=2)) * np.float32(windows.step_um)
    axial_variance_um2 = AXIAL_VARIANCE_UM2.get(segmented.method, 0.0)
    if axial_variance_um2 and len(windows.z_um) >= 3:
        z = windows.z_um - windows.z_um.mean()
        parabola = np.linalg.pinv(np.column_stack([np.ones_like(z), z, z * z]))[2]
        curvature = np.where(outlines.present.all(axis=1), 2 * (diameter @ parabola), 0.0)
        diameter = np.where(diameter > 0, np.maximum(diameter - axial_variance_um2 / 2 * curvature[:, None], 0), 0)
    diameter = (SCALE.get(segmented.method, 1.0) * diameter).astype(np.float32)
    dx, dy, fit = _find_places(segmented, solder)
    # How far the highest slice's circle lies from the lowest's.
    both = outlines.present[:, [0, -1]].all(axis=1) & (outlines.present.shape[1] > 1)
    shear = (outlines.circle[:, -1, 1:] - outlines.circle[:, 0, 1:]) * np.float32(windows.step_um)
    # Narrowest of the inner slices over widest of all; 0 where an inner slice holds no solder.
    waist = np.full(len(diameter), np.nan)
    if diameter.shape[1] >= 3:
        narrowest = diameter[:, 1:-1].min(axis=1) / np.maximum(diameter.max(axis=1), 1e-6)
        waist = np.where(solder, narrowest, np.nan)
    # 4 pi area / perimeter^2 of the outline in the middle slice.
    angle = np.arange(ANGLES) * 2 * np.pi / ANGLES
    x, y = outlines.radius[:, mid] * np.cos(angle), outlines.radius[:, mid] * np.sin(angle)
    next_x, next_y = np.roll(x, -1, axis=1), np.roll(y, -1, axis=1)
    area = np.abs((x * next_y - next_x * y).sum(axis=1)) / 2
    perimeter = np.hypot(next_x - x, next_y - y).sum(axis=1)
    roundness = 4 * np.pi * area / np.maximum(perimeter, 1e-6) ** 2 / _POLYGON
    return SliceMeasures(
        dx_um=dx,
        dy_um=dy,
        shear_um=np.where(both[:, None], shear, np.nan).astype(np.float32),
        fit=fit,
        diameter_um=diameter,
        low=-1 if single else 0,
        mid=mid,
        high=-1 if single else len(windows.z_um) - 1,
        waist=waist.astype(np.float32),
        roundness=np.where(area > 0, np.minimum(roundness, 1.0), np.nan).astype(np.float32),
        grey=np.where(solder, outlines.core[:, mid], np.nan).astype(np.float32),
        clearance_um=find_narrowest(segmented.webs.pairs, segmented.webs.clear_um, len(interface.ball)),
        present=outlines.present,
    )


def measure_picture(segmented: SegmentedJoints, stack: SliceStack) -> dict[str, float]:
    """Measure what the picture of an interface is like, whatever its joints are: a few figures that tell machines apart.

    Most are on the windows' scale, on which the typical ball is 1 and its surroundings are 0, from up to `PICTURE_JOINTS` joints
    in the slice nearest to mid height. NaN where nothing can be measured.

    Returns
    -------
    dict
        `sharpness`: steepest fall of the grey at a ball's edge, per sample. `noise`: robust sigma of what neighbouring samples
        do not share (Immerkaer's operator, Computer Vision and Image Understanding 64, 1996). `grain`: that over the same of
        samples averaged two by two. `ball_profile`: grey at 0.4 of a ball's radius over that at 0.8. `fringe`: grey just
        outside of a ball's edge. `core_spread`, `background_spread`: robust sigma over all joints of both greys. `contrast`:
        difference of solder's and the surroundings' grey over their sum, in the machine's own scale, whatever the exposure.
        `levels`: distinct grey values among 4,096 pixels.
    """
    windows, outlines = segmented.windows, segmented.outlines
    mid = int(np.argmin(np.abs(windows.z_um - np.mean(segmented.interface.pads_z_um))))
    some = slice(None, None, max(1, len(windows.values) // PICTURE_JOINTS))
    solder = outlines.present[some, mid]
    unknown = dict.fromkeys(PICTURE_FIGURES, float("nan"))
    if np.count_nonzero(solder) < LEAST_NEIGHBOURS:
        return unknown
    pictures = windows.values[some, mid][solder]
    fine, coarse = (
        _estimate_noise(p) for p in (pictures, pictures.reshape(len(pictures), SIZE // 2, 2, -1, 2).mean(axis=(2, 4)))
    )
    rings = np.einsum("nra->nr", outlines.polar[some, mid][solder]) / ANGLES
    radius = outlines.circle[some, mid, 0][solder]
    fall = (outlines.polar[some, mid][solder][:, :-1] - outlines.polar[some, mid][solder][:, 1:]).max(axis=1)
    inner, outer, beyond = (
        float(np.median([np.interp(at, RADII, ring) for at, ring in zip(place, rings, strict=True)]))
        for place in (0.4 * radius, 0.8 * radius, radius + _FRINGE)
    )
    core, background = outlines.core[:, mid], outlines.background[:, mid]
    solder_grey, background_grey = float(windows.solder[mid]), float(windows.background[mid])
    page = stack.values[[k for k in range(len(stack.z_um)) if k not in stack.lost][mid]]
    return {
        "sharpness": float(np.median(fall)),
        "noise": fine,
        "grain": fine / max(coarse, 1e-6),
        "ball_profile": inner / max(outer, 1e-6),
        "fringe": beyond,
        "core_spread": mad_sigma(core - np.median(core)),
        "background_spread": mad_sigma(background - np.median(background)),
        "contrast": abs(solder_grey - background_grey) / max(abs(solder_grey) + abs(background_grey), 1e-6),
        "levels": float(len(np.unique(page.ravel()[:: max(1, page.size // 4096)]))),
    }


def _estimate_noise(pictures: Array) -> float:
    """Return the robust sigma of white noise in pictures (n, rows, cols): edges are few and do not count."""
    rows = pictures[:, :-2] - 2 * pictures[:, 1:-1] + pictures[:, 2:]
    both = rows[:, :, :-2] - 2 * rows[:, :, 1:-1] + rows[:, :, 2:]
    return mad_sigma(both) / 6


def measure_trained_clearance(segmented: SegmentedJoints) -> Array:
    """Return the clearance (n,) that the classifier's layout names: in any slice, whatever the slices beside it show."""
    webs = segmented.webs
    return find_narrowest(webs.pairs, webs.free_um.min(axis=1), len(segmented.interface.ball))


def find_narrowest(pairs: NDArray[np.intp], space_um: Array, n: int) -> Array:
    """Return the narrowest space of each of n joints to a neighbour, (n,); NaN for a joint that has none.

    `space_um` (p,) belongs to the `pairs` (p, 2) of joints.
    """
    narrowest = np.full(n, np.inf, dtype=np.float32)
    for side in (0, 1):
        np.minimum.at(narrowest, pairs[:, side], space_um)
    return np.where(np.isfinite(narrowest), narrowest, np.nan).astype(np.float32)


def estimate_volume_ratio(
    diameter_um: Array, z_um: NDArray[np.float64], interface: Interface, standoff_um: NDArray[np.float32] | None = None
) -> Array:
    """Estimate the solder volume of each joint over the interface's nominal, (n,) float32; 0 where no slice shows solder.

    Areas of the slices integrated over the gap (trapezia; the outermost slices reach to the pads), stretched to the local
    stand-off where it is known. With fewer than three slices: a barrel through both pads with the widest diameter seen,
    V = pi h (a^2 + 4/3 a s + 8/15 s^2) for a parabolic arc of sagitta s.

    Parameters
    ----------
    diameter_um
        (n, s) of the equal-area circle, 0 without solder.
    z_um
        (s,) heights of the slices.
    interface
        The joints as designed.
    standoff_um
        (n,) local distance between the pads; NaN or None where unknown: nominal.
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


def _find_places(segmented: SegmentedJoints, solder: NDArray[np.bool_]) -> tuple[Array, Array, Placement]:
    """Find each joint's place against the design: the slices' circles, averaged with more trust in slices that agree.

    Ghosts of the other interface pull the circles of the slices nearest to it; how far a slice's circles lie from the
    median of all, over all joints, is its variance.
    """
    outlines, interface, step_um = segmented.outlines, segmented.interface, segmented.windows.step_um
    middle = np.where(outlines.present[:, :, None], outlines.circle[:, :, 1:] * step_um, np.nan)
    place = np.full((len(middle), 2), np.nan)
    if solder.any():
        consensus = np.nanmedian(middle[solder], axis=1, keepdims=True)
        error = np.clip(np.abs(middle[solder] - consensus), 0, 15.0)
        weight = 1 / (1 + np.nan_to_num(np.nanmean(np.square(error), axis=(0, 2)), nan=225.0))
        weight = weight[None, :, None] * np.isfinite(middle[solder])
        place[solder] = (np.nan_to_num(middle[solder]) * weight).sum(axis=1) / weight.sum(axis=1)
        place[solder] += outlines.centre[solder] * step_um
    design = np.column_stack([interface.x_um, interface.y_um])
    if solder.sum() < 3:
        return place[:, 0].astype(np.float32), place[:, 1].astype(np.float32), Placement(0.0, 0.0, 0.0, float("nan"))
    fit, _ = fit_rigid(design[solder], (design + place)[solder])
    x, y = fit.undo(design[:, 0] + place[:, 0], design[:, 1] + place[:, 1])
    return (x - design[:, 0]).astype(np.float32), (y - design[:, 1]).astype(np.float32), fit


def is_turned(columns: Mapping[str, NDArray[Any]], interface: Interface) -> bool:
    """Tell whether the upper interface's pictures are turned by 180 degrees against the height map before stacking.

    `columns` as measured, with `dome_um` and `volume_ratio`, each (n,); NaN where unknown. False where nothing tells.
    """
    # The joint that lies where each would come to lie, turned by 180 degrees; -1 where there is none.
    points = np.column_stack([interface.x_um, interface.y_um])
    away, partner = cKDTree(points).query(-points)
    partner = np.where(away < _PARTNER * interface.pitch_um, partner, -1)
    straight = correlate_domes(columns, interface, np.arange(len(partner)))
    turned = correlate_domes(columns, interface, partner)
    return turned > _TURNED_FROM and turned - straight > _ABOVE_STRAIGHT


def correlate_domes(columns: Mapping[str, NDArray[Any]], interface: Interface, partner: NDArray[np.intp]) -> float:
    """Return how strongly each joint's dome goes with its partner's volume: Fisher's z in standard deviations; 0 for too few.

    Both are taken against the neighbours, so that warpage and a board's paste say nothing. `partner` (n,) is -1 where there is
    none.
    """
    dome, volume = (
        np.clip(robust_z(columns[name], interface, floor), -_LARGEST_Z, _LARGEST_Z)
        for name, floor in (("dome_um", _DOME_FLOOR_UM), ("volume_ratio", _VOLUME_FLOOR))
    )
    known = (partner >= 0) & np.isfinite(dome) & np.isfinite(volume[partner])
    n = int(known.sum())
    a, b = dome[known], volume[partner][known]
    if n < _LEAST_JOINTS or not a.std() or not b.std():
        return 0.0
    r = float(np.clip(np.corrcoef(a, b)[0, 1], -0.999, 0.999))
    return float(np.arctanh(r) * np.sqrt(n - 3))


# The stand-off as the slices show it
#
# Where a joint begins and ends shows in its diameters: the square of the radius, a parabola over the height (a truncated
# sphere has exactly that), falls to the pads' at either end. One joint says it roughly, the median of an interface to a
# twentieth of the gap: enough to contradict a height map that took a cap for a bend, not to replace a right one.

LEAST_SLICES = 4  # one more than a parabola's terms
LEAST_JOINTS = 12
LEAST_BELLY = 0.2  # of a truncated sphere's curvature, which is 1: a flatter profile does not show where it ends
# Of the nominal gap, between map and slices: on boards of four lines with right maps they are at most 0.09 apart (sd 0.05).
DISAGREEMENT = 0.2
SOUND_VOLUME = 0.2  # a typical joint's volume is so near to nominal: an interface 20 % off has excess or starved joints


def estimate_gap_um(diameter_um: NDArray[np.float32], z_um: NDArray[np.float64], interface: Interface) -> float:
    """Estimate the typical stand-off of an interface from the joints' diameters (n, s) at heights (s,); NaN where unknown."""
    whole = (diameter_um > 0).all(axis=1)
    if len(z_um) < LEAST_SLICES or whole.sum() < LEAST_JOINTS:
        return float("nan")
    square = np.median(np.square(diameter_um[whole].astype(np.float64) / 2), axis=0)
    curve, slope, level = np.polyfit(z_um - np.mean(interface.pads_z_um), square, 2)
    room = slope * slope - 4 * curve * (level - (interface.pad_diameter_um / 2) ** 2)
    if -curve < LEAST_BELLY or room <= 0:
        return float("nan")
    return float(np.sqrt(room) / -curve)


def reconcile_standoff(
    gap_um: NDArray[np.float32],
    diameter_um: NDArray[np.float32],
    z_um: NDArray[np.float64],
    interface: Interface,
    volume_ratio: NDArray[np.float32],
) -> tuple[NDArray[np.float32], bool]:
    """Return the stand-off to use, (n,) um, and whether map and slices disagree about it by more than `DISAGREEMENT`.

    `gap_um` (n,) is that of the height maps, `volume_ratio` (n,) what follows from it. Where the two disagree and the map's
    stand-off makes typical volumes unsound, but the slices' does not, the map's is moved to the slices'; else it stays.
    """
    known = np.isfinite(gap_um)
    from_slices, from_map = (
        estimate_gap_um(diameter_um, z_um, interface),
        float(np.median(gap_um[known])) if known.any() else np.nan,
    )
    if not abs(from_slices - from_map) > DISAGREEMENT * interface.gap_um:
        return gap_um, False
    volume = float(np.nanmedian(volume_ratio))
    moved = volume * from_slices / from_map
    if abs(volume - 1) <= SOUND_VOLUME or abs(moved - 1) > SOUND_VOLUME:
        return gap_um, True
    return (gap_um + np.float32(from_slices - from_map)).astype(np.float32), True

"""The measured columns of one interface's joints, as `joints.COLUMNS` names them.

Whether X-ray pictures lie the other way round than the height map: by the joints themselves, where no mark tells.

A symmetric array looks alike when it is turned by 180 degrees, and X-ray shows no pin-1 mark. But the solder of a high dome is
still there after reflow: over a package's upper joints, the dome's height before stacking and the joint's volume go together
(rank z of 2 to 6 on most of 78 simulated boards of eight kinds of machine, two independent simulators). Where they do not, and
each joint's dome goes with the volume of the joint opposite instead, the X-ray pictures are turned.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from inspect_pop.core.flags import bit
from inspect_pop.core.recipe import Interface
from inspect_pop.measure.neighbours import robust_z
from inspect_pop.measure.xray import XrayMeasures, measure_slices, volume_ratio
from inspect_pop.segment.windows import Windows

__all__ = ["MEASURED", "agreement", "is_turned", "measure_joints"]

# ---- measure/joints
Columns = dict[str, NDArray[Any]]
MEASURED = (
    "x_um",
    "y_um",
    "dx_um",
    "dy_um",
    "shear_x_um",
    "shear_y_um",
    "diameter_um",
    "diameter_low_um",
    "diameter_high_um",
    "waist",
    "roundness",
    "grey",
    "volume_ratio",
    "void_fraction",
    "clearance_um",
    "z_low",
    "z_mid",
    "z_high",
)
FAR_OFF = 0.25  # of the pitch: half of the way to where a joint would be nearer to its neighbour's pad than to its own
DIAMETER_FLOOR_UM = 2.0  # repeatability of a diameter: smaller spreads among neighbours are chance
_IN_VIEW = 0.5  # share of a window inside the image from which on it is a picture of the joint


def measure_joints(
    windows: Windows, interface: Interface, *, method: str, standoff_um: NDArray[np.float32] | None = None
) -> Columns:
    """Measure all joints of one interface.

    Parameters
    ----------
    windows
        From `cut_slices`, in the order of `interface`.
    method
        `laminography`, `ct` or `transmission`, as the machine says.
    standoff_um
        (n,) local distance between the pads, for the volume; NaN or None where unknown: nominal.

    Returns
    -------
    dict
        The columns of `MEASURED`, each (n,) float32, NaN where a joint is out of view or has nothing to measure; and
        `flags`, (n,) int64, with the bits `no_ball` and `far_off`.
    """
    xray = measure_slices(windows, interface, method)
    in_view = windows.covered >= _IN_VIEW
    values: Columns = {
        "x_um": interface.x_um + xray.dx_um,
        "y_um": interface.y_um + xray.dy_um,
        "dx_um": xray.dx_um,
        "dy_um": xray.dy_um,
        "shear_x_um": xray.shear_um[:, 0],
        "shear_y_um": xray.shear_um[:, 1],
        "diameter_um": _diameter(xray, xray.mid),
        "diameter_low_um": _diameter(xray, xray.low),
        "diameter_high_um": _diameter(xray, xray.high),
        "waist": xray.waist,
        "roundness": xray.roundness,
        "grey": xray.grey,
        "volume_ratio": volume_ratio(xray.diameter_um, windows.z_um, interface, standoff_um),
        "void_fraction": xray.void_fraction,
        "clearance_um": xray.clearance_um,
    }
    columns: Columns = {name: np.where(in_view, column, np.nan).astype(np.float32) for name, column in values.items()}
    for name, column in (("z_low", "diameter_low_um"), ("z_mid", "diameter_um"), ("z_high", "diameter_high_um")):
        columns[name] = robust_z(columns[column], interface, DIAMETER_FLOOR_UM)
    columns["flags"] = _flags(xray, in_view, interface.pitch_um)
    return columns


def _diameter(xray: XrayMeasures, k: int) -> NDArray[np.float32]:
    """Diameters in slice `k`; NaN where there is no such slice, or no solder in any."""
    if k < 0:
        return np.full(len(xray.diameter_um), np.nan, dtype=np.float32)
    return np.where(xray.present.any(axis=1), xray.diameter_um[:, k], np.nan).astype(np.float32)


def _flags(xray: XrayMeasures, in_view: NDArray[np.bool_], pitch_um: float) -> NDArray[np.int64]:
    no_ball = in_view & ~xray.present.any(axis=1)
    with np.errstate(invalid="ignore"):
        far_off = in_view & (np.hypot(xray.dx_um, xray.dy_um) > FAR_OFF * pitch_um)
    flags: NDArray[np.int64] = no_ball.astype(np.int64) * bit("no_ball") + far_off.astype(np.int64) * bit("far_off")
    return flags


# ---- measure/turned
# Turned pictures are believed from here on: by chance 6 in 1,000 boards whose heights and volumes tell nothing reach it, and
# those whose do tell it cannot. None of the 78 did; turned, 72 % of them did.
_TURNED_FROM, _ABOVE_STRAIGHT = 2.5, 1.5
_DOME_FLOOR_UM, _VOLUME_FLOOR = 0.5, 0.01  # smaller spreads among neighbours are chance
_LEAST_JOINTS = 12
_MOST_Z = 4.0  # a defect must not speak for the whole package
_PARTNER = 0.25  # of the pitch: a joint opposite lies at most this far from the place turned


def is_turned(columns: Mapping[str, NDArray[Any]], interface: Interface) -> bool:
    """Whether the upper interface's pictures are turned by 180 degrees against the height map before stacking.

    `columns` as measured, with `dome_um` and `volume_ratio`, each (n,); NaN where unknown. False where nothing tells.
    """
    partner = _opposite(interface)
    straight = agreement(columns, interface, np.arange(len(partner)))
    turned = agreement(columns, interface, partner)
    return turned > _TURNED_FROM and turned - straight > _ABOVE_STRAIGHT


def agreement(columns: Mapping[str, NDArray[Any]], interface: Interface, partner: NDArray[np.intp]) -> float:
    """Fisher's z, in standard deviations, of the correlation of each joint's dome with its partner's volume; 0 for too few.

    Both are taken against the neighbours, so that warpage and a board's paste say nothing. `partner` (n,) is -1 where there is
    none.
    """
    dome, volume = (
        np.clip(robust_z(columns[name], interface, floor), -_MOST_Z, _MOST_Z)
        for name, floor in (("dome_um", _DOME_FLOOR_UM), ("volume_ratio", _VOLUME_FLOOR))
    )
    known = (partner >= 0) & np.isfinite(dome) & np.isfinite(volume[partner])
    n = int(known.sum())
    a, b = dome[known], volume[partner][known]
    if n < _LEAST_JOINTS or not a.std() or not b.std():
        return 0.0
    r = float(np.clip(np.corrcoef(a, b)[0, 1], -0.999, 0.999))
    return float(np.arctanh(r) * np.sqrt(n - 3))


def _opposite(interface: Interface) -> NDArray[np.intp]:
    """(n,) the joint that lies where each would come to lie, turned by 180 degrees; -1 where there is none."""
    points = np.column_stack([interface.x_um, interface.y_um])
    away, partner = cKDTree(points).query(-points)
    return np.where(away < _PARTNER * interface.pitch_um, partner, -1)

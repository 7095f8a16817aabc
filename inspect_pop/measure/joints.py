"""The measured columns of one interface's joints, as `joints.COLUMNS` names them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.flags import bit
from inspect_pop.measure.neighbours import robust_z
from inspect_pop.measure.xray import XrayMeasures, measure_slices, volume_ratio
from inspect_pop.recipe import Interface
from inspect_pop.segment.windows import Windows

__all__ = ["MEASURED", "measure_joints"]

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

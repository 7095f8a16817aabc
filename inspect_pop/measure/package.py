"""All measurements of one package: columns for every joint that should exist, and values of the package itself."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inspect_pop.flags import bit
from inspect_pop.geometry import Placement
from inspect_pop.limits import Limits
from inspect_pop.measure.height import Top, measure_domes, measure_top, standoff_um
from inspect_pop.measure.neighbours import against_neighbours, robust_z
from inspect_pop.measure.values import HeightView, Measured, SliceView
from inspect_pop.measure.xray import XrayMeasures, measure_slices, volume_ratio
from inspect_pop.recipe import Interface, Package

__all__ = ["MEASURED", "measure_package"]

Columns = dict[str, NDArray[Any]]
MEASURED = (
    "x_um",
    "y_um",
    "dx_um",
    "dy_um",
    "diameter_um",
    "diameter_low_um",
    "diameter_high_um",
    "waist",
    "roundness",
    "grey",
    "volume_ratio",
    "void_fraction",
    "standoff_um",
    "clearance_um",
    "dome_um",
    "z_low",
    "z_mid",
    "z_high",
)
FAR_OFF = 0.25  # of the pitch: half of the way to where a joint would be nearer to its neighbour's pad than to its own
DIAMETER_FLOOR_UM = 2.0  # repeatability of a diameter: smaller spreads among neighbours are chance


def measure_package(
    package: Package, slices: Mapping[str, SliceView], heights: Mapping[str, HeightView], limits: Limits
) -> Measured:
    """Measure one package.

    Parameters
    ----------
    package
        What was built.
    slices
        By interface name, for those that have slices.
    heights
        By stage (`pre_stack`, `post_reflow`), for those that have a map.
    limits
        `void_fraction` and `excess_volume` set flags.
    """
    top, before = (_top(heights.get(stage), package) for stage in ("post_reflow", "pre_stack"))
    fits: dict[str, Placement] = {}
    columns: dict[str, Columns] = {}
    for interface in package.interfaces:
        standoff = standoff_um(interface, package, top, before)
        values = _blank(interface) | {"standoff_um": standoff, "dome_um": _domes(heights.get("pre_stack"), interface, before)}
        flags = np.zeros(len(interface.ball), dtype=np.int64)
        if interface.name in slices:
            view = slices[interface.name]
            xray = measure_slices(view.windows, interface, view.stack.method)
            values |= _from_xray(xray, view, interface, standoff)
            flags |= _xray_flags(xray, values, view, interface, limits)
            fits[interface.name] = _composed(view.placement, xray.fit)
        else:
            flags |= bit("no_slices")
        columns[interface.name] = values | {"flags": flags | _height_flags(standoff, interface, heights)}
    where = _whereabouts(fits, heights)
    return Measured(
        columns=columns,
        offset_x_um=where.offset_x_um,
        offset_y_um=where.offset_y_um,
        rotation_deg=where.rotation_deg,
        warpage_um=top.warpage_um if top else float("nan"),
        stack_height_um=top.height_um if top else float("nan"),
        tilt_deg=float(np.hypot(top.tilt_x_deg, top.tilt_y_deg)) if top else float("nan"),
        bulge_um=top.bulge_um if top else float("nan"),
        top=top,
        bottom_top=before,
    )


def _top(view: HeightView | None, package: Package) -> Top | None:
    return None if view is None else measure_top(view.heights, view.placement, package)


def _blank(interface: Interface) -> Columns:
    return {name: np.full(len(interface.ball), np.nan, dtype=np.float32) for name in MEASURED}


def _domes(view: HeightView | None, interface: Interface, before: Top | None) -> NDArray[np.float32]:
    """Each upper joint's dome before stacking against its neighbours' median, (n,); NaN unseen."""
    if view is None or interface.name != "upper":
        return np.full(len(interface.ball), np.nan, dtype=np.float32)
    height = measure_domes(view.heights, interface, view.placement, before)
    return against_neighbours(height, interface)[0].astype(np.float32)


def _from_xray(xray: XrayMeasures, view: SliceView, interface: Interface, standoff: NDArray[np.float32]) -> Columns:
    """The columns that slices give; NaN for joints whose place lies outside the image."""
    low, mid, high = (_column(xray, k) for k in (xray.low, xray.mid, xray.high))
    values: Columns = {
        "x_um": interface.x_um + xray.dx_um,
        "y_um": interface.y_um + xray.dy_um,
        "dx_um": xray.dx_um,
        "dy_um": xray.dy_um,
        "diameter_um": mid,
        "diameter_low_um": low,
        "diameter_high_um": high,
        "waist": xray.waist,
        "roundness": xray.roundness,
        "grey": xray.grey,
        "volume_ratio": volume_ratio(xray.diameter_um, view.windows.z_um, interface, standoff),
        "void_fraction": xray.void_fraction,
        "clearance_um": xray.clearance_um,
    }
    inside = _on_image(view, interface)
    seen: Columns = {name: np.where(inside, column, np.nan).astype(np.float32) for name, column in values.items()}
    for name, column in (("z_low", "diameter_low_um"), ("z_mid", "diameter_um"), ("z_high", "diameter_high_um")):
        seen[name] = robust_z(seen[column].astype(np.float32), interface, DIAMETER_FLOOR_UM)
    return seen


def _column(xray: XrayMeasures, k: int) -> NDArray[np.float32]:
    """Diameters in slice `k`; NaN where there is no such slice or no solder in any."""
    if k < 0:
        return np.full(len(xray.diameter_um), np.nan, dtype=np.float32)
    return np.where(xray.present.any(axis=1), xray.diameter_um[:, k], np.nan).astype(np.float32)


def _on_image(view: SliceView, interface: Interface) -> NDArray[np.bool_]:
    row, col = view.stack.grid.to_pixel(*view.placement.apply(interface.x_um, interface.y_um))
    rows, cols = view.stack.grid.shape
    inside: NDArray[np.bool_] = (row >= 0) & (row <= rows - 1) & (col >= 0) & (col <= cols - 1)
    return inside


def _xray_flags(xray: XrayMeasures, values: Columns, view: SliceView, interface: Interface, limits: Limits) -> NDArray[np.int64]:
    inside = _on_image(view, interface)
    distance = np.hypot(values["dx_um"].astype(np.float64), values["dy_um"].astype(np.float64))
    with np.errstate(invalid="ignore"):
        raised = {
            "off_image": ~inside,
            "at_edge": inside & (view.windows.covered < 0.999),
            "lost_slice": np.full(len(inside), bool(view.stack.lost)),
            "no_ball": inside & ~xray.present.any(axis=1),
            "far_off": distance > FAR_OFF * interface.pitch_um,
            "excess_volume": values["volume_ratio"] > limits.excess_volume,
            "saturated": view.windows.saturated,
            "transmission": np.full(len(inside), view.stack.method == "transmission"),
            "void_over_limit": values["void_fraction"] > limits.void_fraction,
            "unsure_alignment": np.full(len(inside), not view.placement.confident),
        }
    flags = np.zeros(len(inside), dtype=np.int64)
    for name, where in raised.items():
        flags |= np.where(where, bit(name), 0)
    return flags


def _height_flags(standoff: NDArray[np.float32], interface: Interface, heights: Mapping[str, HeightView]) -> NDArray[np.int64]:
    flags = np.where(np.isfinite(standoff), 0, bit("no_height")).astype(np.int64)
    if interface.name == "upper" and "pre_stack" not in heights:
        flags |= bit("no_pre_stack")
    return flags


def _composed(placement: Placement, fit: Placement) -> Placement:
    """The placement with the remainder that the joints' own places gave, first fit, then placement."""
    x, y = placement.apply(np.array([fit.offset_x_um]), np.array([fit.offset_y_um]))
    return Placement(float(x[0]), float(y[0]), placement.rotation_deg + fit.rotation_deg, fit.residual_um, placement.confident)


def _whereabouts(fits: Mapping[str, Placement], heights: Mapping[str, HeightView]) -> Placement:
    """Where the package sits: by the lower interface, else the upper one, else the finished stack's map."""
    for name in ("lower", "upper"):
        if name in fits:
            return fits[name]
    if "post_reflow" in heights:
        return heights["post_reflow"].placement
    return Placement(float("nan"), float("nan"), float("nan"), float("nan"), confident=False)

"""Where an interface's slices really cut its joints: a machine's heights are up to 10 um off, and a stack may stand higher.

A ball between two pads is widest half way between them. Over all joints of an interface, the height of the widest place
is known to a few um: what it lies off the middle of the pads is off in the machine's heights, or in where the pads are.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from inspect_pop.recipe import HEIGHT_ERROR_UM, Interface
from inspect_pop.segment.windows import SIZE, Windows, disc

__all__ = ["at_found_heights", "beyond_pads", "found_error_um"]

_LEAST_SLICES = 3  # of a parabola
# So many joints give a median diameter to a um, and so the widest place to half a one.
_ENOUGH = 64
# Balls whose ends are narrower than their belly by less than this share of it have no height at which they are widest.
_LEAST_BELLY = 0.08
# Pads of two sizes move the belly too, and nobody says so: the found height is believed for the greater part, and no
# further than the heights can be off (10 um), and the stack with them.
_BELIEVED = 0.8
_BLIND = 0.25  # contrast of a slice, of that of the median slice: beyond a pad there is hardly any
_MIDDLE = slice(SIZE // 8, SIZE - SIZE // 8)
_BESIDE = disc(SIZE * 3 / 8).reshape(SIZE, SIZE)[_MIDDLE, _MIDDLE]  # up to half way to the neighbours
_SOLDER = 0.5  # half of the typical core's grey


def beyond_pads(windows: Windows, interface: Interface) -> list[int]:
    """The slices, counted as in `windows`, that may lie beyond a pad and show next to nothing of the joints: they lie beyond."""
    contrast = np.abs(windows.solder - windows.background)
    blind = np.flatnonzero(contrast < _BLIND * np.median(contrast))
    return [int(k) for k in blind if interface.may_miss(float(windows.z_um[k]))]


def at_found_heights(windows: Windows, interface: Interface) -> Windows:
    """The same windows, their `z_um` corrected by what `found_error_um` says of them."""
    return replace(windows, z_um=windows.z_um - found_error_um(windows, interface))


def found_error_um(windows: Windows, interface: Interface) -> float:
    """How much higher the slices say that they are than they cut these joints; 0 where it cannot be told.

    The widest place of the parabola through the median diameters of all slices, against the middle of `pads_z_um`. Slices
    said to be higher by some um give as much more: what a machine believes of all its slices alike hardly counts.
    """
    slices = len(windows.z_um)
    if slices < _LEAST_SLICES:
        return 0.0
    diameter = _median_diameters(windows)
    z = windows.z_um - np.mean(interface.pads_z_um)
    curve, slope, _ = np.polyfit(z, diameter, 2)
    if -curve * (interface.gap_um / 2) ** 2 < _LEAST_BELLY * diameter.max() or diameter.min() <= 0:
        return 0.0
    return float(np.clip(_BELIEVED * -slope / (2 * curve), -HEIGHT_ERROR_UM, HEIGHT_ERROR_UM))


def _median_diameters(windows: Windows) -> NDArray[np.float64]:
    """(slices,) um of the equal-area circle, the median over some of the joints; 0 without any that is in all slices."""
    some = windows.values[:: max(1, len(windows.values) // _ENOUGH), :, _MIDDLE, _MIDDLE]
    area = np.count_nonzero((some > _SOLDER) & _BESIDE, axis=(2, 3))
    whole = area[(area > 0).all(axis=1)]
    if len(whole) == 0:
        return np.zeros(len(windows.z_um))
    diameter: NDArray[np.float64] = 2 * np.sqrt(np.median(whole, axis=0) / np.pi) * windows.step_um
    return diameter

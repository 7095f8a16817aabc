"""Check the stand-off of an interface against its X-ray slices.

Where a joint begins and ends shows in its diameters: the square of the radius, a parabola over the height (a truncated
sphere has exactly that), falls to the pads' at either end. One joint says it roughly, the median of an interface to a
twentieth of the gap: enough to contradict a height map that took a cap for a bend, not to replace a right one.
"""

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.recipe import Interface

__all__ = ["DISAGREEMENT", "estimate_gap_um", "reconcile_standoff"]

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

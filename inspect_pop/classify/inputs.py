"""Build what the classifier sees of a joint: slices at fixed heights, how neighbours differ, its dome, measured numbers.

The same function serves training and the line. `classify.model.CONTRACT` names this layout; a model of another one is refused.

Near two thirds of the nominal volume, where 'starved' begins by definition, the measured volume tells joints apart that
pictures of 48 samples do not: on the joints that a network was unsure of, an area under the curve of 0.985 against 0.969
(nine kinds of simulated boards). By itself it is biased by up to 0.05 from machine to machine, and so is the interface's
typical joint, which the network gets too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from inspect_pop.core.recipe import SLICE_HEIGHTS, Interface
from inspect_pop.core.robust import row_median
from inspect_pop.measure.joints import find_neighbours
from inspect_pop.segment.windows import SIZE, Windows

__all__ = [
    "CHANNELS",
    "HEIGHTS",
    "NUMBERS",
    "SCALARS",
    "JointInputs",
    "build_inputs",
    "build_numbers",
    "interpolate_slices",
    "neighbour_mean",
]

HEIGHTS = SLICE_HEIGHTS  # of the virtual slices
CHANNELS = 2 * len(HEIGHTS) + 1
NUMBERS = ("measured", "volume", "volume_typical", "volume_deviation", "waist", "clearance", "z_low", "z_mid", "z_high")
SCALARS = (
    "upper",
    "gap_per_pitch",
    "pad_per_pitch",
    "pixel_per_sample",
    "slices_per_nine",
    "transmission",
    "ct",
    "standoff_deviation",
    "standoff_known",
    "dome_known",
    *NUMBERS,
)
_STARVED_BELOW = 2 / 3  # of the nominal volume: the definition of the class
_VOLUME_SCALE, _WAIST_SCALE, _Z_SCALE = 5.0, 5.0, 0.25
_TYPICAL_WAIST = 0.8
_FREE = 0.25  # of the pitch: with so much room to all neighbours a joint is as far from a bridge as any
_LARGEST = 2.5
# A neighbour's own defect must not become this joint's reference: deviations beyond this (of the ball's contrast, or of
# the volume) are cut.
_CLIP = 0.2
# The typical window is a median; this many joints carry it as well as all of them do.
_TYPICAL_FROM = 64
_TILE = 384  # samples: of some hundred joints they fit into the second-level cache
# Domes are tens of um above or below their neighbours; the network sees tenths of a millimetre.
_DOME_SCALE_UM = 100.0


@dataclass(frozen=True)
class JointInputs:
    """`images` (n, CHANNELS, SIZE, SIZE) float32 and `scalars` (n, len(SCALARS)) float32, one entry per joint."""

    images: NDArray[np.float32]
    scalars: NDArray[np.float32]

    def take(self, rows: NDArray[np.intp]) -> "JointInputs":
        """Copy some of the joints."""
        return JointInputs(self.images[rows], self.scalars[rows])


def build_inputs(
    windows: Windows,
    interface: Interface,
    *,
    pixel_um: float,
    method: str,
    standoff_um: NDArray[np.float32] | None = None,
    dome_windows_um: NDArray[np.float32] | None = None,
    measured: Mapping[str, NDArray[Any]] | None = None,
) -> JointInputs:
    """Build the inputs of all joints of one interface.

    Parameters
    ----------
    windows
        From `cut_slices`, in the order of `interface`.
    interface
        The joints as designed.
    pixel_um, method
        Of the slices, as the machine states them.
    standoff_um
        (n,) local distance between the pads; NaN or None where unknown.
    dome_windows_um
        (n, SIZE, SIZE) heights before stacking from `cut_height`; NaN where unknown, None without a map.
    measured
        Columns of `measure_joints`; None where nothing was measured.
    """
    n, half = len(windows.values), len(HEIGHTS)
    images = np.empty((n, CHANNELS, SIZE, SIZE), dtype=np.float32)
    flat = images.reshape(n, CHANNELS, SIZE * SIZE)
    _interpolate(windows, interface, flat[:, :half])
    _subtract_neighbours(flat[:, :half], interface, flat[:, half : 2 * half])
    images[:, -1] = 0
    if dome_windows_um is not None:  # against the median of all joints' windows; 0 where there is no data
        level = np.nanmedian(dome_windows_um) if np.isfinite(dome_windows_um).any() else 0.0
        dome = (dome_windows_um - np.float32(level)) / np.float32(_DOME_SCALE_UM)
        images[:, -1] = np.clip(np.nan_to_num(dome, nan=0.0, posinf=0.0, neginf=0.0), -3, 3)
    known = np.zeros(n, dtype=bool) if standoff_um is None else np.isfinite(standoff_um)
    deviation = np.zeros(n) if standoff_um is None else np.where(known, standoff_um / interface.gap_um - 1, 0.0)
    scalars = np.zeros((n, len(SCALARS)), dtype=np.float32)
    scalars[:, 0] = interface.name == "upper"
    scalars[:, 1] = interface.gap_um / interface.pitch_um
    scalars[:, 2] = interface.pad_diameter_um / interface.pitch_um
    scalars[:, 3] = pixel_um / windows.step_um
    scalars[:, 4] = len(windows.z_um) / 9
    scalars[:, 5] = method == "transmission"
    scalars[:, 6] = method == "ct"
    scalars[:, 7] = np.clip(deviation, -0.5, 0.5) * 5
    scalars[:, 8] = known
    scalars[:, 9] = dome_windows_um is not None
    scalars[:, 10:] = build_numbers(measured, interface)
    return JointInputs(images, scalars)


def build_numbers(columns: Mapping[str, NDArray[Any]] | None, interface: Interface) -> NDArray[np.float32]:
    """Scale measurements of one interface's joints to a few units: (n, len(NUMBERS)) float32, all 0 for an unmeasured joint.

    `columns` are those of `measure_joints`; None: nothing was measured.
    """
    n = len(interface.ball)
    out = np.zeros((n, len(NUMBERS)), dtype=np.float32)
    if columns is None:
        return out
    volume = np.asarray(columns["volume_ratio"], np.float64)
    known = np.isfinite(volume)
    if not known.any():
        return out
    typical = float(np.median(volume[known]))
    away = np.where(known, volume - typical, 0.0)
    clipped = np.clip(away, -_CLIP, _CLIP)
    out[:, 0] = 1
    out[:, 1] = (volume - _STARVED_BELOW) * _VOLUME_SCALE
    out[:, 2] = (typical - 1) * _VOLUME_SCALE
    out[:, 3] = (away - neighbour_mean(interface) @ clipped if n > 2 else away) * _VOLUME_SCALE
    out[:, 4] = (columns["waist"] - _TYPICAL_WAIST) * _WAIST_SCALE
    out[:, 5] = np.minimum(columns["clearance_um"] / (_FREE * interface.pitch_um), 1) - 1
    for k, name in enumerate(("z_low", "z_mid", "z_high"), start=6):
        out[:, k] = columns[name] * _Z_SCALE
    out = np.clip(np.nan_to_num(out, nan=0.0, posinf=_LARGEST, neginf=-_LARGEST), -_LARGEST, _LARGEST)
    return np.asarray(out * known[:, None], np.float32)


@lru_cache(maxsize=32)
def neighbour_mean(interface: Interface) -> csr_array:
    """Return the (n, n) float32 sparse matrix whose rows take the mean over a joint's nearest neighbours."""
    near = find_neighbours(interface)
    n, k = near.shape
    return csr_array((np.full(n * k, 1 / k, dtype=np.float32), near.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))


def interpolate_slices(windows: Windows, interface: Interface) -> NDArray[np.float32]:
    """Interpolate the windows' slices to `HEIGHTS`: (n, len(HEIGHTS), SIZE, SIZE) float32; the ends repeat the nearest slice."""
    out = np.empty((len(windows.values), len(HEIGHTS), SIZE, SIZE), dtype=np.float32)
    _interpolate(windows, interface, out.reshape(len(out), len(HEIGHTS), SIZE * SIZE))
    return out


def _interpolate(windows: Windows, interface: Interface, out: NDArray[np.float32]) -> None:
    """Fill `out` (n, len(HEIGHTS), SIZE * SIZE) as `interpolate_slices` says: in one pass, without copies in between."""
    low, high = interface.pads_z_um
    wanted = low + np.asarray(HEIGHTS) * (high - low)
    weights = np.stack([np.interp(wanted, windows.z_um, row) for row in np.eye(len(windows.z_um))], axis=1)
    values = windows.values.reshape(*windows.values.shape[:2], SIZE * SIZE)
    for k, row in enumerate(weights):
        first, *second = np.flatnonzero(row > 1e-3)
        if second:
            cv2.addWeighted(values[:, first], row[first], values[:, second[0]], row[second[0]], 0, dst=out[:, k])
        else:
            out[:, k] = values[:, first]


def _subtract_neighbours(slices: NDArray[np.float32], interface: Interface, out: NDArray[np.float32]) -> None:
    """Fill `out` with each slice less what the neighbours look like there, all (n, len(HEIGHTS), SIZE * SIZE).

    That is the interface's typical window plus the neighbours' mean clipped deviation from it. Worked on `_TILE` samples of
    all joints at a time, which stay in the processor's cache.
    """
    neighbours = neighbour_mean(interface) if len(slices) > 2 else None
    # The median over some of the joints; sorting along memory is five times as fast as `np.median`.
    some = slices[:: max(1, len(slices) // _TYPICAL_FROM)]
    typical = row_median(np.ascontiguousarray(np.moveaxis(some, 0, -1)))
    for k in range(slices.shape[1]):
        for start in range(0, slices.shape[2], _TILE):
            tile = slice(start, start + _TILE)
            deviation = slices[:, k, tile] - typical[k, tile]
            if neighbours is None:
                out[:, k, tile] = deviation
            else:
                np.subtract(deviation, neighbours @ np.clip(deviation, -_CLIP, _CLIP), out=out[:, k, tile])

"""What the classifier sees of a joint: its slices on fixed heights, how neighbours differ, its dome, and a few numbers.

The same function serves training and the line. `CONTRACT` names this layout; a model made for another layout is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspect_pop.classify.numbers import NUMBERS, mean_of_neighbours, measured_numbers
from inspect_pop.recipe import Interface
from inspect_pop.segment.windows import SIZE, Windows

__all__ = ["CHANNELS", "CONTRACT", "HEIGHTS", "SCALARS", "JointInputs", "joint_inputs", "virtual_slices"]

CONTRACT = "joint-inputs/2"
# Virtual slices lie at these fractions of the way from the lower to the upper pad: near both pads, at the waist of a
# dome on a dome, and at mid height, as five-slice machines do (field practice: TRI, SMT Magazine, Aug 2014).
HEIGHTS = (0.03, 0.265, 0.5, 0.735, 0.97)
CHANNELS = 2 * len(HEIGHTS) + 1
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
# A neighbour's own defect must not become this joint's reference: deviations beyond this (of the ball's contrast) are cut.
_CLIP = 0.2
# The typical window is a median; this many joints carry it as well as all of them do.
_TYPICAL_FROM = 64
_TILE = 384  # samples: of some hundred joints they fit into the second-level cache
# Domes are tens of um above or below their neighbours; the network sees tenths of a millimetre.
_DOME_SCALE_UM = 100.0


@dataclass(frozen=True)
class JointInputs:
    """`images` (n, CHANNELS, SIZE, SIZE) float32 and `scalars` (n, len(SCALARS)) float32, one entry a joint."""

    images: NDArray[np.float32]
    scalars: NDArray[np.float32]

    def take(self, rows: NDArray[np.intp]) -> "JointInputs":
        """Some of the joints, copied."""
        return JointInputs(self.images[rows], self.scalars[rows])


def joint_inputs(
    windows: Windows,
    interface: Interface,
    *,
    pixel_um: float,
    method: str,
    standoff_um: NDArray[np.float32] | None = None,
    dome_windows_um: NDArray[np.float32] | None = None,
    measured: Mapping[str, NDArray[Any]] | None = None,
) -> JointInputs:
    """Inputs of all joints of one interface.

    Parameters
    ----------
    windows
        From `cut_slices`, in the order of `interface`.
    pixel_um, method
        Of the slices, as the machine says.
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
    _differences(flat[:, :half], interface, flat[:, half : 2 * half])
    images[:, -1] = _dome_channel(dome_windows_um, n)
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
    scalars[:, 10:] = measured_numbers(measured, interface)
    return JointInputs(images, scalars)


def virtual_slices(windows: Windows, interface: Interface) -> NDArray[np.float32]:
    """(n, len(HEIGHTS), SIZE, SIZE) float32: the windows' slices interpolated to `HEIGHTS`; the ends repeat the nearest slice."""
    out = np.empty((len(windows.values), len(HEIGHTS), SIZE, SIZE), dtype=np.float32)
    _interpolate(windows, interface, out.reshape(len(out), len(HEIGHTS), SIZE * SIZE))
    return out


def _interpolate(windows: Windows, interface: Interface, out: NDArray[np.float32]) -> None:
    """Fill `out` (n, len(HEIGHTS), SIZE * SIZE) as `virtual_slices` says: in one pass, without copies in between."""
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


def _differences(slices: NDArray[np.float32], interface: Interface, out: NDArray[np.float32]) -> None:
    """Fill `out` with each slice less what the neighbours look like here, all (n, len(HEIGHTS), SIZE * SIZE).

    That is the interface's typical window plus the neighbours' mean clipped deviation from it. Worked on `_TILE` samples of
    all joints at a time, which stay in the processor's cache.
    """
    neighbours = mean_of_neighbours(interface) if len(slices) > 2 else None
    typical = _typical(slices)
    for k in range(slices.shape[1]):
        for start in range(0, slices.shape[2], _TILE):
            tile = slice(start, start + _TILE)
            deviation = slices[:, k, tile] - typical[k, tile]
            if neighbours is None:
                out[:, k, tile] = deviation
            else:
                np.subtract(deviation, neighbours @ np.clip(deviation, -_CLIP, _CLIP), out=out[:, k, tile])


def _typical(slices: NDArray[np.float32]) -> NDArray[np.float32]:
    """(len(HEIGHTS), SIZE * SIZE) median over some of the joints; sorting along memory is five times as fast as `np.median`."""
    some = slices[:: max(1, len(slices) // _TYPICAL_FROM)]
    ranked = np.sort(np.ascontiguousarray(np.moveaxis(some, 0, -1)), axis=-1)
    middle = len(some) // 2
    return np.asarray((ranked[..., middle] + ranked[..., -middle - 1]) / 2, dtype=np.float32)


def _dome_channel(heights_um: NDArray[np.float32] | None, n: int) -> NDArray[np.float32]:
    """Heights against the median of all joints' windows; 0 where there is no data."""
    if heights_um is None:
        return np.zeros((n, SIZE, SIZE), dtype=np.float32)
    level = np.nanmedian(heights_um) if np.isfinite(heights_um).any() else 0.0
    out: NDArray[np.float32] = np.nan_to_num(
        (heights_um - np.float32(level)) / np.float32(_DOME_SCALE_UM), nan=0.0, posinf=0.0, neginf=0.0
    )
    return np.clip(out, -3, 3)

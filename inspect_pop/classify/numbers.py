"""The measured numbers that the network is told beside its pictures, scaled to a few units.

Near two thirds of the nominal volume, where 'starved' begins by definition, the measured volume tells joints apart that
pictures of 48 samples do not: on the joints that a network was unsure of, an area under the curve of 0.985 against 0.969
(nine kinds of simulated boards). By itself it is biased by up to 0.05 from machine to machine, and so is the interface's
typical joint, which the network is told too.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from inspect_pop.recipe import Interface

__all__ = ["NUMBERS", "mean_of_neighbours", "measured_numbers"]

NUMBERS = ("measured", "volume", "volume_typical", "volume_deviation", "waist", "clearance", "z_low", "z_mid", "z_high")
_NEIGHBOURS = 12
_STARVED_BELOW = 2 / 3  # of the nominal volume: the definition of the class
_VOLUME_SCALE, _WAIST_SCALE, _Z_SCALE = 5.0, 5.0, 0.25
_TYPICAL_WAIST = 0.8
_FREE = 0.25  # of the pitch: with so much room to all neighbours a joint is as far from a bridge as any
_MOST = 2.5
# A neighbour's own defect must not become this joint's reference.
_CLIP = 0.2


def measured_numbers(columns: Mapping[str, NDArray[Any]] | None, interface: Interface) -> NDArray[np.float32]:
    """(n, len(NUMBERS)) float32 of one interface's joints; all 0 for a joint that was not measured.

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
    out[:, 3] = (away - mean_of_neighbours(interface) @ clipped if n > 2 else away) * _VOLUME_SCALE
    out[:, 4] = (columns["waist"] - _TYPICAL_WAIST) * _WAIST_SCALE
    out[:, 5] = np.minimum(columns["clearance_um"] / (_FREE * interface.pitch_um), 1) - 1
    for k, name in enumerate(("z_low", "z_mid", "z_high"), start=6):
        out[:, k] = columns[name] * _Z_SCALE
    out = np.clip(np.nan_to_num(out, nan=0.0, posinf=_MOST, neginf=-_MOST), -_MOST, _MOST)
    return np.asarray(out * known[:, None], np.float32)


@lru_cache(maxsize=32)
def mean_of_neighbours(interface: Interface) -> csr_array:
    """(n, n) float32, sparse: each row takes the mean over a joint's nearest neighbours."""
    points = np.column_stack([interface.x_um, interface.y_um])
    near = cKDTree(points).query(points, k=min(_NEIGHBOURS + 1, len(points)))[1][:, 1:]
    n, k = near.shape
    return csr_array((np.full(n * k, 1 / k, dtype=np.float32), near.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))

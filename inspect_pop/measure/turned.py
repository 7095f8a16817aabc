"""Whether X-ray pictures lie the other way round than the height map: by the joints themselves, where no mark tells.

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

from inspect_pop.measure.neighbours import robust_z
from inspect_pop.recipe import Interface

__all__ = ["agreement", "is_turned"]

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

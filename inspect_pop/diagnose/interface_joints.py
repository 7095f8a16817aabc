"""The joints of one interface as arrays, beside where the design puts them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspect_pop.core.joint_table import JointTable
from inspect_pop.core.recipe import Interface, Package

__all__ = ["Sites", "sites_of"]


@dataclass(frozen=True, eq=False)
class Sites:
    """All joints of one interface, in the recipe's order; every array is (n,).

    `label` is object (None where undecided); `x_um`, `y_um` float64 are the designed places in the package frame;
    `measured` holds the float columns of the joint table by name, NaN where a value or a whole column is missing.
    """

    interface: str
    pitch_um: float
    ball: tuple[str, ...]
    x_um: NDArray[np.float64]
    y_um: NDArray[np.float64]
    label: NDArray[np.object_]
    measured: dict[str, NDArray[np.float64]]

    def marked(self, *labels: str) -> NDArray[np.bool_]:
        """Which joints carry one of these labels, (n,) bool."""
        mask = np.zeros(len(self.ball), bool)
        for label in labels:
            mask |= self.label == label
        return mask

    @property
    def defective(self) -> NDArray[np.bool_]:
        """Which joints carry a label that is not good, (n,) bool."""
        return self.marked("bridged", "open", "starved", "head_in_pillow")

    def names(self, mask: NDArray[np.bool_]) -> tuple[str, ...]:
        """`lower C4` of every joint that the mask holds."""
        return tuple(f"{self.interface} {self.ball[i]}" for i in np.flatnonzero(mask))


_COLUMNS = ("volume_ratio", "standoff_um", "dx_um", "dy_um", "shear_x_um", "shear_y_um")


def sites_of(joints: JointTable, package: Package) -> dict[str, Sites]:
    """Sites by interface name; a joint without a row in the table is an undecided one."""
    own = joints.take(joints["refdes"] == package.refdes)
    rows = {(i, b): k for k, (i, b) in enumerate(zip(own["interface"], own["ball"], strict=True))}
    return {i.name: _one(own, i, np.array([rows.get((i.name, b), -1) for b in i.ball], np.int64)) for i in package.interfaces}


def _one(own: JointTable, interface: Interface, row: NDArray[np.int64]) -> Sites:
    there = row >= 0
    label = np.full(len(row), None, object)
    label[there] = own["label"][row[there]]
    measured = {}
    for name in _COLUMNS:
        values = np.full(len(row), np.nan)
        if name in own:
            values[there] = own[name][row[there]]
        measured[name] = values
    return Sites(interface.name, interface.pitch_um, interface.ball, interface.x_um, interface.y_um, label, measured)

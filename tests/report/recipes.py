"""Recipes that belong to the inspections of `tests.factories`."""

import numpy as np

from inspect_pop.core.inspection import Inspection
from inspect_pop.core.recipe import Interface, Package, Recipe

PITCH_UM = {"lower": 400.0, "upper": 500.0}
PADS_UM = {"lower": (0.0, 170.0), "upper": (520.0, 740.0)}


def recipe_of(inspection: Inspection) -> Recipe:
    """The recipe whose joints are those of the inspection, at the places that the table names as designed."""
    packages = tuple(_package(inspection, p.refdes, p.part, p.construction) for p in inspection.packages)
    board = inspection.board
    return Recipe(board.recipe, board.recipe_revision, board.product, packages, board.recipe_digest)


def _package(inspection: Inspection, refdes: str, part: str, construction: str) -> Package:
    joints = inspection.joints.take(inspection.joints["refdes"] == refdes)
    interfaces = []
    for name in dict.fromkeys(joints["interface"]):
        rows = joints.take(joints["interface"] == name)
        x, y = (np.round(rows[f"{a}_um"] - rows[f"d{a}_um"]).astype(float) for a in "xy")
        interfaces.append(
            Interface(str(name), tuple(rows["ball"]), x, y, PITCH_UM[name], 250.0, 230.0, "nsmd", PADS_UM[name], "SAC305")
        )
    side = 2 * max(float(np.abs(i.x_um).max()) for i in interfaces) + 500
    return Package(refdes, part, construction, (side, side), 1350.0, 80.0, tuple(interfaces))

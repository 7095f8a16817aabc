"""Which process step the pattern of defects points to, with its evidence, and what follows for the board."""

from inspect_pop.causes.bulge import find_bulge
from inspect_pop.causes.disposition import disposition
from inspect_pop.causes.lot import LotDefects, suspect_lot
from inspect_pop.causes.search import suspect
from inspect_pop.causes.values import CAUSES, Bulge, Cause, PackageState

__all__ = ["CAUSES", "Bulge", "Cause", "LotDefects", "PackageState", "disposition", "find_bulge", "suspect", "suspect_lot"]

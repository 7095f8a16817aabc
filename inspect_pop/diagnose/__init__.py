"""Which process step the pattern of defects points to, with its evidence, and what follows for the board."""

from inspect_pop.diagnose.cause import CAUSES, Bulge, Cause, PackageState, disposition
from inspect_pop.diagnose.diagnosis import suspect
from inspect_pop.diagnose.lot import LotDefects, suspect_lot
from inspect_pop.diagnose.rules import find_bulge

__all__ = ["CAUSES", "Bulge", "Cause", "LotDefects", "PackageState", "disposition", "find_bulge", "suspect", "suspect_lot"]

"""Diagnose which process step the pattern of defects points to, with its evidence, and what follows for the board."""

from inspect_pop.core.classes import CAUSES
from inspect_pop.diagnose.diagnosis import Cause, LotDefects, choose_disposition, diagnose, diagnose_lot
from inspect_pop.diagnose.evidence import PackageState
from inspect_pop.measure.height_maps import Bulge, find_bulge

__all__ = [
    "CAUSES",
    "Bulge",
    "Cause",
    "LotDefects",
    "PackageState",
    "choose_disposition",
    "diagnose",
    "diagnose_lot",
    "find_bulge",
]

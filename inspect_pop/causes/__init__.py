"""Which process step the pattern of defects points to, with its evidence, and what follows for the board."""

from inspect_pop.causes.disposition import disposition
from inspect_pop.causes.search import suspect
from inspect_pop.causes.values import CAUSES, Bulge, Cause, PackageState

__all__ = ["CAUSES", "Bulge", "Cause", "PackageState", "disposition", "suspect"]

"""The values that go into a diagnosis and come out of it, and what follows for the board."""

import math
from collections.abc import Collection
from dataclasses import dataclass

from inspect_pop.measure.height_maps import Bulge

__all__ = ["Cause", "PackageState", "choose_disposition"]


@dataclass(frozen=True)
class PackageState:
    """What the height map showed of a package; NaN or None where it was not measured.

    `warpage_um` is signed (positive: convex, edges down).
    """

    warpage_um: float = math.nan
    stack_height_um: float = math.nan
    bulge: Bulge | None = None


@dataclass(frozen=True)
class Cause:
    """The process step that a pattern points to.

    `name` is one of `inspect_pop.core.causes.CAUSES`; `evidence` says why, in words and numbers; `joints` names the joints
    that the evidence rests on as `interface ball`, such as `lower C4`, in the order of the recipe. `strength` is the
    log-likelihood ratio against a board without a cause (natural logarithm): 0 for `none`.
    """

    name: str
    evidence: str
    joints: tuple[str, ...] = ()
    strength: float = 0.0


def choose_disposition(faulty: Collection[str], verdict: str, underfill: bool = False) -> str:
    """Choose what follows for the board: `ship`, `review`, `rework_memory` or `rework_stack`.

    The memory alone comes off where all faults lie in the upper interface and nothing is underfilled; a fault in the lower
    interface takes the whole stack off. A failed board without a faulty joint goes to review.

    Parameters
    ----------
    faulty
        The interfaces with joints that failed, by their class or by an acceptance criterion.
    verdict
        The board's.
    underfill
        Whether the package is underfilled.
    """
    if verdict == "pass":
        return "ship"
    if verdict != "fail" or not faulty:
        return "review"
    return "rework_memory" if set(faulty) == {"upper"} and not underfill else "rework_stack"

"""What goes into the search for a cause and what comes out of it, as plain values.

What follows for the board: ship it, look at it, take the memory off, or take the whole stack off.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

__all__ = ["CAUSES", "Bulge", "Cause", "PackageState", "disposition"]

# ---- causes/values
CAUSES = (
    "none",
    "warpage",
    "excess_paste",
    "insufficient_paste",
    "shallow_dip",
    "placement_offset",
    "oxidised_balls",
    "placement_force",
    "moisture",
)


@dataclass(frozen=True)
class Bulge:
    """A local rise of the package's top: its centre (package frame), height and width at half height, in um."""

    x_um: float
    y_um: float
    height_um: float
    width_um: float


@dataclass(frozen=True)
class PackageState:
    """What the height map told of a package; NaN or None where it was not measured.

    `warpage_um` is signed (positive: convex, edges down).
    """

    warpage_um: float = math.nan
    stack_height_um: float = math.nan
    bulge: Bulge | None = None


@dataclass(frozen=True)
class Cause:
    """The process step that a pattern points to.

    `name` is one of `CAUSES`; `evidence` says why, in words and numbers; `joints` names the joints that the evidence
    rests on as `interface ball`, such as `lower C4`, in the order of the recipe. `strength` is the log-likelihood
    ratio against a board without a cause (natural logarithm): 0 for `none`.
    """

    name: str
    evidence: str
    joints: tuple[str, ...] = ()
    strength: float = 0.0


# ---- causes/disposition
def disposition(labels: Mapping[str, Collection[str | None]], verdict: str, underfill: bool = False) -> str:
    """`ship`, `review`, `rework_memory` or `rework_stack`.

    `labels` gives, by interface, the labels of the joints that *failed* (the good ones may be among them). The memory
    alone comes off where all faults lie in the upper interface and nothing is underfilled; a fault in the lower
    interface takes the whole stack off (FIELD_NOTES, rework). A failed board without a faulty joint is looked at.
    """
    if verdict == "pass":
        return "ship"
    faulty = {name for name, found in labels.items() if any(label not in (None, "good") for label in found)}
    if verdict != "fail" or not faulty:
        return "review"
    return "rework_memory" if faulty == {"upper"} and not underfill else "rework_stack"

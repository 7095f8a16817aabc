"""What follows for the board: ship it, look at it, take the memory off, or take the whole stack off."""

from collections.abc import Collection, Mapping

__all__ = ["disposition"]


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

"""The table of constructions: what each kind of package consists of, and what follows from that.

A package on package has two interfaces, two placements and two components; a plain BGA has one of each. IPC-7912 and
IPC-9261 count joints, placements and components separately as opportunities for a defect.
"""

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = [
    "CONSTRUCTIONS",
    "DISPOSITION_ORDER",
    "DISPOSITION_WORDS",
    "OPPORTUNITIES_PER_INTERFACE",
    "Construction",
    "describe_construction",
    "describe_disposition",
]

# Of one interface besides its joints: each construction has a placement and a component for each of its interfaces.
OPPORTUNITIES_PER_INTERFACE = 2
DISPOSITION_ORDER = ("ship", "review", "rework_memory", "rework_stack")  # by how much of the package comes off
DISPOSITION_WORDS = {
    "ship": "Ship the board",
    "review": "A person decides before the board moves",
    "rework_memory": "Rework: take the memory package off",
    "rework_stack": "Rework: take the whole stack off",
}


@dataclass(frozen=True)
class Construction:
    """One construction.

    `interfaces` and `height_maps` are those that a complete export shows; what is absent of them is `missing`.
    `raised_middle`: a cap or a die of unknown height stands on the surface on which the upper joints land.
    `rework` are the words for `rework_stack`, the disposition that takes everything off.
    """

    name: str
    words: str
    interfaces: tuple[str, ...]
    height_maps: tuple[str, ...]
    placements: int
    components: int
    raised_middle: bool
    rework: str = DISPOSITION_WORDS["rework_stack"]

    @property
    def opportunities(self) -> int:
        """Opportunities for a defect besides the joints."""
        return self.placements + self.components


_BOTH, _MAPS = ("lower", "upper"), ("pre_stack", "post_reflow")
CONSTRUCTIONS = {
    c.name: c
    for c in (
        Construction("standard", "standard PoP, mould cap in the middle", _BOTH, _MAPS, 2, 2, True),
        Construction("tmv", "PoP with through-mould vias", _BOTH, _MAPS, 2, 2, False),
        Construction("exposed_die_tmv", "PoP with through-mould vias and a bare die", _BOTH, _MAPS, 2, 2, True),
        Construction("psfccsp", "PoP on a flip-chip CSP", _BOTH, _MAPS, 2, 2, True),
        Construction("bga", "plain BGA", ("lower",), ("post_reflow",), 1, 1, False, "Rework: remove the package"),
    )
}


def describe_construction(name: str) -> Construction:
    """Return the construction of this name. Raises `KeyError` for a name that is not in the table."""
    return CONSTRUCTIONS[name]


def describe_disposition(disposition: str, constructions: Iterable[str]) -> str:
    """Return the words for a disposition; `constructions` are those of the faulty packages. An unknown one stays as it is."""
    words = DISPOSITION_WORDS.get(disposition, disposition)
    if disposition != "rework_stack":
        return words
    rework = dict.fromkeys(CONSTRUCTIONS[name].rework for name in constructions if name in CONSTRUCTIONS)
    return "; ".join(rework) or words

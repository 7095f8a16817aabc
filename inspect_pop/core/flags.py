"""Every reason why a measurement is doubtful, in one table.

A measurement that fails does not raise and does not vanish: its row stays, the value is NaN or null, and a bit says why.
"""

from dataclasses import dataclass

__all__ = ["FLAGS", "REVIEW_MASK", "Flag", "bit", "meaning", "names"]


@dataclass(frozen=True)
class Flag:
    """One bit: its value, its short name, what it means, and whether it forbids a pass."""

    value: int
    name: str
    meaning: str
    forbids_pass: bool


FLAGS = (
    Flag(1, "no_slices", "no X-ray slices show this interface", True),
    Flag(2, "off_image", "the joint's place lies outside the image", True),
    Flag(4, "at_edge", "the joint's window is cut by the image's edge", True),
    Flag(8, "lost_slice", "a slice that was taken holds nothing, and was left out", False),
    Flag(16, "no_ball", "no solder was found in any slice", False),
    Flag(32, "far_off", "solder was found, but far from where the design puts it", False),
    Flag(64, "excess_volume", "volume above four thirds of nominal", False),
    Flag(128, "no_height", "no height map after reflow: stand-off is unknown", False),
    Flag(256, "no_pre_stack", "no height map before stacking: the dome is unknown", False),
    Flag(512, "wrong_crop", "the picture does not show the joint that it should", True),
    Flag(1024, "unfamiliar", "the joint is unlike anything that the model has learnt from", True),
    Flag(2048, "saturated", "grey values at the end of the scale", True),
    Flag(4096, "transmission", "one picture through both interfaces: shape per slice is unknown", False),
    Flag(8192, "void_over_limit", "void area above the limit of the profile in use", False),
    Flag(16384, "unsure_alignment", "the fit of this image to the recipe is doubtful", True),
    Flag(32768, "lost_too_much", "a slice was lost without which a defect may look good", True),
)

_BY_NAME = {flag.name: flag for flag in FLAGS}
REVIEW_MASK = sum(flag.value for flag in FLAGS if flag.forbids_pass)


def bit(name: str) -> int:
    """Value of the flag with this name; KeyError for a name that is not in the table."""
    return _BY_NAME[name].value


def meaning(name: str) -> str:
    """What the flag with this name means, in words; KeyError for a name that is not in the table."""
    return _BY_NAME[name].meaning


def names(value: int) -> tuple[str, ...]:
    """Names of all flags that are set in `value`, in the table's order."""
    return tuple(flag.name for flag in FLAGS if value & flag.value)

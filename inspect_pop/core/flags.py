"""The table of flags: every reason why a measurement is in doubt.

A measurement that fails does not raise: the joint keeps its row, the value is NaN or null, and a bit says why.
"""

from dataclasses import dataclass

__all__ = ["FLAGS", "REVIEW_MASK", "Flag", "bit", "meaning", "names"]


@dataclass(frozen=True)
class Flag:
    """One bit: its value, its name, its meaning in words, and whether it forbids a pass."""

    value: int
    name: str
    meaning: str
    forbids_pass: bool


FLAGS = (
    Flag(1, "no_slices", "no X-ray slices show this interface", True),
    Flag(2, "off_image", "the joint lies outside the image", True),
    Flag(4, "at_edge", "the joint's window is cut by the image's edge", True),
    Flag(8, "slice_missing", "a slice holds nothing and was left out", False),
    Flag(16, "no_ball", "no solder was found in any slice", False),
    Flag(32, "large_offset", "solder was found, but far from its designed place", False),
    Flag(64, "excess_volume", "volume above four thirds of nominal", False),
    Flag(128, "no_height", "no height map after reflow: stand-off is unknown", False),
    Flag(256, "no_pre_stack", "no height map before stacking: the dome is unknown", False),
    Flag(512, "crop_mismatch", "the picture does not show this joint", True),
    Flag(1024, "unfamiliar", "the joint is unlike anything that the model has learnt from", True),
    Flag(2048, "saturated", "grey values at the end of the scale", True),
    Flag(4096, "transmission", "one picture through both interfaces: shape per slice is unknown", False),
    Flag(8192, "void_over_limit", "void area above the limit of the profile in use", False),
    Flag(16384, "alignment_uncertain", "the alignment of this image to the recipe is uncertain", True),
    Flag(32768, "critical_slice_missing", "too few slices are left to exclude a defect", True),
    Flag(65536, "standoff_unknown", "the height maps do not tell the stand-off", False),
    Flag(131072, "standoff_doubtful", "height maps and X-ray slices disagree about the stand-off", False),
    Flag(262144, "unscanned", "the machine has no data for part of the joint's picture", True),
    Flag(524288, "few_slices", "fewer than three slices: the shape per slice is unknown", True),
    Flag(1048576, "overlapped", "one picture through both interfaces: the other one's solder lies over this joint", False),
)

_BY_NAME = {flag.name: flag for flag in FLAGS}
REVIEW_MASK = sum(flag.value for flag in FLAGS if flag.forbids_pass)


def bit(name: str) -> int:
    """Return the value of the flag with this name. Raises `KeyError` for a name that is not in the table."""
    return _BY_NAME[name].value


def meaning(name: str) -> str:
    """Return the meaning of the flag with this name, in words. Raises `KeyError` for a name that is not in the table."""
    return _BY_NAME[name].meaning


def names(value: int) -> tuple[str, ...]:
    """Return the names of all flags that are set in `value`, in the table's order."""
    return tuple(flag.name for flag in FLAGS if value & flag.value)

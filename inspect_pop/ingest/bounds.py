"""How much of a file is read before it is refused: nothing that arrives decides by itself how much memory it gets.

A board at full size (nine slices of 3,000 x 3,000 pixels, float32) needs 324 MB decoded; these bounds let it pass. File
and decoded pixels together stay under the 1 GB that a worker may ever need for one image.
"""

from dataclasses import dataclass

__all__ = ["BOUNDS", "Bounds"]

_MIB = 1 << 20


@dataclass(frozen=True)
class Bounds:
    """Sizes in bytes, pixels and counts above which an input is refused, before it is parsed or decoded."""

    manifest_bytes: int = 4 * _MIB  # 64 images need 30 KB
    recipe_bytes: int = 4 * _MIB
    table_bytes: int = 16 * _MIB  # 20 bytes a joint
    table_joints: int = 50_000  # the largest arrays in use have 1,200
    labels_bytes: int = 256 * _MIB  # 80 bytes a joint: 4,000 boards of 820
    image_bytes: int = 384 * _MIB
    image_pixels: int = 200_000_000  # all pages together
    decoded_bytes: int = 512 * _MIB  # all pages together
    image_side_px: int = 65_535  # also the limit of OpenCV's remap
    image_least_px: int = 8  # a side: less cannot show one ball
    image_tag_bytes: int = 4 * _MIB  # one TIFF tag: the offsets of 500,000 strips
    export_images: int = 256


BOUNDS = Bounds()

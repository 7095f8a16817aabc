#!/usr/bin/env python
"""Fuzz image files: arbitrary bytes as a stack of three slices and as a height map, with a scale and without."""

from dataclasses import replace

from common import instrument, place, run

with instrument(__name__, "tifffile"):
    from inspect_pop.core.errors import InputFault
    from inspect_pop.ingest.document import HeightEntry, SliceEntry
    from inspect_pop.ingest.files import BOUNDS
    from inspect_pop.ingest.images import read_heights, read_slices

NAME = "tiff"
SMALL = replace(BOUNDS, image_pixels=1_000_000, decoded_bytes=4_000_000)  # small, so that a run tries many inputs
COMMON = {"refdes": "U1", "file": "a.tif", "pixel_um": 12.0, "origin_um": [0.0, 0.0]}
SLICES = SliceEntry.model_validate(
    COMMON | {"kind": "xray_slices", "interface": "lower", "polarity": "solder_dark", "method": "ct", "z_um": [5.0, 85.0, 165.0]}
)
HEIGHTS = HeightEntry.model_validate(COMMON | {"kind": "height_map", "stage": "post_reflow", "scale_um": 1.0, "no_data": 0})
BARE = HeightEntry.model_validate(COMMON | {"kind": "height_map", "stage": "pre_stack", "scale_um": None, "no_data": 65535})


def one(data: bytes) -> None:
    """Read and decode the file in all ways."""
    path = place() / "a.tif"
    path.write_bytes(data)
    for read, entry in ((read_slices, SLICES), (read_heights, HEIGHTS), (read_heights, BARE)):
        try:
            read(entry, path, None, SMALL)
        except InputFault as fault:
            str(fault).encode()


if __name__ == "__main__":
    run(one, NAME)

#!/usr/bin/env python
"""Fuzz what `convert` reads: a first byte says which name the file gets, then come its bytes; a map for the first of them."""

from common import instrument, place, run

with instrument(__name__):
    from inspect_pop.convert.map_file import ImageMap, load_map
    from inspect_pop.convert.stacks import open_planes
    from inspect_pop.convert.surfaces import take_heights
    from inspect_pop.core.errors import InputFault, UsageFault

NAME = "convert"
VOLUMES = ("a.vgi", "a.pcr", "a.nhdr", "a.nrrd", "a.mhd", "a.mha", "a.nii", "a.nii.gz", "a.hdr", "a.dcm", "a.txrm")
PICTURES = ("a.tif", "a.png", "a.bmp", "a.jpg")
HEIGHTS = ("a.x3p", "a.csv", "a.png", "a.al3d", "a.sur", "a.dat", "a.opd", "a.vk4", "a.plux")
SLICES = ImageMap(kind="xray_slices", refdes="U1", interface="lower", files="*")
MAP = ImageMap(kind="height_map", refdes="U1", stage="post_reflow", files="*", pixel_um=10.0, unit="um")


def one(data: bytes) -> None:
    """Read the map, or the planes or heights of the file that the first byte names, as far as they can be read."""
    kinds = ("map.toml", *VOLUMES, *PICTURES, *HEIGHTS)
    number = data[0] % len(kinds) if data else 0
    folder = place() / "scan"
    folder.mkdir(exist_ok=True)
    head, _, rest = data[1:].partition(b"\n===\n")  # a header, and the data file that it names
    path = folder / kinds[number]
    path.write_bytes(head)
    for name in ("a.vol", "a.raw", "a.img"):
        (folder / name).write_bytes(rest)
    try:
        if number == 0:
            load_map(path)
        elif number < len(kinds) - len(HEIGHTS):
            planes = open_planes([path], folder, SLICES)
            for plane in {0, planes.count - 1}:
                if planes.read_plane(plane).shape != planes.shape:
                    raise RuntimeError("a plane of another size than was said")
        else:
            take_heights([path], folder, MAP, "U1")
    except (InputFault, UsageFault) as fault:
        str(fault).encode()


if __name__ == "__main__":
    run(one, NAME)

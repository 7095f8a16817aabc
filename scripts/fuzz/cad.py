#!/usr/bin/env python
"""Fuzz the readers of CAD files and of other tools' labels: a first byte says which one reads the rest."""

from common import instrument, place, run

with instrument(__name__):
    from inspect_pop.core.errors import InputFault, UsageFault
    from inspect_pop.evaluate.label_import import read_boxes
    from inspect_pop.recipes.from_ipc import read_ipc356, read_ipc2581
    from inspect_pop.recipes.from_kicad import read_kicad
    from inspect_pop.recipes.from_lists import read_ball_list, read_placement

NAME = "cad"
READERS = (
    ("a.kicad_mod", read_kicad),
    ("a.kicad_pcb", read_kicad),
    ("a.ipc", read_ipc356),
    ("a.xml", read_ipc2581),
    ("a.csv", lambda path: read_ball_list(path, 500.0, None, "U1", complete=True)),
    ("a.pos", read_placement),
    ("a.csv", read_placement),
    ("a.json", lambda path: read_boxes(path, "coco")),
    ("a.xml", lambda path: read_boxes(path, "cvat")),
    ("a.json", lambda path: read_boxes(path, "label-studio")),
    ("a.json", lambda path: read_boxes(path, "labelme")),
    ("data.yaml", lambda path: read_boxes(path, "yolo")),
    ("S1_lower.txt", lambda path: read_boxes(path.parent, "yolo")),
)


def one(data: bytes) -> None:
    """Read the file."""
    name, read = READERS[data[0] % len(READERS) if data else 0]
    folder = place() / "cad"
    folder.mkdir(exist_ok=True)
    for left in folder.iterdir():
        left.unlink()
    (folder / "classes.txt").write_text("short\nvoid\n")
    (folder / name).write_bytes(data[1:])
    try:
        read(folder / name)
    except (InputFault, UsageFault) as fault:
        str(fault).encode()


if __name__ == "__main__":
    run(one, NAME)

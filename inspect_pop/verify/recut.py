"""Cut a joint again from the export that its record was made of, by the record's placements."""

import os
from functools import lru_cache
from pathlib import Path

from inspect_pop.core.errors import FileFault, InputFault, UsageFault
from inspect_pop.core.geometry import HeightMap, Placement, SliceStack
from inspect_pop.core.recipe import Interface
from inspect_pop.ingest import BoardExport, open_export
from inspect_pop.segment.windows import merge_slices
from inspect_pop.verify.windows import (
    MOST_SAMPLES,
    ExportPlace,
    JointWindow,
    WindowSet,
    choose_height_map,
    cut_height_patch,
    cut_slice_window,
)
from inspect_pop.verify.windows_file import StoredWindows

__all__ = ["cut_again", "cut_all", "is_there"]

_OPEN_INTERFACES = 4  # two of a board and two of its golden board: 10 to 50 MB each


def is_there(place: ExportPlace | None) -> bool:
    """Return whether something lies where the export was. Whether it is still the same is known when it is opened."""
    return place is not None and os.path.exists(place.path)  # noqa: PTH110 (a path that may not be entered is not there)


def cut_again(stored: StoredWindows, joint: str) -> JointWindow:
    """Cut any joint of a record again, with every pixel of its slices.

    Parameters
    ----------
    stored
        What was kept of the record.
    joint
        The joint's name, such as `U1.lower.C4`.

    Raises
    ------
    FileFault
        The export is gone, or another one lies in its place.
    UsageFault
        The board has no such joint, or no slices of it.
    InputFault
        An image cannot be read.
    """
    return _cut(_require_place(stored), stored.placements, joint, "other", None)


def cut_all(stored: StoredWindows) -> WindowSet:
    """Cut every joint of a record again, as for its file of windows: a golden board outlives its export so.

    Raises as `cut_again`.
    """
    place = _require_place(stored)
    export = _open_same(place)
    cut = WindowSet(stored.record, export.inspected_at, export.lot, place, stored.placements)
    for source in export.slices:
        interface, _, _ = _read_interface(place, source.refdes, source.interface)
        names = [f"{source.refdes}.{source.interface}.{ball}" for ball in interface.ball]
        cut.windows.extend(_cut(place, stored.placements, name, "reference", MOST_SAMPLES) for name in names)
    return cut


def _require_place(stored: StoredWindows) -> ExportPlace:
    if stored.export is None:
        expected = "the export that the record was made of"
        raise FileFault(f"record {stored.record}", expected=expected, found="none: the board was uploaded, and is not kept")
    return stored.export


def _cut(place: ExportPlace, placements: dict[str, Placement], joint: str, role: str, most_samples: int | None) -> JointWindow:
    refdes, interface_name, ball = joint.rsplit(".", 2)
    interface, stack, maps = _read_interface(place, refdes, interface_name)
    placement = placements.get(f"{refdes}/{interface_name}")
    if ball not in interface.ball or placement is None:
        raise UsageFault(f"joint {joint}", expected="a joint of the record that has slices", found="none of this name")
    index = interface.ball.index(ball)
    heights = choose_height_map(maps, refdes, interface_name)
    where = None if heights is None else placements.get(f"{refdes}/{heights.stage}")
    patch = None if heights is None or where is None else cut_height_patch(heights, interface, where, index)
    return cut_slice_window(stack, interface, placement, index, role=role, heights=patch, most_samples=most_samples)


def _open_same(place: ExportPlace) -> BoardExport:
    """Open the export. Raises `FileFault` where it is gone or is another one."""
    remedy = "Put the export back where it was, or judge by the windows that were stored."
    try:
        export = open_export(Path(place.path), Path(place.root))
    except InputFault as fault:
        expected = f"the export of digest {place.digest[:12]}"
        raise FileFault(place.path, expected=expected, found=f"none that can be read: {fault}", remedy=remedy) from fault
    if export.digest != place.digest:
        expected, found = f"the export of digest {place.digest[:12]}", f"another one, of digest {export.digest[:12]}"
        raise FileFault(place.path, expected=expected, found=found, remedy=remedy)
    return export


@lru_cache(maxsize=_OPEN_INTERFACES)
def _read_interface(place: ExportPlace, refdes: str, name: str) -> tuple[Interface, SliceStack, tuple[HeightMap, ...]]:
    """Read the slices of one interface, and the package's height maps. Errors are not remembered."""
    export = _open_same(place)
    source = next((s for s in export.slices if (s.refdes, s.interface) == (refdes, name)), None)
    package = next((p for p in export.recipe.packages if p.refdes == refdes), None)
    if source is None or package is None:
        raise UsageFault(f"{refdes}/{name}", expected="an interface with slices", found="none in the export")
    interface = package.interface(name)
    maps = tuple(m.read() for m in export.height_maps if m.refdes == refdes)
    return interface, merge_slices(source.read(), interface), maps

"""Where the exports lie whose joints people judged, as the records say it; and which of them are gone."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from inspect_pop.core.errors import FileFault, InputFault, StoreFault
from inspect_pop.evaluate.decision_labels import DecidedJoint
from inspect_pop.ingest import BoardPlace, open_export
from inspect_pop.store import Store
from inspect_pop.verify.windows_file import read_windows

__all__ = ["DecidedExports", "find_decided_exports"]


@dataclass(frozen=True)
class DecidedExports:
    """The exports of judged inspections that are still there, and a line on each of the others: serial, and why not."""

    places: tuple[BoardPlace, ...]
    lost: tuple[str, ...]


def find_decided_exports(store: Store, labels: Iterable[DecidedJoint]) -> DecidedExports:
    """Find the exports of the inspections that labels are about, each once, in order of the labels.

    An export counts as gone if the record does not say where it lay, if nothing can be read there, and if what lies there now is
    another export than the one that was inspected.
    """
    places, lost = [], []
    for record, serial in dict.fromkeys((joint.record, joint.serial) for joint in labels):
        try:
            places.append(_find_place(store, record))
        except (InputFault, StoreFault) as fault:
            lost.append(f"{serial}: {fault}")
    return DecidedExports(tuple(places), tuple(lost))


def _find_place(store: Store, record: str) -> BoardPlace:
    """Return where the export of a record lies. Raises `InputFault` or `StoreFault` that says why there is none to use."""
    windows = read_windows(store, record)
    if windows is None or windows.export is None:
        found = (
            "nothing: its windows were deleted, or the store keeps no files"
            if windows is None
            else "an upload, of which nothing is left"
        )
        raise FileFault(f"record {record[:12]}", expected="where its export lies", found=found)
    place = BoardPlace(Path(windows.export.path), Path(windows.export.root))
    digest = open_export(place.path, place.root).digest
    if digest != windows.export.digest:
        expected, found = f"the export {windows.export.digest[:12]} that was inspected", f"another one, {digest[:12]}"
        raise FileFault(str(place), expected=expected, found=found)
    return place

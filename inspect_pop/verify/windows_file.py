"""The file of a record's windows, and windows that are cut again from the export.

Its path is `windows/day=2026-03-02/lot=L-2411/<record>.parquet`.

A row is a joint. Grey values of neighbouring pixels are alike, so each row of a picture is written as differences, their high and
low bytes apart, compressed by zstd: half of two bytes a sample, and read again to the last bit. The file's metadata says where
the export lies and where the images show the packages, so that any other joint can be cut again.

Windows are not records: a file that is missing or damaged costs a picture, never a verdict. They are written after the answer.
"""

import io
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sqlalchemy import select

from inspect_pop.core.errors import FileFault, InputFault, StoreFault, UsageFault, describe_error
from inspect_pop.core.geometry import HeightMap, Placement, SliceStack
from inspect_pop.core.recipe import Interface
from inspect_pop.ingest import BoardExport, open_export
from inspect_pop.segment.windows import merge_slices
from inspect_pop.store import Store
from inspect_pop.store.joint_files import JointFiles, joint_file_path
from inspect_pop.store.schema import boards, contexts
from inspect_pop.store.types import parse_local_day
from inspect_pop.verify.windows import (
    MOST_SAMPLES,
    ExportPlace,
    HeightPatch,
    JointWindow,
    WindowSet,
    choose_height_map,
    cut_height_patch,
    cut_slice_window,
)

__all__ = [
    "StoredWindows",
    "cut_again",
    "cut_all",
    "find_windows_path",
    "is_there",
    "keep_windows",
    "make_windows_path",
    "pack_windows",
    "read_stored",
    "read_window",
    "read_windows",
    "unpack_window",
]

_META = b"inspect_pop.windows"
_FORMAT = "inspect-pop-windows/1"
_JOINTS_PER_GROUP = 8  # read for one joint
_LEVEL = 3  # zstd; level 9 saves 2 % in three times the time
_FIELDS = {
    "joint": pa.string(),
    "role": pa.string(),
    "shape": pa.list_(pa.int32(), 3),
    "z_um": pa.list_(pa.float64()),
    "pixel_um": pa.float64(),
    "scale": pa.list_(pa.float64(), 2),
    "none": pa.int32(),
    "centre": pa.list_(pa.float64(), 2),
    "inside": pa.list_(pa.int32(), 4),
    "lost": pa.list_(pa.int32()),
    "codes": pa.binary(),
    "heights": pa.binary(),
    "heights_about": pa.string(),
}
_SCHEMA = pa.schema([pa.field(name, kind) for name, kind in _FIELDS.items()])


@dataclass(frozen=True)
class StoredWindows:
    """What a file of windows says without its pictures.

    `roles` has the role of each joint that is kept (`windows.JointWindow`), `references` the joint that it is compared with.
    `export` is None for an uploaded board. `placements` are by image, such as `U1/lower`.
    """

    record: str
    path: str
    roles: dict[str, str]
    references: dict[str, str]
    export: ExportPlace | None
    placements: dict[str, Placement]


def keep_windows(store: Store, windows: WindowSet) -> None:
    """Write a record's windows beside the store's joint files. A store without files keeps none.

    Raises:
        StoreFault: They cannot be written.
    """
    if not store.keeps_files:
        return
    files, path = (
        store.claim_files(),
        make_windows_path(parse_local_day(windows.inspected_at, store.time_zone), windows.lot, windows.record),
    )
    try:
        files.save(path, pack_windows(windows))
    except OSError as error:
        raise StoreFault(files.address(path), expected="a file that can be written", found=describe_error(error)) from error


def make_windows_path(day: str, lot: str | None, record: str) -> str:
    """Return the path of the file of windows of a record of a day and lot, below the store's files."""
    return joint_file_path(day, lot, record).replace("joints/", "windows/", 1)


def find_windows_path(store: Store, record: str) -> str | None:
    """Return the path of a record's windows below the store's files; None for a record that is not in the store."""
    query = select(contexts.c.day, contexts.c.lot).join_from(boards, contexts, contexts.c.id == boards.c.context_id)
    with store.reading() as connection:
        row = connection.execute(query.where(boards.c.record == record)).first()
    return None if row is None else make_windows_path(row.day, row.lot, record)


def read_windows(store: Store, record: str) -> StoredWindows | None:
    """Read what is kept of a record; None where nothing is.

    Raises:
        StoreFault: The file is damaged, or cannot be reached.
    """
    path = find_windows_path(store, record) if store.keeps_files else None
    return None if path is None else read_stored(store.require_files(), path)


def read_stored(files: JointFiles, path: str) -> StoredWindows | None:
    """Read a file of windows without its pictures; None where there is none. Raises `StoreFault` for a damaged one."""
    try:
        with files.open(path) as source:
            table = pq.ParquetFile(source)
            about = json.loads(table.schema_arrow.metadata[_META])
            names = table.read(columns=["joint", "role"])
    except FileNotFoundError:
        return None
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError) as error:
        raise _make_damage(files, path, error) from error
    return StoredWindows(
        about["record"],
        path,
        dict(zip(names["joint"].to_pylist(), names["role"].to_pylist(), strict=True)),
        about["references"],
        ExportPlace(**about["export"]) if about["export"] else None,
        {name: Placement(**placement) for name, placement in about["placements"].items()},
    )


def read_window(files: JointFiles, path: str, joint: str) -> JointWindow | None:
    """Read one joint's window; None where it is not kept. Raises `StoreFault` for a damaged file."""
    try:
        with files.open(path) as source:
            found = pq.read_table(source, filters=[("joint", "==", joint)])
    except FileNotFoundError:
        return None
    except (pa.ArrowInvalid, OSError) as error:
        raise _make_damage(files, path, error) from error
    return unpack_window(found.to_pylist()[0]) if found.num_rows else None


def _make_damage(files: JointFiles, path: str, error: Exception) -> StoreFault:
    remedy = "Delete the file; the record does not depend on it, and its joints are cut again from the export."
    return StoreFault(files.address(path), expected="a Parquet file of windows", found=str(error), remedy=remedy)


def pack_windows(windows: WindowSet, *, with_pictures: bool = True) -> bytes:
    """Return the content of the file. Without pictures it has no joints, and says where the export lies."""
    about = {
        "format": _FORMAT,
        "record": windows.record,
        "references": windows.references,
        "export": asdict(windows.export) if windows.export else None,
        "placements": {name: asdict(placement) for name, placement in windows.placements.items()},
    }
    schema = _SCHEMA.with_metadata({_META: json.dumps(about).encode()})
    rows = [_to_row(window) for window in windows.windows] if with_pictures else []
    sink = io.BytesIO()
    columns = {"use_dictionary": False, "write_statistics": ["joint"]}
    pq.write_table(
        pa.Table.from_pylist(rows, schema=schema),
        sink,
        compression="zstd",
        compression_level=_LEVEL,
        row_group_size=_JOINTS_PER_GROUP,
        **columns,
    )
    return sink.getvalue()


def _to_row(window: JointWindow) -> dict[str, Any]:
    heights = window.heights
    about = None if heights is None else {k: v for k, v in vars(heights).items() if k != "codes"} | {"shape": heights.codes.shape}
    return {
        "joint": window.joint,
        "role": window.role,
        "shape": list(window.codes.shape),
        "z_um": list(window.z_um),
        "pixel_um": window.pixel_um,
        "scale": list(window.scale),
        "none": window.none,
        "centre": list(window.centre),
        "inside": list(window.inside),
        "lost": list(window.lost),
        "codes": _pack_codes(window.codes),
        "heights": None if heights is None else _pack_codes(heights.codes),
        "heights_about": None if about is None else json.dumps(about),
    }


def unpack_window(row: dict[str, Any]) -> JointWindow:
    """Return the window of a row of the file."""
    heights = None
    if row["heights"] is not None:
        about = json.loads(row["heights_about"])
        codes = _unpack_codes(row["heights"], about.pop("shape"))
        heights = HeightPatch(codes, **about | {"centre": tuple(about["centre"])})
    return JointWindow(
        row["joint"],
        row["role"],
        _unpack_codes(row["codes"], row["shape"]),
        tuple(row["z_um"]),
        row["pixel_um"],
        tuple(row["scale"]),
        row["none"],
        tuple(row["centre"]),
        tuple(row["inside"]),
        tuple(row["lost"]),
        heights,
    )


def _pack_codes(codes: NDArray[np.uint16]) -> bytes:
    """Return codes as differences to the left neighbour, small ones first whatever their sign, high bytes before low bytes."""
    steps = np.diff(codes, axis=-1, prepend=np.uint16(0)).view(np.int16)
    folded = ((steps << 1) ^ (steps >> 15)).view(np.uint16).ravel()
    return np.concatenate([(folded >> 8).astype(np.uint8), (folded & 0xFF).astype(np.uint8)]).tobytes()


def _unpack_codes(data: bytes, shape: Iterable[int]) -> NDArray[np.uint16]:
    """Undo `_pack_codes`."""
    high, low = np.frombuffer(data, dtype=np.uint8).reshape(2, -1).astype(np.uint16)
    folded = (high << 8) | low
    steps = (folded >> 1) ^ (0 - (folded & 1)).astype(np.uint16)
    return np.cumsum(steps.reshape(tuple(shape)), axis=-1, dtype=np.uint16)


# Cut a joint again from the export that its record was made of, by the record's placements.


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

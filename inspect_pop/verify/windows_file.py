"""The file of a record's windows: one Parquet file beside the joints' files.

Its path is `windows/day=2026-03-02/lot=L-2411/<record>.parquet`.

A row is a joint. Grey values of neighbouring pixels are alike, so each row of a picture is written as differences, their high and
low bytes apart, compressed by zstd: half of two bytes a sample, and read again to the last bit. The file's metadata says where
the export lies and where the images show the packages, so that any other joint can be cut again.

Windows are not records: a file that is missing or damaged costs a picture, never a verdict. They are written after the answer.
"""

import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sqlalchemy import select

from inspect_pop.core.errors import StoreFault, describe_error
from inspect_pop.core.geometry import Placement
from inspect_pop.store import Store
from inspect_pop.store.joint_files import JointFiles, joint_file_path
from inspect_pop.store.schema import boards, contexts
from inspect_pop.store.types import parse_local_day
from inspect_pop.verify.windows import ExportPlace, HeightPatch, JointWindow, WindowSet

__all__ = [
    "StoredWindows",
    "find_windows_path",
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

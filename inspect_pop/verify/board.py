"""One board as the verify station shows it, and the golden board to compare it with."""

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from inspect_pop.core import flags
from inspect_pop.core.columns import COLUMNS, JointTable
from inspect_pop.core.errors import StoreFault, UsageFault
from inspect_pop.core.system import utc_now
from inspect_pop.store import DefectRecord, Store, StoredBoard
from inspect_pop.store.schema import boards, contexts
from inspect_pop.verify.windows import JointWindow
from inspect_pop.verify.windows_file import cut_all, is_there, pack_windows, read_window, read_windows

__all__ = [
    "Golden",
    "WindowSource",
    "choose_golden",
    "describe_board",
    "find_golden",
    "forget_golden",
    "list_golden_files",
    "read_golden_window",
]

SHOWN = tuple(c for c in COLUMNS if c.display is not None and c.name[:2] != "p_")
_REACH = 1.5  # pitches between two joints that belong together, the diagonal included
_SPREAD = (5, 50, 95)  # percentiles of the neighbours
_KEY = ("refdes", "interface", "ball")


class WindowSource(Protocol):
    """The windows that were kept with a record: joints by role, each one's reference, and where the export is if it still is."""

    @property
    def roles(self) -> Mapping[str, str]:
        """The role of each joint with a window."""
        ...

    @property
    def references(self) -> Mapping[str, str]:
        """The joint to compare each one with."""
        ...

    @property
    def export(self) -> object | None:
        """The export to cut other joints from."""
        ...


def describe_board(
    stored: StoredBoard,
    joints: JointTable | None,
    sample: Collection[tuple[str, str, str]],
    windows: WindowSource | None = None,
    golden: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Describe a record for the verify station, as plain values that JSON can carry.

    Parameters
    ----------
    stored
        The record.
    joints
        All of its joints; None where the store keeps none: then only those that are not both good and pass are described.
    sample
        The joints that passed and that a person looks at.
    windows, golden
        The record's windows, and the golden board of its product; None where there is none.
    """
    board = stored.board
    shown = [c for c in SHOWN if c.display is not None and (joints is None or c.name in joints)]
    rows = list(_list_rows(joints if joints is not None else stored.defects))
    names = {".".join(key) for key in sample}
    references = dict(windows.references) if windows is not None else {}
    groups = _find_groups(joints) if joints is not None else []
    group_of = {name: group["id"] for group in groups for name in group["joints"]}
    for joint in rows:
        name = ".".join(joint[n] for n in _KEY)
        is_suspect = joint["verdict"] != "pass"
        is_reference = name in references.values()
        joint["role"] = "suspect" if is_suspect else "sample" if name in names else "reference" if is_reference else "other"
        joint["reference"] = references.get(name)
        joint["has_windows"] = windows is not None and (name in windows.roles or windows.export is not None)
        joint["group"] = group_of.get(name)
    shown_joints = [".".join(joint[n] for n in _KEY) for joint in rows if joint["role"] != "other"]
    measured = {}
    if joints is not None:
        number = {name: row for row, name in enumerate(_name_joints(joints))}
        measured = {name: {c.name: _to_plain(joints[c.name][number[name]]) for c in shown} for name in shown_joints}
    of_board = ("record", "serial", "verdict", "product", "line", "station", "inspected_at", "cause", "profile", "panel")
    return {
        **{n: getattr(board, n) for n in of_board},
        "sequence": asdict(stored.sequence),
        "final": stored.final,
        "joints": rows,
        "groups": groups,
        "columns": [{"name": c.name, "unit": c.display.unit, "words": c.display.words} for c in shown if c.display is not None],
        "measured": measured,
        "neighbours": {} if joints is None else _list_neighbours(joints, shown_joints, [c.name for c in shown]),
        "decisions": [asdict(decision) for decision in stored.decisions],
        "golden": None if golden is None else dict(golden),
    }


def _list_rows(joints: JointTable | Sequence[DefectRecord]) -> Iterator[dict[str, Any]]:
    """Yield the joints as plain rows; `confidence` is the probability of the label."""
    for joint in joints:
        row = joint if isinstance(joint, dict) else vars(joint) | joint.measured
        p = None if row["label"] is None else row.get(f"p_{row['label']}")
        yield {
            **{n: row[n] for n in (*_KEY, "label", "verdict", "reason")},
            **{n: _to_plain(row.get(n)) for n in ("x_um", "y_um")},
            "confidence": _to_plain(p),
            "criteria": [name for name in row.get("criteria", "").split(";") if name],
            "flags": list(flags.names(int(row["flags"]))),
        }


def _to_plain(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), 6)


def _name_joints(joints: JointTable) -> NDArray[np.object_]:
    names = zip(*(joints[n] for n in _KEY), strict=True)
    return np.array([".".join(parts) for parts in names], dtype=object)


def _list_neighbours(
    joints: JointTable, shown_joints: Collection[str], columns: Sequence[str]
) -> dict[str, dict[str, list[float | None]]]:
    """Return, per joint, low, median and high of each column among the joints that passed at the same interface."""
    places = [f"{refdes}.{interface}" for refdes, interface in zip(joints["refdes"], joints["interface"], strict=True)]
    of_place: dict[str, dict[str, list[float | None]]] = {}
    for place in set(places):
        rows = (np.array(places, dtype=object) == place) & (joints["verdict"] == "pass")
        spread: dict[str, list[float | None]] = {}
        for column in columns:
            values = joints[column][rows].astype(np.float64)
            values = values[np.isfinite(values)]
            spread[column] = [_to_plain(v) for v in np.percentile(values, _SPREAD)] if len(values) else [None, None, None]
        of_place[place] = spread
    return {name: of_place[name.rpartition(".")[0]] for name in shown_joints}


def _find_groups(joints: JointTable) -> list[dict[str, Any]]:
    """Find the suspects that one cause made: joints of a bridge, of one spot of stray solder, of a part without solder."""
    from scipy.spatial import cKDTree  # half a second with what is below, which the start of a service would pay

    names, found = _name_joints(joints), []
    suspect = joints["verdict"] != "pass"
    no_ball = (joints["flags"].astype(np.int64) & flags.bit("no_ball")) != 0
    stray_um = joints["stray_um"].astype(np.float64) if "stray_um" in joints else np.zeros(len(joints))
    kinds = (
        ("bridge", suspect & (joints["label"] == "bridged"), 2),
        ("missing", suspect & no_ball, 3),
        ("stray", suspect & np.isfinite(stray_um) & (stray_um > 0), 2),
    )
    taken = np.zeros(len(joints), dtype=bool)
    for place in sorted({(str(r), str(i)) for r, i in zip(joints["refdes"], joints["interface"], strict=True)}):
        at_place = (joints["refdes"] == place[0]) & (joints["interface"] == place[1])
        points = np.column_stack([joints["x_um"][at_place], joints["y_um"][at_place]]).astype(np.float64)
        points = points[np.isfinite(points).all(axis=1)]
        pitch_um = float(np.median(cKDTree(points).query(points, k=2)[0][:, 1])) if len(points) > 1 else 0.0
        for kind, chosen, least in kinds:
            for rows in _join_neighbours(joints, np.flatnonzero(at_place & chosen & ~taken), pitch_um):
                if len(rows) < least:
                    continue
                taken[rows] = True
                is_puddle = kind == "stray" and float(stray_um[rows].max()) >= pitch_um
                found.append(("puddle" if is_puddle else kind, [str(name) for name in names[rows]]))
    return [{"id": f"g{number}", "kind": kind, "joints": members} for number, (kind, members) in enumerate(found, 1)]


def _join_neighbours(joints: JointTable, rows: NDArray[np.intp], pitch_um: float) -> Iterator[NDArray[np.intp]]:
    """Yield those of some joints that are neighbours of one another, directly or by others of them."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    points = np.column_stack([joints["x_um"][rows], joints["y_um"][rows]]).astype(np.float64)
    seen = np.isfinite(points).all(axis=1)
    rows, points = rows[seen], points[seen]
    if len(rows) < 2:
        return
    pairs = cKDTree(points).query_pairs(_REACH * pitch_um, output_type="ndarray")
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(rows), len(rows)))
    n, part = connected_components(links, directed=False)
    for k in range(n):
        yield rows[part == k]


# The golden board of a product: the board that a person compares a joint with.
#
# An engineer chooses it; it is then kept whole, and outlives its export. Without a choice it is the latest board of the product
# that passed and whose export is still there. The choice is a note beside the joint files, `golden-<product>.json`, and a row of
# the audit trail.


_LATEST = 20  # boards that passed among which one is looked for whose export is there
_FOLDER = "golden"


@dataclass(frozen=True)
class Golden:
    """The golden board of a product; `chosen_by` and `chosen_at` are None where nobody chose it."""

    product: str
    record: str
    serial: str
    chosen_by: str | None = None
    chosen_at: str | None = None


def find_golden(store: Store, product: str) -> Golden | None:
    """Return the golden board of a product: the chosen one, else the latest that passed and can be cut again; None without.

    Raises:
        StoreFault: The store or the note cannot be read.
    """
    return _read_choice(store, product) or _find_latest(store, product)


def choose_golden(store: Store, product: str, record: str, *, by: str) -> Golden:
    """Make a record's board the golden one of a product, and keep the windows of all of its joints.

    Raises:
        UsageFault: The record is unknown, of another product, did not pass, or its export is gone.
        InputFault: The export cannot be read.
        StoreFault: The windows cannot be written.
    """
    stored = store.record(record)
    if stored is None or stored.board.product != product:
        found = "none" if stored is None else f"one of {stored.board.product}"
        raise UsageFault(f"record {record}", expected=f"a record of {product}", found=found)
    if stored.board.verdict != "pass":
        raise UsageFault(f"record {record}", expected="a board that passed", found=f"verdict {stored.board.verdict}")
    windows = read_windows(store, record)
    if windows is None:
        remedy = "Choose a board that was inspected since windows are kept."
        raise UsageFault(f"record {record}", expected="a file of its windows", found="none", remedy=remedy)
    files = store.claim_files()
    files.save(_make_path(record), pack_windows(cut_all(windows)))
    golden, before = Golden(product, record, stored.board.serial, by, utc_now()), _read_choice(store, product)
    store.audit(by, "golden board chosen", product, before=before and {"record": before.record}, after={"record": record})
    files.write_note(_make_note_name(product), json.dumps(asdict(golden)), is_new=False)
    if before is not None and before.record != record:
        files.remove(_make_path(before.record))
    return golden


def forget_golden(store: Store, product: str, *, by: str) -> None:
    """Withdraw the choice: the latest board that passed is the golden one again. The kept windows are removed."""
    golden = _read_choice(store, product)
    if golden is not None:
        store.audit(by, "golden board withdrawn", product, before={"record": golden.record})
        files = store.claim_files()
        files.remove(_make_note_name(product))
        files.remove(_make_path(golden.record))


def list_golden_files(store: Store) -> dict[str, tuple[str, str]]:
    """Return for each product with a chosen golden board its note and the file of its windows. Raises `StoreFault`."""
    with store.reading() as connection:
        products = [str(product) for product in connection.scalars(select(contexts.c.product).distinct())]
    chosen = {product: golden for product in products if (golden := _read_choice(store, product)) is not None}
    return {product: (_make_note_name(product), _make_path(golden.record)) for product, golden in chosen.items()}


def read_golden_window(store: Store, record: str, joint: str) -> JointWindow | None:
    """Read a joint of a chosen golden board; None where it is not kept. Raises `StoreFault`."""
    return read_window(store.require_files(), _make_path(record), joint) if store.keeps_files else None


def _make_path(record: str) -> str:
    return f"windows/{_FOLDER}/{quote(record, safe='')}.parquet"


def _make_note_name(product: str) -> str:
    return f"golden-{quote(product, safe='')[:200]}.json"


def _read_choice(store: Store, product: str) -> Golden | None:
    if not store.keeps_files:
        return None
    files, name = store.require_files(), _make_note_name(product)
    note = files.read_note(name)
    try:
        return None if note is None else Golden(**json.loads(note))
    except (ValueError, TypeError) as error:
        remedy = "Delete the file, and choose the golden board again."
        raise StoreFault(files.address(name), expected="the note of a golden board", found=str(error), remedy=remedy) from error


def _find_latest(store: Store, product: str) -> Golden | None:
    query = select(boards.c.record, boards.c.serial).join_from(boards, contexts, contexts.c.id == boards.c.context_id)
    query = query.where(contexts.c.product == product, boards.c.verdict == "pass")
    with store.reading() as connection:
        found = connection.execute(query.order_by(boards.c.inspected_us.desc(), boards.c.id.desc()).limit(_LATEST)).all()
    for record, serial in found:
        windows = read_windows(store, record)
        if windows is not None and is_there(windows.export):
            return Golden(product, record, serial)
    return None

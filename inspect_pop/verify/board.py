"""One board as the verify station shows it: its joints, what belongs together, figures among the neighbours', decisions."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from inspect_pop.core import flags
from inspect_pop.core.columns import COLUMNS
from inspect_pop.core.joint_table import JointTable
from inspect_pop.store import DefectRecord, StoredBoard

__all__ = ["WindowSource", "describe_board"]

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

"""The hook's object: one answer for one board, the same from the service and from an inspection alone.

Only the standard library: the hook process imports this.
"""

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from inspect_pop.core.errors import PopError

if TYPE_CHECKING:
    from inspect_pop.core.inspection import Inspection

__all__ = ["EXIT_STATUS", "Answer", "checked", "could_not", "exit_status", "from_inspection", "to_json"]

Answer = dict[str, Any]

EXIT_STATUS = {"pass": 0, "fail": 1, "review": 2, "error": 3}
NAMED_JOINTS = 3  # joints that a reason names; the rest is in `defects`


def could_not(fault: PopError, *, elapsed_ms: float = 0.0) -> Answer:
    """The answer of a board that could not be inspected: verdict `error`, with why; `problem` has the fault's parts."""
    return {
        "serial": None,
        "verdict": "error",
        "reason": str(fault),
        "defects": [],
        "record": None,
        "report": None,
        "elapsed_ms": round(elapsed_ms, 1),
        "problem": {part: getattr(fault, part) for part in ("about", "thing", "expected", "found", "remedy")},
    }


def from_inspection(inspection: "Inspection", *, report: str | None, elapsed_ms: float) -> Answer:
    """The answer of a board that was inspected and recorded.

    `defects` are the joints whose verdict is fail, each with the calibrated probability `p` of its label; `review` those
    that a person must look at, with the reason.
    """
    board, joints = inspection.board, inspection.joints
    failed, doubtful = (_rows(joints, verdict) for verdict in ("fail", "review"))
    return {
        "serial": board.serial,
        "verdict": board.verdict,
        "reason": _reason(inspection),
        "defects": [_joint(joints, i) for i in failed],
        "record": board.record,
        "report": report,
        "elapsed_ms": round(elapsed_ms, 1),
        "review": [_joint(joints, i) | {"reason": joints["reason"][i]} for i in doubtful],
        "disposition": board.disposition,
        "missing": list(board.missing),
    }


def checked(value: object) -> Answer:
    """`value` if it is a whole answer; ValueError otherwise. A pass without a record or with defects is none."""
    if not isinstance(value, dict) or not {"serial", "verdict", "reason", "defects", "record"} <= value.keys():
        raise ValueError("not an answer: fields are missing")
    if value["verdict"] not in EXIT_STATUS or not isinstance(value["defects"], list):
        raise ValueError("not an answer: unknown verdict or defects")
    told = isinstance(value["serial"], str) and isinstance(value["record"], str) and value["record"] != ""
    if value["verdict"] != "error" and not told:
        raise ValueError("not an answer: a verdict without serial or record")
    if value["verdict"] == "pass" and value["defects"]:
        raise ValueError("not an answer: a pass with defects")
    return value


def exit_status(answer: Answer) -> int:
    """0 pass, 1 fail, 2 review, 3 could not inspect."""
    return EXIT_STATUS[answer["verdict"]]


def to_json(answer: Answer) -> str:
    """One line of JSON; ValueError for a number that JSON cannot hold."""
    return json.dumps(answer, ensure_ascii=False, allow_nan=False)


def _rows(joints: Any, verdict: str) -> list[int]:
    rows: list[int] = (joints["verdict"] == verdict).nonzero()[0].tolist()
    return rows


def _joint(joints: Any, row: int) -> dict[str, Any]:
    label = joints["label"][row]
    p = None if label is None else round(float(joints[f"p_{label}"][row]), 4)
    return {**{name: joints[name][row] for name in ("refdes", "interface", "ball")}, "label": label, "p": p}


def _reason(inspection: "Inspection") -> str:
    joints, verdict = inspection.joints, inspection.board.verdict
    if verdict == "pass":
        return ""
    rows = _rows(joints, verdict)
    column = "label" if verdict == "fail" else "reason"
    counts = Counter(str(joints[column][i]) for i in rows).most_common()
    what = ", ".join(f"{n} {name}" for name, n in counts) or "the board as a whole"
    where = ", ".join(".".join(str(joints[c][i]) for c in ("refdes", "interface", "ball")) for i in rows[:NAMED_JOINTS])
    more = "" if len(rows) <= NAMED_JOINTS else ", …"
    missing = f"; missing: {', '.join(inspection.board.missing)}" if inspection.board.missing else ""
    return f"{what} ({where}{more}){missing}" if rows else f"{what}{missing}"
